//! TLS to Redis and Sentinels: certificates of an authority of the test's own, and what is wrong with others.

use rcgen::date_time_ymd;

use fanfare_tests::{Authority, Client, Launch, Redis, Server, eventually, get, stored};

fn launch(authority: &Authority, url: &str) -> Launch {
    Server::launch().flag("--redis-url", url).flag("--redis-tls-ca-file", authority.ca_file().display()).ops()
}

/// A Redis that speaks nothing but TLS, with a certificate for 127.0.0.1.
fn redis(authority: &Authority, more: &str) -> Redis {
    authority.write("redis", &["127.0.0.1"]);
    Redis::launch().tls(authority, "redis").directive(more).start()
}

fn wait_until_told(server: &Server, reason: &str) {
    eventually(&format!("the operations port says {reason:?}"), || {
        let response = get(server.ops_address(), "/readyz");
        (response.status == 503 && response.text().contains(reason)).then_some(())
    });
}

#[track_caller]
fn assert_are_one(servers: &[Server; 2]) {
    let mut member = Client::member(&servers[0], "r");
    let large = format!("\"{}\"", "x".repeat(40_000));
    for value in ["1", &large] {
        Client::connect(&servers[1]).publish_acknowledged("r", value);
        member.expect_message("r", value);
    }
}

#[test]
fn instances_act_as_one_and_survive_an_outage() {
    let authority = Authority::new();
    let mut redis = redis(&authority, "tls-auth-clients no");
    let servers: [Server; 2] = std::array::from_fn(|_| launch(&authority, &redis.tls_url()).start());
    assert_are_one(&servers);
    redis.kill();
    servers.iter().for_each(|server| wait_until_told(server, "onnection refused"));
    redis.start_again();
    servers.iter().for_each(Server::wait_until_ready);
    assert_are_one(&servers);
}

#[test]
fn a_redis_that_asks_for_a_certificate_gets_one() {
    let authority = Authority::new();
    let redis = redis(&authority, "tls-auth-clients yes");
    let without = launch(&authority, &redis.tls_url()).not_ready().start();
    wait_until_told(&without, "Redis: ");
    authority.write("fanfare", &["fanfare"]);
    let [cert, key] = ["pem", "key"].map(|ending| authority.file(&format!("fanfare.{ending}")));
    let with = || {
        launch(&authority, &redis.tls_url())
            .flag("--redis-tls-cert-file", cert.display())
            .flag("--redis-tls-key-file", key.display())
    };
    assert_are_one(&[with().start(), with().start()]);
}

#[test]
fn a_certificate_that_is_not_that_of_redis_is_refused_with_a_reason() {
    let authority = Authority::new();
    let redis = redis(&authority, "tls-auth-clients no");
    let stranger = Authority::new();
    wait_until_told(&launch(&stranger, &redis.tls_url()).not_ready().start(), "TLS: invalid peer certificate");
    let named = |name: &str| launch(&authority, &redis.tls_url()).flag("--redis-tls-server-name", name);
    wait_until_told(&named("another.example").not_ready().start(), "not valid for name");
    named("127.0.0.1").start();
    // Whoever says that nothing is verified gets what they want.
    launch(&stranger, &redis.tls_url()).args(["--redis-tls-insecure-skip-verify", "on"]).start();

    authority.write_with("expired", &["127.0.0.1"], |params| {
        (params.not_before, params.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(2002, 1, 1));
    });
    let expired = Redis::launch().tls(&authority, "expired").directive("tls-auth-clients no").start();
    wait_until_told(&launch(&authority, &expired.tls_url()).not_ready().start(), "expired");
}

#[test]
fn a_redis_that_is_not_trusted_is_told_why() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let redis = redis(&authority, "tls-auth-clients no\nloglevel verbose");
    let _server = launch(&stranger, &redis.tls_url()).not_ready().start();
    eventually("Redis has heard the alert", || redis.log().contains("alert").then_some(()));
}

#[test]
fn who_speaks_tls_to_whom_does_not_is_told() {
    let authority = Authority::new();
    // Redis takes a handshake for the beginning of a command, and waits for its end.
    let plain = Redis::start();
    let url = plain.url().replace("redis://", "rediss://");
    let waiting = launch(&authority, &url).flag("--redis-connect-timeout-ms", 300).not_ready().start();
    wait_until_told(&waiting, "no connection by TLS within 300 ms: does that port speak it?");
    let url = format!("rediss://{}", waiting.ops_address());
    wait_until_told(&launch(&authority, &url).not_ready().start(), "speaks no TLS");
    let redis = redis(&authority, "tls-auth-clients no");
    let url = redis.tls_url().replace("rediss://", "redis://");
    wait_until_told(&Server::launch().flag("--redis-url", url).ops().not_ready().start(), "TLS");
}

#[test]
fn files_that_cannot_be_used_are_named_at_the_start() {
    let authority = Authority::new();
    authority.write("redis", &["127.0.0.1"]);
    let output = Server::launch()
        .flag("--redis-url", "rediss://127.0.0.1:1")
        .flag("--redis-tls-ca-file", authority.file("redis.key").display())
        .run();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("has no certificate"), "{said}");
}

#[test]
fn histories_work_over_tls() {
    let authority = Authority::new();
    let redis = redis(&authority, "tls-auth-clients no");
    let server = stored::launch(&redis.tls_url()).flag("--redis-tls-ca-file", authority.ca_file().display()).start();
    let (mut member, _) = stored::join(&server, "chat:a");
    let place = stored::store(&mut Client::connect(&server), "chat:a", 1);
    assert_eq!(stored::hear(&mut member, "chat:a").0, place.offset);
}
