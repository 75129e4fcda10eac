//! What a message of the load says, and how it is found again in what a server makes of it: at the place where it was
//! the time before, in the same words. JSON is parsed only where those have changed.

use std::hash::{BuildHasher, RandomState};
use std::ops::Range;

use serde_json::Value;

use crate::{Context, Error, Result};

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
    /// When it was to be sent.
    pub due: Due,
}

/// The digits of a moment, in ns since the run began. Whoever has sent them need not read but only compare them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due([u8; 16]);

impl Due {
    /// Those of `ns`.
    pub fn of(ns: u64) -> Due {
        Due(std::array::from_fn(|digit| b"0123456789abcdef"[(ns >> (60 - 4 * digit)) as usize & 0xF]))
    }
}

/// So much of what a server said is shown in an error.
const SHOWN_BYTES: usize = 300;

/// The words of one run.
#[derive(Clone, Debug)]
pub struct Words {
    tag: [u8; TAG_BYTES],
    filler: String,
    /// Where in a payload the header stood the last time.
    offset: usize,
    pattern: Option<Pattern>,
}

/// A `MESSAGE` that has been parsed, which others are compared with. They may differ from it in the header of the text, in a number that
/// stands last, such as an offset, and in the room's name, which is put into it whenever the room is another. What differs elsewhere is
/// parsed as well.
#[derive(Clone, Debug)]
struct Pattern {
    example: Vec<u8>,
    /// Where the number begins that stands last, or behind the end.
    end: usize,
    header: usize,
    name: Range<usize>,
    room: usize,
}

impl Words {
    /// Of messages of `bytes` bytes, at least [`HEADER_BYTES`]. The tag differs from run to run, so that what another
    /// generator says in the same room is not mistaken for this one's.
    pub fn new(bytes: usize) -> Words {
        let mut tag = *b"#0000000";
        let digits = format!("{:016x}", RandomState::new().hash_one(0));
        tag[1..].copy_from_slice(&digits.as_bytes()[..TAG_BYTES - 1]);
        Words { tag, filler: "x".repeat(bytes.saturating_sub(HEADER_BYTES)), offset: 0, pattern: None }
    }

    /// Writes the message that begins with `header`.
    pub fn write(&self, header: Header, out: &mut String) {
        use std::fmt::Write as _;
        let Header { stream, sequence, due } = header;
        out.push_str(&String::from_utf8_lossy(&self.tag));
        // Writing to a string cannot fail.
        let _ = write!(out, "{stream:08x}{sequence:08x}");
        out.extend(due.0.map(char::from));
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
        let offset = self.tag_in(payload)?;
        let header = Header::parse(payload[offset..].first_chunk()?)?;
        self.offset = offset;
        Some(header)
    }

    fn tag_in(&self, payload: &[u8]) -> Option<usize> {
        payload.windows(TAG_BYTES).position(|bytes| bytes == self.tag)
    }

    /// Whether `payload` says anything of this run.
    pub fn are_in(&self, payload: &[u8]) -> bool {
        self.tag_in(payload).is_some()
    }

    /// Checks that `payload`, whose header was found just now, is a `MESSAGE` of `room`, called `name`, with the whole text.
    #[inline]
    pub fn check(&mut self, payload: &[u8], room: usize, name: &str) -> Result<()> {
        if self.pattern.as_mut().is_some_and(|pattern| pattern.fits(payload, room, name)) {
            return Ok(());
        }
        self.parse(payload, room, name)
    }

    #[cold]
    fn parse(&mut self, payload: &[u8], room: usize, name: &str) -> Result<()> {
        let shown = || String::from_utf8_lossy(&payload[..payload.len().min(SHOWN_BYTES)]).into_owned();
        let header = payload.get(self.offset..self.offset + HEADER_BYTES).unwrap_or_default();
        let text = String::from_utf8_lossy(header).into_owned() + &self.filler;
        let value: Value = serde_json::from_slice(payload).context(format!("no JSON came: {}", shown()))?;
        if value["type"] != "MESSAGE" || value["message"] != text.as_str() {
            return Err(Error::new(format!("a message came in other words than it was sent: {}", shown())));
        }
        if value["room"] != name {
            return Err(Error::new(format!("a message of {name} came as one of {}: {}", value["room"], shown())));
        }
        self.pattern = Pattern::of(payload, self.offset, room, name);
        Ok(())
    }
}

impl Pattern {
    /// None where it cannot be told which of its bytes are the name.
    fn of(payload: &[u8], header: usize, room: usize, name: &str) -> Option<Pattern> {
        let quoted = format!("\"{name}\"");
        let mut found = payload.windows(quoted.len()).enumerate().filter(|(_, bytes)| *bytes == quoted.as_bytes());
        let (Some((quote, _)), None) = (found.next(), found.next()) else { return None };
        let end = start_of_last_number(payload);
        Some(Pattern { example: payload.to_vec(), end, header, name: quote + 1..quote + 1 + name.len(), room })
    }

    #[inline]
    fn fits(&mut self, payload: &[u8], room: usize, name: &str) -> bool {
        if room != self.room {
            // All are of one length.
            self.example[self.name.clone()].copy_from_slice(name.as_bytes());
            self.room = room;
        }
        let behind = self.header + HEADER_BYTES;
        let end = start_of_last_number(payload);
        end == self.end
            && (end == payload.len()) == (self.end == self.example.len())
            && payload[..self.header] == self.example[..self.header]
            && payload[behind..end] == self.example[behind..end]
    }
}

/// Where the number begins with which an object ends; behind the end of one that ends otherwise.
#[inline]
fn start_of_last_number(payload: &[u8]) -> usize {
    let Some((b'}', rest)) = payload.split_last() else { return payload.len() };
    let digits = rest.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let start = rest.len() - digits;
    // JSON has no number with zeros in front.
    let is_number = digits > 0 && rest[..start].ends_with(b":") && (digits == 1 || rest[start] != b'0');
    if is_number { start } else { payload.len() }
}

impl Header {
    #[inline]
    fn parse(bytes: &[u8; HEADER_BYTES]) -> Option<Header> {
        let eight = |at: usize| bytes[at..].first_chunk().and_then(hexadecimal);
        Some(Header { stream: eight(8)?, sequence: eight(16)?, due: Due(*bytes.last_chunk()?) })
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
        let header = Header { stream: 0xdead_beef, sequence: 19, due: Due::of(0x0123_4567_89ab_cdef) };
        let mut message = String::new();
        words.write(header, &mut message);
        assert_eq!(message.len(), 64);
        assert!(message[8..].starts_with("deadbeef000000130123456789abcdefxx"), "{message}");
        let long = format!(r#"{{"type":"MESSAGE","room":"r0001","message":"{message}"}}"#);
        for payload in [&long, &message, &long] {
            assert_eq!(words.header_in(payload.as_bytes()), Some(header));
        }
    }

    #[test]
    fn other_texts_and_other_runs_are_not_mistaken_for_messages() {
        let (mut words, mut message) = (Words::new(HEADER_BYTES), String::new());
        words.write(Header { stream: 1, sequence: 2, due: Due::of(3) }, &mut message);
        assert_eq!(message.len(), HEADER_BYTES);
        assert_eq!(words.header_in(&message.as_bytes()[..HEADER_BYTES - 1]), None);
        assert_eq!(words.header_in(message.replace('#', "%").as_bytes()), None);
        assert_eq!(words.header_in(br#"{"type":"PONG"}"#), None);
        assert_eq!(words.header_in(message.replace("00000002", "0000000g").as_bytes()), None);
    }

    /// Whether a message of room r0001 is taken in this form, compared with the one before or parsed.
    fn passes(words: &mut Words, payload: &str) -> bool {
        assert!(words.header_in(payload.as_bytes()).is_some());
        let compared = words.check(payload.as_bytes(), 1, "r0001").is_ok();
        words.pattern = None;
        assert_eq!(words.check(payload.as_bytes(), 1, "r0001").is_ok(), compared, "{payload}");
        compared
    }

    #[test]
    fn a_message_is_taken_whole_in_its_own_room_and_in_any_form_of_json() {
        let (mut words, mut text) = (Words::new(64), String::new());
        words.write(Header { stream: 1, sequence: 2, due: Due::of(3) }, &mut text);
        let fanfares = |room: &str, text: &str| format!(r#"{{"type":"MESSAGE","room":"{room}","message":"{text}"}}"#);
        let good = fanfares("r0001", &text);
        let others = [
            format!(r#"{{"message": "{text}", "time": 12, "room": "r0001", "type": "MESSAGE"}}"#),
            format!(r#"{{"type":"MESSAGE","from":"r0001","room":"r0001","message":"{text}","offset":7}}"#),
        ];
        for good in [&good, &good, &others[0], &others[0], &others[1], &others[1], &good] {
            assert!(passes(&mut words, good), "{good}");
            let length = text.len();
            for bad in [
                good.replace(r#""room":"r0001""#, r#""room":"r0002""#)
                    .replace(r#""room": "r0001""#, r#""room": "r0002""#),
                good.replace(&text, &text[..HEADER_BYTES]),
                good.replace(&text, &text[..length - 1]),
                good.replace(&text, &format!("{text}x")),
                good.replace(&text, &format!("x{text}")),
                good.replace(&text, &format!("{}y", &text[..length - 1])),
                good.replace("MESSAGE", "MASSAGE"),
                good.replace('}', "!"),
            ] {
                assert!(!passes(&mut words, &bad), "{bad}");
                // Of another room, a good one is as good; it is the pattern of the next.
                let other =
                    good.replace(r#"room":"r0001"#, r#"room":"r0002"#).replace(r#"room": "r0001"#, r#"room": "r0002"#);
                words.header_in(good.as_bytes());
                words.check(good.as_bytes(), 1, "r0001").unwrap();
                words.check(other.as_bytes(), 2, "r0002").unwrap();
                assert!(words.check(good.as_bytes(), 2, "r0002").is_err());
            }
        }
    }

    #[test]
    fn offsets_may_differ_and_nothing_else() {
        let (mut words, mut text) = (Words::new(64), String::new());
        words.write(Header { stream: 1, sequence: 2, due: Due::of(3) }, &mut text);
        let with = |end: &str| format!(r#"{{"type":"MESSAGE","room":"r0001","message":"{text}"{end}"#);
        words.header_in(with("}").as_bytes());
        words.check(with(r#","offset":9}"#).as_bytes(), 1, "r0001").unwrap();
        let pattern = words.pattern.as_mut().unwrap();
        let mut fits = |end: &str| pattern.fits(with(end).as_bytes(), 1, "r0001");
        assert!(fits(r#","offset":9}"#) && fits(r#","offset":10}"#) && fits(r#","offset":0}"#));
        for other in [
            "}",
            r#","offset":01}"#,
            r#","offset":}"#,
            r#","offset":-1}"#,
            r#","offset":1.5}"#,
            r#","place":7}"#,
            r#","offset":7"#,
        ] {
            assert!(!fits(other), "{other}");
        }
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
