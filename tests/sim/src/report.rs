//! What many seeds have in common: sums of their outcomes, and the words for them.

use crate::cluster::Outcome;
use crate::options::Fault;
use std::collections::BTreeMap;
use std::fmt;

/// Sums over seeds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Seeds that held.
    pub held: u64,
    /// Seeds that failed, in the order in which they were found.
    pub failed: Vec<u64>,
    steps: u64,
    virtual_micros: u64,
    connections: u64,
    published: u64,
    delivered: u64,
    short_writes: u64,
    output_kills: u64,
    counts: BTreeMap<&'static str, u64>,
    faults: BTreeMap<Fault, u64>,
}

impl Report {
    /// Adds a seed that held.
    pub fn add(&mut self, outcome: &Outcome) {
        self.held += 1;
        self.steps += outcome.steps;
        self.virtual_micros += outcome.virtual_micros;
        self.connections += outcome.connections;
        self.published += outcome.published;
        self.delivered += outcome.delivered;
        self.short_writes += outcome.short_writes;
        self.output_kills += outcome.output_kills;
        for (what, count) in &outcome.counts {
            *self.counts.entry(what).or_default() += count;
        }
        for (fault, count) in &outcome.faults {
            *self.faults.entry(*fault).or_default() += count;
        }
    }

    /// Seeds that were run.
    pub fn seeds(&self) -> u64 {
        self.held + self.failed.len() as u64
    }

    /// Happenings of those that held.
    pub fn steps(&self) -> u64 {
        self.steps
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.virtual_micros / 1_000_000;
        let lines = [
            ("seeds", self.seeds()),
            ("failures", self.failed.len() as u64),
            ("steps", self.steps),
            ("virtual seconds", seconds),
            ("connections of clients", self.connections),
            ("messages published", self.published),
            ("messages delivered", self.delivered),
            ("short writes to clients", self.short_writes),
            ("subscribers that Redis cut off for their unread output", self.output_kills),
        ];
        for (name, number) in lines.into_iter().chain(self.counts.iter().map(|(what, count)| (*what, *count))) {
            writeln!(f, "{number:>14}  {name}")?;
        }
        writeln!(f, "faults:")?;
        for (fault, count) in &self.faults {
            writeln!(f, "{count:>14}  {fault:?}")?;
        }
        if !self.failed.is_empty() {
            writeln!(f, "failed: {:?}", self.failed)?;
        }
        Ok(())
    }
}
