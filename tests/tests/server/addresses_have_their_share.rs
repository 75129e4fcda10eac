//! Limits of one source address: connections at the same time and new ones a second. Who is over is told 429 without having said
//! a word; other addresses notice nothing; and what is left is free again.

use fanfare_tests::{Launch, RawClient, Response, Server, eventually, upgrade_request};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

const NEIGHBOUR: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// Not asked whether it is ready, for that would be a connection from 127.0.0.1. One worker, for the share is one at each.
fn start(launch: Launch) -> Server {
    launch.workers(1).ops().not_ready().start()
}

/// A WebSocket from this address, or the refusal.
fn try_from(source: IpAddr, server: SocketAddr) -> Result<RawClient, Response> {
    let mut client = RawClient::connect_from(source, server);
    client.write_or_gone(upgrade_request("/ws", ""));
    let response = client.read_response();
    if response.status == 101 { Ok(client) } else { Err(response) }
}

fn expect_pong(client: &mut RawClient) {
    client.send_text(r#"{"type":"PING"}"#);
    assert_eq!(client.recv_text(), r#"{"type":"PONG"}"#);
}

#[track_caller]
fn expect_429(response: &Response) {
    assert_eq!(response.status, 429, "{}", response.head);
    assert_eq!(response.field("retry-after"), Some("1"), "{}", response.head);
}

#[test]
fn the_first_beyond_the_share_is_told_429_until_one_leaves() {
    let server = start(Server::launch().flag("--limits-connections-per-address-max", 2));
    let mut neighbour = try_from(NEIGHBOUR, server.address()).expect("another address");
    let mut members: Vec<RawClient> = (0..2).map(|_| RawClient::upgraded(server.address())).collect();
    // It sends nothing: it need not.
    let mut third = RawClient::connect(server.address());
    expect_429(&third.read_response());
    third.expect_end();
    server.wait_for_metrics("the refusal is counted", |metrics| {
        metrics.value(r#"fanfare_upgrades_total{outcome="refused_address"}"#) == 1.0
            && metrics.value("fanfare_connections") == 3.0
    });
    let _second_of_the_neighbour = try_from(NEIGHBOUR, server.address()).expect("a share of its own");

    members.pop();
    members.push(eventually("the free place is taken", || RawClient::try_upgrade(server.address()).ok()));
    members.iter_mut().for_each(expect_pong);
    expect_pong(&mut neighbour);
}

#[test]
fn new_connections_have_a_rate_and_who_has_waited_is_served() {
    let limits = ["--limits-connects-per-address-per-second", "2", "--limits-connects-per-address-burst", "5"];
    let server = start(Server::launch().args(limits));
    let mut neighbour = try_from(NEIGHBOUR, server.address()).expect("another address");
    let mut accepted = 0;
    let refusal = (0..1_000).find_map(|_| match RawClient::try_upgrade(server.address()) {
        Ok(_) => {
            accepted += 1;
            None
        }
        Err(refusal) => Some(refusal),
    });
    expect_429(&refusal.expect("they come faster than two a second"));
    assert!(accepted >= 5, "the burst is allowed: {accepted}");
    server.wait_for_metrics("the refusal is counted", |metrics| {
        metrics.value(r#"fanfare_upgrades_total{outcome="refused_address"}"#) >= 1.0
    });
    expect_pong(&mut neighbour);
    let _ = try_from(NEIGHBOUR, server.address()).expect("a rate of its own");
    let mut late = eventually("it is served again", || RawClient::try_upgrade(server.address()).ok());
    expect_pong(&mut late);
}

#[test]
fn an_ipv4_client_of_an_ipv6_listener_is_an_ipv4_client() {
    if TcpListener::bind("[::]:0").is_err() {
        eprintln!("SKIPPED: this machine has no IPv6");
        return;
    }
    let launch = Server::launch().listening_as_configured().flag("--listen", "[::]:0");
    let server = start(launch.flag("--limits-connections-per-address-max", 1));
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, server.address().port()));
    let mut first = RawClient::upgraded(address);
    expect_429(&RawClient::connect(address).read_response());
    let mut neighbour = try_from(NEIGHBOUR, address).expect("another IPv4 address, not one IPv6 network");
    expect_pong(&mut first);
    expect_pong(&mut neighbour);
}

#[test]
fn an_ipv6_client_has_its_share() {
    if TcpListener::bind("[::1]:0").is_err() {
        eprintln!("SKIPPED: this machine has no ::1");
        return;
    }
    let launch = Server::launch().listening_as_configured().flag("--listen", "[::1]:0");
    let server = start(launch.flag("--limits-connections-per-address-max", 1));
    let mut first = RawClient::upgraded(server.address());
    expect_429(&RawClient::connect(server.address()).read_response());
    expect_pong(&mut first);
}
