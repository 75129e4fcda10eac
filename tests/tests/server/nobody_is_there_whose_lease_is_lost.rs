//! Who has a lease is known at one place of Redis, and who is in a room at many. Any of them may lose what it holds or go back to what it held
//! before, and an instance be killed meanwhile: its users leave all the same.

use fanfare_core::broker::redis::slot_of_partition;
use fanfare_tests::presence::{Crowd, Observer, room_at, slot_of, wait_until_cluster_holds, wait_until_redis_holds};
use fanfare_tests::{Cluster, Redis, Server, Signal, eventually};

const LEASE_MS: u64 = 2_000;

fn users(kind: &str) -> Vec<String> {
    (0..20).map(|number| format!("{kind}{number}")).collect()
}

#[track_caller]
fn assert_told(observers: &[Observer], kind: &str, times: &[(u32, u32)]) {
    for (at, observer) in observers.iter().enumerate() {
        for user in users(kind) {
            let told = observer.told(&user);
            assert!(times.contains(&told), "{user}, by the observer {at}: {told:?}");
        }
    }
}

/// Two instances that stay and one that is to be killed, with users in the room, and observers of those who stay.
fn begin(crowd: &mut Crowd, url: &str, lease_ms_of_dying: u64) -> ([Server; 2], Server, Vec<Observer>) {
    let servers: [Server; 2] = std::array::from_fn(|_| crowd.instance(url, LEASE_MS).start());
    let dies = crowd.instance(url, lease_ms_of_dying).start();
    let mut observers: Vec<Observer> = servers.iter().map(|server| crowd.observe(server)).collect();
    crowd.enter_all(&servers[0], users("staying"));
    crowd.enter_all(&dies, users("dying"));
    crowd.settle(&mut observers, (&servers[1], "x1"));
    (servers, dies, observers)
}

/// What comes between is told under a lease of which Redis knows nothing, and the instance does not know that.
#[test]
fn redis_forgets_all_and_an_instance_tells_of_users_before_it_is_killed() {
    const NOT_RENEWED_MEANWHILE_MS: u64 = 30_000;
    let redis = Redis::start();
    let mut crowd = Crowd::of("chat:1");
    let (servers, dies, mut observers) = begin(&mut crowd, &redis.url(), NOT_RENEWED_MEANWHILE_MS);
    redis.cli(&["FLUSHALL"]);
    crowd.enter_all(&dies, users("late"));
    // Nobody is there of whom Redis has not heard.
    let key = "fanfare:\u{1}present:chat:1";
    eventually("Redis has heard of the last one", || {
        users("late").iter().all(|user| redis.cli(&["HEXISTS", key, user]) == "1").then_some(())
    });
    dies.signal(Signal::KILL);
    crowd.leave_server(&dies);
    crowd.settle(&mut observers, (&servers[1], "x2"));
    wait_until_redis_holds(&redis, "chat:1", &crowd.users());
    assert_told(&observers, "dying", &[(1, 1)]);
    assert_told(&observers, "late", &[(1, 1)]);
    assert_told(&observers, "staying", &[(1, 0)]);
}

#[test]
fn the_part_of_a_cluster_with_the_leases_forgets_them_and_an_instance_is_killed() {
    let cluster = Cluster::start(3, 0, |launch| launch);
    let of_leases = cluster.master_of(slot_of_partition(0));
    let room = room_at(&cluster, |node| node != of_leases);
    let mut crowd = Crowd::of(&room);
    let (servers, dies, mut observers) = begin(&mut crowd, &cluster.url(), LEASE_MS);
    cluster.nodes[of_leases].cli(&["FLUSHALL"]);
    dies.signal(Signal::KILL);
    crowd.leave_server(&dies);
    crowd.settle(&mut observers, (&servers[1], "x2"));
    wait_until_cluster_holds(&cluster, &room, &crowd.users());
    assert_told(&observers, "dying", &[(1, 1)]);
    assert_told(&observers, "staying", &[(1, 0)]);
}

#[test]
fn a_part_of_a_cluster_comes_back_with_users_of_an_instance_that_was_cleared_up_after() {
    let mut cluster = Cluster::start(3, 0, |launch| launch);
    let of_leases = cluster.master_of(slot_of_partition(0));
    let room = room_at(&cluster, |node| node != of_leases);
    let node = cluster.master_of(slot_of(&room));
    let mut crowd = Crowd::of(&room);
    let (servers, dies, mut observers) = begin(&mut crowd, &cluster.url(), LEASE_MS);
    assert_eq!(cluster.nodes[node].cli(&["SAVE"]), "OK");
    dies.signal(Signal::KILL);
    crowd.leave_server(&dies);
    crowd.settle(&mut observers, (&servers[1], "x2"));
    assert_told(&observers, "dying", &[(1, 1)]);
    let is_cleared_up = || {
        let dead = cluster.nodes[of_leases].cli(&["ZCARD", "fanfare:{0}\u{1}dead"]);
        (dead == "0").then_some(())
    };
    eventually("it is known to be cleared up after", is_cleared_up);
    cluster.nodes[node].kill();
    cluster.nodes[node].start_again();
    cluster.wait_until_whole();
    crowd.settle(&mut observers, (&servers[1], "x3"));
    wait_until_cluster_holds(&cluster, &room, &crowd.users());
    // Who is back in Redis may be told of again.
    assert_told(&observers, "dying", &[(1, 1), (2, 2)]);
    assert_told(&observers, "staying", &[(1, 0)]);
}
