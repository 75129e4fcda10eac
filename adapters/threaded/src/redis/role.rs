//! What connections to Redis are for.

/// What a connection is for. There is one of each at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Receives messages.
    Subscriber,
    /// Publishes them, and reads histories.
    Publisher,
    /// Publishes to rooms that wait for replicas, if there may be any.
    DurablePublisher,
}

impl Role {
    /// How many there are.
    pub(super) const COUNT: usize = 3;
    /// All of them.
    pub(super) const ALL: [Role; Role::COUNT] = [Role::Subscriber, Role::Publisher, Role::DurablePublisher];
}
