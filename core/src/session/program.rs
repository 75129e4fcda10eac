//! What the program that the core is a part of wants: it publishes, reads and asks as clients do, but without rights and limits; and it
//! looks at connections, ends them, and takes them out of rooms.

use super::Session;
use crate::context::Context;
use crate::history::{Epoch, Removal, Remove};
use crate::hub::{Hub, Publication};
use crate::protocol::command::{self, Command, Refusal, Request};
use crate::protocol::program::{self, Named, Order, Whose};
use crate::protocol::reply::{self, Listed};
use crate::protocol::{CommandId, ErrorCode};
use crate::slots::Phase;
use std::net::IpAddr;

/// Rooms that a connection is listed with.
const ROOMS_LISTED_MAX: usize = 20;

const REMOVED: &str = "the backend has taken this connection out of the room";

/// What is left to be done, because the session does not end connections.
#[derive(Debug)]
pub(crate) enum Left {
    Nothing,
    /// These have to end.
    End {
        slots: Vec<u32>,
        code: u16,
        reason: Box<str>,
    },
    /// A share of all has to go.
    Shed(f64),
}

impl Session {
    /// Acts upon a command of the program. What it may and how much is not asked. `user` is told to have sent its message. `address` tells
    /// where a connection comes from.
    pub fn command(
        &mut self,
        hub: &mut Hub,
        cx: &mut Context,
        slot: u32,
        (text, user): (&str, Option<&str>),
        address: impl Fn(&Context, u32) -> Option<IpAddr>,
    ) -> Left {
        let Command { id, request } = match command::parse(text, cx.config.limits.room_name_bytes_max) {
            Ok(command) => command,
            Err(Refusal { code: ErrorCode::UnknownType, id, .. }) => {
                cx.metrics.commands += 1;
                let ordered = program::parse(text, cx.config.limits.room_name_bytes_max)
                    .and_then(|order| self.order(hub, cx, slot, order, id.clone(), address));
                return ordered.unwrap_or_else(|(code, reason)| {
                    cx.refuse(slot, code, &reason, id.as_ref(), None);
                    Left::Nothing
                });
            }
            Err(Refusal { code, reason, id, room, .. }) => {
                cx.refuse(slot, code, &reason, id.as_ref(), room.as_deref());
                return Left::Nothing;
            }
        };
        cx.metrics.commands += 1;
        match request {
            Request::SendMessage { room, message, store, key, .. } => {
                let signed = cx.config.auth.is_some().then(|| (user, cx.unix_ms()));
                // Keys of the program are its own: no name of a user has these characters as a segment.
                let key = key.map(|key| format!("\u{1}\u{1}{key}"));
                let said = Publication { message, except: None, store, key: key.as_deref(), signed };
                // It has words for whatever is refused.
                let _ = hub.publish(cx, slot, &room, &said, id);
            }
            Request::History { room, from, epoch, limit } => hub.history(cx, slot, (&room, from, epoch, limit), id),
            Request::Presence { room, limit, after } => hub.presence(cx, slot, &room, (limit, after.as_deref()), id),
            Request::Ping => cx.reply(slot, |out| reply::pong(out, id.as_ref())),
            Request::Subscribe { .. } | Request::Unsubscribe { .. } | Request::Auth { .. } => {
                let reason = "this is for connections, and the program has none";
                cx.refuse(slot, ErrorCode::UnknownType, reason, id.as_ref(), None);
            }
        }
        Left::Nothing
    }

    fn order(
        &mut self,
        hub: &mut Hub,
        cx: &mut Context,
        slot: u32,
        order: Order,
        id: Option<CommandId>,
        address: impl Fn(&Context, u32) -> Option<IpAddr>,
    ) -> Result<Left, (ErrorCode, String)> {
        match order {
            Order::Hold { room } => hub.hold(cx, &room),
            Order::Tell { room, text } => hub.tell_programs(cx, slot, (&room, &text), id),
            Order::Remove { room, offset, epoch } => {
                let what = offset.map_or(Removal::All, Removal::One);
                let remove = Remove { what, epoch: epoch.map(|epoch| Epoch::of_text(&epoch)) };
                hub.remove(cx, slot, &room, remove, id);
            }
            Order::Rooms { prefix, after, limit } => hub.list_rooms(cx, slot, (prefix, after, limit), id),
            Order::Connections { whose, limit } => {
                let slots = self.slots_of(cx, &whose)?;
                let listed: Vec<_> =
                    slots.iter().take(limit).map(|slot| self.listed(hub, cx, *slot, &address)).collect();
                let mut text = Vec::new();
                reply::connections(&mut text, id.as_ref(), &listed, slots.len());
                cx.tell_program(|out| *out = text);
            }
            Order::Disconnect { whose, code, reason } => {
                let slots = self.slots_of(cx, &whose)?;
                cx.reply(slot, |out| reply::done(out, id.as_ref(), slots.len()));
                return Ok(Left::End { slots, code, reason });
            }
            Order::Expel { whose, room } => {
                let mut untold = Vec::new();
                let mut expelled = 0;
                for slot in self.slots_of(cx, &whose)? {
                    if let Some(key) = hub.find_room(cx, slot, &room)
                        && cx.slots.get(slot).rooms.position(key).is_some()
                    {
                        expelled += 1;
                        if !hub.expel(cx, slot, key, (ErrorCode::Removed, REMOVED)) {
                            untold.push(slot);
                        }
                    }
                }
                cx.reply(slot, |out| reply::done(out, id.as_ref(), expelled));
                // In a dialect without a word for it, nothing else would tell.
                let (code, reason) = (program::CLOSE_CODE, REMOVED.into());
                return Ok(Left::End { slots: untold, code, reason });
            }
            Order::Shed { share } => {
                cx.reply(slot, |out| reply::done(out, id.as_ref(), 0));
                return Ok(Left::Shed(share));
            }
        }
        Ok(Left::Nothing)
    }

    /// The open connections that are meant.
    fn slots_of(&self, cx: &Context, whose: &Named) -> Result<Vec<u32>, (ErrorCode, String)> {
        let is_open = |slot: &u32| cx.slots.get(*slot).phase == Phase::Open;
        Ok(match whose.of(cx.config.node)? {
            Whose::User(user) => self.identities.slots_of(user),
            Whose::One(conn) => conn.and_then(|conn| cx.slots.slot(conn)).filter(is_open).into_iter().collect(),
            Whose::All => cx.slots.slots().filter(is_open).collect(),
        })
    }

    fn listed<'a>(
        &'a self,
        hub: &'a Hub,
        cx: &Context,
        slot: u32,
        address: impl Fn(&Context, u32) -> Option<IpAddr>,
    ) -> Listed<'a> {
        let conn = cx.slots.get(slot);
        Listed {
            connection: cx.slots.id(slot).public(cx.config.node),
            user: self.identities.user(slot),
            dialect: if conn.framing.is_events() { "events" } else { conn.dialect.name() },
            address: address(cx, slot),
            rooms: hub.rooms_joined(cx, slot).take(ROOMS_LISTED_MAX).map(|room| hub.name_of(room)).collect(),
            room_count: hub.rooms_joined(cx, slot).count(),
        }
    }
}
