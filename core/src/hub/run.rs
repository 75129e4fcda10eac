//! What one turn has to say: a run of frames per room, and a private stream per connection. Buffers are reused from turn to
//! turn.

use crate::conn::{Conns, NONE};
use crate::event::ConnId;
use std::collections::VecDeque;

/// A burst may grow a buffer; past this many bytes it is given back at the end of the turn.
const KEPT_BYTES_MAX: usize = 256 * 1024;
/// As many idle buffers are kept for the next turn; the rest are given back.
const KEPT_BUFFERS_MAX: usize = 256;

/// All frames that one room received in this turn, back to back.
///
/// The room's members are parted in two: those before `Room::full` get the whole run, the others, who joined while it was
/// being built, get it from their entry in `late` on.
#[derive(Debug)]
pub(crate) struct Run {
    pub room: u32,
    pub bytes: Vec<u8>,
    /// Where the run begins for each member from `Room::full` on, in the order of the members.
    pub late: VecDeque<u32>,
}

#[derive(Debug, Default)]
pub(crate) struct Runs {
    list: Vec<Run>,
    used: usize,
}

impl Runs {
    pub fn start(&mut self, room: u32) -> u32 {
        match self.list.get_mut(self.used) {
            Some(run) => run.room = room,
            None => self.list.push(Run { room, bytes: Vec::new(), late: VecDeque::new() }),
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
        for run in &mut self.list[..self.used] {
            run.bytes.clear();
            run.bytes.shrink_to(KEPT_BYTES_MAX);
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
    pub bytes: Vec<u8>,
}

#[derive(Debug, Default)]
pub(crate) struct Streams {
    list: Vec<Stream>,
    used: usize,
}

impl Streams {
    /// The connection's stream of this turn.
    pub fn of(&mut self, conns: &mut Conns, slot: u32) -> &mut Vec<u8> {
        let conn = conns.id(slot);
        let record = conns.get_mut(slot);
        if record.stream == NONE {
            record.stream = self.used as u32;
            match self.list.get_mut(self.used) {
                Some(stream) => stream.conn = conn,
                None => self.list.push(Stream { conn, bytes: Vec::new() }),
            }
            self.used += 1;
        }
        &mut self.list[record.stream as usize].bytes
    }

    pub fn all(&self) -> &[Stream] {
        &self.list[..self.used]
    }

    pub fn clear(&mut self, conns: &mut Conns) {
        for stream in &mut self.list[..self.used] {
            if let Some(slot) = conns.slot(stream.conn) {
                conns.get_mut(slot).stream = NONE;
            }
            stream.bytes.clear();
            stream.bytes.shrink_to(KEPT_BYTES_MAX);
        }
        self.list.truncate(KEPT_BUFFERS_MAX);
        self.used = 0;
    }
}
