//! What becomes of publishes that are deferred until a SUBSCRIBE has been confirmed. Publishes are deferred because a publish and a
//! subscription may go to the broker on two ways, and the commands of one connection about one room must take effect in the order
//! in which they were sent.
//!
//! The SUBSCRIBE may be confirmed, be refused, or be undone by an UNSUBSCRIBE or the connection's end. What is deferred is
//! published then in any case, because a publish needs no membership. If the broker cannot confirm (an outage, or
//! [`DEFERRED_MAX`]), it is refused instead. A publish whose client cannot be told of a refusal is published all the same.

use super::Hub;
use super::asks::{KEYS_MAX, Kind, Sender};
use super::joins::{DEFERRED_MAX, Deferred, Join, Publish};
use super::publication::Publication;
use crate::broker::Store;
use crate::close::CloseReason;
use crate::context::Context;
use crate::history::IdempotencyKey;
use crate::protocol::command::Start;
use crate::protocol::{CommandId, ErrorCode};
use crate::rules::Rule;
use std::time::Duration;

/// What becomes of a publish whose SUBSCRIBE waits.
pub(super) enum Deferral {
    /// It goes to the broker now.
    AtOnce(Option<CommandId>),
    /// It waits, or has been refused.
    Settled,
}

impl Hub {
    /// The room, if a SUBSCRIBE of the connection for it waits.
    pub(super) fn room_waited_for(&self, cx: &Context, slot: u32, name: &str) -> Option<u32> {
        self.find_room(cx, slot, name).filter(|room| self.joins.contains(slot, *room))
    }

    /// Defers a publish behind the SUBSCRIBE for its room that waits, or refuses it.
    ///
    /// # Errors
    /// Too much is deferred, and the client's dialect has no word for that.
    #[cold]
    pub(super) fn defer(
        &mut self,
        cx: &mut Context,
        (slot, room): (u32, u32),
        said: &Publication<'_>,
        id: Option<CommandId>,
    ) -> Result<Deferral, CloseReason<'static>> {
        if self.status.is_down() {
            return Ok(self.refuse_for_an_outage(cx, (slot, room), id));
        }
        let name = &self.rooms.get(room).name;
        let stores = said.store && self.rule(cx, room).and_then(Rule::stores).is_some();
        let write = |out: &mut Vec<u8>| cx.config.write_publish(out, name, said, stores);
        let key = said.key.map(|key| (key, said.digest()));
        let Err(id) = self.joins.defer((slot, room), id, cx.now, (stores, key), write) else {
            return Ok(Deferral::Settled);
        };
        cx.metrics.publishes_failed += u64::from(id.is_some());
        let reason = "too many messages wait for the broker to confirm their room; this one was not published";
        cx.refuse(slot, ErrorCode::BrokerBusy, reason, id.as_ref(), Some(name));
        match cx.slots.get(slot).dialect.has_replies() {
            true => Ok(Deferral::Settled),
            false => Err(CloseReason::TryAgainLater("too many messages wait for the broker")),
        }
    }

    /// The SUBSCRIBE waits no more, and what is deferred behind it goes to the broker. The SUBSCRIBE, if it waited.
    pub(super) fn end_join(&mut self, cx: &mut Context, slot: u32, room: u32) -> Option<(Option<CommandId>, Start)> {
        let Join { id, start, mut deferred } = self.joins.remove(slot, room)?;
        if let Some(deferred) = &mut deferred {
            for publish in std::mem::take(&mut deferred.publishes) {
                self.publish_deferred(cx, (slot, room), publish, &deferred.bytes);
            }
        }
        Some((id, start))
    }

    /// Ends what has been deferred for so long, although nothing is known of its SUBSCRIBE.
    pub(super) fn end_deferred(&mut self, cx: &mut Context, age: Duration) {
        for (key, deferred) in self.joins.take_deferred(cx.now, age) {
            let Deferred { bytes, publishes, .. } = *deferred;
            for publish in publishes {
                if let Deferral::AtOnce(id) = self.refuse_for_an_outage(cx, key, publish.id) {
                    self.publish_deferred(cx, key, Publish { id, ..publish }, &bytes);
                }
            }
        }
    }

    /// Ends what has been deferred for too long, and what soon will have been, so that all is looked at only so often.
    pub(super) fn end_overdue(&mut self, cx: &mut Context) {
        if self.joins.deadline().is_some_and(|deadline| deadline <= cx.now) {
            self.end_deferred(cx, DEFERRED_MAX / 2);
        }
    }

    /// Refuses a publish whose SUBSCRIBE the broker cannot confirm for now, if its client can be told.
    fn refuse_for_an_outage(&mut self, cx: &mut Context, (slot, room): (u32, u32), id: Option<CommandId>) -> Deferral {
        let Some(id) = id.as_ref().filter(|_| cx.slots.get(slot).dialect.has_replies()) else {
            return Deferral::AtOnce(id);
        };
        cx.metrics.publishes_failed += 1;
        let reason = "the broker cannot confirm the SUBSCRIBE before it for now; the message was not published";
        cx.refuse(slot, ErrorCode::BrokerUnavailable, reason, Some(id), Some(&self.rooms.get(room).name));
        Deferral::Settled
    }

    fn publish_deferred(&mut self, cx: &Context, (slot, room): (u32, u32), publish: Publish, bytes: &[u8]) {
        let Publish { id, payload, store, key } = publish;
        let rule = self.rule(cx, room);
        let replicas_min = rule.map_or(0, |rule| rule.replicas_min);
        let sender = |id| Sender { conn: cx.slots.id(slot), id, at: cx.now };
        let id = id.map(|id| self.senders.push(sender(id), replicas_min));
        let name = &self.rooms.get(room).name;
        let write = |out: &mut Vec<u8>| out.extend_from_slice(&bytes[payload]);
        match rule.and_then(Rule::stores).filter(|_| store) {
            Some(retention) => {
                let text = |range: std::ops::Range<usize>| std::str::from_utf8(&bytes[range]).expect("kept from a str");
                let age_max = cx.config.history.key_age_max;
                let key =
                    key.map(|(key, digest)| IdempotencyKey { text: text(key), digest, age_max, keys_max: KEYS_MAX });
                self.asks.push_store(
                    id,
                    name,
                    (Store { retention: &retention, key, removes: None }, replicas_min),
                    write,
                );
            }
            None => self.asks.push(Kind::Publish(id, replicas_min), name, write),
        }
    }
}
