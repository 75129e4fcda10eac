//! What a user may have and do over all of its connections to one instance.

use fanfare_tests::{Client, Launch, RawClient, Server, eventually};

const SECRET: &str = "a secret of thirty-two bytes or more";

fn launch() -> Launch {
    // Each worker counts its own.
    Server::launch().workers(1).flag("--auth-secret", SECRET).flag("--auth-own-rooms", "off")
}

/// The path at which this user comes in.
fn path_of(user: &str) -> String {
    let output = Server::launch().flag("--auth-secret", SECRET).args(["token", "--user", user]).run();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let token = String::from_utf8(output.stdout).expect("a token in UTF-8");
    format!("/ws?token={}", token.trim_end())
}

fn refused(limit: &str) -> String {
    format!("fanfare_quota_refused_total{{limit=\"{limit}\"}}")
}

#[test]
fn a_user_has_as_many_connections_as_allowed() {
    let server = launch().flag("--limits-connections-per-user-max", 2).ops().start();
    let (bob, eve) = (path_of("bob"), path_of("eve"));
    let mut bobs = [(); 2].map(|()| Client::connect_to(server.address(), &bob));
    let Err(refusal) = RawClient::upgraded_at(server.address(), &bob) else { panic!("a third one came in") };
    assert_eq!((refusal.status, refusal.text().as_str()), (429, "too many connections of this user"));
    assert!(refusal.head.contains("Retry-After: 1"), "{}", refusal.head);

    let mut nobody = Client::connect(&server);
    let (_, token) = bob.split_once('=').expect("a path with a token");
    let auth = format!(r#"{{"type":"AUTH","token":"{token}"}}"#);
    nobody.send(&auth);
    nobody.expect_error("too_many_connections");
    eventually("both are counted", || (server.metrics().value(&refused("connections")) == 2.0).then_some(()));
    assert_eq!(server.metrics().value("fanfare_upgrades_total{outcome=\"refused_user\"}"), 1.0);

    // Others are let in, who has a place may show its credential again, and a place that is left can be taken.
    Client::connect_to(server.address(), &eve).subscribe("r");
    bobs[0].send(&auth);
    assert_eq!(bobs[0].recv_json()["type"], "AUTHENTICATED");
    let [_stays, leaves] = bobs;
    leaves.leave();
    eventually("the place is free", || {
        nobody.send(&auth);
        (nobody.recv_json()["type"] == "AUTHENTICATED").then_some(())
    });
    nobody.subscribe("r");
}

#[test]
fn a_users_connections_are_in_as_many_rooms_as_allowed() {
    let server = launch().flag("--limits-rooms-per-user-max", 2).ops().start();
    let (bob, eve) = (path_of("bob"), path_of("eve"));
    let [mut one, mut other] = [(); 2].map(|()| Client::connect_to(server.address(), &bob));
    one.subscribe("a");
    other.subscribe("b");
    other.subscribe("a");
    let subscribe = |room: &str| format!(r#"{{"type":"SUBSCRIBE","room":"{room}"}}"#);
    other.send(subscribe("c"));
    assert_eq!(other.expect_error("too_many_rooms")["room"], "c");
    Client::connect_to(server.address(), &eve).subscribe("c");
    eventually("it is counted", || (server.metrics().value(&refused("rooms")) == 1.0).then_some(()));

    other.unsubscribe("b");
    one.subscribe("c");
    other.publish("c", "1");
    assert_eq!(one.recv_message("c"), 1);
}

#[test]
fn a_users_connections_send_as_fast_as_allowed_together() {
    const SENT: usize = 500;
    let limits = ["--limits-messages-per-second-per-user", "1", "--limits-errors-max", "60000"];
    let server = launch().args(limits).flag("--limits-messages-burst-per-user", SENT).ops().start();
    let (bob, eve) = (path_of("bob"), path_of("eve"));
    let answered = |path: &str| {
        let mut client = Client::connect_to(server.address(), path);
        (0..SENT).for_each(|_| client.send(r#"{"type":"PING"}"#));
        let replies = (0..SENT).map(|_| client.recv_json());
        replies.filter(|reply| reply["type"] == "PONG" || reply["code"] != "too_fast").count()
    };
    assert_eq!(answered(&bob), SENT);
    // At one a second, the user has not waited for all of them.
    let again = answered(&bob);
    assert!(again < SENT, "{again}");
    assert_eq!((answered(&eve), answered("/ws")), (SENT, SENT));
    server.wait_for_metrics("refusals are counted", |metrics| {
        metrics.value(&refused("messages")) == (SENT - again) as f64
    });
}

#[test]
fn a_user_has_as_many_connections_on_all_instances_as_allowed() {
    let flag = "--limits-connections-per-user-cluster-max";
    let server =
        Server::launch().flag("--auth-secret", SECRET).flag("--auth-own-rooms", "off").flag(flag, 3).ops().start();
    let (bob, eve) = (path_of("bob"), path_of("eve"));
    let mut bobs: Vec<Client> = (0..3).map(|_| Client::connect_to(server.address(), &bob)).collect();
    for bob in &mut bobs {
        // Behind it in line, so it has been counted.
        bob.publish_acknowledged("nobody-is-here", "1");
    }
    let mut one_more = Client::connect_to(server.address(), &bob);
    assert_eq!(one_more.skip_to_close(), 1013);
    eventually("it is counted", || (server.metrics().value(&refused("connections")) == 1.0).then_some(()));
    for bob in &mut bobs {
        bob.subscribe("r");
    }
    Client::connect_to(server.address(), &eve).subscribe("r");
}
