//! A request head may be as long as the limit, and not a byte longer, wherever it is cut and whatever follows it.

use fanfare_core::Config;
use fanfare_tests::lone_core::{LoneCore, text_to};
use fanfare_tests::{Frame, upgrade_request};

/// An upgrade of exactly so many bytes.
fn upgrade_of(bytes: usize) -> Vec<u8> {
    let rest = upgrade_request("/", "X: \r\n").len();
    upgrade_request("/", &format!("X: {}\r\n", "x".repeat(bytes - rest))).into_bytes()
}

#[test]
fn the_limit_is_exact() {
    let limit = Config::default().limits.request_head_bytes_max;
    for (bytes, status) in [(limit - 1, "101"), (limit, "101"), (limit + 1, "431")] {
        let head = upgrade_of(bytes);
        assert_eq!(head.len(), bytes);
        let stream = [head, Frame::text(r#"{"type":"PING"}"#).masked()].concat();
        for cut in [0, 1, limit - 2, limit - 1, limit, limit + 1, stream.len()] {
            let mut lone = LoneCore::new(Config::default());
            let conn = lone.connect();
            let (first, second) = stream.split_at(cut);
            let said = [lone.bytes(conn, first), lone.bytes(conn, second)].concat();
            let text = text_to(&said, conn);
            assert_eq!(&text[9..12], status, "{bytes} bytes, cut at {cut}");
            assert_eq!(text.contains("PONG"), status == "101", "{bytes} bytes, cut at {cut}");
        }
    }
}

#[test]
fn an_empty_line_may_come_first() {
    let mut lone = LoneCore::new(Config::default());
    let conn = lone.connect();
    let said = lone.bytes(conn, format!("\r\n{}", upgrade_request("/", "")));
    assert!(text_to(&said, conn).starts_with("HTTP/1.1 101 "));
}

#[test]
fn a_plain_request_needs_a_host_as_well() {
    let mut lone = LoneCore::new(Config::default());
    let conn = lone.connect();
    let said = lone.bytes(conn, "GET /healthz HTTP/1.1\r\n\r\n");
    assert!(text_to(&said, conn).starts_with("HTTP/1.1 400 "));
}
