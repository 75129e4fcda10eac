//! What is not stored is not published either, its sender is told, and other rooms go on.

use fanfare_tests::stored::{ask, hear, instances, join, launch, store};
use fanfare_tests::{Client, Redis, Reply, Server, eventually, get};
use serde_json::{Value, json};

const ROOM: &str = "chat:a";

fn refused(client: &mut Client) -> Value {
    ask(client, json!({"type": "SEND_MESSAGE", "room": ROOM, "message": "refused"}), "ERROR")["code"].take()
}

fn reason_of(server: &Server) -> String {
    server.wait_for_log("redis and the histories of rooms")["reason"].as_str().expect("a reason").to_owned()
}

/// An instance whose user may do what the rules say.
fn restricted(redis: &Redis) -> Server {
    let url = format!("redis://app:pw@127.0.0.1:{}", redis.port());
    launch(&url).start()
}

#[test]
fn a_full_redis_stores_nothing_and_publishes_nothing() {
    let redis = Redis::start();
    let [server] = instances(&redis);
    let (mut member, _) = join(&server, ROOM);
    let mut other = Client::member(&server, "other");
    let mut sender = Client::connect(&server);
    for round in 1..=2 {
        assert_eq!(store(&mut sender, ROOM, round).offset, round);
        assert_eq!(hear(&mut member, ROOM), (round, json!(round)));
        let dump = |redis: &Redis| {
            let kinds = ["meta", "log"].map(|kind| format!("fanfare:\u{1}{kind}:{ROOM}"));
            kinds.map(|key| redis.connect().command(&[b"DUMP", key.as_bytes()]))
        };
        let before = dump(&redis);
        assert!(before.iter().all(|value| matches!(value, Reply::Bytes(Some(_)))), "{before:?}");
        redis.cli(&["CONFIG", "SET", "maxmemory", "1"]);
        assert_eq!(refused(&mut sender), "broker_unavailable");
        assert_eq!(dump(&redis), before);
        // Everything else goes on.
        sender.publish_acknowledged("other", "1");
        other.expect_message("other", "1");
        assert_eq!(ask(&mut sender, json!({"type": "HISTORY", "room": ROOM}), "HISTORY")["messages"][0]["offset"], 1);
        assert_eq!(get(server.address(), "/readyz").status, 200);
        redis.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    }
    member.fence();
    assert!(reason_of(&server).starts_with("OOM"));
}

#[test]
fn a_user_without_scripts_has_all_but_histories() {
    let redis = Redis::launch().user("app", "pw", "~* &* +@all -script").start();
    let server = restricted(&redis);
    assert!(reason_of(&server).starts_with("SCRIPT LOAD refused"));
    let mut client = Client::connect(&server);
    assert_eq!(refused(&mut client), "history_unavailable");
    for command in [json!({"type": "HISTORY", "room": ROOM}), json!({"type": "SUBSCRIBE", "room": ROOM})] {
        assert_eq!(ask(&mut client, command, "ERROR")["code"], "history_unavailable");
    }
    client.subscribe("other");
    client.publish("other", "1");
    client.expect_message("other", "1");
    // What is allowed later is found out.
    redis.cli(&["ACL", "SETUSER", "app", "+script"]);
    eventually("messages are stored", || {
        let command = json!({"type": "SEND_MESSAGE", "room": ROOM, "message": 1, "id": 1});
        client.send_json(&command);
        (client.recv_json()["offset"] == 1).then_some(())
    });
}

#[test]
fn a_user_who_may_not_ask_for_the_replication_id_has_all_but_histories() {
    let redis = Redis::launch().user("app", "pw", "~* &* +@all -info").start();
    let server = restricted(&redis);
    let mut client = Client::connect(&server);
    assert_eq!(refused(&mut client), "history_unavailable");
    assert!(reason_of(&server).contains("keeps no histories"));
    client.publish_acknowledged("other", "1");
}

#[test]
fn what_is_stored_and_may_not_be_announced_is_an_alarm() {
    let redis = Redis::launch().user("app", "pw", "~* resetchannels &fanfare:other +@all").start();
    let server = restricted(&redis);
    let mut client = Client::connect(&server);
    assert_eq!(store(&mut client, ROOM, "quiet").offset, 1);
    assert!(reason_of(&server).contains("stored and could not be announced"));
    assert_eq!(
        ask(&mut client, json!({"type": "HISTORY", "room": ROOM}), "HISTORY")["messages"][0]["message"],
        "quiet"
    );
    server.wait_for_metrics("it is counted", |metrics| metrics.value("fanfare_history_unannounced_total") == 1.0);
}

#[test]
fn what_becomes_of_a_message_on_a_link_that_breaks_is_not_known_and_a_question_is_refused() {
    let redis = Redis::start();
    let [server] = instances(&redis);
    let mut clients = [0; 2].map(|_| Client::connect(&server));
    assert_eq!(store(&mut clients[0], ROOM, 1).offset, 1);
    redis.cli(&["CLIENT", "PAUSE", "60000", "WRITE"]);
    let [sender, reader] = &mut clients;
    sender.send_json(&json!({"type": "SEND_MESSAGE", "room": ROOM, "message": 2, "id": 2}));
    reader.send_json(&json!({"type": "HISTORY", "room": ROOM, "id": 3}));
    eventually("both wait", || redis.cli(&["CLIENT", "LIST"]).contains("cmd=evalsha").then_some(()));
    reader.fence();
    redis.cli(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    let refused = sender.recv_json();
    assert_eq!((&refused["code"], &refused["id"]), (&json!("unconfirmed"), &json!(2)), "{refused}");
    let refused = reader.recv_json();
    assert_eq!((&refused["code"], &refused["id"]), (&json!("broker_unavailable"), &json!(3)), "{refused}");
    redis.cli(&["CLIENT", "UNPAUSE"]);
    server.wait_until_ready();
    reader.send_json(&json!({"type": "HISTORY", "room": ROOM, "id": 5}));
    let history = reader.recv_json();
    assert_eq!((&history["id"], &history["messages"][0]["message"]), (&json!(5), &json!(1)), "{history}");
    assert!(store(sender, ROOM, 4).offset >= 2);
}

#[test]
fn the_user_of_the_documentation_may_do_all_that_histories_need() {
    const PAGE: &str = include_str!("../../../docs/history.md");
    let (_, rest) = PAGE.split_once("ACL SETUSER fanfare on >secret ").expect("the page has a user");
    let (rules, _) = rest.split_once("```").expect("its rules end");
    let redis = Redis::launch().user("app", "pw", &rules.split_whitespace().collect::<Vec<_>>().join(" ")).start();
    let mut server = restricted(&redis);
    let (mut member, _) = join(&server, ROOM);
    let mut sender = Client::connect(&server);
    let keyed = json!({"type": "SEND_MESSAGE", "room": ROOM, "message": 1, "key": "a key that is long enough"});
    for _ in 0..2 {
        assert_eq!(ask(&mut sender, keyed.clone(), "ACK")["offset"], 1);
    }
    assert_eq!(hear(&mut member, ROOM), (1, json!(1)));
    assert_eq!(ask(&mut sender, json!({"type": "HISTORY", "room": ROOM}), "HISTORY")["messages"][0]["offset"], 1);
    [member, sender].into_iter().for_each(Client::leave);
    assert_eq!(server.log_to_its_end().count("redis and the histories of rooms"), 0);
}
