//! Another Redis may lack the last messages that members have seen: they are told which.

use fanfare_tests::stored::{Place, ask, hear, instances, join, resume, store};
use fanfare_tests::{Client, Redis};
use serde_json::{Value, json};

const ROOM: &str = "chat:a";

fn redis() -> Redis {
    Redis::launch().directive("enable-debug-command yes").start()
}

#[track_caller]
fn gap(client: &mut Client, previous: &Place, fence: u64, reason: &str) -> String {
    let gap: Value = client.recv_json();
    let parts = ["type", "room", "previous", "reason"].map(|key| gap[key].as_str().unwrap_or_default());
    assert_eq!((parts, &gap["fence"]), (["GAP", ROOM, &previous.epoch, reason], &json!(fence)), "{gap}");
    gap["epoch"].as_str().expect("an epoch").to_owned()
}

#[test]
fn members_of_all_instances_hear_of_a_new_epoch_and_go_on() {
    let redis = redis();
    let [one, two] = instances(&redis);
    let mut members = [&one, &two].map(|server| join(server, ROOM));
    let mut sender = Client::connect(&two);
    let mut last = store(&mut sender, ROOM, 1);
    members.iter_mut().for_each(|(member, _)| assert_eq!(hear(member, ROOM).0, 1));
    for offset in 2..=4 {
        redis.cli(&["DEBUG", "CHANGE-REPL-ID"]);
        let next = store(&mut sender, ROOM, offset);
        assert_eq!(next.offset, offset);
        assert_ne!(next.epoch, last.epoch);
        for (member, _) in &mut members {
            assert_eq!(gap(member, &last, offset - 1, "epoch"), next.epoch);
            assert_eq!(hear(member, ROOM), (offset, json!(offset)));
        }
        last = next;
    }
}

#[test]
fn who_has_seen_what_was_lost_is_told_so() {
    let redis = redis();
    let [one, two] = instances(&redis);
    let mut sender = Client::connect(&one);
    let places: Vec<Place> = (1..=3).map(|number| store(&mut sender, ROOM, number)).collect();
    // As if the last message had not reached the replica that takes over.
    let [meta, log] = ["meta", "log"].map(|kind| format!("fanfare:\u{1}{kind}:{ROOM}"));
    let id = redis.cli(&["XREVRANGE", &log, "+", "-", "COUNT", "1"]).lines().next().expect("an id").to_owned();
    redis.cli(&["XDEL", &log, &id]);
    redis.cli(&["HSET", &meta, "offset", "2"]);
    redis.cli(&["DEBUG", "CHANGE-REPL-ID"]);

    let (mut exact, place, recovered) = resume(&two, ROOM, &places[1]);
    assert_eq!((place.offset, recovered), (2, true));
    let (mut lost, place, recovered) = resume(&two, ROOM, &places[2]);
    assert_eq!((place.offset, recovered), (2, false));
    assert_eq!(gap(&mut lost, &places[2], 2, "failover"), place.epoch);
    assert_eq!(store(&mut sender, ROOM, "third"), Place { epoch: place.epoch, offset: 3 });
    for member in [&mut exact, &mut lost] {
        assert_eq!(hear(member, ROOM), (3, json!("third")));
    }
    let command = json!({"type": "HISTORY", "room": ROOM, "after": 2, "epoch": places[2].epoch});
    assert_eq!(ask(&mut sender, command, "HISTORY")["messages"][0]["message"], "third");
}

/// One that keeps nothing on disk and is started again: all offsets begin anew.
#[test]
fn members_hear_that_all_data_are_lost() {
    let mut redis = redis();
    let [one, two] = instances(&redis);
    let mut members = [&one, &two].map(|server| join(server, ROOM));
    let mut sender = Client::connect(&two);
    let last = store(&mut sender, ROOM, "lost");
    members.iter_mut().for_each(|(member, _)| assert_eq!(hear(member, ROOM).0, 1));
    redis.kill();
    redis.start_again();
    for server in [&one, &two] {
        server.wait_for_log("redis lost");
        server.wait_until_ready();
    }
    let next = store(&mut sender, ROOM, "new");
    assert_eq!(next.offset, 1);
    for (member, _) in &mut members {
        assert_eq!(gap(member, &last, 0, "failover"), next.epoch);
        assert_eq!(hear(member, ROOM), (1, json!("new")));
    }
    let (mut again, place, recovered) = resume(&one, ROOM, &last);
    assert_eq!((place.offset, recovered), (0, false));
    assert_eq!(gap(&mut again, &last, 0, "failover"), next.epoch);
    assert_eq!(hear(&mut again, ROOM), (1, json!("new")));
}
