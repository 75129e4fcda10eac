//! The clients' sockets by connection slot, and who is ready to be read.

use crate::ready::{Ready, Round};
use crate::secure::{Decrypted, Links};
use fanfare_adapter::cost::Cost;
use fanfare_adapter::tls::Tls;
use fanfare_core::ConnId;
use fanfare_core::time::Time;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown};
use std::time::Duration;

/// At most this much of one connection in one turn. Of the smallest frames it is more than a thousand, which is as long as the
/// others should wait for one client. What a connection has beyond it waits for the next turn.
pub const READ_BYTES: usize = 8 * 1024;

/// What a read gave.
#[derive(Debug)]
pub enum Taken<'a> {
    /// These bytes, and there may be more.
    Some(&'a mut [u8]),
    /// These bytes, and now there are none.
    Last(&'a mut [u8]),
    /// Nothing for the core, and there may be more: a part of a handshake, or of a record.
    Other,
    /// Nothing is there.
    Nothing,
    /// The peer sends no more, or the socket failed.
    End,
}

/// What a socket gave.
enum Given {
    /// This many bytes, and there may be more.
    Some(usize),
    /// This many bytes, and now there are none.
    Last(usize),
    Nothing,
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
    /// Where clients speak TLS: all of them do, or none.
    secure: Option<Box<Links>>,
}

impl Sockets {
    /// None yet. Clients speak TLS, if that is there.
    pub fn new(tls: Option<Tls>) -> Sockets {
        Sockets { secure: tls.map(|tls| Box::new(Links::new(tls))), ..Sockets::default() }
    }

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
    pub fn insert(&mut self, conn: ConnId, stream: TcpStream, peer: IpAddr) {
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
        if let Some(links) = &mut self.secure {
            links.insert(conn.slot(), peer);
        }
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
        get(&mut self.slots, conn)
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
        let Some(socket) = get(&mut self.slots, conn).filter(|_| event.is_writable()) else { return false };
        if let Some(links) = &mut self.secure
            && !links.flush(conn.slot(), &socket.stream)
        {
            return false;
        }
        std::mem::take(&mut socket.blocked)
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
        let Some(socket) = get(&mut self.slots, conn) else { return };
        if !socket.ready && !socket.ended {
            socket.ready = true;
            // A signature takes up to a millisecond, so handshakes are read among those who make much work, whatever they have cost
            // so far: those who are here come first, and of handshakes one is read in each turn that has no time for more.
            let is_handshaking = self.secure.as_ref().is_some_and(|links| links.is_handshaking(conn.slot()));
            let class = socket.cost.class().max(class_min).max(usize::from(is_handshaking));
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
    /// What has been decrypted is with the core, but for the end of a session.
    pub fn has_unread(&mut self, conn: ConnId) -> bool {
        let Some(socket) = get(&mut self.slots, conn).filter(|socket| !socket.ended) else { return false };
        if self.secure.as_ref().is_some_and(|links| links.is_closed(conn.slot())) {
            return true;
        }
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

    /// Reads once, into this buffer. With TLS, what comes of it is elsewhere.
    pub fn read<'a>(&'a mut self, conn: ConnId, buffer: &'a mut [u8]) -> Taken<'a> {
        let Some(socket) = get(&mut self.slots, conn) else { return Taken::Nothing };
        match &mut self.secure {
            None => match socket.read(buffer) {
                Given::Some(bytes) => Taken::Some(&mut buffer[..bytes]),
                Given::Last(bytes) => Taken::Last(&mut buffer[..bytes]),
                Given::Nothing => Taken::Nothing,
                Given::End => Taken::End,
            },
            Some(links) => read_secure(conn, socket, links, buffer),
        }
    }
}

fn get(slots: &mut [Option<Socket>], conn: ConnId) -> Option<&mut Socket> {
    slots.get_mut(conn.slot())?.as_mut().filter(|socket| socket.generation == conn.generation())
}

/// Decrypts what is read. The end of the session is that of the socket, and is told by the next read if there is something before it.
fn read_secure<'a>(conn: ConnId, socket: &mut Socket, links: &'a mut Links, buffer: &mut [u8]) -> Taken<'a> {
    if links.is_closed(conn.slot()) {
        socket.ended = true;
        return Taken::End;
    }
    let (bytes, has_more) = match socket.read(buffer) {
        Given::Some(bytes) => (bytes, true),
        Given::Last(bytes) => (bytes, false),
        Given::Nothing => return Taken::Nothing,
        Given::End => return Taken::End,
    };
    let Decrypted { plaintext, is_closed } = links.read(conn.slot(), &socket.stream, &mut buffer[..bytes]);
    match (plaintext.is_empty(), has_more || is_closed) {
        (true, _) if is_closed => {
            socket.ended = true;
            Taken::End
        }
        (true, true) => Taken::Other,
        (true, false) => Taken::Nothing,
        (false, true) => Taken::Some(plaintext),
        (false, false) => Taken::Last(plaintext),
    }
}

impl Socket {
    fn read(&mut self, buffer: &mut [u8]) -> Given {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => {
                    self.ended = true;
                    return Given::End;
                }
                // epoll(7): less than was asked for means that nothing is left, and the next byte makes a new edge. An end
                // that has been reported makes none.
                Ok(bytes) if bytes < buffer.len() && !self.ending => return Given::Last(bytes),
                Ok(bytes) => return Given::Some(bytes),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Given::Nothing,
                Err(_) => {
                    self.ended = true;
                    return Given::End;
                }
            }
        }
    }
}

impl fanfare_turn::Sockets for Sockets {
    /// Writes once: how much was taken, or `None` if the socket failed.
    #[inline]
    fn write(&mut self, conn: ConnId, bytes: &[u8]) -> Option<usize> {
        let socket = get(&mut self.slots, conn)?;
        if let Some(links) = &mut self.secure {
            let written = links.write(conn.slot(), &socket.stream, bytes)?;
            socket.blocked = written < bytes.len();
            return Some(written);
        }
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

    /// Sends a FIN, after the end of a session.
    fn shutdown(&mut self, conn: ConnId) {
        if let Some(socket) = get(&mut self.slots, conn) {
            if let Some(links) = &mut self.secure {
                return links.shut(conn.slot(), &socket.stream);
            }
            // Fails only where the peer has gone, of which reading will tell.
            let _ = socket.stream.shutdown(Shutdown::Write);
        }
    }

    /// Closes the connection's socket, which also takes it off the poll.
    fn close(&mut self, conn: ConnId) {
        if let Some(socket) = get(&mut self.slots, conn) {
            if let Some(links) = &mut self.secure {
                links.remove(conn.slot(), &socket.stream);
            }
            self.slots[conn.slot()] = None;
            self.open -= 1;
        }
    }
}
