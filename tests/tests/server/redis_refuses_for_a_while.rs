//! A Redis that runs a script for too long, or is demoted: whoever has joined is not left deaf, whoever joins waits, senders are
//! told the truth, and readiness says why. All comes right by itself.

use fanfare_tests::{Client, Launch, Redis, Reply, RespConnection, Server, eventually, get};
use std::thread;

fn launch(redis: &Redis) -> Launch {
    Server::launch()
        .redis(redis)
        .args(["--redis-backoff-ms-max", "200", "--redis-probe-interval-ms", "100", "--redis-probe-timeout-ms", "5000"])
        .ops()
}

/// A script that runs until it is killed.
struct Script {
    control: RespConnection,
    run: thread::JoinHandle<Reply>,
}

impl Script {
    fn start(redis: &Redis) -> Script {
        let (mut runner, control) = (redis.connect(), redis.connect());
        let run = thread::spawn(move || runner.command(&[b"EVAL", b"while true do end", b"0"]));
        Script { control, run }
    }

    /// Until Redis says so, it says nothing at all.
    fn wait_until_busy(&mut self) {
        eventually("redis is busy", || self.is_busy().then_some(()));
    }

    fn is_busy(&mut self) -> bool {
        matches!(self.control.command(&[b"PING"]), Reply::Error(error) if error.starts_with("BUSY"))
    }

    fn kill(mut self) {
        assert_eq!(self.control.command(&[b"SCRIPT", b"KILL"]), Reply::Status("OK".to_owned()));
        self.run.join().expect("its connection lasts");
    }
}

fn classic_member(server: &Server, redis: &Redis, room: &str) -> Client {
    let mut client = Client::connect_to(server.address(), "/classic");
    client.send(format!(r#"{{"type":"SUBSCRIBE","roomId":"{room}"}}"#));
    eventually("the room is subscribed", || (redis.subscribers(&format!("fanfare:{room}")) == 1).then_some(()));
    client
}

/// The reason, with the address and the prefix, is for operators: strangers are told no more than that it is so.
fn wait_until_not_ready(server: &Server, redis: &Redis, reason: &str) {
    server.wait_until_readyz_is(503);
    let name = format!("127.0.0.1:{}, prefix \"fanfare:\"", redis.port());
    eventually("the operations port says which redis", || {
        let response = get(server.ops_address(), "/readyz");
        let text = response.text();
        (response.status == 503 && text.contains(reason) && text.contains(&name)).then_some(())
    });
}

fn expect_refused(client: &mut Client) {
    client.send(r#"{"type":"SEND_MESSAGE","roomId":"elsewhere","message":"m","id":"sent"}"#);
    assert_eq!(client.expect_error("broker_unavailable")["id"], "sent");
}

#[test]
fn a_busy_redis_is_waited_for() {
    let redis = Redis::launch().directive("busy-reply-threshold 20").start();
    let server = launch(&redis).start();
    let mut classic = classic_member(&server, &redis, "classic");
    let mut member = Client::member(&server, "r");
    let mut leaves = Client::member(&server, "left");
    let mut script = Script::start(&redis);
    script.wait_until_busy();

    let mut late = Client::connect(&server);
    late.send(r#"{"type":"SUBSCRIBE","room":"late","id":1}"#);
    let mut late_classic = Client::connect_to(server.address(), "/classic");
    late_classic.send(r#"{"type":"SUBSCRIBE","roomId":"late classic"}"#);
    let mut late_broadcast = Client::connect_to(server.address(), "/broadcast/late");
    leaves.unsubscribe("left");

    wait_until_not_ready(&server, &redis, "BUSY");
    let lost = server.wait_for_log("redis lost");
    assert!(lost["reason"].as_str().is_some_and(|reason| reason.contains("it runs a script")), "{lost}");
    assert_eq!(
        (&lost["address"], &lost["prefix"]),
        (&format!("127.0.0.1:{}", redis.port()).into(), &"fanfare:".into())
    );
    server.wait_for_metrics("the publisher is of no use", |metrics| {
        metrics.value(r#"fanfare_broker_up{link="publisher"}"#) == 0.0
    });
    expect_refused(&mut member);
    // Nobody has been told anything else.
    late.fence();
    member.fence();

    script.kill();
    late.expect(r#"{"type":"SUBSCRIBED","room":"late","id":1}"#);
    server.wait_until_ready();
    for room in ["classic", "late classic", "late", "r"] {
        eventually(room, || (redis.subscribers(&format!("fanfare:{room}")) >= 1).then_some(()));
        member.publish(room, r#""again""#);
    }
    member.expect_message("r", r#""again""#);
    late.expect_message("late", r#""again""#);
    for client in [&mut classic, &mut late_classic, &mut late_broadcast] {
        client.expect("again");
    }
    server.wait_for_metrics("both are up", |metrics| {
        ["subscriber", "publisher"]
            .iter()
            .all(|link| metrics.value(&format!(r#"fanfare_broker_up{{link="{link}"}}"#)) == 1.0)
    });
    assert_eq!(server.metrics().value("fanfare_broker_reconnects_total"), 0.0, "the connections lasted");
    eventually("the room left is not subscribed", || (redis.subscribers("fanfare:left") == 0).then_some(()));
}

/// It says nothing for so long that it is given up, and then `HELLO` is all that it answers well.
#[test]
fn a_redis_that_is_busy_when_it_is_joined_again_is_waited_for() {
    let redis = Redis::launch().directive("busy-reply-threshold 1500").start();
    let server = Server::launch()
        .redis(&redis)
        .args(["--redis-backoff-ms-max", "200", "--redis-probe-interval-ms", "100", "--redis-probe-timeout-ms", "200"])
        .args(["--redis-connect-timeout-ms", "300"])
        .ops()
        .start();
    let mut classic = classic_member(&server, &redis, "r");
    let mut member = Client::member(&server, "r");
    let mut script = Script::start(&redis);
    server.wait_for_log("redis lost");
    script.wait_until_busy();
    wait_until_not_ready(&server, &redis, "BUSY");
    let mut late = Client::connect(&server);
    late.send(r#"{"type":"SUBSCRIBE","room":"r","id":1}"#);
    expect_refused(&mut member);
    late.fence();
    script.kill();
    late.expect(r#"{"type":"SUBSCRIBED","room":"r","id":1}"#);
    server.wait_until_ready();
    member.expect_interruption("r");
    member.publish("r", r#""again""#);
    for client in [&mut member, &mut late] {
        client.expect_message("r", r#""again""#);
    }
    classic.expect("again");
}

/// While it is spoken to all the time, and while nobody says anything.
#[test]
fn a_master_that_is_demoted_is_noticed_and_its_return_as_well() {
    for is_spoken_to in [true, false] {
        let (redis, other) = (Redis::start(), Redis::start());
        let server = launch(&redis).start();
        let mut classic = classic_member(&server, &redis, "r");
        let mut member = Client::member(&server, "r");
        redis.cli(&["REPLICAOF", "127.0.0.1", &other.port().to_string()]);
        if is_spoken_to {
            let mut sender = Client::connect(&server);
            eventually("what is sent is not acknowledged any more", || {
                sender.send(r#"{"type":"SEND_MESSAGE","roomId":"elsewhere","message":"m","id":1}"#);
                let answer = sender.recv_json();
                assert!(answer["type"] == "ACK" || answer["code"] != "broker_refused", "{answer}");
                (answer["code"] == "broker_unavailable").then_some(())
            });
        }
        wait_until_not_ready(&server, &redis, "it is a replica");
        expect_refused(&mut member);
        redis.cli(&["REPLICAOF", "NO", "ONE"]);
        server.wait_until_ready();
        eventually("the room is subscribed", || (redis.subscribers("fanfare:r") == 1).then_some(()));
        member.expect_interruption("r");
        member.publish("r", r#""again""#);
        member.expect_message("r", r#""again""#);
        classic.expect("again");
    }
}

#[test]
fn a_replica_is_not_joined_until_it_is_a_master() {
    let master = Redis::start();
    let redis = Redis::launch().directive(&format!("replicaof 127.0.0.1 {}", master.port())).start();
    let server = launch(&redis).not_ready().start();
    wait_until_not_ready(&server, &redis, "it is a replica");
    redis.cli(&["REPLICAOF", "NO", "ONE"]);
    server.wait_until_ready();
}

/// In a cluster all nodes pass on what is published at any of them.
#[test]
fn a_replica_of_a_cluster_is_as_good_as_its_master() {
    let node = || Redis::launch().directive("cluster-enabled yes").start();
    let (master, replica) = (node(), node());
    replica.cli(&["CLUSTER", "MEET", "127.0.0.1", &master.port().to_string()]);
    let id = master.cli(&["CLUSTER", "MYID"]);
    eventually("they know each other", || {
        let told = replica.connect().command(&[b"CLUSTER", b"REPLICATE", id.as_bytes()]);
        (told == Reply::Status("OK".to_owned())).then_some(())
    });
    let servers = [&master, &replica].map(|redis| launch(redis).start());
    let mut members = servers.each_ref().map(|server| Client::member(server, "r"));
    assert!(replica.cli(&["ROLE"]).starts_with("slave"));
    eventually("both hear the replica's", || {
        members[1].publish("r", "1");
        members[1].expect_message("r", "1");
        members[0].send(r#"{"type":"PING"}"#);
        let texts: Vec<_> =
            std::iter::from_fn(|| Some(members[0].recv_json()).filter(|text| text["type"] != "PONG")).collect();
        let reached = !texts.is_empty();
        reached.then_some(())
    });
}

#[test]
fn a_user_without_the_right_to_ask_for_the_role_is_trusted() {
    let rules = "resetchannels &fanfare:* -@all +subscribe +unsubscribe +publish";
    let redis = Redis::launch().user("small", "pw", rules).start();
    let url = format!("redis://small:pw@127.0.0.1:{}", redis.port());
    let mut server = Server::launch().flag("--redis-url", url).flag("--redis-probe-interval-ms", 20).start();
    let mut client = Client::member(&server, "r");
    for number in 0..20 {
        client.publish("r", &number.to_string());
        client.expect_message("r", &number.to_string());
    }
    // ROLE, INFO, PING and whatever else was asked for were refused without harm.
    eventually("it was probed", || redis.cli(&["ACL", "LOG"]).contains("ping").then_some(()));
    drop(client);
    assert_eq!(server.log_to_its_end().count("redis lost"), 0);
}

/// What nothing else can tell is told by a close: after an outage, and to who joins.
#[test]
fn a_refusal_that_lasts_closes_who_gets_no_replies() {
    let redis = Redis::launch().user("limited", "pw", "~* resetchannels &fanfare:open &fanfare:now +@all").start();
    let url = format!("redis://limited:pw@127.0.0.1:{}", redis.port());
    let server = Server::launch().flag("--redis-url", url).flag("--redis-backoff-ms-max", 200).start();
    let mut open = classic_member(&server, &redis, "open");
    let mut renewed = classic_member(&server, &redis, "now");
    let mut told = Client::member(&server, "now");

    let mut joins = Client::connect_to(server.address(), "/classic");
    joins.send(r#"{"type":"SUBSCRIBE","roomId":"closed"}"#);
    assert_eq!(joins.recv_close(), 1013);
    assert_eq!(Client::connect_to(server.address(), "/broadcast/closed").recv_close(), 1013);

    // Redis itself ends the connections of whom it takes a channel from.
    redis.cli(&["ACL", "SETUSER", "limited", "resetchannels", "&fanfare:open"]);
    assert_eq!(renewed.recv_close(), 1013);
    let ended = told.recv_json();
    assert_eq!((&ended["type"], &ended["code"]), (&"UNSUBSCRIBED".into(), &"broker_refused".into()), "{ended}");
    server.wait_until_ready();
    eventually("the other room is subscribed", || (redis.subscribers("fanfare:open") == 1).then_some(()));
    told.publish("open", r#""again""#);
    open.expect("again");
}
