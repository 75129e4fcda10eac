//! Compressed messages (RFC 7692), by another implementation than the server's.

use miniz_oxide::deflate::compress_to_vec;
use miniz_oxide::inflate::decompress_to_vec_with_limit;

use crate::{COMPRESSED, Error, FIN, Frame, MASK, Result, opcode, write_frame};

/// What a message is cut off, and an empty last block, behind which nothing follows.
const END: [u8; 6] = [0x00, 0x00, 0xFF, 0xFF, 0x03, 0x00];

/// A payload as a client of permessage-deflate sends it: compressed, a block marked as the last, and the byte that makes the
/// next one begin on a boundary (RFC 7692 §7.2.3.4).
pub fn deflated(payload: impl AsRef<[u8]>) -> Vec<u8> {
    deflated_at(6, payload)
}

/// The same at a level from 0 to 10: the higher, the smaller.
pub fn deflated_at(level: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let mut bytes = compress_to_vec(payload.as_ref(), level);
    bytes.push(0);
    bytes
}

/// Appends a masked text message, compressed as far as it goes.
pub fn write_deflated(text: &str, out: &mut Vec<u8>) {
    write_frame(FIN | COMPRESSED << 4 | opcode::TEXT, Some(MASK), &deflated_at(9, text), out);
}

/// The content of a compressed message (RFC 7692 §7.2.2), of at most `bytes_max` bytes.
///
/// # Errors
///
/// If it is no such message, or longer.
pub fn inflate(payload: &[u8], bytes_max: usize) -> Result<Vec<u8>> {
    decompress_to_vec_with_limit(&[payload, &END].concat(), bytes_max)
        .map_err(|error| Error::Inflate(error.to_string()))
}

/// The frame with its payload inflated, if it says that it is compressed.
///
/// # Panics
///
/// If it cannot be inflated, or is compressed and not smaller for it.
pub fn inflated(mut frame: Frame) -> Frame {
    if frame.rsv == COMPRESSED {
        let payload = inflate(&frame.payload, 16 << 20).unwrap_or_else(|error| panic!("{error}: {frame:?}"));
        assert!(payload.len() > frame.payload.len(), "compression that does not pay: {frame:?}");
        (frame.rsv, frame.payload) = (0, payload);
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{first_frame, mask};

    #[test]
    fn a_compressed_frame_is_recognised_and_read() {
        // The example of RFC 7692 §7.2.3.1.
        let bytes = [0xC1, 0x07, 0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00];
        let frame = first_frame(&bytes).unwrap().unwrap();
        assert!(frame.is_compressed() && frame.opcode == opcode::TEXT);
        assert_eq!(inflate(frame.payload, 100).unwrap(), b"Hello");
        assert!(inflate(frame.payload, 4).is_err() && inflate(b"Hello", 100).is_err());
    }

    #[test]
    fn a_compressed_command_is_read_as_it_was() {
        let text = "x".repeat(60_000);
        let mut bytes = Vec::new();
        write_deflated(&text, &mut bytes);
        assert!(bytes.len() < 200 && bytes[..2] == [0xC1, 0x80 | bytes[1] & 0x7F], "{}", bytes.len());
        let header_bytes = if bytes[1] & 0x7F < 126 { 6 } else { 8 };
        assert_eq!(inflate(&mask(&bytes[header_bytes..]), text.len()).unwrap(), text.as_bytes());
    }
}
