//! Ten thousand users of one room leave at once: whoever observes the room is told of each once, and knows at the end who is there.

use fanfare_tests::presence::{Crowd, Observer, wait_until_redis_holds};
use fanfare_tests::{Adapter, Redis, Server};

const ROOM: &str = "chat:1";
/// Users that enter before observers read again: more would be too much for what is kept of an observer that does not read.
const AT_ONCE: usize = 500;

/// Where each takes a thread, fewer are many.
fn users() -> Vec<String> {
    let number = match Adapter::under_test() {
        Adapter::Mio => 10_000,
        Adapter::Threaded => 1_000,
    };
    (0..number).map(|number| format!("user{number}")).collect()
}

fn leave_at_once(crowd: &mut Crowd, servers: &[Server]) {
    let mut observers: Vec<Observer> =
        servers.iter().flat_map(|server| [crowd.observe(server), crowd.observe(server)]).collect();
    let users = users();
    for (number, users) in users.chunks(AT_ONCE).enumerate() {
        crowd.enter_all(&servers[number % servers.len()], users.iter().cloned());
        observers.iter_mut().for_each(Observer::listen);
    }
    crowd.settle(&mut observers, (&servers[0], "x1"));
    for (at, observer) in observers.iter().enumerate() {
        users.iter().for_each(|user| assert_eq!(observer.told(user), (1, 0), "{user}, by the observer {at}"));
    }
    crowd.leave_all();
    crowd.settle(&mut observers, (&servers[servers.len() - 1], "x2"));
    for (at, observer) in observers.iter().enumerate() {
        users.iter().for_each(|user| assert_eq!(observer.told(user), (1, 1), "{user}, by the observer {at}"));
    }
}

/// All are told by name.
const MANY: [&str; 2] = ["--presence-users-max", "20000"];

#[test]
fn of_two_instances() {
    let redis = Redis::start();
    let mut crowd = Crowd::of(ROOM);
    let servers: [Server; 2] = std::array::from_fn(|_| crowd.instance(&redis.url(), 10_000).args(MANY).start());
    leave_at_once(&mut crowd, &servers);
    wait_until_redis_holds(&redis, ROOM, &crowd.users());
}

#[test]
fn of_one_without_redis() {
    let mut crowd = Crowd::of(ROOM);
    let servers = [crowd.launch().embedded().args(MANY).start()];
    leave_at_once(&mut crowd, &servers);
}
