//! One WebSocket connection that never waits: what has been read of a frame, what the socket has not taken yet, and what every
//! client does alike, which is to look at the response to the upgrade, to answer pings and to end at a close frame. What
//! texts mean is the client's.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use fanfare_tls::{Progress, Session};
use fanfare_wire as wire;
use fanfare_wire::{FrameRef, opcode};
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::{Error, Result};

/// Bytes read at once: longer than what a server sends in one go.
pub const READ_BUFFER_BYTES: usize = 64 * 1024;

/// Bytes of TLS that are read at once: with a record of which the rest has come before, what they hold fits the buffer.
const CIPHERTEXT_BYTES: usize = 32 * 1024;

/// Events taken at once; a wait that brings more brings the rest next time.
pub const EVENTS_MAX: usize = 1024;

thread_local! {
    /// What all sessions share: what the last read held, and where a record is encrypted.
    static PLAINTEXT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static RECORD: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A connection, from its first byte on. Dropping it resets it, so that no port lingers.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    upgraded: bool,
    /// The start of a head or frame whose end has not come yet; almost always empty, and then without memory.
    unfinished: Vec<u8>,
    unsent: Vec<u8>,
    tls: Option<Box<Session>>,
    /// The last read may not have emptied the socket, however little it gave.
    has_more: bool,
}

/// What is for the client.
#[derive(Clone, Copy, Debug)]
pub enum Heard<'a> {
    /// The upgrade is accepted.
    Upgraded,
    /// A text, as it is on the wire.
    Text(FrameRef<'a>),
}

/// Why a connection is over.
#[derive(Debug)]
pub enum End {
    /// The upgrade was answered with this head.
    Refused(String),
    /// The server said goodbye: with this code, 1005 if it has none, and this reason.
    Closed(u16, String),
    /// The server ended it without a word.
    Gone,
    /// So did the network, or somebody else.
    Broken(io::Error),
    /// What came cannot be read.
    Unreadable(wire::Error),
    /// The client cannot go on.
    Fault(Error),
}

impl Connection {
    /// Begins to connect. Events have the `token`.
    pub fn open(address: SocketAddr, registry: &Registry, token: Token) -> io::Result<Connection> {
        Connection::over(TcpStream::connect(address)?, registry, token)
    }

    /// Over a socket of one's own, which does not block.
    pub fn over(mut stream: TcpStream, registry: &Registry, token: Token) -> io::Result<Connection> {
        stream.set_nodelay(true)?;
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Connection {
            stream,
            upgraded: false,
            unfinished: Vec::new(),
            unsent: Vec::new(),
            tls: None,
            has_more: false,
        })
    }

    /// The same by TLS.
    pub fn by_tls(self, session: Session) -> Connection {
        Connection { tls: Some(Box::new(session)), ..self }
    }

    /// Whether there may be more to be read, although the last read did not fill the buffer.
    pub fn has_more(&self) -> bool {
        self.has_more
    }

    /// The same to a server that sends frames without an upgrade.
    pub fn without_upgrade(self) -> Connection {
        Connection { upgraded: true, ..self }
    }

    /// Whether it is established. The error is the reason why it never will be.
    pub fn is_established(&self) -> io::Result<bool> {
        match self.stream.take_error()?.map_or_else(|| self.stream.peer_addr().map(drop), Err) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether the upgrade has been accepted.
    pub fn is_upgraded(&self) -> bool {
        self.upgraded
    }

    /// Whether the socket has taken everything.
    pub fn is_flushed(&self) -> bool {
        self.unsent.is_empty()
    }

    /// What the socket has not taken yet, to add to it.
    pub fn unsent(&mut self) -> &mut Vec<u8> {
        &mut self.unsent
    }

    /// Writes what the socket takes, and tells how many bytes that were. The rest is for when it can be written again.
    ///
    /// # Errors
    ///
    /// [`End::Broken`].
    pub fn flush(&mut self) -> std::result::Result<usize, End> {
        if self.tls.is_some() {
            return self.flush_tls();
        }
        let mut sent = 0;
        while sent < self.unsent.len() {
            match self.stream.write(&self.unsent[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_for_later(&error) => break,
                Err(error) => return Err(End::Broken(error)),
            }
        }
        self.unsent.drain(..sent);
        Ok(sent)
    }

    fn flush_tls(&mut self) -> std::result::Result<usize, End> {
        let Connection { stream, unsent, tls: Some(session), .. } = self else { return Ok(0) };
        let mut put = |bytes: &[u8]| match stream.write(bytes) {
            Err(error) if is_for_later(&error) || error.kind() == ErrorKind::Interrupted => Ok(0),
            written => written,
        };
        if session.is_handshaking() {
            session.flush(put).map_err(End::Broken)?;
            return Ok(0);
        }
        let sent = RECORD.with_borrow_mut(|record| session.write(unsent, record, &mut put)).map_err(End::Broken)?;
        // What is encrypted and not taken goes even where nothing else is to be sent.
        session.flush(put).map_err(End::Broken)?;
        unsent.drain(..sent);
        Ok(sent)
    }

    /// Reads what there is of TLS, and gives what it holds.
    fn receive_tls(&mut self, buffer: &mut [u8]) -> std::result::Result<Option<usize>, End> {
        let mut ciphertext = [0; CIPHERTEXT_BYTES];
        let read = match self.stream.read(&mut ciphertext) {
            Ok(0) => return Err(End::Gone),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                self.has_more = true;
                return Ok(Some(0));
            }
            Err(error) if is_for_later(&error) => return Ok(None),
            Err(error) => return Err(End::Broken(error)),
        };
        self.has_more = read == CIPHERTEXT_BYTES;
        let Some(session) = &mut self.tls else { return Ok(None) };
        let was_handshaking = session.is_handshaking();
        let held = PLAINTEXT.with_borrow_mut(|plaintext| {
            plaintext.clear();
            match session.read(&mut ciphertext[..read], plaintext) {
                Progress::Failed(failure) => return Err(End::Fault(Error::new(format!("TLS: {failure}")))),
                Progress::Closed if plaintext.is_empty() => return Err(End::Gone),
                _ => {}
            }
            buffer[..plaintext.len()].copy_from_slice(plaintext);
            Ok(plaintext.len())
        })?;
        if was_handshaking {
            // Its next words, or the request that has waited for the last of them.
            self.flush()?;
        }
        Ok(Some(held))
    }

    /// Gives memory back: whoever only listens from now on would have it for nothing.
    pub fn trim(&mut self) {
        self.unsent.shrink_to_fit();
    }

    /// Reads all that is there and takes it. Answers to it are not sent yet.
    ///
    /// # Errors
    ///
    /// If the connection is over.
    pub fn read(
        &mut self,
        buffer: &mut [u8],
        mut hear: impl FnMut(Heard<'_>, &mut Vec<u8>) -> Result<()>,
    ) -> std::result::Result<(), End> {
        while let Some(count) = self.receive(buffer)? {
            self.take(&buffer[..count], &mut hear)?;
            // The socket is empty, and whatever comes next makes a new event: no need to ask for a WouldBlock.
            if count < buffer.len() && !self.has_more {
                break;
            }
        }
        Ok(())
    }

    /// Reads once: how many bytes there were, if any. They are to be taken before the next.
    ///
    /// # Errors
    ///
    /// [`End::Gone`] and [`End::Broken`].
    #[inline]
    pub fn receive(&mut self, buffer: &mut [u8]) -> std::result::Result<Option<usize>, End> {
        if self.tls.is_some() {
            return self.receive_tls(buffer);
        }
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Err(End::Gone),
                Ok(count) => return Ok(Some(count)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_for_later(&error) => return Ok(None),
                Err(error) => return Err(End::Broken(error)),
            }
        }
    }

    /// Takes bytes that have come. `hear` gets what is for the client, in place, and may add to what is to be sent.
    ///
    /// # Errors
    ///
    /// If the connection is over.
    #[inline]
    pub fn take(
        &mut self,
        data: &[u8],
        hear: &mut impl FnMut(Heard<'_>, &mut Vec<u8>) -> Result<()>,
    ) -> std::result::Result<(), End> {
        if self.unfinished.is_empty() {
            let taken = self.understand(data, hear)?;
            self.unfinished.extend_from_slice(&data[taken..]);
        } else {
            let mut whole = std::mem::take(&mut self.unfinished);
            whole.extend_from_slice(data);
            let taken = self.understand(&whole, hear)?;
            whole.drain(..taken);
            // An emptied buffer is given back: ten thousand of them would only slow everything down.
            self.unfinished = if whole.is_empty() { Vec::new() } else { whole };
        }
        Ok(())
    }

    /// Acts on everything complete at the start of `data`, and returns where that ends.
    #[inline]
    fn understand(
        &mut self,
        data: &[u8],
        hear: &mut impl FnMut(Heard<'_>, &mut Vec<u8>) -> Result<()>,
    ) -> std::result::Result<usize, End> {
        let mut taken = 0;
        if !self.upgraded {
            let Some(end) = wire::upgraded(data)? else { return Ok(0) };
            (self.upgraded, taken) = (true, end);
            hear(Heard::Upgraded, &mut self.unsent)?;
        }
        while let Some(frame) = wire::first_frame(&data[taken..])? {
            taken += frame.wire_bytes;
            match frame.opcode {
                opcode::TEXT => hear(Heard::Text(frame), &mut self.unsent)?,
                opcode::PING => wire::write_masked(opcode::PONG, frame.payload, &mut self.unsent),
                opcode::CLOSE => {
                    let code = frame.payload.first_chunk().map_or(1005, |bytes| u16::from_be_bytes(*bytes));
                    let reason = String::from_utf8_lossy(frame.payload.get(2..).unwrap_or_default());
                    return Err(End::Closed(code, reason.into_owned()));
                }
                _ => {}
            }
        }
        Ok(taken)
    }
}

/// A socket that is still connecting says that it is not connected.
fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected)
}

impl End {
    /// The status of the response to an upgrade that was refused; 0 if it is none of HTTP/1.1.
    pub fn status(head: &str) -> u16 {
        let digits = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
        digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
    }
}

impl From<wire::Error> for End {
    fn from(error: wire::Error) -> End {
        match error {
            wire::Error::Refused(head) => End::Refused(head),
            other => End::Unreadable(other),
        }
    }
}

impl From<Error> for End {
    fn from(error: Error) -> End {
        End::Fault(error)
    }
}

impl From<End> for Error {
    fn from(end: End) -> Error {
        match end {
            End::Fault(error) => error,
            other => Error::new(other.to_string()),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Refused(head) => write!(f, "the upgrade was refused: {head}"),
            End::Closed(code, reason) => write!(f, "the server closed the connection with {code} {reason}"),
            End::Gone => f.write_str("the server closed the connection"),
            End::Broken(error) => write!(f, "the connection broke: {error}"),
            End::Unreadable(error) => error.fmt(f),
            End::Fault(error) => error.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use mio::Poll;

    use super::*;

    #[test]
    fn what_comes_is_the_same_wherever_it_is_cut() {
        let mut bytes = Vec::new();
        wire::write_upgraded(&mut bytes);
        wire::write_subscribed("r", &mut bytes);
        bytes.extend(wire::Frame::new(opcode::PING, "?").unmasked());
        let message = format!(r#"{{"type":"MESSAGE","room":"r","message":"{}"}}"#, "m".repeat(200));
        bytes.extend(wire::Frame::text(&message).unmasked());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let poll = Poll::new().unwrap();
        for cut in 0..=bytes.len() {
            let address = listener.local_addr().unwrap();
            let mut connection = Connection::open(address, poll.registry(), Token(0)).unwrap();
            let mut heard = Vec::new();
            for part in [&bytes[..cut], &bytes[cut..]] {
                let hear = &mut |what: Heard<'_>, _: &mut Vec<u8>| {
                    heard.push(match what {
                        Heard::Upgraded => 0,
                        Heard::Text(frame) => frame.payload.len(),
                    });
                    Ok(())
                };
                connection.take(part, hear).unwrap();
            }
            assert_eq!(heard, ["", r#"{"type":"SUBSCRIBED","room":"r"}"#, &message].map(str::len), "cut at {cut}");
            assert_eq!(*connection.unsent(), wire::Frame::new(opcode::PONG, "?").masked());
            assert!(connection.is_upgraded() && connection.unfinished.capacity() == 0);
        }
    }

    #[test]
    fn a_close_frame_ends_it_with_code_and_reason() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let poll = Poll::new().unwrap();
        let open = || Connection::open(listener.local_addr().unwrap(), poll.registry(), Token(0)).unwrap();
        let end = |bytes: Vec<u8>| {
            let taken = open().without_upgrade().take(&bytes, &mut |_, _| Ok(()));
            taken.unwrap_err().to_string()
        };
        let said = "the server closed the connection with";
        assert_eq!(end(wire::Frame::close(4008, "too slow").unmasked()), format!("{said} 4008 too slow"));
        assert_eq!(end(wire::Frame::new(opcode::CLOSE, "").unmasked()), format!("{said} 1005 "));
    }

    #[test]
    fn a_refusal_tells_its_status() {
        assert_eq!(End::status("HTTP/1.1 408 Request Timeout"), 408);
        assert_eq!(End::status("SSH-2.0-x"), 0);
    }
}
