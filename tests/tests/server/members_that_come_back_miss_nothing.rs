//! Messages of rooms with history reach members once and in order, although a link breaks, theirs or the instance's.

use std::thread;

use fanfare_tests::stored::{Place, hear, instances, join, resume, store};
use fanfare_tests::{Client, Redis};
use serde_json::json;

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
