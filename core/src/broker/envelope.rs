//! What a server publishes, and what it makes of anything found on a channel.
//!
//! Forms: `F1 <node> <except>\n<text>`, and where the message is stored `F2 <epoch> <offset> <node> <except>\n<text>`. `F1` and
//! `F2` are versions. `node` is 16 hexadecimal digits of the publishing instance. `except` is `-`, or 16 digits of a connection
//! there that shall not get the message (`echo: false`). `text` is the final JSON text of the `MESSAGE`, which every receiver
//! forwards unparsed. It has exactly `type`, `room` and `message`, and `from` and `time` before the last where clients are asked who they
//! are. Another set of fields is another version.
//!
//! In place of node, `except` and text, `F2` may have a [`Removal`]: `F2 <epoch> <offset> REMOVED <offset>`.
//!
//! What begins with `F`, digits and a space is an instance's. It is dropped if it is of another version, or not as said here.
//! Anything else is a foreign message.

use crate::history::{Position, Removal};
use crate::id::ConnId;
use crate::protocol::reply;
use std::io::Write;

/// The newest version of what instances publish: that of [`presence::Change`](crate::presence::Change). Instances that know another one do
/// not understand each other in everything.
pub const VERSION_NEWEST: u32 = 3;

const VERSION: &[u8] = b"F1 ";
/// Of messages that are stored, with their position.
const VERSION_STORED: &[u8] = b"F2 ";
const HEX_DIGITS: usize = 16;

/// A sender that shall not get its own message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Except {
    /// Its instance.
    pub node: u64,
    /// Its connection there.
    pub conn: ConnId,
}

/// Why a payload is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dropped {
    /// It is not UTF-8.
    NotUtf8,
    /// It is of an instance whose version this one does not know.
    Version,
    /// It claims to be of an instance of this version, and none writes such a header, or such a text in this room.
    Forged,
}

/// What was found on a room's channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened<'a> {
    /// The text of the `MESSAGE`, without a position; of a [`Removal`] its payload.
    pub text: &'a [u8],
    /// Who shall not get it.
    pub except: Option<Except>,
    /// Where it is stored.
    pub position: Option<Position>,
    /// It is no instance's that writes headers, but of another program or of the format `classic`.
    pub is_foreign: bool,
}

/// Appends the header line; the text follows.
pub fn write_header(out: &mut Vec<u8>, node: u64, except: Option<ConnId>) {
    out.extend_from_slice(VERSION);
    write_sender(out, node, except);
}

/// Appends what stands before the payload of a message that is stored: `F2 <epoch> <offset> `.
pub fn write_stored_header(out: &mut Vec<u8>, position: Position) {
    out.extend_from_slice(VERSION_STORED);
    write!(out, "{} {} ", position.epoch, position.offset).expect("a Vec takes every write");
}

/// Appends the header line without a version: with the text behind it, the payload of a message that is to be stored.
pub fn write_sender(out: &mut Vec<u8>, node: u64, except: Option<ConnId>) {
    push_hex(out, node);
    out.push(b' ');
    match except {
        None => out.push(b'-'),
        Some(conn) => push_hex(out, conn.to_bits()),
    }
    out.push(b'\n');
}

fn push_hex(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&hex_digits(number));
}

/// Written by hand, for it is done for every message: `fmt` took a tenth of a message's instructions.
pub(super) fn hex_digits(number: u64) -> [u8; HEX_DIGITS] {
    std::array::from_fn(|place| b"0123456789abcdef"[(number >> (60 - 4 * place)) as usize & 0xF])
}

/// The `except` of the classic form: node and connection in hexadecimal.
pub fn except_text(node: u64, conn: ConnId) -> String {
    format!("{node:016x}/{:016x}", conn.to_bits())
}

/// The text of a `MESSAGE` for the members of `room`, made of a payload that was found on its channel.
///
/// The text of another instance's message is borrowed from the payload; the text of a foreign message is built in `scratch`. No
/// reader of JSON can take an instance's text for anything but a `MESSAGE` of this room. Whether its `message` is JSON is not
/// looked at.
///
/// # Errors
/// Why there is none.
#[inline]
pub fn open<'a>(room: &str, payload: &'a [u8], scratch: &'a mut Vec<u8>) -> Result<Opened<'a>, Dropped> {
    // Checked here although instances publish nothing else: anyone who reaches the broker can write to the channel, and
    // a frame that is not UTF-8 would end every member's connection.
    if let Some(rest) = payload.strip_prefix(VERSION) {
        return open_message(room, rest);
    }
    if let Some(rest) = payload.strip_prefix(VERSION_STORED) {
        let (position, rest) = position(rest).ok_or(Dropped::Forged)?;
        return Ok(Opened { position: Some(position), ..open_sent(room, rest)? });
    }
    let payload = std::str::from_utf8(payload).map_err(|_| Dropped::NotUtf8)?;
    if is_versioned(payload.as_bytes()) {
        return Err(Dropped::Version);
    }
    scratch.clear();
    match reply::parse_classic(payload) {
        Some(classic) => {
            reply::message(scratch, room, classic.message());
            let except = classic.except().and_then(parse_except_text);
            Ok(Opened { text: scratch, except, position: None, is_foreign: true })
        }
        None => {
            reply::message_of_text(scratch, room, payload);
            Ok(Opened { text: scratch, except: None, position: None, is_foreign: true })
        }
    }
}

/// The same of what [`write_sender`] has begun: the payload of a message that is stored, or of a [`Removal`].
///
/// # Errors
/// Why there is none.
pub fn open_sent<'a>(room: &str, payload: &'a [u8]) -> Result<Opened<'a>, Dropped> {
    match Removal::of_payload(payload) {
        Some(_) => Ok(Opened { text: payload, except: None, position: None, is_foreign: false }),
        None => open_message(room, payload),
    }
}

fn open_message<'a>(room: &str, payload: &'a [u8]) -> Result<Opened<'a>, Dropped> {
    // Most is ASCII, and that is told quicker.
    if has(payload, |byte| byte >= 0x80) && std::str::from_utf8(payload).is_err() {
        return Err(Dropped::NotUtf8);
    }
    let (text, except) = own(payload).ok_or(Dropped::Forged)?;
    match message_of(room, text).is_some_and(is_one_value) {
        true => Ok(Opened { text, except, position: None, is_foreign: false }),
        false => Err(Dropped::Forged),
    }
}

/// The position that begins the rest of a stored message's header, and what follows.
fn position(rest: &[u8]) -> Option<(Position, &[u8])> {
    let mut fields = rest.splitn(3, |byte| *byte == b' ');
    let mut text = || std::str::from_utf8(fields.next()?).ok();
    let (epoch, offset) = (text()?.parse().ok()?, text()?);
    let is_written_so = offset.bytes().all(|byte| byte.is_ascii_digit()) && !offset.starts_with('0');
    let offset = offset.parse().ok().filter(|_| is_written_so)?;
    Some((Position { epoch, offset }, fields.next()?))
}

/// Whether it begins as what an instance of any version publishes.
fn is_versioned(payload: &[u8]) -> bool {
    let Some(rest) = payload.strip_prefix(b"F") else { return false };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    digits > 0 && rest.get(digits) == Some(&b' ')
}

/// What follows the version: the header's rest, and the text.
fn own(rest: &[u8]) -> Option<(&[u8], Option<Except>)> {
    // Most messages except nobody: then it is enough that the node is a number.
    let (node, rest) = rest.split_first_chunk::<HEX_DIGITS>()?;
    if has(node, |byte| !byte.is_ascii_hexdigit()) {
        return None;
    }
    let rest = rest.strip_prefix(b" ")?;
    if let Some(text) = rest.strip_prefix(b"-\n") {
        return Some((text, None));
    }
    let ((node, _), (conn, rest)) = (hex(node)?, hex(rest)?);
    let text = rest.strip_prefix(b"\n")?;
    Some((text, Some(Except { node, conn: ConnId::from_bits(conn) })))
}

/// What stands as the message, if this is otherwise what [`reply::message`] writes for the room.
fn message_of<'a>(room: &str, text: &'a [u8]) -> Option<&'a [u8]> {
    let rest = strip_name(text.strip_prefix(br#"{"type":"MESSAGE","room":"#)?, room)?;
    let rest = match rest.strip_prefix(br#","message":"#) {
        Some(message) => message,
        None => after_signature(rest)?.strip_prefix(br#","message":"#)?,
    };
    rest.strip_suffix(b"}")
}

/// What follows `from` and `time`, of which either may be missing.
#[cold]
fn after_signature(rest: &[u8]) -> Option<&[u8]> {
    let rest = match rest.strip_prefix(br#","from":"#) {
        None => rest,
        Some(from) if from.starts_with(b"\"") => &from[string_end(from, 0)? + 1..],
        Some(_) => return None,
    };
    let Some(time) = rest.strip_prefix(br#","time":"#) else { return Some(rest) };
    let digits = time.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (digits > 0).then(|| &time[digits..])
}

/// What follows the room's name in the only JSON form in which instances write it.
fn strip_name<'a>(text: &'a [u8], room: &str) -> Option<&'a [u8]> {
    let mut rest = text.strip_prefix(b"\"")?;
    if room.bytes().any(|byte| matches!(byte, b'"' | b'\\')) {
        // Names have no control characters, so nothing else is escaped.
        for byte in room.bytes() {
            if matches!(byte, b'"' | b'\\') {
                rest = rest.strip_prefix(b"\\")?;
            }
            rest = rest.strip_prefix(&[byte])?;
        }
    } else {
        rest = rest.strip_prefix(room.as_bytes())?;
    }
    rest.strip_prefix(b"\"")
}

/// Whether no reader of JSON can see an end of the value before that of the text: a field behind it could be another `type`. The
/// usual values are told by one search for the byte that could end them.
fn is_one_value(text: &[u8]) -> bool {
    match text {
        [b'"', inner @ .., b'"'] if !has(inner, |byte| byte == b'"') && inner.last() != Some(&b'\\') => true,
        [b'{', inner @ .., b'}'] if !has(inner, |byte| byte == b'}') => true,
        [b'[', inner @ .., b']'] if !has(inner, |byte| byte == b']') => true,
        [b'"' | b'{' | b'[', ..] => value_end(text) == Some(text.len()),
        // A number or a word.
        [_, ..] => text.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')),
        [] => false,
    }
}

/// Whether a byte of this kind occurs. Asked about every message, so without a branch for each byte, in what the compiler makes a
/// vector.
#[inline]
fn has(text: &[u8], is_one: impl Fn(u8) -> bool) -> bool {
    const LANES: usize = 16;
    let Some(last) = text.last_chunk::<LANES>() else { return text.iter().any(|byte| is_one(*byte)) };
    let mut found = last.map(|byte| u8::from(is_one(byte)).wrapping_neg());
    for chunk in text.as_chunks::<LANES>().0 {
        for (found, byte) in found.iter_mut().zip(chunk) {
            *found |= u8::from(is_one(*byte)).wrapping_neg();
        }
    }
    found != [0; LANES]
}

/// Where a string, an object or an array ends that begins the text.
fn value_end(text: &[u8]) -> Option<usize> {
    let (mut depth, mut at) = (0_usize, 0);
    loop {
        match text.get(at)? {
            b'"' => at = string_end(text, at)?,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
}

/// The closing quote of the string that begins there.
fn string_end(text: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        match text.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

fn hex(text: &[u8]) -> Option<(u64, &[u8])> {
    let (digits, rest) = text.split_at_checked(HEX_DIGITS)?;
    // Without a branch per digit: this is done for every message.
    let (mut number, mut wrong) = (0, 0);
    for digit in digits {
        let value = VALUES[usize::from(*digit)];
        number = number << 4 | u64::from(value & 0xF);
        wrong |= value;
    }
    (wrong <= 0xF).then_some((number, rest))
}

/// What each byte is as a hexadecimal digit; above 15 where it is none.
const VALUES: [u8; 256] = {
    let mut values = [0xFF; 256];
    let mut value = 0;
    while value < 16 {
        values[b"0123456789abcdef"[value] as usize] = value as u8;
        values[b"0123456789ABCDEF"[value] as usize] = value as u8;
        value += 1;
    }
    values
};

fn parse_except_text(text: &str) -> Option<Except> {
    let (node, rest) = hex(text.as_bytes())?;
    let (conn, rest) = hex(rest.strip_prefix(b"/")?)?;
    rest.is_empty().then_some(Except { node, conn: ConnId::from_bits(conn) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: &str = "0000000000000abc";

    fn opened(payload: &[u8]) -> Result<(String, Option<Except>), Dropped> {
        let mut scratch = Vec::new();
        open("r", payload, &mut scratch).map(|opened| (String::from_utf8(opened.text.to_vec()).unwrap(), opened.except))
    }

    #[test]
    fn what_is_published_comes_out_unchanged() {
        let conn = ConnId::new(7, 9);
        for except in [None, Some(conn)] {
            let mut payload = Vec::new();
            write_header(&mut payload, 0xabc, except);
            let text = r#"{"type":"MESSAGE","room":"r","message":{"any":"text"}}"#;
            payload.extend_from_slice(text.as_bytes());
            let except = except.map(|conn| Except { node: 0xabc, conn });
            assert_eq!(opened(&payload), Ok((text.into(), except)));
        }
    }

    #[test]
    fn foreign_payloads_become_messages() {
        let message = |json: &str| format!(r#"{{"type":"MESSAGE","room":"r","message":{json}}}"#);
        let cases = [
            ("hello", message(r#""hello""#)),
            ("", message(r#""""#)),
            ("{\"x\":1}", message(r#""{\"x\":1}""#)),
            (r#"{"type":"SEND_MESSAGE","roomId":"r","message":{"a" : 1}}"#, message(r#"{"a" : 1}"#)),
            (r#"{"type":"SEND_MESSAGE","roomId":"r"}"#, message(r#""{\"type\":\"SEND_MESSAGE\",\"roomId\":\"r\"}""#)),
            ("F1", message(r#""F1""#)),
            ("F1\n", message(r#""F1\n""#)),
            ("F 1 x", message(r#""F 1 x""#)),
            ("Formula 1 ", message(r#""Formula 1 ""#)),
            ("f1 x", message(r#""f1 x""#)),
        ];
        for (payload, expected) in cases {
            assert_eq!(opened(payload.as_bytes()), Ok((expected, None)), "{payload}");
        }
        assert_eq!(opened(b"\xff\xfe"), Err(Dropped::NotUtf8));
    }

    #[test]
    fn what_another_version_writes_is_no_text() {
        for version in ["F3", "F0", "F10", "F01", "F99999999999999999999"] {
            for rest in ["", &format!("{NODE} -\n"), &format!("{NODE} - 7-x 12\n{{\"type\":\"MESSAGE\"}}")] {
                let payload = format!("{version} {rest}");
                assert_eq!(opened(payload.as_bytes()), Err(Dropped::Version), "{payload}");
            }
        }
    }

    #[test]
    fn a_stored_message_comes_with_its_position() {
        let position = Position { epoch: "3-00000000000000ff".parse().unwrap(), offset: 12 };
        let text = r#"{"type":"MESSAGE","room":"r","message":1}"#;
        let (mut sent, mut payload) = (Vec::new(), Vec::new());
        write_sender(&mut sent, 0xabc, Some(ConnId::new(7, 9)));
        sent.extend_from_slice(text.as_bytes());
        write_stored_header(&mut payload, position);
        payload.extend_from_slice(&sent);
        let except = Some(Except { node: 0xabc, conn: ConnId::new(7, 9) });
        let opened = Opened { text: text.as_bytes(), except, position: None, is_foreign: false };
        assert_eq!(open_sent("r", &sent), Ok(opened));
        assert_eq!(open("r", &payload, &mut Vec::new()), Ok(Opened { position: Some(position), ..opened }));
        for position in [
            "",
            "3-00000000000000ff",
            "3-00000000000000ff 0",
            "3-00000000000000ff 012",
            "x 12",
            "3-00000000000000ff -1",
        ] {
            let payload = format!("F2 {position} {NODE} -\n{text}");
            assert_eq!(open("r", payload.as_bytes(), &mut Vec::new()), Err(Dropped::Forged), "{payload}");
        }
    }

    #[test]
    fn what_has_no_header_is_of_another_program() {
        let mut classic = Vec::new();
        reply::classic(&mut classic, "r", "1", None);
        let own = format!("F1 {NODE} -\n{}", r#"{"type":"MESSAGE","room":"r","message":1}"#);
        for (payload, is_foreign) in [(&b"hello"[..], true), (&classic, true), (own.as_bytes(), false)] {
            let is_told = open("r", payload, &mut Vec::new()).map(|opened| opened.is_foreign);
            assert_eq!(is_told, Ok(is_foreign), "{}", payload.escape_ascii());
        }
    }

    /// A text behind a good header.
    fn claimed(text: &str) -> Result<(String, Option<Except>), Dropped> {
        opened(format!("F1 {NODE} -\n{text}").as_bytes())
    }

    #[test]
    fn a_header_that_no_instance_writes_is_no_text() {
        let text = r#"{"type":"MESSAGE","room":"r","message":1}"#;
        for header in [
            "",
            "zz -\n",
            "000000000000abcg -\n",
            "000000000000abcg 0000000700000009\n",
            NODE,
            &format!("{NODE} x\n"),
            &format!("{NODE} 000000070000000g\n"),
            &format!("{NODE} - -\n"),
            &format!("{NODE} -\r\n"),
        ] {
            let payload = format!("F1 {header}{text}");
            assert_eq!(opened(payload.as_bytes()), Err(Dropped::Forged), "{payload}");
        }
    }

    #[test]
    fn every_value_is_a_message_to_the_letter() {
        let deep = "[".repeat(10_000) + &"]".repeat(10_000);
        for value in [
            "\"\"",
            r#""x""#,
            r#""a \" b""#,
            r#""\\""#,
            r#""}],""#,
            r#""\ud800""#,
            "null",
            "true",
            "-1.5e+300",
            "{}",
            "[]",
            r#"{"a" : {"type":"ERROR"} , "b":[1,{"room":"x"}]}"#,
            r#"{"}":"]"}"#,
            r#"[[1],{"a":"]"}]"#,
            "[{}]",
            &deep,
        ] {
            let text = format!(r#"{{"type":"MESSAGE","room":"r","message":{value}}}"#);
            assert_eq!(claimed(&text), Ok((text.clone(), None)));
        }
    }

    #[test]
    fn nothing_else_passes_for_a_message() {
        for text in [
            "",
            "x",
            "{}",
            "7",
            r#"{"type":"ERROR","code":"x","reason":"x"}"#,
            r#"{"type":"UNSUBSCRIBED","room":"r"}"#,
            r#"{"type":"MESSAGE","room":"other","message":1}"#,
            r#"{"type":"MESSAGE","room":"rr","message":1}"#,
            r#"{"type":"MESSAGE","room":"","message":1}"#,
            r#"{"type":"MESSAGE","room":"r","message":}"#,
            r#"{"type":"MESSAGE","room":"r","message":1"#,
            r#"{"type":"MESSAGE","room":"r","message":1} "#,
            r#"{"room":"r","type":"MESSAGE","message":1}"#,
            r#"{ "type":"MESSAGE","room":"r","message":1}"#,
        ] {
            assert_eq!(claimed(text), Err(Dropped::Forged), "{text}");
        }
        // A reader takes the last of two fields.
        for value in [r#""x""#, "1", "null", "{}", r#"{"a":{}}"#, "[]", "[[]]", r#""\"""#] {
            for more in
                [r#","type":"ERROR""#, r#" ,"type":"ERROR","x":"}""#, r#","type":"ERROR","x":{}"#, "}", r#","x":[]"#]
            {
                let text = format!(r#"{{"type":"MESSAGE","room":"r","message":{value}{more}}}"#);
                assert_eq!(claimed(&text), Err(Dropped::Forged), "{text}");
            }
        }
        for value in [
            "\"", "\"x\\\"", "{", "[", "}", "]", "\"x\"}", "x y", "1,2", "\"\"\"", "\"\"\"\"", "{}}", "{}}}", "[]]",
            "[]]]",
        ] {
            let text = format!(r#"{{"type":"MESSAGE","room":"r","message":{value}}}"#);
            assert_eq!(claimed(&text), Err(Dropped::Forged), "{text}");
        }
    }

    #[test]
    fn names_are_compared_as_they_are_written() {
        for room in ["r", "\"", "\\", "a\"b\\\\c\"", "\\u0041", "é😀", "null", "/"] {
            let mut payload = Vec::new();
            write_header(&mut payload, 1, None);
            reply::message(&mut payload, room, "1");
            assert!(open(room, &payload, &mut Vec::new()).is_ok(), "{room}");
            for other in ["A", "r\\", "a\"b", "\\\\"] {
                assert_eq!(open(other, &payload, &mut Vec::new()), Err(Dropped::Forged), "{room} {other}");
            }
            let raw = format!(r#"F1 {NODE} -{}{{"type":"MESSAGE","room":"{room}","message":1}}"#, '\n');
            let is_plain = !room.contains(['"', '\\']);
            assert_eq!(open(room, raw.as_bytes(), &mut Vec::new()).is_ok(), is_plain, "{room}");
        }
    }

    #[test]
    fn the_classic_form_carries_the_exception() {
        let conn = ConnId::new(1, 2);
        let mut payload = Vec::new();
        reply::classic(&mut payload, "r", "\"x\"", Some(&except_text(5, conn)));
        let (text, except) = opened(&payload).expect("a message");
        assert_eq!(text, r#"{"type":"MESSAGE","room":"r","message":"x"}"#);
        assert_eq!(except, Some(Except { node: 5, conn }));
    }
}
