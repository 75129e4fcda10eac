//! Who may do what: the rule of the room decides, before the hub is asked.

use super::Session;
use crate::close::CloseReason;
use crate::context::Context;
use crate::dialect::Dialect;
use crate::hub::Hub;
use crate::protocol::command::Start;
use crate::protocol::{CommandId, ErrorCode};
use crate::rules::{Permissions, Right, Who, own_room};

/// Why somebody may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is not known who asks.
    Unknown,
    /// It is, and may not.
    Forbidden,
}

impl Session {
    /// Whether the connection may do this; if not, it is told so.
    ///
    /// # Errors
    /// It may not, and cannot be told.
    #[inline]
    pub(super) fn permits(
        &self,
        hub: &Hub,
        cx: &mut Context,
        slot: u32,
        (right, room): (Right, &str),
        id: Option<&CommandId>,
    ) -> Result<bool, CloseReason<'static>> {
        if !self.is_guarded {
            return Ok(true);
        }
        match self.may(hub, cx, slot, right, room) {
            Ok(()) => Ok(true),
            Err(refusal) => deny(cx, slot, refusal, room, id).map(|()| false),
        }
    }

    pub(super) fn may(&self, hub: &Hub, cx: &Context, slot: u32, right: Right, room: &str) -> Result<(), Refusal> {
        let auth = cx.config.auth.as_ref();
        let user = self.identities.get(slot);
        if user.is_none() && auth.is_some_and(|auth| auth.required) {
            return Err(Refusal::Unknown);
        }
        let otherwise = if auth.is_some() { Who::User } else { Who::Anyone };
        let rule = hub.rule_for(cx, slot, room);
        let permissions = rule.map_or(Permissions::default(), |rule| rule.permissions);
        let (who, right) = permissions.who(right, otherwise);
        let is_allowed = match (who, user) {
            (Who::Anyone, _) => true,
            (Who::Nobody, _) => false,
            (Who::User | Who::Granted | Who::Owner, None) => return Err(Refusal::Unknown),
            (Who::User, Some(_)) => true,
            (Who::Granted, Some(user)) => user.grants.allow(right, room),
            // What the name has there is compared with the user. Were the rule passed over where it is another user, the next rule
            // would decide about a room that is somebody's own.
            (Who::Owner, Some(user)) => rule.is_some_and(|rule| rule.pattern.names(room, user.segment)),
        };
        if is_allowed { Ok(()) } else { Err(Refusal::Forbidden) }
    }

    /// Joins a room, if the connection may and the room is not full; with `presence` it is told who is there.
    ///
    /// # Errors
    /// It is not let in, and cannot be told.
    pub fn subscribe(
        &mut self,
        hub: &mut Hub,
        cx: &mut Context,
        slot: u32,
        room: &str,
        (start, presence): (Start, bool),
        id: Option<CommandId>,
    ) -> Result<(), CloseReason<'static>> {
        let rights: &[Right] = match start {
            Start::Live => &[Right::Subscribe],
            Start::Since(_) | Start::Newest(_) => &[Right::Subscribe, Right::History],
        };
        for right in rights {
            if !self.permits(hub, cx, slot, (*right, room), id.as_ref())? {
                return Ok(());
            }
        }
        // Others have no word for it.
        let presence = presence && cx.slots.get(slot).dialect.has_replies();
        if presence && !self.permits(hub, cx, slot, (Right::Presence, room), id.as_ref())? {
            return Ok(());
        }
        if !self.user_has_place(hub, cx, slot, room) {
            return refuse_room(cx, slot, room, id.as_ref());
        }
        let beside_own = self.is_beside_own(hub, cx, slot, room);
        hub.subscribe(cx, slot, (room, beside_own), (start, presence), id)
    }

    /// Whether the connection may be in one room more because one of them, this one included, is its user's own.
    fn is_beside_own(&self, hub: &Hub, cx: &Context, slot: u32, room: &str) -> bool {
        // Below the limit it makes no difference.
        let is_full = cx.slots.get(slot).rooms.len() >= usize::from(cx.config.limits.rooms_per_connection_max);
        let own = if is_full { self.own_room(cx, slot) } else { None };
        own.is_some_and(|own| own == room || hub.is_in(cx, slot, &own))
    }

    /// Whether the connection's user may be in this room besides those in which it is.
    fn user_has_place(&self, hub: &Hub, cx: &Context, slot: u32, room: &str) -> bool {
        if cx.limits.quotas().has_place(slot, 0) {
            return true;
        }
        let is_in = |name: &str| hub.find_room(cx, slot, name).is_some_and(|room| cx.limits.quotas().is_in(slot, room));
        if is_in(room) {
            return true;
        }
        let own = self.own_room(cx, slot);
        own.is_some_and(|own| own == room || is_in(&own) && cx.limits.quotas().has_place(slot, 1))
    }

    /// The room that the connection's user has for itself.
    fn own_room(&self, cx: &Context, slot: u32) -> Option<String> {
        let has_own = cx.config.auth.as_ref().is_some_and(|auth| auth.own_rooms);
        self.identities.get(slot).filter(|_| has_own).map(|who| own_room(who.segment))
    }

    /// Panics if a connection is in a room in which it may not be.
    pub(super) fn check_memberships(&self, hub: &Hub, cx: &Context) {
        if !self.is_guarded {
            return;
        }
        for slot in cx.slots.slots() {
            for membership in cx.slots.get(slot).rooms.as_slice() {
                let (right, room) = hub.right_of_members(membership.room);
                let outcome = self.may(hub, cx, slot, right, room);
                assert_eq!(outcome, Ok(()), "slot {slot} may be in {room}");
            }
        }
    }

    /// Takes the connection out of the rooms in which it may not be any more, or of whose history it is still to be told what it may not
    /// read. The answers that it waits for are withdrawn like that as well.
    ///
    /// # Errors
    /// There are some, and that cannot be told.
    pub(super) fn review(&mut self, hub: &mut Hub, cx: &mut Context, slot: u32) -> Result<(), CloseReason<'static>> {
        let may = |right, name: &str| self.may(hub, cx, slot, right, name).is_ok();
        let rooms = cx.slots.get(slot).rooms.as_slice().iter().map(|membership| membership.room);
        let is_lost = |room: &u32| {
            let (right, name) = hub.right_of_members(*room);
            !may(right, name) || hub.waits_for_earlier(slot, *room) && !may(Right::History, name)
        };
        let mut lost: Vec<u32> = rooms.filter(is_lost).collect();
        // Who is no member any more observes nothing either, and one word of that is enough.
        lost.sort_by_key(|room| hub.right_of_members(*room).0 == Right::Presence);
        for room in lost {
            if cx.slots.get(slot).rooms.position(room).is_none() {
                continue;
            }
            cx.metrics.permissions_withdrawn += 1;
            if !hub.expel(cx, slot, room, (ErrorCode::Forbidden, "this user may not be in this room")) {
                return Err(CloseReason::Forbidden("this user may not be in this room any more"));
            }
        }
        let unread: Vec<Box<str>> = hub.histories_asked(cx, slot).map(Box::from).collect();
        let lost = |room: &str| self.may(hub, cx, slot, Right::History, room).is_err();
        let lost: Vec<Box<str>> = unread.into_iter().filter(|room| lost(room)).collect();
        if !lost.is_empty() {
            hub.withdraw_histories(cx, slot, |room| lost.iter().any(|of| **of == *room));
        }
        let unseen = hub.presence_asked(cx, slot);
        let unseen: Vec<u32> = unseen
            .filter(|(_, name)| self.may(hub, cx, slot, Right::Presence, name).is_err())
            .map(|(key, _)| key)
            .collect();
        for key in unseen {
            hub.withdraw_presence(cx, slot, key);
        }
        Ok(())
    }
}

/// Tells a client that it may not.
#[cold]
fn deny(
    cx: &mut Context,
    slot: u32,
    refusal: Refusal,
    room: &str,
    id: Option<&CommandId>,
) -> Result<(), CloseReason<'static>> {
    cx.metrics.permissions_denied += 1;
    let has_replies = cx.slots.get(slot).dialect.has_replies();
    let (code, reason) = match refusal {
        Refusal::Unknown if has_replies => (ErrorCode::Unauthorised, "a credential is needed for this room"),
        Refusal::Forbidden if has_replies => (ErrorCode::Forbidden, "this user may not do this in this room"),
        Refusal::Unknown => return Err(CloseReason::Unauthorised("a credential is needed for this room")),
        Refusal::Forbidden => return Err(CloseReason::Forbidden("this user may not do this in this room")),
    };
    cx.refuse(slot, code, reason, id, Some(room));
    Ok(())
}

/// Tells a client that its user is in as many rooms as allowed. One whose dialect gives it a single room would be in none.
#[cold]
fn refuse_room(cx: &mut Context, slot: u32, room: &str, id: Option<&CommandId>) -> Result<(), CloseReason<'static>> {
    cx.metrics.quota_rooms_refused += 1;
    if cx.slots.get(slot).dialect == Dialect::Broadcast {
        return Err(CloseReason::TryAgainLater("this user is in as many rooms as allowed"));
    }
    let most = cx.config.limits.rooms_per_user_max;
    let reason = format!("the connections of a user are in at most {most} rooms, beside its own");
    cx.refuse(slot, ErrorCode::TooManyRooms, &reason, id, Some(room));
    Ok(())
}
