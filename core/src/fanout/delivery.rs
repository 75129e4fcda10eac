//! Deliveries: bytes and their targets, which are read in place, and what becomes of targets that do not take all of them.

use crate::fanout::coalesced::Coalesced;
use crate::fanout::outbox::Backlog;
use crate::fanout::run::Runs;
use crate::framing;
use crate::id::ConnId;
use crate::metrics::Metrics;
use crate::slots::{NONE, Slots, mark};
use crate::ws::{Messages, encode};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// One run of whole frames and its targets.
///
/// Read the targets one by one, write [`Delivery::bytes`] to each, and report the ones that did not take all of it before
/// asking for the next. A target about which nothing is said took everything. Targets that are not read when the delivery is
/// dropped count as having taken nothing.
#[derive(Debug)]
pub struct Delivery<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) targets: &'a [ConnId],
    pub(crate) next: usize,
    /// How many of the targets before `next` are not targets after all: they get these bytes together with others.
    pub(crate) put_off: usize,
    pub(crate) source: Source<'a>,
    pub(crate) slots: &'a mut Slots,
    pub(crate) backlog: &'a mut Backlog,
    pub(crate) metrics: &'a mut Metrics,
    pub(crate) gone: &'a mut Vec<u32>,
}

/// Where a delivery's bytes come from.
#[derive(Debug)]
pub(crate) enum Source<'a> {
    /// The start of the target's own queue; how many bytes of it were taken.
    Queue(&'a mut usize),
    /// What goes to the target alone.
    Stream,
    /// A run, by its index among those that are due, for all its members; `one_of_several` in this turn. Where its room does not keep for
    /// slow members what they do not take, `laggards` says what they get instead, and they are noted.
    Run {
        run: u32,
        one_of_several: bool,
        coalesced: &'a mut Coalesced,
        laggards: Option<(&'a mut Laggards, &'a mut Fallen)>,
    },
    /// Pieces for one target, back to back.
    Coalesced { pieces: Range<usize>, coalesced: &'a mut Coalesced, runs: &'a Runs },
}

/// Members that do not keep up with their room, and what they get instead of what they did not take.
#[derive(Debug, Default)]
pub(crate) struct Fallen {
    /// Members, with their rooms, that are given everything from this offset on later.
    pub behind: Vec<(ConnId, u32, u64)>,
    /// The newest message for each member of a room, by slot and room: a whole frame.
    pub newest: BTreeMap<(u32, u32), Arc<[u8]>>,
}

/// What a room's slow members get instead of a run.
#[derive(Debug)]
pub(crate) struct Laggards {
    pub room: u32,
    /// The offset of the first message that they do not take; `None` where only the newest matters to them.
    pub from: Option<u64>,
    /// The last frame, once somebody needs it.
    pub newest: Option<Arc<[u8]>>,
}

impl Laggards {
    #[cold]
    fn note(&mut self, fallen: &mut Fallen, conn: ConnId, bytes: &[u8]) {
        match self.from {
            Some(from) => fallen.behind.push((conn, self.room, from)),
            None => {
                let newest = self.newest.get_or_insert_with(|| framing::last(bytes).into());
                fallen.newest.insert((conn.slot() as u32, self.room), Arc::clone(newest));
            }
        }
    }
}

impl<'a> Delivery<'a> {
    /// Whole frames, one or many, the same for every target.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The same as messages, for connections that were opened by [`Turn::open_websocket`](crate::Turn::open_websocket). What they
    /// borrow outlives the delivery's other borrows, so that they can be made once and handed to every target.
    ///
    /// Deliveries to other connections may have none: compressed frames and HTTP responses are no messages.
    pub fn messages(&self) -> Messages<'a> {
        Messages::new(self.bytes)
    }

    /// The next connection to write to. Skips members that lag: their bytes were queued. Skips members that get something else in
    /// this turn, too: they get everything in one later delivery.
    #[inline]
    pub fn next_target(&mut self) -> Option<ConnId> {
        loop {
            let conn = *self.targets.get(self.next)?;
            self.next += 1;
            if self.slots.marks(conn) == 0 || self.is_target(conn) {
                return Some(conn);
            }
        }
    }

    /// Whether a connection with marks is written to now; if not, it has been seen to.
    fn is_target(&mut self, conn: ConnId) -> bool {
        let (slot, marks) = (conn.slot() as u32, self.slots.marks(conn));
        if matches!(self.source, Source::Queue(_)) {
            return true;
        }
        if marks & mark::HELD_UP != 0 {
            match &mut self.source {
                Source::Run { laggards: Some((laggards, fallen)), .. } if marks & mark::HELD_UP == mark::LAGGING => {
                    laggards.note(fallen, conn, self.bytes);
                }
                _ => self.queue(conn, 0),
            }
            return false;
        }
        if let Source::Run { run, one_of_several, coalesced, .. } = &mut self.source
            && (marks & mark::JOINED != 0 || *one_of_several && marks & mark::ROAMING != 0 && !coalesced.is_full())
        {
            coalesced.push_run(slot, *run);
            self.put_off += 1;
            return false;
        }
        true
    }

    /// The socket took only the first `written` bytes. An [`Event::Writable`](crate::Event::Writable) must follow when it
    /// takes more. To say that it took all of them is the same as silence. Of a message that a connection of
    /// [`Turn::open_websocket`](crate::Turn::open_websocket) took in part, it took nothing.
    pub fn short(&mut self, conn: ConnId, written: usize) {
        if written >= self.bytes.len() {
            return;
        }
        let written = match self.slots.get(conn.slot() as u32).by_message {
            true => encode::last_frame_end(self.bytes, written),
            false => written,
        };
        match &mut self.source {
            Source::Queue(taken) => **taken = written,
            _ => self.queue(conn, written),
        }
    }

    /// The connection took only the first `taken` of [`Delivery::messages`]: [`Delivery::short`] in the terms of a framework
    /// that has no bytes, with the same duty.
    pub fn short_messages(&mut self, conn: ConnId, taken: usize) {
        let written = self.messages().take(taken).map(|message| encode::frame_bytes(message.payload_bytes())).sum();
        self.short(conn, written);
    }

    /// The socket failed. No further action names the connection, and its id is void when this turn has been drained.
    pub fn gone(&mut self, conn: ConnId) {
        if let Some(slot) = self.slots.slot(conn) {
            self.slots.mark(slot, mark::GONE);
            self.gone.push(slot);
        }
    }

    /// Queues what the connection did not take of these bytes.
    #[cold]
    fn queue(&mut self, conn: ConnId, written: usize) {
        let slot = conn.slot() as u32;
        let (bytes, slots, backlog) = (self.bytes, &mut *self.slots, &mut *self.backlog);
        match &mut self.source {
            Source::Queue(_) => {}
            Source::Stream => keep(backlog, slots, slot, bytes, written, &mut { NONE }),
            Source::Run { run, coalesced, .. } => keep(backlog, slots, slot, bytes, written, coalesced.kept_mut(*run)),
            Source::Coalesced { pieces, coalesced, runs } => {
                // A run is kept as a whole, for others may hold it already or will: each piece is queued by itself.
                let mut from = 0;
                for index in pieces.clone() {
                    let (until, kept) = match coalesced.run(index) {
                        Some(run) => (from + runs.due_bytes(run).len(), coalesced.kept_mut(run)),
                        None => (bytes.len() - coalesced.run_bytes(pieces.clone(), runs), &mut { NONE }),
                    };
                    if written < until {
                        keep(backlog, slots, slot, &bytes[from..until], written.saturating_sub(from), kept);
                    }
                    from = until;
                }
            }
        }
    }
}

/// Queues what the connection did not take of these bytes, which are stored as `kept` if they are already.
fn keep(backlog: &mut Backlog, slots: &mut Slots, slot: u32, bytes: &[u8], written: usize, kept: &mut u32) {
    if slots.is_marked(slot, mark::DOOMED | mark::GONE) {
        return;
    }
    if *kept == NONE {
        if backlog.is_over_budget() {
            // Nothing more is kept before someone's queue has been cut, which is done at the end of the turn.
            return backlog.doom_unkept(slots, slot, bytes, written);
        }
        *kept = backlog.store(bytes);
    }
    backlog.push(slots, slot, *kept, written);
}

impl Drop for Delivery<'_> {
    fn drop(&mut self) {
        while let Some(conn) = self.next_target() {
            self.short(conn, 0);
        }
        if !matches!(self.source, Source::Queue(_)) {
            self.metrics.bytes_out += (self.bytes.len() * (self.targets.len() - self.put_off)) as u64;
        }
    }
}
