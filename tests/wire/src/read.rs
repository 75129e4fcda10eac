//! Frames of a server, read in place.

use crate::{COMPRESSED, Error, Frame, Result};

/// A frame in the bytes that it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameRef<'a> {
    /// Whether it ends a message.
    pub fin: bool,
    /// The three reserved bits, as the number 0 to 7.
    pub rsv: u8,
    /// What it is.
    pub opcode: u8,
    /// What it carries, as it is on the wire.
    pub payload: &'a [u8],
    /// Its length on the wire, header included.
    pub wire_bytes: usize,
}

impl<'a> FrameRef<'a> {
    /// The frame at the start of `bytes`, once it is complete.
    ///
    /// # Errors
    ///
    /// If it is masked, as no server may send it.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Option<FrameRef<'a>>> {
        let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
        if second & 0x80 != 0 {
            return Err(Error::Unexpected([first, second]));
        }
        let (header_bytes, payload_bytes) = match (second, rest) {
            (126, &[a, b, ..]) => (4, u64::from(u16::from_be_bytes([a, b]))),
            (127, &[a, b, c, d, e, f, g, h, ..]) => (10, u64::from_be_bytes([a, b, c, d, e, f, g, h])),
            (126.., _) => return Ok(None),
            (short, _) => (2, u64::from(short)),
        };
        // On a machine whose memory could not hold the frame, it never completes.
        let wire_bytes = usize::try_from(payload_bytes).unwrap_or(usize::MAX).saturating_add(header_bytes);
        Ok(bytes.get(header_bytes..wire_bytes).map(|payload| FrameRef {
            fin: first & 0x80 != 0,
            rsv: first >> 4 & 7,
            opcode: first & 0xF,
            payload,
            wire_bytes,
        }))
    }

    /// Whether its content is compressed (RFC 7692).
    pub fn is_compressed(&self) -> bool {
        self.rsv == COMPRESSED
    }

    /// The same on its own.
    pub fn to_frame(self) -> Frame {
        Frame { fin: self.fin, rsv: self.rsv, opcode: self.opcode, payload: self.payload.to_vec() }
    }
}

/// The same of Fanfare, which sends each message in one frame and uses no reserved bit but that of compression.
///
/// # Errors
///
/// If the frame is another, as soon as its first bytes are there.
#[inline]
pub fn first_frame(bytes: &[u8]) -> Result<Option<FrameRef<'_>>> {
    if let &[first, second, ..] = bytes
        && first & 0xB0 != 0x80
    {
        return Err(Error::Unexpected([first, second]));
    }
    FrameRef::parse(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{opcode, text_frame_of};

    #[test]
    fn a_frame_is_read_only_when_complete() {
        for wire_bytes in [60, 300, 70_000] {
            let bytes = text_frame_of(wire_bytes);
            for cut in (0..bytes.len()).step_by(wire_bytes / 60) {
                assert_eq!(first_frame(&bytes[..cut]), Ok(None), "cut at {cut}");
            }
            let frame = first_frame(&bytes).unwrap().unwrap();
            assert_eq!((frame.wire_bytes, frame.opcode, frame.is_compressed()), (wire_bytes, opcode::TEXT, false));
        }
    }

    #[test]
    fn a_frame_is_the_same_in_place_and_on_its_own() {
        for payload in [0, 125, 126, 65_535, 65_536] {
            let frame = Frame::text("x".repeat(payload)).with_rsv(1).unfinished();
            let bytes = [frame.unmasked(), vec![0xFF]].concat();
            assert_eq!(Frame::parse(&bytes), Some((frame, bytes.len() - 1)));
        }
    }

    #[test]
    fn what_fanfare_does_not_send_is_told() {
        let text = Frame::text("x");
        for wrong in [text.masked(), text.clone().unfinished().unmasked(), text.clone().with_rsv(1).unmasked()] {
            assert_eq!(first_frame(&wrong), Err(Error::Unexpected([wrong[0], wrong[1]])));
        }
        assert!(first_frame(&text.with_rsv(COMPRESSED).unmasked()).unwrap().unwrap().is_compressed());
    }
}
