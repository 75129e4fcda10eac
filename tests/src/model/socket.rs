//! A client's end as the adapter has it: how much it takes, and in which form. Not what it should be sent.

use crate::{Frame, opcode};
use fanfare_core::{ConnId, Delivery, Event, Message, Turn};

/// In front of what a WebSocket received whose upgrade someone else answered, so that all received alike.
const ANSWERED_ELSEWHERE: &[u8] = b"HTTP/1.1 101 \r\n\r\n";

#[derive(Debug, Default)]
pub(super) struct Socket {
    pub received: Vec<u8>,
    /// Bytes it still takes; `None` means any number.
    pub takes: Option<usize>,
    pub blocked: bool,
    pub broken: bool,
    /// It sends messages, and takes whole ones.
    by_message: bool,
}

impl Socket {
    /// One whose frames someone else reads and writes.
    pub fn by_message() -> Socket {
        Socket { received: ANSWERED_ELSEWHERE.to_vec(), by_message: true, ..Socket::default() }
    }

    /// Takes what it can of a delivery to it.
    pub fn take(&mut self, delivery: &mut Delivery<'_>, conn: ConnId) {
        let bytes = delivery.bytes();
        let takes = self.takes.unwrap_or(usize::MAX);
        let (mut taken, mut messages) = (bytes.len().min(takes), 0);
        if self.by_message {
            let ends = frame_ends(bytes);
            let whole = (delivery.messages().count(), Some(bytes.len()));
            assert_eq!((ends.len(), ends.last().copied()), whole, "whole messages, and nothing else");
            messages = ends.iter().take_while(|end| **end <= takes).count();
            taken = messages.checked_sub(1).map_or(0, |last| ends[last]);
        }
        self.received.extend_from_slice(&bytes[..taken]);
        if let Some(takes) = &mut self.takes {
            *takes -= taken;
        }
        if taken < bytes.len() {
            self.blocked = true;
            match self.by_message {
                true => delivery.short_messages(conn, messages),
                false => delivery.short(conn, taken),
            }
        }
    }
}

/// Where each whole frame ends.
fn frame_ends(bytes: &[u8]) -> Vec<usize> {
    let mut ends = Vec::new();
    while let Some((_, frame)) = Frame::parse(&bytes[ends.last().copied().unwrap_or(0)..]) {
        ends.push(ends.last().copied().unwrap_or(0) + frame);
    }
    ends
}

/// Feeds what a client says, in one of both forms.
pub(super) fn say(turn: &mut Turn<'_>, conn: ConnId, by_message: bool, frame: &Frame) {
    if !by_message {
        return turn.feed(Event::Bytes { conn, data: &mut frame.masked() });
    }
    let text = || std::str::from_utf8(&frame.payload).expect("the model writes text");
    let message = match frame.opcode {
        opcode::TEXT => Message::Text(text()),
        opcode::BINARY => Message::Binary(&frame.payload),
        opcode::CLOSE => Message::Close(frame.payload.first_chunk().map(|code| (u16::from_be_bytes(*code), ""))),
        other => panic!("the model says nothing of the kind: {other}"),
    };
    turn.feed(Event::Message { conn, message });
}
