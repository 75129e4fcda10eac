//! Malformed commands. A client may make some of them: each well-formed command forgives one, and so does time.

use crate::config::Config;
use crate::hash::{BySlot, Seeded, take_of};
use crate::slots::{Phase, Slots};
use crate::time::Time;
use hashbrown::HashMap;
use std::time::Duration;

const MINUTE_US: u128 = 60_000_000;

/// The errors of all connections. How many each has made and is not forgiven stands in its record.
#[derive(Debug)]
pub(crate) struct Errors {
    max: u16,
    per_minute: u64,
    /// Of connections with errors that are not forgiven: until when time has forgiven them.
    erring: BySlot<Time>,
}

impl Errors {
    pub fn new(config: &Config) -> Errors {
        Errors {
            max: config.limits.errors_max,
            per_minute: config.limits.errors_per_minute.into(),
            erring: HashMap::with_hasher(Seeded::new(config.seed)),
        }
    }

    /// What is well-formed forgives a malformed one.
    pub fn forgive(&mut self, slots: &mut Slots, slot: u32) {
        if slots.get(slot).errors > 0 {
            self.forgive_some(slots, slot, 1);
        }
    }

    fn forgive_some(&mut self, slots: &mut Slots, slot: u32, errors: u64) {
        let conn = slots.get_mut(slot);
        conn.errors = u16::try_from(errors).map_or(0, |errors| conn.errors.saturating_sub(errors));
        if conn.errors == 0 {
            self.erring.remove(&slot);
        }
    }

    /// Forgives what time makes good for: one error for each full share of a minute since the first that is not forgiven.
    fn forgive_by_time(&mut self, slots: &mut Slots, slot: u32, now: Time) {
        let Some(until) = self.erring.get_mut(&slot) else { return };
        let micros = now.since(*until).as_micros() as u64;
        let errors = u64::try_from(u128::from(micros) * u128::from(self.per_minute) / MINUTE_US).unwrap_or(u64::MAX);
        if errors > 0 {
            let share = u128::from(errors) * MINUTE_US / u128::from(self.per_minute);
            *until = *until + Duration::from_micros(share as u64);
            self.forgive_some(slots, slot, errors);
        }
    }

    /// Counts an error that is the client's. Returns whether that is one too many.
    pub fn count(&mut self, slots: &mut Slots, slot: u32, now: Time) -> bool {
        self.forgive_by_time(slots, slot, now);
        let conn = slots.get_mut(slot);
        if conn.errors >= self.max {
            return true;
        }
        conn.errors += 1;
        if conn.errors == 1 {
            self.erring.insert(slot, now);
        }
        false
    }

    /// Whatever the connection did is of no interest any more.
    pub fn forget(&mut self, slots: &mut Slots, slot: u32) {
        if std::mem::take(&mut slots.get_mut(slot).errors) > 0 {
            take_of(&mut self.erring, slot);
        }
    }

    pub fn check_invariants(&self, slots: &Slots) {
        for slot in slots.slots() {
            let (conn, errs) = (slots.get(slot), self.erring.contains_key(&slot));
            assert_eq!(conn.errors > 0, errs, "time forgives the errors of whoever has any");
            assert!(!errs || conn.phase == Phase::Open, "only an open connection errs");
        }
    }

    pub fn check_idle(&self) {
        assert!(self.erring.is_empty(), "an error is left");
    }
}
