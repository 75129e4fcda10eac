//! What can befall three instances whose Redis is watched by Sentinels, while messages flow. What an asynchronous failover takes back has to
//! be told. How long nothing could be published is printed, and not judged.

use fanfare_tests::{Group, Redis};

use super::while_messages_flow;

fn play(scenario: &str, replicas: usize, mut harm: impl FnMut(&mut Group)) {
    // As an operator does who wants to lose little: a master that was cut off stops taking messages.
    let mut group = Group::start(replicas, |launch| launch.directive("repl-ping-replica-period 1"));
    let url = group.url();
    while_messages_flow("redis behind Sentinels", scenario, &url, || harm(&mut group));
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
