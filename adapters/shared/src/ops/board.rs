//! The board between the event loops, which write figures to it, and the operations thread, which reads them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use super::families::{Across, FAMILIES, FIGURES, LIMITS, SAMPLES, TURN_BOUNDS_US};
use super::instances::Instances;
use super::snapshot::Snapshot;
use crate::config::Config;
use crate::descriptors::Places;
use fanfare_core::Metrics;
use serde_json::{Value, json};
use std::net::SocketAddr;

/// Figures and readiness as last published. Each worker writes its own figures, any number of threads read them.
#[derive(Debug)]
pub struct Board {
    workers: Box<[Figures]>,
    limits: OnceLock<[Option<usize>; LIMITS.len()]>,
    ready: AtomicBool,
    /// Why not ready; meaningless while `ready`.
    reason: Mutex<String>,
}

/// The figures of one worker. One thread writes.
///
/// It stores each figure by itself, so a reader may see figures of two neighbouring moments side by side; each figure is
/// whole, and a counter never goes back. What belongs to different workers is not in one cache line.
#[derive(Debug)]
#[repr(align(128))]
pub struct Figures {
    values: [AtomicU64; SAMPLES],
    turns: [AtomicU64; TURN_BOUNDS_US.len() + 1],
    turn_nanos: AtomicU64,
    publishes: [AtomicU64; PUBLISH_BUCKETS],
    publish_micros: AtomicU64,
    recoveries: [AtomicU64; RECOVERY_BUCKETS],
    recovery_micros: AtomicU64,
    instances: Mutex<Instances>,
}

const PUBLISH_BUCKETS: usize = Metrics::PUBLISH_BOUNDS_US.len() + 1;
const RECOVERY_BUCKETS: usize = Metrics::RECOVERY_BOUNDS_US.len() + 1;

impl Figures {
    fn new() -> Figures {
        let figures = Figures {
            values: [const { AtomicU64::new(0) }; SAMPLES],
            turns: [const { AtomicU64::new(0) }; TURN_BOUNDS_US.len() + 1],
            turn_nanos: AtomicU64::new(0),
            publishes: [const { AtomicU64::new(0) }; PUBLISH_BUCKETS],
            publish_micros: AtomicU64::new(0),
            recoveries: [const { AtomicU64::new(0) }; RECOVERY_BUCKETS],
            recovery_micros: AtomicU64::new(0),
            instances: Mutex::default(),
        };
        figures.publish(&Snapshot::default());
        figures
    }

    /// Shows these figures from now on: some fifty relaxed stores, no lock, no allocation, but for news of instances.
    pub fn publish(&self, snapshot: &Snapshot) {
        for (slot, (figure, _)) in self.values.iter().zip(FIGURES) {
            slot.store(figure(snapshot), Relaxed);
        }
        for (slot, count) in self.publishes.iter().zip(snapshot.core.publish_counts) {
            slot.store(count, Relaxed);
        }
        self.publish_micros.store(snapshot.core.publish_micros, Relaxed);
        for (slot, count) in self.recoveries.iter().zip(snapshot.core.recovery_counts) {
            slot.store(count, Relaxed);
        }
        self.recovery_micros.store(snapshot.core.recovery_micros, Relaxed);
        if let Some(instances) = &snapshot.instances {
            let mut shown = self.instances.lock().unwrap_or_else(PoisonError::into_inner);
            instances.warn(&shown);
            shown.clone_from(instances);
        }
    }

    /// Counts one turn of the event loop that worked for `duration`. Only one thread may call this: as nobody else
    /// writes, a load and a store stand in for a locked addition.
    pub fn observe_turn(&self, duration: Duration) {
        // In nanoseconds, so that what is just above a bound is not rounded into its bucket.
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = TURN_BOUNDS_US.partition_point(|bound| bound * 1_000 < nanos);
        let turns = &self.turns[bucket];
        turns.store(turns.load(Relaxed) + 1, Relaxed);
        self.turn_nanos.store(self.turn_nanos.load(Relaxed).saturating_add(nanos), Relaxed);
    }
}

impl Board {
    /// The board of a server with this number of workers that has done nothing yet: not ready, because it is starting.
    pub fn new(workers: usize) -> Board {
        Board {
            workers: (0..workers).map(|_| Figures::new()).collect(),
            limits: OnceLock::new(),
            ready: AtomicBool::new(false),
            reason: Mutex::new("starting".to_owned()),
        }
    }

    /// Where this worker, counted from 0, shows its figures.
    pub fn worker(&self, worker: usize) -> &Figures {
        &self.workers[worker]
    }

    /// Shows the limits of the server, which hold until it ends.
    pub fn set_limits(&self, config: &Config, places: Places) {
        let (limits, admission) = (&config.core.limits, &config.core.admission);
        // Rounded up for each worker, as in the settings of its core.
        let divided = |all: usize| all.div_ceil(config.workers) * config.workers;
        let in_flight = config.redis.session.publishes_in_flight_max * config.workers;
        let _ = self.limits.set([
            Some(places.connections_max),
            Some(divided(admission.pending_upgrades_max)),
            Some(divided(limits.outbox_total_bytes_max)),
            config.redis.target.as_ref().map(|_| in_flight),
        ]);
    }

    /// In the order of [`LIMITS`]; none before they are known.
    pub(crate) fn limits(&self) -> [Option<usize>; LIMITS.len()] {
        self.limits.get().copied().unwrap_or_default()
    }

    /// `/readyz` says 200 from now on.
    pub fn set_ready(&self) {
        self.ready.store(true, Relaxed);
    }

    /// `/readyz` says 503 and why from now on. To be called when the reason changes, not in every turn: it takes a
    /// lock, which a reader holds while it copies the reason.
    pub fn set_unready(&self, reason: &str) {
        reason.clone_into(&mut self.lock_reason());
        self.ready.store(false, Relaxed);
    }

    /// `Err` says why not.
    pub(crate) fn readiness(&self) -> Result<(), String> {
        if self.ready.load(Relaxed) { Ok(()) } else { Err(self.lock_reason().clone()) }
    }

    /// Those of all workers, in the order of the samples in `families`.
    pub(crate) fn values(&self) -> [u64; SAMPLES] {
        std::array::from_fn(|sample| {
            let values = self.workers.iter().map(|figures| figures.values[sample].load(Relaxed));
            match FIGURES[sample].1 {
                Across::Sum => values.fold(0, u64::saturating_add),
                Across::Least => values.min().unwrap_or(0),
                Across::Most => values.max().unwrap_or(0),
            }
        })
    }

    /// Turns of all workers per bucket, not cumulative, and the sum of all in nanoseconds.
    pub(crate) fn turns(&self) -> ([u64; TURN_BOUNDS_US.len() + 1], u64) {
        let sum = |figure: &dyn Fn(&Figures) -> u64| self.workers.iter().map(figure).fold(0, u64::saturating_add);
        let turns = std::array::from_fn(|bucket| sum(&|figures| figures.turns[bucket].load(Relaxed)));
        (turns, sum(&|figures| figures.turn_nanos.load(Relaxed)))
    }

    /// Publishes of all workers per bucket, not cumulative, and the sum of their times in microseconds.
    pub(crate) fn publishes(&self) -> ([u64; PUBLISH_BUCKETS], u64) {
        let sum = |figure: &dyn Fn(&Figures) -> u64| self.workers.iter().map(figure).fold(0, u64::saturating_add);
        let counts = std::array::from_fn(|bucket| sum(&|figures| figures.publishes[bucket].load(Relaxed)));
        (counts, sum(&|figures| figures.publish_micros.load(Relaxed)))
    }

    /// Outages of all workers per bucket, not cumulative, and the sum of the times until their rooms were back in microseconds.
    pub(crate) fn recoveries(&self) -> ([u64; RECOVERY_BUCKETS], u64) {
        let sum = |figure: &dyn Fn(&Figures) -> u64| self.workers.iter().map(figure).fold(0, u64::saturating_add);
        let counts = std::array::from_fn(|bucket| sum(&|figures| figures.recoveries[bucket].load(Relaxed)));
        (counts, sum(&|figures| figures.recovery_micros.load(Relaxed)))
    }

    /// What the server says of itself, as JSON: where it listens, its version, whether it is ready, and some figures.
    pub(crate) fn about(&self, address: SocketAddr) -> Value {
        let values = self.values();
        let figure = |name: &str| {
            let mut before = FAMILIES.iter().take_while(|family| family.name != name);
            values[before.by_ref().map(|family| family.samples.len()).sum::<usize>()]
        };
        let readiness = self.readiness();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "address": address.to_string(),
            "ready": readiness.is_ok(),
            "reason": readiness.err(),
            "connections": figure("fanfare_connections"),
            "rooms": figure("fanfare_rooms"),
            "draining": figure("fanfare_draining") > 0,
        })
    }

    /// Those that keep presence together, as JSON: each worker knows of all.
    pub(crate) fn instances(&self) -> String {
        let first =
            self.workers.first().map(|figures| figures.instances.lock().unwrap_or_else(PoisonError::into_inner));
        first.map_or_else(|| Instances::default().json().to_owned(), |instances| instances.json().to_owned())
    }

    /// A text is whole whoever panicked.
    fn lock_reason(&self) -> MutexGuard<'_, String> {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
