//! Where Redis is: one server, the master that Sentinels name, or a Cluster.

use std::fmt;

use super::{Address, ClusterPubSub};

/// Where Redis is. Later versions may know of more.
///
/// `Display` names it as a log line does, without any password.
///
/// ```
/// # use fanfare_core::broker::redis::{Address, Topology};
/// let tcp = |host: &str, port| Address::Tcp { host: host.to_owned(), port };
/// assert_eq!(Topology::default().to_string(), "127.0.0.1:6379");
/// let sentinels = vec![tcp("a", 26379), tcp("b", 26379)];
/// let watched = Topology::Sentinel { sentinels, master: "mymaster".to_owned() };
/// assert_eq!(watched.to_string(), "the master mymaster of the Sentinels a:26379, b:26379");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Topology {
    /// One server, or whatever its name leads to.
    Single(Address),
    /// The master of a group that Sentinels watch over.
    Sentinel {
        /// At least one. There is a connection to each of them.
        sentinels: Vec<Address>,
        /// What the Sentinels call the group.
        master: String,
    },
    /// The masters of a Cluster.
    Cluster {
        /// At least one of its nodes, of which the others are learned.
        nodes: Vec<Address>,
        /// Into how many partitions rooms are parted, from 1 to 16,384: the same on all instances.
        partitions: u16,
        /// How messages are published: the same on all instances.
        pubsub: ClusterPubSub,
    },
}

impl Topology {
    /// The port that Sentinels listen on unless told otherwise.
    pub const SENTINEL_PORT_DEFAULT: u16 = 26379;
    /// Into how many partitions the rooms of a Cluster are parted unless told otherwise: enough for a hundred masters.
    pub const PARTITIONS_DEFAULT: u16 = 256;
}

impl Default for Topology {
    /// A Redis on this machine that was told nothing.
    fn default() -> Topology {
        Topology::Single(Address::default())
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Topology::Single(address) => address.fmt(f),
            Topology::Sentinel { sentinels, master } => {
                write!(f, "the master {master} of the Sentinels ")?;
                list(f, sentinels)
            }
            Topology::Cluster { nodes, .. } => {
                f.write_str("the Cluster of ")?;
                list(f, nodes)
            }
        }
    }
}

fn list(f: &mut fmt::Formatter<'_>, addresses: &[Address]) -> fmt::Result {
    addresses
        .iter()
        .enumerate()
        .try_for_each(|(index, address)| write!(f, "{}{address}", if index == 0 { "" } else { ", " }))
}
