//! What was subscribed and unsubscribed and is not confirmed yet, in order: joined into commands on the way out,
//! matched to confirmations on the way in. The connection itself is a `Link`.

use std::collections::VecDeque;

use super::RedisConfig;
use super::buffers::Outbox;
use super::canary::{Canary, CanaryNews};
use super::command;
use super::names::slot_of_partition;
use super::redirect::Redirect;
use super::refusal::Refusal;
use super::resp::{Items, Reply};
use super::verdict::{Loss, Verdict};
use crate::broker::{BrokerEvent, FenceId};

/// Channels named by one command. Redis finishes a whole command before it looks at the next connection: so many take
/// it some 0.2 ms (SLOWLOG of Redis 7.0), which nobody notices.
const CHANNELS_PER_COMMAND_MAX: usize = 512;

/// Places kept for good in the list of what is asked for.
const KEPT_ASKS: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Subscribe,
    Unsubscribe,
}

impl Operation {
    /// The command's name.
    fn name(self, is_sharded: bool) -> &'static [u8] {
        match (self, is_sharded) {
            (Operation::Subscribe, false) => b"SUBSCRIBE",
            (Operation::Subscribe, true) => b"SSUBSCRIBE",
            (Operation::Unsubscribe, false) => b"UNSUBSCRIBE",
            (Operation::Unsubscribe, true) => b"SUNSUBSCRIBE",
        }
    }

    /// What Redis calls the confirmation.
    fn confirmed_by(self, kind: &[u8]) -> bool {
        match self {
            Operation::Subscribe => matches!(kind, b"subscribe" | b"ssubscribe"),
            Operation::Unsubscribe => matches!(kind, b"unsubscribe" | b"sunsubscribe"),
        }
    }
}

#[derive(Debug)]
struct Ask {
    operation: Operation,
    room: Box<str>,
    /// Must share its command with no other: the shared one was refused, and it shall be known for which of them; or it is the canary's.
    alone: bool,
    /// Nobody wants to hear what becomes of it.
    void: bool,
}

/// A command sent and not fully answered.
#[derive(Debug, PartialEq, Eq)]
enum Command {
    /// For so many of the asks that come next.
    Channels { left: usize },
    /// `again`: what it answers decides whether trouble is over.
    Ping { again: bool },
    /// What it answers comes behind all that was published before.
    CanaryPing,
    /// A `PING` as well: what it answers is a fence.
    Fence(FenceId),
}

/// The asks of one connection after another.
#[derive(Debug, Default)]
pub(super) struct Subscriber {
    /// Oldest first; the first `sent` of them belong to `commands`.
    asks: VecDeque<Ask>,
    sent: usize,
    commands: VecDeque<Command>,
    /// What was refused for a while, to be asked again: once for a room at most, as everything is that is asked for.
    refused: Vec<Ask>,
}

impl Subscriber {
    /// Notes what is asked; it leaves with the next [`Subscriber::flush`].
    pub(super) fn ask(&mut self, operation: Operation, room: &str) {
        self.asks.push_back(Ask { operation, room: room.into(), alone: false, void: false });
    }

    /// The same of the canary's subscription.
    pub(super) fn ask_canary(&mut self, name: &str) {
        self.asks.push_back(Ask { operation: Operation::Subscribe, room: name.into(), alone: true, void: false });
    }

    /// Appends commands for all that was asked since the last time, neighbours of one kind joined.
    pub(super) fn flush(&mut self, outbox: &mut Outbox, config: &RedisConfig) {
        let names = config.names();
        // A command may name channels of one slot only.
        let partition = |ask: &Ask| names.is_sharded().then(|| names.partition(&ask.room)).flatten();
        while self.sent < self.asks.len() {
            let unsent = || self.asks.range(self.sent..);
            let (operation, alone) = (self.asks[self.sent].operation, self.asks[self.sent].alone);
            let joined = if alone {
                1
            } else {
                let first = partition(&self.asks[self.sent]);
                let alike = |ask: &&Ask| ask.operation == operation && !ask.alone && partition(ask) == first;
                unsent().take(CHANNELS_PER_COMMAND_MAX).take_while(alike).count()
            };
            let out = outbox.tail();
            command::begin(out, 1 + joined);
            command::argument(out, operation.name(names.is_sharded()));
            for ask in unsent().take(joined) {
                command::channel(out, &names, &ask.room);
            }
            self.sent += joined;
            self.commands.push_back(Command::Channels { left: joined });
        }
    }

    /// Whether a `PING` has no answer yet.
    pub(super) fn is_probed(&self) -> bool {
        self.commands.iter().any(|command| !matches!(command, Command::Channels { .. }))
    }

    /// Asks for a sign of life; `again`: behind everything that was refused for a while.
    pub(super) fn probe(&mut self, again: bool, outbox: &mut Outbox, config: &RedisConfig) {
        if again {
            self.asks.extend(self.refused.drain(..));
            self.refused.shrink_to(KEPT_ASKS);
            self.flush(outbox, config);
        }
        command::command(outbox.tail(), &[b"PING"]);
        self.commands.push_back(Command::Ping { again });
    }

    /// Asks whether the canary has passed.
    pub(super) fn probe_canary(&mut self, outbox: &mut Outbox) {
        command::command(outbox.tail(), &[b"PING"]);
        self.commands.push_back(Command::CanaryPing);
    }

    /// Asks for a sign behind everything that has been published before.
    pub(super) fn fence(&mut self, id: FenceId, outbox: &mut Outbox) {
        command::command(outbox.tail(), &[b"PING"]);
        self.commands.push_back(Command::Fence(id));
    }

    /// Takes the next reply; the error is the reason, for people, why this connection can no longer be trusted.
    pub(super) fn reply(
        &mut self,
        reply: &Reply<'_>,
        config: &RedisConfig,
        sink: &mut impl FnMut(BrokerEvent<'_>),
    ) -> Result<Verdict, Loss> {
        match reply {
            Reply::Push(items) | Reply::Array(items) => self.push(*items, config, sink),
            Reply::Error(error) => self.refused(error, config, sink),
            _ => self.pong(None, sink),
        }
    }

    /// Pushes and, in RESP2, the arrays that stand for them. Messages do not come here.
    fn push(
        &mut self,
        mut items: Items<'_>,
        config: &RedisConfig,
        sink: &mut impl FnMut(BrokerEvent<'_>),
    ) -> Result<Verdict, Loss> {
        match (items.next(), items.next()) {
            (Some(Reply::Bulk(b"pong")), _) => self.pong(None, sink),
            (
                Some(Reply::Bulk(kind @ (b"subscribe" | b"unsubscribe" | b"ssubscribe" | b"sunsubscribe"))),
                Some(Reply::Bulk(channel)),
            ) => self.confirmed(kind, channel, config, sink),
            _ => Ok(Verdict::Fine),
        }
    }

    /// Redis confirms channel by channel, in the order asked. Anything else means that it and we no longer agree on
    /// what is subscribed (it may have ended a subscription by itself): only a new connection makes that sure again.
    fn confirmed(
        &mut self,
        kind: &[u8],
        channel: &[u8],
        config: &RedisConfig,
        sink: &mut impl FnMut(BrokerEvent<'_>),
    ) -> Result<Verdict, Loss> {
        let strayed = || {
            let kind = config.printable_error(kind);
            Loss::Broken(format!("a confirmation came that nothing was asked for: {kind}"))
        };
        let names = config.names();
        let room = names.room_of(channel).and_then(|room| std::str::from_utf8(room).ok());
        let is_first = |ask: &Ask| ask.operation.confirmed_by(kind) && room.is_some_and(|room| room == &*ask.room);
        let left = match self.commands.front_mut() {
            Some(Command::Channels { left }) if self.asks.front().is_some_and(is_first) => left,
            _ if kind == b"sunsubscribe" && names.is_sharded() => {
                return match room.and_then(|room| names.partition(room)) {
                    Some(partition) => Ok(Verdict::Gone(partition)),
                    None => Err(strayed()),
                };
            }
            _ => return Err(strayed()),
        };
        *left -= 1;
        if *left == 0 {
            self.commands.pop_front();
        }
        if let Some(Ask { operation, room, void, .. }) = self.asks.pop_front() {
            self.sent -= 1;
            if Canary::is_named(&room) {
                return Ok(CanaryNews::Subscribed(room).into());
            }
            match operation {
                // Nobody would ever end it, if it is not asked for anew.
                Operation::Subscribe if void => {
                    if !self.asks.iter().any(|ask| ask.room == room) {
                        let ask = Ask { operation: Operation::Unsubscribe, room, alone: false, void: true };
                        self.asks.push_back(ask);
                    }
                }
                Operation::Unsubscribe if void => {}
                Operation::Subscribe => sink(BrokerEvent::Subscribed { room: &room }),
                Operation::Unsubscribe => sink(BrokerEvent::Unsubscribed { room: &room }),
            }
        }
        if self.asks.is_empty() {
            self.asks.shrink_to(KEPT_ASKS);
        }
        Ok(Verdict::Fine)
    }

    /// Redis refuses a command as a whole, for instance when one of its channels is not allowed.
    fn refused(
        &mut self,
        error: &[u8],
        config: &RedisConfig,
        sink: &mut impl FnMut(BrokerEvent<'_>),
    ) -> Result<Verdict, Loss> {
        let moved = Redirect::of(error);
        if let Some(Redirect::Moved { slot, .. }) = moved {
            // A command that was answered by an unasked `sunsubscribe` is answered once more.
            let is_of_first = |ask: &Ask| config.names().partition(&ask.room).map(slot_of_partition) == Some(slot);
            let is_channels = matches!(self.commands.front(), Some(Command::Channels { .. }));
            if !is_channels || !self.asks.front().is_some_and(is_of_first) {
                return Ok(Verdict::Fine);
            }
        }
        let left = match self.commands.front() {
            None => return Err(Loss::Broken(config.explained_error(error))),
            Some(Command::Ping { .. } | Command::CanaryPing | Command::Fence(_)) => {
                return self.pong(Some((error, config)), sink);
            }
            Some(Command::Channels { left }) => *left,
        };
        self.commands.pop_front();
        if let Some(Redirect::Moved { slot, to }) = moved {
            let is_of_canary = self.asks.drain(..left).any(|ask| Canary::is_named(&ask.room));
            self.sent -= left;
            return Ok(match is_of_canary {
                true => Verdict::CanaryMoved { slot, to },
                false => Verdict::Moved { slot, to },
            });
        }
        let refusal = Refusal::of(error);
        match refusal {
            Refusal::Replica => return Err(Loss::Replica),
            Refusal::SignIn => return Err(Loss::Broken(config.explained_error(error))),
            Refusal::Passing | Refusal::Lasting => {}
        }
        for _ in 0..left {
            let Some(ask) = self.asks.pop_front() else { break };
            self.sent -= 1;
            if ask.void {
                continue;
            }
            if refusal == Refusal::Passing {
                self.refused.push(ask);
            } else if Canary::is_named(&ask.room) {
                return Ok(CanaryNews::NotSubscribed(Canary::explained(error, config)).into());
            } else if left == 1 {
                let reason = config.explained_error(error);
                sink(BrokerEvent::SubscribeFailed { room: &ask.room, reason: &reason });
            } else {
                self.asks.push_back(Ask { alone: true, ..ask });
            }
        }
        match refusal {
            Refusal::Passing => Ok(Verdict::Refused(config.explained_error(error))),
            _ => Ok(Verdict::Fine),
        }
    }

    /// A `PING` is answered, by an error or not. Any answer is one, but for those that are about the server.
    fn pong(
        &mut self,
        error: Option<(&[u8], &RedisConfig)>,
        sink: &mut impl FnMut(BrokerEvent<'_>),
    ) -> Result<Verdict, Loss> {
        let asked = match self.commands.pop_front() {
            Some(Command::Ping { again }) => Some(again),
            Some(Command::CanaryPing) => None,
            Some(Command::Fence(id)) => {
                sink(BrokerEvent::Fenced { id });
                Some(false)
            }
            _ => return Err(Loss::Broken("a reply came that nothing was asked for".to_owned())),
        };
        let trouble = match error.map(|(error, config)| (Refusal::of_probe(error), error, config)) {
            Some((Refusal::Passing, error, config)) => Some(config.explained_error(error)),
            Some((Refusal::SignIn, error, config)) => return Err(Loss::Broken(config.explained_error(error))),
            Some((Refusal::Replica, ..)) => return Err(Loss::Replica),
            Some((Refusal::Lasting, ..)) | None => None,
        };
        Ok(match (asked, trouble) {
            (Some(again), trouble) => Verdict::Probed { again, trouble },
            (None, None) => CanaryNews::Passed.into(),
            (None, trouble) => Verdict::Canary { news: CanaryNews::PingRefused, trouble },
        })
    }

    /// Whether anything waits to be asked again.
    pub(super) fn has_refused(&self) -> bool {
        !self.refused.is_empty()
    }

    /// Nothing of what was asked about these rooms is to be told.
    pub(super) fn forget(&mut self, is_forgotten: impl Fn(&str) -> bool) {
        let is_forgotten = |ask: &Ask| !Canary::is_named(&ask.room) && is_forgotten(&ask.room);
        self.refused.retain(|ask| !is_forgotten(ask));
        let unsent = self.asks.split_off(self.sent);
        self.asks.iter_mut().filter(|ask| is_forgotten(ask)).for_each(|ask| ask.void = true);
        self.asks.extend(unsent.into_iter().filter(|ask| !is_forgotten(ask)));
    }

    /// The connection is lost, and with it all that was asked.
    pub(super) fn lose(&mut self) {
        *self = Subscriber::default();
    }
}
