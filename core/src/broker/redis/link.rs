//! One connection's life, whatever it is for: when to open it, its set-up, its health, its end. What is said on it
//! once it is up, `subscriber` and `publisher` know.

use std::fmt;

use super::backoff::Backoff;
use super::buffers::{Inbox, Outbox};
use super::link_id::Role;
use super::lua::Lua;
use super::resp::Reply;
use super::setup::{Progress, Setup};
use super::trouble::Trouble;
use super::{Address, ConnectionRequest, LinkState, LinkStats, RedisConfig};
use crate::time::Time;

#[derive(Clone, Copy, Debug)]
enum State {
    Waiting { until: Time },
    Connecting { deadline: Time },
    SettingUp { deadline: Time },
    Up { since: Time },
}

/// What a look at the clock led to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Tick {
    Nothing,
    /// A probe is due; `again`: what was refused for a while is to be asked again in front of it.
    Probe {
        again: bool,
    },
    /// The connection must be given up, for this reason.
    Expired(String),
}

/// One connection, or the wait for the next.
#[derive(Debug)]
pub(super) struct Link {
    role: Role,
    state: State,
    /// The driver still holds a connection that was given up here.
    drop_due: bool,
    pub(super) inbox: Inbox,
    pub(super) outbox: Outbox,
    setup: Setup,
    heard_at: Time,
    /// Something was heard on this connection.
    is_heard: bool,
    probe_deadline: Option<Time>,
    /// When the server was last asked for its role, which may change while it answers everything else as before.
    checked_at: Time,
    pub(super) asks_role: bool,
    pub(super) trouble: Trouble,
    backoff: Backoff,
    ups: u64,
    last_error: Option<String>,
}

impl Link {
    /// A connection whose first attempt is due at once.
    pub(super) fn new(role: Role, seed: u64) -> Link {
        Link {
            role,
            state: State::Waiting { until: Time::ZERO },
            drop_due: false,
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            setup: Setup::default(),
            heard_at: Time::ZERO,
            is_heard: false,
            probe_deadline: None,
            checked_at: Time::ZERO,
            asks_role: false,
            trouble: Trouble::new(seed.rotate_left(32)),
            backoff: Backoff::new(seed),
            ups: 0,
            last_error: None,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }

    /// Whether bytes can come and go.
    pub(super) fn is_established(&self) -> bool {
        matches!(self.state, State::SettingUp { .. } | State::Up { .. })
    }

    /// Whether it is established, and nothing has ever been said on it from there.
    pub(super) fn is_unheard(&self) -> bool {
        matches!(self.state, State::SettingUp { .. }) && !self.is_heard
    }

    /// What the driver is to do now, if anything.
    pub(super) fn poll(
        &mut self,
        target: Option<&Address>,
        now: Time,
        config: &RedisConfig,
    ) -> Option<ConnectionRequest> {
        if std::mem::take(&mut self.drop_due) {
            return Some(ConnectionRequest::Drop);
        }
        match (self.state, target) {
            (State::Waiting { until }, Some(address)) if until <= now => {
                self.state = State::Connecting { deadline: now + config.connect_timeout };
                Some(ConnectionRequest::Open { address: address.clone() })
            }
            _ => None,
        }
    }

    /// It is to lead to another server, so that no earlier failure counts. The wait is drawn all the same: others are led there as well.
    pub(super) fn start_afresh(&mut self, now: Time, config: &RedisConfig) {
        self.backoff.reset();
        if let State::Waiting { until } = &mut self.state {
            *until = now + self.backoff.next(config.backoff_min, config.backoff_max);
            self.backoff.reset();
        }
    }

    /// There is nowhere to connect to, for this reason. Says whether that is news.
    pub(super) fn has_nowhere(&mut self, reason: &str) -> bool {
        let is_news = self.is_waiting() && self.last_error.as_deref() != Some(reason);
        if is_news {
            self.last_error = Some(reason.to_owned());
        }
        is_news
    }

    pub(super) fn connected(&mut self, now: Time, config: &RedisConfig) {
        if let State::Connecting { deadline } = self.state {
            self.state = State::SettingUp { deadline };
            (self.heard_at, self.is_heard) = (now, false);
            self.setup.begin(Lua::of(self.role, config), config, self.outbox.tail());
        }
    }

    /// Bytes came: any are a sign of life.
    pub(super) fn heard(&mut self, now: Time) {
        (self.heard_at, self.is_heard) = (now, true);
        self.probe_deadline = None;
    }

    /// A reply while the connection is not up: whether it is now, or why it never will be.
    pub(super) fn setup_reply(&mut self, reply: &Reply<'_>, now: Time, config: &RedisConfig) -> Result<bool, String> {
        match self.setup.reply(reply, config, self.outbox.tail())? {
            Progress::Going => Ok(false),
            Progress::Done => {
                self.state = State::Up { since: now };
                self.ups += 1;
                self.checked_at = now;
                // A subscriber of RESP2 may not ask; and all lead to the same server.
                self.asks_role = self.role != Role::Subscriber && self.setup.tells_role();
                Ok(true)
            }
        }
    }

    /// Why the connection that has come up is of no use for histories.
    pub(super) fn take_unloaded(&mut self) -> Option<String> {
        self.setup.take_unloaded()
    }

    /// Why histories may be evicted there.
    pub(super) fn take_eviction(&mut self) -> Option<String> {
        self.setup.take_eviction()
    }

    /// Ends the connection or the attempt, and plans the next one. Says whether that is news: it was `known` to be up, or the reason for
    /// which there is none has changed.
    pub(super) fn lose(&mut self, reason: &str, known: bool, now: Time, config: &RedisConfig) -> bool {
        let is_news = self.is_up() && known || self.last_error.as_deref() != Some(reason);
        if let State::Up { since } = self.state
            // Shorter, and a server that takes every connection and ends it soon after would be visited again and
            // again at the shortest wait.
            && now.since(since) >= config.backoff_max
        {
            self.backoff.reset();
        }
        let wait = self.backoff.next(config.backoff_min, config.backoff_max);
        self.state = State::Waiting { until: now + wait };
        self.inbox = Inbox::default();
        self.outbox = Outbox::default();
        self.probe_deadline = None;
        self.trouble.forget();
        if is_news {
            self.last_error = Some(reason.to_owned());
        }
        is_news
    }

    /// Whether there is a connection or an attempt that could be lost.
    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting { .. })
    }

    /// Whether the driver must be told that the connection was given up.
    pub(super) fn set_drop_due(&mut self, due: bool) {
        self.drop_due = due;
    }

    pub(super) fn next_timeout(&self, config: &RedisConfig) -> Time {
        match self.state {
            State::Waiting { until } => until,
            State::Connecting { deadline } | State::SettingUp { deadline } => deadline,
            State::Up { .. } => {
                let silence = self.probe_deadline.unwrap_or(self.heard_at + config.probe_interval);
                // Whether there are replicas again is found out by a probe, however much is said meanwhile.
                let is_checked = self.asks_role || self.role == Role::DurablePublisher;
                let role = is_checked.then_some(self.checked_at + config.probe_interval);
                [role, self.trouble.again_at()].into_iter().flatten().fold(silence, Time::min)
            }
        }
    }

    /// Says what is due. While a probe is unanswered (`probed`), no other follows it, but for what is asked again: a server that
    /// says something now and then, and answers or reads nothing, would pile them up.
    pub(super) fn timeout(&mut self, now: Time, probed: bool, config: &RedisConfig) -> Tick {
        if now < self.next_timeout(config) {
            return Tick::Nothing;
        }
        match self.state {
            State::Waiting { .. } => Tick::Nothing,
            State::Connecting { .. } => Tick::Expired(config.unconnected(config.connect_timeout)),
            State::SettingUp { .. } => Tick::Expired(within("set-up not finished", config.connect_timeout)),
            State::Up { .. } if self.probe_deadline.is_some_and(|deadline| deadline <= now) => {
                Tick::Expired(within("no answer to PING", config.probe_timeout))
            }
            State::Up { .. } => {
                self.checked_at = now;
                if self.probe_deadline.is_none() && self.heard_at + config.probe_interval <= now {
                    self.probe_deadline = Some(now + config.probe_timeout);
                    self.inbox.settle();
                    self.outbox.settle();
                }
                if self.trouble.again_at().is_some_and(|again_at| again_at <= now) {
                    self.trouble.asked_again();
                    return Tick::Probe { again: true };
                }
                if probed { Tick::Nothing } else { Tick::Probe { again: false } }
            }
        }
    }

    /// How often this role came up, not counting the first time.
    pub(super) fn reconnects(&self) -> u64 {
        self.ups.saturating_sub(1)
    }

    pub(super) fn stats(&self) -> LinkStats<'_> {
        let state = match self.state {
            State::Waiting { .. } => LinkState::Waiting,
            State::Connecting { .. } => LinkState::Connecting,
            State::SettingUp { .. } => LinkState::SettingUp,
            State::Up { .. } if self.trouble.reason().is_some() => LinkState::Refusing,
            State::Up { .. } => LinkState::Up,
        };
        LinkStats { state, last_error: self.trouble.reason().or(self.last_error.as_deref()) }
    }
}

fn within(what: impl fmt::Display, time: std::time::Duration) -> String {
    format!("{what} within {} ms", time.as_millis())
}
