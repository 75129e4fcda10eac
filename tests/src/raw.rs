//! A client that writes and reads bytes, and keeps no rule by itself.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::time::Instant;

use rustix::net::{AddressFamily, SocketType};

use crate::{DEADLINE, Frame, Response, head_bytes, opcode, upgrade_request};

/// A TCP connection to a server.
pub struct RawClient {
    stream: TcpStream,
    received: Vec<u8>,
}

impl RawClient {
    /// Connects, and sends nothing.
    ///
    /// # Panics
    ///
    /// If nobody listens.
    pub fn connect(address: SocketAddr) -> RawClient {
        let stream = TcpStream::connect_timeout(&address, DEADLINE)
            .unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"));
        stream.set_nodelay(true).expect("a fresh socket takes options");
        RawClient { stream, received: Vec::new() }
    }

    /// Connects from another address of this machine: all of 127.0.0.0/8 are its own.
    ///
    /// # Panics
    ///
    /// If nobody listens, or the address is not this machine's.
    pub fn connect_from(source: IpAddr, address: SocketAddr) -> RawClient {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = rustix::net::socket(family, SocketType::STREAM, None).expect("a socket");
        rustix::net::bind(&socket, &SocketAddr::new(source, 0)).expect("an address of this machine");
        rustix::net::connect(&socket, &address).unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"));
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true).expect("a fresh socket takes options");
        RawClient { stream, received: Vec::new() }
    }

    /// Connects and upgrades on `/ws`.
    ///
    /// # Panics
    ///
    /// If the upgrade is not accepted.
    pub fn upgraded(address: SocketAddr) -> RawClient {
        RawClient::try_upgrade(address).unwrap_or_else(|refusal| panic!("not upgraded: {}", refusal.head))
    }

    /// Connects and asks for an upgrade on `/ws`; gives the response if it is not 101.
    ///
    /// # Errors
    ///
    /// The refusal.
    pub fn try_upgrade(address: SocketAddr) -> Result<RawClient, Response> {
        RawClient::upgraded_at(address, "/ws")
    }

    /// Connects and asks for an upgrade on a path; gives the response if it is not 101.
    ///
    /// # Errors
    ///
    /// The refusal.
    pub fn upgraded_at(address: SocketAddr, path: &str) -> Result<RawClient, Response> {
        RawClient::upgraded_with(address, path, "").map(|(client, _)| client)
    }

    /// The same with further field lines in the request, each ended by CRLF; gives the response, too.
    ///
    /// # Errors
    ///
    /// The refusal.
    pub fn upgraded_with(address: SocketAddr, path: &str, fields: &str) -> Result<(RawClient, Response), Response> {
        let mut client = RawClient::connect(address);
        client.write(upgrade_request(path, fields));
        let response = client.read_response();
        if response.status == 101 { Ok((client, response)) } else { Err(response) }
    }

    /// The socket, for its options.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Writes all bytes.
    ///
    /// # Panics
    ///
    /// If the server does not take them.
    pub fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.set_write_timeout(Some(DEADLINE)).expect("a timeout above zero");
        self.stream.write_all(bytes.as_ref()).expect("the server takes the bytes");
    }

    /// Writes all bytes unless the server has gone: for a peer that goes on after its violation.
    pub fn write_or_gone(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.set_write_timeout(Some(DEADLINE)).expect("a timeout above zero");
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// Sends a frame, masked.
    ///
    /// # Panics
    ///
    /// If the server does not take it.
    pub fn send(&mut self, frame: &Frame) {
        self.write(frame.masked());
    }

    /// Sends a text message.
    ///
    /// # Panics
    ///
    /// If the server does not take it.
    pub fn send_text(&mut self, text: &str) {
        self.send(&Frame::text(text));
    }

    /// Says that nothing more will be sent.
    ///
    /// # Panics
    ///
    /// If the connection is gone.
    pub fn finish_writing(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("an open connection");
    }

    /// Takes what has arrived into `received`; `false` at the end of the stream.
    fn receive(&mut self, deadline: Instant, what: &str) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "not within {DEADLINE:?}: {what}; received: {}", self.excerpt());
        self.stream.set_read_timeout(Some(left)).expect("a timeout above zero");
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(length) => {
                self.received.extend_from_slice(&buffer[..length]);
                length > 0
            }
            // A server that closes while bytes of ours are unread resets the connection.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => true,
            Err(error) => panic!("waiting for {what}: {error}"),
        }
    }

    fn excerpt(&self) -> String {
        let shown = &self.received[..self.received.len().min(200)];
        format!("{} bytes, {:?}", self.received.len(), String::from_utf8_lossy(shown))
    }

    /// Reads a response's head; the bytes after it stay to be read.
    ///
    /// # Panics
    ///
    /// If none comes.
    pub fn read_head(&mut self) -> Response {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(end) = head_bytes(&self.received) {
                let rest = self.received.split_off(end);
                let mut head = std::mem::replace(&mut self.received, rest);
                head.truncate(end - 4);
                return Response::parse(&String::from_utf8(head).expect("a head in UTF-8"));
            }
            assert!(self.receive(deadline, "a response"), "no response but the end; received: {}", self.excerpt());
        }
    }

    /// Reads a response with its body. After 101 nothing is a body.
    ///
    /// # Panics
    ///
    /// If none comes.
    pub fn read_response(&mut self) -> Response {
        let deadline = Instant::now() + DEADLINE;
        let mut response = self.read_head();
        if matches!(response.status, 101 | 204 | 304) {
            return response;
        }
        let length = response.field("content-length").map(|text| text.parse::<usize>().expect("a content length"));
        match length {
            Some(length) => {
                while self.received.len() < length {
                    assert!(self.receive(deadline, "the body"), "the body is cut short: {}", response.head);
                }
                let rest = self.received.split_off(length);
                response.body = std::mem::replace(&mut self.received, rest);
            }
            None => {
                while self.receive(deadline, "the end of the body") {}
                response.body = std::mem::take(&mut self.received);
            }
        }
        response
    }

    /// Reads the next frame; `None` if the connection ends before it begins.
    ///
    /// # Panics
    ///
    /// If none comes, or only a part of one.
    pub fn recv_or_end(&mut self) -> Option<Frame> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some((frame, length)) = Frame::parse(&self.received) {
                self.received.drain(..length);
                return Some(frame);
            }
            if !self.receive(deadline, "a frame") {
                assert!(self.received.is_empty(), "the connection ends within a frame: {}", self.excerpt());
                return None;
            }
        }
    }

    /// Reads the next frame.
    ///
    /// # Panics
    ///
    /// If none comes.
    pub fn recv(&mut self) -> Frame {
        self.recv_or_end().expect("a frame, not the end of the connection")
    }

    /// Reads the next frame, which must be a whole text.
    ///
    /// # Panics
    ///
    /// If it is not.
    pub fn recv_text(&mut self) -> String {
        let frame = self.recv();
        assert!(frame.fin && frame.rsv == 0 && frame.opcode == opcode::TEXT, "not a whole text: {frame:?}");
        String::from_utf8(frame.payload).expect("a text in UTF-8")
    }

    /// Reads the next frame, which must be a close frame: its code (`None` if it is empty).
    ///
    /// # Panics
    ///
    /// If it is not, or carries a reason that is not UTF-8.
    pub fn recv_close(&mut self) -> Option<u16> {
        let frame = self.recv();
        assert!(frame.fin && frame.rsv == 0 && frame.opcode == opcode::CLOSE, "not a close frame: {frame:?}");
        match frame.payload.as_slice() {
            [] => None,
            [high, low, reason @ ..] => {
                std::str::from_utf8(reason).expect("a reason in UTF-8");
                Some(u16::from_be_bytes([*high, *low]))
            }
            short => panic!("a close frame with half a code: {short:?}"),
        }
    }

    /// Reads until a close frame, skipping pings, pongs and texts.
    ///
    /// # Panics
    ///
    /// If the connection ends without one.
    pub fn skip_to_close(&mut self) -> Option<u16> {
        loop {
            let frame = self.recv();
            if frame.opcode == opcode::CLOSE {
                self.received.splice(..0, frame.unmasked());
                return self.recv_close();
            }
        }
    }

    /// Reads whatever comes, to the end of the connection.
    ///
    /// # Panics
    ///
    /// If it does not end.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let deadline = Instant::now() + DEADLINE;
        while self.receive(deadline, "the end of the connection") {}
        std::mem::take(&mut self.received)
    }

    /// Waits for the end of the connection, with nothing before it.
    ///
    /// # Panics
    ///
    /// If more bytes come.
    pub fn expect_end(&mut self) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            assert!(self.received.is_empty(), "more before the end: {}", self.excerpt());
            if !self.receive(deadline, "the end of the connection") {
                break;
            }
        }
    }
}
