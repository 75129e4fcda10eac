//! What goes into the core: connection ids and events. No behaviour.

use crate::broker::BrokerEvent;
use crate::ws::Message;
use std::fmt;

/// A connection: its slot and the slot's generation. An id outlives its connection harmlessly: a later connection in the
/// same slot has another generation, so a stale id is recognised and never taken for someone else.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(u64);

impl ConnId {
    /// An id from its parts.
    pub const fn new(slot: u32, generation: u32) -> ConnId {
        ConnId((generation as u64) << 32 | slot as u64)
    }

    /// The id as one number, for a poll token or a map.
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// The inverse of [`ConnId::to_bits`].
    pub const fn from_bits(bits: u64) -> ConnId {
        ConnId(bits)
    }

    /// A dense index: below the highest number of connections that were ever open at once.
    pub const fn slot(self) -> usize {
        (self.0 & 0xffff_ffff) as usize
    }

    /// How many connections had this slot before.
    pub const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl fmt::Debug for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.slot(), self.generation())
    }
}

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
