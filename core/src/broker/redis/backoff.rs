//! How long to wait before connecting again: exponential, with full jitter. Times and connections live in `link`.

use std::time::Duration;

/// Counts failures and draws waits from a seed.
///
/// The n-th wait in a row is uniform between the minimum and the minimum doubled n times, or the maximum ("full
/// jitter": of the usual schemes the one under which many clients that lost one server return with the least work,
/// <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>). Never below the minimum, so that no
/// luck of the draw makes a busy loop.
#[derive(Debug)]
pub(super) struct Backoff {
    random: u64,
    failures: u32,
}

impl Backoff {
    /// No failures yet. Instances should have different seeds, so that they do not return as one.
    pub(super) fn new(seed: u64) -> Backoff {
        Backoff { random: seed, failures: 0 }
    }

    /// All was well: the next failure is the first one again.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// One more failure: how long to wait.
    pub(super) fn next(&mut self, min: Duration, max: Duration) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let doubled = 2_u32.checked_pow(self.failures).map_or(max, |factor| min.saturating_mul(factor));
        let ceiling = doubled.min(max).max(min);
        let spread = u64::try_from((ceiling - min).as_micros()).unwrap_or(u64::MAX);
        // The high word of the product is uniform in 0..=spread, as far as 64 bits can be.
        let drawn = (u128::from(self.draw()) * (u128::from(spread) + 1)) >> 64;
        min + Duration::from_micros(drawn as u64)
    }

    /// SplitMix64 (Steele, Lea and Flood, 2014): any seed will do.
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_millis(50);
    const MAX: Duration = Duration::from_secs(5);

    #[test]
    fn waits_grow_to_the_maximum_and_fill_their_range() {
        let mut largest = [Duration::ZERO; 12];
        let mut smallest = [Duration::MAX; 12];
        for seed in 0..500 {
            let mut backoff = Backoff::new(seed);
            for attempt in 0..largest.len() {
                let wait = backoff.next(MIN, MAX);
                largest[attempt] = largest[attempt].max(wait);
                smallest[attempt] = smallest[attempt].min(wait);
            }
        }
        for attempt in 0..largest.len() {
            let ceiling = (MIN * 2_u32.pow(attempt as u32 + 1)).min(MAX);
            assert!(smallest[attempt] >= MIN && largest[attempt] <= ceiling);
            let spread = ceiling - MIN;
            assert!(largest[attempt] > MIN + spread * 9 / 10, "attempt {attempt}: {:?}", largest[attempt]);
            assert!(smallest[attempt] < MIN + spread / 10, "attempt {attempt}: {:?}", smallest[attempt]);
        }
    }

    /// The numbers that the authors' implementation draws from this seed.
    #[test]
    fn numbers_are_those_of_splitmix64() {
        let mut backoff = Backoff::new(1_234_567);
        let drawn = [(); 5].map(|()| backoff.draw());
        assert_eq!(
            drawn,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423,
                4_593_380_528_125_082_431,
                16_408_922_859_458_223_821
            ]
        );
    }

    #[test]
    fn a_reset_begins_anew_and_extremes_do_not_overflow() {
        let mut backoff = Backoff::new(7);
        for _ in 0..100 {
            backoff.next(MIN, MAX);
        }
        backoff.reset();
        assert!(backoff.next(MIN, MAX) <= 2 * MIN);
        assert_eq!(backoff.next(MAX, MIN), MAX);
        assert_eq!(backoff.next(Duration::ZERO, Duration::ZERO), Duration::ZERO);
        backoff.next(Duration::MAX / 2, Duration::MAX);
    }
}
