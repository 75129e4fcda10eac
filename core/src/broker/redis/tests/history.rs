//! The commands of rooms' histories, byte for byte, and replies of every kind. The scripts themselves run in a real Redis in
//! `tests/tests/core`.

use std::fmt::Write as _;
use std::time::Duration;

use proptest::prelude::*;
use sha1::{Digest as _, Sha1};

use crate::broker::redis::Names;
use crate::broker::redis::history::*;
use crate::broker::redis::resp::{Limits, Reply, Scan, scan};
use crate::history::{Continuity, Epoch, IdempotencyKey, Page, Part, Position, Query, Retention, Stored, StoredAt};

const LIMITS: Limits = Limits { message_bytes_max: 100_000, reply_bytes_max: 100_000 };

const ROOM: Room<'_> = Room {
    names: Names::plain("p:"),
    name: "r",
    retention: Retention { messages_max: 3, bytes_max: 40, age_max: Duration::from_millis(500) },
    meta_age_max: Duration::from_secs(6),
};

const KEY: IdempotencyKey<'_> =
    IdempotencyKey { text: "user key", digest: 0xabc, age_max: Duration::from_secs(7), keys_max: 8 };

const EPOCH: Epoch = Epoch { ordinal: 2, random: 0xff };

/// The arguments of the one command that is written.
fn arguments(write: impl FnOnce(&mut Vec<u8>)) -> Vec<String> {
    let mut out = Vec::new();
    write(&mut out);
    let Ok(Scan::Reply { reply: Reply::Array(items), len }) = scan(&out, &LIMITS) else { panic!("no command") };
    assert_eq!(len, out.len());
    let text = |item| match item {
        Reply::Bulk(bytes) => String::from_utf8(bytes.to_vec()).expect("UTF-8"),
        other => panic!("no argument: {other:?}"),
    };
    items.map(text).collect()
}

#[test]
fn scripts_are_called_by_their_digest() {
    for script in Script::ALL {
        let digest = Sha1::digest(script.source()).iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        assert_eq!(script.sha1(), digest, "{script:?}");
        assert_eq!(arguments(|out| load(out, script)), ["SCRIPT", "LOAD", script.source()]);
    }
}

#[test]
fn a_store_names_its_keys_and_then_its_arguments() {
    let plain = arguments(|out| store(out, &ROOM, 0x1f, None, b"payload"));
    let sha1 = Script::Store.sha1();
    let keys = ["p:\u{1}meta:r", "p:\u{1}log:r", "p:\u{1}keys0:r", "p:\u{1}keys1:r"];
    let common = ["000000000000001f", "500", "6000", "p:r", "3", "40", "payload"];
    assert_eq!(plain, [&["EVALSHA", sha1, "2"], &keys[..2], &common].concat());
    let keyed = arguments(|out| store(out, &ROOM, 0x1f, Some(&KEY), b"payload"));
    let of_key = ["user key", "0000000000000abc", "7000", "8"];
    assert_eq!(keyed, [&["EVALSHA", sha1, "4"], &keys[..], &common, &of_key].concat());
}

#[test]
fn a_read_says_what_it_asks_for() {
    let asked = |part| {
        let query = Query { part, messages_max: 9, bytes_max: u64::MAX };
        arguments(|out| read(out, &ROOM, 1, &query)).split_off(3)
    };
    let common = ["p:\u{1}meta:r", "p:\u{1}log:r", "0000000000000001", "500", "6000"];
    let expected = |part: [&'static str; 3]| [&common[..], &part, &["9", "18446744073709551615"]].concat();
    assert_eq!(
        asked(Part::After(Position { epoch: EPOCH, offset: 7 })),
        expected(["after", "2-00000000000000ff", "7"])
    );
    assert_eq!(asked(Part::Before(7)), expected(["before", "", "7"]));
    assert_eq!(asked(Part::Newest), expected(["newest", "", ""]));
}

#[test]
fn times_that_redis_could_not_bear_are_cut() {
    for (asked, written) in [(Duration::MAX, "3155760000000"), (Duration::ZERO, "1000")] {
        let room = Room { meta_age_max: asked, ..ROOM };
        assert_eq!(arguments(|out| store(out, &room, 0, None, b""))[7], written);
    }
}

#[test]
fn no_store_is_longer_than_is_reckoned_with_and_none_much_shorter() {
    let forever = Retention { messages_max: u32::MAX, bytes_max: u64::MAX, age_max: Duration::MAX };
    for [prefix, name, text, payload] in [[0, 1, 0, 0], [100, 200, 64, 70_000], [9, 9, 9, 9]] {
        let [prefix, name, text, payload] = [prefix, name, text, payload].map(|length| "x".repeat(length));
        let room = Room { names: Names::plain(&prefix), name: &name, retention: forever, meta_age_max: Duration::MAX };
        let key = IdempotencyKey { text: &text, digest: u64::MAX, age_max: Duration::MAX, keys_max: u32::MAX };
        for key in [None, Some(&key)] {
            let mut out = Vec::new();
            store(&mut out, &room, u64::MAX, key, payload.as_bytes());
            let bound = store_bytes_max(&room, key, payload.as_bytes());
            assert!((out.len()..=out.len() + 1_500).contains(&bound), "{bound} for {}", out.len());
        }
    }
}

/// What a reply says, which the bytes hold whole.
fn parsed<T>(bytes: &[u8], parse: impl FnOnce(&Reply<'_>) -> T) -> T {
    match scan(bytes, &LIMITS) {
        Ok(Scan::Reply { reply, len }) if len == bytes.len() => parse(&reply),
        other => panic!("no reply: {other:?}"),
    }
}

const STORED: &[u8] = b"*6\r\n$18\r\n2-00000000000000ff\r\n:7\r\n:1\r\n:1000\r\n:1\r\n$0\r\n\r\n";
const PAGE: &[u8] = b"*11\r\n$18\r\n2-00000000000000ff\r\n:7\r\n:5\r\n$6\r\nfenced\r\n:5\r\n:1000\r\n:0\r\n\
    $5\r\n6-998\r\n$1\r\na\r\n$5\r\n7-999\r\n$0\r\n\r\n";

#[test]
fn replies_are_read() {
    let at = StoredAt { position: Position { epoch: EPOCH, offset: 7 }, is_new: true };
    let expected = StoreReply { at, time_ms: 1_000, is_announced: true, trouble: b"" };
    parsed(STORED, |reply| assert_eq!(parse_stored(reply), Ok(expected)));
    let entry = |offset, time_ms, payload: &[u8]| Stored { offset, time_ms, payload: payload.into() };
    let entries = vec![entry(6, 998, b"a"), entry(7, 999, b"")];
    let page = Page { last: at.position, first: 5, continuity: Continuity::Fenced(5), entries };
    parsed(PAGE, |reply| assert_eq!(parse_page(reply), Ok(ReadReply { page, time_ms: 1_000 })));
}

#[test]
fn as_much_may_be_missing_as_is_removed() {
    let page = |removed: u64| {
        let bytes = String::from_utf8(PAGE.to_vec()).expect("UTF-8");
        let bytes = bytes.replacen("6-998", "5-998", 1).replacen(":1000\r\n:0", &format!(":1000\r\n:{removed}"), 1);
        parsed(bytes.as_bytes(), |reply| parse_page(reply).map(|read| read.page.entries.len()).ok())
    };
    assert_eq!([page(0), page(1), page(9)], [None, Some(2), Some(2)]);
}

#[test]
fn errors_are_told_apart() {
    let cases: [(&[u8], HistoryError<'_>); 9] = [
        (b"-NOSCRIPT No matching script.\r\n", HistoryError::NoScript),
        (b"-KEYREUSED the key\r\n", HistoryError::KeyReused),
        (b"-NOMESSAGE there is none\r\n", HistoryError::NoMessage),
        (b"-EPOCHUNKNOWN another\r\n", HistoryError::EpochUnknown),
        (b"-NOHISTORY INFO is refused\r\n", HistoryError::Unavailable(b"INFO is refused")),
        (b"-OOM command not allowed\r\n", HistoryError::Refused(b"OOM command not allowed")),
        (b"-NOSCRIPTS\r\n", HistoryError::Refused(b"NOSCRIPTS")),
        (b"*0\r\n", HistoryError::Malformed),
        (b"+OK\r\n", HistoryError::NoList),
    ];
    for (bytes, error) in cases {
        parsed(bytes, |reply| {
            assert_eq!(parse_stored(reply), Err(error));
            assert_eq!(parse_page(reply), Err(error));
        });
    }
}

#[test]
fn pages_that_no_script_replies_are_refused() {
    let text = String::from_utf8(PAGE.to_vec()).expect("UTF-8");
    for (good, bad) in [
        ("6-998", "5-998"),
        ("7-999", "8-999"),
        ("7-999", "7x999"),
        ("7-999", "7-99-"),
        ("fenced", "fences"),
        (":7\r", ":6\r"),
        (":5\r\n$6", ":9\r\n$6"),
        (":5\r\n$6", ":0\r\n$6"),
        (":5\r\n:1000", ":8\r\n:1000"),
        (":1000", ":-100"),
        ("2-0", "x-0"),
        ("*11", "*10"),
    ] {
        let bytes = text.replacen(good, bad, 1).into_bytes();
        let is_cut = bad == "*10";
        let bytes = if is_cut { &bytes[..bytes.len() - b"$0\r\n\r\n".len()] } else { &bytes[..] };
        parsed(bytes, |reply| assert_eq!(parse_page(reply), Err(HistoryError::Malformed), "{good} {bad}"));
    }
}

/// One element, of a kind that scripts reply or of another.
fn element() -> impl Strategy<Value = String> {
    let bulk = |text: String| format!("${}\r\n{text}\r\n", text.len());
    let number = prop_oneof![0..9_i64, any::<i64>()];
    let id = (prop_oneof![0..9_u64, any::<u64>()], any::<u64>()).prop_map(|(offset, ms)| format!("{offset}-{ms}"));
    prop_oneof![
        2 => number.prop_map(|number| format!(":{number}\r\n")),
        2 => id.prop_map(bulk),
        1 => Just("2-00000000000000ff".to_owned()).prop_map(bulk),
        1 => prop::sample::select(vec!["exact", "trimmed", "fenced", "unknown", ""]).prop_map(move |word| bulk(word.to_owned())),
        1 => "[a-zé]{0,5}".prop_map(bulk),
        1 => "(NOSCRIPT|KEYREUSED|NOHISTORY|NOHISTORY | |)[ a-z]{0,5}".prop_map(|text| format!("-{text}\r\n")),
        1 => prop::sample::select(vec!["_\r\n", "$-1\r\n", "*0\r\n", "#t\r\n", "+OK\r\n", ",1.5\r\n", "*1\r\n:1\r\n"])
            .prop_map(str::to_owned),
    ]
}

fn array(elements: &[String]) -> String {
    format!("*{}\r\n{}", elements.len(), elements.concat())
}

/// Any reply: arrays of anything, and good ones with some elements exchanged.
fn any_reply() -> impl Strategy<Value = String> {
    let good = prop::sample::select(vec![STORED, PAGE]).prop_map(|bytes| {
        let Ok(Scan::Reply { reply: Reply::Array(items), .. }) = scan(bytes, &LIMITS) else { panic!("an array") };
        let text = |item| match item {
            Reply::Integer(number) => format!(":{number}\r\n"),
            Reply::Bulk(text) => format!("${}\r\n{}\r\n", text.len(), String::from_utf8_lossy(text)),
            other => panic!("{other:?}"),
        };
        items.map(text).collect::<Vec<_>>()
    });
    let changes = prop::collection::vec((any::<prop::sample::Index>(), element()), 0..3);
    let changed = (good, changes).prop_map(|(mut elements, changes)| {
        for (at, element) in changes {
            let at = at.index(elements.len());
            elements[at] = element;
        }
        array(&elements)
    });
    prop_oneof![1 => element(), 2 => prop::collection::vec(element(), 0..12).prop_map(|all| array(&all)), 5 => changed]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_reply_breaks_the_reader_and_a_page_is_sound(bytes in any_reply()) {
        let (stored, read) = parsed(bytes.as_bytes(), |reply| {
            (parse_stored(reply).is_ok(), parse_page(reply).ok())
        });
        prop_assert!(!stored || read.is_none());
        if let Some(ReadReply { page, .. }) = read {
            prop_assert!(page.first >= 1 && page.first <= page.last.offset + 1);
            prop_assert!(page.entries.is_sorted_by(|before, after| before.offset < after.offset));
            let kept = page.first..=page.last.offset;
            prop_assert!(page.entries.iter().all(|entry| kept.contains(&entry.offset)));
        }
    }
}
