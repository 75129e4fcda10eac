//! Frames of a client, compressed or not: however the stream is cut, the same comes of it, and nothing beyond the limit is
//! ever held.

use super::frames::decode;
use super::pieces::splits;
use fanfare_core::ws::decoder::Limits;

/// By the first byte: limits of a message at which its length takes each of its forms, and none at all.
pub(super) const LIMITS: [usize; 8] = [0, 7, 125, 126, 300, 1_000, 4_000, 65_536];

/// The first byte chooses the limits, the second how the stream is cut; the stream follows.
pub fn decoder(data: &[u8]) {
    let [limit, seed, stream @ ..] = data else { return };
    let limits = Limits {
        message_bytes_max: LIMITS[usize::from(limit % 8)],
        frames_per_message_max: if limit & 0x10 == 0 { 1_024 } else { 3 },
        compression: limit & 0x08 != 0,
    };
    let [whole, splits @ ..] = splits(stream, *seed);
    let whole = decode(&whole, limits);
    for split in splits {
        assert_eq!(decode(&split, limits), whole);
    }
}
