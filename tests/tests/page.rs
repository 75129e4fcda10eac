//! The page at `/`, used by a real browser: the script beside `tests/browser/package.json` does it all.

use fanfare_tests::{fanfare_binary, run_node};

#[test]
fn a_person_can_use_the_page() {
    run_node("tests/browser/page.test.mjs", &[], &[("FANFARE_BIN", fanfare_binary())]);
}
