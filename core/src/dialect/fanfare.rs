//! The server's own dialect: one JSON object per text message, answered as `docs/protocol.md` says.

use super::room_name;
use crate::config::Config;
use crate::core::Core;
use crate::protocol::command::{self, Request};
use crate::protocol::{CommandId, ErrorCode};
use std::borrow::Cow;

/// The rooms that a query names, each as `room=`, in the form of `application/x-www-form-urlencoded`, which browsers' `URLSearchParams`
/// makes.
pub fn rooms<'a>(query: &'a str, config: &Config) -> Result<Vec<Cow<'a, str>>, Cow<'static, str>> {
    let names = query.split('&').filter_map(|pair| pair.strip_prefix("room="));
    let room = |name: &'a str| match name.contains('+') {
        true => room_name(&name.replace('+', "%20"), config).map(|room| Cow::Owned(room.into_owned())),
        false => room_name(name, config),
    };
    let most = config.rooms_per_connection_max;
    if names.clone().count() > usize::from(most) {
        return Err(format!("a connection is in at most {most} rooms").into());
    }
    names.map(room).collect()
}

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
        Err(_) if command::is_bare_pong(text) => {}
        Err(refusal) => {
            core.error(slot, refusal.code, &refusal.reason, refusal.id.as_ref(), refusal.room.as_deref());
        }
    }
}

/// Refuses a text beyond the rate. It is read only as far as the client needs it to know which one that was.
pub fn text_too_fast(core: &mut Core, slot: u32, text: &str) {
    match command::parse(text, core.config.room_name_bytes_max) {
        Ok(command) => refuse_too_fast(core, slot, command.id.as_ref(), command.request.room()),
        Err(refusal) => refuse_too_fast(core, slot, refusal.id.as_ref(), refusal.room.as_deref()),
    }
}

pub fn refuse_too_fast(core: &mut Core, slot: u32, id: Option<&CommandId>, room: Option<&str>) {
    core.error(slot, ErrorCode::TooFast, "more messages a second than a connection may send", id, room);
}

pub fn binary(core: &mut Core, slot: u32) {
    core.error(slot, ErrorCode::BinaryNotSupported, "commands are text messages", None, None);
}
