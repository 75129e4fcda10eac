//! What a server publishes, and what it makes of anything found on a channel.
//!
//! Form: `F1 <node> <except>\n<text>`. `F1` is the version, `node` 16 hexadecimal digits of the publishing instance,
//! `except` either `-` or 16 digits of a connection there that shall not get the message (`echo: false`), and `text` the
//! final JSON text of the `MESSAGE`, which every receiver forwards unparsed. Anything else is a foreign message.

use crate::event::ConnId;
use crate::protocol::reply;

const VERSION: &[u8] = b"F1 ";
const HEX_DIGITS: usize = 16;

/// A sender that shall not get its own message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Except {
    /// Its instance.
    pub node: u64,
    /// Its connection there.
    pub conn: ConnId,
}

/// Appends the header line; the text follows.
pub fn write_header(out: &mut Vec<u8>, node: u64, except: Option<ConnId>) {
    out.extend_from_slice(VERSION);
    push_hex(out, node);
    out.push(b' ');
    match except {
        None => out.push(b'-'),
        Some(conn) => push_hex(out, conn.to_bits()),
    }
    out.push(b'\n');
}

/// Written by hand, for it is done for every message: `fmt` took a tenth of a message's instructions.
fn push_hex(out: &mut Vec<u8>, number: u64) {
    let digit = |place: usize| b"0123456789abcdef"[(number >> (60 - 4 * place)) as usize & 0xF];
    out.extend_from_slice(&std::array::from_fn::<u8, HEX_DIGITS, _>(digit));
}

/// The `except` of the classic form: node and connection in hexadecimal.
pub fn except_text(node: u64, conn: ConnId) -> String {
    format!("{node:016x}/{:016x}", conn.to_bits())
}

/// The text of a `MESSAGE` for the members of `room`, made of a payload that was found on its channel.
///
/// The text of another instance is borrowed from the payload; that of a foreign message is built in `scratch`.
/// `None` where the payload is not UTF-8.
pub fn open<'a>(room: &str, payload: &'a [u8], scratch: &'a mut Vec<u8>) -> Option<(&'a [u8], Option<Except>)> {
    // Checked here although instances publish nothing else: anyone who reaches the broker can write to the channel, and
    // a frame that is not UTF-8 would end every member's connection.
    let payload = std::str::from_utf8(payload).ok()?;
    if let Some((text, except)) = own(payload.as_bytes()) {
        return Some((text, except));
    }
    scratch.clear();
    match reply::parse_classic(payload) {
        Some(classic) => {
            reply::message(scratch, room, classic.message());
            Some((scratch, classic.except().and_then(parse_except_text)))
        }
        None => {
            reply::message_of_text(scratch, room, payload);
            Some((scratch, None))
        }
    }
}

fn own(payload: &[u8]) -> Option<(&[u8], Option<Except>)> {
    let rest = payload.strip_prefix(VERSION)?;
    let (node, rest) = hex(rest)?;
    let rest = rest.strip_prefix(b" ")?;
    if let Some(text) = rest.strip_prefix(b"-\n") {
        return Some((text, None));
    }
    let (conn, rest) = hex(rest)?;
    let text = rest.strip_prefix(b"\n")?;
    Some((text, Some(Except { node, conn: ConnId::from_bits(conn) })))
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

    fn opened(payload: &[u8]) -> Option<(String, Option<Except>)> {
        let mut scratch = Vec::new();
        open("r", payload, &mut scratch).map(|(text, except)| (String::from_utf8(text.to_vec()).unwrap(), except))
    }

    #[test]
    fn what_is_published_comes_out_unchanged() {
        let conn = ConnId::new(7, 9);
        for except in [None, Some(conn)] {
            let mut payload = Vec::new();
            write_header(&mut payload, 0xabc, except);
            payload.extend_from_slice(b"{\"any\":\"text\"}");
            let except = except.map(|conn| Except { node: 0xabc, conn });
            assert_eq!(opened(&payload), Some(("{\"any\":\"text\"}".into(), except)));
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
            ("F1 zz -\nforged", message(r#""F1 zz -\nforged""#)),
            ("F1 0000000000000abc x\nforged", message(r#""F1 0000000000000abc x\nforged""#)),
        ];
        for (payload, expected) in cases {
            assert_eq!(opened(payload.as_bytes()), Some((expected, None)), "{payload}");
        }
        assert_eq!(opened(b"\xff\xfe"), None);
    }

    #[test]
    fn the_classic_form_carries_the_exception() {
        let conn = ConnId::new(1, 2);
        let mut payload = Vec::new();
        reply::classic(&mut payload, "r", "\"x\"", Some(&except_text(5, conn)));
        let (text, except) = opened(&payload).unwrap();
        assert_eq!(text, r#"{"type":"MESSAGE","room":"r","message":"x"}"#);
        assert_eq!(except, Some(Except { node: 5, conn }));
    }
}
