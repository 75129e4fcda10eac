//! `SCRIPT FLUSH` in the midst of everything: every message is stored once, in its sender's order.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use fanfare_core::broker::redis::history::Script;
use fanfare_tests::stored::{ask, hear, instances, join, launch, store};
use fanfare_tests::{Client, Redis, Server};
use serde_json::{Value, json};

use crate::redis_of_every_kind_is_understood::{LATER, serve};

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

/// An instance on a server that takes scripts, and answers the one that stores by how many such commands came before.
fn on_a_redis_that_says(answer: impl Fn(usize) -> String + Clone + Send + 'static) -> Server {
    let stores = Arc::<AtomicUsize>::default();
    let port = serve(move |command| match command {
        [script, load, source] if script == "SCRIPT" && load == "LOAD" => {
            let script = Script::ALL.into_iter().find(|script| script.source() == source).expect("one of both");
            format!("$40\r\n{}\r\n", script.sha1())
        }
        [eval, ..] if eval == "EVALSHA" => answer(stores.fetch_add(1, Ordering::Relaxed)),
        _ => String::new(),
    });
    launch(&format!("redis://127.0.0.1:{port}")).start()
}

const NOSCRIPT: &str = "-NOSCRIPT No matching script. Please use EVAL.\r\n";

fn stored_at(offset: usize) -> String {
    format!("*6\r\n$18\r\n1-00000000000000ff\r\n:{offset}\r\n:1\r\n:1000\r\n:1\r\n$0\r\n\r\n")
}

fn message(id: u64) -> Value {
    json!({"type": "SEND_MESSAGE", "room": ROOM, "message": id, "id": id})
}

#[test]
fn a_message_that_was_overtaken_is_refused() {
    let server = on_a_redis_that_says(|before| match before {
        // Another instance loads the script after that.
        0 => format!("{LATER}{NOSCRIPT}"),
        before => stored_at(before),
    });
    let mut client = Client::connect(&server);
    [1, 2].iter().for_each(|id| client.send_json(&message(*id)));
    let (first, second) = (client.recv_json(), client.recv_json());
    assert_eq!((&first["code"], &first["id"]), (&json!("broker_unavailable"), &json!(1)), "{first}");
    assert_eq!((&second["offset"], &second["id"]), (&json!(1), &json!(2)), "{second}");
    assert_eq!(store(&mut client, ROOM, 3).offset, 2, "the first was not stored after all");
}

#[test]
fn a_redis_that_never_knows_the_scripts_keeps_no_histories() {
    let server = on_a_redis_that_says(|_| NOSCRIPT.to_owned());
    let mut client = Client::connect(&server);
    client.send_json(&message(1));
    assert_eq!(client.recv_json()["code"], "history_unavailable");
    let log = server.wait_for_log("redis and the histories of rooms");
    assert!(log["reason"].as_str().is_some_and(|reason| reason.contains("does not know the scripts")), "{log}");
    client.publish_acknowledged("other", "1");
}
