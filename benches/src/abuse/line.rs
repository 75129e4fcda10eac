//! One WebSocket connection that never waits: for the attackers, and for those who must not notice them.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use fanfare_bench::{Context, Result};
use fanfare_wire as wire;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

/// A connection, from its first byte on. Dropping it resets it.
pub(crate) struct Line {
    stream: TcpStream,
    upgraded: bool,
    /// The start of a head or frame whose end has not come yet.
    unfinished: Vec<u8>,
    unsent: Vec<u8>,
    /// How far it is in these.
    at: usize,
}

/// Why a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The upgrade was answered with this status, or something that is none.
    Refused(u16),
    /// The server said goodbye with this code.
    Closed(u16),
    /// Without a word.
    Gone,
}

impl Line {
    /// Connects, and sends `request` as soon as the socket takes it: the request for an upgrade, and what may follow it
    /// without waiting for the answer.
    pub(crate) fn open(registry: &Registry, token: Token, address: SocketAddr, request: &[u8]) -> Result<Line> {
        let mut stream = TcpStream::connect(address).context("cannot connect")?;
        stream.set_nodelay(true).context("cannot set TCP_NODELAY")?;
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).context("cannot set SO_LINGER")?;
        registry
            .register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)
            .context("cannot poll a socket")?;
        Ok(Line { stream, upgraded: false, unfinished: Vec::new(), unsent: request.to_vec(), at: 0 })
    }

    pub(crate) fn is_upgraded(&self) -> bool {
        self.upgraded
    }

    /// Whether the socket has taken everything.
    pub(crate) fn is_flushed(&self) -> bool {
        self.unsent.is_empty()
    }

    /// Adds to what is to be sent.
    pub(crate) fn queue(&mut self, bytes: &[u8]) {
        self.unsent.extend_from_slice(bytes);
    }

    /// Writes what the socket takes, and tells how many bytes that were.
    pub(crate) fn flush(&mut self) -> std::result::Result<usize, End> {
        let before = self.at;
        while self.at < self.unsent.len() {
            match self.stream.write(&self.unsent[self.at..]) {
                Ok(count) => self.at += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_for_later(error.kind()) => return Ok(self.at - before),
                Err(_) => return Err(End::Gone),
            }
        }
        self.unsent.clear();
        Ok(std::mem::take(&mut self.at) - before)
    }

    /// Reads all that is there and shows `hear` every text, with a pong queued for every ping.
    pub(crate) fn read(&mut self, buffer: &mut [u8], hear: &mut dyn FnMut(&[u8])) -> std::result::Result<(), End> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Err(End::Gone),
                Ok(count) => {
                    let mut whole = std::mem::take(&mut self.unfinished);
                    whole.extend_from_slice(&buffer[..count]);
                    let taken = self.understand(&whole, hear)?;
                    whole.drain(..taken);
                    self.unfinished = whole;
                    // The socket is empty, and whatever comes next makes a new event.
                    if count < buffer.len() {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_for_later(error.kind()) => return Ok(()),
                Err(_) => return Err(End::Gone),
            }
        }
    }

    /// Acts on everything complete at the start of `data`, and returns where that ends.
    fn understand(&mut self, data: &[u8], hear: &mut dyn FnMut(&[u8])) -> std::result::Result<usize, End> {
        let mut taken = 0;
        if !self.upgraded {
            match wire::upgraded(data) {
                Ok(None) => return Ok(0),
                Ok(Some(end)) => taken = end,
                Err(_) => return Err(End::Refused(status(data))),
            }
            self.upgraded = true;
        }
        while let Some(frame) = wire::first_frame(&data[taken..]).map_err(|_| End::Gone)? {
            taken += frame.wire_bytes;
            match frame.opcode {
                wire::opcode::TEXT => hear(frame.payload),
                wire::opcode::PING => wire::write_masked(wire::opcode::PONG, frame.payload, &mut self.unsent),
                wire::opcode::CLOSE => {
                    let code = frame.payload.first_chunk().map_or(1005, |bytes| u16::from_be_bytes(*bytes));
                    return Err(End::Closed(code));
                }
                _ => {}
            }
        }
        Ok(taken)
    }
}

/// A socket that is still connecting says that it is not connected.
fn is_for_later(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::NotConnected)
}

/// The status of a response; 0 if it is none.
fn status(head: &[u8]) -> u16 {
    let digits = head.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(..3));
    digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_tells_its_status() {
        assert_eq!(status(b"HTTP/1.1 408 Request Timeout\r\n\r\n"), 408);
        assert_eq!(status(b"SSH-2.0-x\r\n\r\n\r\n"), 0);
    }
}
