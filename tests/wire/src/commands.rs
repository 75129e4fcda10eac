//! The commands of a client, and the frames in which a server answers them, each appended to what is there.

use crate::{FIN, Frame, opcode, write_frame, write_masked};

/// How every `MESSAGE` begins.
pub const MESSAGE_PREFIX: &[u8] = br#"{"type":"MESSAGE""#;
/// How every `SUBSCRIBED` begins.
pub const SUBSCRIBED_PREFIX: &[u8] = br#"{"type":"SUBSCRIBED""#;
/// How every `ERROR` begins.
pub const ERROR_PREFIX: &[u8] = br#"{"type":"ERROR""#;

/// Appends the command to join `room`.
pub fn write_subscribe(room: &str, out: &mut Vec<u8>) {
    write_masked(opcode::TEXT, format!(r#"{{"type":"SUBSCRIBE","room":"{room}"}}"#).as_bytes(), out);
}

/// Appends the command to leave `room`.
pub fn write_unsubscribe(room: &str, out: &mut Vec<u8>) {
    write_masked(opcode::TEXT, format!(r#"{{"type":"UNSUBSCRIBE","room":"{room}"}}"#).as_bytes(), out);
}

/// Appends the command to send `message`, which needs no escaping, to `room`; without an `id`, so without an `ACK`.
pub fn write_send_message(room: &str, message: &str, out: &mut Vec<u8>) {
    write_send_json(room, &format!("\"{message}\""), out);
}

/// The same with an `id`, so that an `ACK` tells whether it was taken.
pub fn write_send_with_id(room: &str, message: &str, id: u64, out: &mut Vec<u8>) {
    let text = format!(r#"{{"type":"SEND_MESSAGE","roomId":"{room}","message":"{message}","id":{id}}}"#);
    write_masked(opcode::TEXT, text.as_bytes(), out);
}

/// The same for a message that is JSON already, without an `id`.
pub fn write_send_json(room: &str, message: &str, out: &mut Vec<u8>) {
    write_masked(
        opcode::TEXT,
        format!(r#"{{"type":"SEND_MESSAGE","roomId":"{room}","message":{message}}}"#).as_bytes(),
        out,
    );
}

/// Appends the frame in which a server hands `message`, which needs no escaping, to the members of `room`.
pub fn write_message(room: &str, message: &str, out: &mut Vec<u8>) {
    let text = format!(r#"{{"type":"MESSAGE","room":"{room}","message":"{message}"}}"#);
    write_frame(FIN | opcode::TEXT, None, text.as_bytes(), out);
}

/// Appends the frame in which a server says that `room` has been joined.
pub fn write_subscribed(room: &str, out: &mut Vec<u8>) {
    let text = format!(r#"{{"type":"SUBSCRIBED","room":"{room}"}}"#);
    write_frame(FIN | opcode::TEXT, None, text.as_bytes(), out);
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
    let mut payload = MESSAGE_PREFIX.to_vec();
    assert!(wire_bytes >= header_bytes + payload.len(), "no frame of {wire_bytes}");
    payload.resize(wire_bytes - header_bytes, b'x');
    let frame = Frame::text(payload).unmasked();
    assert_eq!(frame.len(), wire_bytes, "no frame of {wire_bytes}");
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::first_frame;

    #[test]
    fn the_floors_frame_has_exactly_the_size_asked_for_and_reads_as_one_message() {
        for wire_bytes in [19, 60, 127, 130, 140, 4_000, 65_539, 65_546, 70_000] {
            let bytes = text_frame_of(wire_bytes);
            let frame = first_frame(&bytes).unwrap().unwrap();
            assert_eq!((bytes.len(), frame.wire_bytes, frame.opcode), (wire_bytes, wire_bytes, opcode::TEXT));
            assert!(frame.payload.starts_with(MESSAGE_PREFIX));
        }
    }
}
