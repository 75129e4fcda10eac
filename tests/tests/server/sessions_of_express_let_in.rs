//! The cookie of a real application of Express, whose sessions `connect-redis` keeps, lets its users in by npm's `ws`.

use fanfare_tests::{Redis, Server, free_port, run_node};
use std::thread;

#[test]
fn users_of_express_come_in_by_its_cookie_and_go_when_they_sign_out() {
    let redis = Redis::start();
    let (redis_port, port) = (redis.port().to_string(), free_port().to_string());
    // In the file, so that the broker is the one that the suite is run with.
    let config = format!("[auth]\nsession_redis_url = \"{}\"\n", redis.url());
    let server = Server::launch()
        .file(&config)
        .flag("--auth-cookie", "connect.sid")
        .flag("--auth-session-secret", "the new secret")
        .flag("--auth-recheck-ms", 1000)
        .start();
    let application = {
        let (redis_port, port) = (redis_port.clone(), port.clone());
        thread::spawn(move || run_node("tests/node/express_sessions.mjs", &[&redis_port, &port], &[]))
    };
    let script = "tests/node/express_sessions_let_in.mjs";
    let printed = run_node(script, &[&server.url(), &port, &redis_port], &[]);
    assert!(printed.contains("all is well"), "{printed}");
    application.join().expect("the application ends when it is asked to");
}
