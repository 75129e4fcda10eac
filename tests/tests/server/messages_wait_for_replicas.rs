//! In rooms with `history_replicas_min` a sender is told that its message is stored when replicas have it, and nobody else waits.

use fanfare_tests::stored::{Place, ask, hear, join};
use fanfare_tests::{Client, Launch, Redis, Server, eventually};
use serde_json::{Value, json};

const ROOM: &str = "safe:a";
const UNREPLICATED: &str = "fanfare_history_unreplicated_total";

fn launch(redis: &Redis) -> Launch {
    let rooms = "[[rooms]]\nmatch = \"safe:*\"\nhistory_messages = 100\nhistory_replicas_min = 1\n\
                 [[rooms]]\nmatch = \"chat:*\"\nhistory_messages = 100\n";
    Server::launch()
        .redis(redis)
        .file(rooms)
        .args(["--redis-probe-interval-ms", "200", "--redis-backoff-ms-max", "200"])
        .ops()
}

/// One that does not wait for more replicas before it gives its data to one.
fn master() -> Redis {
    Redis::launch().directive("repl-diskless-sync-delay 0").start()
}

fn replica_of(master: &Redis) -> Redis {
    let replica = Redis::launch().directive(&format!("replicaof 127.0.0.1 {}", master.port())).start();
    eventually("the replica has all that the master had", || {
        replica.cli(&["INFO", "replication"]).contains("master_link_status:up").then_some(())
    });
    replica
}

fn message(number: u64) -> Value {
    json!({"type": "SEND_MESSAGE", "room": ROOM, "message": number, "key": format!("{number:022}")})
}

fn send(client: &mut Client, number: u64) -> Result<Place, Value> {
    let mut command = message(number);
    command["id"] = json!("asked");
    client.send_json(&command);
    let reply = client.recv_json();
    if reply["type"] == "ACK" { Ok(Place::of(&reply)) } else { Err(reply) }
}

#[test]
fn nothing_is_acknowledged_before_a_replica_has_it() {
    let master = master();
    let replica = replica_of(&master);
    let server = launch(&master).args(["--history-replicas-timeout-ms", "5000"]).start();
    let (mut member, _) = join(&server, ROOM);
    let mut sender = Client::connect(&server);
    let log = format!("fanfare:\u{1}log:{ROOM}");
    for offset in 1..=3_u64 {
        replica.pause();
        let mut command = message(offset);
        command["id"] = json!(offset);
        sender.send_json(&command);
        assert_eq!(hear(&mut member, ROOM), (offset, json!(offset)), "members do not wait");
        // Whatever was acknowledged would have come before this.
        sender.fence();
        replica.resume();
        let ack = sender.recv_json();
        assert_eq!((&ack["type"], &ack["id"], &ack["offset"]), (&json!("ACK"), &json!(offset), &json!(offset)));
        assert_eq!(replica.cli(&["XLEN", &log]).trim(), offset.to_string());
    }
    assert_eq!(server.metrics().value(UNREPLICATED), 0.0);
}

/// However many messages are sent in however many turns until the replica is found to be away.
#[test]
fn nobody_waits_for_more_than_one_miss() {
    let master = master();
    let replica = replica_of(&master);
    let server = launch(&master).args(["--history-replicas-timeout-ms", "2000"]).start();
    let mut senders = [(); 2].map(|()| Client::connect(&server));
    assert!(send(&mut senders[0], 1).is_ok());
    replica.pause();
    let mut witness = Client::connect(&server);
    for number in 2..=101 {
        for sender in &mut senders {
            let command = json!({"type": "SEND_MESSAGE", "room": ROOM, "message": number, "id": number});
            sender.send_json(&command);
            // One turn at least lies between them.
            witness.fence();
        }
    }
    for number in 2..=101 {
        for sender in &mut senders {
            assert_eq!(sender.expect_error("unconfirmed")["id"], number);
        }
    }
    server.wait_for_metrics("all are counted", |metrics| metrics.value(UNREPLICATED) >= 200.0);
}

#[test]
fn without_a_replica_senders_are_told_and_everything_else_goes_on() {
    let master = master();
    let replica = replica_of(&master);
    let server = launch(&master).args(["--history-replicas-timeout-ms", "3000"]).start();
    let (mut member, _) = join(&server, ROOM);
    let mut sender = Client::connect(&server);
    assert_eq!(send(&mut sender, 1).map(|place| place.offset), Ok(1));
    replica.pause();

    let mut waiting = Client::connect(&server);
    let mut command = message(2);
    command["id"] = json!(2);
    waiting.send_json(&command);
    assert_eq!([hear(&mut member, ROOM), hear(&mut member, ROOM)], [(1, json!(1)), (2, json!(2))]);
    // While that one waits for the replica, rooms that want none are stored and read as ever.
    for number in 1..=3 {
        let command = json!({"type": "SEND_MESSAGE", "room": "chat:a", "message": number});
        assert_eq!(ask(&mut sender, command, "ACK")["offset"], number);
        ask(&mut sender, json!({"type": "HISTORY", "room": ROOM}), "HISTORY");
    }
    assert_eq!(server.metrics().value(UNREPLICATED), 0.0, "it waits still");
    let refused = waiting.expect_error("unconfirmed");
    assert_eq!(refused["id"], 2);
    assert!(refused["reason"].as_str().is_some_and(|reason| reason.contains("too few replicas")), "{refused}");
    let said = server.wait_for_log("redis and the histories of rooms");
    let reason = said["reason"].as_str().unwrap_or_default();
    assert!(reason.starts_with("0 of 1 replicas have confirmed the last messages within 3000 ms"), "{reason}");
    // Who comes now is stored, delivered and told at once.
    assert_eq!(send(&mut sender, 3).map_err(|error| error["code"].clone()), Err(json!("unconfirmed")));
    assert_eq!(hear(&mut member, ROOM), (3, json!(3)));
    server.wait_for_metrics("they are counted", |metrics| metrics.value(UNREPLICATED) >= 2.0);

    replica.resume();
    eventually("replicas are found again", || send(&mut sender, 4).ok());
    // What was not confirmed is, when it is sent again, and is not delivered again.
    for number in 2..=4 {
        assert_eq!(send(&mut sender, number).map(|place| place.offset), Ok(number));
    }
    assert_eq!(hear(&mut member, ROOM), (4, json!(4)));
    member.fence();
}

#[test]
fn a_replica_that_takes_over_has_all_that_was_acknowledged() {
    let mut master = master();
    let replica = replica_of(&master);
    let server = launch(&master).start();
    let mut sender = Client::connect(&server);
    let acknowledged: Vec<Place> =
        (1..=200).map(|number| send(&mut sender, number).expect("it is replicated")).collect();
    master.kill();
    replica.cli(&["REPLICAOF", "NO", "ONE"]);
    let other = launch(&replica).start();
    let mut reader = Client::connect(&other);
    let page = ask(&mut reader, json!({"type": "HISTORY", "room": ROOM, "limit": 100}), "HISTORY");
    let offsets: Vec<u64> =
        page["messages"].as_array().expect("messages").iter().filter_map(|one| one["offset"].as_u64()).collect();
    let newest: Vec<u64> = acknowledged[100..].iter().map(|place| place.offset).collect();
    assert_eq!(offsets, newest);
}

#[test]
fn its_own_connection_may_be_lost_and_comes_back() {
    let master = master();
    let _replica = replica_of(&master);
    let server = launch(&master).start();
    let mut sender = Client::connect(&server);
    assert!(send(&mut sender, 1).is_ok());
    // Each of the connections in turn: only one of them is that of such rooms, and all come back.
    for client in master.clients().into_iter().filter(|client| client.contains("name=fanfare-")) {
        let id = client.split_whitespace().find_map(|word| word.strip_prefix("id=")).expect("an id").to_owned();
        master.cli(&["CLIENT", "KILL", "ID", &id]);
        server.wait_until_ready();
        eventually("it is stored again", || send(&mut sender, 2).ok());
    }
}

#[test]
fn without_redis_there_is_no_such_room() {
    let rooms = "[[rooms]]\nmatch = \"safe:*\"\nhistory_messages = 100\nhistory_replicas_min = 1\n";
    let output = Server::launch().embedded().file(rooms).run();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("without redis.url there are no replicas"), "{said}");
    let no_history = Server::launch().file("[[rooms]]\nmatch = \"safe:*\"\nhistory_replicas_min = 1\n").run();
    let said = String::from_utf8_lossy(&no_history.stderr);
    assert!(said.contains("there is no history for replicas to have"), "{said}");
}
