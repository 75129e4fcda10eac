//! How latencies are kept: a histogram whose size does not depend on how many there are.

use hdrhistogram::Histogram;

use crate::{Context, Result};

/// Three significant digits are more than a shared machine has to tell.
const DIGITS: u8 = 3;

/// An empty histogram of ns, for everything from one of them to a minute.
pub fn histogram() -> Result<Histogram<u64>> {
    // With bounds: one that is to grow by itself does not do so for `saturating_record`, and keeps all values as 2.
    Histogram::new_with_bounds(1, 60_000_000_000, DIGITS).context("cannot make a histogram")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_tells_microseconds_from_seconds() {
        let mut latency = histogram().unwrap();
        for value in [50_000, 3_000_000, 5_000_000_000] {
            latency.saturating_record(value);
            assert!(latency.max().abs_diff(value) <= value / 500, "{value} became {}", latency.max());
        }
    }
}
