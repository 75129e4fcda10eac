//! The RESP scanner of `fanfare-core` against the parser of the `redis` crate: same bytes, same answer.
//!
//! Where the two differ on bytes that no Redis sends, and rightly so:
//! - Lines that are not UTF-8 and pushes that do not begin with a string are errors to the crate, to which `+OK` is none.
//!   The scanner passes them, so that the stream stays in step; and it skips attributes in front of that string.
//! - The scanner bounds depth, lines and sizes; the crate bounds only depth, at 100.
//! - The scanner takes numbers as the protocol writes them; the crate trims spaces, reads any number of leading zeros,
//!   takes any negative length for null and a sign in front of any length, any line for `_`, and any format in front of a
//!   verbatim string's colon.
//! - The scanner tells that bytes are wrong as soon as it sees them; the crate reads lines to their end first, so that
//!   to it they may still be incomplete.
//! - The crate hands out attributes; the scanner skips them.

use fanfare_core::broker::redis::resp::{Limits, Malformed, Reply, Scan, scan};
use redis::{ErrorKind, Value, VerbatimFormat, parse_redis_value};

/// The bytes are a stream of replies.
pub fn resp_against_redis(data: &[u8]) {
    let mut rest = data;
    while let Some(len) = agree(rest) {
        rest = &rest[len..];
    }
}

/// Compares the two on the start of `bytes`. How many of them one reply takes, if it is there.
///
/// # Panics
/// If they differ in what they should not.
pub fn agree(bytes: &[u8]) -> Option<usize> {
    let is_utf8 = |bytes| std::str::from_utf8(bytes).is_ok();
    match scanner(bytes, &LIMITS) {
        Ok((Answer::Whole(said), len)) => {
            match oracle(bytes) {
                Answer::Wrong => {
                    let own = &bytes[..len];
                    // One may stand in an attribute, too, or behind one.
                    let is_odd = has_odd_push(&said) || own.contains(&b'|') && own.contains(&b'>');
                    assert!(!is_utf8(own) || is_odd, "only the crate finds these wrong");
                }
                theirs => {
                    assert_eq!(Answer::Whole(said), theirs);
                    assert_eq!(oracle(&bytes[..len - 1]), Answer::Incomplete, "both took the same bytes");
                }
            }
            return Some(len);
        }
        Ok(_) => {
            let theirs = oracle(bytes);
            // An odd push may be followed by more.
            let odd = theirs == Answer::Wrong && (!is_utf8(bytes) || bytes.contains(&b'>'));
            assert!(theirs == Answer::Incomplete || odd, "the crate reads {theirs:?}");
        }
        Err(Malformed::UnknownType(_) | Malformed::MissingLineEnd) => {
            let theirs = oracle(bytes);
            assert!(!matches!(theirs, Answer::Whole(_)), "the crate reads {theirs:?}");
        }
        Err(Malformed::BadNumber) => {
            if let Answer::Whole(said) = oracle(bytes) {
                assert!(has_lenient_number(bytes), "the crate reads {said:?} in {}", bytes.escape_ascii());
            }
        }
        // The crate may be lenient, be waiting for the end of the line, or be about to make room for all that is promised.
        Err(_) => {}
    }
    None
}

/// Whether there is anything that the crate overlooks in numbers: a plus, space that is no line's end, zeros in front.
fn has_lenient_number(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes).replace("\r\n", "\0");
    let longest = text.split(|character: char| !character.is_ascii_digit()).map(str::len).max();
    text.contains(|character: char| character == '+' || character.is_whitespace()) || longest > Some(20)
}

/// Larger than anything that is compared.
pub const LIMITS: Limits = Limits { message_bytes_max: usize::MAX, reply_bytes_max: 1 << 20 };

/// What both say, in one form.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// Any string, with the byte that says which kind.
    Text(char, Vec<u8>),
    /// An integer.
    Number(i64),
    /// Nothing.
    Null,
    /// True or false.
    Boolean(bool),
    /// As text, so that not-a-number equals itself.
    Double(String),
    /// An aggregate, with the byte that says which kind.
    List(char, Vec<Said>),
    /// A push: its kind, and the rest.
    Push(Vec<u8>, Vec<Said>),
    /// A push without a string for its kind.
    OddPush,
}

fn lossy(bytes: &[u8]) -> Vec<u8> {
    String::from_utf8_lossy(bytes).into_owned().into_bytes()
}

fn of_scanner(reply: Reply<'_>) -> Said {
    match reply {
        Reply::Simple(text) => Said::Text('+', text.to_vec()),
        Reply::Error(text) => Said::Text('-', lossy(text)),
        Reply::Integer(number) => Said::Number(number),
        Reply::Bulk(text) => Said::Text('$', text.to_vec()),
        Reply::Null => Said::Null,
        Reply::Boolean(truth) => Said::Boolean(truth),
        Reply::Double(number) => Said::Double(format!("{number:?}")),
        Reply::BigNumber(text) => Said::Text('(', text.to_vec()),
        Reply::Verbatim { format, text } => Said::Text('=', [&lossy(format), &b":"[..], &lossy(text)].concat()),
        Reply::Array(items) => Said::List('*', items.map(of_scanner).collect()),
        Reply::Set(items) => Said::List('~', items.map(of_scanner).collect()),
        Reply::Map(items) => Said::List('%', items.map(of_scanner).collect()),
        Reply::Push(mut items) => match items.next() {
            None => Said::Push(Vec::new(), Vec::new()),
            Some(Reply::Simple(b"OK")) => Said::OddPush,
            Some(Reply::Simple(kind) | Reply::Bulk(kind)) => Said::Push(kind.to_vec(), items.map(of_scanner).collect()),
            Some(_) => Said::OddPush,
        },
    }
}

fn of_oracle(value: Value) -> Said {
    let list = |kind, values: Vec<Value>| Said::List(kind, values.into_iter().map(of_oracle).collect());
    match value {
        Value::Nil => Said::Null,
        Value::Int(number) => Said::Number(number),
        Value::BulkString(text) => Said::Text('$', text),
        Value::SimpleString(text) => Said::Text('+', text.into_bytes()),
        Value::Okay => Said::Text('+', b"OK".to_vec()),
        Value::Array(values) => list('*', values),
        Value::Set(values) => list('~', values),
        Value::Map(pairs) => list('%', pairs.into_iter().flat_map(|(key, value)| [key, value]).collect()),
        Value::Attribute { data, .. } => of_oracle(*data),
        Value::Double(number) => Said::Double(format!("{number:?}")),
        Value::Boolean(truth) => Said::Boolean(truth),
        Value::VerbatimString { format, text } => {
            let format = match format {
                VerbatimFormat::Text => "txt".to_owned(),
                VerbatimFormat::Markdown => "mkd".to_owned(),
                VerbatimFormat::Unknown(format) => format,
                other => panic!("a new format: {other:?}"),
            };
            Said::Text('=', format!("{format}:{text}").into_bytes())
        }
        Value::BigNumber(text) => Said::Text('(', text),
        Value::Push { kind, data } => {
            Said::Push(kind.to_string().into_bytes(), data.into_iter().map(of_oracle).collect())
        }
        Value::ServerError(error) => {
            let text = match error.details() {
                Some(details) => format!("{} {details}", error.code()),
                None => error.code().to_owned(),
            };
            Said::Text('-', text.into_bytes())
        }
        other => panic!("a new kind of value: {other:?}"),
    }
}

/// What one of them makes of the start of a slice.
#[derive(Debug, PartialEq)]
pub enum Answer {
    /// A reply.
    Whole(Said),
    /// The start of one.
    Incomplete,
    /// No reply can start like this.
    Wrong,
}

/// The crate's answer.
pub fn oracle(bytes: &[u8]) -> Answer {
    match parse_redis_value(bytes) {
        Ok(value) => Answer::Whole(of_oracle(value)),
        Err(error) if error.kind() == ErrorKind::Io => Answer::Incomplete,
        Err(_) => Answer::Wrong,
    }
}

/// The scanner's answer and how many bytes it is about: those taken, or those needed.
///
/// # Errors
/// What is wrong with the bytes.
///
/// # Panics
/// If a message is larger than the limits.
pub fn scanner(bytes: &[u8], limits: &Limits) -> Result<(Answer, usize), Malformed> {
    Ok(match scan(bytes, limits)? {
        Scan::Reply { reply, len } => (Answer::Whole(of_scanner(reply)), len),
        Scan::Incomplete { need } => (Answer::Incomplete, need),
        Scan::Message { channel, payload, len } => {
            let texts = [Said::Text('$', channel.to_vec()), Said::Text('$', payload.to_vec())];
            let said = if bytes[0] == b'>' {
                Said::Push(b"message".to_vec(), texts.to_vec())
            } else {
                Said::List('*', [&[Said::Text('$', b"message".to_vec())], &texts[..]].concat())
            };
            (Answer::Whole(said), len)
        }
        Scan::Oversized { .. } => panic!("nothing is larger than the limit of messages"),
    })
}

fn has_odd_push(said: &Said) -> bool {
    match said {
        Said::OddPush => true,
        Said::List(_, items) => items.iter().any(has_odd_push),
        Said::Push(kind, items) => std::str::from_utf8(kind).is_err() || items.iter().any(has_odd_push),
        _ => false,
    }
}
