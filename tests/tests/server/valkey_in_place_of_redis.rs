//! Instances on a Valkey: all that they need of Redis is there, and comes back after an outage. `tests/valkey/install` fetches it.

use fanfare_tests::stored::{self, Place, ask, hear, join, store};
use fanfare_tests::{Client, GROUP, Redis, Server, eventually};
use serde_json::json;

fn instances(valkey: &Redis) -> [Server; 2] {
    stored::instances(valkey)
}

/// The `GAP` of a new epoch, and then the message that is stored there.
fn hear_after_the_gap(member: &mut Client, place: &Place) {
    let gap = member.recv_json();
    assert!(gap["type"] == "GAP" && gap["epoch"] == json!(place.epoch), "{gap}");
    assert_eq!(hear(member, "chat:a"), (place.offset, 2.into()));
}

#[test]
fn it_is_a_valkey_and_instances_act_as_one() {
    let valkey = Redis::launch().valkey().start();
    assert!(valkey.cli(&["INFO", "server"]).contains("server_name:valkey"));
    let servers = instances(&valkey);
    let mut member = Client::member(&servers[0], "r");
    Client::connect(&servers[1]).publish_acknowledged("r", "1");
    member.expect_message("r", "1");
    let (mut keeper, _) = join(&servers[0], "chat:a");
    let place = store(&mut Client::connect(&servers[1]), "chat:a", 2);
    assert_eq!(hear(&mut keeper, "chat:a"), (place.offset, 2.into()));
}

#[test]
fn rooms_and_histories_come_back_after_it_was_killed() {
    let mut valkey = Redis::launch().valkey().directive("appendonly yes\nappendfsync always").start();
    let servers = instances(&valkey);
    let mut member = Client::member(&servers[0], "r");
    let (mut keeper, _) = join(&servers[0], "chat:a");
    let first: Place = store(&mut Client::connect(&servers[1]), "chat:a", 1);
    assert_eq!(hear(&mut keeper, "chat:a").0, first.offset);

    valkey.kill();
    servers.iter().for_each(|server| drop(server.wait_for_log("redis lost")));
    valkey.start_again();
    servers.iter().for_each(Server::wait_until_ready);
    eventually("the room is subscribed again", || (valkey.subscribers("fanfare:r") == 1).then_some(()));
    Client::connect(&servers[1]).publish_acknowledged("r", "1");
    member.expect_interruption("r");
    member.expect_message("r", "1");

    // Nothing was lost, and what follows is of a new epoch, because a server that has begun anew may have lost something.
    let second = store(&mut Client::connect(&servers[1]), "chat:a", 2);
    assert_eq!(second.offset, first.offset + 1);
    hear_after_the_gap(&mut keeper, &second);
    let asked = json!({"type": "HISTORY", "room": "chat:a", "limit": 10});
    let history = ask(&mut Client::connect(&servers[1]), asked, "HISTORY");
    assert_eq!(history["messages"].as_array().map(Vec::len), Some(2), "{history}");
}

#[test]
fn its_sentinels_name_a_replica_that_takes_over() {
    let launch = || Redis::launch().valkey().directive("repl-diskless-sync-delay 0");
    let mut master = launch().start();
    let replica = launch().directive(&format!("replicaof 127.0.0.1 {}", master.port())).start();
    let sentinel = Redis::launch()
        .valkey()
        .sentinel()
        .directive(&format!("sentinel monitor {GROUP} 127.0.0.1 {} 1", master.port()))
        .directive(&format!("sentinel down-after-milliseconds {GROUP} 1000"))
        .start();
    eventually("the Sentinel knows the replica", || {
        sentinel.cli(&["SENTINEL", "REPLICAS", GROUP]).contains("master-link-status\nok").then_some(())
    });
    let server = stored::launch(&format!("redis-sentinel://127.0.0.1:{}/{GROUP}", sentinel.port())).start();
    let (mut member, _) = join(&server, "chat:a");
    let first = store(&mut Client::connect(&server), "chat:a", 1);
    assert_eq!(hear(&mut member, "chat:a").0, first.offset);
    master.cli(&["WAIT", "1", "1000"]);
    master.kill();
    eventually("the replica is the master", || replica.cli(&["ROLE"]).starts_with("master").then_some(()));
    eventually("the server is there", || {
        (!replica.cli(&["PUBSUB", "CHANNELS", "fanfare:chat:a"]).is_empty()).then_some(())
    });
    server.wait_until_ready();
    let second = store(&mut Client::connect(&server), "chat:a", 2);
    assert_eq!(second.offset, first.offset + 1);
    hear_after_the_gap(&mut member, &second);
}
