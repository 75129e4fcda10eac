//! The limits of connections, addresses and pending upgrades in the core alone, where time stands still unless it is told to
//! pass: what is allowed to the last one, and what is told beyond.

use fanfare_core::{Config, ConnId, Event, Network, Proxies, Rate, Turn};
use fanfare_tests::lone_core::{LoneCore, Said, text_to};
use fanfare_tests::{Frame, code, config, opcode, proxies, upgrade_request};
use std::net::IpAddr;
use std::time::Duration;

const PING: &str = r#"{"type":"PING"}"#;
const SECOND: Duration = Duration::from_secs(1);

/// A connection from this address, and what the core says at once.
fn connect_from(lone: &mut LoneCore, peer: &str) -> (ConnId, Vec<Said>) {
    let (peer, mut conn) = (peer.parse::<IpAddr>().expect("an address"), None);
    let said = lone.turn(|turn| conn = Some(turn.open_from(peer).expect("there is a place")));
    (conn.expect("set above"), said)
}

/// The status of the response to a connection from this address that asks for an upgrade with these further header lines.
fn status(lone: &mut LoneCore, peer: &str, before: &[u8], headers: &str) -> u16 {
    let (conn, mut said) = connect_from(lone, peer);
    said.extend(lone.bytes(conn, [before, upgrade_request("/", headers).as_bytes()].concat()));
    let text = text_to(&said, conn);
    text.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok()).unwrap_or_else(|| panic!("{text}"))
}

/// One more connection that says nothing.
fn knock(turn: &mut Turn<'_>) {
    turn.open().expect("there is a place");
}

fn trusting(networks: &[&str], protocol: bool) -> Proxies {
    proxies(networks.iter().map(|network| network.parse::<Network>().expect("a network")), protocol)
}

fn close_code(said: &[Said], conn: ConnId) -> Option<u16> {
    said.iter().find_map(|said| match said {
        Said::Sent(to, bytes) if *to == conn => {
            let frames =
                std::iter::successors(Some(&bytes[..]), |rest| Frame::parse(rest).map(|(_, length)| &rest[length..]));
            frames.filter_map(Frame::parse).find_map(|(frame, _)| {
                let code = frame.payload.get(..2).filter(|_| frame.opcode == opcode::CLOSE)?;
                Some(u16::from_be_bytes([code[0], code[1]]))
            })
        }
        _ => None,
    })
}

#[test]
fn messages_are_allowed_to_the_last_one_and_refused_with_their_id() {
    let messages = Rate { per_second: 10, burst: 5 };
    let mut lone = LoneCore::new(config(|config| {
        config.limits.messages = messages;
        config.limits.errors_max = 3;
    }));
    let (conn, other) = (lone.client(), lone.client());
    for _ in 0..5 {
        assert!(text_to(&lone.command(conn, PING), conn).contains("PONG"));
    }
    let said = lone.command(conn, r#"{"type":"SEND_MESSAGE","room":"r","message":1,"id":"a"}"#);
    let refusal = text_to(&said, conn);
    for part in [r#""code":"too_fast""#, r#""id":"a""#, r#""room":"r""#] {
        assert!(refusal.contains(part), "{refusal}");
    }
    assert!(!said.iter().any(|said| matches!(said, Said::Publish(..))), "{said:?}");
    assert!(text_to(&lone.command(other, PING), other).contains("PONG"));

    // What is refused is not charged, and a good command forgives a refusal.
    lone.now = lone.now + SECOND / 10;
    assert!(text_to(&lone.command(conn, PING), conn).contains("PONG"));
    for _ in 0..3 {
        assert_eq!(close_code(&lone.command(conn, "nonsense"), conn), None);
    }
    assert_eq!(close_code(&lone.bytes(conn, Frame::new(opcode::BINARY, "x").masked()), conn), Some(code::TOO_FAST));
    let metrics = lone.core.metrics();
    assert_eq!((metrics.limited_messages, metrics.rate_closes, metrics.commands), (5, 1, 7));
}

#[test]
fn the_rate_is_kept_however_finely_a_client_spreads_its_messages() {
    for pause_us in [100, 1_000, 9_000, 40_000] {
        let messages = Rate { per_second: 100, burst: 5 };
        // Refusals shall not close.
        let mut lone = LoneCore::new(config(|config| {
            config.limits.messages = messages;
            config.limits.errors_max = u16::MAX;
            config.limits.bytes = Rate::NONE;
        }));
        let conn = lone.client();
        // 2 s, and 50 messages a second more than allowed, if not many more.
        let each = if pause_us == 40_000 { 6 } else { 2 };
        for _ in 0..2_000_000 / pause_us {
            lone.now = lone.now + Duration::from_micros(pause_us);
            lone.bytes(conn, Frame::text(PING).masked().repeat(each));
        }
        let served = lone.core.metrics().commands;
        assert!((200..=205).contains(&served), "{served} in 2 s, with pauses of {pause_us} µs");
    }
}

#[test]
fn a_dialect_without_replies_closes_at_once() {
    let messages = Rate { per_second: 10, burst: 2 };
    let config = config(|config| {
        config.limits.messages = messages;
        config.echo = true;
    });
    for path in ["/classic", "/broadcast", "/echo"] {
        let mut lone = LoneCore::new(config.clone());
        let conn = lone.connect();
        lone.bytes(conn, upgrade_request(path, ""));
        for _ in 0..2 {
            assert_eq!(close_code(&lone.command(conn, PING), conn), None, "{path}");
        }
        assert_eq!(close_code(&lone.command(conn, PING), conn), Some(code::TOO_FAST), "{path}");
        assert!(lone.command(conn, PING).is_empty(), "nothing is read of it any more");
    }
}

#[test]
fn deliveries_beyond_the_rate_are_refused_and_never_end_the_connection() {
    let mut lone = LoneCore::new(config(|config| {
        config.limits.deliveries = Rate { per_second: 1, burst: 1 };
        config.limits.errors_max = 3;
    }));
    let (conn, _) = (lone.member("r"), lone.member("r"));
    let send = r#"{"type":"SEND_MESSAGE","room":"r","message":1,"id":"a"}"#;
    lone.command(conn, send);
    for _ in 0..20 {
        let said = lone.command(conn, send);
        assert!(text_to(&said, conn).contains(r#""code":"too_fast""#), "{said:?}");
        assert_eq!(close_code(&said, conn), None);
    }
}

/// A PING command in so many frames, all but the first two of no byte.
fn cut_up(frames: usize) -> Vec<u8> {
    let (start, end) = PING.split_at(5);
    let empty = Frame::new(opcode::CONTINUATION, "").unfinished().masked().repeat(frames - 2);
    [Frame::text(start).unfinished().masked(), empty, Frame::new(opcode::CONTINUATION, end).masked()].concat()
}

#[test]
fn a_message_counts_as_many_times_as_it_has_frames() {
    let messages = Rate { per_second: 10, burst: 20 };
    for piece_bytes in [1, 7, usize::MAX] {
        let mut lone = LoneCore::new(config(|config| config.limits.messages = messages));
        let (conn, other) = (lone.client(), lone.client());
        let send = |lone: &mut LoneCore, conn, frames| -> Vec<Said> {
            let bytes = cut_up(frames);
            bytes.chunks(piece_bytes.min(bytes.len())).flat_map(|piece| lone.bytes(conn, piece)).collect()
        };
        // All of the burst; the last frame of the next message is the one beyond.
        assert!(text_to(&send(&mut lone, conn, 11), conn).contains("PONG"));
        assert!(text_to(&send(&mut lone, conn, 9), conn).contains("PONG"));
        assert!(text_to(&lone.command(conn, PING), conn).contains("too_fast"));
        lone.now = lone.now + SECOND / 5;
        let said = send(&mut lone, conn, 3);
        assert!(text_to(&said, conn).contains("too_fast"), "the message is whole, so it can be refused: {said:?}");
        assert_eq!(close_code(&said, conn), None);

        // Of this one, more frames than the burst come before its last.
        let said = send(&mut lone, other, 22);
        assert_eq!(close_code(&said, other), Some(code::TOO_FAST));
        assert!(!text_to(&said, other).contains("PONG"), "{said:?}");
        let metrics = lone.core.metrics();
        assert_eq!((metrics.limited_messages, metrics.rate_closes), (3, 1));
    }
}

#[test]
fn bytes_are_charged_before_they_are_read() {
    let bytes = Rate { per_second: 1_000, burst: 5_000 };
    let mut lone = LoneCore::new(config(|config| config.limits.bytes = bytes));
    let conn = lone.client();
    assert_eq!(close_code(&lone.bytes(conn, Frame::text("x".repeat(4_000)).masked()), conn), None);
    lone.now = lone.now + 4 * SECOND;
    // Not even a whole message, and no violation either: the reserved bits were never looked at.
    let said = lone.bytes(conn, [0xf1; 5_001]);
    assert_eq!(close_code(&said, conn), Some(code::TOO_FAST));
    assert!(text_to(&said, conn).contains("too many bytes a second"));
    assert_eq!((lone.core.metrics().limited_bytes, lone.core.metrics().protocol_closes), (1, 0));
}

#[test]
fn pings_and_pongs_share_their_rate() {
    let mut lone = LoneCore::new(config(|config| config.limits.pings = Rate { per_second: 1, burst: 4 }));
    let conn = lone.client();
    for opcode in [opcode::PING, opcode::PONG, opcode::PING, opcode::PONG] {
        assert_eq!(close_code(&lone.bytes(conn, Frame::new(opcode, "").masked()), conn), None);
    }
    let said = lone.bytes(conn, Frame::new(opcode::PONG, "").masked());
    assert_eq!(close_code(&said, conn), Some(code::TOO_FAST));
    assert_eq!(lone.core.metrics().limited_pings, 1);
}

#[test]
fn without_a_limit_nothing_is_refused() {
    let none = Rate::NONE;
    let mut lone = LoneCore::new(config(|config| {
        config.limits.messages = none;
        config.limits.bytes = none;
        config.limits.pings = none;
    }));
    let conn = lone.client();
    let many = [Frame::new(opcode::PING, "").masked(), Frame::text(PING).masked()].concat().repeat(10_000);
    assert_eq!(close_code(&lone.bytes(conn, many), conn), None);
    assert_eq!(lone.core.metrics().commands, 10_000);
}

#[test]
fn of_too_many_pending_connections_an_answered_one_goes_or_else_the_oldest() {
    let mut lone = LoneCore::new(config(|config| config.admission.pending_upgrades_max = 3));
    let first = lone.connect();
    lone.bytes(first, "GET / HT");
    let open = lone.client();
    let answered = lone.connect();
    lone.bytes(answered, "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
    let third = lone.connect();
    // The fourth.
    let said = lone.turn(knock);
    assert_eq!(said, [Said::Close(answered)]);
    let said = lone.turn(knock);
    assert!(text_to(&said, first).starts_with("HTTP/1.1 503 "), "{said:?}");
    assert!(said.contains(&Said::Close(first)) && !said.contains(&Said::Close(third)), "{said:?}");
    assert!(text_to(&lone.command(open, PING), open).contains("PONG"));
    assert!(text_to(&lone.bytes(third, upgrade_request("/", "")), third).starts_with("HTTP/1.1 101 "));
    assert_eq!(lone.core.metrics().upgrades_evicted, 1);
}

#[test]
fn an_address_that_is_refused_pushes_out_nobody_else() {
    let config = config(|config| {
        config.admission.pending_upgrades_max = 10;
        config.admission.connections_per_address_max = 1;
    });
    let mut lone = LoneCore::new(config);
    let (honest, _) = connect_from(&mut lone, "192.0.2.1");
    lone.bytes(honest, "GET / HT");
    // Nobody of these hangs up.
    for _ in 0..100 {
        connect_from(&mut lone, "192.0.2.2");
    }
    assert_eq!(lone.core.metrics().upgrades_evicted, 0);
    let said = lone.bytes(honest, &upgrade_request("/", "")["GET / HT".len()..]);
    assert!(text_to(&said, honest).starts_with("HTTP/1.1 101 "), "{said:?}");
}

#[test]
fn five_thousand_clients_may_connect_before_the_first_of_them_asks() {
    let mut lone = LoneCore::new(Config::default());
    let mut conns = Vec::new();
    lone.turn(|turn| conns.extend((0..5_000).map(|_| turn.open().expect("there is a place"))));
    let request = upgrade_request("/", "").into_bytes();
    let said = lone.turn(|turn| {
        for conn in &conns {
            turn.feed(Event::Bytes { conn: *conn, data: &mut request.clone() });
        }
    });
    assert_eq!(said.len(), conns.len());
    assert_eq!((lone.core.metrics().upgrades_accepted, lone.core.metrics().upgrades_evicted), (5_000, 0));
}

#[test]
fn silent_connections_do_not_take_the_last_places() {
    let config = config(|config| {
        config.admission.connections_max = 20;
        config.admission.surplus_connections_max = 4;
    });
    let mut lone = LoneCore::new(config);
    let open: Vec<ConnId> = (0..10).map(|_| lone.client()).collect();
    for number in 0..100 {
        lone.turn(knock);
        assert!(lone.core.connections() <= 22, "half the surplus is free after {number}");
    }
    let newcomer = lone.client();
    assert!(text_to(&lone.command(newcomer, PING), newcomer).contains("PONG"));
    assert!(open.iter().all(|conn| text_to(&lone.command(*conn, PING), *conn).contains("PONG")));
    // Where the places are all taken by WebSockets, nobody goes, and whoever comes is told.
    while lone.core.metrics().connections_now < 20 {
        lone.client();
    }
    assert_eq!(status(&mut lone, "192.0.2.1", b"", ""), 503);
    assert_eq!(lone.core.metrics().connections_now, 20);
}

#[test]
fn bytes_are_charged_while_the_close_frame_is_awaited_too() {
    let bytes = Rate { per_second: 1_000, burst: 5_000 };
    let mut lone = LoneCore::new(config(|config| {
        config.limits.bytes = bytes;
        config.limits.errors_max = 0;
    }));
    let conn = lone.client();
    assert_eq!(close_code(&lone.command(conn, "nonsense"), conn), Some(4509));
    for _ in 0..4 {
        lone.bytes(conn, Frame::text("x".repeat(2_000)).masked());
    }
    assert_eq!(lone.core.metrics().limited_bytes, 1);
    // Nothing of it is read any more, not even its close frame.
    assert!(lone.bytes(conn, Frame::new(opcode::CLOSE, "").masked()).is_empty());
    // It has been told why already.
    assert_eq!(lone.core.metrics().rate_closes, 0);
}

#[test]
fn one_that_takes_nothing_is_ended_without_its_last_words() {
    let mut lone = LoneCore::new(config(|config| config.admission.pending_upgrades_max = 1));
    let conn = lone.connect();
    lone.takes = |_, _| 0;
    lone.bytes(conn, "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(lone.turn(knock), [Said::Close(conn)]);
}

#[test]
fn a_storm_within_one_turn_is_bounded_too() {
    let mut lone = LoneCore::new(config(|config| config.admission.pending_upgrades_max = 10));
    let said = lone.turn(|turn| (0..1_000).for_each(|_| knock(turn)));
    assert_eq!(said.iter().filter(|said| matches!(said, Said::Close(_))).count(), 990);
    assert_eq!(lone.core.connections(), 10);
}

#[test]
fn an_address_has_its_share_and_a_place_that_is_left_is_free() {
    let mut lone = LoneCore::new(config(|config| config.admission.connections_per_address_max = 2));
    let (first, _) = connect_from(&mut lone, "192.0.2.1");
    assert_eq!(status(&mut lone, "::ffff:192.0.2.1", b"", ""), 101);
    // At once, without a word of the client's.
    let (third, said) = connect_from(&mut lone, "192.0.2.1");
    let text = text_to(&said, third);
    assert!(text.starts_with("HTTP/1.1 429 ") && text.contains("\r\nRetry-After: 1\r\n"), "{text}");
    assert_eq!(status(&mut lone, "192.0.2.2", b"", ""), 101);
    lone.turn(|turn| turn.feed(Event::Closed { conn: first }));
    assert_eq!(status(&mut lone, "192.0.2.1", b"", ""), 101);
    // IPv6: a network of 64 bits.
    assert_eq!(status(&mut lone, "2001:db8::1", b"", ""), 101);
    assert_eq!(status(&mut lone, "2001:db8::2", b"", ""), 101);
    assert_eq!(status(&mut lone, "2001:db8::3", b"", ""), 429);
    assert_eq!(status(&mut lone, "2001:db8:0:1::3", b"", ""), 101);
    assert_eq!(lone.core.metrics().upgrades_refused_address, 2);
}

#[test]
fn new_connections_of_an_address_have_a_rate() {
    let connects_per_address = Rate { per_second: 1, burst: 3 };
    let mut lone = LoneCore::new(config(|config| config.admission.connects_per_address = connects_per_address));
    let count = |lone: &mut LoneCore, status_expected| {
        (0..5).filter(|_| status(lone, "192.0.2.1", b"", "") == status_expected).count()
    };
    assert_eq!(count(&mut lone, 101), 3);
    lone.now = lone.now + SECOND;
    assert_eq!(count(&mut lone, 429), 4);
    assert_eq!(status(&mut lone, "192.0.2.2", b"", ""), 101);
}

#[test]
fn only_trusted_proxies_tell_the_client() {
    let proxies = trusting(&["10.0.0.0/8"], true);
    let config = config(|config| {
        config.admission.connections_per_address_max = 1;
        config.admission.proxies = proxies;
    });
    let mut lone = LoneCore::new(config);
    let header = "X-Forwarded-For: 198.51.100.9, 192.0.2.1\r\n";
    assert_eq!(status(&mut lone, "10.0.0.1", b"", header), 101);
    assert_eq!(status(&mut lone, "10.0.0.2", b"", header), 429);
    // Nobody else's word counts: 192.0.2.2 is itself.
    assert_eq!(status(&mut lone, "192.0.2.2", b"", "X-Forwarded-For: 192.0.2.7\r\n"), 101);
    assert_eq!(status(&mut lone, "192.0.2.2", b"", "X-Forwarded-For: 192.0.2.8\r\n"), 429);
    assert_eq!(status(&mut lone, "192.0.2.3", b"PROXY TCP4 192.0.2.9 10.0.0.1 1 2\r\n", ""), 400);
    // The proxy itself has no limit.
    for _ in 0..3 {
        assert_eq!(status(&mut lone, "10.0.0.1", b"", ""), 101);
        assert_eq!(status(&mut lone, "10.0.0.1", b"PROXY UNKNOWN\r\n", ""), 101);
    }
    // A PROXY header, then one of its own, which is no request; nor does its X-Forwarded-For count.
    let proxied = b"PROXY TCP4 192.0.2.4 10.0.0.1 1 2\r\n".as_slice();
    assert_eq!(status(&mut lone, "10.0.0.1", &proxied.repeat(2), ""), 400);
    lone.wait(Duration::from_secs(20));
    assert_eq!(status(&mut lone, "10.0.0.1", proxied, "X-Forwarded-For: 192.0.2.5\r\n"), 101);
    assert_eq!(status(&mut lone, "10.0.0.1", proxied, "X-Forwarded-For: 192.0.2.6\r\n"), 429);
    // A balancer in front of a proxy, both one's own.
    let twice = b"PROXY TCP4 10.9.9.9 10.0.0.1 1 2\r\n".as_slice();
    assert_eq!(status(&mut lone, "10.0.0.1", twice, "X-Forwarded-For: 192.0.2.4\r\n"), 429);
    assert_eq!(status(&mut lone, "10.0.0.1", &[twice, proxied].concat(), ""), 400);
}

#[test]
fn a_proxy_header_may_come_in_any_split() {
    let proxies = trusting(&["10.0.0.1"], true);
    let config = config(|config| {
        config.admission.connections_per_address_max = 1;
        config.admission.proxies = proxies;
    });
    let v1 = b"PROXY TCP4 192.0.2.1 10.0.0.1 4711 443\r\n".to_vec();
    let v2 = [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".as_slice(), &[192, 0, 2, 1, 10, 0, 0, 1, 0, 80, 1, 187]].concat();
    for header in [v1, v2] {
        let all = [&header[..], upgrade_request("/", "").as_bytes()].concat();
        for split in 1..all.len() {
            let mut lone = LoneCore::new(config.clone());
            let (conn, _) = connect_from(&mut lone, "10.0.0.1");
            let mut said = lone.bytes(conn, &all[..split]);
            said.extend(lone.bytes(conn, &all[split..]));
            assert!(text_to(&said, conn).starts_with("HTTP/1.1 101 "), "{split}: {}", text_to(&said, conn));
            assert_eq!(status(&mut lone, "192.0.2.1", b"", ""), 429, "{split}");
        }
        let mut lone = LoneCore::new(config.clone());
        let (conn, _) = connect_from(&mut lone, "10.0.0.1");
        let said = all.iter().flat_map(|byte| lone.bytes(conn, [*byte])).collect::<Vec<_>>();
        assert!(text_to(&said, conn).starts_with("HTTP/1.1 101 "));
    }
}

#[test]
fn a_proxy_header_that_is_not_expected_is_told_to_be_one() {
    let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\x0a\0\0\x01\0\x50\x01\xbb";
    for header in [b"PROXY TCP4 192.0.2.9 10.0.0.1 1 2\r\n".as_slice(), v2] {
        let mut lone = LoneCore::new(config(|config| config.admission.proxies = trusting(&["10.0.0.1"], false)));
        let (conn, _) = connect_from(&mut lone, "10.0.0.1");
        let said = lone.bytes(conn, [header, upgrade_request("/", "").as_bytes()].concat());
        let text = text_to(&said, conn);
        assert!(text.starts_with("HTTP/1.1 400 ") && text.contains("PROXY protocol"), "{text}");
    }
}
