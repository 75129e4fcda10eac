//! However a client's bytes are cut on their way, the core does the same, to the letter.

use fanfare_tests::model::{Bounds, World};
use fanfare_tests::{Frame, opcode, upgrade_request};
use proptest::prelude::*;

fn piece() -> impl Strategy<Value = Vec<u8>> {
    let text = prop::sample::select(vec![
        r#"{"type":"SUBSCRIBE","room":"a","id":1}"#,
        r#"{"type":"SUBSCRIBE","room":"b"}"#,
        r#"{"type":"UNSUBSCRIBE","room":"a","id":2}"#,
        r#"{"type":"SEND_MESSAGE","roomId":"a","message":"héllo","id":"x"}"#,
        r#"{"type":"SEND_MESSAGE","roomId":"b","message":{"a":[1.0]},"echo":false}"#,
        r#"{"type":"PING","id":3}"#,
        r#"{"type":"JUMP"}"#,
        "no JSON, but UTF-8: €",
    ]);
    prop_oneof![
        8 => text.clone().prop_map(|text| Frame::text(text).masked()),
        2 => (text, any::<prop::sample::Index>()).prop_map(|(text, cut)| {
            let (start, end) = text.as_bytes().split_at(cut.index(text.len()));
            let ping = Frame::new(opcode::PING, "p").masked();
            [Frame::text(start).unfinished().masked(), ping, Frame::new(opcode::CONTINUATION, end).masked()].concat()
        }),
        1 => Just(Frame::new(opcode::BINARY, [0, 1]).masked()),
        1 => Just(Frame::close(1000, "bye").masked()),
        1 => prop::collection::vec(any::<u8>(), 1..20).prop_map(|bytes| Frame::text(bytes).masked()),
        1 => prop::collection::vec(any::<u8>(), 1..20),
    ]
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let head = prop_oneof![
        6 => Just(upgrade_request("/", "")),
        1 => Just(upgrade_request("/ws", "Sec-WebSocket-Protocol: chat, fanfare.v1\r\n")),
        1 => Just(upgrade_request("/elsewhere", "")),
        1 => Just("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n".to_owned()),
        1 => Just(format!("\r\n{}", upgrade_request("/", ""))),
        1 => Just("POST / HTTP/1.1\r\n\r\n".to_owned()),
        1 => Just("GET / HTTP/1.1\n\n".to_owned()),
        1 => Just("\r\n\r\n".to_owned()),
        1 => Just("nonsense".to_owned()),
        // At the limit of the head, one byte below it and one above.
        2 => (8_191..=8_193usize).prop_map(|bytes| {
            let rest = upgrade_request("/", "X: \r\n").len();
            upgrade_request("/", &format!("X: {}\r\n", "x".repeat(bytes - rest)))
        }),
        1 => Just("nonsense\n\nfollows".to_owned()),
        1 => Just(format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(9_000))),
    ];
    (head, prop::collection::vec(piece(), 0..8))
        .prop_map(|(head, pieces)| [head.into_bytes(), pieces.concat()].concat())
}

fn said(pieces: &[&[u8]]) -> String {
    let mut world = World::new(Bounds::default());
    world.feed_pieces(pieces);
    String::from_utf8_lossy(&world.log).into_owned()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn any_split_gives_the_same_actions(stream in stream(), mut cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10)) {
        let whole = said(&[&stream]);
        cuts.sort_by_key(|cut| cut.index(stream.len() + 1));
        let (mut pieces, mut at) = (Vec::new(), 0);
        for cut in cuts {
            let cut = cut.index(stream.len() + 1);
            pieces.push(&stream[at..cut]);
            at = cut;
        }
        pieces.push(&stream[at..]);
        prop_assert_eq!(&said(&pieces), &whole);
        let single: Vec<&[u8]> = stream.chunks(1).collect();
        prop_assert_eq!(&said(&single), &whole);
    }
}
