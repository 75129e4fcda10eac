//! Every message comes back: what conformance suites expect of a server.

use crate::core::Core;
use crate::ws::encode;

pub fn text(core: &mut Core, slot: u32, text: &str) {
    encode::text(core.stream(slot), text.as_bytes());
}

pub fn binary(core: &mut Core, slot: u32, bytes: &[u8]) {
    encode::binary(core.stream(slot), bytes);
}
