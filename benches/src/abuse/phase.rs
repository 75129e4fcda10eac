//! What became of those who keep the rules: the fate of every message of a phase, and what happened to connections.

use std::collections::{BTreeMap, HashMap};

use fanfare_bench::comparison::median;
use serde_json::{Value, json};

/// What happened to whom, and how often.
pub type Counts = BTreeMap<String, u64>;

/// What happened to connections between two looks.
#[derive(Clone, Debug, Default)]
pub struct Incidents {
    /// Connections of those who keep the rules that the server ended: with which code, and whose.
    pub closed: Counts,
    /// Newcomers, and others who came back, that did not get in: by the status, or because they gave up.
    pub refused: Counts,
    /// From connecting to `SUBSCRIBED`, of each newcomer that got in, in ns.
    pub entered: Vec<u64>,
}

impl Incidents {
    /// Adds those of another time.
    pub fn add(&mut self, other: Incidents) {
        other.closed.into_iter().for_each(|(what, count)| *self.closed.entry(what).or_default() += count);
        other.refused.into_iter().for_each(|(what, count)| *self.refused.entry(what).or_default() += count);
        self.entered.extend(other.entered);
    }
}

/// The messages of one phase.
#[derive(Clone, Debug, Default)]
pub struct Phase {
    /// From sending to receiving, in ns, of each pair.
    pub latencies: Vec<Vec<u64>>,
    /// How late the sender's own thread was at its work, in ns: the scheduler's doing, and not part of the latencies.
    pub lateness: Vec<u64>,
    /// Messages sent.
    pub sent: u64,
    /// Messages with an `ACK` that did not arrive.
    pub lost: u64,
    /// Messages that were neither acknowledged nor refused.
    pub unanswered: u64,
    /// Messages that were refused, by their code.
    pub refused: Counts,
    /// What happened to connections, from the end of the phase before on.
    pub incidents: Incidents,
}

impl Phase {
    /// The quantile of all messages of all pairs, in ms.
    pub fn quantile_ms(&self, quantile: f64) -> f64 {
        quantile_ms(self.latencies.iter().flatten().copied().collect(), quantile)
    }

    /// The largest of the pairs' own 99th percentiles, in ms. Of fewer than a hundred messages that is the longest time.
    pub fn worst_p99_ms(&self) -> f64 {
        self.latencies.iter().map(|pair| quantile_ms(pair.clone(), 0.99)).fold(0.0, f64::max)
    }

    /// Adds another phase of the same pairs.
    pub fn add(&mut self, other: Phase) {
        self.latencies.resize(self.latencies.len().max(other.latencies.len()), Vec::new());
        self.latencies.iter_mut().zip(other.latencies).for_each(|(pair, more)| pair.extend(more));
        self.lateness.extend(other.lateness);
        self.sent += other.sent;
        self.lost += other.lost;
        self.unanswered += other.unanswered;
        other.refused.into_iter().for_each(|(code, count)| *self.refused.entry(code).or_default() += count);
        self.incidents.add(other.incidents);
    }

    /// The newcomers' quantile, in ms.
    pub fn entered_ms(&self, quantile: f64) -> f64 {
        quantile_ms(self.incidents.entered.clone(), quantile)
    }

    /// The figures for scripts.
    pub fn json(&self) -> Value {
        json!({
            "sent": self.sent, "lost": self.lost, "unanswered": self.unanswered, "refused": self.refused,
            "p50_ms": self.quantile_ms(0.5), "p99_ms": self.quantile_ms(0.99), "max_ms": self.quantile_ms(1.0),
            "p99_ms_worst": self.worst_p99_ms(),
            "p99_ms_median": median(&self.latencies.iter().map(|pair| quantile_ms(pair.clone(), 0.99)).collect::<Vec<_>>()),
            "sender_late_p99_ms": quantile_ms(self.lateness.clone(), 0.99),
            "closed": self.incidents.closed,
            "newcomers": {
                "entered": self.incidents.entered.len(), "refused": self.incidents.refused,
                "p50_ms": self.entered_ms(0.5), "p99_ms": self.entered_ms(0.99),
            },
        })
    }
}

fn quantile_ms(mut ns: Vec<u64>, quantile: f64) -> f64 {
    ns.sort_unstable();
    let place = (ns.len() as f64 * quantile).ceil() as usize;
    ns.get(place.max(1) - 1).map_or(0.0, |&ns| ns as f64 / 1e6)
}

/// What is known so far of the messages of a phase. They are numbered through all pairs in turn.
pub(crate) struct Ledger {
    phase: Phase,
    /// Of each message whose fate is not sealed.
    open: HashMap<u64, Fate>,
}

#[derive(Clone, Copy, Default)]
struct Fate {
    answered: bool,
    received: bool,
}

impl Ledger {
    pub(crate) fn new(pairs: usize) -> Ledger {
        Ledger { phase: Phase { latencies: vec![Vec::new(); pairs], ..Phase::default() }, open: HashMap::new() }
    }

    pub(crate) fn sent(&mut self, number: u64, late_ns: u64) {
        self.phase.sent += 1;
        self.phase.lateness.push(late_ns);
        self.open.insert(number, Fate::default());
    }

    pub(crate) fn acknowledged(&mut self, number: u64) {
        self.know(number, |fate| fate.answered = true);
    }

    pub(crate) fn refused(&mut self, number: u64, code: &str) {
        if self.open.remove(&number).is_some() {
            *self.phase.refused.entry(code.to_owned()).or_default() += 1;
        }
    }

    pub(crate) fn received(&mut self, number: u64, took_ns: u64) {
        if self.open.contains_key(&number) {
            let pair = number as usize % self.phase.latencies.len();
            self.phase.latencies[pair].push(took_ns);
            self.know(number, |fate| fate.received = true);
        }
    }

    fn know(&mut self, number: u64, what: impl FnOnce(&mut Fate)) {
        let Some(fate) = self.open.get_mut(&number) else { return };
        what(fate);
        if fate.answered && fate.received {
            self.open.remove(&number);
        }
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.open.is_empty()
    }

    /// The figures. What is open now stays so.
    pub(crate) fn close(mut self, incidents: Incidents) -> Phase {
        for fate in self.open.values() {
            self.phase.lost += u64::from(fate.answered && !fate.received);
            self.phase.unanswered += u64::from(!fate.answered);
        }
        Phase { incidents, ..self.phase }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fate_of_every_message_is_told() {
        let mut ledger = Ledger::new(2);
        (0..6).for_each(|number| ledger.sent(number, 0));
        ledger.acknowledged(0);
        ledger.received(0, 1_000_000);
        ledger.received(1, 3_000_000);
        ledger.acknowledged(1);
        ledger.acknowledged(2);
        ledger.refused(3, "broker_busy");
        ledger.received(4, 5_000_000);
        ledger.received(99, 1);
        assert!(!ledger.is_settled());
        let phase = ledger.close(Incidents::default());
        assert_eq!((phase.sent, phase.lost, phase.unanswered), (6, 1, 2));
        assert_eq!(phase.refused, BTreeMap::from([("broker_busy".to_owned(), 1)]));
        assert_eq!(phase.latencies, [vec![1_000_000, 5_000_000], vec![3_000_000]]);
        assert_eq!((phase.quantile_ms(0.5), phase.worst_p99_ms()), (3.0, 5.0));
    }

    #[test]
    fn quantiles_are_values_that_were_seen() {
        assert_eq!(quantile_ms((1..=200).map(|ms| ms * 1_000_000).collect(), 0.99), 198.0);
        assert_eq!(quantile_ms(vec![7_000_000], 0.99), 7.0);
        assert_eq!(quantile_ms(Vec::new(), 0.5), 0.0);
    }
}
