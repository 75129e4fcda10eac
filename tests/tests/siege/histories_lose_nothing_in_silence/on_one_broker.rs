//! What can befall instances on one Redis, and one server without it. Whatever broker the suite is run with makes no difference.

use fanfare_tests::ledger::{Account, Script};
use fanfare_tests::{Redis, RedisLaunch, Server, Signal};
use serde_json::json;

use super::{instances, server, settings, settle, stop};

const ROOM: &str = "long:a";

#[test]
fn an_instance_with_a_thousand_members_is_killed() {
    const MEMBERS: u64 = 1_000;
    let redis = Redis::start();
    let [one, two] = instances(&redis);
    let both = [&one, &two];
    let members = Script::members(&settings(ROOM, &both, &json!({"members": MEMBERS, "together": true})));
    members.wait_for_subscribed(MEMBERS);
    let sender = Script::sender(&settings(ROOM, &both, &json!({"name": "a", "per_second": 100})));
    sender.wait_for_acknowledged(100);
    one.signal(Signal::KILL);
    members.wait_for_subscribed(2 * MEMBERS);
    sender.wait_for_acknowledged(sender.acknowledged() + 100);
    let figures = settle(ROOM, &[&two], vec![stop(sender)], vec![members]);
    figures.assert_nothing_is_lost_in_silence("redis", "kill -9 of an instance with 1,000 members");
    assert!(figures.accounts.iter().all(|account| account.missing == 0 && account.returns >= 1));
    assert!(two.metrics().value("fanfare_messages_replayed_total") > 0.0, "nobody had missed anything");
}

#[test]
fn subscribing_links_are_cut() {
    const CUTS: u64 = 10;
    let redis = Redis::start();
    let [one, two] = instances(&redis);
    let both = [&one, &two];
    let members = Script::members(&settings(ROOM, &both, &json!({"members": 20})));
    members.wait_for_subscribed(20);
    let sender = Script::sender(&settings(ROOM, &both, &json!({"name": "a", "per_second": 1000})));
    for cut in 1..=CUTS {
        sender.wait_for_acknowledged(cut * 50);
        redis.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        both.iter().for_each(|server| server.wait_until_ready());
    }
    let figures = settle(ROOM, &both, vec![stop(sender)], vec![members]);
    figures.assert_nothing_is_lost_in_silence("redis", "CLIENT KILL TYPE pubsub, ten times");
    assert!(figures.accounts.iter().all(|account| account.missing == 0 && account.returns == 0));
    assert_were_cut_off(&both);
}

/// Where a subscriber may leave nothing unread, Redis ends it as often as two messages come at once.
#[test]
fn subscribers_are_cut_off_for_what_they_leave_unread() {
    let redis = Redis::launch().directive("client-output-buffer-limit pubsub 16kb 0 0").start();
    let [one, two] = instances(&redis);
    let both = [&one, &two];
    let members = Script::members(&settings(ROOM, &both, &json!({"members": 10})));
    members.wait_for_subscribed(10);
    let senders = ["a", "b", "c"].map(|name| {
        Script::sender(&settings(ROOM, &both, &json!({"name": name, "count": 200, "bytes": 8192, "window": 40})))
    });
    let figures = settle(ROOM, &both, senders.map(Script::log).into(), vec![members]);
    figures.assert_nothing_is_lost_in_silence("redis", "client-output-buffer-limit pubsub 16kb, in a burst");
    assert!(figures.accounts.iter().all(|account| account.missing == 0));
    assert_were_cut_off(&both);
}

fn assert_were_cut_off(servers: &[&Server]) {
    for server in servers {
        assert!(server.metrics().value("fanfare_broker_reconnects_total") >= 1.0, "it was never cut off");
    }
}

#[test]
fn redis_restarts_and_has_everything() {
    let redis = Redis::launch().directive("appendonly yes").directive("appendfsync always");
    let groups = restart(redis, |_| {}, "restart of Redis, appendfsync always");
    for account in groups.iter().flatten() {
        assert_eq!((account.missing, account.told.failover), (0, 0));
    }
}

#[test]
fn redis_restarts_and_has_a_snapshot() {
    let snapshot = |redis: &Redis| assert_eq!(redis.cli(&["SAVE"]), "OK");
    let [staying, early, late] = restart(Redis::launch(), snapshot, "restart of Redis, from a snapshot");
    for account in staying.iter().chain(&late) {
        assert!(account.received > 0 && account.missing > 0, "{account:?}");
        assert_eq!(account.told.failover, account.missing);
    }
    // Who left before the snapshot has seen nothing that is lost.
    for account in &early {
        assert!(account.received > 0 && account.missing > 0, "{account:?}");
        assert_eq!(account.told.epoch, account.missing);
    }
}

#[test]
fn redis_restarts_and_has_nothing() {
    let groups = restart(Redis::launch(), |_| {}, "restart of Redis, without persistence");
    for account in groups.iter().flatten() {
        assert!(account.told.failover > 0 && account.told.failover == account.missing, "{account:?}");
    }
}

/// Redis is killed while messages flow, and started again. There are members who stay, and two groups who are away meanwhile: one has left
/// before the snapshot, if there is one, and one after it.
fn restart(redis: RedisLaunch, snapshot: impl Fn(&Redis), scenario: &str) -> [Vec<Account>; 3] {
    const SIZES: [u64; 3] = [20, 10, 10];
    let mut redis = redis.start();
    let [one, two] = instances(&redis);
    let both = [&one, &two];
    let [staying, mut early, mut late] =
        SIZES.map(|members| Script::members(&settings(ROOM, &both, &json!({"members": members}))));
    [&staying, &early, &late].into_iter().zip(SIZES).for_each(|(group, members)| group.wait_for_subscribed(members));
    let sender = Script::sender(&settings(ROOM, &both, &json!({"name": "a", "per_second": 400})));

    sender.wait_for_acknowledged(100);
    early.tell("leave");
    early.wait_for("away");
    snapshot(&redis);
    sender.wait_for_acknowledged(sender.acknowledged() + 100);
    late.tell("leave");
    late.wait_for("away");
    sender.wait_for_acknowledged(sender.acknowledged() + 50);
    redis.kill();
    redis.start_again();
    sender.wait_for_acknowledged(sender.acknowledged() + 100);
    [&mut early, &mut late].into_iter().for_each(|group| group.tell("return"));
    sender.wait_for_acknowledged(sender.acknowledged() + 50);

    let mut figures = settle(ROOM, &both, vec![stop(sender)], vec![staying, early, late]);
    figures.assert_nothing_is_lost_in_silence("redis", scenario);
    SIZES.map(|members| figures.accounts.drain(..members as usize).collect())
}

/// The embedded broker's histories end with its process.
#[test]
fn the_only_server_is_killed() {
    let [one, two] = [(); 2].map(|()| server().embedded().start());
    let members = Script::members(&settings(ROOM, &[&one, &two], &json!({"members": 50, "together": true})));
    members.wait_for_subscribed(50);
    let sender = Script::sender(&settings(ROOM, &[&one], &json!({"name": "a", "per_second": 400, "count": 200})));
    let before = sender.log();
    one.signal(Signal::KILL);
    let sender = Script::sender(&settings(ROOM, &[&two], &json!({"name": "b", "per_second": 400})));
    members.wait_for_subscribed(100);
    sender.wait_for_acknowledged(sender.acknowledged() + 100);
    let figures = settle(ROOM, &[&two], vec![before, stop(sender)], vec![members]);
    figures.assert_nothing_is_lost_in_silence("memory", "kill -9 of the only server, another in its place");
    for account in &figures.accounts {
        assert_eq!((account.told.failover, account.missing, account.returns), (200, 200, 1));
    }
}
