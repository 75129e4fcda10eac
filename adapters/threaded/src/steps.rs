//! What a turn does, step by step, within bounds. The order of the steps is `fanfare-turn`'s.

use crate::broker::Broker;
use crate::connections::Connections;
use crate::gate::{Gate, Lack};
use crate::inbox::{Inbound, Inbox};
use fanfare_adapter::api::Counter;
use fanfare_adapter::authentication::Desk;
use fanfare_adapter::drive::is_pressed;
use fanfare_adapter::hooks::HookDesk;
use fanfare_adapter::journal;
use fanfare_adapter::readiness::Readiness;
use fanfare_adapter::stopping::{Reading, Stopping};
use fanfare_core::broker::Ask;
use fanfare_core::time::Time;
use fanfare_core::{Authenticate, ConnId, Core, Event, Proposal, Turn};
use fanfare_turn::{Steps, Stop};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Of clients' events in one turn: a message waits until the turn that reads it has ended.
const EVENTS_PER_TURN: usize = 64;
/// How long a turn takes clients' events, at least one: a client that floods the server must not hold up what Redis brings.
const CLIENTS_TIME: Duration = Duration::from_micros(200);
/// While there is too much to do, clients that make much work have to wait. One of them is heard this often all the same, because a
/// client that keeps the rules must not wait for those that do not.
const HEAVY_PAUSE: Duration = Duration::from_millis(2);
/// The silence that ends the last round: long enough for a thread that has read something to hand it over.
const QUIET: Duration = Duration::from_millis(20);

/// What the server has beside its core.
#[derive(Debug)]
pub(crate) struct Adapter {
    pub(crate) inbox: Inbox,
    pub(crate) connections: Connections,
    pub(crate) gate: Arc<Gate>,
    pub(crate) broker: Broker,
    /// Where credentials are handed in, where clients are asked who they are.
    pub(crate) credentials: Option<Desk>,
    /// Where what backends ask comes in, where they can.
    pub(crate) counter: Option<Counter>,
    /// Where webhooks are asked, where rules name any.
    pub(crate) hooks: Option<HookDesk>,
    pub(crate) readiness: Readiness,
    pub(crate) stopping: Stopping,
    pub(crate) last_round: Option<LastRound>,
    /// When one of those who make much work was heard last.
    pub(crate) heavy_read_at: Time,
    /// Connections that have ended, whose bytes have not all been looked at: until they have, their end is not told.
    pub(crate) ending: Vec<ConnId>,
}

/// Reads what clients had sent before the server was told to stop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LastRound {
    /// If nobody has said anything by then, everything has been read.
    pub(crate) quiet_at: Time,
    /// No longer than this.
    pub(crate) until: Time,
}

/// One turn of the server.
pub(crate) struct TurnSteps<'a> {
    adapter: &'a mut Adapter,
    now: Time,
    /// The signal that has come last, and how many have.
    signalled: Option<(&'static str, usize)>,
    /// A client has said something, or is new.
    spoke: bool,
}

impl<'a> TurnSteps<'a> {
    /// A turn at this time.
    pub(crate) fn new(adapter: &'a mut Adapter, now: Time) -> TurnSteps<'a> {
        TurnSteps { adapter, now, signalled: None, spoke: false }
    }

    /// In the order in which they ended; what came of them last may just have been kept.
    fn tell_ends(&mut self, turn: &mut Turn<'_>) {
        let Adapter { connections, ending, .. } = &mut *self.adapter;
        for conn in std::mem::take(ending) {
            match turn.core().keeps_unread(conn) {
                true => ending.push(conn),
                false if connections.is_open(conn) => turn.feed(Event::Closed { conn }),
                false => {}
            }
        }
    }

    fn feed(&mut self, inbound: Inbound, turn: &mut Turn<'_>) {
        let Adapter { connections, gate, ending, .. } = &mut *self.adapter;
        match inbound {
            Inbound::Accepted(client, peer) => {
                self.spoke = true;
                // The gate lets in no more than the core takes.
                let Ok(conn) = turn.open_from(peer.ip()) else { return };
                journal::accepted(0, conn, peer);
                match connections.insert(conn, client, peer.ip()) {
                    Ok(()) => gate.granted(Lack::Thread),
                    Err(error) => {
                        gate.refused(Lack::Thread, &error);
                        turn.feed(Event::Closed { conn });
                    }
                }
            }
            Inbound::Bytes(conn, mut data) => {
                self.spoke = true;
                // Its thread may have spoken just before it was closed here.
                if connections.is_open(conn) {
                    connections.taken(conn);
                    let began = Instant::now();
                    turn.feed(Event::Bytes { conn, data: &mut data });
                    connections.charge(conn, began.elapsed(), self.now);
                }
            }
            Inbound::Ended(conn) if connections.is_open(conn) => ending.push(conn),
            Inbound::Writable(conn) if connections.writable(conn) => turn.feed(Event::Writable { conn }),
            // A turn ends with the figures.
            Inbound::Ended(_)
            | Inbound::Writable(_)
            | Inbound::Figures
            | Inbound::Credentials
            | Inbound::Ordered
            | Inbound::Decided => {}
            Inbound::Signal(name) => self.signalled = Some((name, self.signalled.map_or(1, |(_, times)| times + 1))),
        }
    }
}

impl Steps for TurnSteps<'_> {
    type Sockets = Connections;

    fn events(&mut self, turn: &mut Turn<'_>) {
        let connections = &mut self.adapter.connections;
        for conn in connections.look_again() {
            if connections.writable(conn) {
                turn.feed(Event::Writable { conn });
            }
        }
    }

    fn broker(&mut self, turn: &mut Turn<'_>, congested: bool) {
        let Adapter { broker, readiness, .. } = &mut *self.adapter;
        broker.read(self.now, congested, |event| {
            turn.feed(Event::Broker(event));
            // After each event: a connection may have gone and come back since the last turn, which is worth its lines in the log.
            readiness.tell(turn.core().readiness());
        });
    }

    fn readiness(&mut self, readiness: Result<(), &str>) {
        self.adapter.readiness.tell(readiness);
    }

    /// They come through the same queue as what clients say.
    fn accept(&mut self, _turn: &mut Turn<'_>) {}

    fn credentials(&mut self, turn: &mut Turn<'_>) {
        if let Some(desk) = &mut self.adapter.credentials {
            desk.collect();
            desk.feed(turn, self.now);
        }
    }

    fn clients(&mut self, turn: &mut Turn<'_>) {
        if let Some(hooks) = &mut self.adapter.hooks {
            hooks.feed(turn);
        }
        if let Some(counter) = &mut self.adapter.counter {
            counter.feed(turn);
        }
        let began = Instant::now();
        // What is kept unread in the core has its turn by itself, and is as much work as what makes much.
        let pressed = is_pressed(turn.core(), &self.adapter.broker);
        for _ in 0..EVENTS_PER_TURN {
            let Some(inbound) = self.adapter.inbox.clients().next() else { break };
            self.feed(inbound, turn);
            if began.elapsed() >= CLIENTS_TIME {
                break;
            }
        }
        // One at least of those, too.
        let heavy_max = match pressed {
            false => EVENTS_PER_TURN,
            true => usize::from(self.now.since(self.adapter.heavy_read_at) >= HEAVY_PAUSE),
        };
        for _ in 0..heavy_max {
            let Some(inbound) = self.adapter.inbox.heavy().next() else { break };
            self.adapter.heavy_read_at = self.now;
            self.feed(inbound, turn);
            if began.elapsed() >= CLIENTS_TIME {
                break;
            }
        }
        self.tell_ends(turn);
    }

    fn has_unread(&mut self, conn: ConnId) -> bool {
        self.adapter.connections.has_unread(conn)
    }

    fn stops(&mut self, _core: &Core) -> Option<Stop> {
        let (adapter, now) = (&mut *self.adapter, self.now);
        if let Some((signal, times)) = self.signalled
            && let Some(reading) = adapter.stopping.signalled(signal, times, now)
        {
            adapter.readiness.stop();
            adapter.stopping.log(signal, adapter.gate.open());
            adapter.last_round = Some(match reading {
                Reading::UntilTheyGo => LastRound { quiet_at: now, until: now },
                Reading::LastRound(time) => {
                    adapter.gate.stop();
                    LastRound { quiet_at: now + QUIET, until: now + time }
                }
            });
        }
        if let Some(round) = &mut adapter.last_round
            && round.until > now
            && (self.spoke || round.quiet_at <= now && adapter.connections.have_unread())
        {
            round.quiet_at = now + QUIET;
        }
        adapter.last_round.take_if(|round| round.quiet_at.min(round.until) <= now)?;
        adapter.stopping.wanted()
    }

    fn settle(&mut self, core: &Core) {
        let Adapter { gate, broker, stopping, .. } = &mut *self.adapter;
        if !core.takes_newcomers() {
            gate.stop();
            if core.connections() == 0 {
                broker.stop_waiting();
                broker.give_back(stopping.presence_linger());
            }
        }
        self.send_asks();
    }

    fn send_asks(&mut self) {
        self.adapter.broker.drive(self.now);
    }

    fn ask(&mut self, ask: Ask<'_>) {
        self.adapter.broker.ask(ask);
    }

    fn authenticate(&mut self, asked: Authenticate<'_>) {
        let desk = self.adapter.credentials.as_mut();
        desk.expect("it is there wherever clients are asked who they are").ask(asked);
    }

    fn propose(&mut self, proposal: Proposal<'_>) {
        let desk = self.adapter.hooks.as_mut();
        desk.expect("it is there wherever a rule names a hook").propose(proposal);
    }

    fn sockets(&mut self) -> &mut Connections {
        &mut self.adapter.connections
    }
}
