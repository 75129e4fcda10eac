//! What a real browser makes of the answers to its upgrades: which pages may connect, and which subprotocol they are given.

use fanfare_tests::{fanfare_binary, run_node};

#[test]
fn a_browser_connects_where_it_may() {
    run_node("tests/browser/connecting.test.mjs", &[], &[("FANFARE_BIN", fanfare_binary())]);
}
