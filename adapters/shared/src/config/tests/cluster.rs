//! How rooms are parted in a Cluster, and what they are called there.

use super::*;
use crate::settings::{Drawn, session_config};
use fanfare_core::broker::redis::{ClusterPubSub, Topology};

const CLUSTER_URL: [&str; 2] = ["--redis-url", "redis-cluster://a,b:7000"];

#[test]
fn the_keys_reach_the_session() {
    let topology = |arguments: &[&str]| {
        let config = loaded(&[&CLUSTER_URL[..], arguments].concat(), &[]);
        let target = config.redis.target.as_ref().unwrap();
        let topology = session_config(&config, target, Drawn { node: 1, seed: 2, jitter: 3 }).topology;
        let Topology::Cluster { nodes, partitions, pubsub } = topology else { panic!("a Cluster") };
        assert_eq!(nodes.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a:6379", "b:7000"]);
        (partitions, pubsub)
    };
    assert_eq!(topology(&[]), (256, ClusterPubSub::Sharded));
    let others = ["--redis-cluster-partitions", "16384", "--redis-cluster-pubsub", "classic"];
    assert_eq!(topology(&others), (16_384, ClusterPubSub::Classic));
}

#[test]
fn what_does_not_fit_is_told() {
    for (arguments, key, why) in [
        (vec!["--redis-cluster-partitions", "17"], "redis.cluster_partitions", "names no Cluster"),
        (
            vec!["--redis-url", "redis://h", "--redis-cluster-pubsub", "classic"],
            "redis.cluster_pubsub",
            "names no Cluster",
        ),
        ([&CLUSTER_URL[..], &["--redis-prefix", "a{b:"]].concat(), "redis.prefix", "into one slot"),
        ([&CLUSTER_URL[..], &["--redis-cluster-partitions", "0"]].concat(), "redis.cluster_partitions", "0 is below"),
        (
            [&CLUSTER_URL[..], &["--redis-cluster-partitions", "16385"]].concat(),
            "redis.cluster_partitions",
            "16385 is above",
        ),
    ] {
        assert_says(&error(&arguments, &[]), &[&format!("\n{key}\n"), why]);
    }
    assert_eq!(loaded(&["--redis-url", "redis://h", "--redis-prefix", "a{b:"], &[]).redis.session.prefix, "a{b:");
}

#[test]
fn the_defaults_read_back_where_there_is_no_cluster() {
    let printed = try_load(&["--redis-url", "redis://h"], &[]).unwrap().to_toml();
    assert_says(&printed, &["cluster_partitions = 256 # default\n", "cluster_pubsub = \"sharded\" # default\n"]);
    assert_eq!(loaded(&["--config", TomlFile::new(&printed).path()], &[]).redis.cluster_partitions, 256);
}

#[test]
fn servers_that_would_hear_of_nothing_are_warned_of() {
    let warnings = |pubsub| {
        let arguments = [&CLUSTER_URL[..], &["--redis-format", "classic", "--redis-cluster-pubsub", pubsub]].concat();
        try_load(&arguments, &[]).unwrap().warnings
    };
    assert!(warnings("sharded").iter().any(|warning| warning.contains("redis.cluster_pubsub")));
    assert_eq!(warnings("classic"), [""; 0]);
}

#[test]
fn what_a_room_is_called_can_be_asked() {
    let file = TomlFile::new("[[rooms]]\nmatch = 'chat:*'\nhistory_messages = 50");
    let ask = |arguments: &[&str], room: &str| {
        let arguments = [&["check-config", "--config", file.path(), "--room", room][..], arguments].concat();
        try_load(&arguments, &[]).unwrap().answers().unwrap()
    };
    let end = |text: String| text[text.rfind("presence = ").unwrap()..].split_once('\n').unwrap().1.to_owned();
    assert_eq!(end(ask(&["--redis-url", "redis://h"], "lobby")), "channel = \"fanfare:lobby\"\n");
    assert_eq!(end(ask(&CLUSTER_URL, "lobby")), "partition = 54\nslot = 3255\nchannel = \"fanfare:{54}lobby\"\n");
    let chat = ask(&[&CLUSTER_URL[..], &["--redis-cluster-pubsub", "classic"]].concat(), "chat:1");
    let table: toml::Table = chat.parse().unwrap();
    let room = &table["room"].as_array().unwrap()[0];
    let partition = room["partition"].as_integer().unwrap();
    assert_eq!(room["channel"].as_str(), Some("fanfare:chat:1"));
    let keys: Vec<_> = room["keys"].as_array().unwrap().iter().map(|key| key.as_str().unwrap()).collect();
    let wanted = ["meta", "log", "keys0", "keys1"].map(|kind| format!("fanfare:{{{partition}}}\u{1}{kind}:chat:1"));
    assert_eq!(keys, wanted);
}
