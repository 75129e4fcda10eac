//! A session of TLS without its socket: ciphertext in, plaintext out, and the other way round.
//!
//! It owns no buffer while it is idle. Two things are kept, and only while they are needed: the beginning of a record whose end has not
//! come, and ciphertext that the socket has not taken.

use crate::counts::Counts;
use crate::error::Failure;
use crate::side::{FRAGMENT_BYTES, Side};
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::{ClientConfig, HandshakeKind, ServerConfig};
use std::io;
use std::sync::Arc;

/// A record with its header, and with what encryption may add to it (RFC 5246 §6.2.3).
const HELD_BYTES_MAX: usize = FRAGMENT_BYTES + 2048 + 5;
/// Before the handshake is done, of a client whose first message is some hundred bytes, or two thousand with a key of a post-quantum
/// scheme. A flood of handshakes that are never finished holds no more than this for each.
const HELLO_BYTES_MAX: usize = 8 * 1024;
/// Of a server that shows its certificates, as long as rustls takes a message of a handshake.
const CERTIFICATES_BYTES_MAX: usize = 64 * 1024 + 4;
/// What is to be said by itself: a handshake with certificates, alerts, keys. A peer that makes it more does not read.
const OUTGOING_BYTES_MAX: usize = 128 * 1024;

const PLAIN_HTTP: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 53\r\nconnection: close\r\n\r\n\
this port speaks TLS: use https:// and wss:// instead";

/// A session, on either side.
#[derive(Debug)]
pub struct Session {
    state: State,
    /// What has come of a record, or of a message of the handshake, that is not whole.
    incoming: Vec<u8>,
    /// What the socket has not taken, from `sent` on.
    outgoing: Vec<u8>,
    sent: usize,
    /// Nothing more is said after `outgoing`.
    is_shut: bool,
    counts: Arc<Counts>,
}

#[derive(Debug)]
enum State {
    /// Of a server, before anything has come: a connection that says nothing costs no more than this.
    Fresh(Arc<ServerConfig>),
    Handshake(Side),
    Open(Side),
    /// It failed, or the peer sends no more. The side may still encrypt.
    Closed(Option<Side>),
}

/// What became of ciphertext.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress {
    /// The session goes on.
    Open,
    /// The peer has said that it sends no more: what the end of a file is to a plain socket.
    Closed,
    /// The session is over. What is to be sent, [flush](Session::flush) it, tells the peer.
    Failed(Failure),
}

impl Session {
    pub(crate) fn of_server(config: Arc<ServerConfig>, counts: Arc<Counts>) -> Session {
        Session::new(State::Fresh(config), counts)
    }

    pub(crate) fn of_client(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Session, rustls::Error> {
        let side = Side::Client(UnbufferedClientConnection::new(config, name)?);
        let mut session = Session::new(State::Handshake(side), Arc::default());
        // Its first message.
        session.read(&mut [], &mut Vec::new());
        Ok(session)
    }

    fn new(state: State, counts: Arc<Counts>) -> Session {
        Session { state, incoming: Vec::new(), outgoing: Vec::new(), sent: 0, is_shut: false, counts }
    }

    /// Whether nothing can be written yet.
    pub fn is_handshaking(&self) -> bool {
        matches!(self.state, State::Fresh(_) | State::Handshake(_))
    }

    /// Whether nothing more comes of the peer.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed(_))
    }

    /// Whether the socket has taken everything.
    pub fn is_flushed(&self) -> bool {
        self.sent == self.outgoing.len()
    }

    /// Whether nothing more will be written and the socket has taken everything, so that a FIN may follow.
    pub fn is_shut(&self) -> bool {
        self.is_shut && self.is_flushed()
    }

    /// Takes all of what a socket gave. What it holds goes behind `plaintext`, whatever the outcome: nothing that is whole is kept
    /// here. Afterwards the session may have something to say: [`Session::flush`].
    pub fn read(&mut self, incoming: &mut [u8], plaintext: &mut Vec<u8>) -> Progress {
        if self.is_shut && !self.is_closed() {
            return Progress::Open;
        }
        if let State::Fresh(config) = &self.state {
            match incoming.first() {
                None => return Progress::Open,
                // The first byte of TLS is 22, and a method of HTTP is in capitals.
                Some(b'A'..=b'Z') => {
                    self.outgoing.extend_from_slice(PLAIN_HTTP);
                    return self.fail(Failure::PlainHttp);
                }
                Some(_) => match UnbufferedServerConnection::new(Arc::clone(config)) {
                    Ok(connection) => self.state = State::Handshake(Side::Server(connection)),
                    Err(error) => return self.fail(Failure::of(error)),
                },
            }
        }
        let (State::Handshake(side) | State::Open(side)) = &mut self.state else { return Progress::Closed };
        let taken = if self.incoming.is_empty() {
            let taken = side.take(incoming, plaintext, &mut self.outgoing);
            self.incoming.extend_from_slice(&incoming[taken.consumed..]);
            taken
        } else {
            self.incoming.extend_from_slice(incoming);
            let taken = side.take(&mut self.incoming, plaintext, &mut self.outgoing);
            self.incoming.drain(..taken.consumed);
            taken
        };
        if self.incoming.is_empty() {
            self.incoming = Vec::new();
        }
        if let Some(error) = taken.error {
            return self.fail(Failure::of(error));
        }
        self.open_when_done();
        if self.incoming.len() > self.incoming_bytes_max() || self.outgoing.len() - self.sent > OUTGOING_BYTES_MAX {
            return self.fail(Failure::too_large());
        }
        if taken.is_closed {
            self.incoming = Vec::new();
            let (State::Handshake(side) | State::Open(side)) = self.take_state() else { return Progress::Closed };
            self.state = State::Closed(Some(side));
            return Progress::Closed;
        }
        Progress::Open
    }

    /// Encrypts what is written, and puts it to the socket by `put`, which tells how much the socket takes. Returns how much of the
    /// plaintext has been taken.
    ///
    /// While the socket has not taken earlier ciphertext, that is nothing, so that what waits does so with the caller, as for a plain
    /// socket. Of a record that the socket does not take whole, the rest is kept here: [`Session::is_flushed`] tells of it.
    ///
    /// `record` is scratch, which sessions may share.
    ///
    /// # Errors
    /// Those of `put` but for `WouldBlock`. `NotConnected` before the handshake is done, and after the session has failed.
    pub fn write(
        &mut self,
        plaintext: &[u8],
        record: &mut Vec<u8>,
        mut put: impl FnMut(&[u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if self.is_shut || !matches!(self.state, State::Open(_) | State::Closed(Some(_))) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        if plaintext.is_empty() || !self.flush(&mut put)? {
            return Ok(0);
        }
        let mut taken = 0;
        for fragment in plaintext.chunks(FRAGMENT_BYTES) {
            let (State::Open(side) | State::Closed(Some(side))) = &mut self.state else { break };
            let length = side.encrypt(fragment, record, &mut self.incoming, &mut self.outgoing);
            let Some(length) = length else { return Err(io::ErrorKind::NotConnected.into()) };
            taken += fragment.len();
            // What rustls has to say by itself stands before it.
            let written = if self.flush(&mut put)? { tried(put(&record[..length]))? } else { 0 };
            if written < length {
                self.outgoing.extend_from_slice(&record[written..length]);
                break;
            }
        }
        Ok(taken)
    }

    /// Puts to the socket what it has not taken. Returns whether that is all.
    ///
    /// # Errors
    /// Those of `put` but for `WouldBlock`.
    pub fn flush(&mut self, mut put: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<bool> {
        if self.outgoing.is_empty() {
            return Ok(true);
        }
        while self.sent < self.outgoing.len() {
            let written = tried(put(&self.outgoing[self.sent..]))?;
            if written == 0 {
                return Ok(false);
            }
            self.sent += written;
        }
        (self.outgoing, self.sent) = (Vec::new(), 0);
        Ok(true)
    }

    /// Nothing more will be written: the peer is told, once it is [flushed](Session::flush). Then a FIN may [follow](Session::is_shut).
    /// What the peer says from here on is thrown away unread.
    pub fn shut(&mut self) {
        if std::mem::replace(&mut self.is_shut, true) {
            return;
        }
        if let State::Open(side) | State::Closed(Some(side)) = &mut self.state {
            side.close_notify(&mut self.incoming, &mut self.outgoing);
        }
    }

    fn incoming_bytes_max(&self) -> usize {
        match &self.state {
            State::Handshake(Side::Client(_)) => CERTIFICATES_BYTES_MAX,
            State::Handshake(Side::Server(_)) => HELLO_BYTES_MAX,
            _ => HELD_BYTES_MAX,
        }
    }

    fn open_when_done(&mut self) {
        match self.take_state() {
            State::Handshake(side) if !side.is_handshaking() => {
                self.counts.done(side.handshake_kind() == Some(HandshakeKind::Resumed));
                self.state = State::Open(side);
            }
            other => self.state = other,
        }
    }

    fn fail(&mut self, failure: Failure) -> Progress {
        if self.is_handshaking() {
            self.counts.failed(&failure);
        }
        self.state = State::Closed(None);
        self.is_shut = true;
        self.incoming = Vec::new();
        Progress::Failed(failure)
    }

    fn take_state(&mut self) -> State {
        std::mem::replace(&mut self.state, State::Closed(None))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if matches!(self.state, State::Handshake(_)) {
            self.counts.unfinished();
        }
    }
}

/// How much a socket took at once.
fn tried(put: io::Result<usize>) -> io::Result<usize> {
    match put {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        written => written,
    }
}
