//! Presence: what an instance says of its users and its lease, and what it does about those of others. The scripts themselves run in a real
//! Redis in `tests/tests/core`.

use std::fmt::Write as _;
use std::time::Duration;

use sha1::{Digest as _, Sha1};

use super::*;
use crate::broker::redis::presence::commands::Script as Lua;
use crate::broker::{Ask, PresenceId};

const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const LEASE: Duration = Duration::from_secs(9);

fn config() -> RedisConfig {
    let far = Duration::from_secs(10_000);
    RedisConfig {
        keeps_presence: true,
        presence_lease: LEASE,
        about: "{}".to_owned(),
        probe_interval: far,
        ..RedisConfig::default()
    }
}

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

/// What Redis replies to `present`.
fn kept(connections: u32, rooms: u64, replid: &str) -> Vec<u8> {
    format!("*6\r\n:{connections}\r\n:1\r\n:{rooms}\r\n{}:1\r\n{}", bulk(replid), bulk("")).into_bytes()
}

/// The same to `renew`, where these dead incarnations are taken on.
fn renewed(is_kept: bool, replid: &str, taken: &[&str]) -> Vec<u8> {
    let names: String = taken.iter().map(|name| bulk(name)).collect();
    let head = format!("*7\r\n:{}\r\n:1000\r\n{}*{}\r\n{names}", u8::from(is_kept), bulk(replid), taken.len());
    format!("{head}{}{}{}", bulk("00000000000000ff"), bulk("2000"), bulk("{\"version\":\"1\"}")).into_bytes()
}

/// The same to `check`, where these incarnations have anybody.
fn checked(is_there: bool, replid: &str, tellers: &[&str]) -> Vec<u8> {
    let names: String = tellers.iter().map(|name| bulk(name)).collect();
    format!("*3\r\n:{}\r\n{}*{}\r\n{names}", u8::from(is_there), bulk(replid), tellers.len()).into_bytes()
}

fn loads() -> Vec<u8> {
    Lua::of(&Names::plain("")).iter().flat_map(|script| bulk(script.sha1()).into_bytes()).collect()
}

impl Script {
    /// The publisher's connection comes up, and what is said at once.
    fn publisher_up(&mut self) -> Vec<Vec<String>> {
        self.open(Role::Publisher);
        self.session.connected(link(Role::Publisher), self.now);
        let said = self.sent(Role::Publisher);
        assert_eq!(said.iter().filter(|command| command[0] == "SCRIPT").count(), 6);
        self.hear(Role::Publisher, &[HELLO_REPLY, MASTER, PONG, &loads(), MEMORY].concat());
        self.told()
    }

    fn told(&mut self) -> Vec<Vec<String>> {
        let script = |sha1: &str| Lua::ALL.into_iter().find(|script| script.sha1() == sha1).expect("one of presence");
        let said = self.sent(Role::Publisher).into_iter().filter(|command| command[0] == "EVALSHA");
        said.map(|command| [&[format!("{:?}", script(&command[1]))], &command[3..]].concat()).collect()
    }

    fn kinds(&mut self) -> Vec<String> {
        self.told().into_iter().map(|command| command[0].clone()).collect()
    }

    fn present(&mut self, id: u64, connections: u32) {
        let (user, info, id) = ("bob", "1", PresenceId::new(id));
        self.session.ask(Ask::Present { room: "r", user, info, connections, id });
    }

    fn replies(&mut self, replies: &[Vec<u8>]) -> Vec<String> {
        self.hear(Role::Publisher, &replies.concat());
        self.events()
    }

    /// One that has its lease, by this Redis.
    fn leased(replid: &str) -> (Script, String) {
        let mut script = Script::new(config());
        script.connect(Role::Subscriber);
        let said = script.publisher_up();
        assert_eq!(said.len(), 1);
        let renew = &said[0];
        assert_eq!(renew[..4], ["Renew", "fanfare:\u{1}instances", "fanfare:\u{1}dead", "fanfare:\u{1}about"]);
        assert_eq!(renew[5..], ["9000", "{}", "1", "4", "0", "", "0"]);
        let incarnation = renew[4].clone();
        assert_eq!(script.replies(&[renewed(true, replid, &[])]), ["up", "publisher up"]);
        // For its first lease it looks for those who have none.
        let checked = || checked(false, replid, &[&incarnation]);
        assert_eq!(script.kinds(), ["Check"]);
        script.replies(&[checked()]);
        for _ in 0..3 {
            script.wait(LEASE / 3);
            assert_eq!(script.kinds(), ["Renew", "Check"]);
            script.replies(&[renewed(true, replid, &[]), checked()]);
        }
        (script, incarnation)
    }
}

#[test]
fn scripts_are_called_by_their_digest() {
    for script in Lua::ALL {
        let digest = Sha1::digest(script.source()).iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        assert_eq!(script.sha1(), digest, "{script:?}");
    }
}

#[test]
fn without_presence_nothing_is_said_and_nothing_kept() {
    let mut script = Script::up(RedisConfig::default());
    script.present(1, 1);
    script.session.ask(Ask::Roster { room: "r", from: 0, id: PresenceId::new(2) });
    assert!(script.sent(Role::Publisher).is_empty());
    assert_eq!(script.events(), ["not kept 1, false", "not kept 2, false"]);
    assert_eq!(script.session.stats().presence_incarnations, 0);
}

#[test]
fn who_comes_is_told_under_a_lease_and_not_before() {
    let mut script = Script::new(config());
    script.connect(Role::Subscriber);
    script.present(1, 1);
    assert_eq!(script.events(), ["up", "not kept 1, true"], "there is no connection");
    assert_eq!(script.publisher_up().len(), 1);
    script.present(2, 1);
    assert!(script.told().is_empty(), "there is no lease");
    assert_eq!(script.replies(&[renewed(true, A, &[])]), ["publisher up"]);
    let said = script.told();
    let of = |place: usize| said[0][place].strip_prefix("fanfare:").unwrap();
    assert_eq!([of(1), of(2)], ["\u{1}present:r", "\u{1}changes:r"]);
    assert_eq!([of(4).rsplit_once(':').unwrap().0, of(6)], ["\u{1}rooms", "\u{1}tellers"]);
    assert_eq!(said[0][8..13], ["fanfare:\u{1}presence:r", "r", "bob", "1", "1"]);
    assert!(said[0][4].ends_with(&said[0][13]), "it says who tells: {said:?}");
    assert_eq!(script.replies(&[kept(3, 1, A)]), ["kept 2: 3"]);
    let instances = script.session.take_instances().map(<[_]>::to_vec).expect("they are told");
    assert_eq!((instances.len(), instances[0].until_ms, &*instances[0].about), (1, 2000, "{\"version\":\"1\"}"));
    assert_eq!(script.session.take_instances(), None, "once");
}

#[test]
fn a_lease_is_renewed_three_times_as_often_as_it_would_run_out() {
    let (mut script, incarnation) = Script::leased(A);
    script.wait(LEASE / 3 - Duration::from_millis(1));
    assert!(script.told().is_empty());
    script.wait(Duration::from_millis(1));
    let said = script.told();
    assert_eq!([&said[0][0], &said[0][4], &said[0][7]], ["Renew", &incarnation, "0"]);
    assert!(script.replies(&[renewed(true, A, &[])]).is_empty());
}

#[test]
fn a_lease_is_renewed_while_messages_are_left_unread() {
    let probe_interval = Duration::from_secs(1);
    let mut script = Script::new(RedisConfig { probe_interval, ..config() });
    script.connect(Role::Subscriber);
    script.publisher_up();
    script.replies(&[renewed(true, A, &[])]);
    script.session.leave_unread(true);
    for _ in 0..6 {
        script.wait(LEASE / 3);
        let said = script.sent(Role::Publisher);
        assert!(said.iter().any(|words| words.get(1).is_some_and(|sha1| sha1 == Lua::Renew.sha1())), "{said:?}");
        let replies = said.iter().map(|words| match &words[0][..] {
            "EVALSHA" if words[1] == Lua::Renew.sha1() => renewed(true, A, &[]),
            "EVALSHA" => checked(false, A, &[]),
            _ => MASTER.to_vec(),
        });
        let replies: Vec<Vec<u8>> = replies.collect();
        assert!(script.replies(&replies).is_empty());
        assert!(script.sent(Role::Subscriber).is_empty(), "it is not asked for a sign of life");
    }
    assert_eq!(script.session.stats().subscriber.state, LinkState::Up);
    assert_eq!(script.session.stats().presence_incarnations, 1);
}

#[test]
fn whoever_was_held_up_for_a_lease_begins_anew_before_anything_else() {
    let (mut script, incarnation) = Script::leased(A);
    script.present(1, 1);
    assert_eq!(script.kinds(), ["Present"]);
    script.wait(LEASE);
    script.present(2, 1);
    let said = script.told();
    assert_eq!((said.len(), &said[0][0][..]), (1, "Renew"));
    assert_ne!(said[0][4], incarnation);
    assert_eq!([&said[0][7], said[0].last().unwrap()], ["1", &incarnation], "the old one is given up");
    let events = script.replies(&[kept(1, 1, A), renewed(true, A, &[])]);
    assert_eq!(events, ["presence lost"], "nothing is answered that was told before");
    assert_eq!((script.kinds().len(), script.session.stats().presence_incarnations), (1, 2));
}

#[test]
fn a_renewal_that_finds_no_lease_and_a_word_of_death_begin_anew() {
    for is_dead in [false, true] {
        let (mut script, incarnation) = Script::leased(A);
        script.present(1, 1);
        script.told();
        script.replies(&[kept(1, 1, A)]);
        let events = match is_dead {
            true => {
                script.present(2, 2);
                script.told();
                script.replies(&[b"-GONE the incarnation is dead\r\n".to_vec()])
            }
            false => {
                script.wait(LEASE / 3);
                script.told();
                script.replies(&[renewed(false, A, &[])])
            }
        };
        assert_eq!(events, ["presence lost"]);
        let said = script.told();
        assert_eq!((&said[0][0][..], &said[0][7][..], said[0].last()), ("Renew", "1", Some(&incarnation)));
    }
}

#[test]
fn another_redis_may_have_forgotten_and_the_same_is_believed() {
    for (then, is_there, is_lost) in [(A, true, false), (B, true, true), (A, false, true)] {
        let (mut script, _) = Script::leased(A);
        script.present(1, 1);
        script.told();
        assert_eq!(script.replies(&[kept(1, 1, A)]), ["kept 1: 1"]);
        script.session.disconnected(link(Role::Publisher), "end of file", script.now);
        assert_eq!(script.events(), ["publisher down: end of file"]);
        let said: Vec<String> = script.publisher_up().into_iter().map(|command| command[0].clone()).collect();
        assert_eq!(said, ["Renew", "Check"]);
        // The renewal already tells which Redis it is.
        let events = script.replies(&[renewed(true, then, &[]), checked(is_there, then, &[])]);
        let expected: &[&str] = if is_lost { &["publisher up", "presence lost"] } else { &["publisher up"] };
        assert_eq!(events, expected);
    }
}

#[test]
fn what_may_be_done_later_than_what_is_told_anew_is_left_to_an_incarnation_that_is_no_more() {
    let (mut script, incarnation) = Script::leased(A);
    script.present(1, 1);
    script.told();
    script.session.disconnected(link(Role::Publisher), "end of file", script.now);
    assert_eq!(script.events(), ["publisher down: end of file", "presence lost"]);
    let said = script.publisher_up();
    assert_eq!((said.len(), &said[0][0][..], &said[0][7][..]), (1, "Renew", "1"), "a lease of its own");
    assert_eq!(said[0].last(), Some(&incarnation));
    assert_ne!(said[0][4], incarnation);
    assert_eq!(script.replies(&[renewed(true, A, &[])]), ["publisher up"]);
    script.present(2, 1);
    // Who has ever told anything there is looked at as well, because a connection came up.
    let told = script.told();
    let present = told.iter().find(|command| command[0] == "Present").expect("it is told anew");
    assert_eq!(present[3], format!("fanfare:\u{1}at:{}:r", said[0][4]));
}

#[test]
fn what_was_answered_before_the_connections_end_and_not_told_is_void() {
    let (mut script, _) = Script::leased(A);
    script.present(1, 1);
    script.told();
    let events = script.replies(&[kept(1, 1, A), b"$-5\r\n".to_vec()]);
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(events[0].starts_with("publisher down"), "{events:?}");
}

#[test]
fn the_dead_are_cleared_up_after() {
    let (mut script, _) = Script::leased(A);
    let dead = "00000000000000dd";
    script.wait(LEASE / 3);
    script.told();
    script.replies(&[renewed(true, A, &[dead])]);
    let said = script.told();
    let gone = ["Gone", "fanfare:\u{1}gone:00000000000000dd", "fanfare:\u{1}rooms:00000000000000dd"];
    assert_eq!((said.len(), &said[0][..3]), (1, &gone.map(str::to_owned)[..]));
    script.replies(&[format!("*1\r\n{}", bulk("r")).into_bytes()]);
    let left = |is_more: u8| format!("*5\r\n:{is_more}\r\n:0\r\n{}:1\r\n{}", bulk(A), bulk("")).into_bytes();
    for is_more in [1, 0] {
        let said = script.told();
        assert_eq!((&said[0][0][..], &said[0][3][..]), ("Leave", "fanfare:\u{1}at:00000000000000dd:r"));
        script.replies(&[left(is_more)]);
    }
    assert_eq!(script.kinds(), ["Gone"]);
    script.replies(&[b"*0\r\n".to_vec()]);
    script.wait(LEASE / 3);
    let said = script.told();
    assert_eq!(said[0][8..], ["4", "1", A, "0", dead]);
    script.replies(&[renewed(true, A, &[])]);
    script.wait(LEASE / 3);
    assert_eq!(script.told()[0][8..], ["4", "0", A, "0"]);
}

#[test]
fn what_was_cleared_up_in_a_redis_that_is_no_more_is_not_told_the_next_one() {
    let (mut script, _) = Script::leased(A);
    let dead = "00000000000000dd";
    script.wait(LEASE / 3);
    script.told();
    script.replies(&[renewed(true, A, &[dead])]);
    assert_eq!(script.kinds(), ["Gone"]);
    script.wait(LEASE / 3);
    assert_eq!(script.kinds(), ["Renew"]);
    // That it has nobody in any room is told before it is known that this is another Redis.
    script.replies(&[b"*0\r\n".to_vec(), renewed(true, B, &[])]);
    script.wait(LEASE / 3);
    let said = script.told();
    let renew = said.iter().find(|command| command[0] == "Renew");
    assert_eq!(renew.map(|renew| &renew[8..]), Some(&["4", "0", B, "0"].map(str::to_owned)[..]));
}

#[test]
fn no_more_is_asked_for_the_dead_than_a_few_at_a_time() {
    let (mut script, _) = Script::leased(A);
    script.wait(LEASE / 3);
    script.told();
    let dead = ["00000000000000d1", "00000000000000d2"];
    script.replies(&[renewed(true, A, &dead)]);
    assert_eq!(script.kinds(), ["Gone", "Gone"]);
    let rooms: String = (0..60).map(|room| bulk(&format!("r{room}"))).collect();
    let rooms = format!("*60\r\n{rooms}").into_bytes();
    script.replies(&[rooms.clone(), rooms]);
    assert_eq!(script.kinds().len(), 64);
}

#[test]
fn who_has_users_and_no_lease_is_named_to_redis_until_nobody_has() {
    let (mut script, own) = Script::leased(A);
    let (listed, stranger) = ("00000000000000ff", "00000000000000ee");
    script.session.disconnected(link(Role::Publisher), "end of file", script.now);
    script.publisher_up();
    // The renewal is under way that tells who has a lease.
    script.replies(&[renewed(true, A, &[]), checked(false, A, &[&own, listed, stranger])]);
    let said = script.told();
    assert_eq!(said[0][8..], ["4", "0", A, "0", stranger], "at once");
    script.replies(&[renewed(true, A, &[])]);
    let mut named: &[&str] = &[];
    for tellers in [&[stranger] as &[&str], &[]] {
        for names in [named, &[]] {
            script.wait(LEASE / 3);
            let said = script.told();
            assert_eq!(
                (said.len(), &said[0][12..]),
                (1, &names.iter().map(ToString::to_string).collect::<Vec<_>>()[..])
            );
            script.replies(&[renewed(true, A, &[])]);
        }
        script.wait(LEASE / 3);
        assert_eq!(script.kinds(), ["Renew", "Check"], "a lease later it is looked again");
        script.replies(&[renewed(true, A, &[]), checked(false, A, tellers)]);
        named = tellers;
    }
    script.wait(LEASE / 3);
    assert_eq!(script.told()[0][8..], ["4", "0", A, "0"]);
}

#[test]
fn where_leases_may_be_lost_all_is_looked_at_for_one_more() {
    // Another Redis, and one that has lost the own lease.
    for (is_kept, replid) in [(true, B), (false, A)] {
        let (mut script, _) = Script::leased(A);
        script.wait(LEASE / 3);
        assert_eq!(script.kinds(), ["Renew"]);
        script.replies(&[renewed(is_kept, replid, &[])]);
        if !is_kept {
            assert_eq!(script.kinds(), ["Renew"], "under another name, and before anything is looked at");
            script.replies(&[renewed(true, replid, &[])]);
        }
        assert_eq!(script.kinds(), ["Check"]);
        for _ in 0..3 {
            script.replies(&[checked(false, replid, &[])]);
            script.wait(LEASE / 3);
            assert_eq!(script.kinds(), ["Renew", "Check"]);
            script.replies(&[renewed(true, replid, &[])]);
        }
        script.replies(&[checked(false, replid, &[])]);
        script.wait(LEASE / 3);
        assert_eq!(script.kinds(), ["Renew"]);
    }
}

#[test]
fn what_cannot_be_cleared_up_is_told_to_the_log_once_and_left_to_whoever_redis_names_it_to() {
    let (mut script, _) = Script::leased(A);
    let dead = "00000000000000dd";
    for _ in 0..3 {
        script.wait(LEASE / 3);
        assert_eq!(script.told()[0][8..], ["4", "0", A, "0"], "nothing is cleared up");
        script.replies(&[renewed(true, A, &[dead])]);
        assert_eq!(script.kinds(), ["Gone"]);
        script.replies(&[b"-NOPERM this user has no permissions to run the 'set' command\r\n".to_vec()]);
        let hurried = script.told();
        assert_eq!((hurried.len(), &hurried[0][8..]), (1, &["4", "0", A, "0"].map(str::to_owned)[..]));
        script.replies(&[renewed(true, A, &[])]);
        assert!(script.told().is_empty());
    }
    assert!(script.session.take_presence_complaint().is_some_and(|complaint| complaint.starts_with("its ACL")));
    assert_eq!(script.session.take_presence_complaint(), None);
}

#[test]
fn the_dead_that_are_held_up_keep_nobody_from_taking_on_others() {
    let (mut script, _) = Script::leased(A);
    script.wait(LEASE / 3);
    script.told();
    let dead = ["00000000000000d1", "00000000000000d2", "00000000000000d3", "00000000000000d4"];
    script.replies(&[renewed(true, A, &dead)]);
    assert_eq!(script.kinds(), ["Gone"; 4]);
    let busy = b"-BUSY Redis is busy running a script.\r\n".repeat(4);
    script.replies(&[busy]);
    script.wait(LEASE / 3);
    let said = script.told();
    let renew = said.iter().find(|command| command[0] == "Renew").expect("it is renewed");
    assert_eq!(renew[8..], ["4", "0", A, "0"]);
}

#[test]
fn what_redis_refuses_fails_and_the_log_hears_of_it_once() {
    let (mut script, _) = Script::leased(A);
    for (error, passes) in [
        ("OOM command not allowed when used memory > 'maxmemory'.", true),
        ("NOPERM this user has no permissions to run the 'hset' command", false),
        ("NOPRESENCE INFO tells no replication id", false),
    ] {
        script.present(1, 1);
        script.told();
        assert_eq!(script.replies(&[format!("-{error}\r\n").into_bytes()]), [format!("not kept 1, {passes}")]);
    }
    assert!(script.session.take_presence_complaint().is_some_and(|complaint| complaint.starts_with("OOM")));
    assert_eq!((script.session.take_presence_complaint(), script.session.take_complaint()), (None, None));
}

#[test]
fn scripts_that_were_forgotten_are_loaded_and_what_was_refused_is_repeated() {
    let (mut script, _) = Script::leased(A);
    script.present(1, 1);
    script.told();
    script.replies(&[b"-NOSCRIPT No matching script. Please use EVAL.\r\n".to_vec()]);
    let said = script.sent(Role::Publisher);
    let words: Vec<&str> = said.iter().map(|command| &command[0][..]).collect();
    assert_eq!(words, ["SCRIPT", "SCRIPT", "SCRIPT", "SCRIPT", "SCRIPT", "SCRIPT", "EVALSHA"]);
    assert_eq!(script.replies(&[loads(), kept(1, 1, A)]), ["kept 1: 1"]);
}

#[test]
fn a_roster_is_read_in_parts() {
    let (mut script, _) = Script::leased(A);
    script.session.ask(Ask::Roster { room: "r", from: 7, id: PresenceId::new(1) });
    let said = script.told();
    assert_eq!((&said[0][0][..], &said[0][5..]), ("Roster", &["7".to_owned(), "500".to_owned()][..]));
    let user = format!("{}{}", bulk("bob"), bulk("2 {\"a b\":1}"));
    let page = format!("*7\r\n{}:3\r\n:1\r\n{}{}{user}", bulk("00000000000000ee"), bulk("12"), bulk(A));
    let events = script.replies(&[page.into_bytes()]);
    let expected = "roster 1: RosterPage { version: Version { epoch: 238, number: 3 }, total: 1, users: [Present { user: \"bob\", \
                    connections: 2, info: \"{\\\"a b\\\":1}\" }], next: Some(12) }";
    assert_eq!(events, [expected]);
}

#[test]
fn an_instance_that_ends_gives_its_lease_back_behind_what_it_has_told() {
    let (mut script, incarnation) = Script::leased(A);
    script.present(1, 1);
    script.session.give_back(Duration::from_secs(5));
    let said = script.told();
    assert_eq!((said.len(), &said[0][0][..]), (2, "Present"));
    // It is dead, and left alone for so long.
    assert_eq!(said[1][..1], ["Renew"]);
    assert_eq!(said[1][4..], [&incarnation, "5000", "{}", "0", "0", "0", "", "1", &incarnation]);
    assert_eq!(script.session.stats().publishes_in_flight, 1);
    script.session.give_back(Duration::ZERO);
    assert_eq!(script.replies(&[kept(1, 1, A)]), ["kept 1: 1"]);
    assert_eq!(script.session.stats().publishes_in_flight, 1);
    assert!(script.replies(&[renewed(true, A, &[])]).is_empty());
    assert_eq!(script.session.stats().publishes_in_flight, 0);
    // It is not renewed any more, nor is it lost.
    script.wait(3 * LEASE);
    assert!(script.kinds().is_empty() && script.events().is_empty());
}

#[test]
fn a_lease_is_given_back_after_a_lease_at_most_and_where_there_is_one() {
    let (mut script, _) = Script::leased(A);
    script.session.give_back(100 * LEASE);
    assert_eq!(script.told()[0][5], "9000");
    script.session.disconnected(link(Role::Publisher), "gone", script.now);
    assert_eq!(script.session.stats().publishes_in_flight, 0, "nobody waits for an answer that cannot come");
    let mut script = Script::new(config());
    script.session.give_back(LEASE);
    assert_eq!(script.session.stats().publishes_in_flight, 0);
}

/// Nobody would know that its users are gone.
#[test]
fn an_instance_that_ends_without_a_lease_tells_of_nobody() {
    let (mut script, _) = Script::leased(A);
    script.present(1, 1);
    script.told();
    script.replies(&[kept(1, 1, A)]);
    script.wait(LEASE / 3);
    script.told();
    assert_eq!(script.replies(&[renewed(false, A, &[])]), ["presence lost"]);
    script.session.give_back(LEASE);
    script.present(2, 1);
    assert_eq!(script.kinds(), ["Renew"], "it had been asked for before");
    assert_eq!(script.events(), ["not kept 2, true"]);
}
