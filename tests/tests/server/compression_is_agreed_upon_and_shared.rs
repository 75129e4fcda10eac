//! permessage-deflate (RFC 7692): who agreed to it gets messages compressed, once for all of them, and who did not gets the
//! same messages plain. Compression here and inflation there are not the server's own.

use fanfare_tests::{
    COMPRESSED, Client, Frame, RawClient, Redis, Server, code, deflated, inflated, opcode, run_node, upgrade_request,
};

const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";

/// A client that agreed upon compression.
fn compressing(server: &Server, path: &str) -> RawClient {
    let (client, response) = RawClient::upgraded_with(server.address(), path, OFFER).expect("the path has a dialect");
    assert_eq!(response.field("sec-websocket-extensions"), Some(AGREED));
    client
}

const BEFORE: &str = r#"fanfare_compression_bytes_total{stage="before"}"#;
const AFTER: &str = r#"fanfare_compression_bytes_total{stage="after"}"#;
const AGREED: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

fn joined(mut client: RawClient) -> RawClient {
    client.send_text(r#"{"type":"SUBSCRIBE","room":"r"}"#);
    assert_eq!(client.recv_text(), r#"{"type":"SUBSCRIBED","room":"r"}"#);
    client
}

#[test]
fn members_with_and_without_it_get_the_same_messages_each_in_its_own_form() {
    let redis = Redis::start();
    let servers: [Server; 2] = std::array::from_fn(|_| Server::launch().redis(&redis).ops().start());
    let mut plain = servers.each_ref().map(|server| Client::member(server, "r"));
    let mut compressed = Vec::from(servers.each_ref().map(|server| joined(compressing(server, "/"))));
    let narrow = "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9\r\n";
    let (client, response) = RawClient::upgraded_with(servers[0].address(), "/", narrow).expect("a dialect");
    let extensions = response.field("sec-websocket-extensions").expect("an agreement");
    assert_eq!(extensions, format!("{AGREED}; server_max_window_bits=9"));
    compressed.push(joined(client));
    compressed.push(joined(compressing(&servers[0], "/")));
    let mut bare = compressing(&servers[0], "/broadcast/r");

    for length in [10_usize, 255, 256, 2_000, 60_000] {
        let text: String = (0..length).map(|at| char::from(b'a' + (at * at / 7 % 13) as u8)).collect();
        plain[1].publish("r", &format!("{text:?}"));
        let expected = format!(r#"{{"type":"MESSAGE","room":"r","message":{text:?}}}"#);
        plain.iter_mut().for_each(|client| client.expect(&expected));
        let frames: Vec<Frame> = compressed.iter_mut().map(RawClient::recv).collect();
        for frame in &frames {
            assert_eq!(frame.rsv, if expected.len() < 256 { 0 } else { COMPRESSED }, "{length} bytes");
            assert_eq!(inflated(frame.clone()).payload, expected.as_bytes());
        }
        assert_eq!(frames[0], frames[3], "on one instance, with one window: the same bytes");
        assert_eq!(inflated(bare.recv()).payload, text.as_bytes());
    }
    // Whoever agreed gets plain replies, for they are short, and is counted.
    compressed[0].send_text(r#"{"type":"PING","id":1}"#);
    assert_eq!(compressed[0].recv_text(), r#"{"type":"PONG","id":1}"#);
    let around = "{\"type\":\"MESSAGE\",\"room\":\"r\",\"message\":\"\"}".len() as f64;
    let before = 255.0 + 256.0 + 2_000.0 + 60_000.0 + 4.0 * around;
    let metrics = servers[1]
        .wait_for_metrics("each compressed once, and the short one never", |metrics| metrics.value(BEFORE) == before);
    assert_eq!(metrics.value("fanfare_compressed_connections"), 1.0);
    assert!(metrics.value(AFTER) < before / 2.0);
}

#[test]
fn many_members_cost_one_compression() {
    // Each worker with members compresses for its own.
    let server = Server::launch().workers(1).ops().start();
    let mut members: Vec<RawClient> = (0..50).map(|_| joined(compressing(&server, "/"))).collect();
    let message = format!("{:?}", "say it again ".repeat(100));
    members[0].send_text(&format!(r#"{{"type":"SEND_MESSAGE","roomId":"r","message":{message}}}"#));
    let frames: Vec<Frame> = members.iter_mut().map(RawClient::recv).collect();
    assert!(frames.iter().all(|frame| *frame == frames[0] && frame.rsv == COMPRESSED));
    let text = inflated(frames[0].clone()).payload;
    let metrics = server.wait_for_metrics("one compression", |metrics| metrics.value(BEFORE) == text.len() as f64);
    assert_eq!(metrics.value(AFTER), frames[0].payload.len() as f64);
}

#[test]
fn offers_that_cannot_be_kept_are_declined_and_the_next_one_is_looked_at() {
    let server = Server::start();
    for (fields, expected) in [
        ("Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=8\r\n", None),
        ("Sec-WebSocket-Extensions: permessage-deflate; unknown\r\n", None),
        ("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=9; client_max_window_bits\r\n", None),
        ("Sec-WebSocket-Extensions: permessage-bzip2\r\n", None),
        ("Sec-WebSocket-Extensions: permessage-deflate; unknown, permessage-deflate\r\n", Some(AGREED)),
        (
            "Sec-WebSocket-Extensions: permessage-deflate; unknown\r\nSec-WebSocket-Extensions: permessage-deflate\r\n",
            Some(AGREED),
        ),
    ] {
        let (mut client, response) = RawClient::upgraded_with(server.address(), "/", fields).expect("upgraded");
        assert_eq!(response.field("sec-websocket-extensions"), expected, "{fields}");
        client.send(&Frame::text(deflated(r#"{"type":"PING"}"#)).with_rsv(COMPRESSED));
        match expected {
            Some(_) => assert_eq!(client.recv_text(), r#"{"type":"PONG"}"#),
            None => assert_eq!(client.recv_close(), Some(code::PROTOCOL), "{fields}"),
        }
    }
    let malformed = "Sec-WebSocket-Extensions: permessage deflate\r\n";
    assert_eq!(RawClient::upgraded_with(server.address(), "/", malformed).err().expect("refused").status, 400);
}

#[test]
fn switched_off_it_is_declined() {
    let server = Server::launch().flag("--compression-enabled", "off").start();
    let (client, response) = RawClient::upgraded_with(server.address(), "/", OFFER).expect("upgraded");
    assert_eq!(response.field("sec-websocket-extensions"), None);
    let mut client = joined(client);
    let message = format!("{:?}", "again ".repeat(100));
    client.send_text(&format!(r#"{{"type":"SEND_MESSAGE","roomId":"r","message":{message}}}"#));
    assert!(client.recv_text().contains(&message));
}

#[test]
fn the_threshold_is_configured() {
    let server = Server::launch().flag("--compression-threshold-bytes", 1_000).start();
    let mut client = joined(compressing(&server, "/"));
    for (repeats, rsv) in [(90, 0), (100, COMPRESSED)] {
        let message = format!("{:?}", "0123456789".repeat(repeats));
        client.send_text(&format!(r#"{{"type":"SEND_MESSAGE","roomId":"r","message":{message}}}"#));
        assert_eq!(client.recv().rsv, rsv, "{repeats}");
    }
}

#[test]
fn compressed_commands_are_understood_in_any_fragments() {
    let server = Server::start();
    let mut client = compressing(&server, "/");
    let command = deflated(r#"{"type":"PING","id":"in fragments, in fragments"}"#);
    for cut in 0..=command.len() {
        client.send(&Frame::text(&command[..cut]).with_rsv(COMPRESSED).unfinished());
        client.send(&Frame::new(opcode::PING, "between"));
        client.send(&Frame::new(opcode::CONTINUATION, &command[cut..]));
        assert_eq!(client.recv(), Frame::new(opcode::PONG, "between"));
        assert_eq!(client.recv_text(), r#"{"type":"PONG","id":"in fragments, in fragments"}"#);
    }
    client.send_text(r#"{"type":"PING","id":"plain"}"#);
    assert_eq!(client.recv_text(), r#"{"type":"PONG","id":"plain"}"#);
}

#[test]
fn a_compression_bomb_is_too_big_and_nobody_else_notices() {
    let server = Server::start();
    let mut neighbour = Client::member(&server, "r");
    let bomb = deflated(vec![b' '; 30 << 20]);
    assert!(bomb.len() < 60_000, "{} bytes, less than a message may have", bomb.len());
    for _ in 0..20 {
        let mut client = compressing(&server, "/");
        client.send(&Frame::text(&bomb).with_rsv(COMPRESSED));
        assert_eq!(client.recv_close(), Some(code::TOO_BIG));
    }
    neighbour.publish("r", "1");
    neighbour.expect_message("r", "1");
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).expect("Linux");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak").trim();
    let kilobytes: u64 = peak.trim_end_matches(" kB").parse().expect("a number");
    assert!(kilobytes < 30 << 10, "{kilobytes} kB at the peak, less than one bomb");
}

#[test]
fn what_cannot_be_inflated_or_is_marked_where_it_must_not_be_ends_the_connection() {
    let server = Server::start();
    for (frame, code) in [
        (Frame::text([0x07]).with_rsv(COMPRESSED), code::NOT_UTF8),
        (Frame::text(deflated([0xff])).with_rsv(COMPRESSED), code::NOT_UTF8),
        (Frame::new(opcode::PING, "").with_rsv(COMPRESSED), code::PROTOCOL),
        (Frame::new(opcode::CONTINUATION, "").with_rsv(COMPRESSED), code::PROTOCOL),
        (Frame::text("{}").with_rsv(2), code::PROTOCOL),
    ] {
        let mut client = compressing(&server, "/");
        client.send(&frame);
        assert_eq!(client.recv_close(), Some(code), "{frame:?}");
    }
}

#[test]
fn frames_of_one_message_are_limited() {
    let server = Server::launch().flag("--limits-frames-per-message-max", 3).start();
    let mut client = RawClient::upgraded(server.address());
    client.send(&Frame::text(r#"{"type":"#).unfinished());
    client.send(&Frame::new(opcode::CONTINUATION, r#""PING"#).unfinished());
    client.send(&Frame::new(opcode::CONTINUATION, r#""}"#));
    assert_eq!(client.recv_text(), r#"{"type":"PONG"}"#);
    client.send(&Frame::text("").unfinished());
    for _ in 0..3 {
        client.send(&Frame::new(opcode::CONTINUATION, "").unfinished());
    }
    assert_eq!(client.recv_close(), Some(1008));
}

/// What follows the request in the same segment is read as what was agreed upon.
#[test]
fn the_first_message_may_come_with_the_request() {
    let server = Server::start();
    let mut client = RawClient::connect(server.address());
    let ping = Frame::text(deflated(r#"{"type":"PING"}"#)).with_rsv(COMPRESSED).masked();
    client.write([upgrade_request("/", OFFER).as_bytes(), &ping].concat());
    assert_eq!(client.read_response().status, 101);
    assert_eq!(client.recv_text(), r#"{"type":"PONG"}"#);
}

#[test]
fn ws_of_npm_agrees_and_talks_compressed() {
    let server = Server::launch().args(["--compression-threshold-bytes", "0", "--echo", "on"]).start();
    let printed = run_node("tests/node/compression.mjs", &[&server.url()], &[]);
    assert!(printed.contains("all is well"), "{printed}");
}
