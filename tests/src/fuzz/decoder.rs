//! Frames of a client: however the stream is cut, the same comes of it, and nothing beyond the limit is ever held.

use super::frames::decode;
use super::pieces::splits;

/// By the first byte: limits of a message at which its length takes each of its forms, and none at all.
pub(super) const LIMITS: [usize; 8] = [0, 7, 125, 126, 300, 1_000, 4_000, 65_536];

/// The first byte chooses the limit, the second how the stream is cut; the stream follows.
pub fn decoder(data: &[u8]) {
    let [limit, seed, stream @ ..] = data else { return };
    let limit = LIMITS[usize::from(limit % 8)];
    let [whole, splits @ ..] = splits(stream, *seed);
    let whole = decode(&whole, limit);
    for split in splits {
        assert_eq!(decode(&split, limit), whole);
    }
}
