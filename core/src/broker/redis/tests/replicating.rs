//! Stores that are acknowledged when replicas have them, on a connection of their own.

use std::time::Duration;

use super::storing::names;
use super::*;
use crate::broker::{Ask, Store};
use crate::history::Retention;

const RETENTION: Retention = Retention { messages_max: 10, bytes_max: 1_000, age_max: Duration::from_secs(60) };
const ROLE: Role = Role::DurablePublisher;

fn config() -> RedisConfig {
    RedisConfig { keeps_history: true, waits_for_replicas: true, ..RedisConfig::default() }
}

/// What the rest of the set-up is answered where histories are kept.
fn loaded() -> Vec<u8> {
    [&names()[..], MEMORY].concat()
}

fn up() -> Script {
    let mut script = Script::new(config());
    script.connect(Role::Subscriber);
    for role in [Role::Publisher, ROLE] {
        script.connect(role);
        script.hear(role, &loaded());
    }
    script
}

impl Script {
    fn store_for(&mut self, replicas_min: u16, id: u64) {
        let store = Store { retention: &RETENTION, key: None, removes: None };
        self.session.store("r", b"m", &store, replicas_min, Some(PublishId::new(id)));
    }

    /// What was said on the connection, each command by its first words.
    fn asked(&mut self, role: Role) -> Vec<String> {
        let words = |command: Vec<String>| match &*command[0] {
            "EVALSHA" => "store".to_owned(),
            "PUBLISH" => format!("publish {}", command[1]),
            "SCRIPT" => "load".to_owned(),
            _ => command.join(" ").to_lowercase(),
        };
        self.sent(role).into_iter().map(words).collect()
    }
}

#[test]
fn what_waits_for_replicas_has_a_connection_of_its_own() {
    let mut script = up();
    assert_eq!(script.events(), ["up", "publisher up"]);
    script.store_for(0, 1);
    script.store_for(2, 2);
    script.store_for(1, 3);
    script.session.ask(Ask::Publish { room: "r", payload: b"typing", store: None, replicas_min: 2, id: None });
    assert_eq!(script.asked(Role::Publisher), ["store"]);
    assert_eq!(script.asked(ROLE), ["store", "store", "publish fanfare:r", "wait 2 1000"]);
    script.hear(Role::Publisher, &stored_at(1));
    script.hear(ROLE, &[stored_at(2), stored_at(3), b":1\r\n".to_vec()].concat());
    assert_eq!(script.events(), ["published 1"]);
    script.hear(ROLE, b":2\r\n");
    assert_eq!(script.events(), ["published 2", "published 3"]);
    assert_eq!(script.session.stats().publishes_in_flight, 0);
}

#[test]
fn too_few_replicas_are_told_at_once_until_a_probe_finds_them() {
    let mut script = up();
    script.events();
    script.store_for(1, 1);
    assert_eq!(script.asked(ROLE), ["store", "wait 1 1000"]);
    script.hear(ROLE, &[stored_at(1), b":0\r\n".to_vec()].concat());
    assert_eq!(script.events(), ["not published 1: Unreplicated"]);
    let complaint = script.session.take_complaint().unwrap();
    assert!(complaint.starts_with("0 of 1 replicas have confirmed the last messages within 1000 ms"), "{complaint}");
    // Nobody waits any more.
    script.store_for(1, 2);
    assert_eq!(script.asked(ROLE), ["store"]);
    script.hear(ROLE, &stored_at(2));
    assert_eq!(script.events(), ["not published 2: Unreplicated"]);
    assert_eq!((script.session.take_complaint(), script.session.stats().unreplicated), (None, 2));
    script.wait(RedisConfig::default().probe_interval);
    script.store_for(1, 3);
    assert_eq!(script.asked(ROLE), ["role", "store", "wait 1 100"]);
    script.hear(ROLE, &[MASTER.to_vec(), stored_at(3), b":1\r\n".to_vec()].concat());
    assert_eq!(script.events(), ["published 3"]);
    script.store_for(1, 4);
    assert_eq!(script.asked(ROLE), ["store", "wait 1 1000"]);
}

#[test]
fn a_server_that_knows_no_wait_confirms_nothing() {
    let mut script = up();
    script.events();
    script.store_for(1, 1);
    script.asked(ROLE);
    script.hear(ROLE, &[stored_at(1), b"-ERR unknown command 'WAIT'\r\n".to_vec()].concat());
    assert_eq!(script.events(), ["not published 1: Unreplicated"]);
    let complaint = script.session.take_complaint().unwrap();
    assert!(complaint.contains("WAIT refused: ") && complaint.contains("unknown command"), "{complaint}");
}

#[test]
fn what_is_repeated_is_waited_for_as_well() {
    let mut script = up();
    script.events();
    script.store_for(1, 1);
    script.asked(ROLE);
    script.hear(ROLE, b"-NOSCRIPT No matching script.\r\n");
    // Nothing more is written until everything is answered.
    script.store_for(1, 2);
    assert_eq!(script.asked(ROLE), [""; 0]);
    script.hear(ROLE, b":1\r\n");
    assert_eq!(script.asked(ROLE), ["load", "load", "store", "store", "wait 1 1000"]);
    script.hear(ROLE, &[names(), stored_at(1), stored_at(2), b":1\r\n".to_vec()].concat());
    assert_eq!(script.events(), ["published 1", "published 2"]);
}

#[test]
fn when_its_connection_is_lost_others_go_on_and_what_waits_is_unconfirmed() {
    let mut script = up();
    script.events();
    [1, 2].into_iter().for_each(|id| script.store_for(1, id));
    script.asked(ROLE);
    script.hear(ROLE, &stored_at(1));
    script.session.disconnected(link(ROLE), "it closed the connection", script.now);
    assert_eq!(
        script.events(),
        ["not published 1: Unconfirmed", "not published 2: Unconfirmed", "refusing: it closed the connection"]
    );
    script.store_for(1, 3);
    script.store_for(0, 4);
    assert_eq!(script.asked(Role::Publisher), ["store"]);
    assert_eq!(script.events(), ["not published 3: Unavailable"]);
    script.connect(ROLE);
    assert_eq!(script.events(), [""; 0]);
    script.hear(ROLE, &loaded());
    assert_eq!(script.events(), ["willing"]);
}

#[test]
fn without_such_rooms_there_is_no_such_connection() {
    let mut script = Script::new(RedisConfig { waits_for_replicas: false, ..config() });
    let opened: Vec<Role> = script.requests().into_iter().map(|(role, _)| role).collect();
    assert_eq!(opened, [Role::Subscriber, Role::Publisher]);
    assert_eq!(script.session.stats().durable_publisher, None);
}

#[test]
fn links_count_from_0_without_holes_and_messages_come_on_one_of_them() {
    for waits_for_replicas in [false, true] {
        let session = RedisBroker::new(RedisConfig { waits_for_replicas, ..config() });
        let links: Vec<LinkId> = session.links().collect();
        assert!(links.iter().map(|link| link.index()).eq(0..if waits_for_replicas { 3 } else { 2 }));
        let receiving: Vec<LinkId> = links.iter().copied().filter(|link| session.receives(*link)).collect();
        assert_eq!(receiving, [link(Role::Subscriber)]);
    }
}

#[test]
fn however_many_turns_there_are_only_one_wait_is_unanswered() {
    let mut script = up();
    script.events();
    script.store_for(1, 1);
    assert_eq!(script.asked(ROLE), ["store", "wait 1 1000"]);
    for id in 2..=9 {
        script.store_for(1, id);
        assert_eq!(script.asked(ROLE), ["store"]);
    }
    // The first has had enough, and Redis runs all the others at once.
    let others: Vec<u8> = (2..=9).flat_map(stored_at).collect();
    script.hear(ROLE, &[stored_at(1), b":1\r\n".to_vec(), others].concat());
    assert_eq!(script.events(), ["published 1"]);
    assert_eq!(script.asked(ROLE), ["wait 1 1000"]);
    script.hear(ROLE, b":0\r\n");
    assert_eq!(script.events(), (2..=9).map(|id| format!("not published {id}: Unreplicated")).collect::<Vec<_>>());
    assert_eq!(script.session.stats().publishes_in_flight, 0);
}

#[test]
fn nobody_is_told_that_it_is_up_before_it_is_known_how_its_connection_stands() {
    let mut script = Script::new(config());
    script.connect(Role::Subscriber);
    script.connect(Role::Publisher);
    script.hear(Role::Publisher, &loaded());
    assert_eq!(script.events(), ["up"]);
    script.open(ROLE);
    script.session.disconnected(link(ROLE), "refused", script.now);
    assert_eq!(script.events(), ["publisher up", "refusing: refused"]);
    script.connect(ROLE);
    script.hear(ROLE, &loaded());
    assert_eq!(script.events(), ["willing"]);
}

/// As some proxy may; it must not pass for more replicas than there can be.
#[test]
fn fewer_replicas_than_none_are_none() {
    let mut script = up();
    script.events();
    script.store_for(1, 1);
    script.asked(ROLE);
    script.hear(ROLE, &[stored_at(1), b":-1\r\n".to_vec()].concat());
    assert_eq!(script.events(), ["not published 1: Unreplicated"]);
}

#[test]
fn a_publisher_that_goes_before_it_was_told_to_be_up_is_no_news() {
    let mut script = Script::new(config());
    for told in [&["publisher down: broken"][..], &[]] {
        script.connect(Role::Publisher);
        script.hear(Role::Publisher, &loaded());
        script.session.disconnected(link(Role::Publisher), "broken", script.now);
        // Nothing is known of the third connection yet.
        assert_eq!(script.events(), told);
    }
}
