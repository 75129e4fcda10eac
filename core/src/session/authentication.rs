//! Credentials: which are looked at, what becomes of the answers, and when they end. Whether one is good is found out elsewhere.

use super::Session;
use super::asking::{Ask, Asking};
use super::rechecks::is_lost;
use super::unfit::{EXPIRED, Unfit, ended};
use crate::close::CloseReason;
use crate::context::Context;
use crate::dialect::Dialect;
use crate::hash::take_of;
use crate::hub::Hub;
use crate::id::ConnId;
use crate::identity::{Authenticate, Bans, Denied, Identity, Source, TOKEN_BYTES_MAX};
use crate::protocol::command::{Start, check_room_name};
use crate::protocol::{CommandId, ErrorCode, reply};
use crate::rules::{Right, own_room};
use crate::slots::Phase;
use crate::time::Time;
use crate::transport::Found;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// How long a connection may stay after its credential has expired, while one is looked at that may renew it.
const GRACE: Duration = Duration::from_secs(30);
/// How often that is looked after, and how soon it is asked again where it could not be found out.
const AGAIN: Duration = Duration::from_secs(5);
/// How many connections a turn ends because of their credentials, or asks about anew.
const TIMERS_PER_TURN: usize = 256;
/// How many connections a turn looks at because bans or the clock have changed, and how many of them it ends.
const REVIEWS_PER_TURN: u32 = 4_096;
const REVIEW_ENDS_PER_TURN: usize = 256;
/// A clock that is set by more than this is one of which timers have to hear.
const CLOCK_SLACK_MS: u64 = 1_000;

impl Session {
    /// How much is to be asked in this turn.
    #[inline]
    pub fn asks(&self) -> usize {
        self.asks.len()
    }

    /// What is to be asked in this turn, of a connection whose address this tells.
    pub fn ask(&self, index: usize, address: impl FnOnce(u32) -> Option<IpAddr>) -> Option<Authenticate<'_>> {
        let Ask { conn, source, credential, head, has_origin } = self.asks.get(index)?;
        let slot = conn.slot() as u32;
        let (is_known, from) = (self.identities.get(slot).is_some(), address(slot));
        Some(Authenticate { conn: *conn, source: *source, credential, head, has_origin: *has_origin, is_known, from })
    }

    /// Forgets the first `done` of that.
    pub fn forget_asks(&mut self, done: usize) {
        self.asks.drain(..done);
    }

    /// An upgrade waits for its credential.
    pub fn ask_for_upgrade(&mut self, cx: &Context, slot: u32, found: Found<'_>, head: &[u8]) {
        let Found { source, credential, has_origin } = found;
        let forwards = cx.config.auth.as_ref().is_some_and(|auth| auth.forwards_head);
        let head = if forwards { head.into() } else { Box::default() };
        let conn = cx.slots.id(slot);
        self.asks.push(Ask { conn, source, credential: credential.into(), head, has_origin });
        self.asking.insert(slot, Asking::Upgrade(source != Source::Request));
    }

    /// The client shows a credential.
    pub(super) fn auth(
        &mut self,
        cx: &mut Context,
        slot: u32,
        token: &str,
        id: Option<CommandId>,
    ) -> Result<(), CloseReason<'static>> {
        if !cx.config.auth.as_ref().is_some_and(|auth| auth.command) {
            cx.refuse(slot, ErrorCode::NotSupported, "AUTH is not available on this server", id.as_ref(), None);
        } else if self.asking.get(&slot).is_some_and(|asking| !matches!(asking, Asking::InLine(_))) {
            cx.refuse(slot, ErrorCode::Pending, "an earlier credential is still looked at", id.as_ref(), None);
        } else if token.len() > TOKEN_BYTES_MAX {
            cx.metrics.auth_refused += 1;
            return self.refuse_command(cx, slot, Unfit::Denied(Denied::Unauthorised), id.as_ref());
        } else {
            // What stands in line is asked about again if this one is no good.
            self.take_asking(slot);
            let (conn, credential) = (cx.slots.id(slot), token.as_bytes().into());
            self.asks.push(Ask { conn, source: Source::Command, credential, head: Box::default(), has_origin: false });
            self.asking.insert(slot, Asking::Command(id));
        }
        Ok(())
    }

    /// What becomes of an upgrade whose credential has been looked at, and whether it shows one; nothing, where none waits.
    pub fn take_upgrade(
        &mut self,
        cx: &mut Context,
        slot: u32,
        outcome: Result<&Identity, Denied>,
    ) -> Option<(bool, Result<(), Denied>)> {
        let Some(Asking::Upgrade(shown)) = self.asking.get(&slot) else { return None };
        let shown = *shown;
        self.asking.remove(&slot);
        Some((shown, self.judge(cx, slot, outcome).map(drop)))
    }

    /// Whether the user of this identity may have one connection more; if not, that is counted.
    pub fn has_place_of(&self, cx: &mut Context, identity: &Identity) -> bool {
        let most = cx.config.admission.connections_per_user_max;
        let has_place = most == 0 || self.identities.connections_of(&identity.user) < most;
        cx.metrics.quota_connections_refused += u64::from(!has_place);
        has_place
    }

    /// A WebSocket has opened without a credential.
    ///
    /// # Errors
    /// It needs one, and cannot show it any more.
    pub fn begin(&mut self, cx: &Context, slot: u32) -> Result<(), CloseReason<'static>> {
        let Some(auth) = cx.config.auth.as_ref().filter(|auth| auth.required) else { return Ok(()) };
        if !(auth.command && cx.slots.get(slot).dialect.has_replies()) {
            return Err(CloseReason::Unauthorised("a credential is needed"));
        }
        self.wheel.set(slot, cx.now + auth.timeout);
        Ok(())
    }

    /// A credential of an open WebSocket has been looked at, because it was asked or unasked.
    ///
    /// # Errors
    /// The connection has to end.
    pub fn authenticated(
        &mut self,
        hub: &mut Hub,
        cx: &mut Context,
        slot: u32,
        outcome: Result<&Identity, Denied>,
    ) -> Result<(), CloseReason<'static>> {
        let asking = self.take_asking(slot);
        if !matches!(outcome, Err(Denied::Unavailable)) {
            self.rechecks.answered(cx.now);
        }
        self.recheck_some(cx);
        let judged = self.judge(cx, slot, outcome).map_err(Unfit::Denied);
        let judged = judged.and_then(|identity| {
            // Whose connection it is already has its place.
            match self.identities.user(slot).is_some() || self.has_place_of(cx, identity) {
                true => Ok(identity),
                false => Err(Unfit::Crowded),
            }
        });
        match (judged, asking) {
            (Ok(identity), asking) => {
                take_of(&mut self.failures, slot);
                self.rechecks.forget(slot);
                self.identify(hub, cx, slot, identity)?;
                if let Some(Asking::Command(id)) = asking {
                    let expires_s = identity.expires_ms.map(|ms| ms / 1_000);
                    cx.reply(slot, |out| reply::authenticated(out, &identity.user, expires_s, id.as_ref()));
                }
                self.join_own(hub, cx, slot, identity, |_| Start::Live)
            }
            (Err(unfit), Some(Asking::Command(id))) => {
                // What it had may have ended while this one was looked at. That has its time still, whatever else is shown.
                self.look_soon(cx, slot);
                self.refuse_command(cx, slot, unfit, id.as_ref())
            }
            // What is known stays true for as long as it may. It is asked again soon, where there is something to ask; else the end of the
            // credential has its time already.
            (Err(Unfit::Denied(Denied::Unavailable)), _) => {
                if self.identities.get(slot).is_some_and(|who| who.renewal.is_some()) {
                    self.wheel.set(slot, cx.now + AGAIN);
                }
                Ok(())
            }
            (Err(unfit), _) => Err(unfit.close()),
        }
    }

    fn refuse_command(
        &mut self,
        cx: &mut Context,
        slot: u32,
        unfit: Unfit,
        id: Option<&CommandId>,
    ) -> Result<(), CloseReason<'static>> {
        let count = self.failures.get(&slot).map_or(0, |(count, _)| *count).saturating_add(1);
        self.failures.insert(slot, (count, unfit));
        let is_too_much = count > cx.config.limits.errors_max;
        if !cx.slots.get(slot).dialect.has_replies() {
            return Err(unfit.close());
        }
        let (code, reason) = unfit.told();
        cx.refuse(slot, code, reason, id, None);
        // Whoever tries many makes work for who verifies them, also between other commands, which forgive nothing of that.
        match is_too_much {
            false => Ok(()),
            true => Err(unfit.later().unwrap_or(CloseReason::TooManyErrors)),
        }
    }

    /// Whether the outcome is a good one as of now, for this connection.
    ///
    /// # Errors
    /// Why it is not.
    pub fn judge<'i>(
        &self,
        cx: &mut Context,
        slot: u32,
        outcome: Result<&'i Identity, Denied>,
    ) -> Result<&'i Identity, Denied> {
        let now_ms = cx.unix_ms();
        let outcome = outcome.and_then(|identity| {
            if identity.user.is_empty() {
                return Err(Denied::Unauthorised);
            }
            // Where nobody tells the time, nothing can be said of when it ends.
            let now_ms = match (now_ms, identity.expires_ms) {
                (Some(now_ms), _) => now_ms,
                (None, None) => 0,
                (None, Some(_)) => return Err(Denied::Unavailable),
            };
            if identity.expires_ms.is_some_and(|at| at <= now_ms) {
                return Err(Denied::Expired);
            }
            self.bans.verdict(identity.facts(), now_ms)?;
            match self.identities.user(slot) {
                Some(user) if *user != *identity.user => Err(Denied::Forbidden),
                _ => Ok(identity),
            }
        });
        let counter = match outcome {
            Ok(_) => &mut cx.metrics.auth_accepted,
            Err(Denied::Unavailable) => &mut cx.metrics.auth_unavailable,
            Err(_) => &mut cx.metrics.auth_refused,
        };
        *counter += 1;
        outcome
    }

    /// It is known whose connection this is. What it may no longer have ends.
    ///
    /// # Errors
    /// That cannot be told.
    pub fn identify(
        &mut self,
        hub: &mut Hub,
        cx: &mut Context,
        slot: u32,
        identity: &Identity,
    ) -> Result<(), CloseReason<'static>> {
        self.identities.set(slot, identity);
        if let Some(user) = self.identities.user_index(slot).filter(|_| cx.limits.quotas().are_kept()) {
            let rooms: Vec<u32> = hub.rooms_joined(cx, slot).collect();
            let user = (user, self.identities.user_hash(user));
            cx.limits.quotas_mut().begin(slot, user, rooms.into_iter(), cx.now);
        }
        cx.journal.identified(cx.slots.id(slot), &identity.user);
        cx.notices.identified(cx.slots.id(slot), &identity.user);
        hub.identify(cx, slot, &identity.user, identity.info.as_deref().unwrap_or_default());
        self.set_timer(cx, slot);
        self.review(hub, cx, slot)
    }

    /// Joins the rooms that come with an identity. `start_of` says where in the messages of each the connection begins.
    ///
    /// # Errors
    /// One of them is refused, and that cannot be told.
    pub fn join_own(
        &mut self,
        hub: &mut Hub,
        cx: &mut Context,
        slot: u32,
        identity: &Identity,
        start_of: impl Fn(&str) -> Start,
    ) -> Result<(), CloseReason<'static>> {
        let has_rooms = matches!(cx.slots.get(slot).dialect, Dialect::Fanfare | Dialect::Classic);
        let joins_own = cx.config.auth.as_ref().is_some_and(|auth| auth.own_rooms);
        let own = self.identities.get(slot).filter(|_| joins_own).map(|who| own_room(who.segment));
        if !has_rooms {
            return Ok(());
        }
        // The own room's name may be as long as the user's is.
        let bytes_max = cx.config.limits.room_name_bytes_max;
        for room in &identity.join {
            if let Err(reason) = check_room_name(room, bytes_max) {
                cx.refuse(slot, ErrorCode::RoomInvalid, &reason, None, None);
            }
        }
        let named = identity.join.iter().map(|room| &**room).filter(|room| check_room_name(room, bytes_max).is_ok());
        // A rule may close own rooms to everybody. Nobody has asked for this one.
        let own = own.filter(|room| self.may(hub, cx, slot, Right::Subscribe, room).is_ok());
        for room in own.as_deref().into_iter().chain(named) {
            if !hub.is_in(cx, slot, room) {
                self.subscribe(hub, cx, slot, room, (start_of(room), false), None)?;
            }
        }
        Ok(())
    }

    /// When the connection's credential expires, or now if it has.
    fn expires(&self, cx: &Context, slot: u32) -> Option<Time> {
        let expires_ms = self.identities.get(slot)?.expires_ms?;
        let left_ms = expires_ms.saturating_sub(cx.unix_ms().unwrap_or(0));
        Some(cx.now + Duration::from_millis(left_ms))
    }

    /// Sets the time at which something has to be done about the connection's credential: to ask again, or to tell that it expires soon.
    fn set_timer(&mut self, cx: &Context, slot: u32) {
        self.wheel.cancel(slot);
        let (Some(who), Some(auth)) = (self.identities.get(slot), &cx.config.auth) else { return };
        let expires = self.expires(cx, slot);
        let at = match who.renewal {
            Some(_) => [expires, Some(cx.now + spread(auth.recheck, slot))].into_iter().flatten().min(),
            None => expires.map(|at| {
                let notice = auth.expiry_notice.min(at - cx.now);
                Time::from_micros(at.as_micros() - notice.as_micros() as u64)
            }),
        };
        if let Some(at) = at {
            self.wheel.set(slot, at);
        }
    }

    /// Looks at the connection's credential soon, and in this turn if it is over.
    fn look_soon(&mut self, cx: &Context, slot: u32) {
        match self.expires(cx, slot) {
            Some(expires) if expires > cx.now => self.wheel.set(slot, expires.min(cx.now + AGAIN)),
            Some(_) => self.overdue.push(slot),
            None => {}
        }
    }

    /// The connection's timer was set by another clock. It may still fire too soon, and is set by this clock then.
    fn correct_timer(&mut self, cx: &Context, slot: u32) {
        match self.expires(cx, slot) {
            // Nothing that a crowd of connections would have to ask at once: it is asked as soon as it was to be anyway.
            Some(expires) if expires > cx.now && self.identities.get(slot).is_some_and(|who| who.renewal.is_some()) => {
                self.wheel.set_at_latest(slot, expires);
            }
            _ => self.look_soon(cx, slot),
        }
    }

    /// When it has something to do at the latest.
    #[inline]
    pub fn next_timeout(&self) -> Option<Time> {
        if !self.is_guarded {
            return None;
        }
        match self.asks.is_empty() && self.review_from.is_none() && !self.rechecks.is_due() {
            true => self.wheel.next(),
            false => Some(Time::ZERO),
        }
    }

    /// Lets the timers of this turn fire.
    #[inline]
    pub fn fire(&mut self, cx: &Context) {
        if self.is_guarded {
            self.wheel.expire(cx.now, &mut self.fired, TIMERS_PER_TURN);
            // To be taken from the end.
            self.fired.reverse();
            self.review_some(cx);
            self.recheck_some(cx);
        }
    }

    /// A turn begins at this time.
    #[inline]
    pub fn begin_turn(&mut self, now: Time) {
        if self.is_guarded && self.wheel.is_empty() {
            // Nothing fires; but the wheel's present may be far behind, in the first turn by all that the clock shows.
            self.wheel.expire(now, &mut self.fired, 0);
        }
    }

    /// Acts upon the timers that have fired, until one shows a connection that has to end.
    pub fn next_expired(
        &mut self,
        cx: &mut Context,
        has_unread: &mut dyn FnMut(ConnId) -> bool,
    ) -> Option<(u32, CloseReason<'static>)> {
        while let Some(slot) = self.fired.pop() {
            if cx.slots.get(slot).phase == Phase::Open
                && let Err(reason) = self.timer(cx, slot, has_unread)
            {
                return Some((slot, reason));
            }
        }
        None
    }

    fn timer(
        &mut self,
        cx: &mut Context,
        slot: u32,
        has_unread: &mut dyn FnMut(ConnId) -> bool,
    ) -> Result<(), CloseReason<'static>> {
        if matches!(self.asking.get(&slot), Some(Asking::Renewal(asked)) if is_lost(*asked, cx.now)) {
            self.take_asking(slot);
        }
        let is_asking = self.asking.contains_key(&slot);
        let Some(who) = self.identities.get(slot) else {
            // What it has sent in time may not have been read.
            if is_asking || has_unread(cx.slots.id(slot)) {
                self.wheel.set(slot, cx.now + AGAIN);
                return Ok(());
            }
            let later = self.failures.get(&slot).and_then(|(_, last)| last.later());
            return Err(later.unwrap_or(CloseReason::Unauthorised("no credential came in time")));
        };
        let now_ms = cx.unix_ms().unwrap_or(0);
        let over_ms = who.expires_ms.and_then(|at| now_ms.checked_sub(at));
        match (over_ms, who.renewal.is_some()) {
            (Some(over_ms), can_renew) if self.is_overdue(cx, slot, over_ms) || !can_renew && !is_asking => {
                return Err(EXPIRED);
            }
            (_, true) | (Some(_), false) if is_asking => self.wheel.set(slot, cx.now + AGAIN),
            (_, true) => {
                let place = self.rechecks.enter(slot, cx.now);
                self.asking.insert(slot, Asking::InLine(place));
                self.wheel.set(slot, cx.now + AGAIN);
                self.recheck_some(cx);
            }
            (None, false) => {
                let notice = cx.config.auth.as_ref().map(|auth| auth.expiry_notice).unwrap_or_default();
                let left_ms = who.expires_ms.map_or(u64::MAX, |at| at - now_ms);
                if u128::from(left_ms) > notice.as_millis() {
                    // Clocks are set.
                    self.set_timer(cx, slot);
                    return Ok(());
                }
                let reason = "the credential expires soon: renew it by AUTH";
                cx.reply(slot, |out| reply::error(out, ErrorCode::TokenExpiring, reason, None, None));
                if let Some(expires) = self.expires(cx, slot) {
                    self.wheel.set(slot, expires);
                }
            }
            (Some(_), false) => return Err(EXPIRED),
        }
        Ok(())
    }

    /// Whether its credential has been over for too long, although it may be renewed. Time in line does not count, because it passed for
    /// our own sake, unless nothing can be found out of anybody.
    fn is_overdue(&self, cx: &Context, slot: u32, over_ms: u64) -> bool {
        let over = Duration::from_millis(over_ms);
        let in_line = match self.asking.get(&slot) {
            Some(Asking::InLine(place)) => place.waited(cx.now, over),
            _ => Duration::ZERO,
        };
        let excused = match self.rechecks.unanswered(cx.now) < GRACE {
            true => self.rechecks.waited(slot) + in_line,
            false => Duration::ZERO,
        };
        over.saturating_sub(excused) >= GRACE
    }

    /// Asks about those that are first in line.
    fn recheck_some(&mut self, cx: &Context) {
        while let Some(slot) = self.rechecks.begin(cx.now) {
            let Some(Asking::InLine(place)) = self.asking.insert(slot, Asking::Renewal(cx.now)) else {
                unreachable!("who stands in line is noted")
            };
            let Some(who) = self.identities.get(slot) else { unreachable!("who stands in line is known") };
            let over_ms = who.expires_ms.and_then(|at| cx.unix_ms()?.checked_sub(at)).unwrap_or(0);
            let credential = who.renewal.map(Box::from).unwrap_or_default();
            self.rechecks.add_wait(slot, place.waited(cx.now, Duration::from_millis(over_ms)));
            let (conn, source, head) = (cx.slots.id(slot), Source::Renewal, Box::default());
            self.asks.push(Ask { conn, source, credential, head, has_origin: false });
        }
    }

    /// Its credential is not looked at any more, and does not wait for that.
    pub(super) fn take_asking(&mut self, slot: u32) -> Option<Asking> {
        let asking = take_of(&mut self.asking, slot)?;
        match asking {
            Asking::InLine(place) => self.rechecks.leave(place),
            Asking::Renewal(_) => self.rechecks.ended(),
            Asking::Upgrade(_) | Asking::Command(_) => {}
        }
        Some(asking)
    }

    /// Credentials that count no more. The connections that came by one of them end at once, or, where they are many, in this turn and the
    /// next ones.
    pub fn set_bans(&mut self, cx: &Context, bans: &Arc<Bans>) {
        self.bans = Arc::clone(bans);
        self.awaits_bans = false;
        self.review_from = Some(0);
        self.review_some(cx);
    }

    /// Takes one of the connections that have been found to end because of that.
    pub fn next_overdue(&mut self, cx: &mut Context) -> Option<(u32, CloseReason<'static>)> {
        if let Some(banned) = self.banned.pop() {
            return Some(banned);
        }
        while let Some(slot) = self.overdue.pop() {
            // Whose credential is known has nothing to say that could matter.
            if cx.slots.get(slot).phase == Phase::Open
                && let Err(reason) = self.timer(cx, slot, &mut |_| false)
            {
                return Some((slot, reason));
            }
        }
        None
    }

    /// Whether it has yet to be told who is banned.
    pub fn awaits_bans(&self) -> bool {
        self.awaits_bans
    }

    /// It is so late. If that is another time than it was thought to be, credentials end earlier or later.
    pub fn set_clock(&mut self, cx: &mut Context, unix_ms: u64) {
        let thought_ms = cx.unix_ms();
        cx.wall_clock.set(cx.now, unix_ms);
        if thought_ms.is_some_and(|thought_ms| thought_ms.abs_diff(unix_ms) > CLOCK_SLACK_MS) {
            (self.review_from, self.reviews_timers) = (Some(0), true);
            self.review_some(cx);
        }
    }

    /// Looks at some of the connections that have to be looked at.
    fn review_some(&mut self, cx: &Context) {
        let Some(from) = self.review_from else { return };
        let now_ms = cx.unix_ms().unwrap_or(0);
        let end = self.identities.end();
        let mut at = from;
        while at < end && at < from.saturating_add(REVIEWS_PER_TURN) && self.banned.len() < REVIEW_ENDS_PER_TURN {
            let slot = at;
            at += 1;
            let Some(who) = self.identities.get(slot) else { continue };
            if let Err(denied) = self.bans.verdict(who.facts(), now_ms) {
                self.banned.push((slot, ended(denied)));
            } else if self.reviews_timers {
                self.correct_timer(cx, slot);
            }
        }
        self.review_from = (at < end).then_some(at);
        self.reviews_timers &= self.review_from.is_some();
    }
}

/// Up to an eighth less, and otherwise for each slot, so that connections that came together do not all ask at the same time.
fn spread(recheck: Duration, slot: u32) -> Duration {
    // Multiples of the golden ratio keep apart from each other (Knuth, TAOCP vol. 3, 6.4).
    let part = slot.wrapping_mul(0x9E37_79B9) >> 16;
    recheck - recheck / 8 * part / (1 << 16)
}
