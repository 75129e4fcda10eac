//! Redis as its driver sees it, wherever it is: the links, and what the hub asks. The order of calls is in the module's guide. Where Redis is
//! decides who does the work.

use super::cluster::Cluster;
use super::presence::Instance;
use super::sentinel::Sentinels;
use super::single::Single;
use super::{Address, ConnectionRequest, LinkId, LinkState, RedisConfig, RedisStats, Topology};
use crate::broker::{Ask, BrokerEvent, PublishId, ReadId, Store};
use crate::history::{Query, Retention};
use crate::time::Time;
use std::time::Duration;

/// Redis Pub/Sub without I/O. The [module's guide](super) says how to drive it.
#[derive(Debug)]
pub struct RedisBroker {
    at: At,
}

#[derive(Debug)]
enum At {
    Single(Box<Single>),
    Cluster(Box<Cluster>),
}

/// The same of either.
macro_rules! either {
    ($at:expr, $name:ident => $what:expr) => {
        match $at {
            At::Single($name) => $what,
            At::Cluster($name) => $what,
        }
    };
}

impl RedisBroker {
    /// Its first attempts to connect are due at once.
    pub fn new(config: RedisConfig) -> RedisBroker {
        let at = match config.topology.clone() {
            Topology::Single(address) => At::Single(Box::new(Single::new(Some(address), None, config))),
            Topology::Sentinel { sentinels, master } => {
                let sentinels = Sentinels::new(&sentinels, &master, config.seed);
                At::Single(Box::new(Single::new(None, Some(sentinels), config)))
            }
            Topology::Cluster { nodes, partitions, pubsub } => {
                At::Cluster(Box::new(Cluster::new(&nodes, (partitions, pubsub), config)))
            }
        };
        RedisBroker { at }
    }

    /// Takes an [`Action::Ask`](crate::Action::Ask).
    pub fn ask(&mut self, ask: Ask<'_>) {
        either!(&mut self.at, at => at.ask(ask));
    }

    /// Asks for the messages of a room: `Subscribed` or `SubscribeFailed` follows, unless `Down` comes first.
    ///
    /// Forgotten if the subscriber is not up: the hub asks for everything after `Up`. One operation may be
    /// outstanding per room.
    pub fn subscribe(&mut self, room: &str) {
        self.ask(Ask::Subscribe { room });
    }

    /// Asks for no more messages of a room: `Unsubscribed` follows, or `SubscribeFailed` if Redis refuses even that,
    /// unless `Down` comes first. Forgotten if the subscriber is not up.
    pub fn unsubscribe(&mut self, room: &str) {
        self.ask(Ask::Unsubscribe { room });
    }

    /// Publishes to a room. With an id, exactly one `Published` or `PublishFailed` follows, never from within this
    /// call; without one, a failure is only counted.
    pub fn publish(&mut self, room: &str, payload: &[u8], id: Option<PublishId>) {
        self.ask(Ask::Publish { room, payload, store: None, replicas_min: 0, id });
    }

    /// The same of a message that is stored in the room's history in the same step. `Published` follows once so many replicas have it.
    pub fn store(&mut self, room: &str, payload: &[u8], store: &Store<'_>, replicas_min: u16, id: Option<PublishId>) {
        self.ask(Ask::Publish { room, payload, store: Some(*store), replicas_min, id });
    }

    /// Reads a part of a room's history: `Read` or `ReadFailed` follows, never from within this call, unless `PublisherDown` comes first.
    /// How many may wait for that is for the caller to bound. A page has at most 1,000 messages and 512 KiB of payloads.
    pub fn read(&mut self, room: &str, query: Query, retention: Retention, id: ReadId) {
        self.ask(Ask::Read { room, query, retention, id });
    }

    /// What is wrong with the histories of rooms in Redis, for the log: each kind once, until there has been none of it for a
    /// [`RedisConfig::probe_interval`]. Whether Redis may evict them is found out when the publisher's connection is set up.
    pub fn take_complaint(&mut self) -> Option<String> {
        either!(&mut self.at, at => at.take_complaint())
    }

    /// What is wrong with who is in rooms in Redis, for the log, told as often. That scripts cannot be loaded concerns both, and is told of
    /// histories.
    pub fn take_presence_complaint(&mut self) -> Option<String> {
        either!(&mut self.at, at => at.take_presence_complaint())
    }

    /// Why it cannot be found out whether what is published is heard, for the log: once, until it can again. Redis refuses that to
    /// whom its ACL allows other channels only.
    pub fn take_canary_refusal(&mut self) -> Option<String> {
        either!(&mut self.at, at => at.take_canary_refusal())
    }

    /// What the log has to hear of where Redis is: that there is another master, or that Sentinels disagree.
    pub fn take_notice(&mut self) -> Option<String> {
        either!(&mut self.at, at => at.take_notice())
    }

    /// The instances that keep presence together with this one, and itself: once after each renewal of its lease. None where none is kept.
    pub fn take_instances(&mut self) -> Option<&[Instance]> {
        either!(&mut self.at, at => at.take_instances())
    }

    /// [`RedisConfig::about`].
    pub fn about(&self) -> &str {
        either!(&self.at, at => at.about())
    }

    /// Where the server is that is used, for log lines: none while Sentinels have not named it, and in a Cluster. What to connect to,
    /// [`RedisBroker::poll_connection`] says.
    pub fn address(&self) -> Option<&Address> {
        match &self.at {
            At::Single(single) => single.address(),
            At::Cluster(_) => None,
        }
    }

    /// Signs in with these from the next connection on, because secrets may be changed while a server runs. Connections that exist stay.
    pub fn sign_in_with(&mut self, username: Option<String>, password: Option<String>) {
        either!(&mut self.at, at => at.sign_in_with(username, password));
    }

    /// The same at Sentinels.
    pub fn sign_in_at_sentinels_with(&mut self, username: Option<String>, password: Option<String>) {
        if let At::Single(single) = &mut self.at {
            single.sign_in_at_sentinels_with(username, password);
        }
    }

    /// The links that there may be now. In a Cluster there are others later.
    pub fn links(&self) -> impl Iterator<Item = LinkId> + use<> {
        let (single, cluster) = match &self.at {
            At::Single(single) => (Some(single.links()), Vec::new()),
            At::Cluster(cluster) => (None, cluster.links()),
        };
        single.into_iter().flatten().chain(cluster)
    }

    /// Whether messages of rooms come on a link: it is to be left unread while the hub is congested
    /// ([`Core::is_congested`](crate::Core::is_congested)).
    pub fn receives(&self, link: LinkId) -> bool {
        match &self.at {
            At::Single(_) => link.receives(),
            At::Cluster(_) => Cluster::receives(link),
        }
    }

    /// Whether a link leads to a Sentinel, which is signed in at with
    /// [other credentials](RedisBroker::sign_in_at_sentinels_with) than Redis.
    pub fn leads_to_sentinel(&self, link: LinkId) -> bool {
        matches!(&self.at, At::Single(single) if single.leads_to_sentinel(link))
    }

    /// Where a link is in its life.
    pub fn state(&self, link: LinkId) -> LinkState {
        either!(&self.at, at => at.state(link))
    }

    /// What the driver is to do about a connection now. To be called until it has nothing more; that is at most twice for each link.
    pub fn poll_connection(&mut self, now: Time) -> Option<(LinkId, ConnectionRequest)> {
        either!(&mut self.at, at => at.poll_connection(now))
    }

    /// The connection that was to be opened is established; its output can be written.
    pub fn connected(&mut self, link: LinkId, now: Time) {
        either!(&mut self.at, at => at.connected(link, now));
    }

    /// The connection ended, or could not be established. `reason` is for people and must hold no secret.
    pub fn disconnected(&mut self, link: LinkId, reason: &str, now: Time) {
        either!(&mut self.at, at => at.disconnected(link, reason, now));
    }

    /// What is to be written to a connection: whole commands, except that the first may be the rest of one.
    ///
    /// Subscriptions asked for since the last call are put into commands here, so it should be called once a turn.
    pub fn output(&mut self, link: LinkId) -> &[u8] {
        either!(&mut self.at, at => at.output(link))
    }

    /// The kernel took the first `len` bytes of [`RedisBroker::output`].
    ///
    /// # Panics
    ///
    /// If there were not so many.
    pub fn written(&mut self, link: LinkId, len: usize) {
        either!(&mut self.at, at => at.written(link, len));
    }

    /// Takes what was read from a connection. Events that were waiting come first, then those of these bytes.
    ///
    /// Messages are borrowed from `data` where they are whole in it; only an unfinished remainder is kept.
    pub fn input(&mut self, link: LinkId, data: &[u8], now: Time, mut sink: impl FnMut(BrokerEvent<'_>)) {
        either!(&mut self.at, at => at.input(link, data, now, &mut sink));
    }

    /// Whether [`RedisBroker::poll_events`] has any.
    pub fn has_events(&self) -> bool {
        either!(&self.at, at => at.has_events())
    }

    /// Hands out the events that came about outside [`RedisBroker::input`], oldest first.
    pub fn poll_events(&mut self, mut sink: impl FnMut(BrokerEvent<'_>)) {
        either!(&mut self.at, at => at.poll_events(&mut sink));
    }

    /// Says whether links that [`RedisBroker::receives`] messages are left unread, because the hub is congested: nothing that is to come on
    /// them can be late meanwhile. What is due on others goes on, such as the renewal of a lease. To be said before each
    /// [`RedisBroker::timeout`].
    pub fn leave_unread(&mut self, is_unread: bool) {
        either!(&mut self.at, at => at.leave_unread(is_unread));
    }

    /// When to call [`RedisBroker::timeout`] and [`RedisBroker::poll_connection`], if nothing else happens.
    pub fn next_timeout(&self) -> Option<Time> {
        either!(&self.at, at => at.next_timeout())
    }

    /// Does what is due: probes, and gives up what has not answered.
    pub fn timeout(&mut self, now: Time) {
        either!(&mut self.at, at => at.timeout(now));
    }

    /// What waits for a connection waits no more, nor does what is published from now on: the driver is about to end.
    pub fn stop_waiting(&mut self) {
        either!(&mut self.at, at => at.stop_waiting());
    }

    /// The driver is about to end, and all its clients have gone: what it has told of users who are in rooms is cleared up by others after this
    /// time, or a lease if that is less. To be driven on until [`RedisStats::publishes_in_flight`] is 0.
    pub fn give_back(&mut self, after: Duration) {
        either!(&mut self.at, at => at.give_back(after));
    }

    /// How Redis fares.
    pub fn stats(&self) -> RedisStats<'_> {
        either!(&self.at, at => at.stats())
    }

    /// The session, to look into.
    #[cfg(test)]
    pub(super) fn session(&self) -> &super::session::RedisSession {
        match &self.at {
            At::Single(single) => single.session(),
            At::Cluster(_) => panic!("there are several"),
        }
    }
}
