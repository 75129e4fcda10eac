//! Who a server is among others: whether what is published there reaches everybody.

/// What `ROLE` answers, by its first word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// A master, or whatever else passes on what is published: KeyDB's `active-replica`, a proxy.
    Master,
    /// A replica. What is published there reaches its own subscribers only, unless it is one of a cluster.
    Replica,
    /// It watches over others, and passes on nothing.
    Sentinel,
}

impl Standing {
    /// Why a replica is of no use, for people.
    pub(super) const REPLICA: &str = "it is a replica, and what is published there reaches no other server";
    /// Why a Sentinel is of no use, for people.
    pub(super) const SENTINEL: &str = "it is a Sentinel, which redis-sentinel:// asks for the Redis that it watches";

    /// Of the server whose answer to `ROLE` begins with this word.
    pub(super) fn named(word: &[u8]) -> Standing {
        match word {
            b"slave" | b"replica" => Standing::Replica,
            b"sentinel" => Standing::Sentinel,
            _ => Standing::Master,
        }
    }
}

/// Whether a server answers `INFO cluster` with this text that is one of a cluster, where all nodes pass on what is published
/// at any of them, replicas as well.
pub(super) fn is_of_a_cluster(info: &[u8]) -> bool {
    info.split(|byte| *byte == b'\n').any(|line| line.trim_ascii() == b"cluster_enabled:1")
}
