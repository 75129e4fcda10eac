//! Which upgrade requests are accepted, and what the 101 says (RFC 6455 §4.2).

use fanfare_tests::{Frame, RawClient, Response, SAMPLE_ACCEPT, SAMPLE_KEY, Server, upgrade_request};

fn upgrade(server: &Server, request: impl AsRef<[u8]>) -> (Response, RawClient) {
    let mut client = RawClient::connect(server.address());
    client.write(request);
    (client.read_response(), client)
}

/// The connection speaks the protocol.
fn expect_pong(client: &mut RawClient) {
    client.send_text(r#"{"type":"PING"}"#);
    assert_eq!(client.recv_text(), r#"{"type":"PONG"}"#);
}

#[test]
fn both_paths_answer_101_with_the_accept_of_the_key() {
    let server = Server::start();
    for path in ["/ws", "/"] {
        let (response, mut client) = upgrade(&server, upgrade_request(path, ""));
        assert_eq!(response.status, 101, "{path}: {}", response.head);
        assert_eq!(response.field("sec-websocket-accept"), Some(SAMPLE_ACCEPT));
        assert!(response.field("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket")));
        assert!(response.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("upgrade")));
        expect_pong(&mut client);
    }
}

#[test]
fn a_slash_at_the_end_of_the_path_means_nothing() {
    let server = Server::launch().flag("--echo", "on").start();
    for path in ["/ws/", "/fanfare/", "/classic/", "/echo/", "/broadcast/", "/broadcast/r/", "/ws/?token=abc"] {
        let (response, _) = upgrade(&server, upgrade_request(path, ""));
        assert_eq!(response.status, 101, "{path}: {}", response.head);
    }
    // Two members of one room, which is not called `r/`.
    let [mut one, mut two] = ["/broadcast/r", "/broadcast/r/"].map(|path| {
        let (mut client, _) = RawClient::upgraded_with(server.address(), path, "").expect("an upgrade");
        client.send_text("here I am");
        // Its own message: it is subscribed from here on, and the neighbour may have been before.
        while client.recv_text() != "here I am" {}
        client
    });
    two.send_text("hello");
    for client in [&mut one, &mut two] {
        while client.recv_text() != "hello" {}
    }
}

#[test]
fn a_query_does_not_change_the_path() {
    let server = Server::start();
    let (response, mut client) = upgrade(&server, upgrade_request("/ws?token=abc", ""));
    assert_eq!(response.status, 101, "{}", response.head);
    expect_pong(&mut client);
}

#[test]
fn the_known_subprotocol_is_chosen_wherever_it_is_offered() {
    let server = Server::start();
    for offer in [
        "Sec-WebSocket-Protocol: fanfare.v1\r\n",
        "Sec-WebSocket-Protocol: chat, fanfare.v1\r\n",
        "Sec-WebSocket-Protocol: fanfare.v1,chat\r\n",
        "Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: fanfare.v1\r\n",
    ] {
        let (response, _) = upgrade(&server, upgrade_request("/ws", offer));
        assert_eq!(response.status, 101, "{offer}: {}", response.head);
        assert_eq!(response.field("sec-websocket-protocol"), Some("fanfare.v1"), "{offer}");
    }
}

#[test]
fn unknown_subprotocols_are_served_without_one() {
    let server = Server::start();
    for offer in ["", "Sec-WebSocket-Protocol: chat\r\n", "Sec-WebSocket-Protocol: chat, fanfare.v2\r\n"] {
        let (response, mut client) = upgrade(&server, upgrade_request("/ws", offer));
        assert_eq!(response.status, 101, "{offer}: {}", response.head);
        assert_eq!(response.field("sec-websocket-protocol"), None, "{offer}");
        expect_pong(&mut client);
    }
}

#[test]
fn the_dialects_of_node_servers_select_the_first_subprotocol() {
    let server = Server::launch().flag("--default-dialect", "classic").start();
    for path in ["/", "/classic", "/broadcast", "/broadcast/r"] {
        for (offer, selected) in [
            ("chat", Some("chat")),
            ("bearer, abc.def-ghi", Some("bearer")),
            ("json\r\nSec-WebSocket-Protocol: chat", Some("json")),
            ("fanfare.token.s3cret, chat", Some("chat")),
            ("fanfare.token.s3cret", None),
            // That would be another dialect.
            ("fanfare.v1", None),
            ("", None),
        ] {
            let request = upgrade_request(path, &format!("Sec-WebSocket-Protocol: {offer}\r\n"));
            let (response, _) = upgrade(&server, request);
            assert_eq!(response.status, 101, "{path} {offer}: {}", response.head);
            assert_eq!(response.field("sec-websocket-protocol"), selected, "{path} {offer}");
            assert!(!response.head.contains("s3cret"), "{}", response.head);
        }
    }
}

#[test]
fn fanfare_selects_the_first_subprotocol_where_it_is_told_to() {
    let server = Server::launch().flag("--subprotocols", "first").start();
    for (offer, selected) in [
        ("chat", Some("chat")),
        ("chat, fanfare.v1", Some("fanfare.v1")),
        ("fanfare.token.s3cret, fanfare.v1", Some("fanfare.v1")),
        ("fanfare.token.s3cret, bearer", Some("bearer")),
        ("fanfare.v2", None),
    ] {
        let (response, mut client) =
            upgrade(&server, upgrade_request("/ws", &format!("Sec-WebSocket-Protocol: {offer}\r\n")));
        assert_eq!(response.status, 101, "{offer}: {}", response.head);
        assert_eq!(response.field("sec-websocket-protocol"), selected, "{offer}");
        assert!(!response.head.contains("s3cret"), "{}", response.head);
        expect_pong(&mut client);
    }
}

#[test]
fn extensions_that_are_unknown_are_not_agreed_to() {
    let server = Server::start();
    let offer = "Sec-WebSocket-Extensions: x-webkit-deflate-frame, permessage-bzip2; level=9\r\n";
    let (response, mut client) = upgrade(&server, upgrade_request("/ws", offer));
    assert_eq!(response.status, 101, "{}", response.head);
    assert_eq!(response.field("sec-websocket-extensions"), None);
    expect_pong(&mut client);
}

#[test]
fn names_and_tokens_are_found_in_any_case_and_in_lists() {
    let server = Server::start();
    for fields in [
        "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n",
        "Upgrade: WebSocket\r\nConnection: upgrade\r\n",
        "upgrade: websocket\r\nconnection: UPGRADE,keep-alive\r\n",
        "Upgrade: h2c, websocket\r\nConnection: Upgrade\r\n",
        "Upgrade:websocket\r\nConnection: keep-alive\r\nConnection: Upgrade\r\n",
    ] {
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: localhost\r\n{fields}\
             sec-websocket-version: 13\r\nSEC-WEBSOCKET-KEY:  {SAMPLE_KEY} \r\n\r\n"
        );
        let (response, _) = upgrade(&server, request);
        assert_eq!(response.status, 101, "{fields}: {}", response.head);
        assert_eq!(response.field("sec-websocket-accept"), Some(SAMPLE_ACCEPT));
    }
}

#[test]
fn frames_in_the_same_segment_as_the_head_are_kept() {
    // Through Redis, what a client says to a room before it is subscribed may pass before it is.
    let server = Server::launch().embedded().start();
    let mut client = RawClient::connect(server.address());
    let mut bytes = upgrade_request("/ws", "").into_bytes();
    bytes.extend(Frame::text(r#"{"type":"SUBSCRIBE","room":"r"}"#).masked());
    bytes.extend(Frame::text(r#"{"type":"SEND_MESSAGE","roomId":"r","message":1}"#).masked());
    client.write(bytes);
    assert_eq!(client.read_response().status, 101);
    assert_eq!(client.recv_text(), r#"{"type":"SUBSCRIBED","room":"r"}"#);
    assert_eq!(client.recv_text(), r#"{"type":"MESSAGE","room":"r","message":1}"#);
}

#[test]
fn half_a_frame_in_the_same_segment_as_the_head_is_kept() {
    let server = Server::start();
    let frame = Frame::text(r#"{"type":"PING","id":1}"#).masked();
    for cut in [1, 2, 5, 6, 7, frame.len() - 1] {
        let mut client = RawClient::connect(server.address());
        client.write([upgrade_request("/ws", "").as_bytes(), &frame[..cut]].concat());
        assert_eq!(client.read_response().status, 101);
        client.write(&frame[cut..]);
        assert_eq!(client.recv_text(), r#"{"type":"PONG","id":1}"#, "cut at {cut}");
    }
}

#[test]
fn a_head_that_comes_byte_by_byte_is_one_head() {
    let server = Server::start();
    let mut client = RawClient::connect(server.address());
    for byte in upgrade_request("/ws", "").into_bytes() {
        client.write([byte]);
    }
    assert_eq!(client.read_response().status, 101);
    expect_pong(&mut client);
}

#[test]
fn a_head_of_exactly_the_limit_is_taken() {
    let server = Server::start();
    let (response, mut client) = upgrade(&server, head_of(8192));
    assert_eq!(response.status, 101, "{}", response.head);
    expect_pong(&mut client);
}

#[test]
fn a_head_beyond_the_limit_is_refused_with_431() {
    let server = Server::start();
    assert_eq!(upgrade(&server, head_of(8193)).0.status, 431);
    // Nor does the server wait for the end of one that cannot fit any more.
    assert_eq!(upgrade(&server, &head_of(9000)[..8193]).0.status, 431);
}

#[test]
fn the_limit_of_the_head_is_configured() {
    let server = Server::launch().flag("--limits-request-head-bytes-max", 1024).start();
    assert_eq!(upgrade(&server, head_of(1024)).0.status, 101);
    assert_eq!(upgrade(&server, head_of(1025)).0.status, 431);
}

#[test]
fn header_fields_have_a_limit_of_their_own() {
    // The sixth is the one that is added last.
    let with = |fields: usize| upgrade_request("/ws", &"X-Padding:\r\n".repeat(fields - 5));
    let (default, more, few) = (
        Server::start(),
        Server::launch().flag("--limits-request-headers-max", 400).start(),
        Server::launch().flag("--limits-request-headers-max", 16).start(),
    );
    for (server, max) in [(&default, 100), (&more, 400), (&few, 16)] {
        let (response, mut client) = upgrade(server, with(max));
        assert_eq!(response.status, 101, "{max}: {}", response.head);
        expect_pong(&mut client);
        let (response, _) = upgrade(server, with(max + 1));
        assert_eq!(response.status, 431, "{max}: {}", response.head);
        assert!(response.text().contains("limits.request_headers_max"), "{}", response.text());
    }
    assert!(upgrade(&default, head_of(9_000)).0.text().contains("limits.request_head_bytes_max"));
}

/// A valid upgrade request of this many bytes.
fn head_of(length: usize) -> Vec<u8> {
    let rest = length - upgrade_request("/ws", "X-Padding: \r\n").len();
    upgrade_request("/ws", &format!("X-Padding: {}\r\n", "x".repeat(rest))).into_bytes()
}
