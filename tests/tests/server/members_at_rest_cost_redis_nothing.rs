//! What presence asks of Redis while nobody comes or goes: a renewal of each instance's lease, however many members there are.

use std::time::Duration;

use fanfare_tests::presence::{Crowd, Observer};
use fanfare_tests::{Redis, Reply, RespConnection, Server, eventually_within};

const LEASE_MS: u64 = 1_000;
const INSTANCES: u64 = 3;
/// Users at each of them.
const USERS: usize = 300;
/// Renewals of all instances that are watched.
const RENEWALS: u64 = 30;

/// What Redis has done by now.
struct Work {
    /// Unix milliseconds.
    at: u64,
    scripts: u64,
    /// All commands, those in scripts included, but those by which this is asked.
    commands: u64,
}

impl Work {
    /// What there is, if it has been asked that often before.
    fn of(redis: &mut RespConnection, asked: u64) -> Work {
        let Reply::Array(time) = redis.command(&[b"TIME"]) else { panic!("no time") };
        let part = |at: usize| match &time[at] {
            Reply::Bytes(Some(digits)) => String::from_utf8_lossy(digits).parse::<u64>().expect("a number"),
            other => panic!("no number: {other:?}"),
        };
        let Reply::Bytes(Some(page)) = redis.command(&[b"INFO", b"commandstats"]) else { panic!("no statistics") };
        let page = String::from_utf8(page).expect("a text");
        let lines = page.lines().filter_map(|line| line.strip_prefix("cmdstat_")?.split_once(":calls="));
        let calls = lines.map(|(name, rest)| {
            (name, rest.split(',').next().and_then(|calls| calls.parse::<u64>().ok()).expect("a number of calls"))
        });
        let (mut scripts, mut commands) = (0, 0);
        for (name, calls) in calls {
            commands += calls;
            scripts += if name.starts_with("evalsha") { calls } else { 0 };
        }
        Work { at: part(0) * 1_000 + part(1) / 1_000, scripts, commands: commands - 2 * asked }
    }
}

#[test]
fn members_at_rest_cost_redis_nothing() {
    let redis = Redis::start();
    let mut crowd = Crowd::of("chat:1");
    // Each worker is an instance.
    let launch = || crowd.launch().redis(&redis).flag("--presence-lease-ms", LEASE_MS).workers(1);
    let servers: Vec<Server> = (0..INSTANCES).map(|_| launch().start()).collect();
    let mut observers: Vec<Observer> = servers.iter().map(|server| crowd.observe(server)).collect();
    for (at, server) in servers.iter().enumerate() {
        crowd.enter_all(server, (0..USERS).map(|number| format!("user{at}.{number}")));
    }
    crowd.settle(&mut observers, (&servers[0], "x"));

    let mut connection = redis.connect();
    let mut asked = 0;
    let mut look = || {
        let work = Work::of(&mut connection, asked);
        asked += 1;
        work
    };
    let before = look();
    let after = eventually_within(Duration::from_secs(60), "leases are renewed", || {
        let now = look();
        (now.scripts >= before.scripts + RENEWALS).then_some(now)
    });
    let (passed, scripts, commands) =
        (after.at - before.at, after.scripts - before.scripts, after.commands - before.commands);
    // Each may have been about to renew when this began, and may have ended a renewal that was late. And in its first lease, it looks with each
    // renewal for those who have none.
    let renewals_max = INSTANCES * (passed * 3 / LEASE_MS + 2 + 4);
    assert!(scripts <= renewals_max, "{scripts} scripts in {passed} ms: no more than {renewals_max}");
    // What a renewal does in Redis, and what it reads of each instance.
    let commands_max = scripts * (20 + INSTANCES);
    assert!(commands <= commands_max, "{commands} commands: no more than {commands_max}");
    observers.iter_mut().for_each(Observer::listen);
}
