//! How long to wait before connecting again: exponential, with full jitter. Times and connections live in `link`.

use crate::random::Random;
use std::time::Duration;

/// Counts failures and draws waits from a seed.
///
/// The n-th wait in a row is uniform between the minimum and the minimum doubled n times, or the maximum ("full
/// jitter": of the usual schemes the one under which many clients that lost one server return with the least work,
/// <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>). Never below the minimum, so that no
/// luck of the draw makes a busy loop.
#[derive(Debug)]
pub(super) struct Backoff {
    random: Random,
    failures: u32,
}

impl Backoff {
    /// No failures yet. Instances should have different seeds, so that they do not return as one.
    pub(super) fn new(seed: u64) -> Backoff {
        Backoff { random: Random::new(seed), failures: 0 }
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
        min + Duration::from_micros(self.random.up_to(spread))
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
