//! What comes out of the core: actions, and deliveries whose targets are read in place.

use crate::broker::PublishId;
use crate::conn::{Conns, NONE, mark};
use crate::core::Core;
use crate::event::ConnId;
use crate::hub::asks::Kind;
use crate::hub::outbox::Backlog;
use crate::metrics::Metrics;

/// What the adapter has to do.
#[derive(Debug)]
pub enum Action<'a> {
    /// Write the same bytes to each of one or many connections.
    Send(Delivery<'a>),
    /// The server sends no more on this connection: half-close the socket (send a FIN), and go on reading.
    Shutdown {
        /// Whose socket.
        conn: ConnId,
    },
    /// Close the socket. The id is void from here on.
    Close {
        /// Whose socket.
        conn: ConnId,
    },
    /// Publish to a room. If there is an id, exactly one `Published` or `PublishFailed` with it must come back.
    Publish {
        /// The room.
        room: &'a str,
        /// What to publish, to the letter.
        payload: &'a [u8],
        /// Set where somebody waits for the outcome.
        id: Option<PublishId>,
    },
    /// Subscribe to a room.
    Subscribe {
        /// The room.
        room: &'a str,
    },
    /// Unsubscribe from a room.
    Unsubscribe {
        /// The room.
        room: &'a str,
    },
}

/// One run of whole frames and its targets.
///
/// Read the targets one by one, write [`Delivery::bytes`] to each, and report the ones that did not take all of it before
/// asking for the next. A target about which nothing is said took everything. Targets that are not read when the delivery is
/// dropped count as having taken nothing.
#[derive(Debug)]
pub struct Delivery<'a> {
    bytes: &'a [u8],
    targets: &'a [ConnId],
    next: usize,
    /// Where `bytes` are kept, once somebody did not take them all.
    stored: u32,
    /// Set where `bytes` are the start of the target's own queue: how many of them it took.
    taken: Option<&'a mut usize>,
    conns: &'a mut Conns,
    backlog: &'a mut Backlog,
    metrics: &'a mut Metrics,
    gone: &'a mut Vec<u32>,
}

impl<'a> Delivery<'a> {
    /// Whole frames, one or many, the same for every target.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The next connection to write to. Members that lag are not named: what is new has gone behind their queue.
    #[inline]
    pub fn next_target(&mut self) -> Option<ConnId> {
        loop {
            let conn = *self.targets.get(self.next)?;
            self.next += 1;
            if self.conns.marks(conn) == 0 || self.taken.is_some() {
                return Some(conn);
            }
            self.queue(conn, 0);
        }
    }

    /// The socket took only the first `written` bytes. An [`Event::Writable`](crate::Event::Writable) must follow when it
    /// takes more. To say that it took all of them is the same as silence.
    pub fn short(&mut self, conn: ConnId, written: usize) {
        if written >= self.bytes.len() {
            return;
        }
        match &mut self.taken {
            Some(taken) => **taken = written,
            None => self.queue(conn, written),
        }
    }

    /// The socket failed. No further action names the connection, and its id is void when this turn has been drained.
    pub fn gone(&mut self, conn: ConnId) {
        if let Some(slot) = self.conns.slot(conn) {
            self.conns.mark(slot, mark::GONE);
            self.gone.push(slot);
        }
    }

    #[cold]
    fn queue(&mut self, conn: ConnId, written: usize) {
        let slot = conn.slot() as u32;
        if self.conns.is_marked(slot, mark::DOOMED | mark::GONE) {
            return;
        }
        if self.stored == NONE {
            if self.backlog.is_over_budget() {
                // Nothing more is kept before someone's queue has been cut, which is done at the end of the turn.
                return self.backlog.doom_unkept(self.conns, slot, self.bytes, written);
            }
            self.stored = self.backlog.store(self.bytes);
        }
        self.backlog.push(self.conns, slot, self.stored, written);
    }
}

impl Drop for Delivery<'_> {
    fn drop(&mut self) {
        while let Some(conn) = self.next_target() {
            self.short(conn, 0);
        }
        if self.taken.is_none() {
            self.metrics.bytes_out += (self.bytes.len() * self.targets.len()) as u64;
        }
    }
}

/// The actions of one turn: a lending iterator. Each action must be carried out before the next is asked for.
///
/// Dropped before its end, it keeps what it has to say: asks and closes come with the next turn's actions, and what was to be
/// sent is queued as if nothing had been written.
#[must_use = "a turn's actions have to be carried out"]
#[derive(Debug)]
pub struct Actions<'c> {
    core: &'c mut Core,
    stage: Stage,
    /// The next item of the stage.
    at: usize,
    /// In `Stage::Flush`: how much of the gathered queue was taken.
    taken: usize,
}

/// The order of a turn's actions. The broker is asked first, for it takes longest; what was queued goes before what is new,
/// and private streams before runs, so that a SUBSCRIBED precedes the first message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Asks,
    Flush,
    Streams,
    Runs,
    Ends,
    Done,
}

/// Which action comes next: chosen without a borrow, so that the action itself can hold one.
#[derive(Clone, Copy, Debug)]
enum Step {
    Ask(usize),
    Flush(usize),
    Stream(usize),
    Run(usize),
    End(usize),
}

/// How a connection's socket ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Shutdown(ConnId),
    Close(ConnId),
}

/// A queue is gathered into writes of at most this many bytes: about what a default socket buffer takes at once.
const FLUSH_BYTES_MAX: usize = 64 * 1024;

impl<'c> Actions<'c> {
    pub(crate) fn new(core: &'c mut Core) -> Actions<'c> {
        Actions { core, stage: Stage::Asks, at: 0, taken: 0 }
    }

    /// The next action, or `None` when the turn is over.
    #[expect(
        clippy::should_implement_trait,
        reason = "an action borrows from the iterator, which `Iterator` cannot say"
    )]
    pub fn next(&mut self) -> Option<Action<'_>> {
        let step = self.step()?;
        let core = &mut *self.core;
        let (bytes, targets, taken) = match step {
            Step::Ask(index) => {
                let ask = core.asks.get(index).expect("the step is within the list");
                return Some(match ask.kind {
                    Kind::Subscribe => Action::Subscribe { room: ask.room },
                    Kind::Unsubscribe => Action::Unsubscribe { room: ask.room },
                    Kind::Publish(id) => Action::Publish { room: ask.room, payload: ask.payload, id },
                });
            }
            Step::End(index) => {
                return Some(match core.ends[index] {
                    End::Shutdown(conn) => Action::Shutdown { conn },
                    End::Close(conn) => Action::Close { conn },
                });
            }
            Step::Flush(index) => {
                (&core.gathered[..], std::slice::from_ref(&core.writable[index]), Some(&mut self.taken))
            }
            Step::Stream(index) => {
                let stream = &core.streams.all()[index];
                (stream.bytes(&core.runs, &mut core.gathered), std::slice::from_ref(&stream.conn), None)
            }
            Step::Run(index) => {
                let run = &core.runs.all()[index];
                let group = core.rooms.get(run.room).group_at(run.group);
                (&run.bytes[..], &group.members()[..group.full as usize], None)
            }
        };
        Some(Action::Send(Delivery {
            bytes,
            targets,
            next: 0,
            stored: NONE,
            taken,
            conns: &mut core.conns,
            backlog: &mut core.backlog,
            metrics: &mut core.metrics,
            gone: &mut core.gone,
        }))
    }

    fn step(&mut self) -> Option<Step> {
        loop {
            let at = self.at;
            match self.stage {
                Stage::Asks if at < self.core.asks.len() => {
                    self.at += 1;
                    return Some(Step::Ask(at));
                }
                Stage::Asks => {
                    self.core.asks.clear(at);
                    self.enter(Stage::Flush);
                }
                Stage::Flush => match self.step_flush() {
                    Some(step) => return Some(step),
                    None => self.enter(Stage::Streams),
                },
                Stage::Streams if at < self.core.streams.all().len() => {
                    self.at += 1;
                    if !self.core.streams.all()[at].is_empty() {
                        return Some(Step::Stream(at));
                    }
                }
                Stage::Streams => self.enter(Stage::Runs),
                Stage::Runs if at < self.core.runs.all().len() => {
                    self.at += 1;
                    if !self.core.runs.all()[at].bytes.is_empty() {
                        return Some(Step::Run(at));
                    }
                }
                Stage::Runs => {
                    self.core.settle();
                    self.enter(Stage::Ends);
                }
                Stage::Ends if at < self.core.ends.len() => {
                    self.at += 1;
                    return Some(Step::End(at));
                }
                Stage::Ends => {
                    self.core.forget_ended(at);
                    self.enter(Stage::Done);
                }
                Stage::Done => return None,
            }
        }
    }

    fn enter(&mut self, stage: Stage) {
        self.stage = stage;
        self.at = 0;
    }

    /// Gathers the next part of a queue whose socket is writable again.
    fn step_flush(&mut self) -> Option<Step> {
        let core = &mut *self.core;
        if !core.gathered.is_empty() {
            let conn = core.writable[self.at];
            let all = self.taken == core.gathered.len();
            if let Some(slot) = core.conns.slot(conn) {
                core.backlog.advance(&mut core.conns, slot, self.taken);
            }
            core.gathered.clear();
            if !all {
                self.at += 1;
            }
        }
        while let Some(conn) = core.writable.get(self.at) {
            let slot = core.conns.slot(*conn).filter(|slot| !core.conns.is_marked(*slot, mark::GONE));
            if let Some(slot) = slot {
                core.backlog.peek(&core.conns, slot, FLUSH_BYTES_MAX, &mut core.gathered);
                if !core.gathered.is_empty() {
                    self.taken = core.gathered.len();
                    return Some(Step::Flush(self.at));
                }
                core.touched.push(slot);
            }
            self.at += 1;
        }
        None
    }
}

impl Drop for Actions<'_> {
    fn drop(&mut self) {
        if self.stage == Stage::Asks {
            self.core.asks.clear(self.at);
            self.enter(Stage::Flush);
        }
        // What `next` hands out below nobody carries out.
        let ended = if self.stage == Stage::Ends { self.at } else { 0 };
        while !matches!(self.stage, Stage::Ends | Stage::Done) {
            drop(self.next());
        }
        if self.stage == Stage::Ends {
            self.core.forget_ended(ended);
        }
    }
}
