//! Who is in a room, when another Redis becomes the master, or has the room's slot.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use fanfare_core::broker::redis::slot_of_partition;
use fanfare_tests::presence::{Crowd, Observer, room_at, slot_of, wait_until_cluster_holds, wait_until_redis_holds};
use fanfare_tests::{Cluster, Group, Server, Signal};

const ROOM: &str = "chat:1";
const LEASE_MS: u64 = 2_000;

/// Users of this kind, some at each instance.
fn users(kind: &str) -> Vec<String> {
    (0..20).map(|number| format!("{kind}{number}")).collect()
}

fn enter_all(crowd: &mut Crowd, servers: &[Server], kind: &str) {
    for (number, user) in users(kind).iter().enumerate() {
        crowd.enter(&servers[number % servers.len()], user);
    }
}

fn leave_all(crowd: &mut Crowd, kind: &str) {
    users(kind).iter().for_each(|user| crowd.leave(user));
}

/// Everybody has been told that users of this kind joined once, and that those of the others left as well.
#[track_caller]
fn assert_told(observers: &[Observer], there: &[&str], gone: &[&str]) {
    let there = there.iter().map(|kind| (kind, (1, 0)));
    for (kind, times) in there.chain(gone.iter().map(|kind| (kind, (1, 1)))) {
        for (at, observer) in observers.iter().enumerate() {
            users(kind).iter().for_each(|user| assert_eq!(observer.told(user), times, "{user}, by the observer {at}"));
        }
    }
}

/// Instances with users, and observers who know them.
fn begin(crowd: &mut Crowd, url: &str) -> (Vec<Server>, Vec<Observer>) {
    let servers: Vec<Server> = (0..2).map(|_| crowd.instance(url, LEASE_MS).start()).collect();
    let mut observers: Vec<Observer> = [0, 1, 0].into_iter().map(|at: usize| crowd.observe(&servers[at])).collect();
    enter_all(crowd, &servers, "staying");
    enter_all(crowd, &servers, "going");
    crowd.settle(&mut observers, (&servers[0], "x1"));
    (servers, observers)
}

#[test]
fn sentinels_name_another_master() {
    let mut group = Group::start(1, |launch| launch);
    let mut crowd = Crowd::of(ROOM);
    let (servers, mut observers) = begin(&mut crowd, &group.url());
    let master = group.fail_over();
    leave_all(&mut crowd, "going");
    enter_all(&mut crowd, &servers, "coming");
    crowd.settle(&mut observers, (&servers[1], "x2"));
    wait_until_redis_holds(&group.servers[master], ROOM, &crowd.users());
    assert_told(&observers, &["staying", "coming"], &["going"]);

    group.wait_until_whole(1);
    group.servers[master].kill();
    leave_all(&mut crowd, "coming");
    let master = group.wait_for_another_master(master);
    crowd.settle(&mut observers, (&servers[1], "x3"));
    wait_until_redis_holds(&group.servers[master], ROOM, &crowd.users());
    assert_told(&observers, &["staying"], &["going", "coming"]);
}

/// Where the room is, and where the leases of instances are: there another node becomes the master, by hand and by death.
fn fail_over(is_of_leases: bool) {
    let mut cluster = Cluster::start(3, 1, |launch| launch);
    let of_leases = cluster.master_of(slot_of_partition(0));
    let room = room_at(&cluster, |node| node != of_leases);
    let slot = if is_of_leases { slot_of_partition(0) } else { slot_of(&room) };
    let mut crowd = Crowd::of(&room);
    let (servers, mut observers) = begin(&mut crowd, &cluster.url());
    let master = cluster.fail_over(cluster.master_of(slot));
    leave_all(&mut crowd, "going");
    enter_all(&mut crowd, &servers, "coming");
    crowd.settle(&mut observers, (&servers[1], "x2"));
    wait_until_cluster_holds(&cluster, &room, &crowd.users());
    assert_told(&observers, &["staying", "coming"], &["going"]);

    cluster.wait_until_whole();
    cluster.kill(master);
    leave_all(&mut crowd, "coming");
    cluster.wait_for_another_master(slot, master);
    crowd.settle(&mut observers, (&servers[1], "x3"));
    wait_until_cluster_holds(&cluster, &room, &crowd.users());
    assert_told(&observers, &["staying"], &["going", "coming"]);
}

#[test]
fn a_rooms_part_of_a_cluster_fails_over() {
    fail_over(false);
}

#[test]
fn the_part_with_the_leases_fails_over() {
    fail_over(true);
}

#[test]
fn users_come_and_go_while_their_slot_moves() {
    let cluster = Cluster::start(3, 0, |launch| launch);
    let room = room_at(&cluster, |node| node == 0);
    let mut crowd = Crowd::of(&room);
    let (servers, mut observers) = begin(&mut crowd, &cluster.url());
    leave_all(&mut crowd, "going");
    let is_moving = AtomicBool::new(true);
    thread::scope(|scope| {
        scope.spawn(|| {
            for to in [1, 2, 0] {
                cluster.move_slot(slot_of(&room), to, Duration::from_millis(300));
            }
            is_moving.store(false, Ordering::Relaxed);
        });
        while is_moving.load(Ordering::Relaxed) {
            enter_all(&mut crowd, &servers, "passing");
            observers.iter_mut().for_each(Observer::listen);
            leave_all(&mut crowd, "passing");
        }
    });
    enter_all(&mut crowd, &servers, "coming");
    crowd.settle(&mut observers, (&servers[1], "x2"));
    wait_until_cluster_holds(&cluster, &room, &crowd.users());
    assert_told(&observers, &["staying", "coming"], &["going"]);
}

#[test]
fn users_of_a_dead_instance_leave_a_room_whose_slot_moves() {
    let cluster = Cluster::start(3, 0, |launch| launch);
    let room = room_at(&cluster, |node| node == 0);
    let mut crowd = Crowd::of(&room);
    let (servers, mut observers) = begin(&mut crowd, &cluster.url());
    let dies = crowd.instance(&cluster.url(), LEASE_MS).start();
    crowd.enter_all(&dies, users("dying"));
    crowd.settle(&mut observers, (&servers[0], "x2"));
    dies.signal(Signal::KILL);
    crowd.leave_server(&dies);
    // For about as long as it takes until somebody clears up after it, and it may have to begin anew by that.
    for to in [1, 2, 0, 1, 2] {
        cluster.move_slot(slot_of(&room), to, Duration::from_millis(100));
        observers.iter_mut().for_each(Observer::listen);
    }
    crowd.settle(&mut observers, (&servers[1], "x3"));
    wait_until_cluster_holds(&cluster, &room, &crowd.users());
    assert_told(&observers, &["staying", "going"], &["dying"]);
}

/// Nothing can be done in the room until the slot is where its keys are, and everything in other rooms.
#[test]
fn users_of_a_dead_instance_leave_a_room_whose_slot_is_held_up_and_others_before() {
    let cluster = Cluster::start(3, 0, |launch| launch);
    let of_leases = cluster.master_of(slot_of_partition(0));
    let room = room_at(&cluster, |node| node != of_leases);
    let other = room_at(&cluster, |node| node == of_leases);
    assert_ne!(slot_of(&other), slot_of_partition(0));
    let mut crowd = Crowd::of(&room);
    let (servers, mut observers) = begin(&mut crowd, &cluster.url());
    let mut beside = crowd.beside(&other);
    let mut observers_beside: Vec<Observer> = servers.iter().map(|server| beside.observe(server)).collect();
    let dies = crowd.instance(&cluster.url(), LEASE_MS).start();
    for (crowd, observers) in [(&mut crowd, &mut observers), (&mut beside, &mut observers_beside)] {
        crowd.enter_all(&dies, users("dying"));
        crowd.settle(observers, (&servers[0], "x2"));
    }
    let from = cluster.move_keys(slot_of(&room), of_leases);
    dies.signal(Signal::KILL);
    crowd.leave_server(&dies);
    beside.leave_server(&dies);
    beside.settle(&mut observers_beside, (&servers[1], "x3"));
    observers.iter_mut().for_each(Observer::listen);
    assert_told(&observers, &["staying", "going", "dying"], &[]);
    cluster.end_move(slot_of(&room), from, of_leases);
    crowd.settle(&mut observers, (&servers[1], "x4"));
    for (room, crowd) in [(&room, &crowd), (&other, &beside)] {
        wait_until_cluster_holds(&cluster, room, &crowd.users());
    }
    assert_told(&observers, &["staying", "going"], &["dying"]);
    assert_told(&observers_beside, &[], &["dying"]);
}

/// Neither node does anything for whoever comes until the slot is where its keys are, because the command names keys that are not there.
#[test]
fn users_come_and_go_whose_rooms_keys_are_elsewhere_before_its_slot_is() {
    let cluster = Cluster::start(3, 0, |launch| launch);
    let room = room_at(&cluster, |node| node == 0);
    let mut crowd = Crowd::of(&room);
    let (servers, mut observers) = begin(&mut crowd, &cluster.url());
    let from = cluster.move_keys(slot_of(&room), 1);
    enter_all(&mut crowd, &servers, "coming");
    leave_all(&mut crowd, "going");
    observers.iter_mut().for_each(Observer::listen);
    cluster.end_move(slot_of(&room), from, 1);
    crowd.settle(&mut observers, (&servers[1], "x2"));
    wait_until_cluster_holds(&cluster, &room, &crowd.users());
    assert_told(&observers, &["staying", "coming"], &["going"]);
}
