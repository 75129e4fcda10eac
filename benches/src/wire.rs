//! The little of HTTP, WebSocket (RFC 6455) and Fanfare's commands that a client of a benchmark must write and read:
//! pure functions on bytes, no sockets.

use crate::{Error, Result};

/// Says that a frame is the last of its message.
const FIN: u8 = 0x80;
/// Says that a message is compressed.
const RSV1: u8 = 0x40;
/// Opcode of a frame that continues a message.
pub const CONTINUATION: u8 = 0x0;
/// Opcode of a text frame.
pub const TEXT: u8 = 0x1;
/// Opcode of a close frame.
pub const CLOSE: u8 = 0x8;
/// Opcode of a ping.
pub const PING: u8 = 0x9;
/// Opcode of a pong.
pub const PONG: u8 = 0xA;

/// What every request for an upgrade says, whomever it is for. The key is the one of RFC 6455 §1.3, for a benchmark has
/// nothing to hide from caches.
macro_rules! upgrade_fields {
    () => {
        "Upgrade: websocket\r\nConnection: Upgrade\r\n\
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    };
}

/// The request that clients of a server on this machine send.
pub const UPGRADE_REQUEST: &[u8] =
    concat!("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n", upgrade_fields!(), "\r\n").as_bytes();

/// The same, with an offer to compress.
pub const UPGRADE_REQUEST_WITH_COMPRESSION: &[u8] = concat!(
    "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n",
    upgrade_fields!(),
    "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n\r\n"
)
.as_bytes();

/// The same for any `host` and `path`.
pub fn upgrade_request(host: &str, path: &str) -> Vec<u8> {
    format!(concat!("GET {path} HTTP/1.1\r\nHost: {host}\r\n", upgrade_fields!(), "\r\n"), path = path, host = host)
        .into_bytes()
}

/// The same on this machine, with further header `fields`, each ended by CRLF.
pub fn upgrade_request_with(path: &str, fields: &str) -> Vec<u8> {
    let mut request = upgrade_request("127.0.0.1", path);
    request.truncate(request.len() - 2);
    request.extend_from_slice(fields.as_bytes());
    request.extend_from_slice(b"\r\n");
    request
}

/// `path`, which may have a query already, with one that names `rooms` to join.
pub fn path_joining<'a>(path: &str, rooms: impl IntoIterator<Item = &'a str>) -> String {
    let mut path = path.to_owned();
    for room in rooms {
        path.push(if path.contains('?') { '&' } else { '?' });
        path.push_str("room=");
        write_query_value(room, &mut path);
    }
    path
}

/// Encodes as `URLSearchParams` does it.
fn write_query_value(value: &str, out: &mut String) {
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'*' | b'-' | b'.' | b'_' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
}

/// What a server must answer to that key.
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Masks need not be random here; not zero, so that the server has to unmask as it does for real.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The end of the response head at the start of `data`, once it is there and says that the connection is upgraded.
pub fn upgraded(data: &[u8]) -> Result<Option<usize>> {
    let Some(end) = data.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = String::from_utf8_lossy(&data[..end]);
    if !head.starts_with("HTTP/1.1 101 ") || !head.contains(ACCEPT) {
        return Err(Error::new(format!("the upgrade was refused: {}", head.trim_end())));
    }
    Ok(Some(end + 4))
}

/// A frame from a server, in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What kind it is.
    pub opcode: u8,
    /// Whether the content is compressed (RSV1, RFC 7692).
    pub compressed: bool,
    /// Its content, as it is on the wire.
    pub payload: &'a [u8],
    /// Its length on the wire, header included.
    pub wire_bytes: usize,
}

/// The frame at the start of `data`, once it is complete. Servers do not mask, and Fanfare does not fragment.
pub fn first_frame(data: &[u8]) -> Result<Option<Frame<'_>>> {
    let &[first, length, ref rest @ ..] = data else { return Ok(None) };
    if first & 0xF0 & !RSV1 != FIN || length & 0x80 != 0 {
        return Err(Error::new(format!("a frame that no client here expects: it begins {first:#04x} {length:#04x}")));
    }
    let (header_bytes, payload_bytes) = match (length, rest) {
        (126, &[a, b, ..]) => (4, u64::from(u16::from_be_bytes([a, b]))),
        (127, &[a, b, c, d, e, f, g, h, ..]) => (10, u64::from_be_bytes([a, b, c, d, e, f, g, h])),
        (126.., _) => return Ok(None),
        (short, _) => (2, u64::from(short)),
    };
    // On a machine whose memory could not hold the frame, it never completes.
    let wire_bytes = usize::try_from(payload_bytes).unwrap_or(usize::MAX).saturating_add(header_bytes);
    let (opcode, compressed) = (first & 0x0F, first & RSV1 != 0);
    Ok(data.get(header_bytes..wire_bytes).map(|payload| Frame { opcode, compressed, payload, wire_bytes }))
}

/// Appends a masked frame, as clients must send them.
pub fn write_masked(opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
    write_header(opcode, 0x80, payload.len(), out);
    out.extend_from_slice(&MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// Appends a masked fragment, the last of its message if `last`.
pub fn write_masked_fragment(opcode: u8, last: bool, payload: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    write_masked(opcode, payload, out);
    if !last {
        out[start] &= !FIN;
    }
}

/// Appends a masked text message, compressed (RFC 7692 §7.2.1).
pub fn write_masked_deflated(text: &str, out: &mut Vec<u8>) {
    // A block that is marked as the last, and the byte that makes the next one begin on a boundary (§7.2.3.4).
    let mut payload = miniz_oxide::deflate::compress_to_vec(text.as_bytes(), 9);
    payload.push(0);
    let start = out.len();
    write_masked(TEXT, &payload, out);
    out[start] |= RSV1;
}

/// Appends the command to join `room`.
pub fn write_subscribe(room: &str, out: &mut Vec<u8>) {
    write_masked(TEXT, format!(r#"{{"type":"SUBSCRIBE","room":"{room}"}}"#).as_bytes(), out);
}

/// Appends the command to leave `room`.
pub fn write_unsubscribe(room: &str, out: &mut Vec<u8>) {
    write_masked(TEXT, format!(r#"{{"type":"UNSUBSCRIBE","room":"{room}"}}"#).as_bytes(), out);
}

/// Appends the command to send `message`, which needs no escaping, to `room`; without an `id`, so without an `ACK`.
pub fn write_send_message(room: &str, message: &str, out: &mut Vec<u8>) {
    write_send_json(room, &format!("\"{message}\""), out);
}

/// The same with an `id`, so that an `ACK` tells whether it was taken.
pub fn write_send_with_id(room: &str, message: &str, id: u64, out: &mut Vec<u8>) {
    let text = format!(r#"{{"type":"SEND_MESSAGE","roomId":"{room}","message":"{message}","id":{id}}}"#);
    write_masked(TEXT, text.as_bytes(), out);
}

/// The same for a message that is JSON already, without an `id`.
pub fn write_send_json(room: &str, message: &str, out: &mut Vec<u8>) {
    write_masked(TEXT, format!(r#"{{"type":"SEND_MESSAGE","roomId":"{room}","message":{message}}}"#).as_bytes(), out);
}

/// Appends the frame in which a server hands `message`, which needs no escaping, to the members of `room`.
pub fn write_message(room: &str, message: &str, out: &mut Vec<u8>) {
    let text = format!(r#"{{"type":"MESSAGE","room":"{room}","message":"{message}"}}"#);
    write_header(TEXT, 0, text.len(), out);
    out.extend_from_slice(text.as_bytes());
}

/// Appends the frame in which a server says that `room` has been joined.
pub fn write_subscribed(room: &str, out: &mut Vec<u8>) {
    let text = format!(r#"{{"type":"SUBSCRIBED","room":"{room}"}}"#);
    write_header(TEXT, 0, text.len(), out);
    out.extend_from_slice(text.as_bytes());
}

/// Appends the response to every request for an upgrade of these clients.
pub fn write_upgraded(out: &mut Vec<u8>) {
    let head =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ";
    out.extend_from_slice(format!("{head}{ACCEPT}\r\n\r\n").as_bytes());
}

/// The content of a compressed message (RFC 7692 §7.2.2), of at most `bytes_max` bytes.
pub fn inflate(payload: &[u8], bytes_max: usize) -> Result<Vec<u8>> {
    let whole = [payload, &[0x00, 0x00, 0xFF, 0xFF]].concat();
    let mut text = vec![0; bytes_max];
    let mut inflater = miniz_oxide::inflate::core::DecompressorOxide::new();
    let flags = miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF
        | miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
    let (status, _, length) = miniz_oxide::inflate::core::decompress(&mut inflater, &whole, &mut text, 0, flags);
    if status != miniz_oxide::inflate::TINFLStatus::NeedsMoreInput {
        return Err(Error::new(format!("a compressed message cannot be read: {status:?}")));
    }
    text.truncate(length);
    Ok(text)
}

/// A server's text frame of `wire_bytes` bytes in all, that reads as a `MESSAGE` to whoever looks at its beginning.
///
/// # Panics
/// If no message has that size: too short for [`MESSAGE_PREFIX`], or between the longest frame with one form of the
/// length and the shortest with the next.
pub fn text_frame_of(wire_bytes: usize) -> Vec<u8> {
    let header_bytes = match wire_bytes {
        0..=127 => 2,
        128..=65_539 => 4,
        _ => 10,
    };
    let mut frame = Vec::with_capacity(wire_bytes);
    write_header(TEXT, 0, wire_bytes - header_bytes, &mut frame);
    frame.extend_from_slice(MESSAGE_PREFIX);
    assert!(
        frame.len() <= wire_bytes && frame.len() == header_bytes + MESSAGE_PREFIX.len(),
        "no frame of {wire_bytes}"
    );
    frame.resize(wire_bytes, b'x');
    frame
}

/// How every `MESSAGE` begins.
pub const MESSAGE_PREFIX: &[u8] = br#"{"type":"MESSAGE""#;
/// How every `SUBSCRIBED` begins.
pub const SUBSCRIBED_PREFIX: &[u8] = br#"{"type":"SUBSCRIBED""#;
/// How every `ERROR` begins.
pub const ERROR_PREFIX: &[u8] = br#"{"type":"ERROR""#;

fn write_header(opcode: u8, mask_bit: u8, payload_bytes: usize, out: &mut Vec<u8>) {
    out.push(FIN | opcode);
    match payload_bytes {
        0..=125 => out.push(mask_bit | payload_bytes as u8),
        126..=0xFFFF => {
            out.push(mask_bit | 126);
            out.extend_from_slice(&(payload_bytes as u16).to_be_bytes());
        }
        _ => {
            out.push(mask_bit | 127);
            out.extend_from_slice(&(payload_bytes as u64).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floors_frame_has_exactly_the_size_asked_for_and_reads_as_one_message() {
        for wire_bytes in [19, 60, 127, 130, 140, 4_000, 65_539, 65_546, 70_000] {
            let bytes = text_frame_of(wire_bytes);
            let frame = first_frame(&bytes).unwrap().unwrap();
            assert_eq!((bytes.len(), frame.wire_bytes, frame.opcode), (wire_bytes, wire_bytes, TEXT));
            assert!(frame.payload.starts_with(MESSAGE_PREFIX));
        }
    }

    #[test]
    fn every_upgrade_is_requested_in_the_same_words() {
        assert_eq!(upgrade_request("127.0.0.1", "/"), UPGRADE_REQUEST);
        let bare = UPGRADE_REQUEST.strip_suffix(b"\r\n").unwrap();
        assert!(UPGRADE_REQUEST_WITH_COMPRESSION.starts_with(bare));
    }

    #[test]
    fn rooms_stand_in_a_query_behind_what_is_in_it() {
        assert_eq!(path_joining("/ws", ["r0", "caf\u{e9} & co"]), "/ws?room=r0&room=caf%C3%A9+%26+co");
        assert_eq!(path_joining("/?token=1", ["r0"]), "/?token=1&room=r0");
        assert_eq!(path_joining("/ws", []), "/ws");
    }

    #[test]
    fn a_frame_is_read_only_when_complete() {
        let bytes = text_frame_of(300);
        for cut in 0..bytes.len() {
            assert_eq!(first_frame(&bytes[..cut]).unwrap(), None, "cut at {cut}");
        }
        assert!(first_frame(&bytes).unwrap().is_some());
    }

    #[test]
    fn a_compressed_frame_is_recognised_and_read() {
        // The example of RFC 7692 §7.2.3.1.
        let bytes = [0xC1, 0x07, 0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00];
        let frame = first_frame(&bytes).unwrap().unwrap();
        assert!(frame.compressed && frame.opcode == TEXT);
        assert_eq!(inflate(frame.payload, 100).unwrap(), b"Hello");
        assert!(inflate(frame.payload, 4).is_err() && inflate(b"Hello", 100).is_err());
    }

    #[test]
    fn a_masked_frame_unmasks_to_its_payload() {
        let mut bytes = Vec::new();
        write_masked(PONG, b"are you there?", &mut bytes);
        assert_eq!(bytes[..2], [0x8A, 0x80 | 14]);
        let payload: Vec<u8> =
            bytes[6..].iter().zip(bytes[2..6].iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        assert_eq!(payload, b"are you there?");
    }

    #[test]
    fn a_compressed_command_is_read_as_it_was() {
        let text = "x".repeat(60_000);
        let mut bytes = Vec::new();
        write_masked_deflated(&text, &mut bytes);
        assert!(bytes.len() < 200 && bytes[..2] == [FIN | RSV1 | TEXT, 0x80 | bytes[1] & 0x7F], "{}", bytes.len());
        let header = if bytes[1] & 0x7F < 126 { 6 } else { 8 };
        let payload: Vec<u8> =
            bytes[header..].iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        assert_eq!(miniz_oxide::inflate::decompress_to_vec(&payload).unwrap(), text.as_bytes());
    }

    #[test]
    fn further_fields_stand_in_the_request() {
        let request = upgrade_request_with("/ws", "X: y\r\n");
        assert!(request.ends_with(b"13\r\nX: y\r\n\r\n"));
        assert_eq!(upgrade_request_with("/", ""), UPGRADE_REQUEST);
    }

    #[test]
    fn an_upgrade_counts_only_with_status_and_key_right() {
        let good = format!("HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n");
        assert_eq!(upgraded(good.as_bytes()).unwrap(), Some(good.len()));
        assert_eq!(upgraded(&good.as_bytes()[..40]).unwrap(), None);
        let mut own = Vec::new();
        write_upgraded(&mut own);
        assert_eq!(upgraded(&own).unwrap(), Some(own.len()));
        assert!(upgraded(b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\n\r\n").is_err());
        assert!(upgraded(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\n\r\n").is_err());
    }
}
