//! What is to be said in rooms. For each form of a room there is a track: the frames of all messages that some member has yet to be
//! given, once. For each group of members there is a run: the part of the track that it gets next. Buffers are reused.

use super::text_kind::TextKind;
use crate::framing;
use crate::id::ConnId;
use crate::slots::NONE;
use std::collections::VecDeque;
use std::ops::Range;

/// A burst may grow a buffer; what is beyond this many bytes is given back at the end of the turn.
pub(crate) const KEPT_BYTES_MAX: usize = 256 * 1024;
/// How many idle buffers are kept for the next turn; the rest are given back. About as many small messages as Redis brings in one
/// read, each for a room of its own.
pub(super) const KEPT_BUFFERS_MAX: usize = 1_024;
/// How many of them are kept large: in a turn with many buffers, most are short.
const LARGE_BUFFERS_MAX: usize = 16;
/// What is kept of each of the others: 8 MiB in all, with the large ones.
const SMALL_BUFFER_BYTES: usize = 4 * 1024;
/// Bytes of all runs that wait, beyond which drivers leave further messages with the broker. What comes in within a turn may exceed it.
const WAITING_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Beyond it all runs are due, because a driver has gone on nevertheless: a long turn, but bounded memory.
const WAITING_BYTES_DUE: usize = 4 * WAITING_BYTES_MAX;

/// Bytes of a run that are handed out at a time, in whole frames and at least one: about what a socket takes at once. Between two such
/// parts others have their turn, and a member that keeps up reads the first.
const PART_BYTES_MAX: usize = 64 * 1024;
/// The runs of a track that is longer than such a part go out whole and at once, up to this many bytes for all members together.
/// That is some milliseconds' work. So members that keep up are given no more than came in since.
const WHOLE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Members that leave, and members that are spared a message, are given their part of a run out of turn. Each gets no more than
/// such a part, all of them together in a turn no more than this many bytes.
const OUT_OF_TURN_BYTES_MAX: usize = 4 * 1024 * 1024;
/// And no more than this many bytes to all members of a group together: half a millisecond's work.
const GROUP_BYTES_MAX: usize = 512 * 1024;
/// Bytes whose copying into a socket takes as long as the call that writes them.
const BYTES_PER_MEMBER: usize = 4 * 1024;

/// The share of a turn that large rooms have. They are better off with short turns: what comes in between them joins what they
/// wait for. Of small rooms, where little is joined, it is the turn itself that costs.
const LARGE_SHARE: usize = 16;

/// Full groups of a room from which on it is a large one. To write to all of a smaller one is a millisecond's work.
const SMALL_ROOM_GROUPS: usize = 4;

/// How many bytes of the buffer at this index are kept for the next turn.
pub(super) fn kept_bytes(index: usize) -> usize {
    if index < LARGE_BUFFERS_MAX { KEPT_BYTES_MAX } else { SMALL_BUFFER_BYTES }
}

/// The length of a run's first part: whole frames within `bytes_max`, at least one.
#[cold]
fn whole_frames(run: &[u8], bytes_max: usize) -> usize {
    framing::next_start(run, 1).max(framing::last_end(run, bytes_max))
}

/// Frames of one room in one form, back to back, from the first that some group has not been given. Positions count from the
/// track's beginning, so that they hold when what everybody has been given is cut off.
#[derive(Debug)]
struct Track {
    bytes: Vec<u8>,
    /// Position of the first byte.
    base: u64,
    /// Runs that wait, in the order in which they were begun, which is also the order of their starts.
    runs: VecDeque<u32>,
    /// How many runs are handed out in this turn.
    due: u32,
    /// It is of a large room.
    is_large: bool,
    /// Of a room whose slow members catch up: where messages begin that are stored, with their offsets, and where something else is told
    /// that must not be left out.
    places: VecDeque<(u64, Option<u64>)>,
}

impl Track {
    fn end(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }

    /// Cuts off what no run needs, once that is worth the move.
    fn cut_off(&mut self, first: u64) {
        let needless = (first - self.base) as usize;
        if needless > self.bytes.len() / 2 {
            self.bytes.drain(..needless);
            self.base = first;
            self.places.retain(|(position, _)| *position >= first);
        }
    }
}

/// What one group of a room gets next: its track from `start` to the end.
///
/// The group's members are parted in two. Those before `Group::full` get the whole run. The others joined while it was being built,
/// and get it from their entry in `late` on.
#[derive(Debug)]
pub(crate) struct Run {
    pub room: u32,
    /// Its index in the room; no group that has a run changes its place.
    pub group: usize,
    track: u32,
    start: u64,
    /// While it is due: the end of the part that is handed out.
    end: u64,
    /// Where the run begins for each member from `Group::full` on, in the order of the members, counted from its start.
    pub late: VecDeque<u32>,
    /// What single members are spared of it, in the order of the run.
    spared: Vec<Spared>,
    /// Members when it was begun.
    members: usize,
    /// It is handed out in this turn.
    due: bool,
}

/// A message that one member is not given: it has asked for no echo.
#[derive(Clone, Debug)]
struct Spared {
    conn: ConnId,
    /// Where in the run the message is.
    bytes: Range<usize>,
}

impl Run {
    /// The member is not given these bytes, which are the run's last.
    pub fn spare(&mut self, conn: ConnId, bytes: Range<usize>) {
        self.spared.push(Spared { conn, bytes });
    }

    /// What of this part is the member's, piece by piece. It is spared the rest.
    pub fn pieces(&self, conn: ConnId, part: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let mut from = part.start;
        let spared = self.spared.iter().filter(move |spared| spared.conn == conn && spared.bytes.start < part.end);
        let ends = spared.map(|spared| spared.bytes.clone()).chain(std::iter::once(part.end..part.end));
        ends.map(move |spared| {
            let piece = from..spared.start.max(from);
            from = from.max(spared.end);
            piece
        })
    }

    /// The member has been given all that there is so far, or goes.
    pub fn forget_spared(&mut self, conn: ConnId) {
        self.spared.retain(|spared| spared.conn != conn);
    }

    /// This many bytes have been handed out.
    fn go_on(&mut self, bytes: usize) {
        self.start = self.end;
        self.late.iter_mut().for_each(|start| *start = start.saturating_sub(bytes as u32));
        self.spared.retain_mut(|spared| {
            spared.bytes = spared.bytes.start.saturating_sub(bytes)..spared.bytes.end.saturating_sub(bytes);
            spared.bytes.end > 0
        });
    }
}

/// Runs, from their first frame until they are handed out. In a turn some of them are due, the others wait for the next; what
/// their rooms say meanwhile joins them.
#[derive(Debug)]
pub(crate) struct Runs {
    /// Members from which on a room is a large one.
    large_members: usize,
    list: Vec<Run>,
    free: Vec<u32>,
    tracks: Vec<Track>,
    free_tracks: Vec<u32>,
    /// Tracks with runs that wait: those of small rooms, and those of large ones, in the order of their turns.
    small: VecDeque<u32>,
    large: VecDeque<u32>,
    /// Of this turn; they come out in this order.
    due: Vec<u32>,
    /// Of all tracks.
    bytes: usize,
    /// How much of a run is handed out at once. No more than half of what a connection may leave unread, because one that keeps up
    /// must not be given more than it may leave.
    part_bytes_max: usize,
    /// Tracks that have become longer than that in this turn.
    overlong: Vec<u32>,
    /// What may still be handed out of turn in this one.
    out_of_turn_bytes: usize,
}

impl Runs {
    /// Without runs. A group has at most `group_members_max` members, each of whom may leave `outbox_bytes_max` unread.
    pub fn new(group_members_max: u16, outbox_bytes_max: usize) -> Runs {
        Runs {
            large_members: usize::from(group_members_max) * SMALL_ROOM_GROUPS,
            list: Vec::new(),
            free: Vec::new(),
            tracks: Vec::new(),
            free_tracks: Vec::new(),
            small: VecDeque::new(),
            large: VecDeque::new(),
            due: Vec::new(),
            bytes: 0,
            part_bytes_max: PART_BYTES_MAX.min(outbox_bytes_max / 2),
            overlong: Vec::new(),
            out_of_turn_bytes: OUT_OF_TURN_BYTES_MAX,
        }
    }

    /// Hands out the start of this part of a run out of turn: as much as a socket takes at once, also where a member may leave less unread: one
    /// that keeps up does not.
    pub fn hand_out(&mut self, run: u32, part: Range<usize>) -> Range<usize> {
        let bytes = match part.len() <= PART_BYTES_MAX {
            true => part.len(),
            false => whole_frames(&self.bytes(run)[part.clone()], PART_BYTES_MAX),
        };
        match self.out_of_turn_bytes.checked_sub(bytes) {
            Some(left) => self.out_of_turn_bytes = left,
            None => return part.start..part.start,
        }
        part.start..part.start + bytes
    }

    /// The same, if it may be all of it.
    pub fn hand_out_whole(&mut self, part: Range<usize>) -> Option<Range<usize>> {
        let left = self.out_of_turn_bytes.checked_sub(part.len()).filter(|_| part.len() <= PART_BYTES_MAX)?;
        self.out_of_turn_bytes = left;
        Some(part)
    }

    /// All of its group's members get the run from their entry in [`Run::late`] on.
    pub fn all_are_late(&mut self, run: u32, members: usize) {
        self.list[run as usize].late = std::iter::repeat_n(0, members).collect();
    }

    /// The track of a run.
    pub fn track_of(&self, run: u32) -> u32 {
        self.get(run).track
    }

    /// A track without a run. Unless one is begun at once, it has to be given back.
    pub fn add_track(&mut self) -> u32 {
        self.free_tracks.pop().unwrap_or_else(|| {
            let (runs, places) = (VecDeque::new(), VecDeque::new());
            self.tracks.push(Track { bytes: Vec::new(), base: 0, runs, due: 0, is_large: false, places });
            self.tracks.len() as u32 - 1
        })
    }

    /// Lets `write` append a frame to the track. Returns where in the track it begins, or `None` where there is none.
    pub fn write(&mut self, key: u32, write: impl FnOnce(&mut Vec<u8>) -> bool) -> Option<u64> {
        let track = &mut self.tracks[key as usize];
        let (start, before) = (track.end(), track.bytes.len());
        if !write(&mut track.bytes) {
            return None;
        }
        self.bytes += track.bytes.len() - before;
        // One message alone, however long, is the same for a socket whenever it comes.
        if before > 0 && track.bytes.len() > self.part_bytes_max && !self.overlong.contains(&key) {
            self.overlong.push(key);
        }
        Some(start)
    }

    /// What begins at this position of the track is stored at this offset, or is no message.
    #[cold]
    pub fn note_place(&mut self, track: u32, position: Option<u64>, what: TextKind) {
        let offset = match what {
            TextKind::Message => return,
            TextKind::Stored(position) | TextKind::Removal(position) => Some(position.offset),
            TextKind::Notice(_) => None,
        };
        self.tracks[track as usize].places.extend(position.map(|position| (position, offset)));
    }

    /// The offset of the first message in the part of a run that is handed out, if whoever does not take it can be given all of that
    /// later.
    pub fn first_place(&self, run: u32) -> Option<u64> {
        let Run { track, start, end, .. } = *self.get(run);
        let places = self.tracks[track as usize].places.iter();
        let mut within = places.filter(|(position, _)| (start..end).contains(position)).map(|(_, offset)| *offset);
        let first = within.next()??;
        within.all(|offset| offset.is_some()).then_some(first)
    }

    /// Gives back a track that has no run.
    pub fn forget_unused(&mut self, track: u32) {
        let Track { runs, due, .. } = &self.tracks[track as usize];
        if runs.is_empty() && *due == 0 {
            self.free_track(track);
        }
    }

    /// Begins the run of a group with `members` of the room's `in_all`. Its first frame is the last of the track, at the position
    /// `start`.
    pub fn start(&mut self, room: u32, group: usize, (members, in_all): (usize, usize), track: u32, start: u64) -> u32 {
        let key = self.free.pop().unwrap_or(self.list.len() as u32);
        match self.list.get_mut(key as usize) {
            Some(run) => {
                (run.room, run.group, run.members, run.track, run.start) = (room, group, members, track, start);
            }
            None => {
                self.list.push(Run {
                    room,
                    group,
                    track,
                    start,
                    end: 0,
                    late: VecDeque::new(),
                    spared: Vec::new(),
                    members,
                    due: false,
                });
            }
        }
        let is_large = in_all >= self.large_members;
        let Track { runs, is_large: place, .. } = &mut self.tracks[track as usize];
        runs.push_back(key);
        if runs.len() == 1 {
            *place = is_large;
            self.wait_in_line(track);
        }
        key
    }

    /// The track has its first run that waits.
    fn wait_in_line(&mut self, track: u32) {
        if self.tracks[track as usize].is_large { &mut self.large } else { &mut self.small }.push_back(track);
    }

    pub fn get(&self, run: u32) -> &Run {
        &self.list[run as usize]
    }

    /// All of a run, also what is not handed out in this turn.
    pub fn bytes(&self, run: u32) -> &[u8] {
        let run = self.get(run);
        let track = &self.tracks[run.track as usize];
        &track.bytes[(run.start - track.base) as usize..]
    }

    /// The part of a run that is handed out in this turn.
    pub fn part(&self, run: u32) -> &[u8] {
        let Run { track, start, end, .. } = *self.get(run);
        let Track { bytes, base, .. } = &self.tracks[track as usize];
        &bytes[(start - base) as usize..(end - base) as usize]
    }

    /// Where in the run this position of its track is.
    pub fn offset(&self, run: u32, position: u64) -> usize {
        (position - self.get(run).start) as usize
    }

    pub fn get_mut(&mut self, run: u32) -> &mut Run {
        &mut self.list[run as usize]
    }

    /// A run and its length; nothing of `NONE`.
    pub fn with_length(&mut self, run: u32) -> Option<(&mut Run, usize)> {
        if run == NONE {
            return None;
        }
        let bytes = self.bytes(run).len();
        Some((&mut self.list[run as usize], bytes))
    }

    /// Chooses the runs of this turn. Small rooms come whole, room by room, until `members_max` members are to be written to; a member that
    /// gets much counts more than once. Of large rooms a group of each comes in turn, at least one, for a sixteenth as many members.
    pub fn choose_due(&mut self, members_max: usize) {
        let is_whole = self.bytes > WAITING_BYTES_DUE;
        let members_max = if is_whole { usize::MAX } else { members_max };
        if !self.overlong.is_empty() {
            self.take_overlong();
        }
        let mut members = 0_usize;
        while members < members_max
            && let Some(track) = self.small.pop_front()
        {
            // All of a room, unless it is long.
            while members < members_max.saturating_add(self.large_members)
                && let Some(more) = self.take(track, is_whole)
            {
                members = members.saturating_add(more);
            }
            if !self.tracks[track as usize].runs.is_empty() {
                self.small.push_back(track);
            }
        }
        let mut members = 0_usize;
        while let Some(track) = self.large.pop_front() {
            members = members.saturating_add(self.take(track, is_whole).unwrap_or(0));
            if !self.tracks[track as usize].runs.is_empty() {
                self.large.push_back(track);
            }
            if members >= members_max / LARGE_SHARE {
                return;
            }
        }
    }

    /// All runs of tracks that have become long are due, as far as that is not too much.
    #[cold]
    fn take_overlong(&mut self) {
        let mut left = WHOLE_BYTES_MAX;
        for key in std::mem::take(&mut self.overlong) {
            let track = &self.tracks[key as usize];
            let of_run = |run: &Run| run.members.saturating_mul((track.end() - run.start) as usize);
            let bytes = track.runs.iter().map(|run| of_run(self.get(*run))).fold(0, usize::saturating_add);
            if track.runs.is_empty() || bytes > left {
                continue;
            }
            left -= bytes;
            self.small.retain(|other| *other != key);
            self.large.retain(|other| *other != key);
            while self.take(key, true).is_some() {}
        }
    }

    /// The track's next run is due, whole or a part of it; how many members that counts for.
    fn take(&mut self, track: u32, is_whole: bool) -> Option<usize> {
        let Runs { part_bytes_max, .. } = *self;
        let track = &mut self.tracks[track as usize];
        let key = track.runs.pop_front()?;
        track.due += 1;
        self.due.push(key);
        let run = &mut self.list[key as usize];
        run.due = true;
        run.end = track.end();
        let bytes = (run.end - run.start) as usize;
        if !is_whole && (bytes > part_bytes_max || bytes.saturating_mul(run.members) > GROUP_BYTES_MAX) {
            let part_bytes_max = part_bytes_max.min(GROUP_BYTES_MAX / run.members);
            let bytes = &track.bytes[(run.start - track.base) as usize..];
            run.end = run.start + whole_frames(bytes, part_bytes_max) as u64;
        }
        Some(run.members.saturating_mul(1 + (run.end - run.start) as usize / BYTES_PER_MEMBER))
    }

    /// Whether so much waits that nothing more should come in.
    pub fn is_congested(&self) -> bool {
        self.bytes > WAITING_BYTES_MAX
    }

    pub fn due(&self) -> &[u32] {
        &self.due
    }

    /// The bytes of the run at this index of [`Runs::due`].
    pub fn due_bytes(&self, index: u32) -> &[u8] {
        self.part(self.due[index as usize])
    }

    /// Whether this run is handed out in this turn; `NONE` is not.
    pub fn is_due(&self, run: u32) -> bool {
        run != NONE && self.get(run).due
    }

    /// Whether there are runs that have not been due yet.
    pub fn wait(&self) -> bool {
        !self.small.is_empty() || !self.large.is_empty()
    }

    /// The turn is over: tells `done` the room and the group of each run that was handed out to its end. The others wait again, with
    /// what is left of them.
    pub fn forget_due(&mut self, mut done: impl FnMut(u32, usize)) {
        self.out_of_turn_bytes = OUT_OF_TURN_BYTES_MAX;
        // The first that was freed is the last to be used again: the other way round the same few buffers serve.
        while let Some(key) = self.due.pop() {
            let run = &mut self.list[key as usize];
            run.due = false;
            let track_key = run.track;
            let track = &mut self.tracks[track_key as usize];
            track.due -= 1;
            if run.end < track.end() {
                self.go_on_with(key);
            } else {
                done(run.room, run.group);
                run.late.clear();
                run.late.shrink_to(KEPT_BUFFERS_MAX);
                if !run.spared.is_empty() {
                    run.spared = Vec::new();
                }
                self.free.push(key);
            }
            let track = &mut self.tracks[track_key as usize];
            match track.runs.front() {
                _ if track.due > 0 => {}
                None => self.free_track(track_key),
                Some(first) => {
                    let bytes = track.bytes.len();
                    track.cut_off(self.list[*first as usize].start);
                    self.bytes -= bytes - track.bytes.len();
                }
            }
        }
        if self.free.len() == self.list.len() {
            self.list.truncate(KEPT_BUFFERS_MAX);
            self.free.retain(|key| (*key as usize) < KEPT_BUFFERS_MAX);
            self.tracks.truncate(KEPT_BUFFERS_MAX);
            self.free_tracks.retain(|key| (*key as usize) < KEPT_BUFFERS_MAX);
        }
    }

    /// A part of the run has been handed out: it waits for the rest among its track's others, in the order of their starts.
    fn go_on_with(&mut self, key: u32) {
        let run = &mut self.list[key as usize];
        run.go_on((run.end - run.start) as usize);
        let (start, track) = (run.start, run.track);
        let runs = &self.tracks[track as usize].runs;
        let place = runs.partition_point(|other| self.list[*other as usize].start <= start);
        let is_first = runs.is_empty();
        self.tracks[track as usize].runs.insert(place, key);
        if is_first {
            self.wait_in_line(track);
        }
    }

    fn free_track(&mut self, key: u32) {
        let track = &mut self.tracks[key as usize];
        self.bytes -= track.bytes.len();
        track.base = 0;
        if !track.places.is_empty() {
            track.places = VecDeque::new();
        }
        track.bytes.clear();
        track.bytes.shrink_to(kept_bytes(key as usize));
        self.free_tracks.push(key);
    }

    /// The runs that wait.
    pub fn waiting(&self) -> impl Iterator<Item = u32> {
        self.small.iter().chain(&self.large).flat_map(|track| &self.tracks[*track as usize].runs).copied()
    }

    /// Panics unless every run is free or waits, every track is free or has a run that waits, and bytes are counted.
    pub fn check_invariants(&self) {
        let mut keys: Vec<u32> = self.waiting().chain(self.free.iter().copied()).collect();
        keys.sort_unstable();
        assert!(keys.into_iter().eq(0..self.list.len() as u32), "a run is free, or waits once");
        let mut tracks: Vec<u32> = self.small.iter().chain(&self.large).chain(&self.free_tracks).copied().collect();
        tracks.sort_unstable();
        assert!(tracks.into_iter().eq(0..self.tracks.len() as u32), "a track is free, or has its turn once");
        for key in self.small.iter().chain(&self.large) {
            let track = &self.tracks[*key as usize];
            let starts: Vec<u64> = track.runs.iter().map(|run| self.get(*run).start).collect();
            assert!(track.due == 0 && !starts.is_empty() && starts.is_sorted(), "runs are handed out in order");
            assert!(starts.iter().all(|start| (track.base..track.end()).contains(start)), "a track has what runs need");
            assert!(track.runs.iter().all(|run| self.get(*run).track == *key));
        }
        assert_eq!(self.bytes, self.tracks.iter().map(|track| track.bytes.len()).sum::<usize>());
    }
}
