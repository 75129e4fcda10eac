//! The order of a turn: what is fed to the core before what else, and when its actions are carried out.
//!
//! It stands here once. Both servers go by it, and so does the simulator, so that a mistake in the order of production is one that the
//! simulator can find. How a step is done is the adapter's: [`Steps`] is generic, and nothing is dispatched while a server runs.
//!
//! Nothing but the core is known here: no socket, no clock, no log. So the simulator gets the order without what a server needs beside it.

use fanfare_core::broker::Ask;
use fanfare_core::time::Time;
use fanfare_core::{Action, Actions, Authenticate, ConnId, Core, Delivery, Event, Proposal, Turn};

/// What a server that is told to stop does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// [`Event::Drain`].
    InTime,
    /// [`Event::Shutdown`].
    AtOnce,
}

/// The steps of a turn, in the order in which [`turn`] has them done, and then what a core's actions are done with.
pub trait Steps {
    /// Clients' sockets.
    type Sockets: Sockets;

    /// 1. Notes what is ready, and feeds [`Event::Writable`] for sockets that take bytes again.
    ///
    /// First, because all other steps go by it: who is read, whether the broker has something to say, whether the server was told to
    /// stop.
    fn events(&mut self, turn: &mut Turn<'_>);

    /// 2. Feeds what the broker has to say; while the core is `congested` no messages, because more of them would only wait.
    ///
    /// Before clients, because a client that joins in this turn is to find every subscription as new as can be.
    fn broker(&mut self, turn: &mut Turn<'_>, congested: bool);

    /// 3. Has others know whether this core is ready. It is called again in step 9.
    ///
    /// Before any request is read, because a server must give the same answer wherever it is asked: at another of its cores, at the
    /// operations port.
    fn readiness(&mut self, _readiness: Result<(), &str>) {}

    /// 4. Opens new connections, for a bounded time.
    ///
    /// Before clients are read, because most that are new have a request to be read already. After the broker, because a storm of
    /// connections must not hold up messages.
    fn accept(&mut self, turn: &mut Turn<'_>);

    /// 5. Keeps places for the upgrades of this turn, and feeds what the core has to hear of others under the same limits.
    ///
    /// After new connections, because they count among those that may be upgraded. Before clients, because a request is answered when
    /// it is read.
    fn reserve(&mut self, _turn: &mut Turn<'_>) {}

    /// 6. Feeds what has been found out about credentials: [`Event::Authenticated`], [`Event::Bans`] and, now and then, [`Event::WallClock`].
    ///
    /// After places are kept, because an upgrade that has waited for its credential is answered now. Before clients, because what one says
    /// next may depend on it.
    fn credentials(&mut self, turn: &mut Turn<'_>);

    /// 7. Feeds what clients have sent, within bounds. Before that, what has been decided about messages of earlier turns
    ///    ([`Event::Decided`]), because they come first, and what backends ask.
    fn clients(&mut self, turn: &mut Turn<'_>);

    /// 8. Whether the connection's socket has something that has not been fed. It is asked of those whose deadline has passed.
    ///
    /// After clients, because a client whose bytes have come in time is not to be given up.
    fn has_unread(&mut self, conn: ConnId) -> bool;

    /// 9. Whether the core is to be told to stop, and how. If it is, readiness is told again before any client hears of it.
    ///
    /// After clients, because what they had sent before is still answered.
    fn stops(&mut self, core: &Core) -> Option<Stop>;

    /// 10. Gives back the places that were kept and not used.
    ///
    /// Before actions, because a client that is answered may connect to another core at once, and must not be refused for a place
    /// that nobody uses.
    fn release(&mut self, _core: &Core) {}

    // 11. The core's actions are carried out, each connection written to once.

    /// 12. Whether the broker has answered already what was asked of it in step 11. Then another turn is fed with that alone, because
    ///     messages need not wait until more clients have been read.
    fn is_answered(&self) -> bool {
        false
    }

    /// 13. The turn has ended: sends what there still is for the broker, and notes what has become of connections. Where the core takes no
    ///     newcomers any more, nor does the adapter.
    ///
    /// Last, because only now all that end in this turn have ended.
    fn settle(&mut self, core: &Core);

    /// Sends what the broker was asked. It is called before members are written to, because the broker works on it meanwhile. It is
    /// called only if something has been asked that somebody waits for.
    fn send_asks(&mut self);

    /// Takes an [`Action::Ask`].
    fn ask(&mut self, ask: Ask<'_>);

    /// Takes an [`Action::Authenticate`].
    fn authenticate(&mut self, asked: Authenticate<'_>);

    /// Takes an [`Action::Propose`].
    fn propose(&mut self, proposal: Proposal<'_>);

    /// Where an [`Action::Send`], an [`Action::Shutdown`] or an [`Action::Close`] goes.
    fn sockets(&mut self) -> &mut Self::Sockets;

    /// Takes an [`Action::Send`]: [`deliver`], and whatever is to be noted of it.
    #[inline]
    fn send(&mut self, delivery: Delivery<'_>) {
        deliver(delivery, self.sockets());
    }
}

/// Clients' sockets as an adapter has them.
pub trait Sockets {
    /// Writes what the connection's socket takes at once. Returns how much that was, or `None` where the socket has failed.
    fn write(&mut self, conn: ConnId, bytes: &[u8]) -> Option<usize>;

    /// Sends a FIN, and goes on reading.
    fn shutdown(&mut self, conn: ConnId);

    /// Closes the connection's socket: the core says so, or a [`write`](Sockets::write) has failed.
    fn close(&mut self, conn: ConnId);
}

/// One turn at this time: the [`Steps`] in their order.
pub fn turn<S: Steps>(core: &mut Core, steps: &mut S, now: Time) {
    let mut turn = core.turn(now);
    steps.events(&mut turn);
    hear_broker(&mut turn, steps);
    steps.readiness(turn.core().readiness());
    steps.accept(&mut turn);
    steps.reserve(&mut turn);
    steps.credentials(&mut turn);
    steps.clients(&mut turn);
    turn.timeout(|conn| steps.has_unread(conn));
    if let Some(stop) = steps.stops(turn.core()) {
        turn.feed(match stop {
            Stop::InTime => Event::Drain,
            Stop::AtOnce => Event::Shutdown,
        });
        steps.readiness(turn.core().readiness());
    }
    steps.release(turn.core());
    carry_out(turn.finish(), steps);
    if steps.is_answered() {
        let mut turn = core.turn(now);
        hear_broker(&mut turn, steps);
        carry_out(turn.finish(), steps);
    }
    steps.settle(core);
}

fn hear_broker(turn: &mut Turn<'_>, steps: &mut impl Steps) {
    let congested = turn.core().is_congested();
    steps.broker(turn, congested);
}

/// Carries out what the core says.
fn carry_out(mut actions: Actions<'_>, steps: &mut impl Steps) {
    let mut asked = false;
    while let Some(action) = actions.next() {
        match action {
            Action::Send(delivery) => {
                if std::mem::take(&mut asked) {
                    steps.send_asks();
                }
                steps.send(delivery);
            }
            Action::Shutdown { conn } => steps.sockets().shutdown(conn),
            Action::Close { conn } => steps.sockets().close(conn),
            Action::Authenticate(asked) => steps.authenticate(asked),
            Action::Propose(proposal) => steps.propose(proposal),
            Action::Ask(ask) => {
                // Nobody waits for an end of messages.
                asked |= !matches!(ask, Ask::Unsubscribe { .. });
                steps.ask(ask);
            }
        }
    }
}

/// Writes a delivery to its targets, one system call for each: the loop that everything else is for. It has the sockets alone, so that
/// nothing else is looked up for a target.
pub fn deliver(mut delivery: Delivery<'_>, sockets: &mut impl Sockets) {
    let bytes = delivery.bytes();
    while let Some(conn) = delivery.next_target() {
        match sockets.write(conn, bytes) {
            Some(written) if written == bytes.len() => {}
            Some(written) => delivery.short(conn, written),
            None => {
                sockets.close(conn);
                delivery.gone(conn);
            }
        }
    }
}
