//! What is stored and read on the publisher's connection, and a Redis that has forgotten the scripts.

use std::time::Duration;

use super::*;
use crate::broker::redis::Names;
use crate::broker::redis::history::Script as Lua;
use crate::broker::{ReadId, Store};
use crate::history::{IdempotencyKey, Part, Query, Retention};

const RETENTION: Retention = Retention { messages_max: 10, bytes_max: 1_000, age_max: Duration::from_secs(60) };
const NOSCRIPT: &[u8] = b"-NOSCRIPT No matching script. Please use EVAL.\r\n";

fn config() -> RedisConfig {
    RedisConfig { keeps_history: true, ..RedisConfig::default() }
}

/// What Redis replies to a `SCRIPT LOAD` of each script.
pub(super) fn names() -> Vec<u8> {
    Lua::of(&Names::plain("")).iter().flat_map(|script| format!("$40\r\n{}\r\n", script.sha1()).into_bytes()).collect()
}

/// Both connections up; what the scripts' loading is answered.
fn up(config: RedisConfig, loads: &[u8]) -> Script {
    let mut script = Script::new(config);
    script.connect(Role::Subscriber);
    script.open(Role::Publisher);
    script.session.connected(link(Role::Publisher), script.now);
    let said = script.sent(Role::Publisher);
    let asked =
        Lua::of(&Names::plain("")).map(|script| vec!["SCRIPT".to_owned(), "LOAD".into(), script.source().into()]);
    assert!(said.ends_with(&[&asked[..], &[vec!["INFO".into(), "memory".into()]]].concat()));
    script.hear(Role::Publisher, &[HELLO_REPLY, MASTER, PONG, loads, MEMORY].concat());
    assert_eq!(script.events(), ["up", "publisher up"]);
    script
}

impl Script {
    fn store(&mut self, room: &str, id: u64) {
        let store = Store { retention: &RETENTION, key: None, removes: None };
        self.session.store(room, format!("m{id}").as_bytes(), &store, 0, Some(PublishId::new(id)));
    }

    fn read(&mut self, id: u64) {
        let query = Query { part: Part::Newest, messages_max: u32::MAX, bytes_max: u64::MAX };
        self.session.read("r", query, RETENTION, ReadId::new(id));
    }

    /// What was said on the publisher's connection: stores by their payloads, everything else by its first word.
    fn said(&mut self) -> Vec<String> {
        let word = |command: Vec<String>| match command[0].as_str() {
            "EVALSHA" if command[1] == Lua::Store.sha1() => command[11].clone(),
            "EVALSHA" => "read".to_owned(),
            "SCRIPT" => "load".to_owned(),
            "PUBLISH" => command[2].clone(),
            other => other.to_owned(),
        };
        self.sent(Role::Publisher).into_iter().map(word).collect()
    }

    fn hears(&mut self, parts: &[&[u8]]) {
        self.hear(Role::Publisher, &parts.concat());
    }
}

#[test]
fn without_histories_nothing_more_is_said_and_nothing_stored() {
    let mut script = Script::up(RedisConfig::default());
    script.store("r", 1);
    script.read(2);
    assert!(script.sent(Role::Publisher).is_empty());
    assert_eq!(script.events(), ["not published 1: NotStored", "not read 2, false"]);
}

#[test]
fn only_the_publisher_loads_scripts() {
    let mut script = Script::new(config());
    script.open(Role::Subscriber);
    script.session.connected(link(Role::Subscriber), script.now);
    assert_eq!(script.sent(Role::Subscriber).last().unwrap(), &["PING"]);
}

#[test]
fn stores_and_reads_have_their_place_among_publishes() {
    let mut script = up(config(), &names());
    script.publish(1);
    script.store("r", 2);
    script.read(3);
    script.session.publish("r", b"plain", Some(PublishId::new(4)));
    assert_eq!(script.session.stats().publishes_in_flight, 3);
    assert_eq!(script.said(), ["m", "m2", "read", "plain"]);
    script.hears(&[b":1\r\n", &stored_at(1), PAGE, b":1\r\n"]);
    let events = script.events();
    assert!(events[2].starts_with("read 3: Page"), "{events:?}");
    assert_eq!([&events[0], &events[1], &events[3]], ["published 1", "published 2", "published 4"]);
    assert_eq!(script.session.stats().publishes_in_flight, 0);
    assert_eq!(script.session.take_complaint(), None);
}

#[test]
fn a_store_says_where_it_is_and_epochs_are_drawn_anew() {
    let mut script = up(RedisConfig { seed: 7, ..config() }, &names());
    let mut other = up(RedisConfig { seed: 8, ..config() }, &names());
    let key = IdempotencyKey { text: "k", digest: 1, age_max: Duration::from_secs(1), keys_max: 5 };
    let mut drawn = Vec::new();
    for script in [&mut script, &mut other] {
        for key in [None, Some(key)] {
            script.session.store("r", b"m", &Store { retention: &RETENTION, key, removes: None }, 0, None);
        }
        script.read(1);
        let places = [5, 7, 5];
        drawn.extend(script.sent(Role::Publisher).into_iter().zip(places).map(|(command, at)| command[at].clone()));
    }
    drawn.sort();
    drawn.dedup();
    assert_eq!(drawn.len(), 6, "{drawn:?}");
    assert!(drawn.iter().all(|drawn| drawn.len() == 16), "{drawn:?}");
}

#[test]
fn stores_are_bounded_with_publishes() {
    let mut script = up(RedisConfig { publishes_in_flight_max: 2, ..config() }, &names());
    script.store("r", 1);
    script.publish(2);
    script.store("r", 3);
    script.publish(4);
    assert_eq!(script.events(), ["not published 3: Busy", "not published 4: Busy"]);
}

#[test]
fn stores_are_bounded_in_bytes_until_they_are_made() {
    let mut script = up(RedisConfig { buffer_bytes_max: 4_000, ..config() }, &names());
    let fill = |script: &mut Script| {
        for id in 1..=9 {
            let store = Store { retention: &RETENTION, key: None, removes: None };
            script.session.store("r", &[b'x'; 900], &store, 0, Some(PublishId::new(id)));
        }
        9 - script.events().iter().filter(|event| event.ends_with("Busy")).count()
    };
    let taken = fill(&mut script);
    assert!((1..=4).contains(&taken), "{taken}");
    assert_eq!((script.said().len(), fill(&mut script)), (taken, 0), "written is not answered");
    script.hears(&[&NOSCRIPT.repeat(taken)]);
    assert_eq!(fill(&mut script), 0, "nor is what has to be repeated");
    assert_eq!(script.said().len(), 2 + taken);
    script.hears(&[&names(), &stored_at(1).repeat(taken)]);
    assert_eq!((script.events().len(), fill(&mut script)), (taken, taken));
}

#[test]
fn a_page_may_be_large_where_there_are_histories() {
    let payload = vec![b'x'; 400 * 1024];
    let entry =
        |id: &str| [format!("${}\r\n{id}\r\n${}\r\n", id.len(), payload.len()).as_bytes(), &payload, b"\r\n"].concat();
    let page = [
        b"*9\r\n$18\r\n1-00000000000000ff\r\n:1\r\n:1\r\n$5\r\nexact\r\n:0\r\n:1000\r\n:0\r\n".to_vec(),
        entry("1-1000"),
    ]
    .concat();
    let mut script = up(config(), &names());
    script.read(1);
    assert_eq!(script.said(), ["read"]);
    script.hears(&[&page[..300_000]]);
    script.hears(&[&page[300_000..]]);
    assert!(script.events()[0].starts_with("read 1"));
    // The other connection has no use for that.
    script.hear(Role::Subscriber, b"$400000\r\n");
    assert!(script.events()[0].starts_with("down: broke the protocol"));
}

#[test]
fn scripts_that_cannot_be_loaded_are_told_of_once_and_tried_again() {
    let refused = b"-NOPERM this user has no permissions to run the 'script|load' command\r\n".repeat(2);
    let mut script = up(config(), &refused);
    script.store("r", 1);
    script.read(2);
    script.publish(3);
    assert_eq!(script.said(), ["m"], "everything else goes on");
    assert_eq!(script.events(), ["not published 1: NotStored", "not read 2, false"]);
    let complaint = script.session.take_complaint().expect("it is told");
    assert!(complaint.starts_with("SCRIPT LOAD refused: its ACL"), "{complaint}");
    script.hears(&[b":1\r\n"]);

    let probed = |script: &mut Script| {
        script.wait(Duration::from_secs(5));
        script.sent(Role::Subscriber);
        script.hear(Role::Subscriber, PONG);
        assert_eq!(script.said(), ["load", "load", "ROLE"]);
    };
    probed(&mut script);
    // The other one alone is of no use.
    let (one, other) = (&refused[..refused.len() / 2], &names()[names().len() / 2..]);
    script.hears(&[one, other, MASTER]);
    assert_eq!(script.session.take_complaint(), None, "once");
    script.store("r", 4);
    probed(&mut script);
    script.hears(&[&names(), MASTER]);
    script.store("r", 5);
    assert_eq!(script.said(), ["m5"]);
    script.hears(&[&stored_at(1)]);
    assert_eq!(script.events(), ["published 3", "not published 4: NotStored", "published 5"]);
}

#[test]
fn a_script_of_another_name_is_none() {
    let other = format!("$40\r\n{}\r\n", "0".repeat(40)).into_bytes();
    let mut script = up(config(), &[&names()[..names().len() / 2], &other].concat());
    script.store("r", 1);
    assert_eq!(script.events(), ["not published 1: NotStored"]);
    assert!(script.session.take_complaint().is_some_and(|complaint| complaint.contains("something else")));
}

/// What is complained of once the connection is set up again, where `INFO memory` is answered with this.
fn complaint_with(script: &mut Script, memory: &[u8]) -> Option<String> {
    script.session.disconnected(link(Role::Publisher), "it closed the connection", script.now);
    script.open(Role::Publisher);
    script.session.connected(link(Role::Publisher), script.now);
    script.sent(Role::Publisher);
    script.hear(Role::Publisher, &[HELLO_REPLY, MASTER, PONG, &names(), memory].concat());
    assert_eq!(script.events().last().map(String::as_str), Some("publisher up"));
    let complaint = script.session.take_complaint();
    assert_eq!(script.session.take_complaint(), None);
    complaint
}

#[test]
fn a_redis_that_may_evict_histories_is_complained_of_until_it_may_not() {
    let mut script = up(config(), &names());
    assert_eq!(script.session.take_complaint(), None);
    let lru = b"$47\r\nmaxmemory:1048576\r\nmaxmemory_policy:allkeys-lru\r\n";
    // As RESP3 has it.
    let ttl = b"=52\r\ntxt:maxmemory:1048576\r\nmaxmemory_policy:volatile-ttl\r\n";
    for (memory, policy) in [(&lru[..], Some("allkeys-lru")), (lru, None), (ttl, Some("volatile-ttl")), (MEMORY, None)]
    {
        let complaint = complaint_with(&mut script, memory);
        let told = complaint.as_deref().map(|complaint| policy.is_some_and(|policy| complaint.contains(policy)));
        assert_eq!(told, policy.map(|_| true), "{complaint:?}");
    }
    assert!(complaint_with(&mut script, ttl).is_some());
}

#[test]
fn who_does_not_tell_whether_it_evicts_is_taken_as_it_is() {
    for memory in [
        &b"-NOPERM this user has no permissions to run the 'info' command\r\n"[..],
        b"-ERR unknown command 'INFO'\r\n",
        b"-BUSY running a script\r\n",
        b"$0\r\n\r\n",
        b"$-1\r\n",
        b"+OK\r\n",
        b"*0\r\n",
        b"$28\r\nmaxmemory_policy:allkeys-lru\r\n",
    ] {
        let mut script = up(config(), &names());
        assert_eq!(complaint_with(&mut script, memory), None, "{}", memory.escape_ascii());
        script.store("r", 1);
        assert_eq!(script.said(), ["m1"]);
    }
}

#[test]
fn who_refuses_scripts_for_a_while_is_not_up() {
    let mut script = Script::new(config());
    script.open(Role::Publisher);
    script.session.connected(link(Role::Publisher), script.now);
    script.sent(Role::Publisher);
    script.hear(Role::Publisher, &[HELLO_REPLY, MASTER, PONG, b"-BUSY x\r\n"].concat());
    let events = script.events();
    assert!(events.last().unwrap().starts_with("publisher down: SCRIPT LOAD refused"), "{events:?}");
}

#[test]
fn what_was_refused_without_the_scripts_is_repeated_before_anything_new() {
    let mut script = up(config(), &names());
    for id in 1..=3 {
        script.store("r", id);
    }
    script.read(4);
    script.publish(5);
    assert_eq!(script.said(), ["m1", "m2", "m3", "read", "m"]);
    script.hears(&[&stored_at(1), NOSCRIPT]);
    script.store("r", 6);
    script.publish(7);
    script.read(8);
    assert!(script.said().is_empty(), "not before all is answered");
    script.hears(&[NOSCRIPT, NOSCRIPT]);
    assert!(script.said().is_empty());
    script.hears(&[b":1\r\n"]);
    assert_eq!(script.said(), ["load", "load", "m2", "m3", "read", "m6", "m", "read"]);
    assert_eq!(script.session.stats().publishes_in_flight, 4);
    script.hears(&[&names(), &stored_at(2), &stored_at(3), PAGE, &stored_at(4), b":1\r\n", PAGE]);
    let events: Vec<String> =
        script.events().into_iter().map(|event| event.split(':').next().unwrap().to_owned()).collect();
    let expected =
        ["published 1", "published 5", "published 2", "published 3", "read 4", "published 6", "published 7", "read 8"];
    assert_eq!(events, expected);
    assert_eq!((script.session.stats().publishes_in_flight, script.session.take_complaint()), (0, None));
}

/// The last that is waited for may be a probe.
#[test]
fn a_probe_holds_up_no_repetition() {
    let mut script = up(config(), &names());
    script.store("r", 1);
    script.wait(Duration::from_secs(5));
    assert_eq!(script.said(), ["m1", "ROLE"]);
    script.hears(&[NOSCRIPT]);
    assert!(script.said().is_empty());
    script.hears(&[MASTER]);
    assert_eq!(script.said(), ["load", "load", "m1"]);
}

/// Somebody else has loaded the script in between.
#[test]
fn what_was_overtaken_by_a_store_of_its_room_is_not_made_after_it() {
    let mut script = up(config(), &names());
    for (room, id) in [("r", 1), ("other", 2), ("r", 3), ("r", 4)] {
        script.store(room, id);
    }
    script.said();
    script.hears(&[NOSCRIPT, NOSCRIPT, &stored_at(1)]);
    assert_eq!(script.events(), ["not published 1: Unavailable", "published 3"]);
    script.hears(&[NOSCRIPT]);
    assert_eq!(script.said(), ["load", "load", "m2", "m4"]);
    script.hears(&[&names(), &stored_at(1), &stored_at(2)]);
    assert_eq!(script.events(), ["published 2", "published 4"]);
    assert_eq!(script.session.stats().publishes_in_flight, 0);
}

#[test]
fn a_lost_connection_tells_which_stores_were_surely_not_made() {
    let mut script = up(config(), &names());
    for id in 1..=3 {
        script.store("r", id);
    }
    script.read(9);
    script.said();
    script.hears(&[NOSCRIPT]);
    script.store("r", 4);
    script.session.disconnected(link(Role::Publisher), "reset", script.now);
    assert_eq!(
        script.events(),
        [
            "not published 1: Unavailable",
            "not published 2: Unconfirmed",
            "not published 3: Unconfirmed",
            "not published 4: Unavailable",
            "publisher down: reset"
        ]
    );
    assert_eq!(script.session.stats().publishes_in_flight, 0);
    script.store("r", 5);
    script.read(6);
    assert_eq!(script.events(), ["not published 5: Unavailable", "not read 6, true"]);
}

/// A proxy that asks now one Redis and now another.
#[test]
fn scripts_that_are_forgotten_again_and_again_are_given_up() {
    let mut script = up(config(), &names());
    script.store("r", 1);
    script.said();
    for _ in 0..3 {
        script.hears(&[NOSCRIPT]);
        assert_eq!(script.said(), ["load", "load", "m1"]);
        script.hears(&[&names()]);
    }
    script.hears(&[NOSCRIPT]);
    assert_eq!(script.events(), ["not published 1: NotStored"]);
    assert!(script.session.take_complaint().is_some_and(|complaint| complaint.contains("just been given")));
    assert!(script.said().is_empty());
    script.wait(Duration::from_secs(5));
    assert_eq!(script.said(), ["load", "load", "ROLE"]);
    script.hears(&[&names(), MASTER]);
    script.store("r", 2);
    script.said();
    script.hears(&[NOSCRIPT]);
    assert_eq!(script.said(), ["load", "load", "m2"]);
}

#[test]
fn scripts_may_be_refused_when_they_are_loaded_again() {
    let mut script = up(config(), &names());
    script.store("r", 1);
    script.said();
    script.hears(&[NOSCRIPT]);
    script.store("r", 2);
    assert_eq!(script.said(), ["load", "load", "m1", "m2"]);
    script.hears(&[b"-NOPERM no\r\n-NOPERM no\r\n", NOSCRIPT, NOSCRIPT]);
    assert_eq!(script.events(), ["not published 1: NotStored", "not published 2: NotStored"]);
    assert!(script.said().is_empty());
}

#[test]
fn errors_of_scripts_are_told_as_what_they_are() {
    // The error, what becomes of a store, whether a read is worth asking again, whether the log is told, the link's state.
    let cases: [(&str, &str, bool, bool, LinkState); 11] = [
        ("OOM command not allowed", "Unavailable", true, true, LinkState::Up),
        ("ERR Error running script (call to f_1): @user_script:1: -OOM no", "Unavailable", true, true, LinkState::Up),
        ("MISCONF Redis is configured", "Unavailable", true, true, LinkState::Up),
        ("NOREPLICAS Not enough", "Unavailable", true, true, LinkState::Up),
        ("BUSY Redis is busy", "Unavailable", true, false, LinkState::Refusing),
        ("LOADING Redis is", "Unavailable", true, false, LinkState::Refusing),
        ("NOHISTORY INFO is refused", "NotStored", false, true, LinkState::Up),
        ("KEYREUSED the key", "KeyReused", false, false, LinkState::Up),
        ("NOMESSAGE there is none", "NoMessage", false, false, LinkState::Up),
        ("EPOCHUNKNOWN another", "EpochUnknown", false, false, LinkState::Up),
        ("WRONGTYPE Operation", "Refused", false, true, LinkState::Up),
    ];
    for (error, outcome, passes, is_told, state) in cases {
        let mut script = up(config(), &names());
        script.store("r", 1);
        script.read(2);
        script.said();
        script.hears(&[format!("-{error}\r\n").repeat(2).as_bytes()]);
        let events = script.events();
        assert_eq!(events[..2], [format!("not published 1: {outcome}"), format!("not read 2, {passes}")], "{error}");
        assert_eq!(script.session.take_complaint().is_some(), is_told, "{error}");
        assert_eq!(script.session.stats().publisher.state, state, "{error}");
    }
}

#[test]
fn a_script_that_meets_a_replica_ends_both_connections() {
    let mut script = up(config(), &names());
    script.store("r", 1);
    script.said();
    script.hears(&[b"-READONLY You can't write against a read only replica.\r\n"]);
    let events = script.events();
    assert_eq!(events[0], "not published 1: Unavailable");
    assert!(events.iter().filter(|event| event.contains("it is a replica")).count() == 2, "{events:?}");
}

#[test]
fn what_is_stored_and_not_announced_is_published_and_an_alarm() {
    let mut script = up(config(), &names());
    for id in 1..=2 {
        script.store("r", id);
    }
    script.said();
    let reply = |offset, announced, trouble: &str| {
        let trouble = format!("${}\r\n{trouble}\r\n", trouble.len());
        format!("*6\r\n$18\r\n1-00000000000000ff\r\n:{offset}\r\n:1\r\n:1000\r\n:{announced}\r\n{trouble}").into_bytes()
    };
    script.hears(&[&reply(1, 0, "PUBLISH: NOPERM"), &reply(2, 1, "PEXPIRE: NOPERM")]);
    assert_eq!(script.events(), ["published 1", "published 2"]);
    assert_eq!(script.session.stats().unannounced, 1);
    let complaint = script.session.take_complaint();
    assert_eq!(complaint.as_deref(), Some("a message was stored and could not be announced: PUBLISH: NOPERM"));
    assert_eq!(script.session.take_complaint(), None);
}

/// Somebody else's data, which break no connection.
#[test]
fn a_page_that_is_none_fails_and_what_is_no_list_ends_the_connection() {
    let mut script = up(config(), &names());
    script.read(1);
    script.store("r", 2);
    script.read(3);
    script.store("r", 4);
    script.said();
    script.hears(&[b"*1\r\n:1\r\n", b"*1\r\n:1\r\n", b"+QUEUED\r\n"]);
    let reason = "publisher down: a script was answered with something else than a list";
    assert_eq!(
        script.events(),
        ["not read 1, false", "not published 2: Unconfirmed", "not published 4: Unconfirmed", reason]
    );
}
