//! The broadcast servers in Node (`ws` and Redis): a connection is in one room from the start, and every text message that
//! it sends goes to that room as it is.

use crate::core::Core;

/// The room of a connection whose path names none.
pub const ROOM: &str = "global_chat";

pub fn text(core: &mut Core, slot: u32, text: &str) {
    core.forgive(slot);
    // Its room is the only one it can be in; a broker that refused it has ended the connection.
    let Some(membership) = core.conns.get(slot).rooms.as_slice().first() else { return };
    let room = core.rooms.get(membership.room).name.clone();
    let message = serde_json::Value::from(text).to_string();
    // The name goes to the broker with every message, and came once.
    let escapes = room.bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count();
    core.surplus_bytes += room.len() + escapes + message.len() - text.len();
    core.send_message(slot, &room, &message, true, None);
}
