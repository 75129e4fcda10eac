//! The RESP scanner of `fanfare-core` against the parser of the `redis` crate: same bytes, same answer.
//!
//! Where the two differ on bytes that no Redis sends, and rightly so:
//! - Lines that are not UTF-8 and pushes that do not begin with a string are errors to the crate. The scanner passes
//!   them, so that the stream stays in step.
//! - The scanner bounds depth, lines and sizes; the crate bounds only depth, at 100.
//! - The scanner takes numbers as the protocol writes them; the crate trims spaces, takes any negative length for
//!   null and a sign in front of any length, any line for `_`, and any format in front of a verbatim string's colon.
//! - The scanner tells that bytes are wrong as soon as it sees them; the crate reads lines to their end first, so that
//!   to it they may still be incomplete.
//! - The crate hands out attributes; the scanner skips them.

use fanfare_core::broker::redis::resp::{Limits, Malformed, Reply, Scan, scan};
use proptest::prelude::*;
use redis::{ErrorKind, Value, VerbatimFormat, parse_redis_value};

const LIMITS: Limits = Limits { message_bytes_max: 1 << 20, reply_bytes_max: 1 << 20 };

/// What both say, in one form.
#[derive(Clone, Debug, PartialEq)]
enum Said {
    Text(char, Vec<u8>),
    Number(i64),
    Null,
    Boolean(bool),
    /// As text, so that not-a-number equals itself.
    Double(String),
    List(char, Vec<Said>),
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

#[derive(Debug, PartialEq)]
enum Answer {
    Whole(Said),
    Incomplete,
    Wrong,
}

fn oracle(bytes: &[u8]) -> Answer {
    match parse_redis_value(bytes) {
        Ok(value) => Answer::Whole(of_oracle(value)),
        Err(error) if error.kind() == ErrorKind::Io => Answer::Incomplete,
        Err(_) => Answer::Wrong,
    }
}

/// The scanner's answer and how many bytes it is about: those taken, or those needed.
fn scanner(bytes: &[u8], limits: &Limits) -> Result<(Answer, usize), Malformed> {
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
        Scan::Oversized { .. } => panic!("nothing here is larger than the limits"),
    })
}

/// A reply's bytes, of any kind and some depth.
fn encoded() -> impl Strategy<Value = Vec<u8>> {
    let line = "[ -~é]{0,12}";
    let text = prop_oneof![
        "[ -~]{0,12}".prop_map(String::into_bytes),
        Just(b"message".to_vec()),
        prop::collection::vec(any::<u8>(), 0..20)
    ];
    let blob = |kind: char| {
        move |text: Vec<u8>| {
            let mut bytes = format!("{kind}{}\r\n", text.len()).into_bytes();
            bytes.extend(text);
            bytes.extend(b"\r\n");
            bytes
        }
    };
    let scalar = prop_oneof![
        4 => text.clone().prop_map(blob('$')),
        2 => line.prop_map(|line| format!("+{line}\r\n").into_bytes()),
        1 => Just(b"+OK\r\n".to_vec()),
        1 => line.prop_map(|line| format!("-{line}\r\n").into_bytes()),
        1 => "(ERR|NOPERM|WRONGPASS|LOADING) [a-z ]{0,9}".prop_map(|line| format!("-{line}\r\n").into_bytes()),
        1 => text.clone().prop_map(blob('!')),
        2 => any::<i64>().prop_map(|number| format!(":{number}\r\n").into_bytes()),
        1 => prop_oneof![Just("_\r\n"), Just("$-1\r\n"), Just("*-1\r\n"), Just("#t\r\n"), Just("#f\r\n")]
            .prop_map(|text| text.as_bytes().to_vec()),
        1 => any::<f64>().prop_map(|number| format!(",{number}\r\n").into_bytes()),
        1 => prop_oneof![Just(",inf\r\n"), Just(",-inf\r\n"), Just(",nan\r\n"), Just(",1e9\r\n")]
            .prop_map(|text| text.as_bytes().to_vec()),
        1 => any::<i128>().prop_map(|number| format!("({number}\r\n").into_bytes()),
        1 => ("(txt|mkd|abc)", text).prop_map(move |(format, text)| blob('=')([format.as_bytes(), b":", &text].concat())),
    ];
    scalar.prop_recursive(5, 40, 6, |inner| {
        let joined = |kind: char, per: usize| {
            move |items: Vec<Vec<u8>>| {
                let whole = items.len() / per * per;
                let mut bytes = format!("{kind}{}\r\n", whole / per).into_bytes();
                bytes.extend(items[..whole].concat());
                bytes
            }
        };
        let items = || prop::collection::vec(inner.clone(), 0..6);
        prop_oneof![
            3 => items().prop_map(joined('*', 1)),
            1 => items().prop_map(joined('~', 1)),
            2 => items().prop_map(joined('%', 2)),
            1 => (items(), inner.clone())
                .prop_map(move |(items, last)| [joined('|', 2)(items), last].concat()),
            2 => ("(message|subscribe|invalidate|pmessage|x)", items()).prop_map(move |(kind, items)| {
                let kind = format!("${}\r\n{kind}\r\n", kind.len()).into_bytes();
                joined('>', 1)([vec![kind], items].concat())
            }),
            2 => ("[>*]", "[a-z]{0,9}", prop::collection::vec(any::<u8>(), 0..40)).prop_map(
                |(kind, channel, payload)| {
                    let head = format!("{kind}3\r\n$7\r\nmessage\r\n${}\r\n{channel}\r\n", channel.len());
                    [head.as_bytes(), format!("${}\r\n", payload.len()).as_bytes(), &payload, b"\r\n"].concat()
                }
            ),
        ]
    })
}

#[derive(Clone, Debug)]
enum Harm {
    Replace(prop::sample::Index, u8),
    Insert(prop::sample::Index, u8),
    Remove(prop::sample::Index),
}

fn harm() -> impl Strategy<Value = Harm> {
    // Mostly bytes that mean something.
    let byte = || prop_oneof![3 => prop::sample::select(b"\r\n0123456789-+$*%>|:_=!~#,( ".to_vec()), 1 => any::<u8>()];
    prop_oneof![
        (any::<prop::sample::Index>(), byte()).prop_map(|(at, byte)| Harm::Replace(at, byte)),
        (any::<prop::sample::Index>(), byte()).prop_map(|(at, byte)| Harm::Insert(at, byte)),
        any::<prop::sample::Index>().prop_map(Harm::Remove),
    ]
}

fn harmed(mut bytes: Vec<u8>, harms: &[Harm]) -> Vec<u8> {
    for harm in harms.iter().filter(|_| !bytes.is_empty()).cloned().collect::<Vec<_>>() {
        if bytes.is_empty() {
            break;
        }
        match harm {
            Harm::Replace(at, byte) => {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            Harm::Insert(at, byte) => bytes.insert(at.index(bytes.len()), byte),
            Harm::Remove(at) => {
                bytes.remove(at.index(bytes.len()));
            }
        }
    }
    bytes
}

fn has_odd_push(said: &Said) -> bool {
    match said {
        Said::OddPush => true,
        Said::List(_, items) => items.iter().any(has_odd_push),
        Said::Push(kind, items) => std::str::from_utf8(kind).is_err() || items.iter().any(has_odd_push),
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn well_formed_replies_say_the_same(bytes in encoded()) {
        let (answer, len) = scanner(&bytes, &LIMITS).expect("well-formed");
        prop_assert_eq!(len, bytes.len());
        prop_assert_eq!(answer, oracle(&bytes));
    }

    #[test]
    fn a_reply_cut_short_is_incomplete_and_never_asks_for_more_than_there_will_be(bytes in encoded()) {
        for cut in 0..bytes.len() {
            let (answer, need) = scanner(&bytes[..cut], &LIMITS).expect("the start of something well-formed");
            prop_assert_eq!(&answer, &Answer::Incomplete);
            prop_assert!(need > cut && need <= bytes.len(), "{} of {} bytes need {}", cut, bytes.len(), need);
            prop_assert_eq!(oracle(&bytes[..cut]), Answer::Incomplete);
        }
    }

    #[test]
    fn what_follows_a_reply_does_not_change_it(bytes in encoded(), after in prop::collection::vec(any::<u8>(), 0..20)) {
        let alone = scanner(&bytes, &LIMITS);
        prop_assert_eq!(scanner(&[bytes, after].concat(), &LIMITS), alone);
    }

    #[test]
    fn any_split_gives_the_same_replies(
        replies in prop::collection::vec(encoded(), 1..6),
        sizes in prop::collection::vec(1_usize..50, 1..10),
    ) {
        let bytes = replies.concat();
        let mut buffer = Vec::new();
        let mut need = 0;
        let mut seen = Vec::new();
        let mut rest = &bytes[..];
        for size in sizes.iter().cycle() {
            let (now, later) = rest.split_at((*size).min(rest.len()));
            buffer.extend_from_slice(now);
            rest = later;
            while buffer.len() >= need.max(1) {
                let (answer, len) = scanner(&buffer, &LIMITS).expect("well-formed");
                if answer == Answer::Incomplete {
                    need = len;
                } else {
                    seen.push(answer);
                    buffer.drain(..len);
                    need = 0;
                }
            }
            if rest.is_empty() {
                break;
            }
        }
        let whole: Vec<_> = replies.iter().map(|reply| scanner(reply, &LIMITS).expect("well-formed").0).collect();
        prop_assert_eq!(seen, whole);
    }

    #[test]
    fn harmed_replies_are_never_read_differently(
        bytes in encoded(),
        harms in prop::collection::vec(harm(), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let whole = harmed(bytes, &harms);
        for bytes in [&whole[..], &whole[..cut.index(whole.len() + 1)]] {
            let is_utf8 = std::str::from_utf8(bytes).is_ok();
            match (scanner(bytes, &LIMITS), oracle(bytes)) {
                (Ok((Answer::Whole(said), len)), theirs) => {
                    if theirs == Answer::Wrong {
                        prop_assert!(!is_utf8 || has_odd_push(&said), "only the crate finds these wrong");
                    } else {
                        prop_assert_eq!(Answer::Whole(said), theirs);
                        // Both took the same bytes.
                        prop_assert_eq!(oracle(&bytes[..len - 1]), Answer::Incomplete);
                    }
                }
                (Ok((_, _)), theirs) => {
                    // An odd push may be followed by more.
                    prop_assert!(theirs == Answer::Incomplete || (theirs == Answer::Wrong && (!is_utf8 || bytes.contains(&b'>'))));
                }
                (Err(Malformed::UnknownType(_) | Malformed::MissingLineEnd), theirs) => {
                    prop_assert!(!matches!(theirs, Answer::Whole(_)), "the crate reads {:?}", theirs);
                }
                (Err(Malformed::BadNumber), Answer::Whole(said)) => {
                    let signed_or_spaced = bytes.iter().any(|byte| byte.is_ascii_whitespace() || *byte == b'+');
                    prop_assert!(signed_or_spaced, "the crate reads {:?}", said);
                }
                // The crate may be lenient, or be waiting for the end of the line.
                (Err(_), _) => {}
            }
        }
    }

    #[test]
    fn any_bytes_at_all_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..200), message_bytes_max in 0_usize..100, reply_bytes_max in 0_usize..100) {
        let limits = Limits { message_bytes_max, reply_bytes_max };
        match scan(&bytes, &limits) {
            Ok(Scan::Incomplete { need }) => prop_assert!(need > bytes.len()),
            Ok(Scan::Reply { len, .. }) => prop_assert!(len <= reply_bytes_max),
            _ => {}
        }
    }

    #[test]
    fn limits_are_kept_however_a_reply_is_cut(bytes in encoded(), reply_bytes_max in 0_usize..60, message_bytes_max in 0_usize..30) {
        let limits = Limits { message_bytes_max, reply_bytes_max };
        let whole = scan(&bytes, &limits);
        for cut in 0..bytes.len() {
            match scan(&bytes[..cut], &limits) {
                Ok(Scan::Incomplete { need }) => prop_assert!(need > cut && need <= bytes.len()),
                // Known early is known for good.
                early => prop_assert_eq!(early.map_err(|error| error.to_string()), whole.map_err(|error| error.to_string())),
            }
        }
    }
}
