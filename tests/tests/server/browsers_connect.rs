//! What a real browser makes of the answers to its upgrades: which pages may connect, which subprotocol they are given, and where they show
//! who somebody is.

use fanfare_tests::{Redis, fanfare_binary, run_node, uses_redis};

#[test]
fn a_browser_connects_where_it_may() {
    let redis = uses_redis().then(Redis::start);
    let url = redis.as_ref().map(Redis::url);
    let args: Vec<&str> = url.as_deref().into_iter().collect();
    run_node("tests/browser/connecting.test.mjs", &args, &[("FANFARE_BIN", fanfare_binary())]);
}
