//! The scripts that keep presence in Redis against `Rosters`, which keeps it in memory: the same calls, the same answers and changes. And what
//! only Redis has: leases, the dead, and errors.

use std::collections::BTreeMap;

use fanfare_core::broker::memory::Rosters;
use fanfare_core::broker::redis::Names;
use fanfare_core::broker::redis::presence::commands::{self, Done, Kind, Renewal};
use fanfare_core::broker::redis::presence::{Incarnation, Instance};
use fanfare_core::presence::{Change, Present, Version, name_of};
use fanfare_tests::{HistoryLink, Redis, Reply, RespConnection};
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestRunner};

const NAMES: Names<'_> = Names::plain("test:");
const USERS: [&str; 4] = ["bob", "a b\nü", "eve", "*"];
const INFOS: [&str; 3] = ["", "1", "{\"name\":\"B\n ob\"}"];
const LEASE_MS: u64 = 60_000;

#[derive(Clone, Debug)]
enum Step {
    Present {
        instance: u16,
        user: usize,
        info: usize,
        connections: u32,
    },
    Roster,
    /// An instance is dead, and its users are taken out. It goes on as another incarnation.
    Die(u16),
    /// Redis becomes a replica and then a master again.
    FailOver,
}

fn step() -> impl Strategy<Value = Step> {
    let present = (0..3_u16, 0..USERS.len(), 0..INFOS.len(), 0..4_u32);
    prop_oneof![
        12 => present.prop_map(|(instance, user, info, connections)| Step::Present { instance, user, info, connections }),
        3 => Just(Step::Roster),
        2 => (0..3_u16).prop_map(Step::Die),
        1 => Just(Step::FailOver),
    ]
}

/// A room of both.
struct Both<'a> {
    redis: &'a Redis,
    link: HistoryLink,
    listener: RespConnection,
    rosters: Rosters,
    room: String,
    incarnations: [u64; 3],
    drawn: u64,
    /// The last change heard of.
    version: Option<Version>,
    is_failed_over: bool,
}

impl<'a> Both<'a> {
    fn new(redis: &'a Redis, room: String) -> Both<'a> {
        let mut link = HistoryLink::connect(redis, None);
        link.load_presence();
        let listener = redis.listen(&NAMES.channel(&name_of(&room)));
        let seed = redis.cli(&["INCR", "test:counter"]).parse::<u64>().expect("a number") << 16;
        Both {
            redis,
            link,
            listener,
            rosters: Rosters::new(10_000, 1),
            room,
            incarnations: [seed, seed + 1, seed + 2],
            drawn: seed,
            version: None,
            is_failed_over: false,
        }
    }

    fn ask(&mut self, kind: Kind, write: impl FnOnce(&mut Vec<u8>, u64, &str)) -> Result<Done, TestCaseError> {
        self.drawn += 3;
        let mut command = Vec::new();
        write(&mut command, self.drawn, &self.room);
        self.link.presence(kind, &command).map_err(TestCaseError::fail)
    }

    fn run(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Present { instance, user, info, connections } => {
                let (user, info) = (USERS[user], INFOS[info]);
                let incarnation = Incarnation(self.incarnations[usize::from(instance)]);
                let done = self.ask(Kind::Present, |out, drawn, room| {
                    commands::present(out, &NAMES, (incarnation, drawn), (room, user, info), connections);
                })?;
                let mut out = Vec::new();
                let expected = self.rosters.set(instance, &self.room, (user, info), connections, &mut out);
                let Done::Present { connections, rooms, .. } = done else { panic!("{done:?}") };
                prop_assert_eq!(connections, expected);
                let tellers = self.tellers(incarnation, rooms > 0)?;
                prop_assert_eq!(tellers.contains(&incarnation), rooms > 0);
                if !out.is_empty() {
                    let expected = Change::parse(&out).expect("a change");
                    self.hears(expected.user, expected.info, (expected.total, expected.connections))?;
                }
            }
            Step::Roster => self.roster()?,
            Step::Die(instance) => self.die(instance)?,
            Step::FailOver => {
                self.redis.cli(&["REPLICAOF", "127.0.0.1", "1"]);
                self.redis.cli(&["REPLICAOF", "NO", "ONE"]);
                self.is_failed_over = true;
            }
        }
        Ok(())
    }

    /// The next change that is published is this, and has the next number.
    fn hears(&mut self, user: &str, info: &str, counts: (u32, u32)) -> Result<(), TestCaseError> {
        let payload = self.listener.next_message();
        let heard = Change::parse(&payload).expect("a change");
        prop_assert_eq!((heard.user, heard.info, (heard.total, heard.connections)), (user, info, counts));
        self.saw(heard.version, 1)
    }

    /// Versions count up by one with each change, and begin anew in another Redis.
    fn saw(&mut self, version: Version, changes: u64) -> Result<(), TestCaseError> {
        match self.version.replace(version) {
            Some(before) if !self.is_failed_over => {
                prop_assert_eq!(version, Version { number: before.number + changes, ..before });
            }
            before => {
                prop_assert_eq!(version.number, changes);
                prop_assert_ne!(before.map(|before| before.epoch), Some(version.epoch));
            }
        }
        self.is_failed_over = false;
        Ok(())
    }

    fn roster(&mut self) -> Result<(), TestCaseError> {
        let mut found = BTreeMap::new();
        let (mut from, mut is_first) = (0, true);
        loop {
            let done = self.ask(Kind::Roster, |out, drawn, room| commands::roster(out, &NAMES, drawn, room, from))?;
            let Done::Roster { page, .. } = done else { panic!("{done:?}") };
            let expected = self.rosters.read(&self.room);
            prop_assert_eq!(page.total, expected.total);
            if std::mem::take(&mut is_first) {
                self.saw(page.version, 0)?;
            }
            found.extend(page.users.into_iter().map(|present| (present.user.clone(), present)));
            let Some(next) = page.next else {
                let found: Vec<Present> = found.into_values().collect();
                prop_assert_eq!(found, expected.users);
                return Ok(());
            };
            from = next;
        }
    }

    fn die(&mut self, instance: u16) -> Result<(), TestCaseError> {
        let incarnation = Incarnation(self.incarnations[usize::from(instance)]);
        let gone = |both: &mut Both<'_>| {
            let done = both.ask(Kind::Gone, |out, _, _| commands::gone(out, &NAMES, incarnation, 0));
            done.map(|done| matches!(done, Done::Gone { rooms } if !rooms.is_empty()))
        };
        let mut expected = BTreeMap::new();
        for user in self.rosters.read(&self.room).users {
            let mut out = Vec::new();
            self.rosters.set(instance, &self.room, (&user.user, &user.info), 0, &mut out);
            if let Some(change) = Change::parse(&out) {
                expected.insert(user.user, (change.connections, change.info.to_owned()));
            }
        }
        while gone(self)? {
            let leave = |out: &mut Vec<u8>, drawn, room: &str| {
                commands::leave(out, &NAMES, (incarnation, drawn), room);
            };
            while self.ask(Kind::Leave, leave)? == (Done::Leave { is_more: true }) {}
        }
        // In any order.
        while !expected.is_empty() {
            let payload = self.listener.next_message();
            let heard = Change::parse(&payload).expect("a change");
            prop_assert_eq!(expected.remove(heard.user), Some((heard.connections, heard.info.to_owned())));
            self.saw(heard.version, 1)?;
        }
        let tellers = self.tellers(incarnation, false)?;
        prop_assert!(!tellers.contains(&incarnation));
        let mut command = Vec::new();
        commands::present(&mut command, &NAMES, (incarnation, 1), (&self.room, "bob", ""), 1);
        prop_assert_eq!(self.link.presence(Kind::Present, &command), Err("Gone".to_owned()));
        self.incarnations[usize::from(instance)] += 3;
        Ok(())
    }

    /// Who has anybody in any room, as is told to this incarnation, which has or has not.
    fn tellers(&mut self, asks: Incarnation, has: bool) -> Result<Vec<Incarnation>, TestCaseError> {
        let done = self.ask(Kind::Check, |out, _, _| commands::check(out, &NAMES, asks, 0))?;
        let Done::Check { is_there, tellers, .. } = done else { panic!("{done:?}") };
        prop_assert_eq!(is_there, has);
        Ok(tellers)
    }

    fn keys(&self) -> Vec<String> {
        let keys = self.redis.cli(&["KEYS", "*"]);
        let mut keys: Vec<String> = keys.lines().filter(|key| !key.contains("gone")).map(str::to_owned).collect();
        keys.sort();
        keys
    }
}

#[test]
fn whatever_happens_both_tell_the_same() {
    let redis = Redis::start();
    let config = ProptestConfig { cases: 60, ..ProptestConfig::default() };
    let steps = prop::collection::vec(step(), 1..50);
    TestRunner::new(config)
        .run(&steps, |steps| {
            let room = format!("r{}", redis.cli(&["INCR", "test:counter"]));
            let mut both = Both::new(&redis, room);
            steps.iter().try_for_each(|step| both.run(step))?;
            both.roster()?;
            (0..3).try_for_each(|instance| both.die(instance))?;
            both.roster()
        })
        .unwrap();
}

#[test]
fn a_room_of_many_is_read_and_left_in_parts_and_nothing_stays_behind() {
    let redis = Redis::start();
    let mut both = Both::new(&redis, "many".to_owned());
    for number in 0..1_300 {
        let (incarnation, user) = (Incarnation(both.incarnations[0]), format!("user {number}"));
        let done = both.ask(Kind::Present, |out, drawn, room| {
            commands::present(out, &NAMES, (incarnation, drawn), (room, &user, "{}"), 1);
        });
        assert!(matches!(done, Ok(Done::Present { connections: 1, rooms: 1, .. })), "{done:?}");
        let mut out = Vec::new();
        both.rosters.set(0, "many", (&user, "{}"), 1, &mut out);
        both.hears(&user, "{}", (number + 1, 1)).unwrap();
    }
    both.roster().unwrap();
    both.die(0).unwrap();
    both.roster().unwrap();
    assert_eq!(both.keys(), ["test:\u{1}changes:many", "test:counter"]);
    let ttl: i64 = redis.cli(&["TTL", "test:\u{1}changes:many"]).parse().unwrap();
    assert!((1..=86_400).contains(&ttl), "{ttl}");
}

/// What `renew` answers: whether the lease is kept, which dead are taken on, and all instances.
fn renew(link: &mut HistoryLink, renewal: Renewal<'_>) -> (bool, Vec<Incarnation>, Vec<Incarnation>) {
    let mut command = Vec::new();
    commands::renew(&mut command, &NAMES, &renewal);
    match link.presence(Kind::Renew, &command) {
        Ok(Done::Renew { is_kept, taken, instances, .. }) => {
            let of = |instance: Instance| {
                assert_eq!(&*instance.about, "{}");
                instance.incarnation
            };
            (is_kept, taken, instances.into_iter().map(of).collect())
        }
        other => panic!("{other:?}"),
    }
}

fn renewal(incarnation: u64) -> Renewal<'static> {
    Renewal {
        incarnation: Incarnation(incarnation),
        is_new: false,
        lease_ms: LEASE_MS,
        about: "{}",
        takes_max: 4,
        cleared: &[],
        handed_out_by: None,
        retired: &[],
        suspects: &[],
    }
}

#[test]
fn a_lease_is_kept_lost_and_cleared_up_after_by_one() {
    let redis = Redis::start();
    let mut link = HistoryLink::connect(&redis, None);
    link.load_presence();
    let [one, two] = [1, 2].map(Incarnation);
    assert_eq!(renew(&mut link, renewal(1)), (false, vec![], vec![]), "it is not listed");
    assert_eq!(renew(&mut link, Renewal { is_new: true, ..renewal(1) }), (true, vec![], vec![one]));
    assert_eq!(renew(&mut link, Renewal { is_new: true, ..renewal(2) }), (true, vec![], vec![one, two]));
    assert!(renew(&mut link, renewal(1)).0);
    let expire = |kind: &str, incarnation: Incarnation| {
        redis.cli(&["ZADD", &format!("test:\u{1}{kind}"), "XX", "1", &incarnation.to_string()]);
    };
    expire("instances", one);
    assert_eq!(renew(&mut link, renewal(2)), (true, vec![], vec![two]), "it is left alone for a while");
    assert_eq!(renew(&mut link, renewal(1)), (false, vec![], vec![two]));
    let as_new = Renewal { is_new: true, ..renewal(1) };
    assert_eq!(renew(&mut link, as_new), (false, vec![], vec![two]), "it was new once, and is dead");
    expire("dead", one);
    assert_eq!(renew(&mut link, Renewal { takes_max: 0, ..renewal(2) }).1, []);
    assert_eq!(renew(&mut link, renewal(2)).1, [one]);
    assert_eq!(renew(&mut link, renewal(2)).1, [], "it is taken on");
    let cleared = Renewal { cleared: &[one], handed_out_by: Some([b'0'; 40]), ..renewal(2) };
    renew(&mut link, cleared);
    assert_eq!(redis.cli(&["EXISTS", "test:\u{1}dead"]), "1", "another Redis may have lost that");
    let replid = redis.cli(&["INFO", "replication"]);
    let replid = replid.lines().find_map(|line| line.trim().strip_prefix("master_replid:")).unwrap().as_bytes();
    let cleared = Renewal { handed_out_by: replid.try_into().ok(), ..cleared };
    assert_eq!(renew(&mut link, cleared), (true, vec![], vec![two]));
    assert_eq!(redis.cli(&["EXISTS", "test:\u{1}dead"]), "0");
    let retired = renew(&mut link, Renewal { is_new: true, retired: &[two], ..renewal(3) });
    assert_eq!(retired, (true, vec![], vec![Incarnation(3)]));
    assert_eq!(redis.cli(&["ZCARD", "test:\u{1}dead"]), "1", "it is left alone for a lease");
    let dead_until = |incarnation: Incarnation| redis.cli(&["ZSCORE", "test:\u{1}dead", &incarnation.to_string()]);
    expire("dead", two);
    let named = [two, Incarnation(3), Incarnation(4)];
    assert_eq!(renew(&mut link, Renewal { takes_max: 0, suspects: &named, ..renewal(3) }).2, [Incarnation(3)]);
    assert_eq!([dead_until(two), dead_until(Incarnation(3))], ["1", ""], "one is known to be dead, and one to live");
    assert_ne!(dead_until(Incarnation(4)), "", "nobody knows of this one");
    assert_eq!(renew(&mut link, renewal(3)).1, [two], "and it is left alone for a lease");
}

#[test]
fn leases_begin_anew_in_another_redis() {
    let redis = Redis::start();
    let mut link = HistoryLink::connect(&redis, None);
    link.load_presence();
    for incarnation in [1, 2] {
        renew(&mut link, Renewal { is_new: true, ..renewal(incarnation) });
    }
    redis.cli(&["ZADD", "test:\u{1}instances", "1", &Incarnation(1).to_string()]);
    redis.cli(&["REPLICAOF", "127.0.0.1", "1"]);
    redis.cli(&["REPLICAOF", "NO", "ONE"]);
    let (is_kept, taken, instances) = renew(&mut link, renewal(2));
    assert_eq!((is_kept, taken, instances.len()), (true, vec![], 2));
}

#[test]
fn what_redis_refuses_changes_nothing() {
    let redis = Redis::start();
    let mut both = Both::new(&redis, "room".to_owned());
    let present = |both: &mut Both<'_>, connections: u32| {
        let incarnation = Incarnation(both.incarnations[0]);
        both.ask(Kind::Present, |out, drawn, room| {
            commands::present(out, &NAMES, (incarnation, drawn), (room, "bob", ""), connections);
        })
    };
    present(&mut both, 1).unwrap();
    let dump = |both: &Both<'_>| -> Vec<Reply> {
        let mut connection = redis.connect();
        both.keys().iter().map(|key| connection.command(&[b"DUMP", key.as_bytes()])).collect()
    };
    let before = dump(&both);
    redis.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    let refused = present(&mut both, 2).unwrap_err().to_string();
    assert!(refused.contains("OOM"), "{refused}");
    redis.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    for (command, connections) in [("info", 2), ("hset", 2), ("sadd", 2), ("publish", 3)] {
        redis.cli(&["ACL", "SETUSER", "one", "reset", "on", ">secret", "~*", "&*", "+@all", &format!("-{command}")]);
        let mut link = HistoryLink::connect(&redis, Some(["one", "secret"]));
        let mut out = Vec::new();
        commands::present(&mut out, &NAMES, (Incarnation(both.incarnations[0]), 1), ("room", "bob", ""), connections);
        let refused = link.presence(Kind::Present, &out);
        assert_eq!(refused.is_err(), command != "sadd", "{command}: {refused:?}");
        let is_done = matches!(command, "sadd" | "publish");
        assert_eq!(dump(&both) != before, is_done, "{command}");
    }
}
