//! RESP2 and RESP3 read in place: where one reply ends, and what it says, borrowed from the receive buffer.
//! Nothing is kept between calls and nothing is copied; buffering is the business of `buffers`.
//!
//! [`scan`] looks at the start of a slice and finds a whole reply, or says how many bytes it needs before another
//! look can be worth it, or why no reply can ever come of these bytes. Input is never trusted: nesting, lengths and
//! line lengths are bounded, and nothing here panics or allocates.
//!
//! Grammar: <https://redis.io/docs/latest/develop/reference/protocol-spec/>. RESP3's *streamed* strings and
//! aggregates (`$?`, `*?`) are not understood: no Redis sends them.

use std::fmt;

/// How deep aggregates may nest. `HELLO`, the deepest reply ever asked for, nests four deep.
pub const DEPTH_MAX: usize = 16;

/// How long one line (simple string, error, number) may be. Redis cuts what it echoes in errors to 128 bytes; the
/// longest lines it has are errors of scripts, and none of those are ours. Bounds the bytes looked at twice when a
/// line arrives in pieces.
pub const LINE_BYTES_MAX: usize = 16 * 1024;

/// The shortest element there is (`_\r\n`, `+\r\n`): what each element still to come is known to need.
const ELEMENT_BYTES_MIN: u64 = 3;

/// Digits and sign of the longest 64-bit number.
const NUMBER_BYTES_MAX: usize = 20;

/// What both forms of a published message start with, after the type byte `>` or `*`.
const MESSAGE_HEAD: &[u8; 17] = b"3\r\n$7\r\nmessage\r\n$";
/// The same of sharded Pub/Sub.
const SHARDED_MESSAGE_HEAD: &[u8; 18] = b"3\r\n$8\r\nsmessage\r\n$";

/// How large replies may be. Not `#[non_exhaustive]`: whoever reads bytes shall have chosen every bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest payload of a `message`, in bytes; a longer one is [`Scan::Oversized`].
    pub message_bytes_max: usize,
    /// The longest reply of any other kind, and the longest part of a `message` in front of its payload, in bytes
    /// with all framing; a longer one is [`Malformed::TooLarge`].
    pub reply_bytes_max: usize,
}

/// What stands at the start of a slice: there is nothing else, so it is not `#[non_exhaustive]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scan<'a> {
    /// A published message, as the RESP3 push or the RESP2 array `message channel payload`, or the same with `smessage`.
    Message {
        /// The channel's name, prefix included.
        channel: &'a [u8],
        /// The bytes published.
        payload: &'a [u8],
        /// How many bytes of the slice it takes.
        len: usize,
    },
    /// A published message whose payload is above [`Limits::message_bytes_max`], known from its header alone.
    Oversized {
        /// How many bytes of the slice the header takes, all in front of the payload.
        header_len: usize,
        /// The payload's length; it follows the header, and then `\r\n`.
        payload_len: u64,
    },
    /// Any other reply.
    Reply {
        /// What it says.
        reply: Reply<'a>,
        /// How many bytes of the slice it takes, with the attributes in front of it.
        len: usize,
    },
    /// The start of a reply.
    Incomplete {
        /// The slice must be at least this long before it can hold the whole reply, or before more is known; always
        /// more than it is.
        need: usize,
    },
}

/// One reply, or one element of one: all kinds of RESP2 and RESP3. Attributes are skipped: they say nothing this crate asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reply<'a> {
    /// `+`: a simple string.
    Simple(&'a [u8]),
    /// `-` or `!`: an error, its first word a code by convention.
    Error(&'a [u8]),
    /// `:`: an integer.
    Integer(i64),
    /// `$`: a bulk string.
    Bulk(&'a [u8]),
    /// `_`, and RESP2's `$-1` and `*-1`.
    Null,
    /// `#`: a boolean.
    Boolean(bool),
    /// `,`: a floating point number.
    Double(f64),
    /// `(`: an integer of any size, as its text, unchecked.
    BigNumber(&'a [u8]),
    /// `=`: a string with a format of three bytes, `txt` or `mkd`.
    Verbatim {
        /// The three bytes.
        format: &'a [u8],
        /// The string.
        text: &'a [u8],
    },
    /// `*`: an array.
    Array(Items<'a>),
    /// `~`: a set.
    Set(Items<'a>),
    /// `%`: a map, as key, value, key, value.
    Map(Items<'a>),
    /// `>`: a push, which answers no command, except that it confirms (un)subscriptions.
    Push(Items<'a>),
}

/// The elements of an aggregate, in order: an iterator over bytes that [`scan`] has found well-formed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Items<'a> {
    rest: &'a [u8],
    left: u64,
}

impl<'a> Items<'a> {
    /// How many elements are left; a map's pair counts two.
    pub fn left(&self) -> u64 {
        self.left
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Reply<'a>;

    fn next(&mut self) -> Option<Reply<'a>> {
        self.left = self.left.checked_sub(1)?;
        // Measured before with the same functions, so the errors cannot come; ending early is a safe answer.
        let (reply, end) = value(self.rest, u64::MAX).ok()?;
        self.rest = &self.rest[end..];
        Some(reply)
    }
}

/// Why bytes are not RESP, or are more of it than is allowed. The connection's place in the stream is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Malformed {
    /// No reply starts with this byte.
    UnknownType(u8),
    /// An integer, length, double or boolean that is none.
    BadNumber,
    /// A negative length other than a null's, or a verbatim string too short for its format.
    BadLength,
    /// A string is not followed by `\r\n`.
    MissingLineEnd,
    /// Aggregates nest deeper than [`DEPTH_MAX`].
    TooDeep,
    /// A line is longer than [`LINE_BYTES_MAX`].
    LineTooLong,
    /// The reply is, or says it will be, longer than [`Limits::reply_bytes_max`].
    TooLarge,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::UnknownType(byte) => write!(f, "a reply cannot start with byte 0x{byte:02x}"),
            Malformed::BadNumber => f.write_str("a reply holds a number that is none"),
            Malformed::BadLength => f.write_str("a reply holds an impossible length"),
            Malformed::MissingLineEnd => f.write_str("a string in a reply does not end where it said"),
            Malformed::TooDeep => f.write_str("a reply nests too deep"),
            Malformed::LineTooLong => f.write_str("a reply holds a line that is too long"),
            Malformed::TooLarge => f.write_str("a reply is too large"),
        }
    }
}

impl std::error::Error for Malformed {}

/// Why a step of the scan could not be taken. `Need` is an index: the slice must reach it.
enum Stop {
    Need(u64),
    Malformed(Malformed),
}

impl From<Malformed> for Stop {
    fn from(error: Malformed) -> Stop {
        Stop::Malformed(error)
    }
}

/// Looks at the start of `data`.
///
/// The answer does not depend on how the bytes came to be there: what is found in a slice is found in every longer
/// one, and a reply that came whole is the reply that would have come in pieces.
///
/// # Errors
///
/// [`Malformed`]: no reply can start like this.
pub fn scan<'a>(data: &'a [u8], limits: &Limits) -> Result<Scan<'a>, Malformed> {
    match next(data, limits) {
        Ok(found) => Ok(found),
        Err(Stop::Malformed(error)) => Err(error),
        Err(Stop::Need(need)) => match usize::try_from(need) {
            Ok(need) => Ok(Scan::Incomplete { need: need.max(data.len() + 1) }),
            Err(_) => Err(Malformed::TooLarge),
        },
    }
}

fn next<'a>(data: &'a [u8], limits: &Limits) -> Result<Scan<'a>, Stop> {
    if let [b'>' | b'*', rest @ ..] = data
        && rest.starts_with(MESSAGE_HEAD)
        && let Some(found) = message::<{ 1 + MESSAGE_HEAD.len() }>(data, limits)?
    {
        return Ok(found);
    }
    other(data, limits)
}

/// What is no message of plain Pub/Sub. A function of its own, so that those are scanned in a straight line.
#[inline(never)]
fn other<'a>(data: &'a [u8], limits: &Limits) -> Result<Scan<'a>, Stop> {
    if let [b'>' | b'*', rest @ ..] = data
        && rest.starts_with(SHARDED_MESSAGE_HEAD)
        && let Some(found) = message::<{ 1 + SHARDED_MESSAGE_HEAD.len() }>(data, limits)?
    {
        return Ok(found);
    }
    let reply_bytes_max = limits.reply_bytes_max as u64;
    let (reply, len) = value(data, reply_bytes_max)?;
    Ok(Scan::Reply { reply, len })
}

/// A message, of which `data` holds the head of `HEAD` bytes; none if channel or payload turn out not to be strings, which is
/// well-formed and nothing Redis says.
#[inline(always)]
fn message<'a, const HEAD: usize>(data: &'a [u8], limits: &Limits) -> Result<Option<Scan<'a>>, Stop> {
    let reply_bytes_max = limits.reply_bytes_max as u64;
    let bounded = |stop| match stop {
        Stop::Need(need) if need > reply_bytes_max => Stop::Malformed(Malformed::TooLarge),
        stop => stop,
    };
    if data.get(HEAD) == Some(&b'-') {
        return Ok(None);
    }
    let (channel_len, channel_start) = length(data, HEAD).map_err(bounded)?;
    let (channel, channel_end) = bulk(data, channel_start, channel_len).map_err(bounded)?;
    match data[channel_end..] {
        [] => return Err(bounded(Stop::Need(channel_end as u64 + ELEMENT_BYTES_MIN))),
        [b'$', b'-', ..] => return Ok(None),
        [b'$', ..] => {}
        _ => return Ok(None),
    }
    let (payload_len, header_len) = length(data, channel_end + 1).map_err(bounded)?;
    if header_len as u64 > reply_bytes_max {
        return Err(Malformed::TooLarge.into());
    }
    if payload_len > limits.message_bytes_max as u64 {
        return Ok(Some(Scan::Oversized { header_len, payload_len }));
    }
    let (payload, len) = bulk(data, header_len, payload_len)?;
    Ok(Some(Scan::Message { channel, payload, len }))
}

/// What one element begins with.
enum Head<'a> {
    /// A whole element without elements of its own.
    Scalar(Reply<'a>),
    /// So many elements follow, which belong to this one.
    Aggregate { kind: Kind, elements: u64 },
}

#[derive(Clone, Copy)]
enum Kind {
    Array,
    Set,
    Map,
    Push,
    Attribute,
}

impl Kind {
    fn reply(self, items: Items<'_>) -> Reply<'_> {
        match self {
            Kind::Array => Reply::Array(items),
            Kind::Set => Reply::Set(items),
            // An attribute is never anybody's reply; its elements would be pairs too.
            Kind::Map | Kind::Attribute => Reply::Map(items),
            Kind::Push => Reply::Push(items),
        }
    }
}

/// The reply at the start of `data` and where it ends, attributes skipped.
fn value(data: &[u8], bytes_max: u64) -> Result<(Reply<'_>, usize), Stop> {
    // Most replies are one short element; they need no walk.
    match data.first() {
        Some(b'|' | b'*' | b'~' | b'%' | b'>') | None => {}
        Some(_) => {
            let found = head(data, 0);
            if let Ok((Head::Scalar(reply), end)) = found
                && end as u64 <= bytes_max
            {
                return Ok((reply, end));
            }
        }
    }
    walk(data, bytes_max)
}

/// [`value`] for everything: finds the end with a fixed stack of counts, one per level, so that the depth is bounded.
fn walk(data: &[u8], bytes_max: u64) -> Result<(Reply<'_>, usize), Stop> {
    let mut left = [0_u64; DEPTH_MAX + 1];
    left[0] = 1;
    let mut depth = 0;
    // Elements not begun, all levels together: each needs some bytes, so a promise too large is known at once.
    let mut outstanding = 1_u64;
    // The outermost element and where its own elements begin.
    let mut outermost = (Head::Scalar(Reply::Null), 0);
    let mut at = 0;
    loop {
        while left[depth] == 0 {
            if depth == 0 {
                let reply = match outermost {
                    (Head::Scalar(reply), _) => reply,
                    (Head::Aggregate { kind, elements }, start) => {
                        kind.reply(Items { rest: &data[start..at], left: elements })
                    }
                };
                return Ok((reply, at));
            }
            depth -= 1;
        }
        let (element, end) = head(data, at).map_err(|stop| match stop {
            Stop::Need(need) => {
                let need = need.saturating_add((outstanding - 1).saturating_mul(ELEMENT_BYTES_MIN));
                if need > bytes_max { Malformed::TooLarge.into() } else { Stop::Need(need) }
            }
            stop => stop,
        })?;
        at = end;
        let elements = match element {
            Head::Scalar(_) => 0,
            Head::Aggregate { elements, .. } => elements,
        };
        // Attributes come in front of the element they describe, which is still outstanding then.
        if !matches!(element, Head::Aggregate { kind: Kind::Attribute, .. }) {
            left[depth] -= 1;
            outstanding -= 1;
            if depth == 0 {
                outermost = (element, at);
            }
        }
        if elements > 0 {
            if depth == DEPTH_MAX {
                return Err(Malformed::TooDeep.into());
            }
            depth += 1;
            left[depth] = elements;
            outstanding = outstanding.saturating_add(elements);
        }
        let reach = (at as u64).saturating_add(outstanding.saturating_mul(ELEMENT_BYTES_MIN));
        if reach > bytes_max {
            return Err(Malformed::TooLarge.into());
        }
    }
}

/// The beginning of the element at `at`, and where what follows it starts.
fn head(data: &[u8], at: usize) -> Result<(Head<'_>, usize), Stop> {
    let Some(&kind) = data.get(at) else {
        return Err(Stop::Need(at as u64 + ELEMENT_BYTES_MIN));
    };
    let body = at + 1;
    let scalar = |(reply, end)| (Head::Scalar(reply), end);
    match kind {
        b'$' if is_null(data, body)? => Ok(scalar((Reply::Null, body + 4))),
        b'*' if is_null(data, body)? => Ok(scalar((Reply::Null, body + 4))),
        b'$' => blob(data, body).map(|(text, end)| scalar((Reply::Bulk(text), end))),
        b'!' => blob(data, body).map(|(text, end)| scalar((Reply::Error(text), end))),
        b'=' => {
            let (text, end) = blob(data, body)?;
            match (text.get(..3), text.get(3), text.get(4..)) {
                (Some(format), Some(b':'), Some(text)) => Ok(scalar((Reply::Verbatim { format, text }, end))),
                _ => Err(Malformed::BadLength.into()),
            }
        }
        b'*' => aggregate(data, body, Kind::Array, 1),
        b'~' => aggregate(data, body, Kind::Set, 1),
        b'>' => aggregate(data, body, Kind::Push, 1),
        b'%' => aggregate(data, body, Kind::Map, 2),
        b'|' => aggregate(data, body, Kind::Attribute, 2),
        b'+' => line(data, body).map(|(text, end)| scalar((Reply::Simple(text), end))),
        b'-' => line(data, body).map(|(text, end)| scalar((Reply::Error(text), end))),
        b'(' => line(data, body).map(|(text, end)| scalar((Reply::BigNumber(text), end))),
        b':' => integer(data, body).map(|(number, end)| scalar((Reply::Integer(number), end))),
        b',' => {
            let (text, end) = line(data, body)?;
            let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
            Ok(scalar((Reply::Double(number.ok_or(Malformed::BadNumber)?), end)))
        }
        b'#' => match line(data, body)? {
            (b"t", end) => Ok(scalar((Reply::Boolean(true), end))),
            (b"f", end) => Ok(scalar((Reply::Boolean(false), end))),
            _ => Err(Malformed::BadNumber.into()),
        },
        b'_' => match line(data, body)? {
            (b"", end) => Ok(scalar((Reply::Null, end))),
            _ => Err(Malformed::BadLength.into()),
        },
        other => Err(Malformed::UnknownType(other).into()),
    }
}

fn aggregate(data: &[u8], body: usize, kind: Kind, elements_each: u64) -> Result<(Head<'_>, usize), Stop> {
    let (count, end) = length(data, body)?;
    Ok((Head::Aggregate { kind, elements: count.saturating_mul(elements_each) }, end))
}

/// Whether RESP2's null, `-1\r\n`, stands at `at`. No other length is negative.
fn is_null(data: &[u8], at: usize) -> Result<bool, Stop> {
    const NULL: &[u8] = b"-1\r\n";
    let here = data.get(at..).unwrap_or_default();
    if here.first() != Some(&b'-') {
        return Ok(false);
    }
    let compared = here.len().min(NULL.len());
    if here[..compared] != NULL[..compared] {
        return Err(Malformed::BadLength.into());
    }
    if compared < NULL.len() { Err(Stop::Need((at + NULL.len()) as u64)) } else { Ok(true) }
}

/// The string whose length stands at `at`.
fn blob(data: &[u8], at: usize) -> Result<(&[u8], usize), Stop> {
    let (len, start) = length(data, at)?;
    bulk(data, start, len)
}

/// The `len` bytes at `start`, and the place behind the line end that follows them.
#[inline(always)]
fn bulk(data: &[u8], start: usize, len: u64) -> Result<(&[u8], usize), Stop> {
    let end = (start as u64).saturating_add(len);
    let need = end.saturating_add(2);
    if need > data.len() as u64 {
        let is_past = end < data.len() as u64 && data.last() != Some(&b'\r');
        return Err(if is_past { Malformed::MissingLineEnd.into() } else { Stop::Need(need) });
    }
    // Within the slice, so the narrowing is exact.
    let end = end as usize;
    if &data[end..end + 2] != b"\r\n" {
        return Err(Malformed::MissingLineEnd.into());
    }
    Ok((&data[start..end], end + 2))
}

/// A length: digits and a line end.
#[inline(always)]
fn length(data: &[u8], at: usize) -> Result<(u64, usize), Stop> {
    let mut number = 0_u64;
    let digits = data.get(at..).unwrap_or_default();
    for (index, &byte) in digits.iter().enumerate() {
        match byte {
            b'0'..=b'9' if index < NUMBER_BYTES_MAX => {
                number = number
                    .checked_mul(10)
                    .and_then(|tens| tens.checked_add(u64::from(byte - b'0')))
                    .ok_or(Malformed::BadNumber)?;
            }
            b'\r' if index > 0 => {
                return match data.get(at + index + 1) {
                    Some(b'\n') => Ok((number, at + index + 2)),
                    Some(_) => Err(Malformed::BadNumber.into()),
                    None => Err(Stop::Need((at + index + 2) as u64)),
                };
            }
            b'-' => return Err(Malformed::BadLength.into()),
            _ => return Err(Malformed::BadNumber.into()),
        }
    }
    let digit_missing = usize::from(digits.is_empty());
    Err(Stop::Need((at + digits.len() + digit_missing + 2) as u64))
}

/// An integer: an optional sign, digits and a line end.
fn integer(data: &[u8], at: usize) -> Result<(i64, usize), Stop> {
    let (is_negative, digits) = match data.get(at) {
        Some(b'-') => (true, at + 1),
        Some(b'+') => (false, at + 1),
        _ => (false, at),
    };
    let (magnitude, end) = length(data, digits)?;
    let number = if is_negative { 0_i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() };
    Ok((number.ok_or(Malformed::BadNumber)?, end))
}

/// A line without its end. A lone `\r` or `\n` belongs to it.
fn line(data: &[u8], at: usize) -> Result<(&[u8], usize), Stop> {
    let rest = data.get(at..).unwrap_or_default();
    let rest = &rest[..rest.len().min(LINE_BYTES_MAX + 2)];
    let mut from = 0;
    while let Some(found) = rest[from..].iter().position(|&byte| byte == b'\r') {
        let end = from + found;
        match rest.get(end + 1) {
            Some(b'\n') => return Ok((&rest[..end], at + end + 2)),
            Some(_) => from = end + 1,
            None if rest.len() <= LINE_BYTES_MAX + 1 => return Err(Stop::Need((at + end + 2) as u64)),
            None => break,
        }
    }
    if rest.len() >= LINE_BYTES_MAX + 2 {
        return Err(Malformed::LineTooLong.into());
    }
    Err(Stop::Need((at + rest.len() + 2) as u64))
}
