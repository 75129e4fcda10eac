//! Our decoder of frames and tungstenite's on the same bytes: the same messages up to the first violation.
//!
//! Where the two differ, and why that is meant:
//! - tungstenite takes a length in more bytes than it needs; RFC 6455 §5.2 asks for the shortest form.
//! - tungstenite looks at a frame when all of it is there. Ours refuses what can be known of the header at once, and text at
//!   its first wrong byte (RFC 6455 §8.1; the Autobahn suite calls anything later non-strict). So where the stream ends in
//!   the midst of the frame, theirs still waits.
//! - A close frame with a code that must not be sent is reported as one with 1002; ours is told as a violation, which the
//!   core answers with 1002.
//! - A close frame with 1014, which IANA has registered, is one with a wrong code for tungstenite.
//! - tungstenite limits control frames by the same number as others, so it gets at least their 125 bytes here.

use super::decoder::LIMITS;
use super::frames::{Read, decode};
use fanfare_core::Violation;
use fanfare_core::ws::decoder::Limits;
use std::io::{self, Cursor};
use tungstenite::error::ProtocolError;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};

/// The first byte chooses the limit; the stream follows.
pub fn decoder_against_tungstenite(data: &[u8]) {
    let [limit, stream @ ..] = data else { return };
    let limit = LIMITS[usize::from(limit % 8)];
    let limits = Limits { message_bytes_max: limit, frames_per_message_max: u32::MAX, compression: false };
    let (mut ours, (theirs, end)) = (decode(&[stream], limits), oracle(stream, limit));
    // Theirs reads nothing behind a close frame.
    if let Some(close) = ours.iter().position(|read| matches!(read, Read::Close(_))) {
        ours.truncate(close + 1);
    }
    if let Some(Read::Close(Some((1014, _)))) = ours.last() {
        ours.pop();
        assert_eq!((end, &theirs[..ours.len()]), (End::Close, &ours[..]));
        return;
    }
    let violation = match ours.last() {
        Some(Read::Violation(violation)) => Some(*violation),
        _ => None,
    };
    ours.truncate(ours.len() - usize::from(violation.is_some()));
    let common = theirs.get(..ours.len());
    assert_eq!(Some(&ours[..]), common, "{violation:?}, and theirs {end:?}");
    let more = &theirs[ours.len()..];
    match violation {
        None => assert!(more.is_empty() && end == End::Stream, "theirs has {more:?}, and then {end:?}"),
        Some(Violation::LengthForm) => {}
        Some(Violation::CloseCode) if end == End::Close => {
            assert_eq!(more, [Read::Close(Some((1002, "Protocol violation".to_owned())))]);
        }
        Some(_) => {
            assert!(more.is_empty() && end != End::Close, "{violation:?}: theirs has {more:?}, and then {end:?}")
        }
    }
    if ours.last().is_some_and(|read| matches!(read, Read::Close(_))) {
        assert_eq!((violation, end), (None, End::Stream));
    }
}

/// Why there is no more of theirs.
#[derive(Debug, PartialEq)]
enum End {
    /// The stream is over, or a close frame was read that ours reads, too.
    Stream,
    /// A close frame was read that theirs has objections to.
    Close,
    Violation(String),
}

fn oracle(stream: &[u8], limit: usize) -> (Vec<Read>, End) {
    let config = WebSocketConfig::default()
        .read_buffer_size(256)
        .max_message_size(Some(limit))
        .max_frame_size(Some(limit.max(125)));
    let mut socket = WebSocket::from_raw_socket(Stream(Cursor::new(stream)), Role::Server, Some(config));
    let mut reads = Vec::new();
    loop {
        let read = match socket.read() {
            Ok(Message::Text(text)) => Read::Text(text.to_string()),
            Ok(Message::Binary(bytes)) => Read::Binary(bytes.to_vec()),
            Ok(Message::Ping(payload)) => Read::Ping(payload.to_vec()),
            Ok(Message::Pong(payload)) => Read::Pong(payload.to_vec()),
            Ok(Message::Close(body)) => {
                let protocol = body.as_ref().is_some_and(|body| body.code == CloseCode::Protocol);
                let objected = protocol && body.as_ref().is_some_and(|body| body.reason == "Protocol violation");
                reads.push(Read::Close(body.map(|body| (body.code.into(), body.reason.to_string()))));
                return (reads, if objected { End::Close } else { End::Stream });
            }
            Ok(Message::Frame(frame)) => panic!("a raw frame is never read: {frame:?}"),
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => return (reads, End::Stream),
            Err(error) => return (reads, End::Violation(error.to_string())),
        };
        reads.push(read);
    }
}

/// Bytes to read; what is written goes nowhere.
struct Stream<'a>(Cursor<&'a [u8]>);

impl io::Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl io::Write for Stream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
