//! Whom Sentinels have named to an instance, and so where it may connect to: to nobody before most have answered, or it has waited for
//! that; to nobody if it has been told of a later master; and with all its connections to one server.

use crate::network::{Network, Side, WireId};
use crate::sentinel::Target;
use fanfare_core::broker::redis::{Address, LinkId, LinkState, RedisBroker};
use fanfare_core::time::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// For how long an instance without connections waits until most Sentinels have answered, before it believes fewer.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
struct Told {
    /// The place in what the Sentinel says behind it.
    behind: u64,
    server: usize,
    /// None where it is not told.
    epoch: Option<u64>,
    is_answer: bool,
}

/// What Sentinels say on each wire.
#[derive(Debug, Default)]
pub struct Named {
    wires: BTreeMap<WireId, Vec<Told>>,
}

impl Named {
    /// The answer to who the master is.
    pub fn answered(&mut self, wire: WireId, behind: u64, (server, epoch): (usize, Option<u64>)) {
        self.wires.entry(wire).or_default().push(Told { behind, server, epoch, is_answer: true });
    }

    /// The same, told unasked.
    pub fn switched(&mut self, wire: WireId, behind: u64, server: usize) {
        self.wires.entry(wire).or_default().push(Told { behind, server, epoch: None, is_answer: false });
    }
}

/// What one instance knows.
#[derive(Debug)]
pub struct Knowledge {
    /// Of its links those to servers.
    links: Vec<LinkId>,
    /// The latest epoch in which it has heard of each server, since all connections were lost.
    servers: BTreeMap<usize, Option<u64>>,
    /// The links on which a Sentinel has answered since then, and when that was.
    answered: BTreeSet<LinkId>,
    doubts_since: Option<Time>,
    sentinels: usize,
    /// It has connections to a server, or opens them.
    is_anywhere: bool,
    led_to: Option<Address>,
}

impl Knowledge {
    /// It knows nothing; of its links the last so many are to Sentinels.
    pub fn new(session: &RedisBroker, sentinels: usize) -> Knowledge {
        let count = session.links().count() - sentinels;
        let links = session.links().take(count).collect();
        Knowledge {
            links,
            servers: BTreeMap::new(),
            answered: BTreeSet::new(),
            doubts_since: None,
            sentinels,
            is_anywhere: false,
            led_to: None,
        }
    }

    /// The instance has its first turn.
    pub fn begin(&mut self, now: Time) {
        self.doubts_since.get_or_insert(now);
    }

    /// The instance has read on the wire of a Sentinel.
    pub fn read(&mut self, (link, wire): (LinkId, WireId), named: &mut Named, network: &Network) {
        let read = network.read_total(wire, Side::Near);
        let Some(told) = named.wires.get_mut(&wire) else { return };
        for Told { server, epoch, is_answer, .. } in told.extract_if(.., |told| told.behind <= read) {
            let latest = self.servers.entry(server).or_default();
            *latest = epoch.max(*latest);
            if is_answer {
                self.answered.insert(link);
            }
        }
    }

    /// The session was told something. If all its connections are lost for that, the Sentinels have to be asked again.
    pub fn look(&mut self, session: &RedisBroker, now: Time) {
        let is_anywhere = self.links.iter().any(|link| session.state(*link) != LinkState::Waiting);
        let target = session.address();
        let is_led = target.is_some() && target != self.led_to.as_ref();
        if std::mem::replace(&mut self.is_anywhere, is_anywhere) && !is_anywhere && !is_led {
            self.servers.clear();
            self.answered.clear();
            self.doubts_since = Some(now);
        }
        if target.is_some() {
            self.led_to = target.cloned();
        }
    }

    /// The instance connects to a server.
    ///
    /// # Errors
    /// If it should not.
    pub fn opens(&mut self, server: usize, now: Time) -> Result<(), String> {
        self.is_anywhere = true;
        let told = self.servers.get(&server).copied();
        let answers = self.answered.len();
        let is_patient = self.doubts_since.is_none_or(|since| now.since(since) < PATIENCE);
        match told {
            _ if answers == 0 => Err(format!("it connects to server {server} before a Sentinel has been asked")),
            _ if answers * 2 <= self.sentinels && is_patient => Err(format!(
                "it connects to server {server}, and {answers} of {} Sentinels have answered",
                self.sentinels
            )),
            None => Err(format!("it connects to server {server}, which no Sentinel has named")),
            Some(_) => self.check_latest(server),
        }
    }

    /// The instance is connected to a server, or connects to it.
    ///
    /// # Errors
    /// If it knows that another one is the master since a later epoch.
    pub fn check_latest(&self, server: usize) -> Result<(), String> {
        let told = self.servers.get(&server).copied().flatten();
        match told.is_some() && self.servers.values().any(|other| *other > told) {
            true => Err(format!("it uses server {server}, and has been told: {:?}", self.servers)),
            false => Ok(()),
        }
    }
}

/// Whether all connections beside those to Sentinels lead to one server, which is the master as far as the instance knows.
///
/// # Errors
/// If they do not.
pub fn check_together(knowledge: &Knowledge, targets: impl Iterator<Item = Target>) -> Result<(), String> {
    let mut servers = targets.filter_map(|target| match target {
        Target::Server(number) => Some(number),
        Target::Sentinel(_) => None,
    });
    let Some(first) = servers.next() else { return Ok(()) };
    match servers.find(|server| *server != first) {
        Some(other) => Err(format!("it is connected to the servers {first} and {other}")),
        None => knowledge.check_latest(first),
    }
}
