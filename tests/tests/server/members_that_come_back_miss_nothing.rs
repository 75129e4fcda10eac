//! Messages of rooms with history reach members once and in order, although a link breaks, theirs or the instance's.

use std::collections::BTreeMap;
use std::thread;

use fanfare_tests::stored::{Place, hear, instances, join, launch, resume, store};
use fanfare_tests::{Client, Redis};
use serde_json::{Value, json};

const ROOM: &str = "long:a";
const MESSAGES: u64 = 1_500;

#[test]
fn who_comes_back_at_another_instance_misses_nothing() {
    let redis = Redis::start();
    let servers = instances::<2>(&redis);
    let servers = &servers;
    let (mut client, mut seen) = join(&servers[0], ROOM);
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut sender = Client::connect(&servers[0]);
            (1..=MESSAGES).for_each(|number| assert_eq!(store(&mut sender, ROOM, number).offset, number));
        });
        let mut visits = 0;
        while seen.offset < MESSAGES {
            for _ in 0..50.min(MESSAGES - seen.offset) {
                let (offset, message) = hear(&mut client, ROOM);
                assert_eq!((offset, message), (seen.offset + 1, json!(offset)));
                seen.offset = offset;
            }
            visits += 1;
            let (again, place, recovered) = resume(&servers[visits % 2], ROOM, &seen);
            assert_eq!((place, recovered), (seen.clone(), true));
            client = again;
        }
        assert!(visits > 20);
    });
}

#[test]
fn a_subscriber_that_is_cut_off_has_read_what_came_meanwhile() {
    const CUTS: u64 = 10;
    let redis = Redis::start();
    let servers = instances::<2>(&redis);
    let mut members: Vec<(Client, Place)> =
        servers.iter().flat_map(|server| [join(server, ROOM), join(server, ROOM)]).collect();
    thread::scope(|scope| {
        let (servers, redis) = (&servers, &redis);
        scope.spawn(move || {
            let mut sender = Client::connect(&servers[0]);
            for number in 1..=MESSAGES {
                assert_eq!(store(&mut sender, ROOM, number).offset, number);
                if number.is_multiple_of(MESSAGES / CUTS) {
                    redis.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]);
                }
            }
        });
        for (member, _) in &mut members {
            scope.spawn(move || {
                (1..=MESSAGES).for_each(|number| assert_eq!(hear(member, ROOM), (number, json!(number))));
            });
        }
    });
    for server in &servers {
        assert!(server.metrics().value("fanfare_broker_reconnects_total") >= 1.0);
    }
}

/// Either connection of an instance, and what Redis knows of scripts. Whoever is told that a message may not be stored sends it again, under
/// the same key.
#[test]
fn whatever_breaks_each_message_is_stored_once_and_heard_once() {
    const AT_ONCE: u64 = 50;
    let redis = Redis::start();
    // How many it takes until one is not confirmed nobody knows.
    let [server, two] = [0, 1].map(|_| launch(&redis.url()).flag("--limits-messages-per-second", 0).start());
    let (mut member, _) = join(&server, ROOM);
    let (mut far, _) = join(&two, ROOM);
    let (redis, server) = (&redis, &server);
    let stored = thread::scope(|scope| {
        let sending = scope.spawn(move || {
            let mut sender = Client::connect(server);
            let (mut stored, mut unsaid, mut next, mut unconfirmed) = (BTreeMap::new(), Vec::new(), 1, 0);
            while next <= MESSAGES || unconfirmed == 0 || !unsaid.is_empty() {
                let first = next;
                next += AT_ONCE - unsaid.len() as u64;
                unsaid.extend(first..next);
                for number in &unsaid {
                    let key = format!("a key that is long enough {number}");
                    let message =
                        json!({"type": "SEND_MESSAGE", "room": ROOM, "message": number, "id": number, "key": key});
                    sender.send_json(&message);
                }
                let replies: Vec<Value> = unsaid.drain(..).map(|_| sender.recv_json()).collect();
                for reply in replies {
                    let number = reply["id"].as_u64().expect("its id");
                    match reply["code"].as_str() {
                        None => assert_eq!(stored.insert(Place::of(&reply).offset, number), None, "{reply}"),
                        Some(code @ ("unconfirmed" | "broker_unavailable")) => {
                            unconfirmed += u64::from(code == "unconfirmed");
                            unsaid.push(number);
                        }
                        Some(_) => panic!("{reply}"),
                    }
                }
                server.wait_until_ready();
            }
            stored
        });
        while !sending.is_finished() {
            server.wait_until_ready();
            redis.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]);
            redis.cli(&["SCRIPT", "FLUSH"]);
            server.wait_until_ready();
            redis.cli(&["SCRIPT", "FLUSH"]);
            redis.cli(&["CLIENT", "KILL", "TYPE", "normal"]);
        }
        sending.join().expect("all is stored")
    });
    assert!(stored.keys().copied().eq(1..=stored.len() as u64), "each has an offset of its own");
    for (offset, number) in stored {
        assert_eq!(hear(&mut member, ROOM), (offset, json!(number)));
        assert_eq!(hear(&mut far, ROOM), (offset, json!(number)));
    }
}
