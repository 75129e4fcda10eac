//! What becomes of messages that wait until somebody has decided about them.

use super::proposals::{Decided, Waiting};
use super::{Session, Verdict};
use crate::close::CloseReason;
use crate::context::Context;
use crate::hub::{Hub, Publication};
use crate::id::ConnId;
use crate::proposal::{Decision, Proposal, ProposalId};
use crate::protocol::ErrorCode;
use crate::slots::{Phase, Slots};
use serde_json::value::RawValue;

/// Of a reason of somebody else's that a client is told.
const REASON_CHARS_MAX: usize = 200;

impl Session {
    /// About how many messages somebody is to be asked in this turn.
    #[inline]
    pub fn proposals(&self) -> usize {
        self.proposals.unasked.len()
    }

    /// One of them.
    pub fn proposal(&self, index: usize) -> Option<Proposal<'_>> {
        let id = *self.proposals.unasked.get(index)?;
        let Waiting { hook, room, message, user, .. } = self.proposals.get(id)?;
        Some(Proposal { id, hook, conn: id.conn, user: user.as_deref(), room, message })
    }

    /// Forgets the first `done` of that list.
    pub fn forget_proposals(&mut self, done: usize) {
        self.proposals.unasked.drain(..done);
    }

    /// The connections whose messages wait for a decision, of those that can be told what becomes of them.
    pub fn proposers(&self, slots: &Slots) -> impl Iterator<Item = u32> {
        let open = self.proposals.conns().filter_map(|conn| slots.listener(conn));
        open.filter(|slot| slots.get(*slot).dialect.has_replies())
    }

    /// Somebody has decided about a message. An id that is not known is passed over.
    pub fn decide(&mut self, cx: &Context, proposal: ProposalId, decision: Decision<'_>) {
        let bytes_max = cx.config.limits.message_bytes_max;
        let Some(waiting) = self.proposals.get_mut(proposal).filter(|waiting| waiting.verdict.is_none()) else {
            return;
        };
        waiting.verdict = Some(match decision {
            Decision::Allow => Decided::Allowed,
            Decision::Alter(message) if message.len() <= bytes_max && is_json(message) => {
                waiting.message = message.into();
                Decided::Allowed
            }
            Decision::Refuse(reason) => Decided::Refused(reason.chars().take(REASON_CHARS_MAX).collect()),
            Decision::Alter(_) | Decision::Unavailable => Decided::Unavailable,
        });
        if !self.proposals.unasked.is_empty() {
            self.proposals.unasked.retain(|unasked| *unasked != proposal);
        }
    }

    /// Publishes or refuses the next message of this connection that waits for no decision any more; nothing, if there is none. What is
    /// said by a connection that has ended is published by `absent`, the slot of nobody who could be told anything.
    ///
    /// # Errors
    /// The connection has to end.
    pub fn settle(&mut self, hub: &mut Hub, cx: &mut Context, conn: ConnId, absent: u32) -> Option<Verdict> {
        let Waiting { id, room, message, echo, store, key, user, verdict, .. } = self.proposals.take_decided(conn)?;
        let open = cx.slots.slot(conn).filter(|slot| cx.slots.get(*slot).phase == Phase::Open);
        let refused = match verdict? {
            Decided::Allowed => {
                let except = (!echo).then_some(conn).filter(|_| open.is_some());
                let signed = cx.config.auth.is_some().then(|| (user.as_deref(), cx.unix_ms()));
                let said = Publication { message: &message, except, store, key: key.as_deref(), signed };
                let id = id.filter(|_| open.is_some());
                return Some(hub.publish(cx, open.unwrap_or(absent), &room, &said, id));
            }
            Decided::Refused(reason) => {
                cx.metrics.proposals_refused += 1;
                (ErrorCode::Refused, reason, CloseReason::Forbidden("this message was refused"))
            }
            Decided::Unavailable => {
                cx.metrics.proposals_undecided += 1;
                let reason = "nobody can look at this message at the moment; it was not published";
                (ErrorCode::HookUnavailable, reason.into(), CloseReason::TryAgainLater("nobody can look at messages"))
            }
        };
        let (Some(slot), (code, reason, close)) = (open, refused) else { return Some(Ok(())) };
        cx.refuse(slot, code, &reason, id.as_ref(), Some(&room));
        Some(if cx.slots.get(slot).dialect.has_replies() { Ok(()) } else { Err(close) })
    }
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text).is_ok()
}
