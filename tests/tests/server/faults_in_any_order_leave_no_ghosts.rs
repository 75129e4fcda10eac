//! Who is in a room, while instances die and stand still, connections to Redis break and Redis itself goes away, in an order that is drawn.

use std::thread;
use std::time::Duration;

use fanfare_tests::presence::{Crowd, Observer, wait_until_redis_holds};
use fanfare_tests::{Redis, Server, Signal};
use fastrand::Rng;

const ROOM: &str = "chat:1";
const LEASE_MS: u64 = 1_000;
/// Names of users. One may be at several instances.
const USERS: usize = 30;
const FAULTS: usize = 8;

/// Users come and go at these instances.
fn churn(crowd: &mut Crowd, servers: &[&Server], random: &mut Rng) {
    for _ in 0..30 {
        let user = format!("user{}", random.usize(0..USERS));
        if random.bool() || !crowd.users().contains_key(&user) {
            crowd.enter(servers[random.usize(0..servers.len())], &user);
        } else {
            crowd.leave(&user);
        }
    }
}

/// Shorter than a lease or longer.
fn wait(random: &mut Rng) {
    thread::sleep(Duration::from_millis(random.u64(0..2 * LEASE_MS)));
}

#[test]
fn faults_in_any_order_leave_no_ghosts() {
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let mut random = Rng::with_seed(seed);
    let mut redis = Redis::launch().directive("appendonly yes").start();
    let mut crowd = Crowd::of(ROOM);
    let mut servers: Vec<Server> = (0..3).map(|_| crowd.instance(&redis.url(), LEASE_MS).start()).collect();
    let mut observers: Vec<Observer> = servers.iter().map(|server| crowd.observe(server)).collect();
    for number in 0..FAULTS {
        churn(&mut crowd, &servers.iter().collect::<Vec<_>>(), &mut random);
        let one = random.usize(0..servers.len());
        let fault = random.usize(0..7);
        eprintln!("fault {number}: {fault} of {one}");
        match fault {
            0 => {
                let dead = servers.remove(one);
                dead.signal(Signal::KILL);
                crowd.leave_server(&dead);
                observers.retain(|observer| !observer.is_at(&dead));
                churn(&mut crowd, &servers.iter().collect::<Vec<_>>(), &mut random);
                let new = crowd.instance(&redis.url(), LEASE_MS).start();
                observers.push(crowd.observe(&new));
                servers.push(new);
            }
            1 => {
                servers[one].pause();
                let others: Vec<&Server> =
                    servers.iter().enumerate().filter(|(at, _)| *at != one).map(|(_, server)| server).collect();
                churn(&mut crowd, &others, &mut random);
                wait(&mut random);
                churn(&mut crowd, &others, &mut random);
                servers[one].signal(Signal::CONT);
            }
            2 => {
                redis.kill();
                churn(&mut crowd, &servers.iter().collect::<Vec<_>>(), &mut random);
                wait(&mut random);
                redis.start_again();
            }
            3 => {
                redis.pause();
                churn(&mut crowd, &servers.iter().collect::<Vec<_>>(), &mut random);
                wait(&mut random);
                redis.resume();
            }
            4 => drop(redis.cli(&["CLIENT", "KILL", "TYPE", "pubsub"])),
            5 => drop(redis.cli(&["CLIENT", "KILL", "TYPE", "normal"])),
            _ => drop(redis.cli(&["SCRIPT", "FLUSH"])),
        }
        churn(&mut crowd, &servers.iter().collect::<Vec<_>>(), &mut random);
        // The next one may come before this one is over.
        if random.bool() {
            observers.iter_mut().for_each(Observer::listen);
            continue;
        }
        crowd.settle(&mut observers, (&servers[0], &format!("x{number}")));
        wait_until_redis_holds(&redis, ROOM, &crowd.users());
    }
    crowd.leave_all();
    crowd.settle(&mut observers, (&servers[0], "x"));
    wait_until_redis_holds(&redis, ROOM, &crowd.users());
}
