//! A Redis whose memory is bounded, and whose policy is not to refuse but to evict, may throw histories away: the log says so.

use fanfare_tests::stored::{launch, store};
use fanfare_tests::{Client, Redis, Server};

const COMPLAINT: &str = "redis and the histories of rooms";

/// Whatever is no subscription is set up again.
fn set_up_again(redis: &Redis, server: &Server) {
    const NAME: &str = "fanfare_broker_reconnects_total";
    let before = server.metrics().value(NAME);
    let killed: f64 = redis.cli(&["CLIENT", "KILL", "TYPE", "normal"]).trim().parse().expect("a number");
    assert!(killed >= 1.0);
    server.wait_for_metrics("it is set up again", |metrics| metrics.value(NAME) >= before + killed);
}

#[test]
fn each_policy_that_evicts_is_told_once_while_it_lasts() {
    let redis = Redis::launch().directive("maxmemory 100mb").directive("maxmemory-policy allkeys-lru").start();
    let mut server = launch(&redis.url()).workers(1).start();
    let told = |nth, server: &Server| server.log().wait_for(COMPLAINT, nth)["reason"].to_string();
    assert!(told(1, &server).contains("allkeys-lru"));
    // Nothing else is wrong.
    assert_eq!(store(&mut Client::connect(&server), "chat:a", 1).offset, 1);
    set_up_again(&redis, &server);
    redis.cli(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    set_up_again(&redis, &server);
    redis.cli(&["CONFIG", "SET", "maxmemory", "0", "maxmemory-policy", "volatile-ttl"]);
    set_up_again(&redis, &server);
    redis.cli(&["CONFIG", "SET", "maxmemory", "100mb"]);
    set_up_again(&redis, &server);
    assert!(told(2, &server).contains("volatile-ttl"));
    assert_eq!(server.log_to_its_end().count(COMPLAINT), 2);
}

#[test]
fn who_may_not_ask_is_not_warned_and_who_keeps_no_histories_does_not_ask() {
    let redis = Redis::launch()
        .directive("maxmemory 100mb")
        .directive("maxmemory-policy allkeys-lru")
        .user("app", "pw", "~* &* +@all -info")
        .start();
    let without_rules = || Server::launch().flag("--redis-url", redis.url());
    let may_not_ask = || launch(&format!("redis://app:pw@127.0.0.1:{}", redis.port()));
    for launch in [without_rules(), may_not_ask()] {
        let mut server = launch.start();
        Client::connect(&server).publish_acknowledged("other", "1");
        assert_eq!(server.log_to_its_end().count(COMPLAINT), 0);
    }
}
