//! Who is in a room, when an instance is killed, or stands still for longer than its lease lasts.

use std::time::{Duration, Instant};

use fanfare_tests::presence::{Crowd, Observer, SETTLED_WITHIN, wait_until_redis_holds};
use fanfare_tests::{Redis, Signal, eventually_within};

const ROOM: &str = "chat:1";
/// Users at each place.
const USERS: usize = 30;

/// So many, named so.
fn users(prefix: &str) -> Vec<String> {
    (0..USERS).map(|number| format!("{prefix}{number}")).collect()
}

/// Everybody has been told that often that each of these joined and left.
#[track_caller]
fn assert_told(observers: &[Observer], users: &[String], times: (u32, u32)) {
    for (at, observer) in observers.iter().enumerate() {
        for user in users {
            assert_eq!(observer.told(user), times, "{user}, by the observer {at}");
        }
    }
}

/// Waits until all have been told that often that the user left.
fn wait_until_left(observers: &mut [Observer], user: &str, times: u32) {
    eventually_within(SETTLED_WITHIN, "all are told that the user has left", || {
        observers.iter_mut().for_each(Observer::listen);
        observers.iter().all(|observer| observer.told(user).1 == times).then_some(())
    });
}

#[test]
fn users_of_a_killed_instance_leave_once() {
    let redis = Redis::start();
    let mut crowd = Crowd::of(ROOM);
    let [dies, second, third] = std::array::from_fn(|_| crowd.instance(&redis.url(), 2_000).start());
    let mut observers: Vec<Observer> =
        [&second, &third, &second].into_iter().map(|server| crowd.observe(server)).collect();
    let [alone, twice, elsewhere, returning] = ["alone", "twice", "elsewhere", "returning"].map(users);
    for (server, users) in
        [(&dies, &alone), (&dies, &twice), (&second, &twice), (&third, &elsewhere), (&dies, &returning)]
    {
        crowd.enter_all(server, users.iter().cloned());
    }
    crowd.settle(&mut observers, (&second, "x1"));
    for users in [&alone, &twice, &elsewhere, &returning] {
        assert_told(&observers, users, (1, 0));
    }

    let killed = Instant::now();
    dies.signal(Signal::KILL);
    crowd.leave_server(&dies);
    crowd.enter_all(&third, returning.iter().cloned());
    // Nobody can clear up before 1.3 s, because that long at least a lease lasts which is renewed three times in its time.
    let have_returned = killed.elapsed() < Duration::from_secs(1);
    crowd.settle(&mut observers, (&third, "x2"));
    wait_until_redis_holds(&redis, ROOM, &crowd.users());
    assert_told(&observers, &alone, (1, 1));
    assert_told(&observers, &twice, (1, 0));
    assert_told(&observers, &elsewhere, (1, 0));
    if have_returned {
        assert_told(&observers, &returning, (1, 0));
    }

    // Those who clear up die, too, and one that comes later does it.
    drop(second);
    drop(third);
    let mut crowd_left = Crowd::of(ROOM);
    let late = crowd_left.instance(&redis.url(), 1_000).start();
    let mut observers = [crowd_left.observe(&late)];
    crowd_left.settle(&mut observers, (&late, "x3"));
    wait_until_redis_holds(&redis, ROOM, &crowd_left.users());
}

#[test]
fn users_of_an_instance_that_stands_still_leave_and_join_again() {
    let redis = Redis::start();
    let mut crowd = Crowd::of(ROOM);
    let [still, second, third] = std::array::from_fn(|_| crowd.instance(&redis.url(), 1_000).start());
    let mut elsewhere: Vec<Observer> = [&second, &third].map(|server| crowd.observe(server)).into();
    let mut here: Vec<Observer> = [&still, &still].map(|server| crowd.observe(server)).into();
    let [staying, going, moving, others] = ["staying", "going", "moving", "others"].map(users);
    for (server, users) in [(&still, &staying), (&still, &going), (&still, &moving), (&second, &others)] {
        crowd.enter_all(server, users.iter().cloned());
    }
    crowd.settle(&mut elsewhere, (&third, "x1"));
    crowd.settle(&mut here, (&third, "x2"));

    for round in 1..=3 {
        still.pause();
        // Some go while nobody hears of it, and others are somewhere else by then.
        if round == 1 {
            going.iter().for_each(|user| crowd.leave(user));
        }
        for user in &moving {
            crowd.leave(user);
            crowd.enter(&third, user);
        }
        wait_until_left(&mut elsewhere, "staying0", round);
        still.signal(Signal::CONT);
        let last = format!("y{round}");
        crowd.settle(&mut elsewhere, (&second, &last));
        crowd.settle(&mut here, (&still, &format!("z{round}")));
        elsewhere.iter_mut().for_each(Observer::listen);
        wait_until_redis_holds(&redis, ROOM, &crowd.users());
        assert_told(&elsewhere, &staying, (1 + round, round));
        assert_told(&elsewhere, &others, (1, 0));
        assert_told(&here, &others, (1, 0));
        // It may tell of them again before it hears that they have gone.
        for observer in &elsewhere {
            assert!(going.iter().all(|user| [(1, 1), (2, 2)].contains(&observer.told(user))));
        }
    }
}

/// Whatever the users linger for: an instance that is gone does not say of anybody that the time is over.
#[test]
fn users_of_an_instance_that_ends_leave_once_unless_they_are_elsewhere() {
    const NEVER_MS: u64 = 600_000;
    let redis = Redis::start();
    let mut crowd = Crowd::lingering(ROOM, NEVER_MS);
    let [mut ends, second, third] = std::array::from_fn(|_| crowd.instance(&redis.url(), 2_000).start());
    let mut observers: Vec<Observer> = [&second, &third].map(|server| crowd.observe(server)).into();
    let [alone, moving] = ["alone", "moving"].map(users);
    crowd.enter_all(&ends, alone.iter().chain(&moving).cloned());
    crowd.settle(&mut observers, (&second, "x1"));
    crowd.enter_all(&second, moving.iter().cloned());
    // Each of them has been told to Redis by the time that another one is.
    crowd.settle(&mut observers, (&second, "x2"));
    ends.signal(Signal::TERM);
    crowd.leave_server(&ends);
    assert_eq!(ends.wait_for_exit().code(), Some(0));
    crowd.settle(&mut observers, (&third, "x3"));
    assert_told(&observers, &alone, (1, 1));
    assert_told(&observers, &moving, (1, 0));
    wait_until_redis_holds(&redis, ROOM, &crowd.users());
}

#[test]
fn users_of_an_instance_that_ends_in_order_leave_when_they_have_lingered() {
    const LINGER_MS: u64 = 300;
    let redis = Redis::start();
    let mut crowd = Crowd::lingering(ROOM, LINGER_MS);
    // Its lease would last for longer than anybody waits here.
    let mut ends = crowd.instance(&redis.url(), 60_000).start();
    let second = crowd.instance(&redis.url(), 2_000).start();
    let mut observers = vec![crowd.observe(&second)];
    let [alone, moving] = ["alone", "moving"].map(users);
    crowd.enter_all(&ends, alone.iter().chain(&moving).cloned());
    crowd.settle(&mut observers, (&second, "x1"));
    crowd.enter_all(&second, moving.iter().cloned());
    crowd.settle(&mut observers, (&second, "x2"));
    ends.signal(Signal::INT);
    crowd.leave_server(&ends);
    assert_eq!(ends.wait_for_exit().code(), Some(0));
    crowd.settle(&mut observers, (&second, "x3"));
    assert_told(&observers, &alone, (1, 1));
    assert_told(&observers, &moving, (1, 0));
    wait_until_redis_holds(&redis, ROOM, &crowd.users());
}
