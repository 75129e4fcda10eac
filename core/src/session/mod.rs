//! What a client says: from a message to a command, by the dialect that it speaks, and from a command to the hub. A client that
//! says too much, or too often what means nothing, is refused, and in the end has to be closed. That is returned, not done.

mod access;
mod asking;
mod authentication;
mod decisions;
mod identities;
mod program;
mod proposals;
mod rechecks;
mod unfit;

pub(crate) use program::Left;
pub(crate) use unfit::CROWDED;

use crate::close::CloseReason;
use crate::config::Config;
use crate::context::Context;
use crate::dialect::Dialect;
use crate::fanout::Rest;
use crate::hash::{BySlot, Seeded, take_of};
use crate::hub::{Hub, Publication};
use crate::identity::Bans;
use crate::limits::Whose;
use crate::limits::meter::Limit;
use crate::metrics::Metrics;
use crate::protocol::command::{self, Command, KEY_BYTES_MIN, Refusal, Request};
use crate::protocol::{CommandId, ErrorCode, reply};
use crate::rules::Right;
use crate::slots::Phase;
use crate::wheel::Wheel;
use crate::ws::{Message, encode};
use asking::{Ask, Asking};
use identities::Identities;
use proposals::Proposals;
use rechecks::Rechecks;
use std::sync::Arc;
use unfit::Unfit;

/// What clients say, and who says it. [`Session`] hears messages, what has been found out about credentials, and time. It asks the hub
/// for what clients want and may have, asks about credentials, and returns why a connection has to end. It knows no socket and no frame.
#[derive(Debug)]
pub(crate) struct Session {
    identities: Identities,
    /// Connections whose credential is looked at.
    asking: BySlot<Asking>,
    asks: Vec<Ask>,
    rechecks: Rechecks,
    proposals: Proposals,
    /// Connections that have shown credentials which did not count: how many, and why the last did not.
    failures: BySlot<(u16, Unfit)>,
    bans: Arc<Bans>,
    /// Nobody has told who is banned, and that has to be known.
    awaits_bans: bool,
    /// Connections from this slot on have yet to be looked at, because bans or the clock have changed.
    review_from: Option<u32>,
    /// Their timers too, because the clock has.
    reviews_timers: bool,
    /// When something has to be done about a credential.
    wheel: Wheel,
    // What follows belongs to the turn and is empty between turns.
    fired: Vec<u32>,
    /// Connections that came by a credential that is banned.
    banned: Vec<(u32, CloseReason<'static>)>,
    /// Connections whose credential may be over.
    overdue: Vec<u32>,
    /// Whether anything is closed to anybody.
    is_guarded: bool,
}

/// Why the client has to be closed, if it has to be.
type Verdict = Result<(), CloseReason<'static>>;

/// Charges the connection for one thing.
///
/// # Errors
/// It is one too many.
fn charge(cx: &mut Context, slot: u32, limit: Limit) -> Verdict {
    match cx.limits.charge(&mut cx.slots, slot, limit, 1, cx.now) {
        true => Ok(()),
        false => Err(CloseReason::TooFast(limit)),
    }
}

impl Session {
    pub fn new(config: &Config) -> Session {
        Session {
            identities: Identities::new(config.seed),
            asking: BySlot::with_hasher(Seeded::new(config.seed)),
            asks: Vec::new(),
            rechecks: Rechecks::new(config.auth.as_ref().map_or(0, |auth| auth.rechecks_at_once_max), config.seed),
            proposals: Proposals::new(config),
            failures: BySlot::with_hasher(Seeded::new(config.seed)),
            bans: Arc::default(),
            awaits_bans: config.auth.as_ref().is_some_and(|auth| auth.awaits_bans),
            review_from: None,
            reviews_timers: false,
            wheel: Wheel::default(),
            fired: Vec::new(),
            banned: Vec::new(),
            overdue: Vec::new(),
            is_guarded: config.auth.is_some() || config.rules.have_permissions(),
        }
    }

    /// Acts upon a message of an open WebSocket.
    ///
    /// # Errors
    /// The connection has to end.
    pub fn hear(&mut self, hub: &mut Hub, cx: &mut Context, slot: u32, message: Message<'_>) -> Verdict {
        if matches!(message, Message::Text(_) | Message::Binary(_))
            && let Err(whose) = cx.limits.charge_message(&mut cx.slots, slot, cx.now)
        {
            return too_fast(cx, slot, whose, message);
        }
        match message {
            Message::Text(said) => self.text(hub, cx, slot, said),
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
    fn text(&mut self, hub: &mut Hub, cx: &mut Context, slot: u32, text: &str) -> Verdict {
        match cx.slots.get(slot).dialect {
            Dialect::Fanfare | Dialect::Classic => match command::parse(text, cx.config.limits.room_name_bytes_max) {
                Ok(command) => {
                    cx.metrics.commands += 1;
                    // A credential has yet to show whether it is any good.
                    if !matches!(command.request, Request::Auth { .. }) {
                        cx.limits.errors().forgive(&mut cx.slots, slot);
                    }
                    self.obey(hub, cx, slot, command)
                }
                Err(_) if command::is_bare_pong(text) => Ok(()),
                Err(Refusal { code, reason, id, room, .. }) => {
                    refuse(cx, slot, code, &reason, id.as_ref(), room.as_deref())
                }
            },
            Dialect::Broadcast => self.speak(hub, cx, slot, text),
            Dialect::Echo => {
                cx.fanout.echo_text(&mut cx.slots, slot, text);
                Ok(())
            }
        }
    }

    fn obey(&mut self, hub: &mut Hub, cx: &mut Context, slot: u32, Command { id, request }: Command<'_>) -> Verdict {
        match request {
            Request::Subscribe { room, start, presence } => {
                self.subscribe(hub, cx, slot, &room, (start, presence), id)?;
            }
            Request::Unsubscribe { room } => hub.unsubscribe(cx, slot, &room, id),
            Request::SendMessage { room, message, echo, store, key } => {
                let except = (!echo).then(|| cx.slots.id(slot));
                let said = Publication { message, except, store, key: key.as_deref(), signed: None };
                return self.publish(hub, cx, slot, &room, &said, id);
            }
            Request::History { room, from, epoch, limit } => {
                if self.permits(hub, cx, slot, (Right::History, &room), id.as_ref())? {
                    hub.history(cx, slot, (&room, from, epoch, limit), id);
                }
            }
            Request::Presence { room, limit, after } => {
                if self.permits(hub, cx, slot, (Right::Presence, &room), id.as_ref())? {
                    hub.presence(cx, slot, &room, (limit, after.as_deref()), id);
                }
            }
            Request::Auth { token } => return self.auth(cx, slot, &token, id),
            Request::Ping => cx.reply(slot, |out| reply::pong(out, id.as_ref())),
        }
        Ok(())
    }

    /// Every text is a message to the one room of the connection.
    fn speak(&mut self, hub: &mut Hub, cx: &mut Context, slot: u32, text: &str) -> Verdict {
        cx.limits.errors().forgive(&mut cx.slots, slot);
        // Its room is the only one it can be in; a broker that refused it has ended the connection.
        let Some(room) = hub.only_room(cx, slot).map(Box::<str>::from) else { return Ok(()) };
        let message = serde_json::Value::from(text).to_string();
        // The name goes to the broker with every message, and came once.
        let escapes = room.bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count();
        cx.limits.owe(room.len() + escapes + message.len() - text.len());
        let said = Publication { message: &message, except: None, store: true, key: None, signed: None };
        self.publish(hub, cx, slot, &room, &said, None)
    }

    fn publish(
        &mut self,
        hub: &mut Hub,
        cx: &mut Context,
        slot: u32,
        room: &str,
        said: &Publication<'_>,
        id: Option<CommandId>,
    ) -> Verdict {
        if !self.permits(hub, cx, slot, (Right::Publish, room), id.as_ref())? {
            return Ok(());
        }
        if cx.limits.has_deliveries() {
            let deliveries = (hub.members(cx, slot, room), said.message.len());
            if !cx.limits.charge_deliveries(&mut cx.slots, slot, deliveries, cx.now) {
                return refuse_delivery(cx, slot, room, id.as_ref());
            }
        }
        if cx.config.auth.is_none() && said.key.is_none() && !self.proposals.are_wanted() {
            return hub.publish(cx, slot, room, said, id);
        }
        let user = self.identities.user(slot);
        if user.is_none() && said.key.is_some_and(|key| key.len() < KEY_BYTES_MIN) {
            let reason = "key must be a string of 22 to 128 bytes";
            return refuse(cx, slot, ErrorCode::BadField, reason, id.as_ref(), Some(room));
        }
        if user.is_none() && said.key.is_some_and(|key| key.starts_with('\u{1}')) {
            let reason = "key must not begin with a control character";
            return refuse(cx, slot, ErrorCode::BadField, reason, id.as_ref(), Some(room));
        }
        if cx.config.auth.is_none() {
            return self.proposals.publish(hub, cx, slot, room, said, id);
        }
        let signed = Some((user, cx.unix_ms()));
        // The names of the fields, and a time.
        cx.limits.owe(user.map_or(0, str::len) + 32);
        // Keys are the user's own. No name of a user has this character as a segment.
        let segment = self.identities.get(slot).map_or("", |who| who.segment);
        let key = said.key.map(|key| format!("{segment}\u{1}{key}"));
        self.proposals.publish(hub, cx, slot, room, &Publication { key: key.as_deref(), signed, ..*said }, id)
    }

    /// The connection leaves its rooms, and nothing is known of it any more.
    pub fn depart(&mut self, hub: &mut Hub, cx: &mut Context, slot: u32, rest: Rest) {
        hub.depart(cx, slot, rest);
        self.forget(cx, slot);
    }

    /// Nothing is known of the connection, which has left its rooms, any more.
    pub fn forget(&mut self, cx: &mut Context, slot: u32) {
        cx.limits.quotas_mut().end(slot, cx.now);
        self.identities.forget(slot);
        self.rechecks.forget(slot);
        if self.take_asking(slot).is_some() {
            self.asks.retain(|ask| ask.conn.slot() as u32 != slot);
        }
        take_of(&mut self.failures, slot);
        self.wheel.cancel(slot);
    }

    /// What tells the connection's user from all others.
    pub fn user_of(&self, slot: u32) -> Option<u32> {
        self.identities.user_index(slot)
    }

    /// Fills in the figures that are its own.
    pub fn describe(&self, metrics: &mut Metrics) {
        metrics.auth_rechecks_deferred_now = self.rechecks.waiting() as u64;
        metrics.auth_waiting_now = self.asking.len() as u64 - metrics.auth_rechecks_deferred_now;
        metrics.proposals_waiting_now = self.proposals.len() as u64;
        metrics.users_now = self.identities.users() as u64;
    }

    /// Panics unless it agrees with the connections, and each is in no room but those in which it may be.
    pub fn check_invariants(&self, hub: &Hub, cx: &Context) {
        assert!(
            self.fired.is_empty() && self.banned.is_empty() && self.overdue.is_empty(),
            "what has to end does in its turn"
        );
        for slot in self.identities.slots() {
            assert_eq!(cx.slots.get(slot).phase, Phase::Open, "only an open connection is somebody's");
        }
        let (mut waiting, mut under_way) = (0, 0);
        for (slot, asking) in &self.asking {
            let phase = cx.slots.get(*slot).phase;
            let is_upgrade = matches!(asking, Asking::Upgrade(_));
            assert!(phase == Phase::Open || is_upgrade && phase != Phase::Free, "slot {slot} in {phase:?}");
            match asking {
                Asking::InLine(_) => waiting += 1,
                Asking::Renewal(_) => under_way += 1,
                Asking::Upgrade(_) | Asking::Command(_) => {}
            }
        }
        self.rechecks.check(waiting, under_way);
        self.proposals.check_invariants();
        self.check_memberships(hub, cx);
    }

    /// Panics if anything is left of a connection.
    pub fn check_idle(&self) {
        assert!(self.identities.users() == 0 && self.asking.is_empty() && self.wheel.is_empty(), "somebody is known");
        assert!(self.failures.is_empty(), "failures of a connection are left");
        self.rechecks.check_idle();
        assert_eq!(self.proposals.len(), 0, "messages wait for a decision");
    }
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

/// A message beyond the connection's rate, or its user's: refused where that can be told, for nothing may be lost silently. A text is read only as
/// far as the client needs it to know which one that was.
#[cold]
fn too_fast(cx: &mut Context, slot: u32, whose: Whose, message: Message<'_>) -> Verdict {
    if !cx.slots.get(slot).dialect.has_replies() {
        return Err(CloseReason::TooFast(Limit::Messages));
    }
    let reason = match whose {
        Whose::Connection => "more messages a second than a connection may send",
        Whose::User => "more messages a second than the connections of a user may send",
    };
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
