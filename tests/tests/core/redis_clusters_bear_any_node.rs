//! Whatever the nodes of a Redis Cluster say and whenever they break off: what is asked is answered once, and nothing is due for ever.

use fanfare_tests::fuzz::cluster;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn no_order_of_events_leaves_anything_unanswered(bytes in prop::collection::vec(any::<u8>(), 1..900)) {
        cluster(&bytes);
    }
}

/// Of these each step is one that may happen: `CASES=100000 cargo test --release … as_many_orders` tries as many others.
#[test]
fn as_many_orders_of_what_usually_happens() {
    let cases: u64 = std::env::var("CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(500);
    for seed in 0..cases {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut bytes = vec![rng.u8(..)];
        for _ in 0..rng.usize(1..300) {
            // Connections, answers and maps, so that it comes up; then what it is asked.
            let usual = [1, 2, 3, 4, 15, 15, 16, 17, 6, 10, 11, 12, 13, 13];
            let step = if rng.u8(..8) == 0 { rng.u8(..19) } else { usual[rng.usize(..usual.len())] };
            bytes.extend([step, rng.u8(..), rng.u8(..), rng.u8(..)]);
            bytes.truncate(bytes.len() - usize::from(rng.u8(..3)));
        }
        let outcome = std::panic::catch_unwind(|| cluster(&bytes));
        if let Err(panic) = outcome {
            eprintln!("in the order of seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
