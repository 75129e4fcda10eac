//! Redis as its driver sees it, wherever it is: the links, and what the hub asks. The order of calls is in the module's guide. The session
//! does the work, and the topology says where.

use super::link_id::Place;
use super::sentinel::Sentinels;
use super::session::RedisSession;
use super::{Address, ConnectionRequest, LinkId, LinkState, RedisConfig, RedisStats, Topology};
use crate::broker::{Ask, BrokerEvent, PublishId, ReadId, Store};
use crate::history::{Query, Retention};
use crate::time::Time;

/// Redis Pub/Sub without I/O. The [module's guide](super) says how to drive it.
#[derive(Debug)]
pub struct RedisBroker {
    session: RedisSession,
    /// Where the master has to be asked for.
    sentinels: Option<Sentinels>,
    /// How many losses of the session's connections the Sentinels have been asked about.
    losses: u64,
}

impl RedisBroker {
    /// Its first attempts to connect are due at once.
    pub fn new(config: RedisConfig) -> RedisBroker {
        let (target, sentinels) = match &config.topology {
            Topology::Single(address) => (Some(address.clone()), None),
            Topology::Sentinel { sentinels, master } => (None, Some(Sentinels::new(sentinels, master, config.seed))),
            Topology::Cluster { .. } => (None, None),
        };
        RedisBroker { session: RedisSession::new(target, config), sentinels, losses: 0 }
    }

    /// Takes an [`Action::Ask`](crate::Action::Ask).
    pub fn ask(&mut self, ask: Ask<'_>) {
        self.session.ask(ask);
    }

    /// Asks for the messages of a room: `Subscribed` or `SubscribeFailed` follows, unless `Down` comes first.
    ///
    /// Forgotten if the subscriber is not up: the hub asks for everything after `Up`. One operation may be
    /// outstanding per room.
    pub fn subscribe(&mut self, room: &str) {
        self.session.subscribe(room);
    }

    /// Asks for no more messages of a room: `Unsubscribed` follows, or `SubscribeFailed` if Redis refuses even that,
    /// unless `Down` comes first. Forgotten if the subscriber is not up.
    pub fn unsubscribe(&mut self, room: &str) {
        self.session.unsubscribe(room);
    }

    /// Publishes to a room. With an id, exactly one `Published` or `PublishFailed` follows, never from within this
    /// call; without one, a failure is only counted.
    pub fn publish(&mut self, room: &str, payload: &[u8], id: Option<PublishId>) {
        self.session.publish(room, payload, id);
    }

    /// The same of a message that is stored in the room's history in the same step. `Published` follows once so many replicas have it.
    pub fn store(&mut self, room: &str, payload: &[u8], store: &Store<'_>, replicas_min: u16, id: Option<PublishId>) {
        self.session.store(room, payload, store, replicas_min, id);
    }

    /// Reads a part of a room's history: `Read` or `ReadFailed` follows, never from within this call, unless `PublisherDown` comes first.
    /// How many may wait for that is for the caller to bound. A page has at most 1,000 messages and 512 KiB of payloads.
    pub fn read(&mut self, room: &str, query: Query, retention: Retention, id: ReadId) {
        self.session.read(room, query, retention, id);
    }

    /// What is wrong with the histories of rooms in Redis, for the log: each kind once, until there has been none of it for a
    /// [`RedisConfig::probe_interval`]. Whether Redis may evict them is found out when the publisher's connection is set up.
    pub fn take_complaint(&mut self) -> Option<String> {
        self.session.take_complaint()
    }

    /// Why it cannot be found out whether what is published is heard, for the log: once, until it can again. Redis refuses that to
    /// whom its ACL allows other channels only.
    pub fn take_canary_refusal(&mut self) -> Option<String> {
        self.session.take_canary_refusal()
    }

    /// What the log has to hear of where Redis is: that there is another master, or that Sentinels disagree.
    pub fn take_notice(&mut self) -> Option<String> {
        self.sentinels.as_mut().and_then(Sentinels::take_notice)
    }

    /// Where the server is that is used, for log lines: none while Sentinels have not named it. What to connect to,
    /// [`RedisBroker::poll_connection`] says.
    pub fn address(&self) -> Option<&Address> {
        self.session.target()
    }

    /// Signs in with these from the next connection on, because secrets may be changed while a server runs. Connections that exist stay.
    pub fn sign_in_with(&mut self, username: Option<String>, password: Option<String>) {
        let config = self.session.config_mut();
        (config.username, config.password) = (username, password);
    }

    /// The same at Sentinels.
    pub fn sign_in_at_sentinels_with(&mut self, username: Option<String>, password: Option<String>) {
        let config = self.session.config_mut();
        (config.sentinel_username, config.sentinel_password) = (username, password);
    }

    /// The links that there may be. Later there may be more.
    pub fn links(&self) -> impl Iterator<Item = LinkId> + use<> {
        let sentinels = self.sentinels.as_ref().map_or(0, Sentinels::count);
        let of_the_session = self.session.roles().map(Place::Session);
        of_the_session.chain((0..sentinels).map(Place::Sentinel)).map(Place::link)
    }

    /// Whether messages of rooms come on a link: it is to be left unread while the hub is congested
    /// ([`Core::is_congested`](crate::Core::is_congested)).
    pub fn receives(&self, link: LinkId) -> bool {
        link.receives()
    }

    /// Whether a link leads to a Sentinel, which is signed in at with
    /// [other credentials](RedisBroker::sign_in_at_sentinels_with) than Redis.
    pub fn leads_to_sentinel(&self, link: LinkId) -> bool {
        matches!(link.place(), Place::Sentinel(_))
    }

    /// Where a link is in its life.
    pub fn state(&self, link: LinkId) -> LinkState {
        match (link.place(), &self.sentinels) {
            (Place::Session(role), _) => self.session.state(role),
            (Place::Sentinel(index), Some(sentinels)) => sentinels.stats(index).state,
            (Place::Sentinel(_), None) => LinkState::Waiting,
        }
    }

    /// What the driver is to do about a connection now. To be called until it has nothing more; that is at most twice for each link.
    pub fn poll_connection(&mut self, now: Time) -> Option<(LinkId, ConnectionRequest)> {
        if let Some(sentinels) = &mut self.sentinels {
            let request = sentinels.poll(now, self.session.config());
            if let Some((index, request)) = request {
                return Some((Place::Sentinel(index).link(), request));
            }
        }
        self.session.poll_connection(now).map(|(role, request)| (Place::Session(role).link(), request))
    }

    /// The connection that was to be opened is established; its output can be written.
    pub fn connected(&mut self, link: LinkId, now: Time) {
        match (link.place(), &mut self.sentinels) {
            (Place::Session(role), _) => self.session.connected(role, now),
            (Place::Sentinel(index), Some(sentinels)) => sentinels.connected(index, now, self.session.config()),
            (Place::Sentinel(_), None) => {}
        }
    }

    /// The connection ended, or could not be established. `reason` is for people and must hold no secret.
    pub fn disconnected(&mut self, link: LinkId, reason: &str, now: Time) {
        match (link.place(), &mut self.sentinels) {
            (Place::Session(role), _) => self.session.disconnected(role, reason, now),
            (Place::Sentinel(index), Some(sentinels)) => {
                sentinels.disconnected(index, reason, now, self.session.config());
            }
            (Place::Sentinel(_), None) => {}
        }
        self.follow(now);
    }

    /// What is to be written to a connection: whole commands, except that the first may be the rest of one.
    ///
    /// Subscriptions asked for since the last call are put into commands here, so it should be called once a turn.
    pub fn output(&mut self, link: LinkId) -> &[u8] {
        match (link.place(), &self.sentinels) {
            (Place::Session(role), _) => self.session.output(role),
            (Place::Sentinel(index), Some(sentinels)) => sentinels.output(index),
            (Place::Sentinel(_), None) => &[],
        }
    }

    /// The kernel took the first `len` bytes of [`RedisBroker::output`].
    ///
    /// # Panics
    ///
    /// If there were not so many.
    pub fn written(&mut self, link: LinkId, len: usize) {
        match (link.place(), &mut self.sentinels) {
            (Place::Session(role), _) => self.session.written(role, len),
            (Place::Sentinel(index), Some(sentinels)) => sentinels.written(index, len),
            (Place::Sentinel(_), None) => {}
        }
    }

    /// Takes what was read from a connection. Events that were waiting come first, then those of these bytes.
    ///
    /// Messages are borrowed from `data` where they are whole in it; only an unfinished remainder is kept.
    pub fn input(&mut self, link: LinkId, data: &[u8], now: Time, mut sink: impl FnMut(BrokerEvent<'_>)) {
        match (link.place(), &mut self.sentinels) {
            (Place::Session(role), _) => self.session.input(role, data, now, &mut sink),
            (Place::Sentinel(index), Some(sentinels)) => sentinels.input(index, data, now, self.session.config()),
            (Place::Sentinel(_), None) => {}
        }
        self.follow(now);
        self.session.poll_events(sink);
    }

    /// Whether [`RedisBroker::poll_events`] has any.
    pub fn has_events(&self) -> bool {
        self.session.has_events()
    }

    /// Hands out the events that came about outside [`RedisBroker::input`], oldest first.
    pub fn poll_events(&mut self, sink: impl FnMut(BrokerEvent<'_>)) {
        self.session.poll_events(sink);
    }

    /// When to call [`RedisBroker::timeout`] and [`RedisBroker::poll_connection`], if nothing else happens.
    pub fn next_timeout(&self) -> Option<Time> {
        let sentinels = self.sentinels.as_ref().and_then(|sentinels| sentinels.next_timeout(self.session.config()));
        self.session.next_timeout().into_iter().chain(sentinels).min()
    }

    /// Does what is due: probes, and gives up what has not answered.
    pub fn timeout(&mut self, now: Time) {
        self.session.timeout(now);
        if let Some(sentinels) = &mut self.sentinels {
            sentinels.timeout(now, self.session.config());
        }
        self.follow(now);
    }

    /// What waits for a connection waits no more, nor does what is published from now on: the driver is about to end.
    pub fn stop_waiting(&mut self) {
        self.session.stop_waiting();
    }

    /// How Redis fares.
    pub fn stats(&self) -> RedisStats<'_> {
        let switches = self.sentinels.as_ref().map_or(0, Sentinels::switches);
        RedisStats { switches, ..self.session.stats() }
    }

    /// The session, to look into.
    #[cfg(test)]
    pub(super) fn session(&self) -> &RedisSession {
        &self.session
    }

    /// Leads the session to where the Sentinels say that the master is. When a connection is lost they are asked again, and when the last
    /// is, nobody is believed before they have answered: an old master that comes back takes connections, too, until it is told that it is
    /// a replica.
    fn follow(&mut self, now: Time) {
        let Some(sentinels) = &mut self.sentinels else { return };
        let losses = self.session.losses();
        if self.losses != losses {
            self.losses = losses;
            if self.session.is_anywhere() {
                sentinels.ask_again(now, self.session.config());
            } else {
                sentinels.doubt(now, self.session.config());
                self.session.lead_to(None, "", now);
            }
        }
        match sentinels.master() {
            Some(master) if self.session.target() != Some(master) => {
                let master = master.clone();
                let reason = format!("the master is {master} now");
                self.session.lead_to(Some(master), &reason, now);
                // Connections that were given up for it are no loss to ask about.
                self.losses = self.session.losses();
            }
            Some(_) => {}
            None => {
                if let Some(trouble) = sentinels.trouble() {
                    self.session.has_nowhere(&trouble);
                }
            }
        }
    }
}
