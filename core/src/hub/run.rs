//! What one turn has to say: a run of frames per room, and a private stream per connection. Buffers are reused from turn to
//! turn.

use crate::conn::{Conns, NONE};
use crate::event::ConnId;
use std::collections::VecDeque;
use std::ops::Range;

/// A burst may grow a buffer; what is beyond this many bytes is given back at the end of the turn.
pub(crate) const KEPT_BYTES_MAX: usize = 256 * 1024;
/// As many idle buffers are kept for the next turn, the rest are given back: about as many small messages as Redis brings in one
/// read, each for a room of its own.
const KEPT_BUFFERS_MAX: usize = 1_024;
/// Only so many of them are kept large: in a turn with many runs, most are short.
const LARGE_BUFFERS_MAX: usize = 16;
/// Of the others, so much is kept; with the large ones, 8 MiB in all.
const SMALL_BUFFER_BYTES: usize = 4 * 1024;

/// How many bytes of the buffer that a turn used as this one are kept for the next.
fn kept_bytes(index: usize) -> usize {
    if index < LARGE_BUFFERS_MAX { KEPT_BYTES_MAX } else { SMALL_BUFFER_BYTES }
}

/// All frames that one group of a room received in this turn, back to back.
///
/// The group's members are parted in two: those before `Group::full` get the whole run, the others, who joined while it was
/// being built, get it from their entry in `late` on.
#[derive(Debug)]
pub(crate) struct Run {
    pub room: u32,
    /// Its index in the room; no group that has a run changes its place.
    pub group: usize,
    pub bytes: Vec<u8>,
    /// Where the run begins for each member from `Group::full` on, in the order of the members.
    pub late: VecDeque<u32>,
}

#[derive(Debug, Default)]
pub(crate) struct Runs {
    list: Vec<Run>,
    used: usize,
}

impl Runs {
    pub fn start(&mut self, room: u32, group: usize) -> u32 {
        match self.list.get_mut(self.used) {
            Some(run) => (run.room, run.group) = (room, group),
            None => self.list.push(Run { room, group, bytes: Vec::new(), late: VecDeque::new() }),
        }
        self.used += 1;
        self.used as u32 - 1
    }

    pub fn get_mut(&mut self, run: u32) -> Option<&mut Run> {
        if run == NONE { None } else { Some(&mut self.list[run as usize]) }
    }

    pub fn all(&self) -> &[Run] {
        &self.list[..self.used]
    }

    pub fn clear(&mut self) {
        for (index, run) in self.list[..self.used].iter_mut().enumerate() {
            run.bytes.clear();
            run.bytes.shrink_to(kept_bytes(index));
            run.late.clear();
        }
        self.list.truncate(KEPT_BUFFERS_MAX);
        self.used = 0;
    }
}

/// What goes to one connection alone: replies, and its part of a run that it does not get whole.
#[derive(Debug)]
pub(crate) struct Stream {
    pub conn: ConnId,
    own: Vec<u8>,
    /// Named, not copied: many who get all but a little of a long run would cost it many times over.
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
struct Part {
    /// It stands before this byte of what is the stream's own.
    at: usize,
    run: u32,
    bytes: Range<usize>,
}

impl Stream {
    pub fn is_empty(&self) -> bool {
        self.own.is_empty() && self.parts.is_empty()
    }

    /// Its bytes; where they are not in one place, they are put together in `gathered`.
    pub fn bytes<'a>(&'a self, runs: &Runs, gathered: &'a mut Vec<u8>) -> &'a [u8] {
        if self.parts.is_empty() {
            return &self.own;
        }
        gathered.clear();
        self.append_to(runs, gathered);
        gathered
    }

    /// Appends its bytes to `out`.
    pub fn append_to(&self, runs: &Runs, out: &mut Vec<u8>) {
        let mut from = 0;
        for part in &self.parts {
            out.extend_from_slice(&self.own[from..part.at]);
            out.extend_from_slice(&runs.all()[part.run as usize].bytes[part.bytes.clone()]);
            from = part.at;
        }
        out.extend_from_slice(&self.own[from..]);
    }

    fn clear(&mut self, kept_bytes: usize) {
        self.own.clear();
        self.own.shrink_to(kept_bytes);
        self.parts.clear();
        self.parts.shrink_to(kept_bytes / size_of::<Part>());
    }
}

#[derive(Debug, Default)]
pub(crate) struct Streams {
    list: Vec<Stream>,
    used: usize,
}

impl Streams {
    /// Where the connection's replies of this turn go.
    pub fn of(&mut self, conns: &mut Conns, slot: u32) -> &mut Vec<u8> {
        &mut self.stream(conns, slot).own
    }

    /// Adds a part of a run, behind what is there so far.
    pub fn add_part(&mut self, conns: &mut Conns, slot: u32, run: u32, bytes: Range<usize>) {
        if !bytes.is_empty() {
            let stream = self.stream(conns, slot);
            stream.parts.push(Part { at: stream.own.len(), run, bytes });
        }
    }

    /// Forgets what was to be said to the connection.
    pub fn hush(&mut self, conns: &mut Conns, slot: u32) {
        if conns.get(slot).stream != NONE {
            self.stream(conns, slot).clear(KEPT_BYTES_MAX);
        }
    }

    fn stream(&mut self, conns: &mut Conns, slot: u32) -> &mut Stream {
        let conn = conns.id(slot);
        let record = conns.get_mut(slot);
        if record.stream == NONE {
            record.stream = self.used as u32;
            match self.list.get_mut(self.used) {
                Some(stream) => stream.conn = conn,
                None => self.list.push(Stream { conn, own: Vec::new(), parts: Vec::new() }),
            }
            self.used += 1;
        }
        &mut self.list[record.stream as usize]
    }

    pub fn all(&self) -> &[Stream] {
        &self.list[..self.used]
    }

    /// The stream of a connection that has one.
    pub fn get(&self, conns: &Conns, slot: u32) -> &Stream {
        &self.list[conns.get(slot).stream as usize]
    }

    pub fn clear(&mut self, conns: &mut Conns) {
        for (index, stream) in self.list[..self.used].iter_mut().enumerate() {
            if let Some(slot) = conns.slot(stream.conn) {
                conns.get_mut(slot).stream = NONE;
            }
            stream.clear(kept_bytes(index));
        }
        self.list.truncate(KEPT_BUFFERS_MAX);
        self.used = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Time;

    #[test]
    fn a_stream_keeps_the_order_of_replies_and_parts_and_copies_no_part() {
        let (mut conns, mut runs, mut streams) = (Conns::new(), Runs::default(), Streams::default());
        let slot = conns.insert(Time::ZERO).slot() as u32;
        let run = runs.start(0, 0);
        runs.get_mut(run).unwrap().bytes.extend_from_slice(b"0123456789");
        streams.add_part(&mut conns, slot, run, 0..2);
        streams.of(&mut conns, slot).extend_from_slice(b"ab");
        streams.add_part(&mut conns, slot, run, 3..5);
        streams.add_part(&mut conns, slot, run, 5..5);
        streams.add_part(&mut conns, slot, run, 8..10);
        streams.of(&mut conns, slot).extend_from_slice(b"c");
        assert_eq!(streams.all()[0].own, b"abc");
        assert_eq!(streams.all()[0].bytes(&runs, &mut Vec::new()), b"01ab3489c");
        streams.hush(&mut conns, slot);
        assert!(streams.all()[0].is_empty());
    }
}
