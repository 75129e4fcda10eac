//! A turn of the core, as adapters see it: events go in, and then actions come out, in an order that says what may wait.

use super::Core;
use crate::action::Action;
use crate::context::Context;
use crate::dialect::Dialect;
use crate::error::Refused;
use crate::event::Event;
use crate::fanout::outlet::{self, Outlet};
use crate::id::ConnId;
use crate::identity::Identity;
use crate::time::Time;
use crate::transport::End;
use core::net::IpAddr;

impl Core {
    /// Begins a turn: feed it what is ready, then drain it. `now` must not go backwards; an earlier time counts as the last.
    pub fn turn(&mut self, now: Time) -> Turn<'_> {
        self.cx.now = self.cx.now.max(now);
        self.transport.begin_turn(self.cx.now);
        self.session.begin_turn(self.cx.now);
        Turn { core: self }
    }
}

/// One turn: events in, then actions out.
#[must_use = "a turn has to be finished, and its actions carried out"]
#[derive(Debug)]
pub struct Turn<'c> {
    core: &'c mut Core,
}

impl<'c> Turn<'c> {
    /// Takes a new connection, on which a request head is expected. Its address is not known, so the limits of addresses do not
    /// hold for it.
    ///
    /// # Errors
    /// [`Refused::Full`] where no more are taken: close the socket.
    pub fn open(&mut self) -> Result<ConnId, Refused> {
        self.core.transport.open(&mut self.core.cx, None)
    }

    /// Takes a new connection from this address. If that is over one of its limits, the connection is taken all the same, to
    /// be told so.
    ///
    /// # Errors
    /// [`Refused::Full`] where no more are taken: close the socket.
    pub fn open_from(&mut self, peer: IpAddr) -> Result<ConnId, Refused> {
        self.core.transport.open(&mut self.core.cx, Some(peer))
    }

    /// Takes a WebSocket of a framework, which answers its upgrade, and reads and writes its frames. It is open from the start, and
    /// whole messages go in ([`Event::Message`]) and come out ([`Delivery::messages`](crate::Delivery::messages)); everything else
    /// is as for any other connection: rooms, limits, heartbeat, closing. [`Action::Shutdown`](crate::Action::Shutdown) never names
    /// it, and permessage-deflate is the framework's.
    ///
    /// It joins `rooms` at once, as with `?room=` in a URL. With [`Dialect::Broadcast`] the first of them is the one that it speaks
    /// to; with none, that is the dialect's own. `peer` is the address that the limits of addresses count: behind a proxy, the
    /// client's. `None` counts nobody.
    ///
    /// What the server's own upgrades are judged by as well is for the framework to ask: which pages may connect
    /// ([`Origins::allow`](crate::Origins::allow)), and which subprotocol is selected ([`Dialect::subprotocol`]).
    ///
    /// # Errors
    /// [`Refused`], best told before the upgrade is answered: [`Refused::Full`] and [`Refused::ShuttingDown`] by status 503,
    /// [`Refused::Address`] and [`Refused::User`] by 429, [`Refused::Rooms`] by 400.
    pub fn open_websocket(
        &mut self,
        dialect: Dialect,
        rooms: &[&str],
        peer: Option<IpAddr>,
    ) -> Result<ConnId, Refused> {
        self.core.open_websocket(dialect, rooms, peer, None)
    }

    /// The same for a client whose credential the framework has verified. It needs [`Config::auth`](crate::Config::auth), as rules for users
    /// do. [`Event::Authenticated`] renews what is known.
    ///
    /// # Errors
    /// As for [`Turn::open_websocket`].
    pub fn open_websocket_of(
        &mut self,
        identity: &Identity,
        dialect: Dialect,
        rooms: &[&str],
        peer: Option<IpAddr>,
    ) -> Result<ConnId, Refused> {
        self.core.open_websocket(dialect, rooms, peer, Some(identity))
    }

    /// Takes one event. There may be any number in a turn; the adapter bounds them, for latency's sake.
    pub fn feed(&mut self, event: Event<'_>) {
        let core = &mut *self.core;
        match event {
            Event::Bytes { conn, data } => match core.cx.slots.slot(conn) {
                Some(slot) => core.bytes(slot, data),
                None => core.cx.metrics.stale_ids += 1,
            },
            Event::Message { conn, message } => match core.cx.slots.slot(conn) {
                Some(slot) => core.whole_message(slot, message),
                None => core.cx.metrics.stale_ids += 1,
            },
            Event::Writable { conn } => match core.cx.slots.slot(conn) {
                Some(_) => core.cx.fanout.writable(conn),
                None => core.cx.metrics.stale_ids += 1,
            },
            Event::Closed { conn } => match core.cx.slots.slot(conn) {
                Some(slot) => core.closed(slot),
                None => core.cx.metrics.stale_ids += 1,
            },
            Event::Authenticated { conn, outcome } => match core.cx.slots.slot(conn) {
                Some(slot) => core.authenticated(slot, outcome),
                None => core.cx.metrics.stale_ids += 1,
            },
            Event::Decided { proposal, decision } => core.decided(proposal, decision),
            Event::Bans(bans) => {
                core.session.set_bans(&core.cx, bans);
                core.end_overdue();
            }
            Event::WallClock { unix_ms } => {
                core.session.set_clock(&mut core.cx, unix_ms);
                core.end_overdue();
            }
            Event::Broker(event) => core.broker_event(event),
            Event::Timeout => core.timeout(&mut |_| false),
            Event::Drain => core.departures.announce(core.cx.now + core.cx.config.drain.delay),
            Event::Shed { share } => core.shed(share),
            Event::Shutdown => core.shutdown(),
            Event::Command { text, user } => core.command(text, user),
            Event::Elsewhere(elsewhere) => core.transport.hear_elsewhere(elsewhere),
            Event::BansUnseen(unseen) => core.bans_unseen = unseen,
            Event::ReadyElsewhere(readiness) => core.unready_elsewhere = readiness.err().map(Into::into),
        }
    }

    /// The same as [`Event::Timeout`], for adapters that may have left bytes of clients unread in this turn. `has_unread` tells
    /// whether a connection has such bytes. It is asked about connections whose deadline is over, because those bytes may have met
    /// it. Such a connection is looked at again a moment later, so that no client is given up for what the server has not read.
    pub fn timeout(&mut self, mut has_unread: impl FnMut(ConnId) -> bool) {
        self.core.timeout(&mut has_unread);
    }

    /// The core as of the events fed so far: what others have to hear of it before anybody is answered.
    pub fn core(&self) -> &Core {
        self.core
    }

    /// Ends the feeding. The actions must be drained before the next turn can begin.
    pub fn finish(self) -> Actions<'c> {
        self.core.finish();
        Actions::new(self.core)
    }
}

/// The actions of one turn: a lending iterator. Each action must be carried out before the next is asked for.
///
/// If it is dropped before its end, asks and closes come with the next turn's actions. What was to be sent is queued, as if nothing
/// had been written.
#[must_use = "a turn's actions have to be carried out"]
#[derive(Debug)]
pub struct Actions<'c> {
    core: &'c mut Core,
    stage: Stage,
    /// The next item of the stage, where it has any.
    at: usize,
    outlet: Outlet,
}

/// The order of a turn's actions. The broker is asked first, for it takes longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Asks,
    Credentials,
    Proposals,
    Deliveries,
    Ends,
    Done,
}

/// Which action comes next: chosen without a borrow, so that the action itself can hold one.
#[derive(Clone, Debug)]
enum Step {
    Ask(usize),
    Authenticate(usize),
    Propose(usize),
    Deliver(outlet::Step),
    End(usize),
}

impl<'c> Actions<'c> {
    fn new(core: &'c mut Core) -> Actions<'c> {
        Actions { core, stage: Stage::Asks, at: 0, outlet: Outlet::new() }
    }

    /// The next action, or `None` when the turn is over.
    #[expect(
        clippy::should_implement_trait,
        reason = "an action borrows from the iterator, which `Iterator` cannot say"
    )]
    pub fn next(&mut self) -> Option<Action<'_>> {
        Some(match self.step()? {
            Step::Ask(index) => Action::Ask(self.core.hub.ask(index).expect("the step is within the list")),
            Step::Authenticate(index) => {
                let Core { session, transport, cx, .. } = &*self.core;
                let asked = session.ask(index, |slot| transport.address(cx, slot));
                Action::Authenticate(asked.expect("the step is within the list"))
            }
            Step::Propose(index) => {
                Action::Propose(self.core.session.proposal(index).expect("the step is within the list"))
            }
            Step::Deliver(step) => {
                let Context { fanout, slots, metrics, .. } = &mut self.core.cx;
                Action::Send(self.outlet.delivery(step, fanout, slots, metrics))
            }
            Step::End(index) => match self.core.transport.ends()[index] {
                End::Shutdown(conn) => Action::Shutdown { conn },
                End::Close(conn) => Action::Close { conn },
            },
        })
    }

    fn step(&mut self) -> Option<Step> {
        loop {
            let at = self.at;
            match self.stage {
                Stage::Asks if at < self.core.hub.asks() => {
                    self.at += 1;
                    return Some(Step::Ask(at));
                }
                Stage::Asks => {
                    self.core.hub.forget_asks(at);
                    self.enter(Stage::Credentials);
                }
                Stage::Credentials if at < self.core.session.asks() => {
                    self.at += 1;
                    return Some(Step::Authenticate(at));
                }
                Stage::Credentials => {
                    self.core.session.forget_asks(at);
                    self.enter(Stage::Proposals);
                }
                Stage::Proposals if at < self.core.session.proposals() => {
                    self.at += 1;
                    return Some(Step::Propose(at));
                }
                Stage::Proposals => {
                    self.core.session.forget_proposals(at);
                    self.enter(Stage::Deliveries);
                }
                Stage::Deliveries => match self.outlet.step(&mut self.core.cx.fanout, &mut self.core.cx.slots) {
                    Some(step) => return Some(Step::Deliver(step)),
                    None => {
                        self.core.end_turn();
                        self.enter(Stage::Ends);
                    }
                },
                Stage::Ends if at < self.core.transport.ends().len() => {
                    self.at += 1;
                    return Some(Step::End(at));
                }
                Stage::Ends => {
                    self.core.forget_ended(at);
                    self.enter(Stage::Done);
                }
                Stage::Done => return None,
            }
        }
    }

    fn enter(&mut self, stage: Stage) {
        self.stage = stage;
        self.at = 0;
    }
}

impl Drop for Actions<'_> {
    fn drop(&mut self) {
        if self.stage == Stage::Asks {
            self.core.hub.forget_asks(self.at);
            self.enter(Stage::Deliveries);
        }
        if self.stage == Stage::Credentials {
            self.core.session.forget_asks(self.at);
            self.enter(Stage::Deliveries);
        }
        if self.stage == Stage::Proposals {
            self.core.session.forget_proposals(self.at);
            self.enter(Stage::Deliveries);
        }
        // What `next` hands out below nobody carries out.
        let ended = if self.stage == Stage::Ends { self.at } else { 0 };
        while !matches!(self.stage, Stage::Ends | Stage::Done) {
            drop(self.next());
        }
        if self.stage == Stage::Ends {
            self.core.forget_ended(ended);
        }
    }
}
