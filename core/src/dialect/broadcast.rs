//! The broadcast servers in Node (`ws` and Redis): a connection is in one room from the start, and every text message that
//! it sends goes to that room as it is.

use crate::core::Core;
use crate::protocol::command::check_room_name;
use percent_encoding::percent_decode_str;
use std::borrow::Cow;

/// The room of a connection whose path names none.
pub const ROOM: &str = "global_chat";

/// The room that the rest of the path names, percent-encoded.
pub fn room(name: &str, bytes_max: usize) -> Result<Cow<'_, str>, Cow<'static, str>> {
    let room = percent_decode_str(name).decode_utf8().map_err(|_| "the room's name in the path is not UTF-8")?;
    check_room_name(&room, bytes_max)?;
    Ok(room)
}

pub fn text(core: &mut Core, slot: u32, text: &str) {
    core.forgive(slot);
    // Its room is the only one it can be in; a broker that refused it has ended the connection.
    let Some(membership) = core.conns.get(slot).rooms.as_slice().first() else { return };
    let room = core.rooms.get(membership.room).name.clone();
    let message = serde_json::Value::from(text).to_string();
    core.send_message(slot, &room, &message, true, None);
}
