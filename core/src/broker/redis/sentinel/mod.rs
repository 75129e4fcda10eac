//! Which master Sentinels name. Hears what each of them says, says where the session is to connect to, and knows no room.
//!
//! Each Sentinel is asked on a connection of its own, because of those that share a machine with a master none is left to tell when the
//! machine dies. Sentinels that disagree are believed by the epoch of their configuration: one that was cut off from the others keeps an old
//! one. So while there is no connection to Redis, most of them have to answer before any is believed, or [`PATIENCE`] must pass.

mod watch;

use super::{Address, ConnectionRequest, LinkStats, RedisConfig};
use crate::time::Time;
use std::time::Duration;
use watch::{News, Said, Watch};

/// For how long the answers of the others are waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// For how long Sentinels may disagree before the log hears of it: while they fail over, they do for a second or two.
const DISAGREEMENT_MIN: Duration = Duration::from_secs(10);

/// A Sentinel, and the last thing that it said since nobody was believed.
#[derive(Debug)]
struct Witness {
    watch: Watch,
    said: Option<Said>,
    /// Since when it names another master than who is believed to be it.
    disagrees_since: Option<Time>,
}

/// Who the master is believed to be.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Master {
    address: Address,
    epoch: Option<u64>,
}

/// The Sentinels of a group.
#[derive(Debug)]
pub(super) struct Sentinels {
    group: String,
    witnesses: Vec<Witness>,
    /// They are asked.
    has_begun: bool,
    /// Until when more answers are waited for.
    patient_until: Option<Time>,
    believed: Option<Master>,
    /// How often somebody else was believed than before.
    switches: u64,
    last_believed: Option<Address>,
    notice: Option<String>,
    has_told_disagreement: bool,
}

impl Sentinels {
    pub(super) fn new(sentinels: &[Address], group: &str, seed: u64) -> Sentinels {
        let witness = |(index, address): (usize, &Address)| {
            // Any other numbers: they shall not draw the same waits.
            let seed = seed.rotate_left(7).wrapping_add(index as u64 + 1);
            Witness { watch: Watch::new(address.clone(), seed), said: None, disagrees_since: None }
        };
        Sentinels {
            group: group.to_owned(),
            witnesses: sentinels.iter().enumerate().map(witness).collect(),
            has_begun: false,
            patient_until: None,
            believed: None,
            switches: 0,
            last_believed: None,
            notice: None,
            has_told_disagreement: false,
        }
    }

    /// How many connections there are.
    pub(super) fn count(&self) -> usize {
        self.witnesses.len()
    }

    /// How often the master was another one than before.
    pub(super) fn switches(&self) -> u64 {
        self.switches
    }

    /// What the log has to hear, once.
    pub(super) fn take_notice(&mut self) -> Option<String> {
        self.notice.take()
    }

    pub(super) fn stats(&self, index: usize) -> LinkStats<'_> {
        self.witnesses[index].watch.stats()
    }

    /// The session has no connection any more: nobody is believed until the Sentinels have been asked again.
    pub(super) fn doubt(&mut self, now: Time, config: &RedisConfig) {
        (self.has_begun, self.patient_until, self.believed) = (true, Some(now + PATIENCE), None);
        self.witnesses.iter_mut().for_each(|witness| witness.said = None);
        self.ask_again(now, config);
    }

    /// Asks again, while the one who is believed to be the master is believed still.
    pub(super) fn ask_again(&mut self, now: Time, config: &RedisConfig) {
        for Witness { watch, .. } in &mut self.witnesses {
            watch.ask_again(now, &self.group, config);
        }
    }

    /// Where the session is to connect to, if anywhere.
    pub(super) fn master(&mut self) -> Option<&Address> {
        if self.believed.is_none()
            && let Some(master) = self.most_believable()
        {
            self.believe(master);
        }
        self.believed.as_ref().map(|master| &master.address)
    }

    /// Whether enough of them have answered, or have had time enough.
    fn has_heard_enough(&self) -> bool {
        let answers = self.witnesses.iter().filter(|witness| witness.said.is_some()).count();
        answers * 2 > self.witnesses.len() || answers > 0 && self.patient_until.is_none()
    }

    fn most_believable(&self) -> Option<Master> {
        let masters = self.witnesses.iter().filter_map(|witness| match &witness.said {
            Some(Said::Master { address, epoch }) => Some(Master { address: address.clone(), epoch: *epoch }),
            Some(Said::Nobody) | None => None,
        });
        let masters = masters.filter(|_| self.has_heard_enough());
        masters.max_by_key(|master| master.epoch)
    }

    fn believe(&mut self, master: Master) {
        self.patient_until = None;
        self.witnesses.iter_mut().for_each(|witness| witness.disagrees_since = None);
        if let Some(last) = self.last_believed.replace(master.address.clone()).filter(|last| *last != master.address) {
            self.switches += 1;
            self.notice = Some(format!("the master is {} now, and was {last}", master.address));
        }
        (self.believed, self.has_told_disagreement) = (Some(master), false);
    }

    /// Why nobody is believed, for people, if it is not just because they have yet to answer.
    pub(super) fn trouble(&self) -> Option<String> {
        if self.believed.is_some() {
            return None;
        }
        if self.has_heard_enough() {
            return Some(format!("its Sentinels know no master called {}", self.group));
        }
        let mut errors = self.witnesses.iter().map(|witness| witness.watch.last_error());
        let first = errors.next().flatten()?;
        if errors.any(|error| error.is_none()) {
            return None;
        }
        Some(match self.witnesses.len() {
            1 => format!("its Sentinel does not answer: {first}"),
            count => format!("none of its {count} Sentinels answers: {first}"),
        })
    }

    fn hear(&mut self, index: usize, news: News, now: Time) {
        let master = match news {
            News::Answer(said) => {
                let before = self.witnesses[index].said.replace(said.clone());
                let Said::Master { address, epoch } = said else { return };
                // Where no epochs are told, whoever changes its mind has learned something.
                let has_changed = matches!(before, Some(Said::Master { address: before, .. }) if before != address);
                let believed = self.believed.as_ref().filter(|_| has_changed && epoch.is_none());
                if believed.is_some_and(|believed| believed.epoch.is_none() && believed.address != address) {
                    return self.believe(Master { address, epoch });
                }
                Master { address, epoch }
            }
            // Its epoch follows, where the Sentinel tells one.
            News::Switched(address) => {
                if !self.witnesses[index].watch.tells_epochs() && self.believed.is_some() {
                    self.believe(Master { address, epoch: None });
                }
                return;
            }
        };
        let Some(believed) = &mut self.believed else { return };
        if master.address == believed.address {
            believed.epoch = believed.epoch.max(master.epoch);
            self.witnesses[index].disagrees_since = None;
        } else if master.epoch > believed.epoch {
            self.believe(master);
        } else if now.since(*self.witnesses[index].disagrees_since.get_or_insert(now)) >= DISAGREEMENT_MIN
            && !std::mem::replace(&mut self.has_told_disagreement, true)
        {
            let witness = self.witnesses[index].watch.address();
            self.notice = Some(format!(
                "the Sentinel {witness} says that the master is {}, and others say {}, which they have learned later",
                master.address, believed.address
            ));
        }
    }

    pub(super) fn poll(&mut self, now: Time, config: &RedisConfig) -> Option<(usize, ConnectionRequest)> {
        if !self.has_begun {
            self.doubt(now, config);
        }
        let mut witnesses = self.witnesses.iter_mut().enumerate();
        witnesses.find_map(|(index, witness)| witness.watch.poll(now, config).map(|request| (index, request)))
    }

    pub(super) fn connected(&mut self, index: usize, now: Time, config: &RedisConfig) {
        self.witnesses[index].watch.connected(now, &self.group, config);
    }

    pub(super) fn disconnected(&mut self, index: usize, reason: &str, now: Time, config: &RedisConfig) {
        self.witnesses[index].watch.disconnected(reason, now, config);
    }

    pub(super) fn output(&self, index: usize) -> &[u8] {
        self.witnesses[index].watch.output()
    }

    pub(super) fn written(&mut self, index: usize, len: usize) {
        self.witnesses[index].watch.written(len);
    }

    pub(super) fn input(&mut self, index: usize, data: &[u8], now: Time, config: &RedisConfig) {
        let mut heard = Vec::new();
        self.witnesses[index].watch.input(data, now, &self.group, config, |news| heard.push(news));
        for news in heard {
            self.hear(index, news, now);
        }
    }

    pub(super) fn next_timeout(&self, config: &RedisConfig) -> Option<Time> {
        let watches = self.witnesses.iter().map(|witness| witness.watch.next_timeout(config));
        watches.chain(self.patient_until).min()
    }

    pub(super) fn timeout(&mut self, now: Time, config: &RedisConfig) {
        self.patient_until = self.patient_until.filter(|until| *until > now);
        for Witness { watch, .. } in &mut self.witnesses {
            watch.timeout(now, &self.group, config);
        }
    }
}
