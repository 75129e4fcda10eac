//! Servers of different prefixes on one Redis: prefixes that each end in their only colon share no room; others are warned of.

use fanfare_tests::{Client, Log, Redis, Server};

fn server(redis: &Redis, prefix: &str) -> Server {
    Server::launch().redis(redis).flag("--redis-prefix", prefix).start()
}

fn warnings(log: &Log) -> usize {
    log.text().lines().filter(|line| line.contains("redis.prefix")).count()
}

#[test]
fn a_room_is_only_that_of_its_own_prefix() {
    let redis = Redis::start();
    let [outer, inner] = ["app:", "app-admin:"].map(|prefix| server(&redis, prefix));
    // Everything that a client could try to reach the room `secret` of the other.
    let rooms = ["secret", "admin:secret", "-admin:secret", "app-admin:secret", ":secret"];
    let mut listeners = rooms.map(|room| Client::member(&outer, room));
    let mut member = Client::member(&inner, "secret");
    for room in rooms {
        Client::connect(&outer).publish_acknowledged(room, "\"of the outer\"");
    }
    member.publish("secret", "\"of the inner\"");
    member.expect_message("secret", "\"of the inner\"");
    for (listener, room) in listeners.iter_mut().zip(rooms) {
        listener.expect_message(room, "\"of the outer\"");
        // Nothing else has come.
        listener.fence();
    }
    assert_eq!([&outer, &inner].map(|server| warnings(server.log())), [0, 0]);
}

#[test]
fn prefixes_that_nest_are_warned_of() {
    let redis = Redis::start();
    let [outer, inner, all] = ["app:", "app:admin:", ""].map(|prefix| server(&redis, prefix));
    let mut member = Client::member(&inner, "secret");
    // Which is the same channel, and so a text that anybody publishes there comes to both; but an instance names its room in what
    // it publishes, and that is another one here.
    let mut outsider = Client::member(&outer, "admin:secret");
    outsider.publish("admin:secret", "1");
    outsider.expect_message("admin:secret", "1");
    member.publish("secret", "2");
    member.expect_message("secret", "2");
    redis.publish("app:admin:secret", "anybody's");
    member.expect_message("secret", "\"anybody's\"");
    outsider.expect_message("admin:secret", "\"anybody's\"");
    assert_eq!([&outer, &inner, &all].map(|server| warnings(server.log())), [0, 1, 1]);
}
