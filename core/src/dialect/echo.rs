//! Every message comes back: what conformance suites expect of a server.

use crate::core::Core;

pub fn text(core: &mut Core, slot: u32, text: &str) {
    let window_bits = core.conns.get(slot).window_bits;
    core.deflater.text(core.streams.of(&mut core.conns, slot), window_bits, text.as_bytes());
}

pub fn binary(core: &mut Core, slot: u32, bytes: &[u8]) {
    let window_bits = core.conns.get(slot).window_bits;
    core.deflater.binary(core.streams.of(&mut core.conns, slot), window_bits, bytes);
}
