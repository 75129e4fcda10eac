//! Which nodes a Cluster has, and which slots each of them: asked again and again of one node after another. Hears what they say, and knows
//! no room.
//!
//! RESP2 and nothing newer, because every version speaks it. A node that is cut off from the others says so after a while
//! (`cluster_state:fail`), and goes on to tell what it knew. It is believed only if all of them say the same.

use std::collections::VecDeque;
use std::time::Duration;

use super::super::backoff::Backoff;
use super::super::buffers::{Inbox, Outbox, Received, Stopped};
use super::super::command;
use super::super::names::SLOTS;
use super::super::redirect::NodeName;
use super::super::refusal::explained_end;
use super::super::resp::{Items, Limits, Reply};
use super::super::{Address, ConnectionRequest, LinkState, LinkStats, RedisConfig};
use crate::time::Time;

/// How often it is asked where the slots are.
const INTERVAL: Duration = Duration::from_secs(1);
/// The same while something is known to be amiss. A failover takes the Cluster a second at least.
const HURRIED_INTERVAL: Duration = Duration::from_millis(100);
/// Of any reply, in bytes: where each slot stands by itself, its line takes some 200 with three replicas.
const REPLY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What a connection and each of its answers may take. Another node knows the same, so it is not waited for as long as the one that has a room.
const ANSWER_TIMEOUT_MAX: Duration = Duration::from_secs(2);
/// Nodes that are known at most. Nobody has as many.
pub(super) const NODES_MAX: usize = 1_000;
const SAYS_DOWN: &str = "it says that its Cluster is down (cluster_state:fail)";

#[derive(Clone, Copy, Debug)]
enum State {
    Waiting { until: Time },
    Connecting { deadline: Time },
    Up,
}

/// What a reply answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Auth,
    /// `CLUSTER INFO`, for its state.
    Info,
    /// `CLUSTER SLOTS`.
    Slots,
}

/// Which slots a master has: the first, the last, and where it is.
pub(super) type Range = (u16, u16, Address);

/// The one connection, or the wait for the next.
#[derive(Debug)]
pub(super) struct Scout {
    /// The nodes that were configured, and those that have been learned.
    seeds: Vec<Address>,
    known: Vec<Address>,
    /// Counts which one is asked, over seeds and known ones.
    turn: usize,
    address: Address,
    state: State,
    drop_due: bool,
    inbox: Inbox,
    outbox: Outbox,
    awaited: VecDeque<Asked>,
    is_heard: bool,
    /// The node that is asked has said that the Cluster is down.
    says_down: bool,
    /// So have all others, or they do not answer.
    is_down: bool,
    asked_at: Time,
    /// When the answer must have come.
    deadline: Option<Time>,
    /// It is asked more often until then.
    hurried_until: Time,
    /// How many nodes in a row have said that the Cluster is down, or have not answered.
    failed: usize,
    backoff: Backoff,
    last_error: Option<String>,
}

fn answer_timeout(config: &RedisConfig) -> Duration {
    config.connect_timeout.min(ANSWER_TIMEOUT_MAX)
}

impl Scout {
    /// Its first attempt to connect to one of these nodes is due at once.
    ///
    /// # Panics
    ///
    /// If there are none.
    pub(super) fn new(seeds: &[Address], seed: u64) -> Scout {
        // Not all instances begin with the same.
        let turn = (seed % seeds.len() as u64) as usize;
        Scout {
            address: seeds[turn].clone(),
            seeds: seeds.to_vec(),
            known: Vec::new(),
            turn,
            state: State::Waiting { until: Time::ZERO },
            drop_due: false,
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            awaited: VecDeque::new(),
            is_heard: false,
            says_down: false,
            is_down: false,
            asked_at: Time::ZERO,
            deadline: None,
            hurried_until: Time::ZERO,
            failed: 0,
            backoff: Backoff::new(seed.rotate_left(9)),
            last_error: None,
        }
    }

    pub(super) fn stats(&self) -> LinkStats<'_> {
        let state = match self.state {
            State::Waiting { .. } => LinkState::Waiting,
            State::Connecting { .. } => LinkState::Connecting,
            State::Up => LinkState::Up,
        };
        LinkStats { state, last_error: self.last_error.as_deref() }
    }

    /// Why nobody has said where the slots are, for people, once every node has been asked.
    pub(super) fn trouble(&self) -> Option<String> {
        let error = self.last_error.as_deref().filter(|_| self.failed >= self.nodes())?;
        Some(match self.nodes() {
            1 => format!("its node {} does not say where the slots are: {error}", self.address),
            count => format!("none of its {count} nodes says where the slots are: {}: {error}", self.address),
        })
    }

    /// Whether no node takes anything, as all that answer say.
    pub(super) fn is_down(&self) -> bool {
        self.is_down
    }

    fn nodes(&self) -> usize {
        self.seeds.len() + self.known.len()
    }

    /// Something is amiss: it is asked at once, and more often for a while.
    pub(super) fn hurry(&mut self, now: Time) {
        self.hurried_until = now + 5 * INTERVAL;
        if let State::Waiting { until } = &mut self.state {
            *until = (*until).min(now + HURRIED_INTERVAL);
        }
    }

    pub(super) fn poll(&mut self, now: Time, config: &RedisConfig) -> Option<ConnectionRequest> {
        if std::mem::take(&mut self.drop_due) {
            return Some(ConnectionRequest::Drop);
        }
        match self.state {
            State::Waiting { until } if until <= now => {
                self.state = State::Connecting { deadline: now + answer_timeout(config) };
                Some(ConnectionRequest::Open { address: self.address.clone() })
            }
            _ => None,
        }
    }

    pub(super) fn connected(&mut self, now: Time, config: &RedisConfig) {
        if let State::Connecting { .. } = self.state {
            (self.state, self.is_heard) = (State::Up, false);
            if config.password.is_some() {
                self.awaited.push_back(Asked::Auth);
                let words: Vec<&[u8]> =
                    std::iter::once("AUTH").chain(config.auth_arguments()).map(str::as_bytes).collect();
                command::command(self.outbox.tail(), &words);
            }
            self.ask(now, config);
        }
    }

    fn ask(&mut self, now: Time, config: &RedisConfig) {
        (self.asked_at, self.deadline) = (now, Some(now + answer_timeout(config)));
        self.awaited.extend([Asked::Info, Asked::Slots]);
        command::command(self.outbox.tail(), &[b"CLUSTER", b"INFO"]);
        command::command(self.outbox.tail(), &[b"CLUSTER", b"SLOTS"]);
    }

    /// The connection ended, or could not be established.
    pub(super) fn disconnected(&mut self, reason: &str, now: Time, config: &RedisConfig) {
        self.drop_due = false;
        let unheard = (matches!(self.state, State::Up) && !self.is_heard).then(|| explained_end(reason));
        self.lose(unheard.as_deref().unwrap_or(reason), now, config);
    }

    /// Turns to the next node.
    fn lose(&mut self, reason: &str, now: Time, config: &RedisConfig) {
        if let State::Waiting { .. } = self.state {
            return;
        }
        self.failed = self.failed.saturating_add(1);
        // A round of all nodes is made without a pause.
        let has_tried_all = self.failed.is_multiple_of(self.nodes());
        let wait =
            if has_tried_all { self.backoff.next(config.backoff_min, config.backoff_max) } else { Duration::ZERO };
        self.state = State::Waiting { until: now + wait };
        (self.inbox, self.outbox) = (Inbox::default(), Outbox::default());
        self.awaited.clear();
        (self.says_down, self.deadline) = (false, None);
        self.last_error = Some(reason.to_owned());
        self.turn = (self.turn + 1) % self.nodes();
        self.address = self.seeds.iter().chain(&self.known).nth(self.turn).expect("it is one of them").clone();
    }

    fn give_up(&mut self, reason: &str, now: Time, config: &RedisConfig) {
        self.drop_due = true;
        self.lose(reason, now, config);
    }

    pub(super) fn output(&self) -> &[u8] {
        self.outbox.unsent()
    }

    pub(super) fn written(&mut self, len: usize) {
        self.outbox.written(len);
    }

    /// Takes what was read: where the slots are, if it is said.
    pub(super) fn input(&mut self, data: &[u8], now: Time, config: &RedisConfig) -> Option<Vec<Range>> {
        if data.is_empty() || !matches!(self.state, State::Up) {
            return None;
        }
        self.is_heard = true;
        let limits = Limits { message_bytes_max: REPLY_BYTES_MAX, reply_bytes_max: REPLY_BYTES_MAX };
        let mut inbox = std::mem::take(&mut self.inbox);
        let mut said: Option<Vec<Range>> = None;
        let fed = inbox.feed(data, &limits, |received| match received {
            Received::Message { .. } | Received::Oversized => Ok::<(), String>(()),
            Received::Reply(reply) => {
                let ranges: Option<Vec<Range>> = self.reply(&reply, config)?;
                said = ranges.or(said.take());
                Ok::<(), String>(())
            }
        });
        match fed {
            Ok(()) => self.inbox = inbox,
            Err(Stopped::Refused(reason)) => self.give_up(&reason, now, config),
            Err(Stopped::Malformed(error)) => {
                let reason = format!("{} ({error})", RedisConfig::explained_stranger(data));
                self.give_up(&reason, now, config);
            }
        }
        said
    }

    /// Takes the next reply; the error is the reason, for people, why this node is of no use.
    fn reply(&mut self, reply: &Reply<'_>, config: &RedisConfig) -> Result<Option<Vec<Range>>, String> {
        const NO_CLUSTER: &str = "it is no node of a Cluster, and redis:// is for a server by itself";
        let Some(asked) = self.awaited.pop_front() else {
            return Err(match reply {
                Reply::Error(error) => config.explained_error(error),
                _ => "a reply came that nothing was asked for".to_owned(),
            });
        };
        match (asked, reply) {
            (_, Reply::Error(error)) if error.starts_with(b"ERR This instance has cluster support disabled") => {
                Err(NO_CLUSTER.to_owned())
            }
            // Without the right to ask for its state it is believed.
            (Asked::Info, Reply::Error(error)) if error.starts_with(b"NOPERM") => Ok(None),
            (_, Reply::Error(error)) => Err(config.explained_error(error)),
            (Asked::Auth, _) => Ok(None),
            (Asked::Info, Reply::Bulk(text) | Reply::Verbatim { text, .. }) => {
                let mut lines = text.split(|byte| *byte == b'\n');
                self.says_down = lines.any(|line| line.trim_ascii() == b"cluster_state:fail");
                Ok(None)
            }
            (Asked::Slots, Reply::Array(ranges)) => {
                self.deadline = None;
                let (ranges, nodes) = slots(*ranges, &self.address).ok_or("its slots are none that a Cluster has")?;
                if ranges.is_empty() {
                    return Err("no node of its Cluster has a slot".to_owned());
                }
                // The last of all nodes to say so is believed.
                if self.says_down && self.failed + 1 < self.nodes() {
                    return Err(SAYS_DOWN.to_owned());
                }
                self.known = nodes;
                self.known.retain(|node| !self.seeds.contains(node));
                self.known.truncate(NODES_MAX);
                self.backoff.reset();
                (self.is_down, self.failed) = (self.says_down, 0);
                if !self.says_down {
                    self.last_error = None;
                }
                Ok(Some(ranges))
            }
            (Asked::Info | Asked::Slots, _) => Err(NO_CLUSTER.to_owned()),
        }
    }

    pub(super) fn next_timeout(&self) -> Time {
        match self.state {
            State::Waiting { until } => until,
            State::Connecting { deadline } => deadline,
            State::Up => self.deadline.unwrap_or(self.asked_at + self.interval()),
        }
    }

    fn interval(&self) -> Duration {
        // All are asked again, one after the other.
        if self.asked_at < self.hurried_until && !self.is_down { HURRIED_INTERVAL } else { INTERVAL }
    }

    pub(super) fn timeout(&mut self, now: Time, config: &RedisConfig) {
        if now < self.next_timeout() {
            return;
        }
        let within = answer_timeout(config).as_millis();
        match self.state {
            State::Waiting { .. } => {}
            State::Connecting { .. } => self.give_up(&config.unconnected(answer_timeout(config)), now, config),
            State::Up if self.deadline.is_some() => {
                self.give_up(&format!("no answer within {within} ms"), now, config);
            }
            // It may be the one that is cut off.
            State::Up if self.is_down => self.give_up(SAYS_DOWN, now, config),
            State::Up => self.ask(now, config),
        }
    }
}

/// The answer to `CLUSTER SLOTS` of the node at this address: which slots each master has, and all nodes that it knows. `None`: it is no such
/// answer.
fn slots(ranges: Items<'_>, teller: &Address) -> Option<(Vec<Range>, Vec<Address>)> {
    let (mut masters, mut nodes) = (Vec::new(), Vec::new());
    for (number, range) in ranges.enumerate() {
        if number == usize::from(SLOTS) {
            return None;
        }
        let Reply::Array(mut range) = range else { return None };
        let (Reply::Integer(first), Reply::Integer(last)) = (range.next()?, range.next()?) else { return None };
        let (first, last) = (u16::try_from(first).ok()?, u16::try_from(last).ok()?);
        for (index, node) in range.enumerate() {
            // One without a port, or without a name that is known, cannot be reached.
            let Some(address) = node_of(node)?.and_then(|node| node.seen_from(teller)) else { continue };
            if index == 0 {
                masters.push((first, last, address.clone()));
            }
            if nodes.len() < NODES_MAX && !nodes.contains(&address) {
                nodes.push(address);
            }
        }
    }
    Some((masters, nodes))
}

/// Host and port, and more that is of no use here.
fn node_of(node: Reply<'_>) -> Option<Option<NodeName>> {
    let Reply::Array(mut node) = node else { return None };
    let host = match node.next()? {
        Reply::Bulk(host) | Reply::Simple(host) => host,
        Reply::Null => b"",
        _ => return None,
    };
    let Reply::Integer(port) = node.next()? else { return None };
    Some(u16::try_from(port).ok().and_then(|port| NodeName::new(host, port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(state: &str) -> Vec<u8> {
        let info = format!("cluster_state:{state}\r\ncluster_slots_assigned:16384\r\n");
        let slots = "*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$1\r\na\r\n:1\r\n";
        format!("${}\r\n{info}\r\n{slots}", info.len()).into_bytes()
    }

    #[test]
    fn a_cluster_is_down_when_all_its_nodes_say_so() {
        let seeds = ["a", "b"].map(|host| Address::Tcp { host: host.to_owned(), port: 1 });
        let (mut scout, config, mut now) = (Scout::new(&seeds, 0), RedisConfig::default(), Time::ZERO);
        for (host, says, is_believed, is_down) in [
            ("a", "fail", false, false),
            ("b", "fail", true, true),
            ("a", "fail", true, true),
            ("b", "ok", true, false),
        ] {
            now = now + INTERVAL;
            scout.timeout(now, &config);
            while let Some(request) = scout.poll(now, &config) {
                if let ConnectionRequest::Open { .. } = request {
                    scout.connected(now, &config);
                }
            }
            assert_eq!(scout.address, Address::Tcp { host: host.to_owned(), port: 1 });
            assert_eq!(scout.input(&said(says), now, &config).is_some(), is_believed);
            assert_eq!(scout.is_down(), is_down);
        }
    }
}
