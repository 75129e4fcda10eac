//! Many users in one room: they reload, come and go in any order, and leave at once.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use fanfare_tests::presence::{Crowd, Observer, wait_until_redis_holds};
use fanfare_tests::{Adapter, Redis, Server, Signal};

const ROOM: &str = "chat:1";
/// Nobody who lingers for so long leaves within a test.
const NEVER_MS: u64 = 600_000;

/// Two, where the adapter has several.
fn workers() -> usize {
    match Adapter::under_test() {
        Adapter::Mio => 2,
        Adapter::Threaded => 1,
    }
}

/// One at each of them.
fn observe(crowd: &Crowd, servers: &[Server]) -> Vec<Observer> {
    servers.iter().map(|server| crowd.observe(server)).collect()
}

/// Twenty users reload ten times: a connection ends and another begins, at whichever instance.
fn reload(crowd: &mut Crowd, servers: &[Server]) {
    let mut observers = observe(crowd, servers);
    observers.extend(observe(crowd, servers));
    let users: Vec<String> = (0..20).map(|number| format!("user{number}")).collect();
    crowd.enter_all(&servers[0], users.iter().cloned());
    crowd.settle(&mut observers, (&servers[0], "x1"));
    for round in 0..10 {
        for (number, user) in users.iter().enumerate() {
            crowd.leave(user);
            crowd.enter(&servers[(number + round) % servers.len()], user);
        }
        observers.iter_mut().for_each(Observer::listen);
    }
    crowd.settle(&mut observers, (&servers[servers.len() - 1], "x2"));
    for observer in &observers {
        users.iter().for_each(|user| assert_eq!(observer.told(user), (1, 0), "{user} has only reloaded"));
    }
}

#[test]
fn reloads_make_no_noise() {
    let redis = Redis::start();
    let mut crowd = Crowd::lingering(ROOM, NEVER_MS);
    let servers: [Server; 3] = std::array::from_fn(|_| crowd.instance(&redis.url(), 1_000).start());
    reload(&mut crowd, &servers);
}

#[test]
fn reloads_make_no_noise_among_workers() {
    let mut crowd = Crowd::lingering(ROOM, NEVER_MS);
    let servers = [crowd.launch().embedded().workers(workers()).start()];
    reload(&mut crowd, &servers);
}

/// Users reload their pages at a rate of two hundred a second for some seconds, each at whichever instance, and are back within the time for
/// which users linger.
fn reload_steadily(crowd: &mut Crowd, servers: &[Server]) {
    const A_TICK: usize = 20;
    const TICK: Duration = Duration::from_millis(100);
    const TICKS: usize = 50;
    let mut observers: Vec<Observer> = (0..2).flat_map(|_| observe(crowd, servers)).collect();
    let users: Vec<String> = (0..10 * A_TICK).map(|number| format!("user{number}")).collect();
    crowd.enter_all(&servers[0], users.iter().cloned());
    crowd.settle(&mut observers, (&servers[0], "x1"));
    let began = Instant::now();
    for (tick, users) in users.chunks(A_TICK).cycle().take(TICKS).enumerate() {
        users.iter().for_each(|user| crowd.leave(user));
        crowd.enter_all(&servers[tick % servers.len()], users.iter().cloned());
        observers.iter_mut().for_each(Observer::listen);
        thread::sleep((TICK * (tick as u32 + 1)).saturating_sub(began.elapsed()));
    }
    crowd.settle(&mut observers, (&servers[servers.len() - 1], "x2"));
    for observer in &observers {
        users.iter().for_each(|user| assert_eq!(observer.told(user), (1, 0), "{user} has only reloaded"));
    }
}

/// Nobody takes so long to reload.
const LINGER_MS: u64 = 20_000;

#[test]
fn two_hundred_reloads_a_second_make_no_noise() {
    let redis = Redis::start();
    let mut crowd = Crowd::lingering(ROOM, LINGER_MS);
    let servers: [Server; 3] = std::array::from_fn(|_| crowd.instance(&redis.url(), 10_000).start());
    reload_steadily(&mut crowd, &servers);
}

#[test]
fn two_hundred_reloads_a_second_make_no_noise_among_workers() {
    let mut crowd = Crowd::lingering(ROOM, LINGER_MS);
    let servers = [crowd.launch().embedded().workers(workers()).start()];
    reload_steadily(&mut crowd, &servers);
}

/// Users come and go in an order that is drawn, with several connections each.
fn churn(crowd: &mut Crowd, servers: &[Server], seed: u64) {
    const USERS: usize = 40;
    let mut random = fastrand::Rng::with_seed(seed);
    eprintln!("seed {seed}");
    let mut observers: Vec<Observer> = (0..2).flat_map(|_| observe(crowd, servers)).collect();
    for round in 0..5 {
        for _ in 0..100 {
            let user = format!("user{}", random.usize(0..USERS));
            if random.bool() || !crowd.users().contains_key(&user) {
                crowd.enter(&servers[random.usize(0..servers.len())], &user);
            } else {
                crowd.leave(&user);
            }
            if random.u8(0..10) == 0 {
                observers.iter_mut().for_each(Observer::listen);
            }
        }
        // Who comes late is told the same.
        let late = &servers[random.usize(0..servers.len())];
        observers.push(crowd.observe(late));
        crowd.settle(&mut observers, (late, &format!("x{round}")));
    }
    crowd.leave_all();
    crowd.settle(&mut observers, (&servers[0], "x"));
}

#[test]
fn whoever_comes_and_goes_is_known_everywhere() {
    let redis = Redis::start();
    let mut crowd = Crowd::of(ROOM);
    let servers: [Server; 3] = std::array::from_fn(|_| crowd.instance(&redis.url(), 1_000).start());
    churn(&mut crowd, &servers, fastrand::u64(..));
    wait_until_redis_holds(&redis, ROOM, &crowd.users());
}

#[test]
fn whoever_comes_and_goes_is_known_to_all_workers() {
    let mut crowd = Crowd::of(ROOM);
    let servers = [crowd.launch().embedded().workers(workers()).start()];
    churn(&mut crowd, &servers, fastrand::u64(..));
}

#[test]
fn two_thousand_users_leave_at_once() {
    const USERS: usize = 700;
    let redis = Redis::start();
    let mut crowd = Crowd::of(ROOM);
    let servers: [Server; 3] = std::array::from_fn(|_| crowd.instance(&redis.url(), 1_000).start());
    let mut observers = observe(&crowd, &servers[..2]);
    for (at, server) in servers.iter().enumerate() {
        crowd.enter_all(server, (0..USERS).map(|number| format!("user{at}.{number}")));
        observers.iter_mut().for_each(Observer::listen);
    }
    crowd.settle(&mut observers, (&servers[0], "x1"));
    let users: BTreeSet<String> = crowd.users().into_keys().collect();
    assert_eq!(users.len(), servers.len() * USERS + 1);

    // Those of the third can never say so.
    servers[2].signal(Signal::KILL);
    crowd.leave_all();
    crowd.settle(&mut observers, (&servers[1], "x2"));
    wait_until_redis_holds(&redis, ROOM, &crowd.users());
    for observer in &observers {
        users.iter().for_each(|user| assert_eq!(observer.told(user), (1, 1), "{user}"));
    }
    crowd.leave_all();
    crowd.settle(&mut observers, (&servers[0], "x3"));
}

#[test]
fn of_a_large_room_the_number_is_told() {
    const USERS_MAX: usize = 40;
    let redis = Redis::start();
    let mut crowd = Crowd::of(ROOM);
    let launch = || crowd.instance(&redis.url(), 1_000).flag("--presence-users-max", USERS_MAX);
    let servers: [Server; 3] = std::array::from_fn(|_| launch().start());
    let mut observers = observe(&crowd, &servers[..2]);
    let mut settle = |crowd: &mut Crowd, last: &str, is_large: bool| {
        crowd.settle(&mut observers, (&servers[1], last));
        assert!(observers.iter().all(|observer| observer.is_large() == is_large));
    };
    let users = |at: usize| (0..USERS_MAX / 2).map(move |number| format!("user{at}.{number}"));
    crowd.enter_all(&servers[0], users(0));
    settle(&mut crowd, "x1", false);
    crowd.enter_all(&servers[2], users(2));
    settle(&mut crowd, "x2", true);
    // Those of the third leave when its lease has run out.
    servers[2].signal(Signal::KILL);
    crowd.leave_server(&servers[2]);
    settle(&mut crowd, "x3", false);
    crowd.enter_all(&servers[1], users(1));
    settle(&mut crowd, "x4", true);
    crowd.leave_all();
    settle(&mut crowd, "x5", false);
}
