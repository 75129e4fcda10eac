//! Section `redis`: how instances share their rooms.

use crate::config::Config;
use crate::config::auth::{OptionalPath, SecretText};
use crate::config::kinds::{GIB, HOUR_MS, KIB, MIB, RedisUrl, field};
use crate::config::sign_in::A_PASSWORD_FILE;
use fanfare_core::PublishFormat;
use fanfare_core::broker::redis::ClusterPubSub;
use fanfare_shell::config::{Choice, Key, Milliseconds, Number, Text, Unit};

const NAME_BYTES_MAX: usize = 1024;

pub(super) static REDIS: &[Key<Config>] = &[
    Key {
        name: "redis.url",
        default: "",
        help: "The Redis that instances share: redis://[[USER]:PASSWORD@]HOST[:PORT][/DB], unix:///PATH, \
               redis-sentinel://[[USER]:PASSWORD@]HOST[:PORT],.../MASTER[/DB], or redis-cluster://[[USER]:PASSWORD@]HOST[:PORT],...; \
               with rediss in place of redis they speak TLS, and valkey:// is redis://. Without one this instance stands alone. A password in a flag can be seen in the list of processes: prefer the \
               environment or the file",
        environment_alias: Some("REDIS_URL"),
        kind: &RedisUrl { none: "the embedded broker", field: field!(redis.target) },
    },
    Key {
        name: "redis.username",
        default: "",
        help: "The ACL user of Redis, where the URL names none",
        environment_alias: None,
        kind: &Text { bytes_max: NAME_BYTES_MAX, field: field!(redis.username) },
    },
    Key {
        name: "redis.password_file",
        default: "",
        help: "A file with the password of Redis alone, in place of one in the URL. It is read for each connection, so that the password \
               may change",
        environment_alias: None,
        kind: &OptionalPath { right: A_PASSWORD_FILE, field: field!(redis.password_file) },
    },
    Key {
        name: "redis.sentinel_username",
        default: "",
        help: "The ACL user of the Sentinels, which have users of their own",
        environment_alias: None,
        kind: &Text { bytes_max: NAME_BYTES_MAX, field: field!(redis.sentinel_username) },
    },
    Key {
        name: "redis.sentinel_password",
        default: "",
        help: "The password of the Sentinels. In a flag it can be seen in the list of processes: prefer the environment or \
               sentinel_password_file",
        environment_alias: None,
        kind: &SecretText { right: "a password", field: field!(redis.sentinel_password) },
    },
    Key {
        name: "redis.sentinel_password_file",
        default: "",
        help: "A file with that password alone, read for each connection",
        environment_alias: None,
        kind: &OptionalPath { right: A_PASSWORD_FILE, field: field!(redis.sentinel_password_file) },
    },
    Key {
        name: "redis.prefix",
        default: "fanfare:",
        help: "The Redis channel of a room is this text and the room's name; may be empty",
        environment_alias: None,
        // Long enough for any namespace; the bound keeps the room for an envelope a constant.
        kind: &Text { bytes_max: 256, field: field!(redis.session.prefix) },
    },
    Key {
        name: "redis.cluster_partitions",
        default: "256",
        help: "Into how many parts the rooms are divided in a Cluster, each of which is in one of its slots. The same on all instances, for ever",
        environment_alias: None,
        // As many as a Cluster has slots.
        kind: &Number { unit: Unit::Count, range: 1..=16_384, field: field!(redis.cluster_partitions) },
    },
    Key {
        name: "redis.cluster_pubsub",
        default: "sharded",
        help: "How messages are published in a Cluster: sharded, by the node that has the room, which takes Redis 7; or classic, by all \
               nodes, where other programs publish as well. The same on all instances",
        environment_alias: None,
        kind: &Choice {
            choices: &[("sharded", ClusterPubSub::Sharded), ("classic", ClusterPubSub::Classic)],
            field: field!(redis.cluster_pubsub),
        },
    },
    Key {
        name: "redis.format",
        default: "fanfare",
        help: "How messages are published: fanfare, or classic for sharing rooms with the Node server",
        environment_alias: None,
        kind: &Choice {
            choices: &[("fanfare", PublishFormat::Fanfare), ("classic", PublishFormat::Classic)],
            field: field!(core.publish_format),
        },
    },
    Key {
        name: "redis.publishes_in_flight_max",
        default: "16384",
        help: "Publishes that may wait for the answer of Redis; further ones are refused with broker_busy",
        environment_alias: None,
        kind: &Number { unit: Unit::Count, range: 1..=MIB, field: field!(redis.session.publishes_in_flight_max) },
    },
    Key {
        name: "redis.publish_wait_ms",
        default: "0",
        help: "How long a publish may wait for a connection to Redis; 0 refuses it at once with broker_unavailable",
        environment_alias: None,
        // Whoever sends waits as long for an answer.
        kind: &Milliseconds { range: 0..=60_000, field: field!(redis.session.publish_wait) },
    },
    Key {
        name: "redis.buffer_bytes_max",
        default: "16777216",
        help: "Bytes of publishes that may wait to be written or confirmed; further ones are refused with broker_busy",
        environment_alias: None,
        kind: &Number { unit: Unit::Bytes, range: 8 * KIB..=GIB, field: field!(redis.session.buffer_bytes_max) },
    },
    Key {
        name: "redis.message_bytes_max",
        default: "1048576",
        help: "The largest message taken from Redis; a larger one is skipped and counted",
        environment_alias: None,
        kind: &Number { unit: Unit::Bytes, range: KIB..=64 * MIB, field: field!(redis.session.message_bytes_max) },
    },
    Key {
        name: "redis.connect_timeout_ms",
        default: "5000",
        help: "Time to connect to Redis and sign in",
        environment_alias: None,
        kind: &Milliseconds { range: 1..=HOUR_MS, field: field!(redis.session.connect_timeout) },
    },
    Key {
        name: "redis.probe_interval_ms",
        default: "5000",
        help: "Silence of Redis before it is probed with PING, and the time between two looks at whether it is a master still",
        environment_alias: None,
        kind: &Milliseconds { range: 1..=HOUR_MS, field: field!(redis.session.probe_interval) },
    },
    Key {
        name: "redis.probe_timeout_ms",
        default: "5000",
        help: "Silence after the probe before the connection to Redis is given up",
        environment_alias: None,
        kind: &Milliseconds { range: 1..=HOUR_MS, field: field!(redis.session.probe_timeout) },
    },
    Key {
        name: "redis.backoff_ms_min",
        default: "50",
        help: "The shortest pause before reconnecting to Redis; the pause is drawn between this and a ceiling that doubles with every failure",
        environment_alias: None,
        kind: &Milliseconds { range: 1..=HOUR_MS, field: field!(redis.session.backoff_min) },
    },
    Key {
        name: "redis.backoff_ms_max",
        default: "5000",
        help: "The longest pause before reconnecting to Redis",
        environment_alias: None,
        kind: &Milliseconds { range: 1..=HOUR_MS, field: field!(redis.session.backoff_max) },
    },
    Key {
        name: "redis.tls_ca_file",
        default: "",
        help: "A PEM file with the authorities by which Redis and Sentinels are known with rediss://; without it, those that this \
               machine trusts",
        environment_alias: None,
        kind: &OptionalPath { right: "a PEM file with certificates of authorities", field: field!(redis.tls.ca_file) },
    },
    Key {
        name: "redis.tls_cert_file",
        default: "",
        help: "A PEM file with the certificate that is shown to a Redis that asks for one",
        environment_alias: None,
        kind: &OptionalPath { right: "a PEM file with a certificate", field: field!(redis.tls.cert_file) },
    },
    Key {
        name: "redis.tls_key_file",
        default: "",
        help: "A PEM file with the private key of redis.tls_cert_file",
        environment_alias: None,
        kind: &OptionalPath { right: "a PEM file with a private key", field: field!(redis.tls.key_file) },
    },
    Key {
        name: "redis.tls_server_name",
        default: "",
        help: "The name that the certificates of Redis and Sentinels must be for; without it, the host that is connected to",
        environment_alias: None,
        kind: &Text { bytes_max: 253, field: field!(redis.tls.server_name) },
    },
    Key {
        name: "redis.tls_insecure_skip_verify",
        default: "off",
        help: "Whether any certificate is taken, so that whoever is on the way can read everything and be the Redis. For trying",
        environment_alias: None,
        kind: &Choice { choices: &[("off", false), ("on", true)], field: field!(redis.tls.insecure_skip_verify) },
    },
];
