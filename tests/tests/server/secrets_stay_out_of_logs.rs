//! The password of Redis appears in no log, at any level, in any form, whatever goes wrong.

use fanfare_tests::{Client, Launch, Redis, Server};

const PASSWORD: &str = "correct-horse-battery";

/// Runs a server through a life with `redis`, and gives all it has logged.
fn life(launch: Launch, redis: &mut Redis) -> String {
    let mut server = launch.flag("--log-level", "debug").flag("--redis-backoff-ms-max", 100).start();
    let mut client = Client::member(&server, "r");
    client.publish("r", "1");
    client.expect_message("r", "1");
    redis.kill();
    server.wait_for_log("redis lost");
    redis.start_again();
    server.wait_until_ready();
    drop(client);
    server.log_to_its_end().text()
}

#[test]
fn by_flag() {
    let mut redis = Redis::launch().password(PASSWORD).start();
    let url = format!("redis://:{PASSWORD}@127.0.0.1:{}", redis.port());
    let log = life(Server::launch().flag("--redis-url", url), &mut redis);
    assert!(log.contains("redis connected"), "{log}");
    assert!(!log.contains(PASSWORD), "{log}");
}

#[test]
fn by_environment_with_a_user() {
    let mut redis = Redis::launch().user("alice", PASSWORD, "~* &* +@all").start();
    let url = format!("redis://alice:{PASSWORD}@127.0.0.1:{}/1", redis.port());
    let log = life(Server::launch().env("REDIS_URL", url), &mut redis);
    assert!(!log.contains(PASSWORD), "{log}");
}

#[test]
fn when_it_is_wrong() {
    let redis = Redis::launch().password("another").start();
    let mut server = Server::launch()
        .flag("--redis-url", format!("redis://:{PASSWORD}@127.0.0.1:{}", redis.port()))
        .flag("--log-level", "debug")
        .not_ready()
        .start();
    let reason = server.wait_until_readyz_is(503);
    fanfare_tests::eventually("redis has refused it", || redis.cli(&["ACL", "LOG"]).contains("auth").then_some(()));
    drop(redis);
    assert!(!reason.contains(PASSWORD), "{reason}");
    let log = server.log_to_its_end().text();
    assert!(!log.contains(PASSWORD), "{log}");
}

#[test]
fn when_the_url_is_refused() {
    for url in [
        format!("redis-cluster://:{PASSWORD}@127.0.0.1:6379/1"),
        format!("http://user:{PASSWORD}@127.0.0.1"),
        format!("redis://:{PASSWORD}@127.0.0.1:99999"),
        format!("redis://:{PASSWORD}@127.0.0.1:6379/first"),
    ] {
        for launch in [Server::launch().flag("--redis-url", &url), Server::launch().env("REDIS_URL", &url)] {
            let output = launch.run();
            assert_eq!(output.status.code(), Some(2), "{output:?}");
            let text =
                format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(!text.contains(PASSWORD), "{text}");
        }
    }
}

#[test]
fn messages_of_clients_are_no_log_lines_either() {
    let mut server = Server::launch().flag("--log-level", "debug").start();
    let mut client = Client::member(&server, "r");
    client.publish("r", r#""between you and me""#);
    client.expect_message("r", r#""between you and me""#);
    drop(client);
    let log = server.log_to_its_end().text();
    assert!(!log.contains("between you and me"), "{log}");
}
