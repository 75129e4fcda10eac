//! The room servers in Node (`ws` and Redis): `SUBSCRIBE`, `UNSUBSCRIBE` and `SEND_MESSAGE` as in the server's own dialect,
//! but nothing is answered. A client that keeps sending what is no command is closed all the same.

use super::fanfare;
use crate::core::Core;

pub fn text(core: &mut Core, slot: u32, text: &str) {
    fanfare::text(core, slot, text);
}
