//! The RESP scanner of `fanfare-core` against the parser of the `redis` crate: same bytes, same answer. What is compared, and
//! where the two may differ, stands with the body of the fuzz target.

use fanfare_core::broker::redis::resp::{Limits, Scan, scan};
use fanfare_tests::fuzz::resp_against_redis::{Answer, LIMITS, agree, oracle, scanner};
use proptest::prelude::*;

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
            agree(bytes);
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
