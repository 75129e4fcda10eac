//! What comes out of the core: actions, and the order in which a turn says them.

use crate::broker::PublishId;
use crate::core::Core;
use crate::fanout::delivery::{Delivery, Source};
use crate::fanout::joint::Joint;
use crate::hub::asks::Kind;
use crate::id::ConnId;
use crate::slots::mark;
use std::ops::Range;

/// What the adapter has to do.
///
/// Not `#[non_exhaustive]`: an adapter that passes over an action that it does not know is wrong, and so is told when it is
/// compiled. A new kind of action is a new major version.
#[derive(Debug)]
pub enum Action<'a> {
    /// Write the same bytes to each of one or many connections.
    Send(Delivery<'a>),
    /// The server sends no more on this connection: half-close the socket (send a FIN), and go on reading.
    Shutdown {
        /// Whose socket.
        conn: ConnId,
    },
    /// Close the socket, or the framework's WebSocket. The id is void from here on.
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
    /// How many queues have been gathered, and their bytes.
    flushed: (usize, usize),
    /// In `Stage::Joint`: who is written to.
    target: ConnId,
}

/// The order of a turn's actions. The broker is asked first, for it takes longest; what was queued goes before what is new,
/// and private streams before runs, so that a SUBSCRIBED precedes the first message. Whoever gets more than one of them is
/// passed over and comes last, with all of it in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Asks,
    Flush,
    Streams,
    Runs,
    Joint,
    Ends,
    Done,
}

/// Which action comes next: chosen without a borrow, so that the action itself can hold one.
#[derive(Clone, Debug)]
enum Step {
    Ask(usize),
    Flush(usize),
    Stream(usize),
    Run(usize),
    Joint(Range<usize>),
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
/// Queues are written until they were so many bytes in a turn, or so many writes, for as many sockets may be writable at once as there
/// are; or all of them have failed, and have to be closed. A millisecond's work; the others come in the next turn.
const FLUSHED_BYTES_MAX: usize = 1024 * 1024;
const FLUSHES_MAX: usize = 64;

impl<'c> Actions<'c> {
    pub(crate) fn new(core: &'c mut Core) -> Actions<'c> {
        Actions { core, stage: Stage::Asks, at: 0, taken: 0, flushed: (0, 0), target: ConnId::from_bits(0) }
    }

    /// The next action, or `None` when the turn is over.
    #[expect(
        clippy::should_implement_trait,
        reason = "an action borrows from the iterator, which `Iterator` cannot say"
    )]
    pub fn next(&mut self) -> Option<Action<'_>> {
        let step = self.step()?;
        let core = &mut *self.core;
        let (bytes, targets, source) = match step {
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
                (&core.gathered[..], std::slice::from_ref(&core.writable[index]), Source::Queue(&mut self.taken))
            }
            Step::Stream(index) => {
                let stream = &core.streams.all()[index];
                (stream.bytes(&core.runs, &mut core.gathered), std::slice::from_ref(&stream.conn), Source::Stream)
            }
            Step::Run(index) => {
                let (key, one_of_several) = (core.runs.due()[index], core.runs.due().len() > 1);
                let run = core.runs.get(key);
                let group = core.rooms.get(run.room).group_at(run.group);
                let source = Source::Run { run: index as u32, one_of_several, joint: &mut core.joint };
                (core.runs.part(key), &group.members()[..group.full as usize], source)
            }
            Step::Joint(pieces) => {
                let Core { joint, streams, runs, conns, gathered, .. } = core;
                let bytes = joint.bytes(pieces.clone(), streams, runs, conns, gathered);
                (bytes, std::slice::from_ref(&self.target), Source::Joint { pieces, joint, runs })
            }
        };
        Some(Action::Send(Delivery {
            bytes,
            targets,
            next: 0,
            put_off: 0,
            source,
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
                    None => {
                        self.core.writable.drain(..self.at);
                        self.enter(Stage::Streams);
                    }
                },
                Stage::Streams if at < self.core.streams.all().len() => {
                    self.at += 1;
                    if !self.core.streams.all()[at].is_empty() && !self.put_off_stream(at) {
                        return Some(Step::Stream(at));
                    }
                }
                Stage::Streams => self.enter(Stage::Runs),
                Stage::Runs if at < self.core.runs.due().len() => {
                    self.at += 1;
                    return Some(Step::Run(at));
                }
                Stage::Runs => {
                    self.core.joint.sort();
                    self.enter(Stage::Joint);
                }
                Stage::Joint => match self.core.joint.next(at) {
                    Some((slot, pieces)) => {
                        self.at = pieces.end;
                        self.target = self.core.conns.id(slot);
                        self.core.conns.unmark(slot, mark::JOINED);
                        return Some(Step::Joint(pieces));
                    }
                    None => {
                        self.core.settle();
                        self.enter(Stage::Ends);
                    }
                },
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

    /// Whether this stream waits for the runs of its connection's rooms.
    fn put_off_stream(&mut self, index: usize) -> bool {
        let Core { conns, rooms, runs, streams, joint, .. } = &mut *self.core;
        let Some(slot) = conns.slot(streams.all()[index].conn).filter(|_| !runs.due().is_empty()) else { return false };
        if conns.is_marked(slot, mark::HELD_UP) || !Joint::is_worth_waiting(conns, rooms, runs, slot) {
            return false;
        }
        conns.mark(slot, mark::JOINED);
        joint.push_stream(slot);
        true
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
        let (flushes, bytes) = self.flushed;
        if flushes >= FLUSHES_MAX || bytes >= FLUSHED_BYTES_MAX {
            return None;
        }
        while let Some(conn) = core.writable.get(self.at) {
            let slot = core.conns.slot(*conn).filter(|slot| !core.conns.is_marked(*slot, mark::GONE));
            if let Some(slot) = slot {
                core.backlog.peek(&core.conns, slot, FLUSH_BYTES_MAX, &mut core.gathered);
                if !core.gathered.is_empty() {
                    self.taken = core.gathered.len();
                    self.flushed = (flushes + 1, bytes + self.taken);
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
