//! The connection to one Sentinel: who it says is the master, asked again and again, and at once when it tells of another.
//!
//! RESP2 and nothing newer, because every Sentinel speaks it. There a connection that subscribes may ask nothing else. So it lets go of its
//! subscription for each question, and subscribes behind it: what changes in between is in the answer.

use std::collections::VecDeque;
use std::time::Duration;

use super::super::backoff::Backoff;
use super::super::buffers::{Inbox, Outbox, Received, Stopped};
use super::super::command;
use super::super::refusal::explained_end;
use super::super::resp::{Items, Limits, Reply};
use super::super::{Address, ConnectionRequest, LinkState, LinkStats, RedisConfig};
use crate::time::Time;

/// Where a Sentinel tells that a group has another master.
const SWITCH_MASTER: &[u8] = b"+switch-master";
/// Of any reply, in bytes: `SENTINEL MASTER` takes about 1 KiB.
const REPLY_BYTES_MAX: usize = 64 * 1024;
/// What a connection to a Sentinel and each of its answers may take. Another one knows the same, so it is not waited for as long as Redis is.
const ANSWER_TIMEOUT_MAX: Duration = Duration::from_secs(2);

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
    Unsubscribe,
    /// `SENTINEL MASTER`, for the epoch of the configuration. While it fails over, the address in it is the old one.
    Epoch,
    /// `SENTINEL GET-MASTER-ADDR-BY-NAME`.
    Address,
    Subscribe,
}

/// What a Sentinel knows of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Who its master is, and since which configuration; a later one has a higher epoch. None where the Sentinel may not tell.
    Master { address: Address, epoch: Option<u64> },
    /// It watches over no such group.
    Nobody,
}

/// What came of bytes or a tick.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// The master, asked for.
    Answer(Said),
    /// The same, told unasked.
    Switched(Address),
}

/// One connection, or the wait for the next.
#[derive(Debug)]
pub(super) struct Watch {
    address: Address,
    state: State,
    drop_due: bool,
    inbox: Inbox,
    outbox: Outbox,
    awaited: VecDeque<Asked>,
    is_subscribed: bool,
    /// Of the answer that has begun.
    epoch: Option<u64>,
    /// An ACL refuses to tell it, or it is not known.
    has_no_epoch: bool,
    is_heard: bool,
    asked_at: Time,
    /// When the answer must have come.
    deadline: Option<Time>,
    /// To be asked again as soon as what is asked is answered.
    is_due: bool,
    backoff: Backoff,
    last_error: Option<String>,
}

fn answer_timeout(config: &RedisConfig) -> Duration {
    config.connect_timeout.min(ANSWER_TIMEOUT_MAX)
}

impl Watch {
    /// A connection whose first attempt is due at once.
    pub(super) fn new(address: Address, seed: u64) -> Watch {
        Watch {
            address,
            state: State::Waiting { until: Time::ZERO },
            drop_due: false,
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            awaited: VecDeque::new(),
            is_subscribed: false,
            epoch: None,
            has_no_epoch: false,
            is_heard: false,
            asked_at: Time::ZERO,
            deadline: None,
            is_due: false,
            backoff: Backoff::new(seed),
            last_error: None,
        }
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self.state, State::Up)
    }

    /// Whether the epoch follows when another master is told of.
    pub(super) fn tells_epochs(&self) -> bool {
        !self.has_no_epoch
    }

    pub(super) fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    pub(super) fn stats(&self) -> LinkStats<'_> {
        let state = match self.state {
            State::Waiting { .. } => LinkState::Waiting,
            State::Connecting { .. } => LinkState::Connecting,
            State::Up => LinkState::Up,
        };
        LinkStats { state, last_error: self.last_error() }
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

    pub(super) fn connected(&mut self, now: Time, master: &str, config: &RedisConfig) {
        if let State::Connecting { .. } = self.state {
            (self.state, self.is_heard, self.has_no_epoch) = (State::Up, false, false);
            if let Some(password) = &config.sentinel_password {
                self.awaited.push_back(Asked::Auth);
                let user = config.sentinel_username.as_deref().filter(|user| *user != "default");
                let words: Vec<&[u8]> =
                    [Some("AUTH"), user, Some(password)].into_iter().flatten().map(str::as_bytes).collect();
                command::command(self.outbox.tail(), &words);
            }
            self.ask(now, master, config);
        }
    }

    /// Asks who the master is, unless an answer is on its way: then behind it.
    pub(super) fn ask_again(&mut self, now: Time, master: &str, config: &RedisConfig) {
        match self.is_up() {
            true if self.deadline.is_some() => self.is_due = true,
            true => self.ask(now, master, config),
            // Nobody else may know.
            false => {
                if let State::Waiting { until } = &mut self.state {
                    *until = (*until).min(now + config.backoff_min);
                }
            }
        }
    }

    fn ask(&mut self, now: Time, master: &str, config: &RedisConfig) {
        (self.asked_at, self.is_due) = (now, false);
        self.deadline = Some(now + answer_timeout(config));
        let out = self.outbox.tail();
        if std::mem::take(&mut self.is_subscribed) {
            self.awaited.push_back(Asked::Unsubscribe);
            command::command(out, &[b"UNSUBSCRIBE", SWITCH_MASTER]);
        }
        // In this order: an epoch that is older than the address does no harm.
        self.epoch = None;
        if !self.has_no_epoch {
            self.awaited.push_back(Asked::Epoch);
            command::command(out, &[b"SENTINEL", b"MASTER", master.as_bytes()]);
        }
        self.awaited.extend([Asked::Address, Asked::Subscribe]);
        command::command(out, &[b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", master.as_bytes()]);
        command::command(out, &[b"SUBSCRIBE", SWITCH_MASTER]);
    }

    /// The connection ended, or could not be established.
    pub(super) fn disconnected(&mut self, reason: &str, now: Time, config: &RedisConfig) {
        self.drop_due = false;
        let unheard = (self.is_up() && !self.is_heard).then(|| explained_end(reason));
        self.lose(unheard.as_deref().unwrap_or(reason), now, config);
    }

    fn lose(&mut self, reason: &str, now: Time, config: &RedisConfig) {
        if let State::Waiting { .. } = self.state {
            return;
        }
        self.state = State::Waiting { until: now + self.backoff.next(config.backoff_min, config.backoff_max) };
        (self.inbox, self.outbox) = (Inbox::default(), Outbox::default());
        self.awaited.clear();
        (self.is_subscribed, self.is_due, self.deadline) = (false, false, None);
        self.last_error = Some(reason.to_owned());
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

    /// Takes what was read, and tells what it says of the group.
    pub(super) fn input(
        &mut self,
        data: &[u8],
        now: Time,
        master: &str,
        config: &RedisConfig,
        mut tell: impl FnMut(News),
    ) {
        if data.is_empty() || !self.is_up() {
            return;
        }
        self.is_heard = true;
        let limits = Limits { message_bytes_max: REPLY_BYTES_MAX, reply_bytes_max: REPLY_BYTES_MAX };
        let mut inbox = std::mem::take(&mut self.inbox);
        let fed = inbox.feed(data, &limits, |received| match received {
            Received::Message { channel: SWITCH_MASTER, payload } => {
                if let Some(address) = switched(payload, master) {
                    self.is_due = true;
                    tell(News::Switched(address));
                }
                Ok(())
            }
            Received::Message { .. } | Received::Oversized => Ok(()),
            Received::Reply(reply) => match self.reply(&reply, config) {
                Ok(Some(said)) => {
                    tell(News::Answer(said));
                    Ok(())
                }
                Ok(None) => Ok(()),
                Err(reason) => Err(reason),
            },
        });
        match fed {
            Ok(()) => self.inbox = inbox,
            Err(Stopped::Refused(reason)) => return self.give_up(&reason, now, config),
            Err(Stopped::Malformed(error)) => {
                let reason = format!("{} ({error})", RedisConfig::explained_stranger(data));
                return self.give_up(&reason, now, config);
            }
        }
        if self.is_due && self.deadline.is_none() {
            self.ask(now, master, config);
        }
    }

    /// Takes the next reply; the error is the reason, for people, why this connection is of no use.
    fn reply(&mut self, reply: &Reply<'_>, config: &RedisConfig) -> Result<Option<Said>, String> {
        let Some(asked) = self.awaited.pop_front() else {
            return Err(match reply {
                Reply::Error(error) => config.explained_error(error),
                _ => "a reply came that nothing was asked for".to_owned(),
            });
        };
        match (asked, reply) {
            (Asked::Auth | Asked::Unsubscribe, Reply::Error(error)) => Err(config.explained_error(error)),
            (Asked::Auth | Asked::Unsubscribe, _) => Ok(None),
            (Asked::Subscribe, reply) => {
                // Without the right to subscribe, it is asked all the same.
                self.is_subscribed = !matches!(reply, Reply::Error(_));
                self.deadline = None;
                Ok(None)
            }
            (Asked::Epoch, Reply::Error(error)) => {
                // Of a group that it does not know, the next answer tells.
                self.has_no_epoch = !error.starts_with(b"ERR No such master");
                Ok(None)
            }
            (Asked::Epoch, Reply::Array(fields) | Reply::Map(fields)) => {
                self.epoch = epoch_in(*fields);
                self.has_no_epoch = self.epoch.is_none();
                Ok(None)
            }
            (Asked::Address, Reply::Error(error)) => Err(config.explained_error(error)),
            (Asked::Address, Reply::Null) => Ok(self.answered(Said::Nobody)),
            (Asked::Address, Reply::Array(items)) => {
                let mut items = *items;
                let (host, port) = (items.next(), items.next());
                match host.zip(port).and_then(|(host, port)| address_of(text(&host)?, text(&port)?)) {
                    Some(address) => {
                        let epoch = self.epoch;
                        Ok(self.answered(Said::Master { address, epoch }))
                    }
                    None => Err("what answers there is no Sentinel".to_owned()),
                }
            }
            (Asked::Epoch | Asked::Address, _) => Err("what answers there is no Sentinel".to_owned()),
        }
    }

    fn answered(&mut self, said: Said) -> Option<Said> {
        self.backoff.reset();
        self.last_error = None;
        Some(said)
    }

    pub(super) fn next_timeout(&self, config: &RedisConfig) -> Time {
        match self.state {
            State::Waiting { until } => until,
            State::Connecting { deadline } => deadline,
            State::Up => self.deadline.unwrap_or(self.asked_at + config.probe_interval),
        }
    }

    pub(super) fn timeout(&mut self, now: Time, master: &str, config: &RedisConfig) {
        if now < self.next_timeout(config) {
            return;
        }
        let within = answer_timeout(config).as_millis();
        match self.state {
            State::Waiting { .. } => {}
            State::Connecting { .. } => self.give_up(&config.unconnected(answer_timeout(config)), now, config),
            State::Up if self.deadline.is_some() => {
                self.give_up(&format!("no answer within {within} ms"), now, config);
            }
            State::Up => self.ask(now, master, config),
        }
    }
}

/// The epoch of the configuration in the answer to `SENTINEL MASTER`: names and values in turns.
fn epoch_in(mut fields: Items<'_>) -> Option<u64> {
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        if text(&name)? == b"config-epoch" {
            return std::str::from_utf8(text(&value)?).ok()?.parse().ok();
        }
    }
    None
}

/// The new master, where a message on the channel is about this group: `<group> <old host> <old port> <new host> <new port>`.
fn switched(message: &[u8], master: &str) -> Option<Address> {
    let mut words = message.split(|byte| *byte == b' ');
    if words.next() != Some(master.as_bytes()) {
        return None;
    }
    let mut new = words.skip(2);
    address_of(new.next()?, new.next()?)
}

fn text<'a>(reply: &Reply<'a>) -> Option<&'a [u8]> {
    match reply {
        Reply::Bulk(text) | Reply::Simple(text) => Some(text),
        _ => None,
    }
}

fn address_of(host: &[u8], port: &[u8]) -> Option<Address> {
    let text = |bytes| std::str::from_utf8(bytes).ok();
    let port = text(port)?.parse().ok().filter(|port| *port != 0)?;
    let host = text(host).filter(|host| !host.is_empty())?.to_owned();
    Some(Address::Tcp { host, port })
}
