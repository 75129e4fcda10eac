//! What a message of the load says, and how it is found again in what a server makes of it: at the place where it was
//! the time before. Nothing here parses JSON, and nothing allocates.

use std::hash::{BuildHasher, RandomState};

/// Bytes of a header, the least that a message can have.
pub const HEADER_BYTES: usize = 40;

const TAG_BYTES: usize = 8;

/// What a message begins with, in ASCII of fixed width: a tag that is this run's own, and in hexadecimal the stream
/// (8 digits), the number within the stream (8) and the moment it was due (16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Room and lane: see [`crate::load::plan::Plan::lanes`].
    pub stream: u32,
    /// Counted from 0 in each stream.
    pub sequence: u32,
    /// When it was to be sent, in ns since the run began.
    pub due_ns: u64,
}

/// The words of one run.
#[derive(Clone, Debug)]
pub struct Words {
    tag: [u8; TAG_BYTES],
    filler: String,
    /// Where in a payload the header stood the last time.
    offset: usize,
}

impl Words {
    /// Of messages of `bytes` bytes, at least [`HEADER_BYTES`]. The tag differs from run to run, so that what another
    /// generator says in the same room is not mistaken for this one's.
    pub fn new(bytes: usize) -> Words {
        let mut tag = *b"#0000000";
        let digits = format!("{:016x}", RandomState::new().hash_one(0));
        tag[1..].copy_from_slice(&digits.as_bytes()[..TAG_BYTES - 1]);
        Words { tag, filler: "x".repeat(bytes.saturating_sub(HEADER_BYTES)), offset: 0 }
    }

    /// Writes the message that begins with `header`.
    pub fn write(&self, header: Header, out: &mut String) {
        use std::fmt::Write as _;
        let Header { stream, sequence, due_ns } = header;
        out.push_str(&String::from_utf8_lossy(&self.tag));
        // Writing to a string cannot fail.
        let _ = write!(out, "{stream:08x}{sequence:08x}{due_ns:016x}");
        out.push_str(&self.filler);
    }

    /// The header in `payload`; none if it is no message of this run.
    #[inline]
    pub fn header_in(&mut self, payload: &[u8]) -> Option<Header> {
        match payload.get(self.offset..).and_then(|rest| rest.first_chunk::<HEADER_BYTES>()) {
            Some(header) if header[..TAG_BYTES] == self.tag => Header::parse(header),
            _ => self.search(payload),
        }
    }

    #[cold]
    fn search(&mut self, payload: &[u8]) -> Option<Header> {
        let offset = payload.windows(TAG_BYTES).position(|bytes| bytes == self.tag)?;
        let header = Header::parse(payload[offset..].first_chunk()?)?;
        self.offset = offset;
        Some(header)
    }
}

impl Header {
    #[inline]
    fn parse(bytes: &[u8; HEADER_BYTES]) -> Option<Header> {
        let eight = |at: usize| bytes[at..].first_chunk().and_then(hexadecimal);
        Some(Header {
            stream: eight(8)?,
            sequence: eight(16)?,
            due_ns: u64::from(eight(24)?) << 32 | u64::from(eight(32)?),
        })
    }
}

/// The number that eight digits in lower case stand for, all at once.
#[inline]
fn hexadecimal(digits: &[u8; 8]) -> Option<u32> {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let text = u64::from_be_bytes(*digits);
    // '0' to '9' are 0x30 to 0x39, 'a' to 'f' 0x61 to 0x66: bit 6 tells them apart.
    let letters = (text >> 6) & EACH;
    let values = (text & (0x0F * EACH)) + letters * 9;
    // Whatever is no digit does not come out the same when it is written again, or is of the wrong kind for its value.
    let again = values + letters * 0x27 + 0x30 * EACH;
    let from_ten = ((values + 6 * EACH) >> 4) & EACH;
    if again != text || from_ten != letters || values & (0xF0 * EACH) != 0 {
        return None;
    }
    let pairs = (values | values >> 4) & 0x00FF_00FF_00FF_00FF;
    let quads = (pairs | pairs >> 8) & 0x0000_FFFF_0000_FFFF;
    Some((quads | quads >> 16) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_found_wherever_the_server_puts_the_message() {
        let mut words = Words::new(64);
        let header = Header { stream: 0xdead_beef, sequence: 19, due_ns: 0x0123_4567_89ab_cdef };
        let mut message = String::new();
        words.write(header, &mut message);
        assert_eq!(message.len(), 64);
        let long = format!(r#"{{"type":"MESSAGE","room":"r0001","message":"{message}"}}"#);
        for payload in [&long, &message, &long] {
            assert_eq!(words.header_in(payload.as_bytes()), Some(header));
        }
    }

    #[test]
    fn other_texts_and_other_runs_are_not_mistaken_for_messages() {
        let (mut words, mut message) = (Words::new(HEADER_BYTES), String::new());
        words.write(Header { stream: 1, sequence: 2, due_ns: 3 }, &mut message);
        assert_eq!(message.len(), HEADER_BYTES);
        assert_eq!(words.header_in(&message.as_bytes()[..HEADER_BYTES - 1]), None);
        assert_eq!(words.header_in(message.replace('#', "%").as_bytes()), None);
        assert_eq!(words.header_in(br#"{"type":"PONG"}"#), None);
        assert_eq!(words.header_in(message.replace("00000002", "0000000g").as_bytes()), None);
    }

    #[test]
    fn every_digit_has_its_value_and_nothing_else_has_one() {
        for byte in 0..=255u8 {
            let value = (byte as char).to_digit(16).filter(|_| !byte.is_ascii_uppercase());
            for place in 0..8 {
                let mut digits = *b"00000000";
                digits[place] = byte;
                assert_eq!(
                    hexadecimal(&digits),
                    value.map(|value| value << (28 - 4 * place)),
                    "{byte:#04x} at {place}"
                );
            }
        }
        assert_eq!(hexadecimal(b"89abcdef"), Some(0x89ab_cdef));
    }
}
