//! Histories of rooms in a Redis that refuses, loses data, or is replaced by its replica.

use std::time::Duration;

use fanfare_core::broker::redis::Names;
use fanfare_core::broker::redis::history::Room;
use fanfare_core::history::{Continuity, IdempotencyKey, Page, Part, Position, Query, Removal, Remove, Retention};
use fanfare_tests::{Failure, HistoryLink, Redis, Reply, eventually};

const DAY: Duration = Duration::from_secs(24 * 3_600);

const ROOM: Room<'_> = Room {
    names: Names::plain("test:"),
    name: "room",
    retention: Retention { messages_max: 100, bytes_max: 10_000, age_max: DAY },
    meta_age_max: Duration::from_secs(30 * 24 * 3_600),
};

const KEY: IdempotencyKey<'_> = IdempotencyKey { text: "key", digest: 7, age_max: DAY, keys_max: 100 };

const PASSWORD: &str = "secret";

fn stored(link: &mut HistoryLink, payload: &str) -> Position {
    let kept = link.store(&ROOM, 1, None, payload.as_bytes()).expect("it is stored");
    assert!(kept.at.is_new && kept.is_announced && kept.trouble.is_empty(), "{kept:?}");
    kept.at.position
}

fn page(link: &mut HistoryLink, part: Part) -> Page {
    let query = Query { part, messages_max: 100, bytes_max: 1_000_000 };
    link.read(&ROOM, 9, &query).expect("a page").page
}

fn payloads(page: &Page) -> Vec<String> {
    page.entries.iter().map(|entry| String::from_utf8_lossy(&entry.payload).into_owned()).collect()
}

fn integer(redis: &Redis, command: &[&str]) -> i64 {
    let parts: Vec<&[u8]> = command.iter().map(|part| part.as_bytes()).collect();
    match redis.connect().command(&parts) {
        Reply::Integer(number) => number,
        other => panic!("{command:?}: {other:?}"),
    }
}

/// All that there is, as Redis would write it to a disk.
fn dump(redis: &Redis) -> Vec<Reply> {
    let mut connection = redis.connect();
    let kinds = ["meta", "log", "keys0", "keys1"].map(|kind| format!("test:\u{1}{kind}:room"));
    kinds.iter().map(|key| connection.command(&[b"DUMP", key.as_bytes()])).collect()
}

#[test]
fn a_store_without_memory_changes_nothing() {
    let redis = Redis::start();
    let mut link = HistoryLink::connect(&redis, None);
    for is_first in [true, false] {
        let before = dump(&redis);
        redis.cli(&["CONFIG", "SET", "maxmemory", "1"]);
        let refused = link.store(&ROOM, 1, Some(&KEY), b"too much");
        assert!(matches!(&refused, Err(Failure::Refused(error)) if error.contains("OOM")), "{refused:?}");
        assert_eq!(dump(&redis), before);
        redis.cli(&["CONFIG", "SET", "maxmemory", "0"]);
        if is_first {
            assert_eq!(stored(&mut link, "first").offset, 1);
        }
    }
    let kept = link.store(&ROOM, 1, Some(&KEY), b"second").expect("it is stored");
    assert_eq!((kept.at.position.offset, kept.at.is_new), (2, true));
}

/// Whether a user may not do something, in the words that Redis has for it when a script does it. Each version has its own.
fn is_denied(error: &str) -> bool {
    ["NOPERM", "The user executing the script can't", "ACL failure in script"].iter().any(|words| error.contains(words))
}

/// A Redis with one user more, and the link of that user.
fn restricted(rules: &str) -> (Redis, HistoryLink) {
    let redis = Redis::launch().user("app", PASSWORD, rules).start();
    let link = HistoryLink::connect(&redis, Some(["app", PASSWORD]));
    (redis, link)
}

#[test]
fn what_may_not_be_published_is_stored_and_not_announced() {
    let (_redis, mut link) = restricted("~* resetchannels &other:* +@all");
    let kept = link.store(&ROOM, 1, Some(&KEY), b"quiet").expect("it is stored");
    assert!(!kept.is_announced && kept.at.is_new, "{kept:?}");
    assert!(kept.trouble.starts_with("PUBLISH: ") && is_denied(&kept.trouble), "{kept:?}");
    assert_eq!(payloads(&page(&mut link, Part::Newest)), ["quiet"]);
    let again = link.store(&ROOM, 1, Some(&KEY), b"quiet").expect("it is known");
    assert_eq!((again.at.position, again.at.is_new), (kept.at.position, false));
}

#[test]
fn what_fails_beside_a_store_is_told() {
    let (redis, mut link) = restricted("~* &* +@all");
    stored(&mut link, "a");
    redis.cli(&["ACL", "SETUSER", "app", "-pexpire"]);
    let mut listener = redis.listen("test:room");
    let kept = link.store(&ROOM, 1, Some(&KEY), b"b").expect("it is stored");
    assert!(kept.at.is_new && kept.is_announced && kept.trouble.starts_with("PEXPIRE: "), "{kept:?}");
    assert_eq!(listener.next_message(), format!("F2 {} 2 b", kept.at.position.epoch).into_bytes());
}

#[test]
fn a_removal_that_is_refused_changes_nothing() {
    let (redis, mut link) = restricted("~* &* +@all -xdel");
    for payload in ["a", "b"] {
        stored(&mut link, payload);
    }
    let before = dump(&redis);
    let one = Remove { what: Removal::One(1), epoch: None };
    let refused = link.remove(&ROOM, 1, &one);
    assert!(matches!(&refused, Err(Failure::Refused(error)) if is_denied(error)), "{refused:?}");
    assert_eq!(dump(&redis), before);
    redis.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    let refused = link.remove(&ROOM, 1, &Remove { what: Removal::All, epoch: None });
    assert!(matches!(&refused, Err(Failure::Refused(error)) if error.contains("OOM")), "{refused:?}");
    assert_eq!(dump(&redis), before);
    redis.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    redis.cli(&["ACL", "SETUSER", "app", "+xdel"]);
    assert_eq!(link.remove(&ROOM, 1, &one).expect("it is removed").at.position.offset, 3);
    assert_eq!(payloads(&page(&mut link, Part::Newest)), ["b", "REMOVED 1"]);
}

#[test]
fn an_epoch_begins_wholly_or_not_at_all() {
    for command in ["pexpire", "del"] {
        let (redis, mut link) = restricted(&format!("~* &* +@all -{command}"));
        redis.cli(&["XADD", "test:\u{1}log:room", "9-9", "payload", "of an epoch that nobody knows"]);
        for _ in 0..2 {
            let refused = link.store(&ROOM, 1, None, b"x");
            assert!(matches!(&refused, Err(Failure::Refused(error)) if is_denied(error)), "{refused:?}");
        }
        redis.cli(&["ACL", "SETUSER", "app", "+@all"]);
        assert_eq!(stored(&mut link, "x").offset, 1);
        assert_eq!(payloads(&page(&mut link, Part::Newest)), ["x"]);
    }
}

#[test]
fn an_append_that_is_refused_takes_no_offset() {
    let redis = Redis::launch().user("app", PASSWORD, "~* &* +@all").start();
    let mut link = HistoryLink::connect(&redis, Some(["app", PASSWORD]));
    assert_eq!(stored(&mut link, "a").offset, 1);
    redis.cli(&["ACL", "SETUSER", "app", "-xadd"]);
    let before = dump(&redis);
    let refused = link.store(&ROOM, 1, None, b"b");
    assert!(matches!(&refused, Err(Failure::Refused(error)) if is_denied(error)), "{refused:?}");
    assert_eq!(dump(&redis), before);
    redis.cli(&["ACL", "SETUSER", "app", "+xadd"]);
    assert_eq!(stored(&mut link, "c").offset, 2);
    assert_eq!(payloads(&page(&mut link, Part::Newest)), ["a", "c"]);
}

#[test]
fn without_a_replication_id_there_is_no_history() {
    let (redis, mut link) = restricted("~* &* +@all -info");
    let query = Query { part: Part::Newest, messages_max: 1, bytes_max: 1 };
    let refused = [link.store(&ROOM, 1, None, b"x").map(|_| ()), link.read(&ROOM, 1, &query).map(|_| ())];
    for refused in refused {
        assert!(matches!(&refused, Err(Failure::Unavailable(why)) if is_denied(why)), "{refused:?}");
    }
    assert_eq!(integer(&redis, &["DBSIZE"]), 0);
}

#[test]
fn keys_of_another_type_are_left_alone() {
    let redis = Redis::start();
    let mut link = HistoryLink::connect(&redis, None);
    for kind in ["meta", "log", "keys0", "keys1"] {
        let key = format!("test:\u{1}{kind}:room");
        redis.cli(&["SET", &key, "somebody's"]);
        let refused = link.store(&ROOM, 1, Some(&KEY), b"x");
        assert!(matches!(&refused, Err(Failure::Refused(error)) if error.contains("WRONGTYPE")), "{refused:?}");
        assert_eq!(redis.cli(&["GET", &key]), "somebody's");
        assert_eq!(integer(&redis, &["DBSIZE"]), 1);
        redis.cli(&["DEL", &key]);
    }
}

#[test]
fn a_script_that_redis_has_forgotten_is_loaded_and_asked_again() {
    let redis = Redis::start();
    let mut link = HistoryLink::connect(&redis, None);
    redis.cli(&["SCRIPT", "FLUSH"]);
    assert_eq!(link.store(&ROOM, 1, None, b"x"), Err(Failure::NoScript));
    let mut link = HistoryLink::connect(&redis, None);
    assert_eq!(stored(&mut link, "x").offset, 1);
}

#[test]
fn everything_expires_and_the_position_last() {
    let redis = Redis::start();
    let mut link = HistoryLink::connect(&redis, None);
    link.store(&ROOM, 1, Some(&KEY), b"x").expect("it is stored");
    let ttl = |kind: &str| integer(&redis, &["TTL", &format!("test:\u{1}{kind}:room")]);
    let days = |count: i64| count * 24 * 3_600;
    assert!(ttl("log") > days(1) && ttl("log") < days(2));
    assert!(ttl("keys0") > days(2) && ttl("keys0") < days(3));
    assert!(ttl("keys1") > days(2) && ttl("keys1") < days(3));
    assert!(ttl("meta") >= ttl("log") + days(30) && ttl("meta") < days(32));
    // A longer retention is heeded at the next store.
    let longer = Room { retention: Retention { age_max: 3 * DAY, ..ROOM.retention }, ..ROOM };
    link.store(&longer, 1, None, b"x").expect("it is stored");
    assert!(ttl("log") > days(3) && ttl("meta") >= ttl("log") + days(30));
    // A stream that begins anew has its time, too.
    redis.cli(&["DEL", "test:\u{1}log:room"]);
    link.store(&longer, 1, None, b"x").expect("it is stored");
    assert!(ttl("log") > days(3));
}

#[test]
fn a_replica_that_takes_over_fences_what_it_has_not_seen() {
    let [master, replica] = [Redis::start(), Redis::start()];
    let mut link = HistoryLink::connect(&master, None);
    let mut link_to_replica = HistoryLink::connect(&replica, None);
    replica.cli(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]);
    // A replica that begins to follow may have been told to before there was anything; the script's effects come one by one.
    eventually("the replica follows", || {
        replica.cli(&["INFO", "replication"]).contains("link_status:up").then_some(())
    });
    for payload in ["a", "b"] {
        link.store(&ROOM, 1, Some(&IdempotencyKey { text: payload, ..KEY }), payload.as_bytes()).expect("it is stored");
    }
    let seen = page(&mut link, Part::Newest).last;
    eventually("the replica has it all", || (dump(&replica) == dump(&master)).then_some(()));
    // A replica can be read; it has the incarnation of its master.
    assert_eq!(page(&mut link_to_replica, Part::Newest), page(&mut link, Part::Newest));

    replica.cli(&["REPLICAOF", "NO", "ONE"]);
    let lost = stored(&mut link, "lost");
    let fenced = page(&mut link_to_replica, Part::After(lost));
    assert_eq!(fenced.continuity, Continuity::Fenced(seen.offset));
    assert_eq!((fenced.last.offset, fenced.last.epoch.ordinal), (seen.offset, 2));
    let exact = page(&mut link_to_replica, Part::After(Position { offset: 1, ..seen }));
    assert_eq!((exact.continuity, payloads(&exact)), (Continuity::Exact, vec!["b".to_owned()]));
    let next = stored(&mut link_to_replica, "c");
    assert_eq!(next, Position { offset: lost.offset, epoch: fenced.last.epoch });
    assert_eq!(payloads(&page(&mut link_to_replica, Part::After(lost))), ["c"]);
    let known = link_to_replica.store(&ROOM, 1, Some(&IdempotencyKey { text: "b", ..KEY }), b"b").expect("it is known");
    assert_eq!((known.at.position, known.at.is_new), (seen, false));
}

#[test]
fn sixteen_ended_epochs_are_known() {
    let redis = Redis::start();
    let mut link = HistoryLink::connect(&redis, None);
    let first = stored(&mut link, "x");
    for ended in 1..=17 {
        redis.cli(&["REPLICAOF", "127.0.0.1", "1"]);
        redis.cli(&["REPLICAOF", "NO", "ONE"]);
        let expected = if ended <= 16 { Continuity::Exact } else { Continuity::Unknown };
        let found = page(&mut link, Part::After(first));
        assert_eq!((found.continuity, found.last.epoch.ordinal), (expected, ended + 1));
    }
}

#[test]
fn scripts_declare_every_key_and_keep_a_room_in_one_slot() {
    let redis = Redis::launch().directive("cluster-enabled yes").start();
    // One by one, because Redis 6.2 knows no ranges of slots.
    let slots: Vec<String> = (0..16_384).map(|slot| slot.to_string()).collect();
    let slots: Vec<&str> = ["CLUSTER", "ADDSLOTS"].into_iter().chain(slots.iter().map(String::as_str)).collect();
    redis.cli(&slots);
    eventually("the cluster is well", || redis.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok").then_some(()));
    let mut link = HistoryLink::connect(&redis, None);
    let room =
        Room { names: Names::plain("test:{7}:"), retention: Retention { messages_max: 1, ..ROOM.retention }, ..ROOM };
    for number in 1..=3 {
        let text = number.to_string();
        // Two generations, each of one key.
        let key = IdempotencyKey { text: &text, keys_max: 1, ..KEY };
        let kept = link.store(&room, 1, Some(&key), text.as_bytes()).expect("it is stored");
        assert_eq!((kept.at.position.offset, kept.is_announced, &kept.trouble[..]), (number, true, ""));
    }
    let query = Query { part: Part::Newest, messages_max: 10, bytes_max: 100 };
    assert_eq!(payloads(&link.read(&room, 1, &query).expect("a page").page), ["3"]);
    // Without a hash tag they are in several.
    let refused = link.store(&ROOM, 1, Some(&KEY), b"x");
    assert!(matches!(&refused, Err(Failure::Refused(error)) if error.starts_with("CROSSSLOT")), "{refused:?}");
}
