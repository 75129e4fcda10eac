//! A client's end of a socket: what it takes, and whether what it got is well-formed.

use crate::http::Response;
use crate::{Frame, MASK, code, head_bytes, inflated, opcode};
use fanfare_wire::write_frame;

#[derive(Debug, Default)]
pub(super) struct Client {
    received: Vec<u8>,
    /// Bytes it still takes; `None` means any number.
    pub takes: Option<usize>,
    /// It took less than it was given, and the core was not told that it takes more.
    pub blocked: bool,
    pub broken: bool,
    /// Someone else reads and writes its frames.
    pub by_message: bool,
    shut_down: bool,
}

impl Client {
    /// One whose upgrade someone else has answered.
    pub fn by_message() -> Client {
        Client { received: b"HTTP/1.1 101 Elsewhere\r\n\r\n".to_vec(), by_message: true, ..Client::default() }
    }

    /// Takes what it can of these bytes, and says how many.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        assert!(!self.shut_down, "nothing is sent after the end");
        let taken = bytes.len().min(self.takes.unwrap_or(usize::MAX));
        let mut received = &bytes[..taken];
        if self.by_message {
            // It has no use for a part of a frame; the core is told of the bytes all the same, and shall see to that.
            let mut whole = 0;
            while let Some((_, frame)) = Frame::parse(&received[whole..]) {
                whole += frame;
            }
            assert!(taken < bytes.len() || whole == taken, "it is given whole frames: {bytes:x?}");
            received = &received[..whole];
        }
        self.received.extend_from_slice(received);
        if let Some(takes) = &mut self.takes {
            *takes -= taken;
        }
        self.blocked |= taken < bytes.len();
        taken
    }

    /// The server sends no more.
    pub fn shut_down(&mut self) {
        assert!(!std::mem::replace(&mut self.shut_down, true) && !self.by_message, "a socket is half-closed once");
        self.check();
    }

    /// One response, and after a 101 frames, of which a close frame is the last; all but the last of them whole.
    pub fn check(&self) {
        let Some(end) = head_bytes(&self.received) else {
            assert!(self.received.is_empty() || b"HTTP/1.1 ".starts_with(&self.received[..self.received.len().min(9)]));
            return;
        };
        let response = Response::parse(std::str::from_utf8(&self.received[..end - 4]).expect("ASCII"));
        let mut rest = &self.received[end..];
        if response.status != 101 {
            let length: usize = response.field("content-length").expect("a length").parse().expect("a number");
            assert!(rest.len() <= length, "nothing follows a response");
            return;
        }
        while let Some((frame, bytes)) = Frame::parse(rest) {
            rest = &rest[bytes..];
            let frame = inflated(frame);
            check_frame(&frame);
            assert!(frame.opcode != opcode::CLOSE || rest.is_empty(), "nothing follows a close frame: {rest:x?}");
        }
        assert!(!self.by_message || rest.is_empty(), "messages are whole: {rest:x?}");
    }
}

fn check_frame(frame: &Frame) {
    assert!(frame.fin, "a server sends no fragments: {frame:?}");
    match frame.opcode {
        opcode::TEXT => assert!(frame.rsv == 0 && std::str::from_utf8(&frame.payload).is_ok()),
        opcode::BINARY => assert!(frame.rsv == 0),
        opcode::PING | opcode::PONG => assert!(frame.rsv == 0 && frame.payload.len() <= 125),
        opcode::CLOSE => {
            assert!(frame.rsv == 0 && frame.payload.len() <= 125);
            if let [high, low, reason @ ..] = &frame.payload[..] {
                assert!(u16::from_be_bytes([*high, *low]) >= code::NORMAL && std::str::from_utf8(reason).is_ok());
            } else {
                assert!(frame.payload.is_empty());
            }
        }
        other => panic!("opcode {other}"),
    }
}

/// A client's frame with any first byte, its length in the shortest form.
pub(super) fn masked(first_byte: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_frame(first_byte, Some(MASK), payload, &mut bytes);
    bytes
}
