//! What the threads that speak with Redis tell the one that owns the core, and what they count.

use super::ask::{Ask, Publish};
use super::role::Role;
use crossbeam_channel::Sender;
use fanfare_core::broker::redis::CanaryNews;
use fanfare_core::broker::{PublishError, PublishId, ReadId};
use fanfare_core::history::{Page, Position};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

/// What the threads have to say: [`BrokerEvent`](fanfare_core::broker::BrokerEvent)s that own their texts.
#[derive(Debug)]
pub enum Report {
    /// A connection, and where it takes what is asked of it.
    Up(Role, Sender<Ask>),
    /// It has gone, or still cannot be had, and why. What was asked of one for subscriptions is void.
    Down(Role, String),
    /// Redis refuses for a while what it is asked on a connection, and why; or does so no more.
    Refusing(Role, Option<String>),
    /// What came of the canary.
    Canary(CanaryNews),
    /// It was a master, and is a replica.
    Demoted,
    /// The room is subscribed.
    Subscribed(String),
    /// The room is not subscribed any more.
    Unsubscribed(String),
    /// The room, and what Redis said.
    SubscribeFailed(String, String),
    /// The room, and what was published to it.
    Message(String, Vec<u8>),
    /// Redis took it, and where it is stored, if it is.
    Published(PublishId, Option<Position>),
    /// Redis did not take it, or nobody knows.
    PublishFailed(PublishId, PublishError),
    /// What is there of a room's history.
    Read(ReadId, Page),
    /// It cannot be read, and whether that passes.
    ReadFailed(ReadId, bool),
    /// The last publish in flight is none any more, and nobody was waiting for its outcome, unless the server does, to end.
    Settled,
}

/// What the threads count, and whether there are histories.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) in_flight: AtomicUsize,
    pub(super) in_flight_bytes: AtomicUsize,
    pub(super) dropped: AtomicU64,
    pub(super) oversized: AtomicU64,
    /// Messages that were stored and could not be announced.
    pub(super) unannounced: AtomicU64,
    /// Messages that were stored, and that too few replicas had in time.
    pub(super) unreplicated: AtomicU64,
    /// Redis was given the scripts, and took them.
    pub(super) has_scripts: AtomicBool,
}

impl Counts {
    /// A publish is answered. Returns whether none is in flight any more.
    pub(super) fn settle(&self, publish: &Publish) -> bool {
        self.in_flight_bytes.fetch_sub(publish.bytes, Relaxed);
        self.in_flight.fetch_sub(1, Relaxed) == 1
    }
}
