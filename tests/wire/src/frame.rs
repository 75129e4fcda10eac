//! Frames as a client writes them (RFC 6455 §5.2), the forbidden ones too.

use crate::FrameRef;

/// Opcodes.
pub mod opcode {
    /// Continues a fragmented message.
    pub const CONTINUATION: u8 = 0x0;
    /// A text message, or its first fragment.
    pub const TEXT: u8 = 0x1;
    /// A binary message, or its first fragment.
    pub const BINARY: u8 = 0x2;
    /// Ends the connection.
    pub const CLOSE: u8 = 0x8;
    /// Asks for a sign of life.
    pub const PING: u8 = 0x9;
    /// Gives one.
    pub const PONG: u8 = 0xA;
}

/// Close codes (RFC 6455 §7.4.1, and the server's own from 4000).
pub mod code {
    /// The purpose is fulfilled.
    pub const NORMAL: u16 = 1000;
    /// The peer broke the protocol.
    pub const PROTOCOL: u16 = 1002;
    /// A text was not UTF-8.
    pub const NOT_UTF8: u16 = 1007;
    /// What came was against the server's policy: a message in too many frames.
    pub const POLICY: u16 = 1008;
    /// A message was too big.
    pub const TOO_BIG: u16 = 1009;
    /// The server restarts.
    pub const RESTART: u16 = 1012;
    /// No sign of life came.
    pub const NO_SIGN_OF_LIFE: u16 = 4000;
    /// The client reads too slowly.
    pub const TOO_SLOW: u16 = 4008;
    /// Too many messages, bytes or pings a second.
    pub const TOO_FAST: u16 = 4029;
    /// The client sent too many commands in error.
    pub const TOO_MANY_ERRORS: u16 = 4509;
}

/// Says that a frame is the last of its message: the highest bit of its first byte.
pub const FIN: u8 = 0x80;

/// Of the reserved bits, the one that says that a message is compressed (RSV1, RFC 7692 §6).
pub const COMPRESSED: u8 = 4;

/// The key of every frame whose sender has no reason for another. It need not be random where nobody could guess at caches;
/// it is not zero, so that a server has to unmask as it does for real.
pub const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A frame. Nothing stops it from being an invalid one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Whether it ends a message.
    pub fin: bool,
    /// The three reserved bits, as the number 0 to 7.
    pub rsv: u8,
    /// What it is.
    pub opcode: u8,
    /// What it carries, unmasked.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A whole message or a control frame.
    pub fn new(opcode: u8, payload: impl AsRef<[u8]>) -> Frame {
        Frame { fin: true, rsv: 0, opcode, payload: payload.as_ref().to_vec() }
    }

    /// A whole text message.
    pub fn text(payload: impl AsRef<[u8]>) -> Frame {
        Frame::new(opcode::TEXT, payload)
    }

    /// A close frame with code and reason.
    pub fn close(code: u16, reason: impl AsRef<[u8]>) -> Frame {
        Frame::new(opcode::CLOSE, [&code.to_be_bytes(), reason.as_ref()].concat())
    }

    /// The same, with more fragments to follow.
    pub fn unfinished(mut self) -> Frame {
        self.fin = false;
        self
    }

    /// The same with these reserved bits.
    pub fn with_rsv(mut self, rsv: u8) -> Frame {
        self.rsv = rsv;
        self
    }

    fn first_byte(&self) -> u8 {
        u8::from(self.fin) << 7 | self.rsv << 4 | self.opcode
    }

    /// Its bytes as a client sends them, masked with [`MASK`].
    pub fn masked(&self) -> Vec<u8> {
        self.masked_with(MASK)
    }

    /// The same, masked with `key`.
    pub fn masked_with(&self, key: [u8; 4]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_frame(self.first_byte(), Some(key), &self.payload, &mut bytes);
        bytes
    }

    /// Its bytes without a mask.
    pub fn unmasked(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_frame(self.first_byte(), None, &self.payload, &mut bytes);
        bytes
    }

    /// Reads one unmasked frame from the front of `bytes`: the frame and its length, or `None` if it is not whole yet.
    ///
    /// # Panics
    ///
    /// If it is masked, as no server may send it.
    pub fn parse(bytes: &[u8]) -> Option<(Frame, usize)> {
        let frame = FrameRef::parse(bytes).unwrap_or_else(|error| panic!("a server must not mask: {error}"))?;
        Some((frame.to_frame(), frame.wire_bytes))
    }
}

/// Appends a frame with any first byte, and with a mask if there is a `key`.
pub fn write_frame(first_byte: u8, key: Option<[u8; 4]>, payload: &[u8], out: &mut Vec<u8>) {
    out.push(first_byte);
    Length::shortest(payload.len()).write(key.is_some(), out);
    match key {
        Some(key) => {
            out.extend_from_slice(&key);
            out.extend(masked(payload, key));
        }
        None => out.extend_from_slice(payload),
    }
}

/// Appends a whole frame, masked with [`MASK`], as clients must send them.
pub fn write_masked(opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
    write_frame(FIN | opcode, Some(MASK), payload, out);
}

fn masked(payload: &[u8], key: [u8; 4]) -> impl Iterator<Item = u8> {
    payload.iter().zip(key.into_iter().cycle()).map(|(byte, key)| byte ^ key)
}

/// A length in one of its three forms, fitting or not.
#[derive(Clone, Copy, Debug)]
pub enum Length {
    /// Seven bits, up to 125.
    Short(u8),
    /// Sixteen bits after 126.
    Medium(u16),
    /// Sixty-four bits after 127.
    Long(u64),
}

impl Length {
    /// The only form that is allowed for this length.
    pub fn shortest(length: usize) -> Length {
        match u16::try_from(length) {
            Ok(short @ 0..=125) => Length::Short(short as u8),
            Ok(medium) => Length::Medium(medium),
            Err(_) => Length::Long(length as u64),
        }
    }

    fn write(self, masked: bool, bytes: &mut Vec<u8>) {
        let mask_bit = u8::from(masked) << 7;
        match self {
            Length::Short(length) => bytes.push(mask_bit | length),
            Length::Medium(length) => {
                bytes.push(mask_bit | 126);
                bytes.extend(length.to_be_bytes());
            }
            Length::Long(length) => {
                bytes.push(mask_bit | 127);
                bytes.extend(length.to_be_bytes());
            }
        }
    }
}

/// The head of a masked frame with any first byte and any length, followed by [`MASK`].
pub fn head(first_byte: u8, length: Length) -> Vec<u8> {
    let mut bytes = vec![first_byte];
    length.write(true, &mut bytes);
    bytes.extend(MASK);
    bytes
}

/// The payload masked with [`MASK`], from its beginning.
pub fn mask(payload: impl AsRef<[u8]>) -> Vec<u8> {
    masked(payload.as_ref(), MASK).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_masked_frame_unmasks_to_its_payload() {
        let mut bytes = Vec::new();
        write_masked(opcode::PONG, b"are you there?", &mut bytes);
        assert_eq!((&bytes[..2], &bytes[2..6]), (&[0x8A, 0x80 | 14][..], &MASK[..]));
        assert_eq!(mask(&bytes[6..]), b"are you there?");
        assert_eq!(Frame::new(opcode::PONG, "are you there?").masked(), bytes);
        // A key of zeros changes nothing.
        assert_eq!(Frame::text("x".repeat(126)).masked_with([0; 4])[..8], [0x81, 0xFE, 0, 126, 0, 0, 0, 0]);
    }
}
