//! What the decoder of frames makes of a stream, and what it may hold meanwhile.

use fanfare_core::Violation;
use fanfare_core::ws::Message;
use fanfare_core::ws::decoder::{Decoded, Decoder, Limits};
use fanfare_core::ws::deflate::Inflater;

/// One thing read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Read {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
    /// The last thing there is.
    Violation(Violation),
}

/// What is held beside the body of a message: the fixed part, and a control frame of at most 125 bytes.
const HELD_BESIDE_BODY_MAX: usize = 1024;

/// Everything up to the first violation.
pub(super) fn decode(pieces: &[&[u8]], limits: Limits) -> Vec<Read> {
    let (mut decoder, mut inflater, mut reads) = (Decoder::default(), Inflater::default(), Vec::new());
    let message_bytes_max = limits.message_bytes_max;
    // What deflate cannot shrink it makes longer, by an eighth at most.
    let body_bytes_max = if limits.compression { message_bytes_max * 9 / 8 + 1_024 } else { message_bytes_max };
    for piece in pieces {
        let mut piece = piece.to_vec();
        let mut data = &mut piece[..];
        let mut whole = false;
        while !data.is_empty() {
            let bytes = data.len();
            let taken = match decoder.next(data, limits, &mut inflater) {
                Ok((taken, message)) => {
                    assert!(taken > 0 && taken <= bytes, "{taken} of {bytes} bytes");
                    assert!(message.is_some() || taken == bytes, "an unfinished message takes all there is");
                    whole = matches!(message, Some(Decoded::Message(Message::Text(_) | Message::Binary(_))));
                    reads.extend(message.and_then(|message| read(message, message_bytes_max)));
                    taken
                }
                Err(violation) => {
                    reads.push(Read::Violation(violation));
                    return reads;
                }
            };
            data = &mut data[taken..];
            // A vector that grows may own twice what is in it.
            assert!(decoder.held_bytes() <= 2 * body_bytes_max + HELD_BESIDE_BODY_MAX, "{}", decoder.held_bytes());
        }
        decoder.settle();
        assert!(!whole || decoder.held_bytes() == 0, "nothing is unfinished behind a whole message");
    }
    reads
}

/// What there is to compare of it: of fragments only the message that they become.
fn read(decoded: Decoded<'_>, message_bytes_max: usize) -> Option<Read> {
    let Decoded::Message(message) = decoded else { return None };
    let (bytes, bytes_max) = match message {
        Message::Text(text) => (text.len(), message_bytes_max),
        Message::Binary(bytes) => (bytes.len(), message_bytes_max),
        Message::Ping(payload) | Message::Pong(payload) => (payload.len(), 125),
        Message::Close(body) => (body.map_or(0, |(_, reason)| 2 + reason.len()), 125),
    };
    assert!(bytes <= bytes_max, "{bytes} bytes where {bytes_max} are allowed");
    Some(match message {
        Message::Text(text) => Read::Text(text.to_owned()),
        Message::Binary(bytes) => Read::Binary(bytes.to_vec()),
        Message::Ping(payload) => Read::Ping(payload.to_vec()),
        Message::Pong(payload) => Read::Pong(payload.to_vec()),
        Message::Close(body) => Read::Close(body.map(|(code, reason)| (code, reason.to_owned()))),
    })
}
