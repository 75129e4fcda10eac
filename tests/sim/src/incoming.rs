//! What a client reads: a response head and then whole frames, taken apart as bytes come, by another parser than the server's
//! encoder knows of.

use fanfare_wire::{COMPRESSED, Frame, SAMPLE_ACCEPT, head_bytes, inflated, opcode};
use std::fmt;

/// One thing that was heard.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// The upgrade was accepted.
    Upgraded,
    /// It was refused with this status.
    Refused(u16),
    /// A text message, inflated.
    Text(String),
    /// A ping.
    Ping(Vec<u8>),
    /// A pong.
    Pong(String),
    /// A close frame; 0 without a code.
    Close(u16, String),
}

impl fmt::Display for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Heard::Text(text) => f.write_str(text),
            other => write!(f, "{other:?}"),
        }
    }
}

/// The bytes of one connection.
#[derive(Debug)]
pub struct Incoming {
    unread: Vec<u8>,
    offered: bool,
    compressed: bool,
    upgraded: bool,
    /// A close frame, or a refusal: nothing may follow.
    over: bool,
}

impl Incoming {
    /// Nothing has come; whether compression was offered.
    pub fn new(offered: bool) -> Incoming {
        Incoming { unread: Vec::new(), offered, compressed: false, upgraded: false, over: false }
    }

    /// Whether compression was agreed upon.
    pub fn is_compressed(&self) -> bool {
        self.compressed
    }

    /// Bytes that have come and were not heard yet.
    pub fn unread_bytes(&self) -> u64 {
        self.unread.len() as u64
    }

    /// Bytes come.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
    }

    /// The next thing that is whole.
    ///
    /// # Errors
    /// If the bytes are no sequence of what a server may send.
    pub fn next(&mut self) -> Result<Option<Heard>, String> {
        if !self.upgraded {
            return self.head();
        }
        let Some((frame, taken)) = Frame::parse(&self.unread) else { return Ok(None) };
        if self.over {
            return Err(format!("a frame behind the close frame: {frame:?}"));
        }
        self.unread.drain(..taken);
        if !frame.fin || frame.rsv != 0 && !(frame.rsv == COMPRESSED && self.compressed && frame.opcode == opcode::TEXT)
        {
            return Err(format!("no frame of this server's: {frame:?}"));
        }
        let frame = inflated(frame);
        let text = || String::from_utf8(frame.payload.clone()).map_err(|error| error.to_string());
        Ok(Some(match frame.opcode {
            opcode::TEXT => Heard::Text(text()?),
            opcode::PONG => Heard::Pong(text()?),
            opcode::PING => Heard::Ping(frame.payload),
            opcode::CLOSE => {
                self.over = true;
                let code = frame.payload.first_chunk().map_or(0, |code| u16::from_be_bytes(*code));
                let reason = String::from_utf8_lossy(frame.payload.get(2..).unwrap_or_default()).into_owned();
                Heard::Close(code, reason)
            }
            _ => return Err(format!("no frame of this server's: {frame:?}")),
        }))
    }

    fn head(&mut self) -> Result<Option<Heard>, String> {
        if self.over {
            // The body of the refusal.
            self.unread.clear();
            return Ok(None);
        }
        let Some(end) = head_bytes(&self.unread) else { return Ok(None) };
        let head: Vec<u8> = self.unread.drain(..end).collect();
        let head = String::from_utf8(head).map_err(|error| error.to_string())?;
        let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.ok_or_else(|| format!("no response: {head}"))?;
        if status != 101 {
            self.over = true;
            return Ok(Some(Heard::Refused(status)));
        }
        if !head.contains(SAMPLE_ACCEPT) {
            return Err(format!("the key is not answered: {head}"));
        }
        self.upgraded = true;
        self.compressed = head.contains("permessage-deflate");
        if self.compressed && !self.offered {
            return Err("compression that nobody offered".to_owned());
        }
        Ok(Some(Heard::Upgraded))
    }
}
