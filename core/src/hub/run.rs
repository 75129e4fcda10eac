//! What is to be said in rooms: for each form of a room a track, the frames of all messages that somebody has yet to be given, once;
//! and for each group of members a run, the part of the track that it gets next. Buffers are reused.

use crate::conn::NONE;
use crate::dialect::Form;
use std::collections::VecDeque;

/// A burst may grow a buffer; what is beyond this many bytes is given back at the end of the turn.
pub(crate) const KEPT_BYTES_MAX: usize = 256 * 1024;
/// As many idle buffers are kept for the next turn, the rest are given back: about as many small messages as Redis brings in one
/// read, each for a room of its own.
pub(super) const KEPT_BUFFERS_MAX: usize = 1_024;
/// Only so many of them are kept large: in a turn with many buffers, most are short.
const LARGE_BUFFERS_MAX: usize = 16;
/// Of the others, so much is kept; with the large ones, 8 MiB in all.
const SMALL_BUFFER_BYTES: usize = 4 * 1024;
/// What waits to be said holds at most about so many bytes in all; beyond it, all of it is due: then nothing more comes in until
/// everybody has been written to.
const WAITING_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The share of a turn that large rooms have. They are better off with short turns: what comes in between them joins what they
/// wait for. Of small rooms, where little is joined, it is the turn itself that costs.
const LARGE_SHARE: usize = 8;

/// How many bytes of the buffer at this index are kept for the next turn.
pub(super) fn kept_bytes(index: usize) -> usize {
    if index < LARGE_BUFFERS_MAX { KEPT_BYTES_MAX } else { SMALL_BUFFER_BYTES }
}

/// Frames of one room in one form, back to back, from the first that some group has not been given. Positions count from the
/// track's beginning, so that they hold when what everybody has been given is cut off.
#[derive(Debug)]
struct Track {
    form: Form,
    bytes: Vec<u8>,
    /// Position of the first byte.
    base: u64,
    /// Where runs begin, in their order, and how many there.
    starts: VecDeque<(u64, u32)>,
}

impl Track {
    fn end(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }

    /// Notes that a run begins at the end.
    fn begin_run(&mut self, start: u64) {
        match self.starts.back_mut() {
            Some((last, runs)) if *last == start => *runs += 1,
            _ => self.starts.push_back((start, 1)),
        }
    }

    /// A run that began here has been handed out. Cuts off what no other needs, once that is worth the move.
    fn end_run(&mut self, start: u64) {
        let at = self.starts.partition_point(|(other, _)| *other < start);
        self.starts[at].1 -= 1;
        while self.starts.front().is_some_and(|(_, runs)| *runs == 0) {
            self.starts.pop_front();
        }
        let Some((first, _)) = self.starts.front() else { return };
        let needless = (first - self.base) as usize;
        if needless > self.bytes.len() / 2 {
            self.bytes.drain(..needless);
            self.base = *first;
        }
    }
}

/// What one group of a room gets next: its track from `start` to the end.
///
/// The group's members are parted in two: those before `Group::full` get the whole run, the others, who joined while it was
/// being built, get it from their entry in `late` on.
#[derive(Debug)]
pub(crate) struct Run {
    pub room: u32,
    /// Its index in the room; no group that has a run changes its place.
    pub group: usize,
    track: u32,
    start: u64,
    /// Where the run begins for each member from `Group::full` on, in the order of the members, counted from its start.
    pub late: VecDeque<u32>,
    /// Members when it was begun.
    members: usize,
    /// It is handed out in this turn.
    due: bool,
}

/// Runs, from their first frame until they are handed out. In a turn some of them are due, the others wait for the next; what
/// their rooms say meanwhile joins them.
#[derive(Debug)]
pub(crate) struct Runs {
    /// The groups of a room with at least so many members stand with the large ones, those that have lost members as well.
    large_members: usize,
    list: Vec<Run>,
    free: Vec<u32>,
    tracks: Vec<Track>,
    free_tracks: Vec<u32>,
    /// Those of small rooms, and those of large ones, each in the order in which they were begun.
    small: VecDeque<u32>,
    large: VecDeque<u32>,
    /// Of this turn; they come out in this order.
    due: Vec<u32>,
    /// Of all tracks.
    bytes: usize,
    /// A run that is longer waits for nothing more: a socket that keeps up would be given more at once than it takes.
    run_bytes_max: usize,
    /// There is one.
    overlong: bool,
}

impl Runs {
    /// None, of groups that have at most so many members, each of whom may leave so many bytes unread.
    pub fn new(group_members_max: u16, outbox_bytes_max: usize) -> Runs {
        Runs {
            large_members: usize::from(group_members_max).div_ceil(2),
            list: Vec::new(),
            free: Vec::new(),
            tracks: Vec::new(),
            free_tracks: Vec::new(),
            small: VecDeque::new(),
            large: VecDeque::new(),
            due: Vec::new(),
            bytes: 0,
            run_bytes_max: outbox_bytes_max / 2,
            overlong: false,
        }
    }

    /// The track of a run and its form, or nothing where there is no run.
    pub fn track_of(&self, run: u32) -> Option<(Form, u32)> {
        let track = self.list.get(run as usize)?.track;
        Some((self.tracks[track as usize].form, track))
    }

    /// A track without a run. Unless one is begun at once, it has to be given back.
    pub fn add_track(&mut self, form: Form) -> u32 {
        let key = self.free_tracks.pop().unwrap_or(self.tracks.len() as u32);
        match self.tracks.get_mut(key as usize) {
            Some(track) => track.form = form,
            None => self.tracks.push(Track { form, bytes: Vec::new(), base: 0, starts: VecDeque::new() }),
        }
        key
    }

    /// Lets `write` append a frame to the track. Returns where in the track it begins, or `None` where there is none.
    pub fn write(&mut self, track: u32, write: impl FnOnce(&mut Vec<u8>) -> bool) -> Option<u64> {
        let track = &mut self.tracks[track as usize];
        let (start, before) = (track.end(), track.bytes.len());
        if !write(&mut track.bytes) {
            return None;
        }
        self.bytes += track.bytes.len() - before;
        // One message alone, however long, is the same for a socket whenever it comes.
        self.overlong |= before > 0 && track.bytes.len() > self.run_bytes_max;
        Some(start)
    }

    /// Gives back a track that has no run.
    pub fn forget_unused(&mut self, track: u32) {
        if self.tracks[track as usize].starts.is_empty() {
            self.free_track(track);
        }
    }

    /// Begins the run of a group with so many members of the room's, with the frame at this position of the track, which is
    /// its last.
    pub fn start(&mut self, room: u32, group: usize, (members, in_all): (usize, usize), track: u32, start: u64) -> u32 {
        self.tracks[track as usize].begin_run(start);
        let key = self.free.pop().unwrap_or(self.list.len() as u32);
        match self.list.get_mut(key as usize) {
            Some(run) => {
                (run.room, run.group, run.members, run.track, run.start) = (room, group, members, track, start);
            }
            None => self.list.push(Run { room, group, track, start, late: VecDeque::new(), members, due: false }),
        }
        if in_all < self.large_members { &mut self.small } else { &mut self.large }.push_back(key);
        key
    }

    pub fn get(&self, run: u32) -> &Run {
        &self.list[run as usize]
    }

    pub fn bytes(&self, run: u32) -> &[u8] {
        let run = self.get(run);
        let track = &self.tracks[run.track as usize];
        &track.bytes[(run.start - track.base) as usize..]
    }

    /// Where in the run this position of its track is.
    pub fn offset(&self, run: u32, position: u64) -> usize {
        (position - self.get(run).start) as usize
    }

    /// A run and its length; nothing of `NONE`.
    pub fn get_mut(&mut self, run: u32) -> Option<(&mut Run, usize)> {
        if run == NONE {
            return None;
        }
        let bytes = self.bytes(run).len();
        Some((&mut self.list[run as usize], bytes))
    }

    /// Chooses the runs of this turn: those of small rooms, until so many members are to be written to, and of large ones at
    /// least one, and for an eighth as many members. All of them, where too much waits.
    pub fn choose_due(&mut self, members_max: usize) {
        let all = std::mem::take(&mut self.overlong) || self.bytes > WAITING_BYTES_MAX;
        let members_max = if all { usize::MAX } else { members_max };
        let Runs { list, small, large, due, .. } = self;
        for (queue, members_max) in [(small, members_max), (large, members_max / LARGE_SHARE)] {
            let mut members = 0;
            while let Some(key) = queue.pop_front() {
                let run = &mut list[key as usize];
                run.due = true;
                members += run.members;
                due.push(key);
                if members >= members_max {
                    break;
                }
            }
        }
    }

    pub fn due(&self) -> &[u32] {
        &self.due
    }

    /// The bytes of the run at this index of [`Runs::due`].
    pub fn due_bytes(&self, index: u32) -> &[u8] {
        self.bytes(self.due[index as usize])
    }

    /// Whether this run is handed out in this turn; `NONE` is not.
    pub fn is_due(&self, run: u32) -> bool {
        run != NONE && self.get(run).due
    }

    /// Whether there are runs that have not been due yet.
    pub fn wait(&self) -> bool {
        !self.small.is_empty() || !self.large.is_empty()
    }

    /// The turn is over: tells `done` the room and the group of each run that was due.
    pub fn forget_due(&mut self, mut done: impl FnMut(u32, usize)) {
        // The first that was freed is the last to be used again: the other way round the same few buffers serve.
        while let Some(key) = self.due.pop() {
            let run = &mut self.list[key as usize];
            done(run.room, run.group);
            run.late.clear();
            run.late.shrink_to(KEPT_BUFFERS_MAX);
            run.due = false;
            let (track, start) = (run.track, run.start);
            self.free.push(key);
            let bytes = self.tracks[track as usize].bytes.len();
            self.tracks[track as usize].end_run(start);
            self.bytes -= bytes - self.tracks[track as usize].bytes.len();
            self.forget_unused(track);
        }
        if self.free.len() == self.list.len() {
            self.list.truncate(KEPT_BUFFERS_MAX);
            self.free.retain(|key| (*key as usize) < KEPT_BUFFERS_MAX);
            self.tracks.truncate(KEPT_BUFFERS_MAX);
            self.free_tracks.retain(|key| (*key as usize) < KEPT_BUFFERS_MAX);
        }
    }

    fn free_track(&mut self, key: u32) {
        let track = &mut self.tracks[key as usize];
        self.bytes -= track.bytes.len();
        track.base = 0;
        track.bytes.clear();
        track.bytes.shrink_to(kept_bytes(key as usize));
        self.free_tracks.push(key);
    }

    /// The runs that wait.
    pub fn waiting(&self) -> impl Iterator<Item = u32> {
        self.small.iter().chain(&self.large).copied()
    }

    /// Panics unless every run is free or waits, every track is free or has a run, and bytes and starts are counted.
    pub fn check_invariants(&self) {
        let mut keys: Vec<u32> = self.waiting().chain(self.free.iter().copied()).collect();
        keys.sort_unstable();
        assert!(keys.into_iter().eq(0..self.list.len() as u32), "a run is free, or waits once");
        let mut tracks = self.free_tracks.clone();
        for (key, track) in self.tracks.iter().enumerate() {
            let mut starts: Vec<u64> = Vec::new();
            starts.extend(
                self.waiting().map(|run| self.get(run)).filter(|run| run.track == key as u32).map(|run| run.start),
            );
            starts.sort_unstable();
            let counted = track.starts.iter().flat_map(|(start, runs)| std::iter::repeat_n(*start, *runs as usize));
            assert!(starts.iter().copied().eq(counted), "a track knows where its runs begin");
            assert!(starts.iter().all(|start| (track.base..track.end()).contains(start)), "and has what they need");
            tracks.extend((!starts.is_empty()).then_some(key as u32));
        }
        tracks.sort_unstable();
        assert!(tracks.into_iter().eq(0..self.tracks.len() as u32), "a track is free, or has a run");
        assert_eq!(self.bytes, self.tracks.iter().map(|track| track.bytes.len()).sum::<usize>());
    }
}
