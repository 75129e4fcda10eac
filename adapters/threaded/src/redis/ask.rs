//! What is asked of Redis, from the thread that owns the core to the one that writes.

use fanfare_core::broker::PublishId;
use redis::cmd;
use std::time::Duration;

/// Something to ask of Redis.
#[derive(Debug)]
pub enum Ask {
    /// For a room's messages.
    Subscribe(String),
    /// For no more of them.
    Unsubscribe(String),
    /// To pass on a message.
    Publish(Publish),
    /// For a sign of life. `again`: what it answers decides whether trouble is over.
    Probe {
        /// What is asked.
        probe: Probe,
        /// It stands behind all that was refused for a while and is asked again.
        again: bool,
    },
    /// Nothing of Redis: after this pause, all that it refused for a while.
    Again(Duration),
    /// Nothing of Redis, which is a replica by now: the connection ends.
    GiveUp,
}

/// What may be asked for a sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Nothing but that.
    Ping,
    /// The server's role.
    Role,
    /// Of a replica: whether it is one of a cluster.
    Cluster,
}

/// Something to be published.
#[derive(Debug)]
pub struct Publish {
    pub(super) channel: String,
    pub(super) payload: Vec<u8>,
    pub(super) id: Option<PublishId>,
    /// What it counts for among the bytes in flight.
    pub(super) bytes: usize,
}

impl Ask {
    /// Appends the command, if it is one.
    pub(super) fn encode(&self, prefix: &str, out: &mut Vec<u8>) {
        match self {
            Ask::Subscribe(room) => cmd("SUBSCRIBE").arg(format!("{prefix}{room}")).write_packed_command(out),
            Ask::Unsubscribe(room) => cmd("UNSUBSCRIBE").arg(format!("{prefix}{room}")).write_packed_command(out),
            Ask::Publish(Publish { channel, payload, .. }) => {
                cmd("PUBLISH").arg(channel).arg(payload).write_packed_command(out);
            }
            Ask::Probe { probe: Probe::Ping, .. } => cmd("PING").write_packed_command(out),
            Ask::Probe { probe: Probe::Role, .. } => cmd("ROLE").write_packed_command(out),
            Ask::Probe { probe: Probe::Cluster, .. } => cmd("INFO").arg("cluster").write_packed_command(out),
            Ask::Again(_) | Ask::GiveUp => {}
        }
    }
}
