//! A trusted proxy may send its PROXY header as soon as somebody has connected, and what the client sends when that comes: until then
//! the connection has asked for nothing.

use fanfare_core::{ConnId, Event};
use fanfare_tests::lone_core::{LoneCore, Said, text_to};
use fanfare_tests::{config, proxies, upgrade_request};
use std::net::IpAddr;

const HEADER: &str = "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n";

/// A connection of a trusted proxy, of which nothing but the header has come.
fn introduced() -> (LoneCore, ConnId) {
    let proxy: IpAddr = "10.0.0.1".parse().expect("an address");
    let trusted = ["10.0.0.0/8".parse().expect("a network")];
    let mut lone = LoneCore::new(config(|config| config.admission.proxies = proxies(trusted, true)));
    let mut conn = None;
    lone.turn(|turn| conn = turn.open_from(proxy).ok());
    let conn = conn.expect("there is a place");
    assert_eq!(lone.bytes(conn, HEADER), []);
    (lone, conn)
}

#[test]
fn an_upgrade_behind_it_is_answered() {
    let (mut lone, conn) = introduced();
    let said = lone.bytes(conn, upgrade_request("/", ""));
    assert!(text_to(&said, conn).starts_with("HTTP/1.1 101 "), "{said:?}");
}

#[test]
fn what_is_no_http_behind_it_is_told_so_at_its_first_byte() {
    let (mut lone, conn) = introduced();
    let said = lone.bytes(conn, "\x16");
    assert!(text_to(&said, conn).starts_with("HTTP/1.1 400 "), "{said:?}");
}

#[test]
fn a_server_that_stops_closes_it_without_an_answer() {
    let (mut lone, conn) = introduced();
    assert_eq!(lone.turn(|turn| turn.feed(Event::Shutdown)), [Said::Close(conn)]);
}
