//! Every configuration key, once: name, default, bounds, meaning, and the field it fills. Flags, environment
//! variables, the file, `--help` and `check-config` all read this table.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use fanfare_core::broker::redis::RedisConfig;
use fanfare_core::{Dialect, PublishFormat, Subprotocols};

use fanfare_shell::config::{Address, Choice, Given, Key, List, Milliseconds, Number, OptionalAddress, Text, Unit};
use fanfare_shell::logging::{Log, LogFormat, LogLevel};

use super::kinds::{Field, OriginList, RedisUrl};
use super::{Compression, Config, Redis};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
/// Times beyond an hour are mistakes of unit here: each guards against somebody who has gone away.
const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

/// The two ways to one field of [`Config`].
macro_rules! field {
    ($($path:ident).+) => {
        Field { get: |config| &config.$($path).+, get_mut: |config| &mut config.$($path).+ }
    };
}

/// The sections in the order of [`KEYS`], with their headings in `--help`.
pub(crate) const SECTIONS: &[(&str, &str)] = &[
    ("", "Addresses, workers, dialects and origins"),
    ("log", "Logs (written to stderr)"),
    ("redis", "Redis (how instances share their rooms)"),
    ("limits", "Limits (what clients may use)"),
    ("history", "History (of the rooms that have one by a rule, which stands in the file)"),
    ("compression", "Compression (for clients that offer permessage-deflate)"),
    ("proxy", "Proxies in front (whose word on a client's address is taken)"),
    ("timeouts", "Times"),
];

/// Every key, section by section in the order of [`SECTIONS`].
pub(crate) static KEYS: &[Key<Config>] = &[
    Key {
        name: "listen",
        default: "127.0.0.1:8080",
        help: "Where clients connect. The default serves this machine only; 0.0.0.0:8080 serves every network. \
               Port 0 takes a free one",
        environment_alias: None,
        kind: &Address { field: field!(listen) },
    },
    Key {
        name: "ops_listen",
        default: "",
        help: "Where /metrics, /healthz and /readyz are served for operators, without any authentication: keep it private",
        environment_alias: None,
        kind: &OptionalAddress { field: field!(ops_listen) },
    },
    Key {
        name: "ops_hosts",
        default: "",
        help: "The names by which the operations port may be asked for, beside localhost and IP addresses; others get 421, for \
               a web page can have a name of its own lead to this machine",
        environment_alias: None,
        kind: &List {
            value_name: "HOSTS",
            right: "host names such as fanfare.internal, without ports, separated by commas (in the file an array of texts), or \
                    an empty text for none",
            field: field!(ops_hosts),
        },
    },
    Key {
        name: "workers",
        default: "1",
        help: "Event loops, each a thread that keeps one processor busy. They share the port, the rooms and the figures",
        environment_alias: None,
        kind: &Number { unit: Unit::Count, range: 1..=64, field: field!(workers) },
    },
    Key {
        name: "default_dialect",
        default: "fanfare",
        help: "What clients speak that connect at / or /ws; each dialect also has a path of its own (/fanfare, /classic, /broadcast)",
        environment_alias: None,
        kind: &Choice {
            choices: &[("fanfare", Dialect::Fanfare), ("classic", Dialect::Classic), ("broadcast", Dialect::Broadcast)],
            field: field!(core.default_dialect),
        },
    },
    Key {
        name: "subprotocols",
        default: "own",
        help: "Which WebSocket subprotocols are selected in the dialect fanfare: own for fanfare.v1 alone, first for the first \
               that a client offers as well, for clients that fail without one. The other dialects select the first",
        environment_alias: None,
        kind: &Choice {
            choices: &[("own", Subprotocols::Own), ("first", Subprotocols::First)],
            field: field!(core.subprotocols),
        },
    },
    Key {
        name: "echo",
        default: "off",
        help: "Whether /echo sends every message back, as conformance suites want it",
        environment_alias: None,
        kind: &Choice { choices: &[("off", false), ("on", true)], field: field!(core.echo) },
    },
    Key {
        name: "origins",
        default: "",
        help: "The web pages whose scripts may connect, by the Origin that browsers send; others get 403. Not set: \
               pages of the same host and port. *: any. Programs that send no Origin are not kept out",
        environment_alias: None,
        kind: &OriginList { field: field!(core.admission.origins) },
    },
    Key {
        name: "log.format",
        default: "text",
        help: "text for people, json for machines: one flat object per line",
        environment_alias: None,
        kind: &Choice { choices: &[("text", LogFormat::Text), ("json", LogFormat::Json)], field: field!(log.format) },
    },
    Key {
        name: "log.level",
        default: "info",
        help: "The least severe level to log: error, warn, info or debug",
        environment_alias: None,
        kind: &Choice {
            choices: &[
                ("error", LogLevel::Error),
                ("warn", LogLevel::Warn),
                ("info", LogLevel::Info),
                ("debug", LogLevel::Debug),
            ],
            field: field!(log.level),
        },
    },
    Key {
        name: "redis.url",
        default: "",
        help: "The Redis that instances share: redis://[[USER]:PASSWORD@]HOST[:PORT][/DB] or unix:///PATH; valkey:// is redis://. Without one \
               this instance stands alone. A password in a flag can be seen in the list of processes: prefer the \
               environment or the file",
        environment_alias: Some("REDIS_URL"),
        kind: &RedisUrl { field: field!(redis.target) },
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
        name: "limits.connections_max",
        default: "0",
        help: "Open WebSockets; further ones get 503. 0: as many as the limit of file descriptors allows, less the \
               reserve",
        environment_alias: None,
        kind: &Number { unit: Unit::Count, range: 0..=10_000_000, field: field!(core.admission.connections_max) },
    },
    Key {
        name: "limits.descriptors_reserve",
        default: "64",
        help: "File descriptors that clients never take: for Redis, logs and the operations port",
        environment_alias: None,
        // Standard streams, poll, waker, signals, two listeners, two links to Redis and its name's look-up make a
        // dozen; one more is needed to accept a connection in order to refuse it.
        kind: &Number { unit: Unit::Count, range: 16..=65_536, field: field!(descriptors_reserve) },
    },
    Key {
        name: "limits.message_bytes_max",
        default: "65536",
        help: "The largest message a client may send; a larger one closes its connection with 1009",
        environment_alias: None,
        kind: &Number { unit: Unit::Bytes, range: KIB..=16 * MIB, field: field!(core.limits.message_bytes_max) },
    },
    Key {
        name: "limits.frames_per_message_max",
        default: "1024",
        help: "Frames that a client may cut one message into; one more closes its connection with 1008",
        environment_alias: None,
        kind: &Number { unit: Unit::Count, range: 1..=16 * MIB, field: field!(core.limits.frames_per_message_max) },
    },
    Key {
        name: "limits.rooms_per_connection_max",
        default: "128",
        help: "Rooms that one connection may be in",
        environment_alias: None,
        kind: &Number { unit: Unit::Count, range: 1..=32_767, field: field!(core.limits.rooms_per_connection_max) },
    },
    Key {
        name: "limits.room_name_bytes_max",
        default: "128",
        help: "The longest room name, in bytes of UTF-8",
        environment_alias: None,
        kind: &Number { unit: Unit::Bytes, range: 1..=KIB, field: field!(core.limits.room_name_bytes_max) },
    },
    Key {
        name: "limits.request_head_bytes_max",
        default: "8192",
        help: "The largest HTTP request head (request line and header fields, cookies included); a larger one gets 431",
        environment_alias: None,
        kind: &Number { unit: Unit::Bytes, range: KIB..=64 * KIB, field: field!(core.limits.request_head_bytes_max) },
    },
    Key {
        name: "limits.request_headers_max",
        default: "100",
        help: "Header fields of an HTTP request; more get 431. Browsers send about 20, and every proxy adds some",
        environment_alias: None,
        kind: &Number { unit: Unit::Count, range: 16..=4_096, field: field!(core.limits.request_headers_max) },
    },
    Key {
        name: "limits.outbox_bytes_max",
        default: "1048576",
        help: "Bytes that one connection may leave unread before it is closed with 4008 as too slow",
        environment_alias: None,
        kind: &Number { unit: Unit::Bytes, range: KIB..=GIB, field: field!(core.limits.outbox_bytes_max) },
    },
    Key {
        name: "limits.outbox_total_bytes_max",
        default: "268435456",
        help: "Memory for what all connections together have not read, a frame for many counted once; over it the slowest are closed with 4008",
        environment_alias: None,
        kind: &Number { unit: Unit::Bytes, range: KIB..=TIB, field: field!(core.limits.outbox_total_bytes_max) },
    },
    Key {
        name: "limits.errors_max",
        default: "100",
        help: "Malformed commands of one connection before it is closed with 4509; every good one forgives one, and so does time",
        environment_alias: None,
        // The core counts in 16 bits, and has to be able to count one beyond.
        kind: &Number { unit: Unit::Count, range: 1..=65_534, field: field!(core.limits.errors_max) },
    },
    Key {
        name: "limits.errors_per_minute",
        default: "60",
        help: "Malformed commands of one connection that a minute forgives. 0: time forgives none",
        environment_alias: None,
        kind: &Number { unit: Unit::Count, range: 0..=MIB, field: field!(core.limits.errors_per_minute) },
    },
    Key {
        name: "limits.messages_per_second",
        default: "1000",
        help: "Messages of one connection, on the average, each as many times as it has frames; further ones are refused \
               with too_fast, or close the connection with 4029 where the dialect has no replies. 0: no limit",
        environment_alias: None,
        kind: &Number { unit: Unit::Count, range: 0..=MIB, field: field!(core.limits.messages.per_second) },
    },
    Key {
        name: "limits.messages_burst",
        default: "2000",
        help: "Messages of one connection at once, after a pause",
        environment_alias: None,
        kind: &Number { unit: Unit::Count, range: 1..=GIB, field: field!(core.limits.messages.burst) },
    },
    Key {
        name: "limits.bytes_per_second",
        default: "1048576",
        help: "Bytes read from one connection, on the average, and what more they make of work: what messages inflate to, what is \
               said in reply at once; more close it with 4029. 0: no limit",
        environment_alias: None,
        kind: &Number { unit: Unit::Bytes, range: 0..=TIB, field: field!(core.limits.bytes.per_second) },
    },
    Key {
        name: "limits.bytes_burst",
        default: "2097152",
        help: "Bytes of one connection at once, after a pause",
        environment_alias: None,
        // Less would be in the way of a client's ordinary messages.
        kind: &Number { unit: Unit::Bytes, range: 64 * KIB..=TIB, field: field!(core.limits.bytes.burst) },
    },
    Key {
        name: "limits.pings_per_second",
        default: "10",
        help: "WebSocket pings and pongs of one connection, on the average; more close it with 4029. 0: no limit",
        environment_alias: None,
        kind: &Number { unit: Unit::Count, range: 0..=MIB, field: field!(core.limits.pings.per_second) },
    },
    Key {
        name: "limits.pings_burst",
        default: "100",
        help: "WebSocket pings and pongs of one connection at once, after a pause",
        environment_alias: None,
        kind: &Number { unit: Unit::Count, range: 1..=GIB, field: field!(core.limits.pings.burst) },
    },
    Key {
        name: "limits.deliveries_per_second",
        default: "50000",
        help: "Deliveries that the messages of one connection make to members on this instance, on the average: one for each member \
               and started KiB; further messages are refused with too_fast, or close the connection with 4029 where the dialect has \
               no replies. 0: no limit",
        environment_alias: None,
        kind: &Number { unit: Unit::Count, range: 0..=GIB, field: field!(core.limits.deliveries.per_second) },
    },
    Key {
        name: "limits.deliveries_burst",
        default: "100000",
        help: "Deliveries of one connection at once, after a pause; one message may always be sent, however many members there are",
        environment_alias: None,
        kind: &Number { unit: Unit::Count, range: 1..=GIB, field: field!(core.limits.deliveries.burst) },
    },
    Key {
        name: "limits.unfinished_total_bytes_max",
        default: "67108864",
        help: "Memory for messages of all connections that have begun and are not whole; over it those that began first are closed \
               with 4008",
        environment_alias: None,
        kind: &Number {
            unit: Unit::Bytes,
            range: 64 * KIB..=TIB,
            field: field!(core.limits.unfinished_total_bytes_max),
        },
    },
    Key {
        name: "limits.pending_upgrades_max",
        default: "16384",
        help: "Connections that are not WebSockets: their request is coming in, or they have been answered and do not hang up. \
               At the limit, or when they take the last places, an answered one is closed, or else the oldest, with 503",
        environment_alias: None,
        kind: &Number { unit: Unit::Count, range: 1..=10_000_000, field: field!(core.admission.pending_upgrades_max) },
    },
    Key {
        name: "limits.connections_per_address_max",
        default: "0",
        help: "Open connections from one address, or one IPv6 network of 64 bits; further ones get 429. 0: no limit",
        environment_alias: None,
        kind: &Number {
            unit: Unit::Count,
            range: 0..=10_000_000,
            field: field!(core.admission.connections_per_address_max),
        },
    },
    Key {
        name: "limits.connects_per_address_per_second",
        default: "0",
        help: "New connections from one address, on the average; further ones get 429. 0: no limit",
        environment_alias: None,
        kind: &Number {
            unit: Unit::Count,
            range: 0..=MIB,
            field: field!(core.admission.connects_per_address.per_second),
        },
    },
    Key {
        name: "limits.connects_per_address_burst",
        default: "100",
        help: "New connections from one address at once, after a pause",
        environment_alias: None,
        kind: &Number { unit: Unit::Count, range: 1..=MIB, field: field!(core.admission.connects_per_address.burst) },
    },
    Key {
        name: "history.memory_bytes_max",
        default: "67108864",
        help: "Memory of an instance for messages of rooms with history, all rooms together",
        environment_alias: None,
        kind: &Number { unit: Unit::Bytes, range: 64 * KIB..=TIB, field: field!(core.history.memory_bytes_max) },
    },
    Key {
        name: "history.reads_in_flight_max",
        default: "64",
        help: "Reads of histories that may wait for the broker's answer; further ones wait their turn",
        environment_alias: None,
        kind: &Number { unit: Unit::Count, range: 1..=65_536, field: field!(core.history.reads_in_flight_max) },
    },
    Key {
        name: "history.replicas_timeout_ms",
        default: "1000",
        help: "How long a message waits for the replicas of history_replicas_min before its sender is told that it is not confirmed",
        environment_alias: None,
        kind: &Milliseconds { range: 1..=60_000, field: field!(redis.session.replicas_timeout) },
    },
    Key {
        name: "history.key_ttl_ms",
        default: "600000",
        help: "How long the key that a client gives to a message is kept, so that the same message sent again is stored once",
        environment_alias: None,
        // Less than a second is a mistake of unit. A client that was away for longer than a day does not send again.
        kind: &Milliseconds { range: 1_000..=DAY_MS, field: field!(core.history.key_age_max) },
    },
    Key {
        name: "compression.enabled",
        default: "on",
        help: "Whether permessage-deflate is agreed upon with clients that offer it. A message to a room is compressed once for all of them",
        environment_alias: None,
        kind: &Choice { choices: &[("off", false), ("on", true)], field: field!(compression.enabled) },
    },
    Key {
        name: "compression.threshold_bytes",
        default: "256",
        help: "Shorter messages are sent as they are",
        environment_alias: None,
        kind: &Number { unit: Unit::Bytes, range: 0..=16 * MIB, field: field!(compression.threshold_bytes) },
    },
    Key {
        name: "compression.level",
        default: "1",
        help: "From 1 (fast) to 9 (small)",
        environment_alias: None,
        kind: &Number { unit: Unit::Count, range: 1..=9, field: field!(compression.level) },
    },
    Key {
        name: "proxy.trusted",
        default: "",
        help: "The proxies and load balancers whose word on a client's address is taken; they are not limited themselves",
        environment_alias: None,
        kind: &List {
            value_name: "NETWORKS",
            right: "IP addresses and networks such as 10.0.0.0/8, separated by commas (in the file an array of texts), or an \
                    empty text for none",
            field: field!(core.admission.proxies.trusted),
        },
    },
    Key {
        name: "proxy.protocol",
        default: "off",
        help: "Whether connections of trusted proxies may begin with a PROXY protocol header, version 1 or 2",
        environment_alias: None,
        kind: &Choice { choices: &[("off", false), ("on", true)], field: field!(core.admission.proxies.protocol) },
    },
    Key {
        name: "proxy.forwarded_for",
        default: "on",
        help: "Whether X-Forwarded-For of trusted proxies is read: its last address that is not trusted is the client's. \
               X-Forwarded-Host is read with it, where origins is not set",
        environment_alias: None,
        kind: &Choice { choices: &[("off", false), ("on", true)], field: field!(core.admission.proxies.forwarded_for) },
    },
    Key {
        name: "timeouts.handshake_ms",
        default: "10000",
        help: "Time for a client to finish its HTTP request head",
        environment_alias: None,
        kind: &Milliseconds { range: 1..=HOUR_MS, field: field!(core.timeouts.handshake) },
    },
    Key {
        name: "timeouts.ping_interval_ms",
        default: "25000",
        help: "Silence of a client before it is pinged",
        environment_alias: None,
        kind: &Milliseconds { range: 1..=HOUR_MS, field: field!(core.timeouts.ping_interval) },
    },
    Key {
        name: "timeouts.pong_timeout_ms",
        default: "10000",
        help: "Silence of a client after the ping before it is closed with 4000",
        environment_alias: None,
        kind: &Milliseconds { range: 1..=HOUR_MS, field: field!(core.timeouts.pong_timeout) },
    },
    Key {
        name: "timeouts.close_ms",
        default: "5000",
        help: "Time for a client to answer a close frame before it is cut off",
        environment_alias: None,
        kind: &Milliseconds { range: 1..=HOUR_MS, field: field!(core.timeouts.close) },
    },
    Key {
        name: "timeouts.message_ms",
        default: "30000",
        help: "Time for a client to finish a message that it has begun before it is closed with 4008",
        environment_alias: None,
        kind: &Milliseconds { range: 1..=HOUR_MS, field: field!(core.timeouts.message) },
    },
    Key {
        name: "timeouts.room_linger_ms",
        default: "2000",
        help: "How long the subscription of an empty room is kept, so that a page reload makes no churn; 0: not at all",
        environment_alias: None,
        kind: &Milliseconds { range: 0..=HOUR_MS, field: field!(core.timeouts.room_linger) },
    },
    Key {
        name: "timeouts.shutdown_ms",
        default: "5000",
        help: "Time for clients to take their last bytes when the server stops; 0: none",
        environment_alias: None,
        kind: &Milliseconds { range: 0..=HOUR_MS, field: field!(shutdown_timeout) },
    },
];

impl Default for Config {
    /// The documented defaults.
    fn default() -> Config {
        let mut config = blank();
        for key in KEYS {
            let given = Given::Word(key.default.to_owned());
            key.kind.read(&given, &mut config).unwrap_or_else(|why| panic!("the default of {}: {why}", key.name));
        }
        config
    }
}

/// A value of the right type for the table to fill.
fn blank() -> Config {
    Config {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        ops_listen: None,
        ops_hosts: Vec::new(),
        workers: 0,
        descriptors_reserve: 0,
        shutdown_timeout: Duration::ZERO,
        core: fanfare_core::Config::default(),
        log: Log { format: LogFormat::Text, level: LogLevel::Info },
        redis: Redis { target: None, session: RedisConfig::default() },
        compression: Compression { enabled: false, threshold_bytes: 0, level: 0 },
    }
}
