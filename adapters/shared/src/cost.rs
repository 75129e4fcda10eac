//! What a connection has cost lately: measured processor time that is forgotten by and by, in three bytes of its socket's record.
//! It tells an adapter whom to read first.

use fanfare_core::time::Time;
use std::time::Duration;

/// The classes of costs: the first holds connections that make little work.
pub const CLASSES: usize = 4;

/// Who has cost no more than this lately makes little work: some dozens of commands of people, and less than one message that inflates to
/// the largest size.
const LIGHT_US_MAX: u16 = 256;
/// Each further class holds connections that cost this many times as much, as a power of two.
const CLASS_SHIFT: u32 = 2;

/// Microseconds in which half of a cost is forgotten, as a power of two: a client that sends now and then is light again before it
/// sends the next time, one that does so with every message is not.
const HALF_LIFE_SHIFT: u32 = 18;

/// A decaying sum of processor time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// As of `at`, in microseconds.
    micros: [u8; 2],
    /// In units of the half-life. A cost is taken for a fresh one again each time that the count has gone round, after 67 s, which
    /// does no harm: it was the cost of a connection that has been silent since.
    at: u8,
}

impl Cost {
    /// Adds what was just spent.
    pub fn add(&mut self, took: Duration, now: Time) {
        let now = (now.as_micros() >> HALF_LIFE_SHIFT) as u8;
        let micros = u16::from_ne_bytes(self.micros).checked_shr(now.wrapping_sub(self.at).into()).unwrap_or(0);
        let took = u16::try_from(took.as_micros()).unwrap_or(u16::MAX);
        (self.micros, self.at) = (micros.saturating_add(took).to_ne_bytes(), now);
    }

    /// The class, as of when it was added to. A connection that has been silent since is read once as what it was.
    pub fn class(self) -> usize {
        let above = u16::from_ne_bytes(self.micros).saturating_sub(1) / LIGHT_US_MAX;
        // 0, 1 to 3, 4 to 15, and more.
        ((u16::BITS - above.leading_zeros()).div_ceil(CLASS_SHIFT) as usize).min(CLASSES - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(costs: &[(u64, u64)]) -> Cost {
        let mut cost = Cost::default();
        for (at_ms, took_us) in costs {
            cost.add(Duration::from_micros(*took_us), Time::from_millis(*at_ms));
        }
        cost
    }

    #[test]
    fn classes_are_by_powers_of_four() {
        let classes = [0, 256, 257, 1_024, 1_025, 4_096, 4_097, 60_000, 70_000].map(|took| cost(&[(9, took)]).class());
        assert_eq!(classes, [0, 0, 1, 1, 2, 2, 3, 3, 3]);
    }

    #[test]
    fn a_small_read_does_not_make_good_for_a_large_one() {
        assert_eq!(cost(&[(1, 5), (2, 10_000), (3, 5), (4, 5)]).class(), 3);
    }

    #[test]
    fn what_was_spent_is_forgotten_by_and_by() {
        assert_eq!(cost(&[(0, 2_000), (300, 1)]).class(), 1);
        assert_eq!(cost(&[(0, 2_000), (900, 1)]).class(), 0);
        assert_eq!(cost(&[(0, 60_000), (10_000, 1)]).class(), 0);
    }

    #[test]
    fn who_sends_at_leisure_stays_light_and_who_floods_does_not() {
        let every = |pause_ms: u64, took_us: u64| {
            let costs: Vec<_> = (0..1_000_u64).map(|number| (number * pause_ms, took_us)).collect();
            cost(&costs).class()
        };
        assert_eq!(every(20, 8), 0);
        assert_eq!(every(1_000, 200), 0);
        assert_eq!(every(400, 300), 1);
        assert!(every(1, 300) == 3);
    }
}
