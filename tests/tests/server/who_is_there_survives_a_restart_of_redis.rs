//! Who is in a room, when Redis is started anew: with what it held, with what it held a while ago, and with nothing. And when it stands still.

use fanfare_tests::presence::{Crowd, Observer, wait_until_redis_holds};
use fanfare_tests::{Redis, RedisLaunch, Server};

const ROOM: &str = "chat:1";
/// Users of each kind, at each instance.
const USERS: usize = 20;

/// Users come and go while it is away.
fn survive(redis: RedisLaunch, save: impl Fn(&Redis)) {
    let mut redis = redis.start();
    let mut crowd = Crowd::of(ROOM);
    let servers: [Server; 2] = std::array::from_fn(|_| crowd.instance(&redis.url(), 1_000).start());
    let mut observers: Vec<Observer> =
        [0, 1, 0, 1].into_iter().map(|server: usize| crowd.observe(&servers[server])).collect();
    let names = |prefix: &str, at: usize| (0..USERS).map(|number| format!("{prefix}{at}.{number}")).collect::<Vec<_>>();
    for (at, server) in servers.iter().enumerate() {
        crowd.enter_all(server, names("staying", at));
        crowd.enter_all(server, names("going", at));
        crowd.enter_all(server, names("gone", at));
        // Of both instances.
        crowd.enter_all(server, names("both", 0));
    }
    crowd.settle(&mut observers, (&servers[0], "x1"));
    save(&redis);
    // Redis may come back with them.
    (0..2).flat_map(|at| names("gone", at)).for_each(|user| crowd.leave(&user));
    crowd.settle(&mut observers, (&servers[1], "x2"));

    redis.kill();
    for (at, server) in servers.iter().enumerate() {
        names("going", at).iter().for_each(|user| crowd.leave(user));
        // They are let in, and are there for nobody yet.
        crowd.enter_all(server, names("coming", at));
    }
    redis.start_again();
    servers.iter().for_each(Server::wait_until_ready);
    crowd.settle(&mut observers, (&servers[0], "x3"));
    wait_until_redis_holds(&redis, ROOM, &crowd.users());
    for (at, observer) in observers.iter().enumerate() {
        let expected = [("staying", (1, 0)), ("both", (1, 0)), ("coming", (1, 0)), ("going", (1, 1)), ("gone", (1, 1))];
        for (prefix, times) in expected {
            for user in (0..2).flat_map(|at| names(prefix, at)).filter(|user| !user.starts_with("both1")) {
                assert_eq!(observer.told(&user), times, "{user}, by the observer {at}");
            }
        }
    }
}

#[test]
fn with_its_data() {
    let redis = Redis::launch().directive("appendonly yes").directive("appendfsync always");
    survive(redis, |_| {});
}

#[test]
fn with_data_of_a_while_ago() {
    survive(Redis::launch(), |redis| drop(redis.cli(&["SAVE"])));
}

#[test]
fn without_data() {
    survive(Redis::launch(), |_| {});
}
