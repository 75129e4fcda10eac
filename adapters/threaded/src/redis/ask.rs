//! What is asked of Redis, from the thread that owns the core to the one that writes.

use fanfare_core::broker::redis::Canary;
use fanfare_core::broker::redis::history::{self, Script};
use fanfare_core::broker::redis::replication::Wait;
use fanfare_core::broker::{PublishId, ReadId};
use redis::cmd;
use std::time::Duration;

/// Something to ask of Redis.
#[derive(Debug)]
pub enum Ask {
    /// For a room's messages.
    Subscribe(String),
    /// For no more of them.
    Unsubscribe(String),
    /// To pass on a message, or to store it as well.
    Publish(Publish),
    /// To pass on a number, which the subscriber has to hear.
    Canary {
        /// Where.
        channel: String,
        /// Which.
        number: u64,
    },
    /// For a part of a room's history.
    Read(Read),
    /// Until replicas have what was stored.
    Wait(Wait),
    /// Nothing of Redis: it has answered a `WAIT`, and what was stored meanwhile needs another.
    WaitAgain,
    /// To know a script.
    Load(Script),
    /// For a sign of life. `again`: what it answers decides whether trouble is over.
    Probe {
        /// What is asked.
        probe: Probe,
        /// It stands behind all that was refused for a while and is asked again.
        again: bool,
    },
    /// Nothing of Redis, which has forgotten the scripts: once it has answered everything, all that it did not know.
    Repeat,
    /// Nothing of Redis: after this pause, all that it refused for a while.
    Again(Duration),
    /// Nothing of Redis: the connection ends, for this reason.
    GiveUp(String),
}

/// What may be asked for a sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Nothing but that.
    Ping,
    /// The same of the subscriber, behind a number that it has to have heard by now.
    Canary,
    /// The server's role.
    Role,
    /// Of a replica: whether it is one of a cluster.
    Cluster,
}

/// Something to be published.
#[derive(Debug)]
pub struct Publish {
    pub(super) message: Message,
    pub(super) id: Option<PublishId>,
    /// What it counts for among the bytes in flight.
    pub(super) bytes: usize,
}

/// How it is published.
#[derive(Debug)]
pub(super) enum Message {
    Plain {
        channel: String,
        payload: Vec<u8>,
    },
    /// By the script that stores it.
    Stored {
        room: String,
        command: Vec<u8>,
        /// How many replicas must have it before it is acknowledged.
        replicas_min: u16,
    },
}

/// A question to a room's history.
#[derive(Debug)]
pub struct Read {
    pub(super) command: Vec<u8>,
    pub(super) id: ReadId,
}

impl Ask {
    /// Whether a script does it, which Redis may have forgotten.
    pub(super) fn runs_script(&self) -> bool {
        matches!(self, Ask::Read(_) | Ask::Publish(Publish { message: Message::Stored { .. }, .. }))
    }

    /// How many replicas must have it before it is acknowledged.
    pub(super) fn replicas_min(&self) -> u16 {
        match self {
            Ask::Publish(Publish { message: Message::Stored { replicas_min, .. }, .. }) => *replicas_min,
            _ => 0,
        }
    }

    /// Whether it stores a message in this room.
    pub(super) fn stores_in(&self, of: &str) -> bool {
        matches!(self, Ask::Publish(Publish { message: Message::Stored { room, .. }, .. }) if room == of)
    }

    /// Appends the command, if it is one.
    pub(super) fn encode(&self, prefix: &str, out: &mut Vec<u8>) {
        match self {
            Ask::Subscribe(room) => cmd("SUBSCRIBE").arg(format!("{prefix}{room}")).write_packed_command(out),
            Ask::Unsubscribe(room) => cmd("UNSUBSCRIBE").arg(format!("{prefix}{room}")).write_packed_command(out),
            Ask::Publish(Publish { message: Message::Plain { channel, payload }, .. }) => {
                cmd("PUBLISH").arg(channel).arg(payload).write_packed_command(out);
            }
            Ask::Publish(Publish { message: Message::Stored { command, .. }, .. })
            | Ask::Read(Read { command, .. }) => {
                out.extend_from_slice(command);
            }
            Ask::Canary { channel, number } => {
                cmd("PUBLISH").arg(channel).arg(Canary::payload(*number)).write_packed_command(out);
            }
            Ask::Wait(Wait { replicas, timeout }) => {
                cmd("WAIT").arg(*replicas).arg(timeout.as_millis() as u64).write_packed_command(out);
            }
            Ask::Load(script) => history::load(out, *script),
            Ask::Probe { probe: Probe::Ping | Probe::Canary, .. } => cmd("PING").write_packed_command(out),
            Ask::Probe { probe: Probe::Role, .. } => cmd("ROLE").write_packed_command(out),
            Ask::Probe { probe: Probe::Cluster, .. } => cmd("INFO").arg("cluster").write_packed_command(out),
            Ask::Repeat | Ask::WaitAgain | Ask::Again(_) | Ask::GiveUp(_) => {}
        }
    }
}
