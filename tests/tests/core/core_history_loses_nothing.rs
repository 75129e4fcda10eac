//! In rooms with history each client gets each message once and in its place, or is told exactly which it will not get, whatever happens
//! to the links of its instance, to the broker and to itself.

use fanfare_tests::fuzz;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_each_message_comes_once_or_is_told_of(steps in proptest::collection::vec(any::<[u8; 2]>(), 0..400)) {
        fuzz::history(steps.as_flattened());
    }
}
