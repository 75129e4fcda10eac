//! Every form of `redis.url`: TCP, names, Unix sockets, password, user, database; and what is refused.

use fanfare_tests::{Client, Redis, Server, eventually};

/// The server hears Redis, and is heard.
#[track_caller]
fn expect_flow(redis: &Redis, server: &Server) {
    let mut client = Client::member(server, "r");
    assert_eq!(redis.publish("fanfare:r", "in"), 1);
    client.expect_message("r", r#""in""#);
    let mut outsider = redis.listen("fanfare:r");
    client.publish("r", r#""out""#);
    assert!(outsider.next_message().ends_with(br#""message":"out"}"#));
}

/// One worker, for each has its own connections to Redis, which are counted here.
fn server(url: impl ToString) -> Server {
    Server::launch().workers(1).flag("--redis-url", url).start()
}

#[test]
fn a_name_is_resolved() {
    let redis = Redis::start();
    // It may resolve to ::1 first, where this Redis does not listen.
    expect_flow(&redis, &server(format!("redis://localhost:{}", redis.port())));
}

#[test]
fn a_trailing_slash_means_nothing() {
    let redis = Redis::start();
    expect_flow(&redis, &server(format!("redis://127.0.0.1:{}/", redis.port())));
}

#[test]
fn a_unix_socket_is_a_path() {
    let redis = Redis::launch().unix_socket().start();
    expect_flow(&redis, &server(format!("unix://{}", redis.unix_socket_path())));
    expect_flow(&redis, &server(format!("unix:{}", redis.unix_socket_path())));
}

#[test]
fn a_password_alone_is_the_default_users() {
    let redis = Redis::launch().password("s3cret").start();
    expect_flow(&redis, &server(format!("redis://:s3cret@127.0.0.1:{}", redis.port())));
}

#[test]
fn a_password_may_hold_any_character_percent_encoded() {
    let redis = Redis::launch().password("p@ss:w/rd#? %é").start();
    let encoded = "p%40ss%3Aw%2Frd%23%3F%20%25%C3%A9";
    expect_flow(&redis, &server(format!("redis://:{encoded}@127.0.0.1:{}", redis.port())));
}

#[test]
fn user_password_and_database_are_used() {
    let redis = Redis::launch().user("alice", "wonder", "~* &* +@all").start();
    let server = server(format!("redis://alice:wonder@127.0.0.1:{}/3", redis.port()));
    expect_flow(&redis, &server);
    // Both links log in; the database shows at least where commands are sent.
    let alice: Vec<String> = redis.clients().into_iter().filter(|line| line.contains(" user=alice ")).collect();
    assert_eq!(alice.len(), 2, "{alice:?}");
    assert!(alice.iter().any(|line| line.contains(" db=3 ")), "{alice:?}");
}

#[test]
fn the_links_are_named() {
    let redis = Redis::start();
    let server = server(redis.url());
    expect_flow(&redis, &server);
    let named = redis.clients().into_iter().filter(|line| line.contains(" name=") && !line.contains(" name= "));
    assert_eq!(named.count(), 2);
}

#[test]
fn a_wrong_password_is_retried_until_it_is_right() {
    let redis = Redis::launch().password("right").start();
    let server = Server::launch()
        .flag("--redis-url", format!("redis://:wrong@127.0.0.1:{}", redis.port()))
        .flag("--redis-backoff-ms-max", 100)
        .not_ready()
        .start();
    let reason = server.wait_until_readyz_is(503);
    assert!(!reason.trim().is_empty());
    eventually("redis has refused it more than once", || {
        let refused = redis.cli(&["ACL", "LOG"]);
        refused.contains("auth").then_some(())
    });
    redis.cli(&["CONFIG", "SET", "requirepass", "wrong"]);
    server.wait_until_ready();
}

#[test]
fn what_redis_forbids_is_answered_broker_refused() {
    let redis = Redis::launch().user("limited", "pw", "~* resetchannels &fanfare:open* +@all").start();
    let mut server = server(format!("redis://limited:pw@127.0.0.1:{}", redis.port()));
    let mut client = Client::connect(&server);

    client.send(r#"{"type":"SEND_MESSAGE","roomId":"closed","message":"m","id":1}"#);
    assert_eq!(client.expect_error("broker_refused")["id"], 1);
    client.send(r#"{"type":"SUBSCRIBE","room":"closed","id":"two"}"#);
    let refused = client.expect_error("broker_refused");
    assert_eq!((&refused["id"], &refused["reason"]), (&"two".into(), &"the broker refused the subscription".into()));

    // What is allowed goes on.
    client.subscribe("open 1");
    client.publish("open 1", "1");
    client.expect_message("open 1", "1");

    // What Redis said is for the log alone.
    drop(client);
    let log = server.log_to_its_end();
    let told = log.text().lines().find(|line| line.contains("redis refused to subscribe")).map(str::to_owned);
    assert!(told.as_ref().is_some_and(|line| line.contains("NOPERM") && line.contains("closed")), "{told:?}");
}

#[test]
fn what_no_cluster_has_is_refused_clearly() {
    for (arguments, why) in [
        (&["--redis-url", "redis-cluster://127.0.0.1:6379/1"][..], "a Cluster has none but 0"),
        (&["--redis-url", "redis-cluster://127.0.0.1:6379", "--redis-prefix", "{a}:"], "it holds a {"),
        (&["--redis-url", "redis://127.0.0.1:6379", "--redis-cluster-pubsub", "classic"], "redis.url names no Cluster"),
    ] {
        let output = Server::launch().args(arguments).run();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(message.contains(why), "{message}");
        assert!(!message.contains("INFO"), "it began to run: {message}");
    }
}
