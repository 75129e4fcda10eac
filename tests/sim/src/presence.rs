//! What a seed draws so that it is kept who is in some of its rooms: which rooms, how long a lease is, and faults that leases are there for.

use crate::options::{Fault, Options, Span, pick, rng};
use crate::reference::ROOMS;
use std::time::Duration;

/// Of so many seeds those with these remainders draw this. The others do what they would have done without.
const PRESENT_OF: u64 = 32;
const PRESENT: [u64; 7] = [3, 16, 17, 19, 23, 25, 28];

/// What one instance after the other has to live through.
const FAULTS: [Fault; 9] = [
    Fault::InstanceCrash,
    Fault::InstancePause,
    Fault::InstanceClockJump,
    Fault::NetworkStall,
    Fault::LinkReset,
    Fault::LinkBlackhole,
    Fault::RedisRestart,
    Fault::RedisFailover,
    Fault::RedisDataLoss,
];

/// Microseconds between what any client does and what any other does next, so that leases run out within a run.
const PAUSES: [u64; 3] = [50_000, 100_000, 200_000];
/// Steps until everything heals.
const STEPS: Span = Span { min: 3_000, max: 9_000 };
/// More would make the runs longer, and no different.
const CLIENTS_MAX: usize = 12;

/// What a seed has of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    /// Whether it is kept who is in each room.
    pub kept: Vec<bool>,
    /// Of a thousand rooms in which a client may be, in how many it wants to know who is there.
    pub observed: u32,
    /// Of a thousand things that a client does, how many ask who is there.
    pub questions: u32,
}

/// Whether a seed draws this. Its clients are asked who they are, too.
pub fn has_presence(seed: u64) -> bool {
    PRESENT.contains(&(seed % PRESENT_OF))
}

impl Presence {
    /// Draws what this seed has of it, and changes what else the seed has drawn where that is needed.
    pub fn draw(options: &mut Options) -> Option<Presence> {
        if !has_presence(options.seed) {
            return None;
        }
        let r = &mut rng(options.seed, "presence");
        options.clients.count = options.clients.count.min(CLIENTS_MAX);
        options.clients.burst = options.clients.burst.min(3);
        options.instances = options.instances.max(pick(r, &[1, 2, 2, 3]));
        let (count, before) = (options.clients.count as u64, options.clients.pause.max);
        let pause = pick(r, &PAUSES) * count;
        options.clients.pause = Span { min: pause / 5, max: pause * 2 };
        for (_, mean) in &mut options.faults {
            *mean = *mean * pause * 2 / before;
        }
        let lease = r.u64(1_000..=4_000);
        let faults = FAULTS.map(|fault| (fault, r.u32(0..3) == 0, pick(r, &[100, 500, 2_000]) * pause / count));
        let lapses = (Fault::InstanceLapses, r.u32(0..4) > 0, pick(r, &[2, 4, 8]) * lease * 1_000);
        for (fault, on, mean) in faults.into_iter().chain([lapses]) {
            if on && !options.is_quiet() && !options.has(fault) {
                options.faults.push((fault, mean));
            }
        }
        options.steps = STEPS.draw(r);
        options.session.keeps_presence = true;
        options.session.presence_lease = Duration::from_millis(lease);
        options.core.presence.linger = Duration::from_millis(pick(r, &[0, 300, 2_000]));
        options.relief.max = options.relief.max.max(pick(r, &[1, 3]) * lease * 1_000);
        if options.histories.replica_lag == 0 {
            options.histories.replica_lag = pick(r, &[1, 5, 50]);
        }
        let kept_of_four = pick(r, &[2, 4]);
        let mut kept: Vec<bool> = (0..ROOMS.len()).map(|_| r.u32(0..4) < kept_of_four).collect();
        let identities = options.identities.as_mut()?;
        identities.keep_presence(&mut kept);
        options.core.rules = identities.core_rules();
        options.core.presence.users_max = pick(r, &[1, 2, 3, 10_000, 10_000]);
        Some(Presence { kept, observed: pick(r, &[300, 1_000]), questions: pick(r, &[0, 30, 150]) })
    }
}
