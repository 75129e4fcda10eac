//! What a seed draws so that Redis is a Cluster: how many shards, how rooms are parted, how nodes find each other missing.

use crate::options::{Fault, Options, Span, pick, rng};
use crate::sentinel::Target;
use fanfare_core::broker::redis::{ClusterPubSub, Topology};

/// Of so many seeds those with these remainders draw a Cluster. The others do what they would have done without.
const SLOTTED_OF: u64 = 16;
const SLOTTED: [u64; 2] = [6, 14];

/// What a seed has of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slotted {
    /// Masters, each with a replica: the first nodes are masters in the beginning, and those behind them their replicas.
    pub shards: usize,
    /// Into how many partitions rooms are parted.
    pub partitions: u16,
    /// How they are published to.
    pub pubsub: ClusterPubSub,
    /// Microseconds until nodes take one of them for lost.
    pub node_timeout: u64,
    /// Until a replica has been elected then.
    pub elects: Span,
    /// Until a node has learned what has changed.
    pub learns: Span,
    /// Between two nodes on the way of what they pass on.
    pub passes: Span,
    /// Until a node that has come back takes the Cluster to be well.
    pub rejoins: Span,
    /// Between two keys of a slot that moves.
    pub moves: Span,
}

/// Whether a seed draws a Cluster.
pub fn is_slotted(seed: u64) -> bool {
    SLOTTED.contains(&(seed % SLOTTED_OF))
}

impl Slotted {
    /// Draws what this seed has of it, and changes what else the seed has drawn where that is needed.
    pub fn draw(options: &mut Options) -> Option<Slotted> {
        if !is_slotted(options.seed) {
            return None;
        }
        let r = &mut rng(options.seed, "cluster");
        let slotted = Slotted {
            shards: pick(r, &[2, 3, 3]),
            partitions: pick(r, &[1, 3, 16, 256]),
            pubsub: if r.u32(0..4) == 0 { ClusterPubSub::Classic } else { ClusterPubSub::Sharded },
            node_timeout: r.u64(300_000..=3_000_000),
            elects: Span { min: 100_000, max: 1_000_000 },
            learns: Span { min: 100, max: pick(r, &[1_000, 50_000, 500_000]) },
            passes: Span { min: 50, max: pick(r, &[500, 20_000]) },
            rejoins: Span { min: 100_000, max: 2_000_000 },
            moves: Span { min: 1_000, max: pick(r, &[20_000, 300_000, 2_000_000]) },
        };
        let mut nodes: Vec<usize> = (0..slotted.nodes()).collect();
        r.shuffle(&mut nodes);
        nodes.truncate(r.usize(1..=3));
        let nodes = nodes.into_iter().map(|node| Target::Server(node).address()).collect();
        let Slotted { partitions, pubsub, .. } = slotted;
        options.session.topology = Topology::Cluster { nodes, partitions, pubsub };
        // Who can be made a replica by hand, or replaced by one without the others, is in no Cluster.
        options.faults.retain(|(fault, _)| !matches!(fault, Fault::RedisDemoted | Fault::RedisFailover));
        let (pause, count) = (options.clients.pause.max / 2, options.clients.count as u64);
        for fault in Fault::ALL.into_iter().filter(|fault| fault.is_of_clusters()) {
            let (on, mean) = (r.u32(0..5) < 2, pick(r, &[100, 500, 2_000]) * pause / count);
            if on && !options.is_quiet() {
                options.faults.push((fault, mean));
            }
        }
        Some(slotted)
    }

    /// How many nodes there are.
    pub fn nodes(&self) -> usize {
        2 * self.shards
    }
}
