//! What a seed draws so that clients make much work, and meet the limits on it.

use crate::options::{Span, pick, rng};
use fanfare_core::{Config, Rate};
use std::time::Duration;

/// Of so many seeds one draws this. Only its own draws differ from what it would have done without.
const COSTLY_ONE_IN: u64 = 5;
const COSTLY_REMAINDER: u64 = 3;

/// How clients make work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Costs {
    /// Of a thousand commands of who compresses, how many inflate to more.
    pub inflating: u32,
    /// To so many bytes more.
    pub blanks: Span,
    /// Of a thousand messages and pings, how many end later than they begin.
    pub unfinished: u32,
    /// Microseconds later.
    pub pause: Span,
}

impl Costs {
    /// Draws what this seed has of it. With `gentle` nothing is limited but what all make together, which only has to wait; with
    /// `wide` bytes come through quickly enough for a message to be given less time, and for few to be on their way at once. A message to
    /// all members of all rooms is `deliveries`, and a message of usual length to each room holds `held` bytes until it is whole.
    pub fn draw(seed: u64, (gentle, wide): (bool, bool), deliveries: u64, held: usize, core: &mut Config) -> Costs {
        let none = Span { min: 0, max: 0 };
        let mut costs = Costs { inflating: 0, blanks: none, unfinished: 0, pause: none };
        if seed % COSTLY_ONE_IN != COSTLY_REMAINDER {
            return costs;
        }
        let r = &mut rng(seed, "costs");
        core.compression.get_or_insert_default();
        (costs.inflating, costs.blanks) = (pick(r, &[100, 500]), Span { min: 0, max: pick(r, &[4_000, 60_000]) });
        costs.unfinished = pick(r, &[0, 100, 300]);
        core.limits.surplus = Rate { per_second: r.u64(500_000..4_000_000), burst: r.u64(10_000..200_000) };
        if wide {
            core.timeouts.message = Duration::from_millis(r.u64(3_000..30_000));
        }
        let timeout = core.timeouts.message.as_micros() as u64;
        costs.pause = Span { min: 0, max: if gentle { timeout / 4 } else { pick(r, &[timeout / 10, timeout * 2]) } };
        if !gentle {
            // More than one message of the largest kind.
            let burst = r.u64(70_000..150_000);
            core.limits.bytes = pick(r, &[Rate::NONE, Rate { per_second: burst / 10, burst }]);
            let burst = deliveries * r.u64(1..=4);
            core.limits.deliveries = pick(r, &[Rate::NONE, Rate { per_second: burst, burst }]);
            if wide {
                let bytes = r.usize(held..2 * held);
                core.limits.unfinished_total_bytes_max = pick(r, &[core.limits.unfinished_total_bytes_max, bytes]);
            }
        }
        costs
    }

    /// Whether anything of it was drawn.
    pub fn are_drawn(&self) -> bool {
        self.inflating > 0
    }
}
