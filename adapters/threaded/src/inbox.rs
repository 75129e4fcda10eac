//! What clients, the listener and the system have for the thread that owns the core: two bounded queues, so that a thread that fills one
//! has to wait. Each link to Redis has a queue of its own.

use crate::client::Client;
use crossbeam_channel::{Receiver, Select, Sender, TryIter, bounded};
use fanfare_core::ConnId;
use std::net::SocketAddr;
use std::time::Duration;

/// From clients. As many events as may wait before their threads do: each holds one read, so it is half a megabyte at most.
const FROM_CLIENTS_MAX: usize = 64;

/// Of clients, of the listener, of the system.
#[derive(Debug)]
pub enum Inbound {
    /// A new connection.
    Accepted(Client, SocketAddr),
    /// A connection was read.
    Bytes(ConnId, Vec<u8>),
    /// The peer sends no more, or the socket failed.
    Ended(ConnId),
    /// A socket that had taken less than it was given takes more.
    Writable(ConnId),
    /// The gate's figures have changed, which a turn shows.
    Figures,
    /// Something has been found out about credentials, which a turn picks up.
    Credentials,
    /// A backend has asked for something, which a turn picks up.
    Ordered,
    /// Something has been decided about messages, which a turn picks up.
    Decided,
    /// The process was asked to end, by this signal.
    Signal(&'static str),
}

/// The receiving end.
#[derive(Debug)]
pub struct Inbox {
    clients: Receiver<Inbound>,
    heavy: Receiver<Inbound>,
}

/// The sending ends.
#[derive(Clone, Debug)]
pub struct Senders {
    /// For [`Inbound`].
    pub clients: Sender<Inbound>,
    /// For what clients say that make much work: it waits for the others.
    pub heavy: Sender<Inbound>,
}

impl Inbox {
    /// An empty one.
    pub fn new() -> (Inbox, Senders) {
        let (to_clients, clients) = bounded(FROM_CLIENTS_MAX);
        let (to_heavy, heavy) = bounded(FROM_CLIENTS_MAX);
        (Inbox { clients, heavy }, Senders { clients: to_clients, heavy: to_heavy })
    }

    /// Sleeps until there is something, here or in one of the `others`, or the time is up; without a time, for as long as it takes. What
    /// makes much work counts only where `heavy` says so.
    pub fn wait<'a, T: 'a>(
        &'a self,
        timeout: Option<Duration>,
        heavy: bool,
        others: impl Iterator<Item = &'a Receiver<T>>,
    ) {
        let mut select = Select::new();
        select.recv(&self.clients);
        for other in others {
            select.recv(other);
        }
        if heavy {
            select.recv(&self.heavy);
        }
        match timeout {
            // Which of them it is does not matter, nor whether the time was up: a turn takes all.
            Some(timeout) => drop(select.ready_timeout(timeout)),
            None => drop(select.ready()),
        }
    }

    /// What clients have said, oldest first, as long as there is something.
    pub fn clients(&self) -> TryIter<'_, Inbound> {
        self.clients.try_iter()
    }

    /// What clients that make much work have said, oldest first, as long as there is something.
    pub fn heavy(&self) -> TryIter<'_, Inbound> {
        self.heavy.try_iter()
    }
}
