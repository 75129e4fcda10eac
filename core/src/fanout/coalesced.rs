//! Connections that get more than one thing in a turn: what goes to one alone, and the runs of its rooms. All of it is put together
//! and written at once, because a system call costs more than the copy.

use super::audience::Audiences;
use super::run::Runs;
use super::stream::Streams;
use crate::slots::{NONE, Slots};
use std::ops::Range;

/// Pieces that are noted at most, 512 KiB. Beyond it, each of the remaining rooms is written to by itself. Streams are noted in any
/// case, because a connection must get its stream before what follows it.
const PIECES_MAX: usize = 64 * 1024;
/// The rooms of a connection that are looked at for something that its stream could wait for.
const ROOMS_LOOKED_AT: usize = 16;

/// A stream or a run that waits to be written with others to one connection. They sort by connection, and in the order of
/// writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Piece(u64);

const STREAM: u32 = 0;

impl Piece {
    fn new(slot: u32, what: u32) -> Piece {
        Piece(u64::from(slot) << 32 | u64::from(what))
    }

    fn slot(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The run, by its index among those that are due, or `None` for the stream.
    fn run(self) -> Option<u32> {
        (self.0 as u32).checked_sub(STREAM + 1)
    }
}

/// What of this turn is to be joined.
#[derive(Debug, Default)]
pub(crate) struct Coalesced {
    pieces: Vec<Piece>,
    /// Where each run that is due is stored for members that did not take it whole, or `NONE`.
    kept: Vec<u32>,
}

impl Coalesced {
    /// Whether the connection gets a run of one of its rooms, with which its stream can go.
    pub fn is_worth_waiting(slots: &Slots, audiences: &Audiences, runs: &Runs, slot: u32) -> bool {
        let conn = slots.get(slot);
        let list = conn.rooms.as_slice();
        list.len() <= ROOMS_LOOKED_AT
            && list.iter().any(|membership| {
                let group = audiences.get(membership.room).group_at(membership.place.group());
                runs.is_due(group.run) && membership.place.index() < group.full
            })
    }

    /// The connection's stream waits for its runs.
    pub fn push_stream(&mut self, slot: u32) {
        self.pieces.push(Piece::new(slot, STREAM));
    }

    /// The connection gets this run, named by its index among those that are due, with whatever else there is for it.
    pub fn push_run(&mut self, slot: u32, run: u32) {
        self.pieces.push(Piece::new(slot, run + STREAM + 1));
    }

    /// Whether no more runs should be put off that do not have to.
    pub fn is_full(&self) -> bool {
        self.pieces.len() >= PIECES_MAX
    }

    /// No more comes: puts together what belongs together.
    pub fn sort(&mut self) {
        self.pieces.sort_unstable();
    }

    /// The pieces of the next connection, from this index on, and its slot.
    pub fn next(&self, from: usize) -> Option<(u32, Range<usize>)> {
        let slot = self.pieces.get(from)?.slot();
        let count = self.pieces[from..].iter().take_while(|piece| piece.slot() == slot).count();
        Some((slot, from..from + count))
    }

    /// The run that this piece is, by its index among those that are due, or `None` for a stream.
    pub fn run(&self, piece: usize) -> Option<u32> {
        self.pieces[piece].run()
    }

    /// Bytes of these pieces that are runs.
    pub fn run_bytes(&self, pieces: Range<usize>, runs: &Runs) -> usize {
        self.pieces[pieces].iter().filter_map(|piece| piece.run()).map(|run| runs.due_bytes(run).len()).sum()
    }

    /// The bytes of these pieces, which are one connection's; where they are not in one place, put together in `gathered`.
    pub fn bytes<'a>(
        &self,
        pieces: Range<usize>,
        streams: &'a Streams,
        runs: &'a Runs,
        slots: &Slots,
        gathered: &'a mut Vec<u8>,
    ) -> &'a [u8] {
        if let [piece] = self.pieces[pieces.clone()] {
            return match piece.run() {
                Some(run) => runs.due_bytes(run),
                None => streams.get(slots, piece.slot()).bytes(runs, gathered),
            };
        }
        gathered.clear();
        for piece in &self.pieces[pieces] {
            match piece.run() {
                Some(run) => gathered.extend_from_slice(runs.due_bytes(run)),
                None => streams.get(slots, piece.slot()).append_to(runs, gathered),
            }
        }
        gathered
    }

    /// Where this run, named by its index among those that are due, is stored; to be set when it is.
    pub fn kept_mut(&mut self, run: u32) -> &mut u32 {
        if self.kept.len() <= run as usize {
            self.kept.resize(run as usize + 1, NONE);
        }
        &mut self.kept[run as usize]
    }

    /// The turn is over.
    pub fn clear(&mut self) {
        self.pieces.clear();
        self.pieces.shrink_to(PIECES_MAX);
        self.kept.clear();
        self.kept.shrink_to(PIECES_MAX);
    }
}
