//! How instances let connections go: what a seed draws for that. When it happens is in `cluster/letting_go.rs`.

use crate::options::{Fault, Options, chance, pick, rng};
use std::time::Duration;

/// One seed of so many has it, of those in which anything goes wrong.
const ONE_IN: u32 = 4;

/// What a seed draws.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draining {
    /// Of a thousand instances that are told to stop, how many are to do so in time.
    pub drains: u32,
    /// The mean of microseconds between two times at which an instance lets a share of its connections go, if that happens.
    pub shed_pause: Option<u64>,
    /// Of a thousand clients that are told when to go, how many do.
    pub obeys: u32,
}

impl Draining {
    /// Of most seeds there is none.
    pub fn draw(options: &mut Options) -> Option<Draining> {
        let mut rng = rng(options.seed, "draining");
        let r = &mut rng;
        if options.is_quiet() || r.u32(0..ONE_IN) > 0 {
            return None;
        }
        options.core.drain.delay = Duration::from_millis(pick(r, &[0, 0, 50, 1_000]));
        // Mostly so short that what has just been published is on its way still.
        options.core.drain.spread = Duration::from_millis(pick(r, &[0, 1, 20, 300, 4_000]));
        let mean = options.clients.pause.max * pick(r, &[20, 100, 500]) / options.clients.count as u64;
        if !options.has(Fault::InstanceShutdown) {
            options.faults.push((Fault::InstanceShutdown, mean.max(1)));
        }
        let sheds = chance(r, 500);
        Some(Draining {
            drains: pick(r, &[500, 900, 1_000]),
            shed_pause: sheds.then_some(mean.max(1)),
            obeys: pick(r, &[0, 500, 1_000]),
        })
    }
}
