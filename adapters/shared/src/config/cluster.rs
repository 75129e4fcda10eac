//! How rooms are parted in a Cluster: the keys beside its URL, and what has to fit them.

use super::{Config, Redis, RedisTarget};
use fanfare_core::PublishFormat;
use fanfare_core::broker::redis::{ClusterPubSub, Names, Topology};
use fanfare_shell::config::{Problem, Sources};

impl Redis {
    /// Where the Redis of a URL is, with what is configured beside that.
    pub fn topology(&self, target: &RedisTarget) -> Topology {
        match &target.topology {
            Topology::Cluster { nodes, .. } => Topology::Cluster {
                nodes: nodes.clone(),
                partitions: self.cluster_partitions,
                pubsub: self.cluster_pubsub,
            },
            other => other.clone(),
        }
    }

    /// What rooms are called in the Redis of `redis.url`.
    pub(super) fn names(&self) -> Option<Names<'_>> {
        let prefix = &self.session.prefix;
        self.target.as_ref().map(|_| match self.is_cluster() {
            true => Names::in_cluster(prefix, self.cluster_partitions, self.cluster_pubsub),
            false => Names::plain(prefix),
        })
    }

    fn is_cluster(&self) -> bool {
        self.target.as_ref().is_some_and(|target| matches!(target.topology, Topology::Cluster { .. }))
    }
}

/// What is for a Cluster where there is none, and a prefix that would part rooms by itself.
pub(crate) fn problems(config: &Config, sources: &Sources<Config>) -> Vec<Problem> {
    let redis = &config.redis;
    let is_cluster = redis.is_cluster();
    const NO_CLUSTER: &str = "redis.url names no Cluster, and nothing is parted elsewhere";
    const A_CLUSTER_URL: &str = "redis.url = \"redis-cluster://HOST:6379\", or nothing here";
    let wrong = [
        (
            !is_cluster && redis.cluster_partitions != Topology::PARTITIONS_DEFAULT,
            "redis.cluster_partitions",
            NO_CLUSTER,
            A_CLUSTER_URL,
        ),
        (
            !is_cluster && redis.cluster_pubsub != ClusterPubSub::default(),
            "redis.cluster_pubsub",
            NO_CLUSTER,
            A_CLUSTER_URL,
        ),
        (
            // What stands between the first braces says which slot a key is in.
            is_cluster && redis.session.prefix.contains('{'),
            "redis.prefix",
            "it holds a {, by which a Cluster would put all rooms into one slot",
            "a prefix without {, such as fanfare:",
        ),
    ];
    let problem = |(_, key, wrong, right): (bool, &str, &str, &str)| Problem {
        key: key.to_owned(),
        from: sources.of(key).clone(),
        wrong: wrong.to_owned(),
        right: right.to_owned(),
    };
    wrong.into_iter().filter(|(is_wrong, ..)| *is_wrong).map(problem).collect()
}

/// Rooms that are shared with a program that does not hear of them.
pub(crate) fn warning(config: &Config) -> Option<String> {
    let is_deaf = config.redis.is_cluster()
        && config.redis.cluster_pubsub == ClusterPubSub::Sharded
        && config.core.publish_format == PublishFormat::Classic;
    is_deaf.then(|| {
        "redis.format is classic, and in a Cluster other servers hear of nothing unless redis.cluster_pubsub is classic as well"
            .to_owned()
    })
}
