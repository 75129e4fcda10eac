//! What a client says: from a message to a command, by the dialect that it speaks, and from a command to the hub. A client that
//! says too much, or too often what means nothing, is refused, and in the end has to be closed. That is returned, not done.

use crate::close::CloseReason;
use crate::context::Context;
use crate::dialect::Dialect;
use crate::hub::{Hub, Publication};
use crate::limits::meter::Limit;
use crate::protocol::command::{self, Command, Refusal, Request};
use crate::protocol::{CommandId, ErrorCode, reply};
use crate::ws::{Message, encode};

/// Why the client has to be closed, if it has to be.
type Verdict = Result<(), CloseReason<'static>>;

/// Charges the connection for one thing.
///
/// # Errors
/// It is one too many.
pub(crate) fn charge(cx: &mut Context, slot: u32, limit: Limit) -> Verdict {
    match cx.limits.charge(&mut cx.slots, slot, limit, 1, cx.now) {
        true => Ok(()),
        false => Err(CloseReason::TooFast(limit)),
    }
}

/// Acts upon a message of an open WebSocket.
///
/// # Errors
/// The connection has to end.
pub(crate) fn hear(hub: &mut Hub, cx: &mut Context, slot: u32, message: Message<'_>) -> Verdict {
    match message {
        Message::Text(_) | Message::Binary(_) if charge(cx, slot, Limit::Messages).is_err() => {
            too_fast(cx, slot, message)
        }
        Message::Text(said) => text(hub, cx, slot, said),
        Message::Binary(bytes) => binary(cx, slot, bytes),
        Message::Ping(payload) => {
            charge(cx, slot, Limit::Pings)?;
            encode::pong(cx.stream(slot), payload);
            Ok(())
        }
        Message::Pong(_) => charge(cx, slot, Limit::Pings),
        Message::Close(body) => Err(CloseReason::Client(body.map(|(code, _)| code))),
    }
}

#[inline]
fn text(hub: &mut Hub, cx: &mut Context, slot: u32, text: &str) -> Verdict {
    match cx.slots.get(slot).dialect {
        Dialect::Fanfare | Dialect::Classic => match command::parse(text, cx.config.limits.room_name_bytes_max) {
            Ok(command) => {
                cx.metrics.commands += 1;
                cx.limits.errors().forgive(&mut cx.slots, slot);
                obey(hub, cx, slot, command)
            }
            Err(_) if command::is_bare_pong(text) => Ok(()),
            Err(Refusal { code, reason, id, room, .. }) => {
                refuse(cx, slot, code, &reason, id.as_ref(), room.as_deref())
            }
        },
        Dialect::Broadcast => speak(hub, cx, slot, text),
        Dialect::Echo => {
            cx.fanout.echo_text(&mut cx.slots, slot, text);
            Ok(())
        }
    }
}

fn obey(hub: &mut Hub, cx: &mut Context, slot: u32, Command { id, request }: Command<'_>) -> Verdict {
    match request {
        Request::Subscribe { room, start } => hub.subscribe(cx, slot, &room, start, id),
        Request::Unsubscribe { room } => hub.unsubscribe(cx, slot, &room, id),
        Request::SendMessage { room, message, echo, store, key } => {
            let except = (!echo).then(|| cx.slots.id(slot));
            return publish(hub, cx, slot, &room, &Publication { message, except, store, key: key.as_deref() }, id);
        }
        Request::History { room, from, epoch, limit } => hub.history(cx, slot, (&room, from, epoch, limit), id),
        Request::Ping => cx.reply(slot, |out| reply::pong(out, id.as_ref())),
    }
    Ok(())
}

/// Every text is a message to the one room of the connection.
fn speak(hub: &mut Hub, cx: &mut Context, slot: u32, text: &str) -> Verdict {
    cx.limits.errors().forgive(&mut cx.slots, slot);
    // Its room is the only one it can be in; a broker that refused it has ended the connection.
    let Some(room) = hub.only_room(cx, slot).map(Box::<str>::from) else { return Ok(()) };
    let message = serde_json::Value::from(text).to_string();
    // The name goes to the broker with every message, and came once.
    let escapes = room.bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count();
    cx.limits.owe(room.len() + escapes + message.len() - text.len());
    publish(hub, cx, slot, &room, &Publication { message: &message, except: None, store: true, key: None }, None)
}

fn publish(
    hub: &mut Hub,
    cx: &mut Context,
    slot: u32,
    room: &str,
    said: &Publication<'_>,
    id: Option<CommandId>,
) -> Verdict {
    if cx.limits.has_deliveries() {
        let deliveries = (hub.members(cx, slot, room), said.message.len());
        if !cx.limits.charge_deliveries(&mut cx.slots, slot, deliveries, cx.now) {
            return refuse_delivery(cx, slot, room, id.as_ref());
        }
    }
    hub.publish(cx, slot, room, said, id)
}

/// Refuses what is beyond the rate of deliveries, where that can be told; nothing may be lost silently.
#[cold]
fn refuse_delivery(cx: &mut Context, slot: u32, room: &str, id: Option<&CommandId>) -> Verdict {
    if !cx.slots.get(slot).dialect.has_replies() {
        return Err(CloseReason::TooFast(Limit::Deliveries));
    }
    let reason = "more deliveries a second than the messages of a connection may make";
    refuse(cx, slot, ErrorCode::TooFast, reason, id, Some(room))
}

fn binary(cx: &mut Context, slot: u32, bytes: &[u8]) -> Verdict {
    match cx.slots.get(slot).dialect {
        Dialect::Fanfare | Dialect::Classic | Dialect::Broadcast => {
            refuse(cx, slot, ErrorCode::BinaryNotSupported, "commands are text messages", None, None)
        }
        Dialect::Echo => {
            cx.fanout.echo_binary(&mut cx.slots, slot, bytes);
            Ok(())
        }
    }
}

/// A message beyond the connection's rate: refused where that can be told, for nothing may be lost silently. A text is read only as
/// far as the client needs it to know which one that was.
#[cold]
fn too_fast(cx: &mut Context, slot: u32, message: Message<'_>) -> Verdict {
    if !cx.slots.get(slot).dialect.has_replies() {
        return Err(CloseReason::TooFast(Limit::Messages));
    }
    let reason = "more messages a second than a connection may send";
    let read = match message {
        Message::Text(text) => Some(command::parse(text, cx.config.limits.room_name_bytes_max)),
        _ => None,
    };
    let (id, room) = match &read {
        Some(Ok(command)) => (command.id.as_ref(), command.request.room()),
        Some(Err(refusal)) => (refusal.id.as_ref(), refusal.room.as_deref()),
        None => (None, None),
    };
    refuse(cx, slot, ErrorCode::TooFast, reason, id, room)
}

/// Refuses what a client wants.
///
/// # Errors
/// That was once too often its own fault.
fn refuse(
    cx: &mut Context,
    slot: u32,
    code: ErrorCode,
    reason: &str,
    id: Option<&CommandId>,
    room: Option<&str>,
) -> Verdict {
    cx.refuse(slot, code, reason, id, room);
    let is_fault = code.is_malformed() || code == ErrorCode::TooFast;
    if !is_fault || !cx.limits.errors().count(&mut cx.slots, slot, cx.now) {
        return Ok(());
    }
    Err(match code {
        ErrorCode::TooFast => CloseReason::TooFast(Limit::Messages),
        _ => CloseReason::TooManyErrors,
    })
}
