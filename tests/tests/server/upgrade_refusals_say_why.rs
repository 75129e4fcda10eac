//! Upgrade requests that are not accepted: each gets the status that tells its author what to change.

use fanfare_tests::{RawClient, Response, SAMPLE_KEY, Server, http, upgrade_request};

/// The valid request with one line replaced, or taken away if `new` is empty.
fn with(old: &str, new: &str) -> String {
    let valid = upgrade_request("/ws", "");
    let old = format!("{old}\r\n");
    assert!(valid.contains(&old), "{old:?} is not in the request");
    valid.replace(&old, &if new.is_empty() { String::new() } else { format!("{new}\r\n") })
}

fn ask(server: &Server, request: impl AsRef<[u8]>) -> Response {
    let response = http(server.address(), request);
    // Whatever was refused, the server is well.
    assert_eq!(http(server.address(), "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").status, 200);
    response
}

#[test]
fn another_version_is_answered_426_with_the_version_spoken() {
    let server = Server::start();
    for version in ["8", "12", "14", "130", "x"] {
        let request = with("Sec-WebSocket-Version: 13", &format!("Sec-WebSocket-Version: {version}"));
        let response = ask(&server, request);
        assert_eq!(response.status, 426, "{version}: {}", response.head);
        assert_eq!(response.field("sec-websocket-version"), Some("13"), "{version}: {}", response.head);
        assert_eq!(response.field("upgrade"), Some("websocket"), "{version}: {}", response.head);
    }
}

#[test]
fn no_version_at_all_is_refused() {
    let server = Server::start();
    let response = ask(&server, with("Sec-WebSocket-Version: 13", ""));
    assert!(matches!(response.status, 400 | 426), "{}", response.head);
}

/// What misconfigured proxies do to a request: the status, and words of the sentence that says so.
#[test]
fn what_a_proxy_has_done_is_said() {
    let server = Server::launch().flag("--echo", "on").start();
    let upgrade = "Upgrade: websocket";
    let connection = "Connection: Upgrade";
    let no_upgrade = with(upgrade, "");
    let by_http_1_0 = |request: &str| request.replacen("HTTP/1.1", "HTTP/1.0", 1);
    let plain = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    for (request, status, words) in [
        (no_upgrade.clone(), 426, "no Upgrade header arrived; does a proxy drop it?"),
        (no_upgrade.replace(connection, "Connection: close"), 426, "no Upgrade header arrived"),
        (no_upgrade.replace("/ws", "/"), 426, "no Upgrade header arrived"),
        (by_http_1_0(&no_upgrade.replace(connection, "Connection: close")), 426, "HTTP/1.0 arrived"),
        (plain("/ws"), 426, "no Upgrade header arrived"),
        (plain("/ws/"), 426, "no Upgrade header arrived"),
        (plain("/fanfare"), 426, "no Upgrade header arrived"),
        (plain("/classic?x"), 426, "no Upgrade header arrived"),
        (plain("/echo"), 426, "no Upgrade header arrived"),
        (plain("/broadcast"), 426, "no Upgrade header arrived"),
        (plain("/broadcast/room"), 426, "no Upgrade header arrived"),
        (with(upgrade, "Upgrade: h2c"), 426, "another protocol than websocket"),
        (with("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8"), 426, "version 13"),
        (with(connection, ""), 400, "the Connection header does not name Upgrade"),
        (with(connection, "Connection: keep-alive"), 400, "the Connection header does not name Upgrade"),
        (by_http_1_0(&upgrade_request("/ws", "")), 400, "HTTP/1.0 arrived"),
        (with("Host: localhost", ""), 400, "no Host header arrived"),
        (with("Host: localhost", "Host: localhost\r\nHost: localhost"), 400, "more than one Host header"),
        (with(connection, "Connection: Upgrade\r\nContent-Length: 5") + "hello", 400, "has no body"),
        (with(connection, "Connection: Upgrade\r\nTransfer-Encoding: chunked") + "0\r\n\r\n", 400, "has no body"),
        (upgrade_request("/ws", "").replacen("GET", "POST", 1), 405, "a WebSocket is asked for by GET"),
        ("CONNECT localhost:80 HTTP/1.1\r\nHost: localhost:80\r\n\r\n".to_owned(), 405, "CONNECT is for proxies"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 505, "HTTP/2"),
        ("\x16\x03\x01\x02\0\x01\0\x01\u{7c}\x03\x03".to_owned(), 400, "TLS arrived"),
        ("hello\r\n\r\n".to_owned(), 400, "not an HTTP request"),
    ] {
        let response = ask(&server, &request);
        let text = response.text();
        assert!(response.status == status && text.contains(words), "{request:?}: {}: {text}", response.head);
        if status == 426 {
            assert_eq!(response.field("upgrade"), Some("websocket"), "{}", response.head);
            assert!(response.fields.contains(&("connection".to_owned(), "Upgrade".to_owned())), "{}", response.head);
            assert_eq!(response.field("sec-websocket-version"), Some("13"), "{}", response.head);
        }
    }
    // What is no WebSocket's is served as ever, whatever else is offered.
    for request in [
        plain("/"),
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n"
            .to_owned(),
        "GET /healthz HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
    ] {
        assert_eq!(ask(&server, &request).status, 200, "{request}");
    }
}

#[test]
fn a_request_without_a_host_is_bad() {
    let server = Server::start();
    assert_eq!(ask(&server, with("Host: localhost", "")).status, 400);
}

#[test]
fn a_key_that_is_not_sixteen_bytes_in_base64_is_bad() {
    let server = Server::start();
    let line = format!("Sec-WebSocket-Key: {SAMPLE_KEY}");
    for key in [
        "",
        "Sec-WebSocket-Key:",
        "Sec-WebSocket-Key: x",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZQ==",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZSE=",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ",
        "Sec-WebSocket-Key: ????????????????????????",
    ] {
        let response = ask(&server, with(&line, key));
        assert_eq!(response.status, 400, "{key:?}: {}", response.head);
    }
}

#[test]
fn an_upgrade_on_another_path_is_not_found() {
    let server = Server::start();
    for path in ["/other", "/ws/x", "/wss", "/healthz/"] {
        let response = ask(&server, upgrade_request(path, ""));
        assert_eq!(response.status, 404, "{path}: {}", response.head);
    }
}

#[test]
fn an_upgrade_by_another_method_is_not_allowed() {
    let server = Server::start();
    for method in ["POST", "PUT", "HEAD", "DELETE"] {
        let request = upgrade_request("/ws", "").replacen("GET", method, 1);
        let mut client = RawClient::connect(server.address());
        client.write(request);
        let status = client.read_head().status;
        // HEAD is a method of these paths, though none that upgrades.
        assert!(status == 405 || method == "HEAD" && status != 101, "{method}: {status}");
    }
}

#[test]
fn an_upgrade_over_http_1_0_is_refused() {
    let server = Server::start();
    let response = ask(&server, upgrade_request("/ws", "").replacen("HTTP/1.1", "HTTP/1.0", 1));
    assert!(matches!(response.status, 400 | 426 | 505), "{}", response.head);
}

#[test]
fn what_is_not_http_is_a_bad_request() {
    let server = Server::start();
    for bytes in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".as_slice(),
        b"hello\r\n\r\n",
        b"GET /ws\r\n\r\n",
        b"GET /ws HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /ws HTTP/1.1\r\nHost : x\r\n\r\n",
    ] {
        let mut client = RawClient::connect(server.address());
        client.write(bytes);
        assert_eq!(client.read_response().status, 400, "{}", String::from_utf8_lossy(bytes));
        client.expect_end();
    }
}

#[test]
fn a_refused_connection_is_ended() {
    let server = Server::start();
    for request in [upgrade_request("/other", ""), with("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8")] {
        let mut client = RawClient::connect(server.address());
        client.write(request.replacen("Connection: Upgrade", "Connection: close, Upgrade", 1));
        assert_ne!(client.read_response().status, 101);
        client.expect_end();
    }
}

#[test]
fn an_unfinished_head_is_answered_408_when_its_time_is_over() {
    let server = Server::launch().flag("--timeouts-handshake-ms", 300).start();
    let mut client = RawClient::connect(server.address());
    client.write("GET /ws HTTP/1.1\r\nHost: localhost\r\n");
    assert_eq!(client.read_response().status, 408);
    client.expect_end();
}

#[test]
fn who_says_nothing_is_not_kept() {
    let server = Server::launch().flag("--timeouts-handshake-ms", 300).ops().start();
    let mut client = RawClient::connect(server.address());
    // Whether a peer that never spoke gets an answer is the server's choice; that the connection ends is not.
    client.read_to_end();
    server.wait_for_metrics("the time-out is counted", |metrics| {
        metrics.value(r#"fanfare_upgrades_total{outcome="timed_out"}"#) >= 1.0
            && metrics.value("fanfare_pending_upgrades") == 0.0
    });
}

#[test]
fn an_upgrade_in_time_is_not_timed_out_later() {
    let server = Server::launch().flag("--timeouts-handshake-ms", 200).start();
    let mut client = RawClient::upgraded(server.address());
    // A second connection sees the limit pass after the first one's upgrade.
    let mut unfinished = RawClient::connect(server.address());
    unfinished.write("GET / HTTP/1.1\r\n");
    assert_eq!(unfinished.read_response().status, 408);
    client.send_text(r#"{"type":"PING"}"#);
    assert_eq!(client.recv_text(), r#"{"type":"PONG"}"#);
}
