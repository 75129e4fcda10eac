//! How much work the messages of all clients together make.

use super::rate::Rate;
use crate::time::Time;
use std::time::Duration;

/// How much such work the messages of all connections have made lately. Each may make as much as its own rate allows. A client that
/// is closed and comes back begins anew, so there is a rate for all, too.
#[derive(Debug)]
pub(crate) struct Strain {
    rate: Rate,
    debt: u64,
    at: Time,
}

impl Strain {
    pub fn new(rate: Rate) -> Strain {
        Strain { rate, debt: 0, at: Time::ZERO }
    }

    /// Bytes of work have been made beyond those that were read.
    pub fn add(&mut self, bytes: usize, now: Time) {
        if self.rate.is_limited() {
            self.debt = self.left(now).saturating_add((bytes as u64).saturating_mul(1_000_000));
            self.at = now;
        }
    }

    /// Whether that is too much for now.
    pub fn is_over(&self, now: Time) -> bool {
        self.rate.is_limited() && self.left(now) > self.bearable()
    }

    /// When it will not be too much any more; now where it is not.
    pub fn over_until(&self, now: Time) -> Time {
        match self.is_over(now) {
            true => now + Duration::from_micros((self.left(now) - self.bearable()).div_ceil(self.rate.per_second)),
            false => now,
        }
    }

    fn bearable(&self) -> u64 {
        self.rate.burst.saturating_mul(1_000_000)
    }

    fn left(&self, now: Time) -> u64 {
        self.rate.drained(self.debt, now.since(self.at).as_micros() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strain_passes_at_its_rate_and_tells_when() {
        let mut strain = Strain::new(Rate { per_second: 1_000, burst: 100 });
        let at = Time::from_millis;
        strain.add(100, at(10));
        assert!(!strain.is_over(at(10)));
        strain.add(50, at(10));
        assert!(strain.is_over(at(10)) && strain.is_over(at(59)) && !strain.is_over(at(60)));
        assert_eq!((strain.over_until(at(10)), strain.over_until(at(70))), (at(60), at(70)));
        let mut unlimited = Strain::new(Rate::NONE);
        unlimited.add(usize::MAX, at(1));
        assert!(!unlimited.is_over(at(1)));
    }
}
