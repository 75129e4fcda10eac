//! Whatever Redis and its Sentinels say, and whenever their connections end: what a session reports stays within what was asked of it.

use fanfare_tests::fuzz;
use proptest::prelude::*;

/// Of what the target does with its bytes, a session in the midst of its life.
const IN_ITS_LIFE: u8 = 2;

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]
    #[test]
    fn what_a_session_reports_was_asked_for(steps in prop::collection::vec(any::<u8>(), 0..900), seed in any::<u8>()) {
        fuzz::resp(&[&[IN_ITS_LIFE, seed], &steps[..]].concat());
    }
}
