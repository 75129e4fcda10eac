//! What goes into the core: events. No behaviour.

use crate::broker::BrokerEvent;
use crate::id::ConnId;
use crate::ws::Message;

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
    /// The peer sent this on a WebSocket whose frames someone else reads, opened by
    /// [`Turn::open_websocket`](crate::Turn::open_websocket); on any other connection it is ignored, as [`Event::Bytes`] is on
    /// one of those.
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
    /// The broker reports.
    Broker(BrokerEvent<'a>),
    /// The time given to [`Core::next_timeout`](crate::Core::next_timeout) has come, or may have: to feed it early is harmless. It means
    /// that everything which clients have sent by now has been fed; an adapter that bounds its turns says
    /// [`Turn::timeout`](crate::Turn::timeout) instead.
    Timeout,
    /// Close everyone with 1012; clients that wait for an answer get it first, if it comes within
    /// [`Config::drain_timeout`](crate::Config::drain_timeout). Refuse newcomers, and answer `/readyz` with 503 from now on. What
    /// clients have said and nobody has read is not acted upon any more: read it before.
    Shutdown,
    /// Connections of other cores that share this one's limits of connections. It counts until it is said again.
    Elsewhere(Elsewhere),
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
