//! The server's own dialect: one JSON object per text message, answered as `docs/protocol.md` says.

use crate::core::Core;
use crate::protocol::ErrorCode;
use crate::protocol::command::{self, Request};

pub fn text(core: &mut Core, slot: u32, text: &str) {
    match command::parse(text, core.config.room_name_bytes_max) {
        Ok(command) => {
            core.metrics.commands += 1;
            core.forgive(slot);
            match command.request {
                Request::Subscribe { room } => core.subscribe(slot, &room, command.id),
                Request::Unsubscribe { room } => core.unsubscribe(slot, &room, command.id),
                Request::SendMessage { room, message, echo } => {
                    core.send_message(slot, &room, message, echo, command.id);
                }
                Request::Ping => core.pong(slot, command.id.as_ref()),
            }
        }
        Err(refusal) => {
            core.error(slot, refusal.code, &refusal.reason, refusal.id.as_ref(), refusal.room.as_deref());
        }
    }
}

pub fn binary(core: &mut Core, slot: u32) {
    core.error(slot, ErrorCode::BinaryNotSupported, "commands are text messages", None, None);
}
