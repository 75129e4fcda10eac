//! What can befall three instances on a Redis Cluster, while messages flow. What an asynchronous failover takes back has to be told. How long
//! nothing could be published is printed, and not judged.

use fanfare_core::broker::redis::{Topology, partition_of, slot_of_partition};
use fanfare_tests::Cluster;
use std::time::{Duration, Instant};

use super::{ROOM, while_messages_flow};

/// For how long a slot is moved to and fro.
const MOVED_FOR: Duration = Duration::from_secs(60);

fn play(scenario: &str, replicas: usize, harm: impl FnOnce(&mut Cluster, u16)) {
    let mut cluster = Cluster::start(3, replicas, |launch| {
        launch.directive("repl-ping-replica-period 1").directive("appendonly yes").directive("appendfsync always")
    });
    let url = cluster.url();
    let slot = slot_of_partition(partition_of(ROOM, Topology::PARTITIONS_DEFAULT));
    while_messages_flow("redis as a Cluster", scenario, &url, || harm(&mut cluster, slot));
}

#[test]
fn replicas_are_told_to_take_over() {
    play("CLUSTER FAILOVER, twice", 1, |cluster, slot| {
        for _ in 0..2 {
            cluster.fail_over(cluster.master_of(slot));
            cluster.wait_until_whole();
        }
    });
}

#[test]
fn a_master_is_killed() {
    play("kill -9 of the master, which comes back", 1, |cluster, slot| {
        let master = cluster.master_of(slot);
        cluster.kill(master);
        cluster.wait_for_another_master(slot, master);
        cluster.nodes[master].start_again();
        cluster.wait_until_whole();
    });
}

#[test]
fn a_master_hangs() {
    play("SIGSTOP of the master, which goes on later", 1, |cluster, slot| {
        let master = cluster.master_of(slot);
        cluster.pause(master);
        cluster.wait_for_another_master(slot, master);
        cluster.resume(master);
        cluster.wait_until_whole();
    });
}

#[test]
fn a_slot_is_moved_to_and_fro() {
    play("its slot moved to and fro for a minute", 0, |cluster, slot| {
        let until = Instant::now() + MOVED_FOR;
        let mut moves = 0_u32;
        while Instant::now() < until {
            let master = cluster.master_of(slot);
            // From a bit more than as fast as it can be to so slowly that all wait for each other.
            cluster.move_slot(slot, (master + 1) % 3, Duration::from_millis(u64::from(moves % 4) * 300));
            moves += 1;
        }
        println!("it was moved {moves} times");
    });
}

#[test]
fn all_nodes_are_killed_and_started_again() {
    play("kill -9 of all nodes, which come back", 0, |cluster, _| {
        (0..cluster.nodes.len()).for_each(|node| cluster.kill(node));
        cluster.nodes.iter_mut().for_each(fanfare_tests::Redis::start_again);
        cluster.wait_until_whole();
    });
}
