//! SIGTERM lets clients go, each at a time of its own: they are told it, and whoever is still there then gets 1012. What was acknowledged
//! has been delivered by then. The server is not ready from the first, takes newcomers for as long as it is told, and exits with 0.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use fanfare_tests::{Client, Launch, RawClient, Redis, Server, Signal, code, eventually, get};
use serde_json::Value;

/// Longer than any of these tests takes.
const NEVER_MS: u64 = 600_000;

fn spread(spread_ms: u64) -> Launch {
    Server::launch().flag("--drain-spread-ms", spread_ms)
}

/// The time that a client is told.
fn told(client: &mut Client) -> Duration {
    let told = client.recv_json();
    assert_eq!(told["type"], "DRAIN", "{told}");
    assert_eq!(told.as_object().map(serde_json::Map::len), Some(2), "{told}");
    Duration::from_millis(told["after_ms"].as_u64().unwrap_or_else(|| panic!("a number: {told}")))
}

fn classic(address: SocketAddr) -> RawClient {
    RawClient::upgraded_at(address, "/classic?room=r").expect("it is upgraded")
}

#[test]
fn each_client_is_told_its_time_and_is_closed_after_it() {
    const SPREAD_MS: u64 = 4_000;
    let mut server = spread(SPREAD_MS).ops().start();
    let mut clients: Vec<Client> = (0..8).map(|_| Client::member(&server, "r")).collect();
    let mut untold: Vec<RawClient> = (0..2).map(|_| classic(server.address())).collect();
    server.wait_for_metrics("all are there", |metrics| metrics.value("fanfare_memberships") == 10.0);
    let began = Instant::now();
    server.signal(Signal::TERM);
    let times: Vec<Duration> = clients.iter_mut().map(told).collect();
    assert!(times.iter().all(|time| *time <= Duration::from_millis(SPREAD_MS)), "{times:?}");
    // Two of each worker's may be alike; nobody shares a time with all others.
    assert!(times.iter().any(|time| *time != times[0]), "{times:?}");
    server.wait_for_metrics("the figures tell of it", |metrics| {
        metrics.value("fanfare_draining") == 1.0 && metrics.value("fanfare_drains_told_total") == 8.0
    });
    for (client, time) in clients.iter_mut().zip(&times) {
        assert_eq!(client.recv_close(), code::RESTART);
        // It may be read late, and is never sent early.
        assert!(began.elapsed() >= *time, "{time:?}");
    }
    for client in &mut untold {
        assert_eq!(client.recv_close(), Some(code::RESTART));
    }
    drop((clients, untold));
    assert_eq!(server.wait_for_exit().code(), Some(0));
    let line = server.wait_for_log("draining");
    assert_eq!((&line["connections"], &line["within_ms"]), (&Value::from(10), &Value::from(SPREAD_MS)), "{line}");
    assert_eq!(server.wait_for_log("stopped")["connections_left"], 0);
}

#[test]
fn who_goes_by_itself_is_not_waited_for() {
    let mut server = spread(NEVER_MS).start();
    let mut clients: Vec<Client> = (0..3).map(|_| Client::member(&server, "r")).collect();
    server.signal(Signal::TERM);
    for client in &mut clients {
        told(client);
    }
    // Until they go they are served.
    clients[0].publish_acknowledged("r", "1");
    clients[1].expect_message("r", "1");
    clients.into_iter().for_each(Client::leave);
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

#[test]
fn without_clients_it_ends_at_once() {
    let mut server = spread(NEVER_MS).start();
    server.signal(Signal::TERM);
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

#[test]
fn it_is_not_ready_before_it_takes_nobody() {
    let mut server = spread(NEVER_MS).flag("--drain-delay-ms", 4_000).ops().start();
    let mut before = Client::member(&server, "r");
    server.signal(Signal::TERM);
    assert_eq!(server.wait_until_readyz_is(503), "draining\n");
    assert_eq!(get(server.address(), "/readyz").status, 503);
    let mut meanwhile = Client::member(&server, "r");
    meanwhile.publish_acknowledged("r", "1");
    before.expect_message("r", "1");
    meanwhile.expect_message("r", "1");
    // When the delay is over, both are told.
    let (_, _) = (told(&mut before), told(&mut meanwhile));
    eventually("nobody gets in", || TcpStream::connect(server.address()).is_err().then_some(()));
    before.leave();
    meanwhile.leave();
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

#[test]
fn a_delay_is_waited_for_though_nobody_is_there() {
    let mut server = spread(0).flag("--drain-delay-ms", 1_000).start();
    let began = Instant::now();
    server.signal(Signal::TERM);
    server.wait_for_log("draining");
    let client = Client::connect(&server);
    client.leave();
    assert_eq!(server.wait_for_exit().code(), Some(0));
    assert!(began.elapsed() >= Duration::from_millis(1_000));
}

#[test]
fn what_was_acknowledged_elsewhere_is_delivered_before_the_close() {
    for _ in 0..5 {
        let redis = Redis::start();
        let staying = Server::launch().redis(&redis).start();
        let mut going = spread(0).redis(&redis).start();
        let mut members = [Client::member(&going, "r"), Client::member(&going, "r")];
        let mut untold = classic(going.address());
        let mut sender = Client::connect(&staying);
        sender.publish_acknowledged("r", "0");
        for member in &mut members {
            member.expect_message("r", "0");
        }
        assert_eq!(untold.recv_text(), "0");
        for number in 1..50 {
            sender.publish("r", &number.to_string());
        }
        sender.publish_acknowledged("r", "50");
        going.signal(Signal::TERM);
        for number in 1..=50 {
            for member in &mut members {
                member.expect_message("r", &number.to_string());
            }
            assert_eq!(untold.recv_text(), number.to_string());
        }
        for member in &mut members {
            assert_eq!(member.recv_close(), code::RESTART);
        }
        assert_eq!(untold.recv_close(), Some(code::RESTART));
        drop((members, untold));
        assert_eq!(going.wait_for_exit().code(), Some(0));
    }
}

#[test]
fn what_redis_has_yet_to_send_is_waited_for() {
    let redis = Redis::start();
    let mut server = spread(0).redis(&redis).flag("--timeouts-shutdown-ms", NEVER_MS).start();
    let mut member = Client::member(&server, "r");
    let mut others = redis.listen("fanfare:r");
    let mut sender = Client::connect(&server);
    redis.pause();
    sender.publish("r", "1");
    sender.fence();
    server.signal(Signal::TERM);
    server.wait_for_log("draining");
    redis.resume();
    assert!(!others.next_message().is_empty());
    member.expect_message("r", "1");
    assert_eq!(member.recv_close(), code::RESTART);
    assert_eq!(sender.recv_close(), code::RESTART);
    drop((member, sender));
    assert_eq!(server.wait_for_exit().code(), Some(0));
}
