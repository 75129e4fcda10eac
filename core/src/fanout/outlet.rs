//! The order in which a turn writes: the rest of queues first, then what goes to one connection alone, then what goes to many. What
//! is put together of these comes last.

use super::FanOut;
use super::coalesced::Coalesced;
use super::delivery::{Delivery, Laggards, Source};
use super::run::Runs;
use crate::id::ConnId;
use crate::metrics::Metrics;
use crate::rules::Slow;
use crate::slots::{Slots, mark};
use std::ops::Range;

/// What was queued goes before what is new, and private streams before runs, so that a SUBSCRIBED precedes the first message. A
/// connection that gets more than one of them is passed over. It comes last, and gets all of it in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Flush,
    Streams,
    Runs,
    Coalesced,
    Done,
}

/// Which delivery comes next: chosen without a borrow, so that the delivery itself can hold one.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Flush(usize),
    Stream(usize),
    Run(usize),
    Coalesced(Range<usize>),
}

/// A queue is gathered into writes of at most this many bytes: about what a default socket buffer takes at once.
const FLUSH_BYTES_MAX: usize = 64 * 1024;
/// How many bytes of queues a turn writes, and in how many writes: a millisecond's work. Bounded, because all sockets may become
/// writable at once, or fail at once and have to be closed. The others come in the next turn.
const FLUSHED_BYTES_MAX: usize = 1024 * 1024;
const FLUSHES_MAX: usize = 64;

/// How far a turn's writing is.
#[derive(Debug)]
pub(crate) struct Outlet {
    stage: Stage,
    /// The next item of the stage.
    at: usize,
    /// In `Stage::Flush`: how much of the gathered queue was taken.
    taken: usize,
    /// How many queues have been gathered, and their bytes.
    flushed: (usize, usize),
    /// In `Stage::Runs`: what those get who do not keep up with the run's room. It stands here, because a delivery is moved.
    laggards: Option<Laggards>,
    /// In `Stage::Coalesced`: who is written to.
    target: ConnId,
}

impl Outlet {
    pub fn new() -> Outlet {
        let target = ConnId::from_bits(0);
        Outlet { stage: Stage::Flush, at: 0, taken: 0, flushed: (0, 0), laggards: None, target }
    }

    /// The delivery of this step.
    #[inline(always)]
    pub fn delivery<'a>(
        &'a mut self,
        step: Step,
        fanout: &'a mut FanOut,
        slots: &'a mut Slots,
        metrics: &'a mut Metrics,
    ) -> Delivery<'a> {
        let FanOut { audiences, backlog, writable, runs, streams, coalesced, gathered, gone, fallen, .. } = fanout;
        let (bytes, targets, source) = match step {
            Step::Flush(index) => {
                (&gathered[..], std::slice::from_ref(&writable[index]), Source::Queue(&mut self.taken))
            }
            Step::Stream(index) => {
                let stream = &streams.all()[index];
                (stream.bytes(runs, gathered), std::slice::from_ref(&stream.conn), Source::Stream)
            }
            Step::Run(index) => {
                let (key, one_of_several) = (runs.due()[index], runs.due().len() > 1);
                let run = runs.get(key);
                let audience = audiences.get(run.room);
                let group = audience.group_at(run.group);
                let laggards = match audience.slow {
                    Slow::Close => None,
                    slow => laggards(slow, runs, key).map(|laggards| (self.laggards.insert(laggards), fallen)),
                };
                let source = Source::Run { run: index as u32, one_of_several, coalesced, laggards };
                (runs.part(key), &group.members()[..group.full as usize], source)
            }
            Step::Coalesced(pieces) => {
                let bytes = coalesced.bytes(pieces.clone(), streams, runs, slots, gathered);
                (bytes, std::slice::from_ref(&self.target), Source::Coalesced { pieces, coalesced, runs })
            }
        };
        Delivery { bytes, targets, next: 0, put_off: 0, source, slots, backlog, metrics, gone }
    }

    /// The next delivery, or `None` when all has been written.
    #[inline(always)]
    pub fn step(&mut self, fanout: &mut FanOut, slots: &mut Slots) -> Option<Step> {
        loop {
            let at = self.at;
            match self.stage {
                Stage::Flush => match self.step_flush(fanout, slots) {
                    Some(step) => return Some(step),
                    None => {
                        if self.at > 0 {
                            fanout.writable.drain(..self.at);
                        }
                        self.enter(Stage::Streams);
                    }
                },
                Stage::Streams if at < fanout.streams.all().len() => {
                    self.at += 1;
                    if !fanout.streams.all()[at].is_empty() && !put_off_stream(fanout, slots, at) {
                        return Some(Step::Stream(at));
                    }
                }
                Stage::Streams => self.enter(Stage::Runs),
                Stage::Runs if at < fanout.runs.due().len() => {
                    self.at += 1;
                    return Some(Step::Run(at));
                }
                Stage::Runs => {
                    fanout.coalesced.sort();
                    self.enter(Stage::Coalesced);
                }
                Stage::Coalesced => match fanout.coalesced.next(at) {
                    Some((slot, pieces)) => {
                        self.at = pieces.end;
                        self.target = slots.id(slot);
                        slots.unmark(slot, mark::JOINED);
                        return Some(Step::Coalesced(pieces));
                    }
                    None => self.enter(Stage::Done),
                },
                Stage::Done => return None,
            }
        }
    }

    fn enter(&mut self, stage: Stage) {
        self.stage = stage;
        self.at = 0;
    }

    /// Gathers the next part of a queue whose socket is writable again.
    fn step_flush(&mut self, fanout: &mut FanOut, slots: &mut Slots) -> Option<Step> {
        if !fanout.gathered.is_empty() {
            let conn = fanout.writable[self.at];
            let all = self.taken == fanout.gathered.len();
            if let Some(slot) = slots.slot(conn) {
                fanout.backlog.advance(slots, slot, self.taken);
            }
            fanout.gathered.clear();
            if !all {
                self.at += 1;
            }
        }
        let (flushes, bytes) = self.flushed;
        if flushes >= FLUSHES_MAX || bytes >= FLUSHED_BYTES_MAX {
            return None;
        }
        while let Some(conn) = fanout.writable.get(self.at) {
            let slot = slots.slot(*conn).filter(|slot| !slots.is_marked(*slot, mark::GONE));
            if let Some(slot) = slot {
                fanout.backlog.peek(slots, slot, FLUSH_BYTES_MAX, &mut fanout.gathered);
                if !fanout.gathered.is_empty() {
                    self.taken = fanout.gathered.len();
                    self.flushed = (flushes + 1, bytes + self.taken);
                    return Some(Step::Flush(self.at));
                }
                fanout.emptied.push(slot);
            }
            self.at += 1;
        }
        None
    }
}

/// What members get who do not keep up with this run's room, where it is not the run.
#[cold]
fn laggards(slow: Slow, runs: &Runs, run: u32) -> Option<Laggards> {
    let from = match slow {
        Slow::Close => return None,
        Slow::CatchUp => Some(runs.first_place(run)?),
        Slow::Latest => None,
    };
    Some(Laggards { room: runs.get(run).room, from, newest: None })
}

/// Whether this stream waits for the runs of its connection's rooms.
fn put_off_stream(fanout: &mut FanOut, slots: &mut Slots, index: usize) -> bool {
    let FanOut { audiences, runs, streams, coalesced, .. } = fanout;
    let Some(slot) = slots.slot(streams.all()[index].conn).filter(|_| !runs.due().is_empty()) else { return false };
    if slots.is_marked(slot, mark::HELD_UP) || !Coalesced::is_worth_waiting(slots, audiences, runs, slot) {
        return false;
    }
    slots.mark(slot, mark::JOINED);
    coalesced.push_stream(slot);
    true
}
