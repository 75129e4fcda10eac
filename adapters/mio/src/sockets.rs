//! The clients' sockets by connection slot, and who is ready to be read.

use crate::ready::{Ready, Round};
use fanfare_adapter::cost::Cost;
use fanfare_core::ConnId;
use fanfare_core::time::Time;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

/// At most this much of one connection in one turn. Of the smallest frames it is more than a thousand, which is as long as the
/// others should wait for one client. What a connection has beyond it waits for the next turn.
pub const READ_BYTES: usize = 8 * 1024;

/// What a read gave.
#[derive(Debug)]
pub enum Taken {
    /// This many bytes, and there may be more.
    Some(usize),
    /// This many bytes, and now there are none.
    Last(usize),
    /// Nothing is there.
    Nothing,
    /// The peer sends no more, or the socket failed.
    End,
}

#[derive(Debug)]
struct Socket {
    stream: TcpStream,
    generation: u32,
    /// It is registered with the poll.
    watched: bool,
    /// It stands on the ready list.
    ready: bool,
    /// What reading it has cost lately, which is where it stands on the ready list.
    cost: Cost,
    /// The peer's end has been reported, so a short read does not mean that nothing is there.
    ending: bool,
    /// The end has been read; there is nothing more to read.
    ended: bool,
    /// It took less than it was given; its next writable edge matters.
    blocked: bool,
}

/// All clients' sockets.
#[derive(Debug, Default)]
pub struct Sockets {
    slots: Vec<Option<Socket>>,
    ready: Ready,
    open: usize,
}

impl Sockets {
    /// How many are open.
    pub fn len(&self) -> usize {
        self.open
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.open == 0
    }

    /// Keeps a new connection's socket, which stands on the ready list: its client has spoken, or has been silent so long that
    /// the kernel did not wait for it. Reading before it is registered with the poll saves the edge of what has been read by then.
    pub fn insert(&mut self, conn: ConnId, stream: TcpStream) {
        if self.slots.len() <= conn.slot() {
            self.slots.resize_with(conn.slot() + 1, || None);
        }
        let socket = Socket {
            stream,
            generation: conn.generation(),
            watched: false,
            ready: false,
            cost: Cost::default(),
            ending: false,
            ended: false,
            blocked: false,
        };
        let before = self.slots[conn.slot()].replace(socket);
        debug_assert!(before.is_none(), "a slot is closed before it is used again");
        self.open += 1;
        self.make_ready(conn);
    }

    /// Registers the socket with the poll, unless it is, or has been read to its end: to be called after a read. An edge follows
    /// at once if there is more by now.
    ///
    /// # Errors
    /// If it cannot be registered, for instance for want of memory.
    pub fn watch(&mut self, conn: ConnId, registry: &Registry) -> io::Result<()> {
        let Some(socket) = self.get(conn).filter(|socket| !socket.watched && !socket.ended) else { return Ok(()) };
        socket.watched = true;
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut socket.stream, Token(conn.to_bits() as usize), interest)
    }

    fn get(&mut self, conn: ConnId) -> Option<&mut Socket> {
        self.slots.get_mut(conn.slot())?.as_mut().filter(|socket| socket.generation == conn.generation())
    }

    /// Notes a readiness event. Returns whether the core has to hear that the socket takes bytes again.
    pub fn event(&mut self, conn: ConnId, event: &mio::event::Event) -> bool {
        let Some(socket) = self.get(conn) else { return false };
        if event.is_read_closed() || event.is_error() {
            socket.ending = true;
        }
        if event.is_readable() || socket.ending {
            self.make_ready(conn);
        }
        let Some(socket) = self.get(conn) else { return false };
        event.is_writable() && std::mem::take(&mut socket.blocked)
    }

    /// Puts the connection at the end of its class on the ready list, unless it is on it.
    pub fn make_ready(&mut self, conn: ConnId) {
        self.push_ready(conn, 0);
    }

    /// The same among those who make much work, whatever it has cost so far.
    pub fn make_ready_among_heavy(&mut self, conn: ConnId) {
        self.push_ready(conn, 1);
    }

    fn push_ready(&mut self, conn: ConnId, class_min: usize) {
        let Some(socket) = self.get(conn) else { return };
        if !socket.ready && !socket.ended {
            socket.ready = true;
            let class = socket.cost.class().max(class_min);
            self.ready.push(conn, class);
        }
    }

    /// How many connections are on the ready list.
    pub fn ready(&self) -> usize {
        self.ready.waiting()
    }

    /// How many of them make little work.
    pub fn ready_light(&self) -> usize {
        self.ready.waiting_light()
    }

    /// Begins a turn of reading: see [`Ready::round`].
    pub fn round(&mut self, heavy_max: usize) -> Round {
        self.ready.round(heavy_max)
    }

    /// Notes what it has cost to read a connection and to act upon that.
    pub fn charge(&mut self, conn: ConnId, took: Duration, now: Time) {
        if let Some(socket) = self.get(conn) {
            socket.cost.add(took, now);
        }
    }

    /// Whether the peer has sent something, or its end, that has not been read. Asks the kernel: an edge may not have been seen yet.
    pub fn has_unread(&mut self, conn: ConnId) -> bool {
        let Some(socket) = self.get(conn).filter(|socket| !socket.ended) else { return false };
        !matches!(socket.stream.peek(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Takes the next connection of this turn off the ready list: see [`Ready::next`].
    pub fn next_ready(&mut self, round: &mut Round, time_is_up: bool) -> Option<ConnId> {
        while let Some(conn) = self.ready.next(round, time_is_up) {
            if let Some(socket) = self.get(conn) {
                socket.ready = false;
                return Some(conn);
            }
        }
        None
    }

    /// Reads once.
    pub fn read(&mut self, conn: ConnId, buffer: &mut [u8]) -> Taken {
        let Some(socket) = self.get(conn) else { return Taken::Nothing };
        loop {
            match socket.stream.read(buffer) {
                Ok(0) => {
                    socket.ended = true;
                    return Taken::End;
                }
                // epoll(7): less than was asked for means that nothing is left, and the next byte makes a new edge. An end
                // that has been reported makes none.
                Ok(bytes) if bytes < buffer.len() && !socket.ending => return Taken::Last(bytes),
                Ok(bytes) => return Taken::Some(bytes),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Taken::Nothing,
                Err(_) => {
                    socket.ended = true;
                    return Taken::End;
                }
            }
        }
    }
}

impl fanfare_turn::Sockets for Sockets {
    /// Writes once: how much was taken, or `None` if the socket failed.
    #[inline]
    fn write(&mut self, conn: ConnId, bytes: &[u8]) -> Option<usize> {
        let socket = self.get(conn)?;
        loop {
            match socket.stream.write(bytes) {
                Ok(written) => {
                    socket.blocked = written < bytes.len();
                    return Some(written);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    socket.blocked = true;
                    return Some(0);
                }
                Err(_) => return None,
            }
        }
    }

    /// Sends a FIN.
    fn shutdown(&mut self, conn: ConnId) {
        if let Some(socket) = self.get(conn) {
            // Fails only where the peer has gone, of which reading will tell.
            let _ = socket.stream.shutdown(Shutdown::Write);
        }
    }

    /// Closes the connection's socket, which also takes it off the poll.
    fn close(&mut self, conn: ConnId) {
        if self.get(conn).is_some() {
            self.slots[conn.slot()] = None;
            self.open -= 1;
        }
    }
}
