//! Whose word on a client's address is taken: that of trusted proxies, by X-Forwarded-For and by the PROXY protocol, and
//! nobody else's. Here 127.0.0.1 is a trusted proxy and 127.0.0.2 is not.

use fanfare_tests::{Launch, RawClient, Server, eventually, upgrade_request};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// One connection for each client, at each worker: so there is one.
fn launch() -> Launch {
    Server::launch()
        .workers(1)
        .args(["--limits-connections-per-address-max", "1", "--proxy-trusted", "127.0.0.1,::1"])
        .ops()
}

/// The status that an upgrade gets whose bytes begin with `start` and which has these header lines; and the connection.
fn upgrade(source: IpAddr, server: SocketAddr, start: &[u8], headers: &str) -> (u16, RawClient) {
    let mut client = RawClient::connect_from(source, server);
    client.write_or_gone([start, upgrade_request("/ws", headers).as_bytes()].concat());
    (client.read_response().status, client)
}

/// A PROXY protocol header of version 2 for an IPv4 client.
fn v2(client: [u8; 4]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend(client);
    header.extend([127, 0, 0, 1, 0x12, 0x34, 0x01, 0xbb]);
    header
}

fn expect_pong(client: &mut RawClient) {
    client.send_text(r#"{"type":"PING"}"#);
    assert_eq!(client.recv_text(), r#"{"type":"PONG"}"#);
}

fn wait_for_refusals(server: &Server, count: f64) {
    server.wait_for_metrics("refusals are counted", |metrics| {
        metrics.value(r#"fanfare_upgrades_total{outcome="refused_address"}"#) == count
    });
}

#[test]
fn forwarded_for_is_believed_from_its_trusted_end_on() {
    let server = launch().start();
    let forwarded =
        |addresses: &str| upgrade(PROXY, server.address(), b"", &format!("X-Forwarded-For: {addresses}\r\n"));
    let (status, mut first) = forwarded("192.0.2.1");
    assert_eq!(status, 101);
    let (status, mut second) = forwarded("192.0.2.2");
    assert_eq!(status, 101, "another client of the same proxy");
    // What stands before the proxy's own word is the client's invention.
    assert_eq!(forwarded("198.51.100.1, 192.0.2.1").0, 429);
    assert_eq!(forwarded("198.51.100.2, 192.0.2.1, 127.0.0.1").0, 429);
    let (status, mut third) = forwarded("192.0.2.1, 192.0.2.3");
    assert_eq!(status, 101);
    wait_for_refusals(&server, 2.0);
    for client in [&mut first, &mut second, &mut third] {
        expect_pong(client);
    }
    drop(first);
    eventually("the place is free", || (forwarded("192.0.2.1").0 == 101).then_some(()));
}

#[test]
fn who_is_not_told_counts_for_the_proxy() {
    let server = launch().start();
    let forwarded = |headers: &str| upgrade(PROXY, server.address(), b"", headers);
    let (status, mut first) = forwarded("X-Forwarded-For: unknown\r\n");
    assert_eq!(status, 101);
    let untold =
        ["unknown", "_hidden", "", " , ", "fe80::1%eth0", "192.0.2.1, unknown", "\"192.0.2.1\"", "unknown, 127.0.0.1"];
    for untold in untold {
        assert_eq!(forwarded(&format!("X-Forwarded-For: {untold}\r\n")).0, 429, "{untold}");
    }
    wait_for_refusals(&server, untold.len() as f64);
    // That is nobody else's limit: neither a client's who is told, nor the proxy's own.
    let (status, mut second) = forwarded("X-Forwarded-For: 192.0.2.1\r\n");
    assert_eq!(status, 101);
    let mut own = ["", "", "X-Forwarded-For: 127.0.0.1\r\n"].map(|headers| {
        let (status, client) = forwarded(headers);
        assert_eq!(status, 101, "{headers}");
        client
    });
    for client in [&mut first, &mut second].into_iter().chain(&mut own) {
        expect_pong(client);
    }
    drop(first);
    eventually("the place is free", || (forwarded("X-Forwarded-For: _other\r\n").0 == 101).then_some(()));
}

#[test]
fn clients_without_an_ip_address_count_for_the_balancer() {
    let server = launch().flag("--proxy-protocol", "on").start();
    // PROXY for somebody of a kind that is not told, and for one on a Unix socket.
    let unspecified = b"\r\n\r\n\0\r\nQUIT\n\x21\0\0\0".to_vec();
    let unix = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x31\0\xd8"[..], &[0; 216]].concat();
    let (status, mut first) = upgrade(PROXY, server.address(), &unspecified, "");
    assert_eq!(status, 101);
    for start in [&unspecified, &unix] {
        assert_eq!(upgrade(PROXY, server.address(), start, "X-Forwarded-For: 192.0.2.9\r\n").0, 429);
    }
    expect_pong(&mut first);
}

#[test]
fn forwarded_for_of_a_stranger_is_not_read() {
    let server = launch().start();
    let forwarded =
        |address: &str| upgrade(STRANGER, server.address(), b"", &format!("X-Forwarded-For: {address}\r\n"));
    let (status, mut first) = forwarded("192.0.2.1");
    assert_eq!(status, 101);
    assert_eq!(forwarded("192.0.2.2").0, 429, "it is one address, whatever it says");
    // Nor has it used up anybody else's share.
    assert_eq!(upgrade(PROXY, server.address(), b"", "X-Forwarded-For: 192.0.2.1\r\n").0, 101);
    expect_pong(&mut first);
}

#[test]
fn forwarded_for_can_be_switched_off() {
    let server = launch().flag("--proxy-forwarded-for", "off").start();
    let _clients = [(); 2].map(|()| {
        let (status, client) = upgrade(PROXY, server.address(), b"", "X-Forwarded-For: 192.0.2.1\r\n");
        assert_eq!(status, 101);
        client
    });
}

#[test]
fn a_proxy_itself_has_no_limit() {
    let server = launch().start();
    let mut checks: Vec<RawClient> = (0..3).map(|_| RawClient::upgraded(server.address())).collect();
    checks.iter_mut().for_each(expect_pong);
}

#[test]
fn the_proxy_protocol_names_the_client_in_both_versions() {
    let server = launch().flag("--proxy-protocol", "on").start();
    let from = |start: &[u8]| upgrade(PROXY, server.address(), start, "");
    let (status, mut first) = from(b"PROXY TCP4 192.0.2.1 127.0.0.1 4660 443\r\n");
    assert_eq!(status, 101);
    assert_eq!(from(&v2([192, 0, 2, 1])).0, 429, "the same client by the other version");
    let (status, mut second) = from(&v2([192, 0, 2, 2]));
    assert_eq!(status, 101);
    assert_eq!(from(b"PROXY TCP4 192.0.2.2 127.0.0.1 4660 443\r\n").0, 429);
    let (status, mut third) = from(b"PROXY TCP6 2001:db8::1 ::1 4660 443\r\n");
    assert_eq!(status, 101);
    assert_eq!(from(b"PROXY TCP6 2001:db8::2 ::1 4660 443\r\n").0, 429, "of the same network");
    wait_for_refusals(&server, 3.0);

    // The proxy's own connections, and one without a header.
    let mut own =
        [b"PROXY UNKNOWN\r\n".to_vec(), b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".to_vec(), Vec::new()].map(|start| {
            let (status, client) = from(&start);
            assert_eq!(status, 101, "{start:?}");
            client
        });
    for client in [&mut first, &mut second, &mut third].into_iter().chain(&mut own) {
        expect_pong(client);
    }
}

#[test]
fn the_client_is_refused_before_it_has_said_anything() {
    let server = launch().flag("--proxy-protocol", "on").start();
    let _first = upgrade(PROXY, server.address(), &v2([192, 0, 2, 1]), "");
    let mut second = RawClient::connect(server.address());
    second.write(v2([192, 0, 2, 1]));
    assert_eq!(second.read_response().status, 429);
    second.expect_end();
}

#[test]
fn a_client_behind_the_proxy_cannot_say_who_it_is() {
    let server = launch().flag("--proxy-protocol", "on").start();
    let proxied = b"PROXY TCP4 192.0.2.1 127.0.0.1 4660 443\r\n";
    let (status, mut first) = upgrade(PROXY, server.address(), proxied, "");
    assert_eq!(status, 101);
    assert_eq!(upgrade(PROXY, server.address(), proxied, "X-Forwarded-For: 192.0.2.9\r\n").0, 429);
    let twice = [&b"PROXY TCP4 192.0.2.2 127.0.0.1 4660 443\r\n"[..], &v2([192, 0, 2, 3])].concat();
    assert_eq!(upgrade(PROXY, server.address(), &twice, "").0, 400);
    assert_eq!(upgrade(PROXY, server.address(), b"PROXY TCP4 nobody 127.0.0.1 1 2\r\n", "").0, 400);
    expect_pong(&mut first);
}

#[test]
fn a_proxy_header_of_a_stranger_is_a_bad_request() {
    let server = launch().flag("--proxy-protocol", "on").start();
    for header in [b"PROXY TCP4 192.0.2.1 127.0.0.1 4660 443\r\n".to_vec(), v2([192, 0, 2, 1])] {
        // The one before may not have left yet.
        let status = eventually("its place is free", || {
            Some(upgrade(STRANGER, server.address(), &header, "").0).filter(|status| *status != 429)
        });
        assert_eq!(status, 400);
    }
    let server = launch().start();
    let header = b"PROXY TCP4 192.0.2.1 127.0.0.1 4660 443\r\n";
    assert_eq!(upgrade(PROXY, server.address(), header, "").0, 400, "switched off, it is nobody's");
}

#[test]
fn a_proxy_can_be_an_ipv6_address() {
    if TcpListener::bind("[::1]:0").is_err() {
        eprintln!("SKIPPED: this machine has no ::1");
        return;
    }
    let server = launch().listening_as_configured().flag("--listen", "[::1]:0").start();
    let forwarded = |address: &str| {
        let mut client = RawClient::connect(server.address());
        client.write(upgrade_request("/ws", &format!("X-Forwarded-For: {address}\r\n")));
        (client.read_response().status, client)
    };
    let (status, mut first) = forwarded("2001:db8::1");
    assert_eq!(status, 101);
    assert_eq!(forwarded("2001:db8::2").0, 429);
    expect_pong(&mut first);
}
