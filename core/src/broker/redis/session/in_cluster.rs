//! A session with one node of a Cluster: what it learns of the Cluster, and what is taken from it and given to it because it goes to another
//! node.

use super::super::link_id::Role;
use super::super::publisher::{Asked, Detour, Publisher};
use super::super::redirect::NodeName;
use super::RedisSession;
use crate::time::Time;

/// What a session learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum News {
    /// Its node has this partition no more, and has ended its subscriptions.
    Gone(u16),
    /// It is not subscribed to its canary's channel, because its node has not this slot.
    CanaryGone(u16),
    /// Its node says who has this slot.
    Moved { slot: u16, to: NodeName },
    /// What the instances have agreed on, or why that is not known.
    Layout(Result<String, String>),
    /// The node cannot say that now.
    LayoutPutOff,
}

impl RedisSession {
    /// What it has learned since the last time.
    pub fn take_news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }

    /// Whether there is anything to take.
    pub fn has_news(&self) -> bool {
        !self.news.is_empty()
            || self.publisher.has_heard()
            || [&self.publisher, &self.durable_publisher].into_iter().any(Publisher::has_detours)
    }

    /// Whether a connection is up.
    pub fn is_up(&self, role: Role) -> bool {
        self.links[role as usize].is_up()
    }

    /// Whether something that was published to this partition has no answer here, and may yet have to go to another node.
    pub fn is_asked_of(&self, role: Role, partition: u16) -> bool {
        match role {
            Role::DurablePublisher => self.durable_publisher.is_asked_of(partition),
            _ => self.publisher.is_asked_of(partition),
        }
    }

    /// Why one of its connections is not up, for people.
    pub fn last_error(&self) -> Option<&str> {
        let down = self.roles().find(|role| !self.is_up(*role))?;
        self.links[down as usize].stats().last_error
    }

    /// What has to go another way, and which kind of connection it was for.
    pub fn take_detours(&mut self) -> Vec<(Role, Detour)> {
        let mut taken = Vec::new();
        for role in [Role::Publisher, Role::DurablePublisher] {
            taken.extend(self.publishing(role).0.take_detours().into_iter().map(|detour| (role, detour)));
        }
        taken
    }

    /// The commands that announce what was stored at this node and is not heard here yet, with the partitions of their rooms.
    pub fn take_announcements(&mut self) -> Vec<(u16, Vec<u8>)> {
        let [mut first, mut second] =
            [Role::Publisher, Role::DurablePublisher].map(|role| self.publishing(role).0.take_announcements());
        first.append(&mut second);
        first
    }

    /// Sends what another node did not do, where the connection is up. `is_asking`: this one has yet to get the slot.
    pub fn send(&mut self, role: Role, asked: Asked, since: Time, bytes: &[u8], is_asking: bool) {
        let (publisher, link, ..) = self.publishing(role);
        publisher.resume((asked, since), bytes, is_asking, &mut link.outbox);
    }

    /// Sends such a command, where the connection is up.
    pub fn announce(&mut self, command: &[u8]) {
        let (publisher, link, ..) = self.publishing(Role::Publisher);
        if link.is_up() {
            publisher.announce(command, &mut link.outbox);
        }
    }

    /// Asks what the instances have agreed on, and has them agree on this if there is nothing yet, where the connection is up:
    /// [`News::Layout`] is the answer.
    pub fn ask_layout(&mut self, layout: &str) {
        let (publisher, link, config, _) = self.publishing(Role::Publisher);
        publisher.ask_layout(layout, &mut link.outbox, config);
    }

    /// Nothing of what was asked about the subscriptions of these rooms is to be told.
    pub fn forget(&mut self, is_forgotten: impl Fn(&str) -> bool) {
        self.subscriber.forget(is_forgotten);
    }

    /// Ends the connection that subscribes, with all subscriptions that its node may have.
    pub fn subscribe_anew(&mut self, reason: &str, now: Time) {
        if self.is_up(Role::Subscriber) {
            self.give_up(Role::Subscriber, reason, now);
        }
    }

    /// What stands behind prefix and partition in the name of that channel.
    pub fn canary_name(&self) -> &str {
        self.canary.name()
    }

    /// The channel on which it finds out whether what is published is heard has to be one of its node's. Says whether it is another one now.
    pub fn move_canary(&mut self, suits: impl Fn(&str) -> bool) -> bool {
        let is_moved = self.canary.rename(suits, &self.config);
        if is_moved {
            self.ask_canary();
        }
        is_moved
    }

    /// Subscribes to that channel, where the connection is up.
    pub fn ask_canary(&mut self) {
        if self.is_up(Role::Subscriber) {
            self.subscriber.ask_canary(self.canary.name());
        }
    }
}
