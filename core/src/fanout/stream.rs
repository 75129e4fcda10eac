//! What a turn has to say to one connection alone: its replies, and its parts of runs that it does not get whole. Buffers are
//! reused from turn to turn.

use super::run::{KEPT_BUFFERS_MAX, KEPT_BYTES_MAX, Runs, kept_bytes};
use crate::id::ConnId;
use crate::slots::{NONE, Slots};
use std::ops::Range;

/// What goes to one connection.
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
            out.extend_from_slice(&runs.bytes(part.run)[part.bytes.clone()]);
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
    pub fn of(&mut self, slots: &mut Slots, slot: u32) -> &mut Vec<u8> {
        &mut self.stream(slots, slot).own
    }

    /// Adds a part of a run, behind what is there so far.
    pub fn add_part(&mut self, slots: &mut Slots, slot: u32, run: u32, bytes: Range<usize>) {
        if !bytes.is_empty() {
            let stream = self.stream(slots, slot);
            stream.parts.push(Part { at: stream.own.len(), run, bytes });
        }
    }

    /// Forgets what was to be said to the connection.
    pub fn hush(&mut self, slots: &mut Slots, slot: u32) {
        if slots.get(slot).stream != NONE {
            self.stream(slots, slot).clear(KEPT_BYTES_MAX);
        }
    }

    fn stream(&mut self, slots: &mut Slots, slot: u32) -> &mut Stream {
        let conn = slots.id(slot);
        let record = slots.get_mut(slot);
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
    pub fn get(&self, slots: &Slots, slot: u32) -> &Stream {
        &self.list[slots.get(slot).stream as usize]
    }

    pub fn clear(&mut self, slots: &mut Slots) {
        for (index, stream) in self.list[..self.used].iter_mut().enumerate() {
            if let Some(slot) = slots.slot(stream.conn) {
                slots.get_mut(slot).stream = NONE;
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
    use crate::slots::Phase;
    use crate::time::Time;
    use std::io::Write;

    #[test]
    fn a_stream_keeps_the_order_of_replies_and_parts_and_copies_no_part() {
        let (mut slots, mut runs, mut streams) = (Slots::new(), Runs::new(64, 1 << 20), Streams::default());
        let slot = slots.insert(Phase::Head, Time::ZERO).slot() as u32;
        let track = runs.add_track();
        let start = runs.write(track, |out| out.write_all(b"0123456789").is_ok()).unwrap();
        let run = runs.start(0, 0, (1, 1), track, start);
        streams.add_part(&mut slots, slot, run, 0..2);
        streams.of(&mut slots, slot).extend_from_slice(b"ab");
        streams.add_part(&mut slots, slot, run, 3..5);
        streams.add_part(&mut slots, slot, run, 5..5);
        streams.add_part(&mut slots, slot, run, 8..10);
        streams.of(&mut slots, slot).extend_from_slice(b"c");
        assert_eq!(streams.all()[0].own, b"abc");
        assert_eq!(streams.all()[0].bytes(&runs, &mut Vec::new()), b"01ab3489c");
        streams.hush(&mut slots, slot);
        assert!(streams.all()[0].is_empty());
    }
}
