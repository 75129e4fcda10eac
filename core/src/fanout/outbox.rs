//! Slow consumers: what sockets did not take. A run that was not taken whole is kept once, with a count of the connections that
//! still need it. Each of them holds its place in it.

use super::queue::Item;
use crate::framing;
use crate::slots::{Phase, Slots, mark};
use crate::ws::{encode, handshake};
use slab::Slab;
use std::collections::VecDeque;

#[derive(Debug)]
struct Stored {
    bytes: Box<[u8]>,
    holders: u32,
}

/// What a kept run costs beyond its bytes: its entry, and an allocator's header and rounding. A pong is 2 bytes.
const STORED_OVERHEAD_BYTES: usize = size_of::<Stored>() + 16;

/// All outboxes together.
#[derive(Debug)]
pub(crate) struct Backlog {
    stored: Slab<Stored>,
    stored_bytes: usize,
    items: usize,
    unsent_bytes: usize,
    connection_bytes_max: usize,
    total_bytes_max: usize,
    /// Slots that went over their limit in this turn.
    doomed: VecDeque<u32>,
}

impl Backlog {
    pub fn new(connection_bytes_max: usize, total_bytes_max: usize) -> Backlog {
        Backlog {
            stored: Slab::new(),
            stored_bytes: 0,
            items: 0,
            unsent_bytes: 0,
            connection_bytes_max,
            total_bytes_max,
            doomed: VecDeque::new(),
        }
    }

    /// Sum over all connections of what their sockets have not taken.
    pub fn unsent_bytes(&self) -> usize {
        self.unsent_bytes
    }

    /// Memory of the runs that are kept.
    pub fn stored_bytes(&self) -> usize {
        self.stored_bytes
    }

    /// Keeps a run. At least one [`Backlog::push`] of it must follow.
    pub fn store(&mut self, run: &[u8]) -> u32 {
        self.stored_bytes += run.len();
        self.stored.insert(Stored { bytes: run.into(), holders: 0 }) as u32
    }

    /// Queues a kept run from `start` on. A connection that goes over its limit is doomed, and still gets this one, so that
    /// the frame it is in the middle of can be ended.
    pub fn push(&mut self, slots: &mut Slots, slot: u32, run: u32, start: usize) {
        let end = self.stored[run as usize].bytes.len() as u32;
        let bytes = self.queue(slots, slot, Item { run, start: start as u32, end });
        if bytes > self.connection_bytes_max && !slots.is_marked(slot, mark::DOOMED) {
            self.doom(slots, slot);
        }
    }

    /// Puts a part of a kept run at the end of the connection's queue; returns the bytes in it.
    fn queue(&mut self, slots: &mut Slots, slot: u32, item: Item) -> usize {
        let bytes = (item.end - item.start) as usize;
        self.stored[item.run as usize].holders += 1;
        self.items += 1;
        self.unsent_bytes += bytes;
        slots.mark(slot, mark::LAGGING);
        let outbox = slots.get_mut(slot).outbox.get_or_insert_default();
        outbox.items.push_back(item);
        outbox.bytes += bytes;
        outbox.bytes
    }

    fn doom(&mut self, slots: &mut Slots, slot: u32) {
        slots.mark(slot, mark::DOOMED);
        self.doomed.push_back(slot);
    }

    /// Appends the start of the connection's queue to `out`, at most `bytes_max` bytes of it. For a connection that takes whole
    /// messages, it goes on to the end of the frame that this would cut.
    pub fn peek(&self, slots: &Slots, slot: u32, bytes_max: usize, out: &mut Vec<u8>) {
        let conn = slots.get(slot);
        let Some(outbox) = &conn.outbox else { return };
        for item in &outbox.items {
            let bytes = &self.stored[item.run as usize].bytes[item.start as usize..item.end as usize];
            let room = bytes_max - out.len();
            if bytes.len() >= room {
                let taken = if conn.by_message { encode::next_frame_start(bytes, room) } else { room };
                return out.extend_from_slice(&bytes[..taken]);
            }
            out.extend_from_slice(bytes);
        }
    }

    /// Takes `written` bytes off the start of the queue. An empty one is freed, and the connection lags no more.
    pub fn advance(&mut self, slots: &mut Slots, slot: u32, mut written: usize) {
        let record = slots.get_mut(slot);
        let Some(outbox) = &mut record.outbox else { return };
        outbox.bytes -= written;
        self.unsent_bytes -= written;
        while let Some(item) = outbox.items.front_mut() {
            let bytes = (item.end - item.start) as usize;
            if written < bytes {
                item.start += written as u32;
                return;
            }
            written -= bytes;
            let run = item.run;
            outbox.items.pop_front();
            self.items -= 1;
            release(&mut self.stored, &mut self.stored_bytes, run);
        }
        record.outbox = None;
        slots.unmark(slot, mark::LAGGING);
    }

    /// Dooms a connection that took only `written` of these bytes, without keeping the others.
    pub fn doom_unkept(&mut self, slots: &mut Slots, slot: u32, bytes: &[u8], written: usize) {
        // What another than a WebSocket is sent is a response, with a body that is no frames.
        let frames = handshake::response_bytes(bytes);
        let is_between_frames = slots.get(slot).phase == Phase::Open
            && written >= frames
            && framing::next_start(&bytes[frames..], written - frames) == written - frames;
        if !is_between_frames {
            slots.mark(slot, mark::TORN);
        }
        self.doom(slots, slot);
    }

    /// Frees the connection's queue.
    pub fn drop_all(&mut self, slots: &mut Slots, slot: u32) {
        if let Some(outbox) = &slots.get(slot).outbox {
            let bytes = outbox.bytes;
            self.advance(slots, slot, bytes);
        }
    }

    /// Leaves of the connection's queue the rest of the frame that it is in the middle of, and puts `last` after it. That much is
    /// always allowed.
    ///
    /// The rest stays where it is kept, because a copy for each connection that shares a run would take memory while some is to be
    /// freed.
    ///
    /// Returns `false`, and changes nothing, if the response that opens the WebSocket has not been sent to its end, because no
    /// frame can follow then.
    pub fn cut(&mut self, slots: &mut Slots, slot: u32, last: &[u8]) -> bool {
        let outbox = slots.get(slot).outbox.as_deref();
        let (first, queued) = outbox.map_or((None, 0), |outbox| (outbox.items.front().copied(), outbox.bytes));
        if let Some(item) = first {
            let bytes = &self.stored[item.run as usize].bytes;
            let (start, frames) = (item.start as usize, handshake::response_bytes(bytes));
            if start < frames {
                return false;
            }
            let end = frames + framing::next_start(&bytes[frames..], start - frames);
            if start < end {
                self.queue(slots, slot, Item { end: end as u32, ..item });
            }
        }
        let run = self.store(last);
        self.push(slots, slot, run, 0);
        // What was there before goes, and what has just been put behind it stays.
        self.advance(slots, slot, queued);
        slots.unmark(slot, mark::DOOMED);
        true
    }

    /// Takes the next slot that went over its limit.
    pub fn next_doomed(&mut self) -> Option<u32> {
        self.doomed.pop_front()
    }

    /// For checks: whether nobody is over a limit.
    pub fn is_settled(&self) -> bool {
        self.doomed.is_empty() && !self.is_over_budget()
    }

    /// Whether what is kept for all connections together is more than allowed.
    pub fn is_over_budget(&self) -> bool {
        self.cost() > self.total_bytes_max
    }

    /// Dooms an eighth of the lagging connections, those that lag most. Runs are shared, so how much this frees is known
    /// only when the caller has cut their queues; then it asks again.
    pub fn doom_slowest(&mut self, slots: &mut Slots) {
        let mut lagging: Vec<(usize, u32)> = slots
            .slots()
            .filter(|slot| slots.is_marked(*slot, mark::LAGGING) && !slots.is_marked(*slot, mark::DOOMED | mark::GONE))
            .map(|slot| (slots.get(slot).outbox.as_ref().map_or(0, |outbox| outbox.bytes), slot))
            .collect();
        lagging.sort_unstable_by(|a, b| b.cmp(a));
        let share = lagging.len().div_ceil(8);
        for (_, slot) in lagging.into_iter().take(share) {
            self.doom(slots, slot);
        }
    }

    /// Memory of everything kept, in bytes.
    pub fn cost(&self) -> usize {
        self.stored_bytes + self.stored.len() * STORED_OVERHEAD_BYTES + self.items * size_of::<Item>()
    }

    /// Panics unless every kept run is held exactly as often as its count says.
    pub fn check_invariants(&self, slots: &Slots) {
        let mut holders = vec![0; self.stored.capacity()];
        let (mut items, mut unsent) = (0, 0);
        for slot in slots.slots() {
            let outbox = slots.get(slot).outbox.as_deref();
            assert_eq!(outbox.is_some(), slots.is_marked(slot, mark::LAGGING), "slot {slot} lags if it has an outbox");
            let Some(outbox) = outbox else { continue };
            assert!(!outbox.items.is_empty(), "an empty outbox is freed");
            assert_eq!(outbox.bytes, outbox.items.iter().map(|item| (item.end - item.start) as usize).sum::<usize>());
            unsent += outbox.bytes;
            items += outbox.items.len();
            outbox.items.iter().for_each(|item| holders[item.run as usize] += 1);
        }
        for (key, stored) in &self.stored {
            assert_eq!(stored.holders, holders[key], "run {key} is held as often as it is queued");
            assert!(stored.holders > 0, "run {key} is kept for someone");
        }
        assert_eq!(self.stored_bytes, self.stored.iter().map(|(_, stored)| stored.bytes.len()).sum::<usize>());
        assert_eq!((self.items, self.unsent_bytes), (items, unsent));
    }
}

fn release(stored: &mut Slab<Stored>, stored_bytes: &mut usize, run: u32) {
    let entry = &mut stored[run as usize];
    entry.holders -= 1;
    if entry.holders == 0 {
        *stored_bytes -= entry.bytes.len();
        stored.remove(run as usize);
    }
}
