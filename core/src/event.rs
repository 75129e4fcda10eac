//! What goes into the core: events. No behaviour.

use crate::broker::BrokerEvent;
use crate::id::ConnId;
use crate::identity::{Bans, Denied, Identity};
use crate::proposal::{Decision, ProposalId};
use crate::ws::Message;
use std::sync::Arc;

/// What happened outside the core. Later versions may know of more: nobody has to tell them.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The peer sent these bytes. They are unmasked in place; the core keeps only an unfinished remainder.
    Bytes {
        /// Who sent them.
        conn: ConnId,
        /// Any part of the stream, split anywhere.
        data: &'a mut [u8],
    },
    /// The peer sent this on a WebSocket that was opened by [`Turn::open_websocket`](crate::Turn::open_websocket), because a
    /// framework reads its frames. On any other connection it is ignored. On these, [`Event::Bytes`] is ignored.
    ///
    /// Feed everything that comes, also pings and pongs, which are signs of life, and the peer's close frame. A ping is answered
    /// with a [`Message::Pong`]: leave that unsent where the framework has answered already.
    Message {
        /// Who sent it.
        conn: ConnId,
        /// The whole message, or control frame.
        message: Message<'a>,
    },
    /// A socket that had taken less than it was given takes more.
    Writable {
        /// Whose socket.
        conn: ConnId,
    },
    /// The peer sends no more: end of file, an error, or the end of a framework's stream. An
    /// [`Action::Close`](crate::Action::Close) follows.
    Closed {
        /// Whose end.
        conn: ConnId,
    },
    /// What [`Action::Authenticate`](crate::Action::Authenticate) asked about this connection has been found out. It may also come
    /// unasked, as a renewal: for a WebSocket that a framework has verified, or of whose user something else has become known. A
    /// connection that was nobody's before is closed with 1013 then if its user has as many as allowed.
    Authenticated {
        /// Whose credential it is.
        conn: ConnId,
        /// Whom it is of.
        outcome: Result<&'a Identity, Denied>,
    },
    /// Somebody has decided about the message that [`Action::Propose`](crate::Action::Propose) has asked about.
    Decided {
        /// Which message.
        proposal: ProposalId,
        /// What becomes of it.
        decision: Decision<'a>,
    },
    /// All credentials that count no more, in place of those that were told before. Whoever came by one of them is closed, in this turn
    /// and the next ones.
    Bans(&'a Arc<Bans>),
    /// What time it is. To be fed before the first turn where credentials expire, and again every minute or so, because clocks are set.
    WallClock {
        /// Unix, ms.
        unix_ms: u64,
    },
    /// The broker reports.
    Broker(BrokerEvent<'a>),
    /// The time given by [`Core::next_timeout`](crate::Core::next_timeout) has come, or may have: to feed it early is harmless. It
    /// means that everything which clients have sent by now has been fed. An adapter that bounds its turns says
    /// [`Turn::timeout`](crate::Turn::timeout) instead.
    Timeout,
    /// The server is about to stop. `/readyz` is answered with 503 from now on. Once [`Drain::delay`](crate::Drain::delay) has passed,
    /// newcomers are refused ([`Core::takes_newcomers`](crate::Core::takes_newcomers)), and each connection has a time within
    /// [`Drain::spread`](crate::Drain::spread). A client is told it by `DRAIN`, to come back then by itself. One that does not, or
    /// whose dialect has no replies, is closed with 1012; before that it gets what has been acknowledged until then
    /// ([`Ask::Fence`](crate::broker::Ask::Fence)), and the answers that it waits for, as after `Shutdown`.
    Drain,
    /// Lets a share of the open WebSockets go in the same way, to bring others their load. Who that is is drawn by lot among those who do
    /// not have to go already. Newcomers are taken as before.
    Shed {
        /// From 0 to 1. It is rounded up to whole connections.
        share: f64,
    },
    /// Close all connections with 1012. A client that waits for an answer gets it first, if it comes within
    /// [`Timeouts::drain`](crate::Timeouts::drain). From now on newcomers are refused, and `/readyz` is answered with 503. What
    /// clients have sent and has not been fed is not acted upon any more: read it before.
    Shutdown,
    /// A command of the program that the server is a part of, which needs no connection: `SEND_MESSAGE`, `HISTORY` or `PRESENCE`, as
    /// clients write them, with an `id`. Neither rights nor limits hold for it. [`Core::replies`](crate::Core::replies) has what it is
    /// answered, in this turn or a later one. It has words of its own besides, which no client has:
    ///
    /// | `type` | fields | what it does | answer |
    /// |---|---|---|---|
    /// | `CONNECTIONS` | `user` or `connection`, `limit` | lists connections of this core; everybody's if it names nobody | `CONNECTIONS` |
    /// | `DISCONNECT` | the same, `code` from 4000 to 4999, `reason` | ends them; 4500 if no code is given | `DONE` |
    /// | `EXPEL` | the same, `room` | takes them out of a room, and tells them: `UNSUBSCRIBED` with the code `removed` | `DONE` |
    /// | `ROOMS` | `prefix`, `after`, `limit` | lists rooms that have members here, by their names | `ROOMS` |
    /// | `SHED` | `share` | as [`Event::Shed`] | `DONE` |
    /// | `HOLD` | `room` | hears what programs say in this room, which is none of the clients' | `HELD`, then `TOLD` for each |
    /// | `TELL` | `room`, `text` | says something there | `ACK`, with `receivers` where the broker counts them |
    ///
    /// `connection` is a [`ConnId::public`](crate::ConnId::public).
    Command {
        /// The command, as JSON.
        text: &'a str,
        /// Who is told to have sent the message, where clients are asked who they are.
        user: Option<&'a str>,
    },
    /// Connections of other cores that share this one's limits of connections. It counts until it is said again.
    Elsewhere(Elsewhere),
    /// Whether changes of the bans have not been seen for so long that no new work should be sent here.
    BansUnseen(bool),
    /// Whether the others that make up the server together with this core are ready: `/readyz` answers for all.
    ReadyElsewhere(Result<(), &'a str>),
}

/// Connections of other cores under the same limits. They count when an upgrade is answered and when pending connections are evicted.
/// [`Turn::open`](crate::Turn::open) ignores them: the adapter must not open more than all cores together may have.
///
/// Not `#[non_exhaustive]`: a number that an adapter leaves out would count as none, and the limits would not hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Elsewhere {
    /// Connections of every kind.
    pub connections: usize,
    /// Open WebSockets, and places that are kept for some.
    pub websockets: usize,
}
