//! How drivers name links, and what each of them is for.

/// Names a link: a place for one connection at a time, which the driver opens and drops as it is told.
///
/// [`RedisBroker::links`](super::RedisBroker::links) says which there may be. What a link is for, only the broker knows, except for
/// [`RedisBroker::receives`](super::RedisBroker::receives).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(u32);

impl LinkId {
    /// Counts links from 0 on, with few holes: an index for the driver's sockets. Later there may be links with higher ones, so that
    /// whatever is indexed has to grow.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    pub(super) fn place(self) -> Place {
        match Role::ALL.get(self.index()) {
            Some(role) => Place::Session(*role),
            None => Place::Sentinel(self.index() - Role::COUNT),
        }
    }

    /// The one at this place.
    pub(super) const fn at(index: usize) -> LinkId {
        LinkId(index as u32)
    }

    pub(super) fn receives(self) -> bool {
        self == Place::Session(Role::Subscriber).link()
    }
}

/// Where a link leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// To the server that is used.
    Session(Role),
    /// To a Sentinel, by its place in the list of them.
    Sentinel(usize),
}

impl Place {
    pub(super) const fn link(self) -> LinkId {
        match self {
            Place::Session(role) => LinkId(role as u32),
            Place::Sentinel(index) => LinkId((Role::COUNT + index) as u32),
        }
    }
}

/// What a link of a session is for. There is one of each at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Receives messages.
    Subscriber,
    /// Publishes them, and reads histories.
    Publisher,
    /// Publishes to rooms that wait for replicas. It is opened only with `RedisConfig::waits_for_replicas`.
    DurablePublisher,
}

impl Role {
    /// How many there are.
    pub(super) const COUNT: usize = 3;
    /// That of the connection over which is published to a room that waits for so many replicas. It is always the same, so that what is said
    /// to the room keeps its order.
    pub(super) fn that_publishes(replicas_min: u16) -> Role {
        match replicas_min {
            0 => Role::Publisher,
            _ => Role::DurablePublisher,
        }
    }

    /// All of them.
    pub(super) const ALL: [Role; Role::COUNT] = [Role::Subscriber, Role::Publisher, Role::DurablePublisher];
}
