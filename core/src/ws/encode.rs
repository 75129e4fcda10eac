//! Server-to-client frames: always final, never masked, appended to whatever run is being built.

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// The longest header of a frame that a server sends: two bytes and a 64-bit length.
pub const HEADER_BYTES_MAX: usize = 10;

/// A control frame carries at most 125 bytes (RFC 6455 §5.5), a close frame's reason two less.
const CLOSE_REASON_BYTES_MAX: usize = 123;

fn header(out: &mut Vec<u8>, opcode: OpCode, payload_bytes: usize) {
    format(out, FrameHeader { opcode, ..FrameHeader::default() }, payload_bytes);
}

fn format(out: &mut Vec<u8>, header: FrameHeader, payload_bytes: usize) {
    header.format(payload_bytes as u64, out).expect("a Vec takes every write");
}

/// Appends a text frame.
pub fn text(out: &mut Vec<u8>, payload: &[u8]) {
    header(out, OpCode::Data(Data::Text), payload.len());
    out.extend_from_slice(payload);
}

/// Appends a binary frame.
pub fn binary(out: &mut Vec<u8>, payload: &[u8]) {
    header(out, OpCode::Data(Data::Binary), payload.len());
    out.extend_from_slice(payload);
}

/// Appends a text frame whose payload is compressed: RSV1 says so (RFC 7692 §6).
pub fn compressed_text(out: &mut Vec<u8>, payload: &[u8]) {
    compressed(out, Data::Text, payload);
}

/// Appends a binary frame whose payload is compressed.
pub fn compressed_binary(out: &mut Vec<u8>, payload: &[u8]) {
    compressed(out, Data::Binary, payload);
}

fn compressed(out: &mut Vec<u8>, kind: Data, payload: &[u8]) {
    format(out, FrameHeader { opcode: OpCode::Data(kind), rsv1: true, ..FrameHeader::default() }, payload.len());
    out.extend_from_slice(payload);
}

/// Appends a ping without a payload.
pub fn ping(out: &mut Vec<u8>) {
    header(out, OpCode::Control(Control::Ping), 0);
}

/// Appends the pong that answers a ping, whose payload has at most 125 bytes (RFC 6455 §5.5).
pub fn pong(out: &mut Vec<u8>, payload: &[u8]) {
    header(out, OpCode::Control(Control::Pong), payload.len());
    out.extend_from_slice(payload);
}

/// Appends a close frame; without a code its body is empty. A reason too long for a control frame is cut.
pub fn close(out: &mut Vec<u8>, code: Option<u16>, reason: &str) {
    let reason = &reason[..reason.floor_char_boundary(CLOSE_REASON_BYTES_MAX)];
    match code {
        None => header(out, OpCode::Control(Control::Close), 0),
        Some(code) => {
            header(out, OpCode::Control(Control::Close), 2 + reason.len());
            out.extend_from_slice(&code.to_be_bytes());
            out.extend_from_slice(reason.as_bytes());
        }
    }
}

/// The first frame of a run that this module made: its first byte, how many bytes it takes, and its payload. `None` where no
/// whole frame begins there.
pub(crate) fn split_frame(run: &[u8]) -> Option<(u8, usize, &[u8])> {
    let header = match *run.get(1)? {
        127 => 10,
        126 => 4,
        _ => 2,
    };
    let payload = match *run.get(2..header)? {
        [] => usize::from(run[1]),
        [high, low] => usize::from(u16::from_be_bytes([high, low])),
        ref length => usize::try_from(u64::from_be_bytes(length.try_into().ok()?)).ok()?,
    };
    let frame = header.checked_add(payload)?;
    Some((run[0], frame, run.get(header..frame)?))
}

/// How long a frame with so long a payload is.
pub(crate) fn frame_bytes(payload_bytes: usize) -> usize {
    let header_bytes = match payload_bytes {
        0..=125 => 2,
        126..=0xffff => 4,
        _ => HEADER_BYTES_MAX,
    };
    header_bytes + payload_bytes
}

/// The offset of the first frame that begins at or after `at`, in a run of whole frames made by this module.
///
/// # Panics
/// If `at` lies beyond the run's end, or the run is not one of whole frames.
pub fn next_frame_start(run: &[u8], at: usize) -> usize {
    let mut start = 0;
    while start < at {
        let (_, frame, _) = split_frame(&run[start..]).expect("a run is whole frames");
        start += frame;
    }
    start
}

/// The offset behind the last frame that ends at or before `at`, in a run of whole frames made by this module.
pub(crate) fn last_frame_end(run: &[u8], at: usize) -> usize {
    let mut end = 0;
    while let Some((_, frame, _)) = split_frame(&run[end..]).filter(|(_, frame, _)| end + frame <= at) {
        end += frame;
    }
    end
}

/// The last frame of a run of whole frames.
pub(crate) fn last_frame(run: &[u8]) -> &[u8] {
    let mut start = 0;
    while let Some((_, frame, _)) = split_frame(&run[start..]).filter(|(_, frame, _)| start + frame < run.len()) {
        start += frame;
    }
    &run[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_starts_are_found_at_every_offset_and_length_form() {
        let mut run = Vec::new();
        let mut starts = vec![0];
        for length in [0, 1, 125, 126, 300, 65_535, 65_536] {
            text(&mut run, &vec![b'x'; length]);
            starts.push(run.len());
        }
        for at in (0..400).chain(65_900..66_100).chain(run.len() - 10..=run.len()) {
            let expected = *starts.iter().find(|start| **start >= at).unwrap();
            assert_eq!(next_frame_start(&run, at), expected, "at {at}");
            let expected = *starts.iter().rfind(|start| **start <= at).unwrap();
            assert_eq!(last_frame_end(&run, at), expected, "at {at}");
        }
    }

    #[test]
    fn a_long_reason_is_cut_at_a_character() {
        let mut out = Vec::new();
        close(&mut out, Some(1000), &"é".repeat(100));
        assert_eq!(out.len(), 2 + 2 + 122);
        assert!(std::str::from_utf8(&out[4..]).is_ok());
    }
}
