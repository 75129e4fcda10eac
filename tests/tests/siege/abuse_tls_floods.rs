//! Handshakes of TLS that come to nothing, or to nothing but work: bounded in number and in time, and those who are here notice nothing.

use std::io::Read;
use std::thread;

use fanfare_tests::abuse::Siege;
use fanfare_tests::{Adapter, Authority, RawClient, Server, connect_tls};

const EVICTED: &str = r#"fanfare_upgrades_total{outcome="evicted"}"#;
const TIMED_OUT: &str = r#"fanfare_upgrades_total{outcome="timed_out"}"#;
const UNFINISHED: &str = r#"fanfare_tls_handshakes_total{outcome="unfinished"}"#;
const MALFORMED: &str = r#"fanfare_tls_handshakes_total{outcome="malformed"}"#;
const FULL: &str = r#"fanfare_tls_handshakes_total{outcome="full"}"#;

/// Bytes of memory for a connection in the middle of a handshake: its session, what it has said, and for the threaded adapter what a
/// thread touches to get there.
fn handshake_bytes() -> u64 {
    Adapter::under_test().connection_bytes() + (16 << 10)
}

/// What a client says first.
fn hello(authority: &Authority) -> Vec<u8> {
    let name = "localhost".try_into().expect("a name");
    let mut client = rustls::ClientConnection::new(authority.client(), name).expect("a client");
    let mut hello = Vec::new();
    client.write_tls(&mut hello).expect("a vector takes it");
    hello
}

fn connect(server: &Server) -> RawClient {
    RawClient::connect(server.tls_address())
}

#[test]
fn of_handshakes_there_are_no_more_at_a_time_than_of_other_requests() {
    const PENDING_MAX: usize = 100;
    const PEERS: usize = 300;
    let authority = Authority::new();
    let server = Server::launch()
        .tls(&authority)
        // Each worker has a part of the limit.
        .workers(1)
        .flag("--limits-pending-upgrades-max", PENDING_MAX)
        .args(["--timeouts-handshake-ms", "600000"])
        .ops()
        .start();
    let hello = hello(&authority);
    Siege::lay(&server, 2 * PEERS as u64 * handshake_bytes(), |siege| {
        let mut peers: Vec<RawClient> = (0..PEERS).map(|_| connect(&server)).collect();
        for _ in 0..PEERS {
            let mut peer = connect(&server);
            peer.write(&hello[..hello.len() / 2]);
            peers.push(peer);
        }
        let metrics = siege.wait_for_metrics("those beyond the limit are gone", |metrics| {
            metrics.value(EVICTED) == (2 * PEERS - PENDING_MAX) as f64
        });
        assert_eq!(metrics.value("fanfare_pending_upgrades"), PENDING_MAX as f64);
        siege.last();
        // They are closed, though nobody can be told why before the handshake.
        drop(peers);
    });
}

#[test]
fn a_handshake_that_does_not_end_in_time_is_ended() {
    const PEERS: usize = 200;
    let authority = Authority::new();
    let server = Server::launch().tls(&authority).args(["--timeouts-handshake-ms", "1500"]).ops().start();
    let hello = hello(&authority);
    Siege::lay(&server, PEERS as u64 * handshake_bytes(), |siege| {
        let before = server.metrics().value(UNFINISHED);
        let mut peers: Vec<RawClient> = (0..PEERS).map(|_| connect(&server)).collect();
        // Byte by byte it comes no sooner to its end.
        for bytes in [&hello[..1], &hello[1..hello.len() - 1]] {
            peers.iter_mut().for_each(|peer| peer.write_or_gone(bytes));
            siege.fence();
        }
        for mut peer in peers {
            assert_eq!(peer.read_to_end(), b"");
        }
        siege.wait_for_metrics("all are counted", |metrics| {
            (metrics.value(TIMED_OUT), metrics.value(UNFINISHED) - before) == (PEERS as f64, PEERS as f64)
        });
        siege.last();
    });
}

#[test]
fn garbage_and_handshakes_by_the_hundred_hold_up_nobody() {
    const ATTACKERS: usize = 8;
    let authority = Authority::new();
    let server = Server::launch().tls(&authority).ops().start();
    let client = authority.client();
    Siege::lay(&server, 2 * ATTACKERS as u64 * handshake_bytes(), |siege| {
        let before = server.metrics();
        thread::scope(|scope| {
            for attacker in 0..ATTACKERS {
                let (client, server) = (&client, &server);
                scope.spawn(move || {
                    for round in 0.. {
                        if round > 50 && siege.has_lasted() {
                            break;
                        }
                        if attacker % 2 == 0 {
                            let mut peer = connect(server);
                            peer.write_or_gone([&[22, 3, 1, 0, 200][..], &[attacker as u8; 200]].concat());
                            peer.read_to_end();
                        } else {
                            // Each anew, for one that is resumed makes no signature.
                            let mut config = rustls::ClientConfig::clone(client);
                            config.resumption = rustls::client::Resumption::disabled();
                            let mut stream = connect_tls(server.tls_address(), &config.into(), "localhost");
                            stream.sock.set_nonblocking(true).expect("a socket takes options");
                            let _ = stream.read(&mut [0]);
                        }
                    }
                });
            }
        });
        let metrics = server.metrics();
        for counter in [FULL, MALFORMED] {
            let counted = metrics.value(counter) - before.value(counter);
            assert!(counted >= 200.0, "{counted} of {counter}");
        }
    });
}
