//! Whatever clients, the verifier, the broker and the operator do in whichever order: nobody is given a message that it may not have, and
//! nobody who may is refused once all is quiet.

use fanfare_tests::fuzz::identity;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn no_order_of_events_lets_anybody_hear_what_it_may_not(bytes in prop::collection::vec(any::<u8>(), 1..400)) {
        identity(&bytes);
    }
}

/// `CASES=100000 cargo test --release … any_number_of_orders` tries as many others.
#[test]
fn any_number_of_orders_does_the_same() {
    let cases: u64 = std::env::var("CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(500);
    for seed in 0..cases {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut bytes = vec![0; rng.usize(1..600)];
        rng.fill(&mut bytes);
        let outcome = std::panic::catch_unwind(|| identity(&bytes));
        if let Err(panic) = outcome {
            eprintln!("in the order of seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
