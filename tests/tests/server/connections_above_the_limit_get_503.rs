//! The limit of connections: upgrades are refused at it, plain requests are not, and a place that is left is free.

use fanfare_tests::{RawClient, Server, eventually, get};

#[test]
fn the_first_above_the_limit_is_refused_until_one_leaves() {
    let server = Server::launch().flag("--limits-connections-max", 3).ops().start();
    let mut members: Vec<RawClient> = (0..3).map(|_| RawClient::upgraded(server.address())).collect();
    for _ in 0..2 {
        let refusal = RawClient::try_upgrade(server.address()).err().expect("three are the limit");
        assert_eq!(refusal.status, 503, "{}", refusal.head);
        assert!(refusal.field("retry-after").is_some_and(|after| after.parse::<u32>().is_ok()), "{}", refusal.head);
    }
    server.wait_for_metrics("both refusals are counted", |metrics| {
        metrics.value(r#"fanfare_upgrades_total{outcome="refused_full"}"#) == 2.0
            && metrics.value(r#"fanfare_upgrades_total{outcome="accepted"}"#) == 3.0
            && metrics.value("fanfare_connections") == 3.0
    });

    members.pop();
    let newcomer = eventually("the free place is taken", || RawClient::try_upgrade(server.address()).ok());
    members.push(newcomer);
    for member in &mut members {
        member.send_text(r#"{"type":"PING"}"#);
        assert_eq!(member.recv_text(), r#"{"type":"PONG"}"#);
    }
}

#[test]
fn health_is_told_at_the_limit_too() {
    let server = Server::launch().flag("--limits-connections-max", 1).start();
    let _member = RawClient::upgraded(server.address());
    assert_eq!(get(server.address(), "/healthz").status, 200);
    assert_eq!(get(server.address(), "/readyz").status, 200);
}
