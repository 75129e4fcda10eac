//! Whether what is published is heard. A session publishes numbers to a channel of its own, and subscribes to it. No I/O, no clock: what has
//! to be said on which connection is told by [`Canary::timeout`], and what came of it is taken by [`Canary::take`].
//!
//! That both connections answer does not prove it. They may lead to different servers, because a name has two addresses, or because
//! another master took over between the two attempts to connect. A number that is not heard within
//! [`RedisConfig::probe_timeout`] after Redis has taken it is no proof either: the driver may have left what Redis said unread. So
//! the subscriber is asked for a `PONG` then. Redis says everything on one connection in order: a `PONG` that comes before the number
//! proves that the number will not come.
//!
//! How many received it, which Redis answers to `PUBLISH`, is not looked at. A node of a cluster counts only its own connections, and the
//! subscriber may well be at another node.

use super::RedisConfig;
use super::names::SLOTS;
use super::refusal::{Refusal, takes_no_writes};
use crate::time::Time;

/// What the names of canaries begin with, behind the prefix. No room's name does.
const PREFIX: &str = "\u{1}canary:";

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CanaryStep {
    /// This number is to be published.
    Publish(u64),
    /// The subscriber is to be asked by `PING`: [`CanaryNews::Passed`] is the answer.
    Ask,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CanaryNews {
    /// Redis has confirmed the subscription to the channel of this name.
    Subscribed(Box<str>),
    /// It refuses the subscription for good, for this reason.
    NotSubscribed(String),
    /// It has taken this number.
    Published(u64),
    /// It refuses to publish for a while.
    PutOff,
    /// It refuses to publish for good, for this reason.
    NotPublished(String),
    /// The subscriber has answered the `PING` of [`CanaryStep::Ask`].
    Passed,
    /// It refuses to answer that for a while.
    PingRefused,
}

/// A number was published, and the subscriber does not hear it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unheard {
    /// It is not the first since one was heard. So a new subscriber did not help, and the publisher may be the one that is elsewhere.
    pub(super) again: bool,
}

/// What is known of the last number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    /// Nothing is to be found out.
    Settled,
    /// It is on its way to Redis.
    Written,
    /// Redis has taken it, and it has until then to be heard.
    Taken { until: Time },
    /// It is late, and the subscriber has been asked.
    Late,
}

/// The canary of one session.
#[derive(Debug)]
pub(super) struct Canary {
    name: String,
    seed: u64,
    /// On the subscriber's present connection.
    is_subscribed: bool,
    /// On the publisher's present connection.
    may_publish: bool,
    number: u64,
    last: Last,
    /// A number has no answer. There is no second one meanwhile.
    is_unanswered: bool,
    next_at: Time,
    /// `PING`s that the subscriber has not answered. Where it is slow, one for an earlier number may be answered before a later number
    /// has come: only the last answer proves anything.
    pings: u32,
    /// Numbers in a row that were not heard.
    unheard: u32,
    /// Why Redis refuses it, to be told.
    refusal: Option<String>,
    is_told: bool,
}

fn name(seed: u64, config: &RedisConfig) -> String {
    format!("{PREFIX}{}:{seed:016x}", config.client_name)
}

impl Canary {
    /// One that has yet to be subscribed. Its name is that of the connections, and what this process has drawn.
    pub(super) fn new(seed: u64, config: &RedisConfig) -> Canary {
        Canary {
            name: name(seed, config),
            seed,
            is_subscribed: false,
            may_publish: false,
            number: 0,
            last: Last::Settled,
            is_unanswered: false,
            next_at: Time::ZERO,
            pings: 0,
            unheard: 0,
            refusal: None,
            is_told: false,
        }
    }

    /// What stands behind the prefix in the name of its channel. To be subscribed to by a command of its own, because Redis refuses a
    /// command as a whole.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// If its name does not suit, it is called otherwise from now on, and has yet to be subscribed. In a Cluster its channel has to be one of the
    /// session's node. Says whether that is so.
    pub(super) fn rename(&mut self, suits: impl Fn(&str) -> bool, config: &RedisConfig) -> bool {
        if suits(&self.name) {
            return false;
        }
        let base = name(self.seed, config);
        // As many as there are slots, so that one is there if any is; and each is as likely.
        let names = (0..4 * u32::from(SLOTS)).map(|number| format!("{base}:{number}"));
        (self.last, self.is_subscribed) = (Last::Settled, false);
        let name = names.into_iter().find(|name| suits(name));
        let is_renamed = name.is_some();
        self.name = name.unwrap_or(std::mem::take(&mut self.name));
        is_renamed
    }

    /// Whether this stands behind the prefix in the name of a canary's channel, and is no room.
    pub(super) fn is_named(room: &str) -> bool {
        room.starts_with(PREFIX)
    }

    /// What is published.
    pub(super) fn payload(number: u64) -> String {
        number.to_string()
    }

    /// Why it cannot be had, for people, if a subscription or publish was refused for good with this error.
    pub(super) fn explained(error: &[u8], config: &RedisConfig) -> String {
        config.explained_error(error)
    }

    /// What it means that Redis refuses to publish it. `None`: nothing for the canary alone, but for the whole connection.
    pub(super) fn refused(error: &[u8], config: &RedisConfig) -> Option<CanaryNews> {
        match Refusal::of_probe(error) {
            Refusal::Passing => Some(CanaryNews::PutOff),
            Refusal::Lasting if takes_no_writes(error) => Some(CanaryNews::PutOff),
            Refusal::Lasting => Some(CanaryNews::NotPublished(Canary::explained(error, config))),
            Refusal::Replica | Refusal::SignIn => None,
        }
    }

    /// Why the connection is given up, for people.
    pub(super) fn explained_silence(config: &RedisConfig) -> String {
        let time = config.probe_timeout.as_millis();
        format!(
            "what is published is not heard within {time} ms: the connections that publish and subscribe may lead to different servers"
        )
    }

    /// The publisher's connection is up.
    pub(super) fn publisher_up(&mut self) {
        self.may_publish = true;
    }

    /// A connection is lost, the subscriber's or the publisher's.
    pub(super) fn lost(&mut self, is_subscriber: bool) {
        self.last = Last::Settled;
        match is_subscriber {
            true => (self.is_subscribed, self.pings) = (false, 0),
            false => (self.may_publish, self.is_unanswered) = (false, false),
        }
    }

    /// A message of a channel that [is named](Canary::is_named) like this.
    pub(super) fn heard(&mut self, name: &str, payload: &[u8]) {
        let is_last = || std::str::from_utf8(payload).is_ok_and(|text| text.parse() == Ok(self.number));
        if name == self.name && self.last != Last::Settled && is_last() {
            (self.last, self.unheard, self.is_told) = (Last::Settled, 0, false);
        }
    }

    /// When to call [`Canary::timeout`], if nothing else happens.
    pub(super) fn next_timeout(&self) -> Option<Time> {
        match self.last {
            Last::Settled => (self.is_subscribed && self.may_publish && !self.is_unanswered).then_some(self.next_at),
            Last::Taken { until } => Some(until),
            Last::Written | Last::Late => None,
        }
    }

    /// What is due. While Redis is not `willing` to do what it is asked on one of the two connections, nothing is, and nothing is judged.
    pub(super) fn timeout(&mut self, now: Time, is_willing: bool, config: &RedisConfig) -> Option<CanaryStep> {
        if self.next_timeout().is_none_or(|at| now < at) {
            return None;
        }
        // A little sooner than a subscriber that hears nothing is sent a PING, so that none is needed.
        let pause = config.probe_interval - config.probe_interval / 10;
        match self.last {
            _ if !is_willing => {
                (self.last, self.next_at) = (Last::Settled, now + pause);
                None
            }
            Last::Taken { .. } => {
                (self.last, self.pings) = (Last::Late, self.pings + 1);
                Some(CanaryStep::Ask)
            }
            _ => {
                self.number += 1;
                (self.last, self.is_unanswered, self.next_at) = (Last::Written, true, now + pause);
                Some(CanaryStep::Publish(self.number))
            }
        }
    }

    /// Takes what came of it.
    pub(super) fn take(&mut self, news: CanaryNews, now: Time, config: &RedisConfig) -> Option<Unheard> {
        match news {
            CanaryNews::Subscribed(name) if *name == *self.name => (self.is_subscribed, self.next_at) = (true, now),
            CanaryNews::Subscribed(_) => {}
            CanaryNews::NotSubscribed(reason) => self.complain(reason),
            CanaryNews::Published(number) => {
                self.is_unanswered = false;
                if self.last == Last::Written && number == self.number {
                    self.last = Last::Taken { until: now + config.probe_timeout };
                }
            }
            CanaryNews::PutOff => (self.last, self.is_unanswered) = (Last::Settled, false),
            CanaryNews::NotPublished(reason) => {
                (self.last, self.is_unanswered, self.may_publish) = (Last::Settled, false, false);
                self.complain(reason);
            }
            CanaryNews::Passed => {
                self.pings = self.pings.saturating_sub(1);
                if self.last == Last::Late && self.pings == 0 {
                    (self.last, self.unheard) = (Last::Settled, self.unheard.saturating_add(1));
                    return Some(Unheard { again: self.unheard > 1 });
                }
            }
            CanaryNews::PingRefused => {
                self.pings = self.pings.saturating_sub(1);
                if self.last == Last::Late {
                    self.last = Last::Settled;
                }
            }
        }
        None
    }

    /// Why Redis refuses it, for the log: once, until a number has been heard again.
    pub(super) fn take_refusal(&mut self) -> Option<String> {
        self.refusal.take()
    }

    fn complain(&mut self, reason: String) {
        if !std::mem::replace(&mut self.is_told, true) {
            self.refusal = Some(reason);
        }
    }
}
