//! `SCRIPT FLUSH` in the midst of everything: every message is stored once, in its sender's order.

use std::thread;

use fanfare_tests::stored::{ask, hear, instances, join};
use fanfare_tests::{Client, Redis};
use serde_json::json;

const ROOM: &str = "chat:a";
const MESSAGES: u64 = 2_000;

#[test]
fn every_message_is_stored_once_and_in_order() {
    let redis = Redis::start();
    let [server] = instances(&redis);
    let (mut member, _) = join(&server, ROOM);
    let mut sender = Client::connect(&server);
    thread::scope(|scope| {
        let (redis, server) = (&redis, &server);
        scope.spawn(move || {
            let mut reader = Client::connect(server);
            for number in 1..=MESSAGES {
                assert_eq!(hear(&mut member, ROOM), (number, json!(number)));
                if number.is_multiple_of(100) {
                    redis.cli(&["SCRIPT", "FLUSH"]);
                    ask(&mut reader, json!({"type": "HISTORY", "room": ROOM}), "HISTORY");
                }
            }
        });
        // As many as may be on their way at once, and less than the limit of a connection's rate.
        for first in (1..=MESSAGES).step_by(200) {
            for number in first..first + 200 {
                sender.send_json(&json!({"type": "SEND_MESSAGE", "room": ROOM, "message": number, "id": number}));
            }
            for number in first..first + 200 {
                let reply = sender.recv_json();
                assert_eq!(
                    (&reply["type"], &reply["id"], &reply["offset"]),
                    (&json!("ACK"), &json!(number), &json!(number))
                );
            }
        }
    });
    assert!(redis.cli(&["INFO", "errorstats"]).contains("errorstat_NOSCRIPT"), "the scripts were missed");
}

/// Where the one has loaded the script that the other misses, what was sent first might come after what was sent later.
#[test]
fn two_instances_keep_the_order_of_each_sender() {
    let redis = Redis::start();
    let [one, two] = instances(&redis);
    let (mut member, _) = join(&one, ROOM);
    let senders = [&one, &two].map(Client::connect);
    let stored: Vec<Vec<u64>> = thread::scope(|scope| {
        let sending = senders.map(|mut sender| {
            scope.spawn(move || {
                let mut stored = Vec::new();
                for first in (1..=MESSAGES).step_by(100) {
                    for number in first..first + 100 {
                        sender
                            .send_json(&json!({"type": "SEND_MESSAGE", "room": ROOM, "message": number, "id": number}));
                    }
                    let replies = (first..first + 100).map(|_| sender.recv_json());
                    // An overtaken message is refused, and nothing else is.
                    stored.extend(replies.filter_map(|reply| match reply["type"].as_str() {
                        Some("ACK") => Some(reply["offset"].as_u64().expect("an offset")),
                        _ => {
                            assert_eq!(reply["code"], "broker_unavailable", "{reply}");
                            None
                        }
                    }));
                }
                stored
            })
        });
        for _ in 0..40 {
            redis.cli(&["SCRIPT", "FLUSH"]);
        }
        sending.map(|thread| thread.join().expect("it is answered")).into()
    });
    assert!(stored.iter().all(|offsets| offsets.is_sorted()), "each sender's order is kept");
    let mut all = stored.concat();
    all.sort_unstable();
    assert_eq!(all, (1..=all.len() as u64).collect::<Vec<_>>(), "each has an offset of its own");
    assert!(all.len() as u64 > MESSAGES);
    assert!(redis.cli(&["INFO", "errorstats"]).contains("errorstat_NOSCRIPT"), "the scripts were missed");
    for number in 1..=all.len() as u64 {
        assert_eq!(hear(&mut member, ROOM).0, number);
    }
}
