//! How drivers name a session's links, and what the session has each of them for.

/// Names a link of a session: a place for one connection at a time, which the driver opens and drops as it is told.
///
/// [`RedisSession::links`](super::RedisSession::links) says which there may be. What a link is for, only the session knows, except for
/// [`RedisSession::receives`](super::RedisSession::receives).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(u32);

impl LinkId {
    /// Counts a session's links from 0 on, without holes: an index for the driver's sockets. Later there may be links with higher ones, so
    /// that whatever is indexed has to grow.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    pub(super) const fn role(self) -> Role {
        Role::ALL[self.index()]
    }
}

/// What a link is for. There is one of each at most.
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
    /// All of them. Links have the same order, so that there is no hole where the last is not used.
    pub(super) const ALL: [Role; Role::COUNT] = [Role::Subscriber, Role::Publisher, Role::DurablePublisher];

    pub(super) const fn link(self) -> LinkId {
        LinkId(self as u32)
    }
}
