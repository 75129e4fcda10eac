//! What can befall three instances whose Redis is watched by Sentinels, while messages flow. What an asynchronous failover takes back has to
//! be told. How long nothing could be published is printed, and not judged.

use fanfare_tests::ledger::Script;
use fanfare_tests::{Group, Redis, Server, stored};
use serde_json::json;
use std::time::Instant;

use super::{UNLIMITED, settings, settle, stop};

const ROOM: &str = "long:a";
const MEMBERS: u64 = 15;

/// Plays a scenario under a stream of numbered messages from each instance.
fn play(scenario: &str, replicas: usize, mut harm: impl FnMut(&mut Group)) {
    // As an operator does who wants to lose little: a master that was cut off stops taking messages.
    let mut group = Group::start(replicas, |launch| launch.directive("repl-ping-replica-period 1"));
    let servers: [Server; 3] = std::array::from_fn(|_| stored::launch(&group.url()).args(UNLIMITED).start());
    let all = servers.each_ref();
    let members = Script::members(&settings(ROOM, &all, &json!({"members": MEMBERS})));
    members.wait_for_subscribed(MEMBERS);
    let senders = ["a", "b", "c"]
        .into_iter()
        .zip(&servers)
        .map(|(name, server)| Script::sender(&settings(ROOM, &[server], &json!({"name": name, "per_second": 100}))));
    let senders: Vec<Script> = senders.collect();
    senders.iter().for_each(|sender| sender.wait_for_acknowledged(100));
    let began = Instant::now();
    harm(&mut group);
    let harmed = began.elapsed();
    for sender in &senders {
        sender.wait_for_acknowledged(sender.acknowledged() + 100);
    }
    servers.iter().for_each(Server::wait_until_ready);
    println!(
        "{scenario}: {:.1} s until the harm was done, {:.1} s until all flowed again",
        harmed.as_secs_f64(),
        began.elapsed().as_secs_f64()
    );
    let figures = settle(ROOM, &all, senders.into_iter().map(stop).collect(), vec![members]);
    figures.assert_nothing_is_lost_in_silence("redis behind Sentinels", scenario);
}

#[test]
fn sentinels_are_told_to_fail_over() {
    play("SENTINEL FAILOVER, twice", 2, |group| {
        for _ in 0..2 {
            group.fail_over();
            group.wait_until_whole(2);
        }
    });
}

#[test]
fn the_master_is_killed() {
    play("kill -9 of the master, which comes back", 2, |group| {
        let master = group.master();
        group.servers[master].kill();
        group.wait_for_another_master(master);
        group.servers[master].start_again();
        group.wait_until_whole(2);
    });
}

#[test]
fn the_master_hangs() {
    play("SIGSTOP of the master, which goes on later", 2, |group| {
        let master = group.master();
        group.servers[master].pause();
        group.wait_for_another_master(master);
        group.servers[master].resume();
        group.wait_until_whole(2);
    });
}

#[test]
fn the_master_is_demoted_and_promoted_by_hand() {
    play("REPLICAOF by hand and back, while no Sentinel looks", 1, |group| {
        let master = group.master();
        let other = 1 - master;
        group.sentinels.iter().for_each(Redis::pause);
        let [old, new] = [&group.servers[master], &group.servers[other]];
        new.cli(&["REPLICAOF", "NO", "ONE"]);
        old.cli(&["REPLICAOF", "127.0.0.1", &new.port().to_string()]);
        new.cli(&["REPLICAOF", "127.0.0.1", &old.port().to_string()]);
        old.cli(&["REPLICAOF", "NO", "ONE"]);
        group.sentinels.iter().for_each(Redis::resume);
        group.wait_until_whole(1);
    });
}

#[test]
fn all_sentinels_are_killed_and_started_again() {
    play("kill -9 of all Sentinels, then of all connections", 1, |group| {
        group.sentinels.iter_mut().for_each(Redis::kill);
        let master = &group.servers[0];
        master.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        master.cli(&["CLIENT", "KILL", "TYPE", "normal"]);
        group.sentinels.iter_mut().for_each(Redis::start_again);
        group.wait_until_whole(1);
    });
}
