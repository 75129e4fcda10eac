//! One server at a time: the one that is configured, or the master that Sentinels name. The session does the work, and the Sentinels say
//! where.

use super::link_id::Place;
use super::presence::{Instance, Keeper};
use super::sentinel::Sentinels;
use super::session::RedisSession;
use super::{Address, ConnectionRequest, LinkId, LinkState, RedisConfig, RedisStats};
use crate::broker::{Ask, BrokerEvent};
use crate::time::Time;
use std::time::Duration;

/// One server, and who is asked where it is.
#[derive(Debug)]
pub(super) struct Single {
    session: RedisSession,
    /// Who is in a room, where that is kept.
    keeper: Option<Keeper>,
    /// Where the master has to be asked for.
    sentinels: Option<Sentinels>,
    /// How many losses of the session's connections the Sentinels have been asked about.
    losses: u64,
}

impl Single {
    /// Its first attempts to connect are due at once.
    pub(super) fn new(target: Option<Address>, sentinels: Option<Sentinels>, config: RedisConfig) -> Single {
        let keeper = Keeper::new(&config);
        Single { session: RedisSession::new(target, config.seed, config), keeper, sentinels, losses: 0 }
    }

    pub(super) fn ask(&mut self, ask: Ask<'_>) {
        match (ask, &mut self.keeper) {
            (Ask::Present { room, user, info, connections, id }, Some(keeper)) => {
                keeper.present((room, user, info), connections, id, self.session.now_and_events().1);
            }
            (Ask::Roster { room, from, id }, Some(keeper)) => {
                keeper.roster(room, from, id, self.session.now_and_events().1);
            }
            (ask, _) => return self.session.ask(ask),
        }
        self.serve_keeper();
    }

    pub(super) fn take_complaint(&mut self) -> Option<String> {
        self.session.take_complaint()
    }

    pub(super) fn take_presence_complaint(&mut self) -> Option<String> {
        self.session.take_presence_complaint()
    }

    pub(super) fn take_canary_refusal(&mut self) -> Option<String> {
        self.session.take_canary_refusal()
    }

    pub(super) fn take_notice(&mut self) -> Option<String> {
        self.sentinels.as_mut().and_then(Sentinels::take_notice)
    }

    pub(super) fn address(&self) -> Option<&Address> {
        self.session.target()
    }

    pub(super) fn sign_in_with(&mut self, username: Option<String>, password: Option<String>) {
        let config = self.session.config_mut();
        (config.username, config.password) = (username, password);
    }

    pub(super) fn sign_in_at_sentinels_with(&mut self, username: Option<String>, password: Option<String>) {
        let config = self.session.config_mut();
        (config.sentinel_username, config.sentinel_password) = (username, password);
    }

    pub(super) fn links(&self) -> impl Iterator<Item = LinkId> + use<> {
        let sentinels = self.sentinels.as_ref().map_or(0, Sentinels::count);
        let of_the_session = self.session.roles().map(Place::Session);
        of_the_session.chain((0..sentinels).map(Place::Sentinel)).map(Place::link)
    }

    pub(super) fn leads_to_sentinel(&self, link: LinkId) -> bool {
        matches!(link.place(), Place::Sentinel(_))
    }

    pub(super) fn state(&self, link: LinkId) -> LinkState {
        match (link.place(), &self.sentinels) {
            (Place::Session(role), _) => self.session.state(role),
            (Place::Sentinel(index), Some(sentinels)) => sentinels.stats(index).state,
            (Place::Sentinel(_), None) => LinkState::Waiting,
        }
    }

    pub(super) fn poll_connection(&mut self, now: Time) -> Option<(LinkId, ConnectionRequest)> {
        if let Some(sentinels) = &mut self.sentinels {
            let request = sentinels.poll(now, self.session.config());
            if let Some((index, request)) = request {
                return Some((Place::Sentinel(index).link(), request));
            }
        }
        self.session.poll_connection(now).map(|(role, request)| (Place::Session(role).link(), request))
    }

    pub(super) fn connected(&mut self, link: LinkId, now: Time) {
        match (link.place(), &mut self.sentinels) {
            (Place::Session(role), _) => self.session.connected(role, now),
            (Place::Sentinel(index), Some(sentinels)) => sentinels.connected(index, now, self.session.config()),
            (Place::Sentinel(_), None) => {}
        }
    }

    pub(super) fn disconnected(&mut self, link: LinkId, reason: &str, now: Time) {
        match (link.place(), &mut self.sentinels) {
            (Place::Session(role), _) => self.session.disconnected(role, reason, now),
            (Place::Sentinel(index), Some(sentinels)) => {
                sentinels.disconnected(index, reason, now, self.session.config());
            }
            (Place::Sentinel(_), None) => {}
        }
        self.follow(now);
        self.serve_keeper();
    }

    pub(super) fn output(&mut self, link: LinkId) -> &[u8] {
        match (link.place(), &self.sentinels) {
            (Place::Session(role), _) => self.session.output(role),
            (Place::Sentinel(index), Some(sentinels)) => sentinels.output(index),
            (Place::Sentinel(_), None) => &[],
        }
    }

    pub(super) fn written(&mut self, link: LinkId, len: usize) {
        match (link.place(), &mut self.sentinels) {
            (Place::Session(role), _) => self.session.written(role, len),
            (Place::Sentinel(index), Some(sentinels)) => sentinels.written(index, len),
            (Place::Sentinel(_), None) => {}
        }
    }

    pub(super) fn input(&mut self, link: LinkId, data: &[u8], now: Time, sink: &mut impl FnMut(BrokerEvent<'_>)) {
        match (link.place(), &mut self.sentinels) {
            (Place::Session(role), _) => self.session.input(role, data, now, &mut *sink),
            (Place::Sentinel(index), Some(sentinels)) => sentinels.input(index, data, now, self.session.config()),
            (Place::Sentinel(_), None) => {}
        }
        self.follow(now);
        self.serve_keeper();
        self.session.poll_events(sink);
    }

    pub(super) fn has_events(&self) -> bool {
        self.session.has_events()
    }

    pub(super) fn poll_events(&mut self, sink: &mut impl FnMut(BrokerEvent<'_>)) {
        self.session.poll_events(sink);
    }

    pub(super) fn next_timeout(&self) -> Option<Time> {
        let sentinels = self.sentinels.as_ref().and_then(|sentinels| sentinels.next_timeout(self.session.config()));
        let keeper = self.keeper.as_ref().and_then(Keeper::next_timeout);
        self.session.next_timeout().into_iter().chain(sentinels).chain(keeper).min()
    }

    pub(super) fn leave_unread(&mut self, is_unread: bool) {
        self.session.leave_unread(is_unread);
    }

    pub(super) fn timeout(&mut self, now: Time) {
        self.session.timeout(now);
        if let Some(sentinels) = &mut self.sentinels {
            sentinels.timeout(now, self.session.config());
        }
        self.follow(now);
        self.serve_keeper();
    }

    pub(super) fn about(&self) -> &str {
        &self.session.config().about
    }

    pub(super) fn take_instances(&mut self) -> Option<&[Instance]> {
        self.keeper.as_mut()?.take_instances()
    }

    pub(super) fn stop_waiting(&mut self) {
        self.session.stop_waiting();
    }

    pub(super) fn give_back(&mut self, after: Duration) {
        if let Some(keeper) = &mut self.keeper {
            keeper.give_back(after);
        }
        self.serve_keeper();
    }

    pub(super) fn stats(&self) -> RedisStats<'_> {
        let switches = self.sentinels.as_ref().map_or(0, Sentinels::switches);
        let (presence_incarnations, presence_commands) = self.keeper.as_ref().map_or((0, 0), Keeper::counts);
        let stats = self.session.stats();
        let publishes_in_flight =
            stats.publishes_in_flight + usize::from(self.keeper.as_ref().is_some_and(Keeper::is_giving_back));
        RedisStats { switches, presence_incarnations, presence_commands, publishes_in_flight, ..stats }
    }

    /// The session, to look into.
    #[cfg(test)]
    pub(super) fn session(&self) -> &RedisSession {
        &self.session
    }

    /// Has the keeper hear of the session, and the session send what it says.
    fn serve_keeper(&mut self) {
        if let Some(keeper) = &mut self.keeper {
            self.session.serve(keeper);
        }
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
