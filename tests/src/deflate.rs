//! Compressed messages by another implementation than the server's.

use miniz_oxide::deflate::compress_to_vec;
use miniz_oxide::inflate::decompress_to_vec_with_limit;

use crate::Frame;

/// RSV1: the message is compressed (RFC 7692 §6).
pub const COMPRESSED: u8 = 4;

/// An empty last block, behind which nothing follows.
const END: [u8; 2] = [0x03, 0x00];

/// A payload as a client of permessage-deflate sends it: compressed, a block marked as the last, and the byte that makes the
/// next one begin on a boundary (RFC 7692 §7.2.3.4).
pub fn deflated(payload: impl AsRef<[u8]>) -> Vec<u8> {
    let mut bytes = compress_to_vec(payload.as_ref(), 6);
    bytes.push(0);
    bytes
}

/// The frame with its payload inflated, if it says that it is compressed.
///
/// # Panics
///
/// If it cannot be inflated, or is compressed and not smaller for it.
pub fn inflated(mut frame: Frame) -> Frame {
    if frame.rsv == COMPRESSED {
        let bytes = [&frame.payload[..], &[0, 0, 0xff, 0xff], &END].concat();
        let payload = decompress_to_vec_with_limit(&bytes, 16 << 20)
            .unwrap_or_else(|error| panic!("cannot be inflated: {error}: {frame:?}"));
        assert!(payload.len() > frame.payload.len(), "compression that does not pay: {frame:?}");
        (frame.rsv, frame.payload) = (0, payload);
    }
    frame
}
