//! Messages that wait until somebody has decided about them, within bounds. Those of one connection to one room are published in the order in
//! which they were sent, and each is asked about at once. What becomes of them stands in `decisions.rs`.

use crate::close::CloseReason;
use crate::config::Config;
use crate::context::Context;
use crate::hash::Seeded;
use crate::hub::{Hub, Publication};
use crate::id::ConnId;
use crate::proposal::ProposalId;
use crate::protocol::{CommandId, ErrorCode};
use hashbrown::HashMap;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// What a message is counted with beside its texts: its place in the line. So the bound of bytes is one of number as well.
const PLACE_BYTES: usize = 512;

/// All that wait, by connection.
#[derive(Debug)]
pub(super) struct Proposals {
    lines: HashMap<ConnId, Line, Seeded>,
    /// Whose hook has not been asked yet.
    pub unasked: Vec<ProposalId>,
    count: usize,
    bytes: usize,
    next: u64,
    bytes_max: usize,
    total_bytes_max: usize,
    /// Whether a rule asks for any.
    are_wanted: bool,
}

/// The messages of one connection, in the order in which they were sent.
#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<Waiting>,
    bytes: usize,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Waiting {
    number: u64,
    pub hook: Arc<str>,
    pub id: Option<CommandId>,
    pub room: Box<str>,
    /// As it was sent, or what it has become.
    pub message: Box<str>,
    pub echo: bool,
    pub store: bool,
    pub key: Option<Box<str>>,
    pub user: Option<Box<str>>,
    pub verdict: Option<Decided>,
    cost: usize,
}

/// What was decided about one.
#[derive(Debug)]
pub(super) enum Decided {
    Allowed,
    Refused(Box<str>),
    Unavailable,
}

impl Proposals {
    pub fn new(config: &Config) -> Proposals {
        Proposals {
            lines: HashMap::with_hasher(Seeded::new(config.seed)),
            unasked: Vec::new(),
            count: 0,
            bytes: 0,
            next: 0,
            bytes_max: config.limits.deferred_bytes_max,
            total_bytes_max: config.limits.deferred_total_bytes_max,
            are_wanted: config.rules.have_hooks(),
        }
    }

    /// Whether anybody is asked before messages are published.
    #[inline]
    pub fn are_wanted(&self) -> bool {
        self.are_wanted
    }

    /// Publishes a message, once somebody has agreed where the room's rule wants that.
    ///
    /// # Errors
    /// It cannot be, and the client's dialect has no word for that.
    pub fn publish(
        &mut self,
        hub: &mut Hub,
        cx: &mut Context,
        slot: u32,
        room: &str,
        said: &Publication<'_>,
        id: Option<CommandId>,
    ) -> Result<(), CloseReason<'static>> {
        let rule = if self.are_wanted { hub.rule_for(cx, slot, room) } else { None };
        let Some((rule, hook)) = rule.and_then(|rule| Some((rule, rule.before_publish.clone()?))) else {
            return hub.publish(cx, slot, room, said, id);
        };
        if said.key.is_some() && rule.stores().filter(|_| said.store).is_none() {
            // It is refused there, whoever agrees.
            return hub.publish(cx, slot, room, said, id);
        }
        self.propose(cx, (slot, hook), room, said, id)
    }

    #[cold]
    fn propose(
        &mut self,
        cx: &mut Context,
        (slot, hook): (u32, Arc<str>),
        room: &str,
        said: &Publication<'_>,
        id: Option<CommandId>,
    ) -> Result<(), CloseReason<'static>> {
        let waiting = Waiting {
            number: 0,
            hook,
            id,
            room: room.into(),
            message: said.message.into(),
            echo: said.except.is_none(),
            store: said.store,
            key: said.key.map(Into::into),
            user: said.signed.and_then(|(user, _)| user).map(Into::into),
            verdict: None,
            cost: 0,
        };
        let Err(id) = self.push(cx.slots.id(slot), waiting) else {
            cx.metrics.proposals += 1;
            return Ok(());
        };
        cx.metrics.proposals_busy += 1;
        let reason = "too many messages wait to be looked at; this one was not published";
        cx.refuse(slot, ErrorCode::HookBusy, reason, id.as_ref(), Some(room));
        match cx.slots.get(slot).dialect.has_replies() {
            true => Ok(()),
            false => Err(CloseReason::TryAgainLater("too many messages wait to be looked at")),
        }
    }

    pub fn len(&self) -> usize {
        self.count
    }

    /// The connections of which any wait.
    pub fn conns(&self) -> impl Iterator<Item = ConnId> {
        self.lines.keys().copied()
    }

    /// Puts a message into the line of its connection; its id comes back if that would be too much. One of each connection, and one in all, may
    /// always wait.
    fn push(&mut self, conn: ConnId, mut waiting: Waiting) -> Result<(), Option<CommandId>> {
        let Waiting { room, message, key, user, .. } = &waiting;
        let texts = [Some(room), Some(message), key.as_ref(), user.as_ref()];
        let cost = texts.into_iter().flatten().map(|text| text.len()).sum::<usize>() + PLACE_BYTES;
        let of_line = self.lines.get(&conn).map_or(0, |line| line.bytes);
        let fits = |bytes: usize, bytes_max: usize| bytes == 0 || bytes + cost <= bytes_max;
        if !fits(of_line, self.bytes_max) || !fits(self.bytes, self.total_bytes_max) {
            return Err(waiting.id);
        }
        (waiting.number, waiting.cost) = (self.next, cost);
        self.next += 1;
        self.count += 1;
        self.bytes += cost;
        self.unasked.push(ProposalId { conn, number: waiting.number });
        let line = self.lines.entry(conn).or_default();
        line.bytes += cost;
        line.waiting.push_back(waiting);
        Ok(())
    }

    pub fn get(&self, ProposalId { conn, number }: ProposalId) -> Option<&Waiting> {
        let line = &self.lines.get(&conn)?.waiting;
        line.get(line.binary_search_by_key(&number, |waiting| waiting.number).ok()?)
    }

    pub fn get_mut(&mut self, ProposalId { conn, number }: ProposalId) -> Option<&mut Waiting> {
        let line = &mut self.lines.get_mut(&conn)?.waiting;
        let at = line.binary_search_by_key(&number, |waiting| waiting.number).ok()?;
        line.get_mut(at)
    }

    /// Takes the first message of a connection about which has been decided, and about all before it that go to the same room.
    pub fn take_decided(&mut self, conn: ConnId) -> Option<Waiting> {
        let line = self.lines.get_mut(&conn)?;
        let mut held = BTreeSet::new();
        let at = line.waiting.iter().position(|waiting| {
            let is_next = waiting.verdict.is_some() && !held.contains(&*waiting.room);
            if !is_next {
                held.insert(&*waiting.room);
            }
            is_next
        })?;
        let taken = line.waiting.remove(at)?;
        line.bytes -= taken.cost;
        self.bytes -= taken.cost;
        self.count -= 1;
        if line.waiting.is_empty() {
            self.lines.remove(&conn);
        }
        Some(taken)
    }

    pub fn check_invariants(&self) {
        let costs = |line: &Line| line.waiting.iter().map(|waiting| waiting.cost).sum::<usize>();
        assert!(self.lines.values().all(|line| !line.waiting.is_empty() && line.bytes == costs(line)));
        let count = self.lines.values().map(|line| line.waiting.len()).sum::<usize>();
        let bytes = self.lines.values().map(|line| line.bytes).sum::<usize>();
        assert_eq!((count, bytes), (self.count, self.bytes), "messages that wait for a decision");
        assert!(self.unasked.iter().all(|id| self.get(*id).is_some()), "nothing is asked about what is gone");
        for line in self.lines.values() {
            // Whatever is first among those to its room waits for nothing but its decision.
            let mut rooms = BTreeSet::new();
            let firsts = line.waiting.iter().filter(|waiting| rooms.insert(&*waiting.room));
            assert!(firsts.into_iter().all(|waiting| waiting.verdict.is_none()), "what is decided does not wait");
        }
    }
}
