//! What single replies scan as. Arbitrary ones are compared with the `redis` crate in `tests/tests/core/resp_oracle.rs`.

use crate::broker::redis::resp::*;

const LIMITS: Limits = Limits { message_bytes_max: 1_000, reply_bytes_max: 40_000 };

fn reply(bytes: &[u8]) -> Reply<'_> {
    match scan(bytes, &LIMITS) {
        Ok(Scan::Reply { reply, len }) if len == bytes.len() => reply,
        other => panic!("{:?}: {other:?}", String::from_utf8_lossy(bytes)),
    }
}

#[test]
fn every_type_is_understood() {
    assert_eq!(reply(b"+OK\r\n"), Reply::Simple(b"OK"));
    assert_eq!(reply(b"+a\rb\nc\r\n"), Reply::Simple(b"a\rb\nc"));
    assert_eq!(reply(b"-ERR no\r\n"), Reply::Error(b"ERR no"));
    assert_eq!(reply(b"!6\r\nERR no\r\n"), Reply::Error(b"ERR no"));
    assert_eq!(reply(b":-9223372036854775808\r\n"), Reply::Integer(i64::MIN));
    assert_eq!(reply(b":+7\r\n"), Reply::Integer(7));
    assert_eq!(reply(b"$4\r\na\r\nb\r\n"), Reply::Bulk(b"a\r\nb"));
    assert_eq!(reply(b"$0\r\n\r\n"), Reply::Bulk(b""));
    for null in [&b"_\r\n"[..], b"$-1\r\n", b"*-1\r\n"] {
        assert_eq!(reply(null), Reply::Null);
    }
    assert_eq!(reply(b"#t\r\n"), Reply::Boolean(true));
    assert_eq!(reply(b",-inf\r\n"), Reply::Double(f64::NEG_INFINITY));
    assert_eq!(reply(b"(123456789012345678901234567890\r\n"), Reply::BigNumber(b"123456789012345678901234567890"));
    assert_eq!(reply(b"=5\r\ntxt:x\r\n"), Reply::Verbatim { format: b"txt", text: b"x" });
}

#[test]
fn elements_are_walked_in_place() {
    let Reply::Map(mut items) = reply(b"%2\r\n+k\r\n*2\r\n:1\r\n*0\r\n|1\r\n+a\r\n+b\r\n:2\r\n#f\r\n") else {
        panic!("no map");
    };
    assert_eq!(items.left(), 4);
    assert_eq!(items.next(), Some(Reply::Simple(b"k")));
    let Some(Reply::Array(mut inner)) = items.next() else { panic!("no array") };
    assert_eq!(inner.next(), Some(Reply::Integer(1)));
    assert!(matches!(inner.next(), Some(Reply::Array(empty)) if empty.left() == 0));
    assert_eq!(inner.next(), None);
    assert_eq!(items.next(), Some(Reply::Integer(2)), "its attribute is skipped");
    assert_eq!(items.next(), Some(Reply::Boolean(false)));
    assert_eq!(items.next(), None);
}

#[test]
fn attributes_in_front_belong_to_the_reply() {
    assert_eq!(reply(b"|1\r\n+ttl\r\n:9\r\n|0\r\n:5\r\n"), Reply::Integer(5));
}

#[test]
fn messages_have_a_short_way_in_both_protocols() {
    for kind in ['>', '*'] {
        let bytes = format!("{kind}3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n+next");
        assert_eq!(
            scan(bytes.as_bytes(), &LIMITS),
            Ok(Scan::Message { channel: b"c", payload: b"hi", len: bytes.len() - 5 })
        );
    }
}

#[test]
fn an_oversized_message_is_known_from_its_header() {
    let header = b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1001\r\n";
    let oversized = Ok(Scan::Oversized { header_len: header.len(), payload_len: 1_001 });
    assert_eq!(scan(header, &LIMITS), oversized);
    let huge = b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$18446744073709551615\r\n";
    assert_eq!(scan(huge, &LIMITS), Ok(Scan::Oversized { header_len: huge.len(), payload_len: u64::MAX }));
}

#[test]
fn the_bytes_needed_are_told_from_headers() {
    let needs = |bytes: &[u8]| match scan(bytes, &LIMITS) {
        Ok(Scan::Incomplete { need }) => need,
        other => panic!("{other:?}"),
    };
    assert_eq!(needs(b""), 3);
    assert_eq!([&b"$"[..], b":1", b":1\r"].map(needs), [4, 4, 4], "a digit and the end of the line");
    assert_eq!(needs(b":-"), 5);
    assert_eq!(needs(b"$100\r\nx"), 108);
    let header = b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1000\r\n";
    assert_eq!(needs(header), header.len() + 1_002);
    assert_eq!(needs(b"*100\r\n"), 6 + 300);
    assert_eq!(needs(b"*2\r\n$10\r\n"), 9 + 12 + 3);
    assert_eq!(needs(b"+abc\r"), 6);
    assert_eq!(needs(b"+abc"), 6);
}

#[test]
fn what_is_no_reply_is_told() {
    let long = [b"+".as_slice(), &vec![b'x'; LINE_BYTES_MAX + 2]].concat();
    let deep = b"*1\r\n".repeat(DEPTH_MAX + 1);
    for (bytes, error) in [
        (&b"\r\n"[..], Malformed::UnknownType(b'\r')),
        (b":\r\n", Malformed::BadNumber),
        (b":1x", Malformed::BadNumber),
        (b":1\rx", Malformed::BadNumber),
        (b":9223372036854775808\r\n", Malformed::BadNumber),
        (b":--1", Malformed::BadLength),
        (b"$-2", Malformed::BadLength),
        (b"%-1\r\n", Malformed::BadLength),
        (b"$99999999999999999999999\r\n", Malformed::BadNumber),
        (b"$1\r\nabc", Malformed::MissingLineEnd),
        (b"$50000\r\n", Malformed::TooLarge),
        (b"*18446744073709551615\r\n", Malformed::TooLarge),
        (b"%18446744073709551615\r\n", Malformed::TooLarge),
        (b">3\r\n$7\r\nmessage\r\n$50000\r\n", Malformed::TooLarge),
        (b"#x\r\n", Malformed::BadNumber),
        (b",x\r\n", Malformed::BadNumber),
        (b"_x\r\n", Malformed::BadLength),
        (b"=2\r\nxx\r\n", Malformed::BadLength),
        (b"*?\r\n", Malformed::BadNumber),
        (&long, Malformed::LineTooLong),
        (&deep, Malformed::TooDeep),
    ] {
        assert_eq!(scan(bytes, &LIMITS), Err(error), "{:?}", String::from_utf8_lossy(bytes));
        assert!(!error.to_string().is_empty());
    }
    assert!(scan(&deep[4..], &LIMITS).is_ok());
}

#[test]
fn the_longest_line_is_still_read_however_it_is_cut() {
    let line = [b"+".as_slice(), &vec![b'x'; LINE_BYTES_MAX], b"\r\n"].concat();
    assert!(matches!(scan(&line, &LIMITS), Ok(Scan::Reply { len, .. }) if len == line.len()));
    for cut in line.len() - 3..line.len() {
        assert!(
            matches!(scan(&line[..cut], &LIMITS), Ok(Scan::Incomplete { need }) if need > cut && need <= line.len()),
            "{cut}"
        );
    }
}

#[test]
fn a_reply_may_be_as_long_as_the_limit_wherever_it_is_cut() {
    let reply = b"*2\r\n$4\r\nabcd\r\n*2\r\n+OK\r\n:17\r\n";
    let within = |reply_bytes_max| Limits { message_bytes_max: 0, reply_bytes_max };
    for cut in 1..reply.len() {
        let found = scan(&reply[..cut], &within(reply.len()));
        assert!(matches!(found, Ok(Scan::Incomplete { need }) if need <= reply.len()), "{cut}: {found:?}");
    }
    assert!(matches!(scan(reply, &within(reply.len())), Ok(Scan::Reply { .. })));
    assert!(matches!(scan(reply, &within(reply.len() - 1)), Err(Malformed::TooLarge)));
}
