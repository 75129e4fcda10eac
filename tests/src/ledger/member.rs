//! One member's log, read line by line as a client of the protocol has to understand it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Account, Told};
use crate::stored::Place;

/// Which epoch was told to come after which, to anybody.
#[derive(Default)]
pub(super) struct Succession(BTreeSet<(String, String)>);

impl Succession {
    /// Reads a line of a member's log.
    pub fn read(&mut self, line: &Value) {
        let text = &line["heard"];
        if let (Some(previous), Some(epoch)) = (text["previous"].as_str(), text["epoch"].as_str()) {
            self.0.insert((previous.to_owned(), epoch.to_owned()));
        }
    }

    /// The epochs between two of them. Whoever was away while one began and ended is told of the next one alone.
    fn between(&self, previous: &str, epoch: &str) -> BTreeSet<String> {
        let (after, before) = (self.reached(previous, false), self.reached(epoch, true));
        after.intersection(&before).cloned().collect()
    }

    /// All epochs that come after this one, or before it.
    fn reached(&self, from: &str, backwards: bool) -> BTreeSet<String> {
        let mut reached = BTreeSet::new();
        let mut open = vec![from];
        while let Some(at) = open.pop() {
            for (previous, epoch) in &self.0 {
                let (here, next) = if backwards { (epoch, previous) } else { (previous, epoch) };
                if here == at && reached.insert(next.clone()) {
                    open.push(next);
                }
            }
        }
        reached
    }
}

/// What one member has heard so far, and what it was told of.
pub(super) struct Member<'a> {
    succession: &'a Succession,
    /// Behind which everything is to come.
    place: Option<Place>,
    /// It has connected, with this position, and was not answered yet.
    asked: Option<Option<Place>>,
    is_connected: bool,
    /// `recovered` was false, and the `GAP`s that say why lead here.
    owed: Option<Place>,
    /// What it has heard, in order, and where. What a `GAP` has taken back is not there any more.
    heard: Vec<(u64, String)>,
    known: BTreeSet<String>,
    /// Those that it was told of, and those between them.
    epochs: BTreeSet<String>,
    trimmed: Vec<(String, u64, u64)>,
    /// Epochs that it was told have ended, behind which offset, and whether it was told of a loss.
    ended: Vec<(BTreeSet<String>, u64, bool)>,
    repeated: u64,
    returns: u64,
    faults: Vec<String>,
}

impl<'a> Member<'a> {
    pub(super) fn new(succession: &'a Succession) -> Member<'a> {
        Member {
            succession,
            place: None,
            asked: None,
            is_connected: false,
            owed: None,
            heard: Vec::new(),
            known: BTreeSet::new(),
            epochs: BTreeSet::new(),
            trimmed: Vec::new(),
            ended: Vec::new(),
            repeated: 0,
            returns: 0,
            faults: Vec::new(),
        }
    }

    pub(super) fn read(&mut self, line: &Value) {
        if let Some(since) = line.get("since") {
            let since = (!since.is_null()).then(|| Place::of(since));
            if since != self.place {
                self.fault(line, "it does not come back with its position");
            }
            self.returns += u64::from(since.is_some());
            self.owed = None;
            self.asked = Some(since);
        } else if line.get("closed").is_some() {
            (self.asked, self.is_connected) = (None, false);
            if self.owed.is_some() {
                self.fault(line, "it was not told what is missing");
            }
        } else {
            let text = &line["heard"];
            match text["type"].as_str() {
                Some("SUBSCRIBED") => self.subscribed(text),
                Some("MESSAGE") if self.is_connected => self.message(text),
                Some("GAP") if self.is_connected => self.gap(text),
                _ => self.fault(text, "nothing that a member is told now"),
            }
        }
    }

    fn subscribed(&mut self, text: &Value) {
        let Some(since) = self.asked.take() else { return self.fault(text, "nobody has asked") };
        self.is_connected = true;
        let place = Place::of(text);
        self.enter(&place.epoch);
        match (since, text["recovered"].as_bool()) {
            (None, None) if place.offset == 0 => self.place = Some(place),
            (Some(since), Some(true)) if place.offset == since.offset => {
                if place.epoch != since.epoch {
                    self.ended.push((self.epochs_but(&place.epoch), since.offset, false));
                }
                self.place = Some(place);
            }
            (Some(_), Some(false)) => self.owed = Some(place),
            _ => self.fault(text, "no such answer"),
        }
    }

    fn message(&mut self, text: &Value) {
        if self.owed.is_some() {
            self.fault(text, "it was not told what is missing");
        }
        let (Some(offset), Some(message)) = (text["offset"].as_u64(), text["message"].as_str()) else {
            return self.fault(text, "no offset");
        };
        let place = self.place.as_mut().expect("who is connected has a place");
        let follows = offset == place.offset + 1;
        place.offset = place.offset.max(offset);
        if !self.known.insert(message.to_owned()) {
            self.repeated += 1;
        } else {
            self.heard.push((offset, message.to_owned()));
        }
        if !follows {
            self.fault(text, "it does not follow");
        }
    }

    fn gap(&mut self, text: &Value) {
        let place = self.place.clone().expect("who is connected has a place");
        let Some(epoch) = text["epoch"].as_str().map(str::to_owned) else { return self.fault(text, "no epoch") };
        let number = |field: &str| text[field].as_u64();
        let next = match text["reason"].as_str() {
            Some("trimmed") => {
                let (Some(from), Some(to)) = (number("from"), number("to")) else {
                    return self.fault(text, "no bounds");
                };
                if epoch != place.epoch || from != place.offset + 1 || to < from {
                    self.fault(text, "it does not follow");
                }
                self.trimmed.push((epoch.clone(), from, to));
                to
            }
            Some(reason @ ("failover" | "epoch")) => {
                let Some(fence) = number("fence") else { return self.fault(text, "no fence") };
                let is_lost = reason == "failover";
                if text["previous"] != place.epoch.as_str() || fence > place.offset || is_lost != (fence < place.offset)
                {
                    self.fault(text, "it does not follow");
                }
                self.take_back_behind(fence);
                self.enter(&epoch);
                self.ended.push((self.epochs_but(&epoch), fence, is_lost));
                fence
            }
            _ => return self.fault(text, "no such reason"),
        };
        let place = Place { epoch, offset: next };
        if self.owed.as_ref() == Some(&place) {
            self.owed = None;
        }
        self.place = Some(place);
    }

    fn take_back_behind(&mut self, fence: u64) {
        while let Some((_, message)) = self.heard.pop_if(|(offset, _)| *offset > fence) {
            self.known.remove(&message);
        }
    }

    /// It is in this epoch from here on, and was in all before it.
    fn enter(&mut self, epoch: &str) {
        if let Some(place) = &self.place {
            self.epochs.extend(self.succession.between(&place.epoch, epoch));
        }
        self.epochs.insert(epoch.to_owned());
    }

    fn epochs_but(&self, epoch: &str) -> BTreeSet<String> {
        self.epochs.iter().filter(|known| *known != epoch).cloned().collect()
    }

    fn fault(&mut self, line: &Value, what: &str) {
        self.faults.push(format!("{what}: {line} at {:?}", self.place));
    }

    /// What became of each acknowledged message here, and what is wrong.
    pub(super) fn account(mut self, acknowledged: &BTreeMap<String, Place>) -> (Account, Vec<String>) {
        for (offset, message) in &self.heard {
            match acknowledged.get(message) {
                Some(place) if place.offset == *offset && self.epochs.contains(&place.epoch) => {}
                Some(place) => self
                    .faults
                    .push(format!("{message} was heard at {offset}, in one of {:?}, and is at {place:?}", self.epochs)),
                None => self.faults.push(format!("{message} was heard and never acknowledged")),
            }
        }
        let offsets: BTreeSet<_> = acknowledged.values().map(|place| (place.epoch.as_str(), place.offset)).collect();
        for (epoch, from, to) in &self.trimmed {
            if (*from..=*to).any(|offset| !offsets.contains(&(epoch.as_str(), offset))) {
                self.faults.push(format!("of {from} to {to} in {epoch} not all was ever there"));
            }
        }
        let missing = acknowledged.iter().filter(|(message, _)| !self.known.contains(*message));
        let missing: Vec<&Place> = missing.map(|(_, place)| place).collect();
        let mut told = Told::default();
        for place in &missing {
            if self
                .trimmed
                .iter()
                .any(|(epoch, from, to)| *epoch == place.epoch && (*from..=*to).contains(&place.offset))
            {
                told.trimmed += 1;
            } else if self.was_told(place, true) {
                told.failover += 1;
            } else if self.was_told(place, false) {
                told.epoch += 1;
            }
        }
        let account = Account {
            received: (acknowledged.len() - missing.len()) as u64,
            repeated: self.repeated,
            missing: missing.len() as u64,
            told,
            returns: self.returns,
        };
        (account, self.faults)
    }

    /// Whether it was told that this message's epoch has ended before it. Another one has come in its place then, or none so far.
    fn was_told(&self, place: &Place, of_a_loss: bool) -> bool {
        let has_ended = self
            .ended
            .iter()
            .any(|(epochs, fence, lost)| *lost == of_a_loss && epochs.contains(&place.epoch) && place.offset > *fence);
        let is_replaced = self.heard.binary_search_by_key(&place.offset, |(offset, _)| *offset).is_ok();
        has_ended && (is_replaced || self.place.as_ref().is_some_and(|last| last.offset < place.offset))
    }
}
