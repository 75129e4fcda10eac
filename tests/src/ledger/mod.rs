//! Compares what senders of a room with history were told with what its members heard, by the logs that both have written. It knows the
//! written protocol and neither servers nor clients.

mod member;
mod scripts;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Once;

use serde_json::Value;

use crate::Adapter;
use crate::stored::Place;
use member::{Member, Succession};

pub use scripts::Script;

/// How many faults are shown of those that were found.
const FAULTS_SHOWN: usize = 10;

/// What was acknowledged, and where it was stored.
pub struct Ledger {
    places: BTreeMap<String, Place>,
    faults: Vec<String>,
}

/// What became of all acknowledged messages at one member.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Heard, and not taken back by a `GAP`.
    pub received: u64,
    /// Heard again.
    pub repeated: u64,
    /// Not received.
    pub missing: u64,
    /// How many of the missing ones it was told, by why.
    pub told: Told,
    /// How often it came back with a position.
    pub returns: u64,
}

/// Missing messages of which a member was told.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// By a `GAP` that says `trimmed`.
    pub trimmed: u64,
    /// By a `GAP` that says `failover`.
    pub failover: u64,
    /// It had not seen them when Redis lost them, and was told of the new epoch: by a `GAP` that says `epoch`, or a `SUBSCRIBED`.
    pub epoch: u64,
}

impl Told {
    fn all(&self) -> u64 {
        self.trimmed + self.failover + self.epoch
    }
}

/// The accounts of all members, and what is wrong.
pub struct Figures {
    /// Messages that were acknowledged.
    pub acknowledged: u64,
    /// The last offset of any of them.
    pub last_offset: u64,
    /// One for each member.
    pub accounts: Vec<Account>,
    faults: Vec<String>,
}

impl Ledger {
    /// Reads the logs of all senders.
    ///
    /// # Panics
    ///
    /// If a line is none that a sender writes.
    pub fn of_senders(logs: impl IntoIterator<Item = Vec<Value>>) -> Ledger {
        let mut ledger = Ledger { places: BTreeMap::new(), faults: Vec::new() };
        for line in logs.into_iter().flatten() {
            let Some(message) = line["acknowledged"].as_str() else {
                assert!(line["refused"].is_string(), "{line}");
                continue;
            };
            let place = Place::of(&line);
            let before = ledger.places.insert(message.to_owned(), place.clone());
            if let Some(before) = before.filter(|before| *before != place) {
                ledger.faults.push(format!("{message} is stored twice, at {before:?} and {place:?}"));
            }
        }
        let at: BTreeSet<_> = ledger.places.values().map(|place| (&place.epoch, place.offset)).collect();
        if at.len() != ledger.places.len() {
            ledger.faults.push("two messages have one place".to_owned());
        }
        ledger
    }

    /// Compares that with the logs of members.
    ///
    /// # Panics
    ///
    /// If a line is none that a member writes.
    pub fn compare(&self, logs: impl IntoIterator<Item = Vec<Value>>) -> Figures {
        let mut figures = Figures {
            acknowledged: self.places.len() as u64,
            last_offset: self.places.values().map(|place| place.offset).max().unwrap_or_default(),
            accounts: Vec::new(),
            faults: self.faults.clone(),
        };
        let logs: Vec<Vec<Value>> = logs.into_iter().collect();
        let mut succession = Succession::default();
        logs.iter().flatten().for_each(|line| succession.read(line));
        for log in &logs {
            let mut members = BTreeMap::<u64, Member<'_>>::new();
            for line in log {
                match line["member"].as_u64() {
                    Some(number) => members.entry(number).or_insert_with(|| Member::new(&succession)).read(line),
                    None => {
                        let late = line["late"].as_u64().unwrap_or_else(|| panic!("not of a member: {line}"));
                        figures.faults.push(format!("{late} members did not hear the end"));
                    }
                }
            }
            for (number, member) in members {
                let (account, faults) = member.account(&self.places);
                figures.accounts.push(account);
                figures.faults.extend(faults.into_iter().map(|fault| format!("member {number}: {fault}")));
            }
        }
        figures
    }
}

impl Figures {
    /// Whether something is missing, repeated, told or in an order that the protocol does not allow, or that it does not tell of.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = self.faults.clone();
        for (index, account) in self.accounts.iter().enumerate() {
            if account.repeated > 0 {
                faults.push(format!("account {index}: {} repeated", account.repeated));
            }
            if account.missing > account.told.all() {
                faults.push(format!("account {index}: {} missing in silence", account.missing - account.told.all()));
            }
        }
        faults
    }

    /// Prints the scenario's line of the table, past the harness that keeps what tests print.
    pub fn print(&self, broker: &str, scenario: &str) {
        static HEAD: Once = Once::new();
        let mut out = std::io::stdout().lock();
        let mut say = |line: String| writeln!(out, "{line}").expect("standard output takes lines");
        HEAD.call_once(|| {
            say("\n| server, broker | scenario | members | acknowledged | received | repeated | missing | told |"
                .to_owned());
            say("|---|---|---|---|---|---|---|---|".to_owned());
        });
        say(format!(
            "| {}, {broker} | {scenario} | {} | {} | {} | {} | {} | {} |",
            Adapter::under_test().name(),
            self.accounts.len(),
            self.acknowledged,
            self.range(|account| account.received),
            self.range(|account| account.repeated),
            self.range(|account| account.missing),
            self.told(),
        ));
    }

    /// Of how many messages members were told, by why.
    fn told(&self) -> String {
        let reasons = [
            ("trimmed", self.range(|account| account.told.trimmed)),
            ("failover", self.range(|account| account.told.failover)),
            ("epoch", self.range(|account| account.told.epoch)),
        ];
        let reasons =
            reasons.into_iter().filter(|(_, range)| range != "0").map(|(reason, range)| format!("{range} {reason}"));
        let reasons: Vec<_> = reasons.collect();
        if reasons.is_empty() { "0".to_owned() } else { reasons.join(", ") }
    }

    /// The least and the most of a figure.
    fn range(&self, of: impl Fn(&Account) -> u64) -> String {
        let least = self.accounts.iter().map(&of).min().unwrap_or_default();
        let most = self.accounts.iter().map(&of).max().unwrap_or_default();
        if least == most { least.to_string() } else { format!("{least} to {most}") }
    }

    /// Prints the scenario's line, and fails if something is lost in silence, repeated or out of order.
    ///
    /// # Panics
    ///
    /// If it is.
    #[track_caller]
    pub fn assert_nothing_is_lost_in_silence(&self, broker: &str, scenario: &str) {
        self.print(broker, scenario);
        let faults = self.faults();
        assert!(
            faults.is_empty(),
            "{} faults in {scenario:?}:\n{}",
            faults.len(),
            faults.iter().take(FAULTS_SHOWN).cloned().collect::<Vec<_>>().join("\n")
        );
    }
}
