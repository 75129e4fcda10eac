//! Events that came about while nobody was there to take them, kept in order until somebody asks.

use std::collections::VecDeque;

use crate::broker::{BrokerEvent, FenceId, Partitions, PresenceId, PublishError, PublishId, ReadId};
use crate::presence::RosterPage;

/// Places kept for good; a burst of refused publishes gives the rest back.
const KEPT_EVENTS: usize = 1024;

#[derive(Debug)]
enum Queued {
    Up,
    Down { reason: String },
    Lost { partitions: Partitions },
    PublisherUp,
    PublisherDown { reason: String },
    Refusing { reason: String },
    Willing,
    PublishFailed { id: PublishId, error: PublishError },
    ReadFailed { id: ReadId, passes: bool },
    PresenceKept { id: PresenceId, connections: u32 },
    Roster { id: PresenceId, page: RosterPage },
    PresenceFailed { id: PresenceId, passes: bool },
    PresenceLost,
    Fenced { id: FenceId },
}

/// The events, oldest first.
#[derive(Debug, Default)]
pub(super) struct EventQueue {
    events: VecDeque<Queued>,
}

impl EventQueue {
    pub(super) fn up(&mut self) {
        self.events.push_back(Queued::Up);
    }

    pub(super) fn lost(&mut self, partitions: Partitions) {
        self.events.push_back(Queued::Lost { partitions });
    }

    pub(super) fn down(&mut self, reason: String) {
        self.events.push_back(Queued::Down { reason });
    }

    pub(super) fn publisher_up(&mut self) {
        self.events.push_back(Queued::PublisherUp);
    }

    pub(super) fn publisher_down(&mut self, reason: String) {
        self.events.push_back(Queued::PublisherDown { reason });
    }

    pub(super) fn refusing(&mut self, reason: String) {
        self.events.push_back(Queued::Refusing { reason });
    }

    pub(super) fn willing(&mut self) {
        self.events.push_back(Queued::Willing);
    }

    pub(super) fn publish_failed(&mut self, id: PublishId, error: PublishError) {
        self.events.push_back(Queued::PublishFailed { id, error });
    }

    pub(super) fn read_failed(&mut self, id: ReadId, passes: bool) {
        self.events.push_back(Queued::ReadFailed { id, passes });
    }

    pub(super) fn presence_kept(&mut self, id: PresenceId, connections: u32) {
        self.events.push_back(Queued::PresenceKept { id, connections });
    }

    pub(super) fn roster(&mut self, id: PresenceId, page: RosterPage) {
        self.events.push_back(Queued::Roster { id, page });
    }

    pub(super) fn presence_lost(&mut self) {
        self.events.push_back(Queued::PresenceLost);
    }

    pub(super) fn fenced(&mut self, id: FenceId) {
        self.events.push_back(Queued::Fenced { id });
    }

    pub(super) fn presence_failed(&mut self, id: PresenceId, passes: bool) {
        self.events.push_back(Queued::PresenceFailed { id, passes });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Hands out all of them.
    pub(super) fn drain(&mut self, sink: &mut impl FnMut(BrokerEvent<'_>)) {
        for event in self.events.drain(..) {
            sink(match &event {
                Queued::Up => BrokerEvent::Up,
                Queued::Down { reason } => BrokerEvent::Down { reason },
                Queued::Lost { partitions } => BrokerEvent::Lost { partitions },
                Queued::PublisherUp => BrokerEvent::PublisherUp,
                Queued::PublisherDown { reason } => BrokerEvent::PublisherDown { reason },
                Queued::Refusing { reason } => BrokerEvent::Refusing { reason },
                Queued::Willing => BrokerEvent::Willing,
                Queued::PublishFailed { id, error } => BrokerEvent::PublishFailed { id: *id, error: *error },
                Queued::ReadFailed { id, passes } => BrokerEvent::ReadFailed { id: *id, passes: *passes },
                Queued::PresenceKept { id, connections } => {
                    BrokerEvent::PresenceKept { id: *id, connections: *connections }
                }
                Queued::Roster { id, page } => BrokerEvent::Roster { id: *id, page },
                Queued::PresenceLost => BrokerEvent::PresenceLost,
                Queued::Fenced { id } => BrokerEvent::Fenced { id: *id },
                Queued::PresenceFailed { id, passes } => BrokerEvent::PresenceFailed { id: *id, passes: *passes },
            });
        }
        self.events.shrink_to(KEPT_EVENTS);
    }
}
