//! A rate with a burst, and the debt of its user: a token bucket, counted by what is missing from it. Integers only, and nothing is
//! rounded, so that equal events are judged equally everywhere.

/// Debts are counted in millionths of a thing, so that a microsecond of any whole rate per second is a whole number.
const MILLION: u64 = 1_000_000;

/// How many a second in the long run, and how many at once. There is nothing more to a rate, so it can be written down whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// The long-term average; 0 means that there is no limit.
    pub per_second: u64,
    /// How many at once after a pause.
    pub burst: u64,
}

impl Rate {
    /// No limit.
    pub const NONE: Rate = Rate { per_second: 0, burst: 0 };

    /// Whether there is a limit.
    pub const fn is_limited(self) -> bool {
        self.per_second > 0
    }

    /// What is left of a debt after some microseconds.
    pub(crate) fn drained(self, debt: u64, micros: u64) -> u64 {
        debt.saturating_sub(self.per_second.saturating_mul(micros))
    }

    /// The debt with these things on top of it; `None` if that is more than the burst.
    pub(crate) fn charged(self, debt: u64, things: u64) -> Option<u64> {
        let debt = debt.saturating_add(things.saturating_mul(MILLION));
        (debt <= self.burst.saturating_mul(MILLION)).then_some(debt)
    }

    /// Whether some microseconds make good for this many things at once.
    pub(crate) fn makes_good(self, things: u64, micros: u64) -> bool {
        self.charged(0, things).is_some_and(|debt| self.drained(debt, micros) == 0)
    }
}
