//! How a stream may be cut on its way.

/// Whole, byte by byte, and in pieces of sizes that follow from `seed`; empty ones are among these.
pub(super) fn splits(stream: &[u8], seed: u8) -> [Vec<&[u8]>; 3] {
    let mut state = u32::from(seed) << 8 | 0x5eed_0001;
    let (mut pieces, mut rest) = (Vec::new(), stream);
    while !rest.is_empty() {
        // xorshift32 (Marsaglia, 2003): any sequence does, if it is always the same.
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        // Small pieces mostly, for what is interesting is short.
        let bytes = if state.is_multiple_of(4) { state >> 8 & 0xff } else { state >> 8 & 0x0f };
        let (piece, later) = rest.split_at((bytes as usize).min(rest.len()));
        pieces.push(piece);
        rest = later;
    }
    [vec![stream], stream.chunks(1).collect(), pieces]
}
