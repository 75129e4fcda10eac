//! The broker as the hub sees it: what it may be asked, what it reports. No bytes of any broker's own protocol.
//!
//! The hub asks by [`Ask`], which comes as [`Action::Ask`](crate::Action::Ask), and hears through [`BrokerEvent`]. For one room at
//! most one `Subscribe` or `Unsubscribe` is outstanding at a time. Each is answered by exactly one of `Subscribed`, `Unsubscribed`,
//! `SubscribeFailed`. If `Down` comes first, it voids all that were outstanding, and every subscription held. `Lost` does that to some rooms.

pub mod envelope;
pub mod memory;
mod partitions;
pub mod redis;

pub use partitions::{Partitions, partition_of};

use crate::history::{IdempotencyKey, NotStored, Page, Position, Query, Remove, Retention};
use crate::presence::RosterPage;

/// Correlates an [`Ask::Publish`] with its outcome. Only publishes whose client waits for an answer carry one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublishId(u64);

impl PublishId {
    /// The id with this number. The hub numbers its publishes upwards, those to rooms that wait for replicas apart from others.
    pub const fn new(number: u64) -> PublishId {
        PublishId(number)
    }

    /// The number given to [`PublishId::new`].
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// What the hub asks of a broker. Not `#[non_exhaustive]`: a broker that passes over one leaves the hub without an answer. Those of this
/// crate take whatever there is, so that their drivers need not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask<'a> {
    /// Subscribe to a room.
    Subscribe {
        /// The room.
        room: &'a str,
    },
    /// Unsubscribe from a room.
    Unsubscribe {
        /// The room.
        room: &'a str,
    },
    /// Publish to a room. If there is an id, exactly one `Published` or `PublishFailed` with it must come back.
    Publish {
        /// The room.
        room: &'a str,
        /// What to publish, to the letter, unless it is to be stored.
        payload: &'a [u8],
        /// Where the room keeps history: how the message is stored. What is published then is the payload behind the text that
        /// [`envelope::write_stored_header`] writes, in one step with the storing.
        store: Option<Store<'a>>,
        /// How many replicas of the broker must have a stored message before `Published` may tell of it; 0 of most rooms. It is the
        /// same for all messages of a room, and those that are not stored are not waited for.
        replicas_min: u16,
        /// Set if a client waits for the outcome.
        id: Option<PublishId>,
    },
    /// Read a part of a room's history: `Read` or `ReadFailed` with the id must come back, unless `PublisherDown` comes first, which voids
    /// all reads that were outstanding.
    Read {
        /// The room.
        room: &'a str,
        /// What of it.
        query: Query,
        /// What the room keeps: older messages are there no more, although the broker may have them still.
        retention: Retention,
        /// Names the answer.
        id: ReadId,
    },
    /// So many connections of a user are in a room here: no sum, but what is true now, so that it may be told again. `PresenceKept` or
    /// `PresenceFailed` with the id must come back, unless `PublisherDown` or `PresenceLost` comes first, which void all that is outstanding.
    /// What changes by it is published to the room [`presence::name_of`](crate::presence::name_of).
    Present {
        /// The room.
        room: &'a str,
        /// The user's name.
        user: &'a str,
        /// A JSON value, or nothing.
        info: &'a str,
        /// How many, of this instance. With 0 the user is not there by it.
        connections: u32,
        /// Names the answer.
        id: PresenceId,
    },
    /// Read a part of those who are in a room: `Roster` or `PresenceFailed` with the id must come back, unless `PublisherDown` comes first.
    Roster {
        /// The room.
        room: &'a str,
        /// Where the part begins: 0, or what the part before it said.
        from: u64,
        /// Names the answer.
        id: PresenceId,
    },
    /// Say [`BrokerEvent::Fenced`] with this id behind every message that has been published by now to a room that is subscribed to,
    /// unless `Down` comes first.
    Fence {
        /// Names the answer.
        id: FenceId,
    },
}

/// How a message is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Store<'a> {
    /// What the room keeps.
    pub retention: &'a Retention,
    /// The sender's idempotency key: a message with a key that the room has seen lately is not stored, nor published, again.
    pub key: Option<IdempotencyKey<'a>>,
    /// It is no message, but a [removal](crate::history::Removal), whose payload is published. Without a key.
    pub removes: Option<&'a Remove>,
}

/// Correlates an [`Ask::Read`] with its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadId(u64);

impl ReadId {
    /// The id with this number; the hub numbers its reads upwards.
    pub const fn new(number: u64) -> ReadId {
        ReadId(number)
    }

    /// The number given to [`ReadId::new`].
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// Correlates an [`Ask::Present`] or an [`Ask::Roster`] with its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PresenceId(u64);

impl PresenceId {
    /// The id with this number; the hub numbers these asks upwards.
    pub const fn new(number: u64) -> PresenceId {
        PresenceId(number)
    }

    /// The number given to [`PresenceId::new`].
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// Correlates an [`Ask::Fence`] with its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FenceId(u64);

impl FenceId {
    /// The id with this number; the core numbers its fences upwards.
    pub const fn new(number: u64) -> FenceId {
        FenceId(number)
    }

    /// The number given to [`FenceId::new`].
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// What a broker reports to the hub. Later versions may know of more; a broker reports what it can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BrokerEvent<'a> {
    /// Subscriptions can be made from now on; none exists yet, none asked for before is outstanding.
    Up,
    /// Every subscription, and every outstanding `Subscribe` and `Unsubscribe`, is lost. It may come again before `Up`, with
    /// a newer reason.
    Down {
        /// For people: why, or since when.
        reason: &'a str,
    },
    /// The same as `Down` followed by `Up`, for the rooms of some partitions only: what is asked about them is answered once it can be.
    Lost {
        /// Those.
        partitions: &'a Partitions,
    },
    /// Publishes are accepted from now on.
    PublisherUp,
    /// Publishes fail until [`BrokerEvent::PublisherUp`]. It may come again before that, with a newer reason.
    PublisherDown {
        /// For people: why.
        reason: &'a str,
    },
    /// The broker is there, holds what it holds, and refuses other things for a while, by an error that passes by itself. A
    /// `Subscribe` or `Unsubscribe` that it refused so stays outstanding, and is repeated by the side that reports. A publish
    /// fails. It may come again before [`BrokerEvent::Willing`], with a newer reason.
    Refusing {
        /// For people: what the broker says.
        reason: &'a str,
    },
    /// The broker does what it is asked again, or is away altogether, of which `Down` and `PublisherDown` tell.
    Willing,
    /// Every message published to the room after this one's place in the stream of events will be reported.
    Subscribed {
        /// The room that [`Ask::Subscribe`] named.
        room: &'a str,
    },
    /// No message of the room follows.
    Unsubscribed {
        /// The room that [`Ask::Unsubscribe`] named.
        room: &'a str,
    },
    /// The broker refused this subscription, for a reason that does not pass by itself, and is otherwise well.
    SubscribeFailed {
        /// The room that [`Ask::Subscribe`] named.
        room: &'a str,
        /// For the log: what the broker said. Clients are not told, because it may hold what is not for strangers.
        reason: &'a str,
    },
    /// A message was published to a room.
    Message {
        /// The room, without the broker's channel prefix.
        room: &'a str,
        /// The bytes as they were published.
        payload: &'a [u8],
    },
    /// The broker took the message.
    Published {
        /// From [`Ask::Publish`].
        id: PublishId,
        /// Where it is stored, if that was asked for.
        position: Option<Position>,
        /// How many subscribers it has gone to, on all instances, where the broker tells that.
        receivers: Option<u32>,
    },
    /// The broker did not take the message, or it is not known whether it did.
    PublishFailed {
        /// From [`Ask::Publish`].
        id: PublishId,
        /// What is known of the message's fate.
        error: PublishError,
    },
    /// A part of a room's history.
    Read {
        /// From [`Ask::Read`].
        id: ReadId,
        /// What is there.
        page: &'a Page,
    },
    /// The history cannot be read.
    ReadFailed {
        /// From [`Ask::Read`].
        id: ReadId,
        /// Whether it is worth asking again: it is not where the broker refuses for a reason that does not pass by itself.
        passes: bool,
    },
    /// It is known how many connections of the user are in the room here.
    PresenceKept {
        /// From [`Ask::Present`].
        id: PresenceId,
        /// How many connections the user has there, on all instances.
        connections: u32,
    },
    /// A part of those who are in a room.
    Roster {
        /// From [`Ask::Roster`].
        id: PresenceId,
        /// Those.
        page: &'a RosterPage,
    },
    /// It was not done.
    PresenceFailed {
        /// From [`Ask::Present`] or [`Ask::Roster`].
        id: PresenceId,
        /// Whether it is worth asking again soon.
        passes: bool,
    },
    /// Every message has been reported that had been published before the fence was asked for.
    Fenced {
        /// From [`Ask::Fence`].
        id: FenceId,
    },
    /// Nothing of what was told by [`Ask::Present`] counts any more, and nothing that was told is answered: others have taken this instance
    /// for dead, or the broker may have forgotten some of it, or may do some of it later. It has to be told again.
    PresenceLost,
}

/// Why a publish was not confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PublishError {
    /// No broker is connected, or it refuses for a while. The message was not published.
    Unavailable,
    /// As many publishes as allowed are waiting for the broker's answer. The message was not published.
    Busy,
    /// The broker refused it, for a reason that does not pass by itself. The message was not published.
    Refused,
    /// The connection ended after the message was sent and before the answer came: it may have been published.
    Unconfirmed,
    /// It is stored and published, and too few of the broker's replicas have said in time that they have it.
    Unreplicated,
    /// Its idempotency key belongs to another message of the room. It was not published.
    KeyReused,
    /// What is to be removed is not kept.
    NoMessage,
    /// What is to be removed is of another epoch.
    EpochUnknown,
    /// The room keeps history, and this broker cannot keep any. The message was not published.
    NotStored,
}

impl From<NotStored> for PublishError {
    fn from(why: NotStored) -> PublishError {
        match why {
            NotStored::KeyReused => PublishError::KeyReused,
            NotStored::NoMessage => PublishError::NoMessage,
            NotStored::EpochUnknown => PublishError::EpochUnknown,
        }
    }
}
