//! Sections `limits`, `history` and `presence`: what clients may use, and what rooms may keep.

use crate::config::Config;
use crate::config::kinds::{DAY_MS, GIB, KIB, MIB, TIB, field};
use fanfare_shell::config::{Key, Milliseconds, Number, Unit};

pub(super) static LIMITS: &[Key<Config>] = &[
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
        help: "Rooms that one connection may be in, beside its user's own room",
        environment_alias: None,
        kind: &Number { unit: Unit::Count, range: 1..=32_767, field: field!(core.limits.rooms_per_connection_max) },
    },
    Key {
        name: "limits.rooms_per_user_max",
        default: "0",
        help: "Rooms that the connections of one user to a worker may be in together, beside the user's own room. 0: no limit",
        environment_alias: None,
        // As many as all connections of a machine could be in; no user needs so many.
        kind: &Number { unit: Unit::Count, range: 0..=100_000_000, field: field!(core.limits.rooms_per_user_max) },
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
        name: "limits.messages_per_second_per_user",
        default: "0",
        help: "Messages of one user's connections to a worker together, on the average; further ones are refused as those beyond \
               limits.messages_per_second. 0: no limit",
        environment_alias: None,
        kind: &Number { unit: Unit::Count, range: 0..=MIB, field: field!(core.limits.user_messages.per_second) },
    },
    Key {
        name: "limits.messages_burst_per_user",
        default: "2000",
        help: "Messages of one user's connections at once, after a pause",
        environment_alias: None,
        kind: &Number { unit: Unit::Count, range: 1..=GIB, field: field!(core.limits.user_messages.burst) },
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
        name: "limits.connections_per_user_max",
        default: "0",
        help: "WebSockets of one user on each worker of an instance; an upgrade beyond it gets 429, an AUTH too_many_connections. \
               0: no limit",
        environment_alias: None,
        kind: &Number {
            unit: Unit::Count,
            range: 0..=10_000_000,
            field: field!(core.admission.connections_per_user_max),
        },
    },
    Key {
        name: "limits.connections_per_user_cluster_max",
        default: "0",
        help: "WebSockets of one user on all instances and workers; one more is closed with 1013 as soon as the broker has counted it. \
               0: no limit",
        environment_alias: None,
        kind: &Number {
            unit: Unit::Count,
            range: 0..=10_000_000,
            field: field!(core.presence.connections_per_user_max),
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
        name: "presence.linger_ms",
        default: "5000",
        help: "How long a user is there after the last of its connections has gone: one that comes back meanwhile has neither left nor \
               joined",
        environment_alias: None,
        // Who has been away for longer than ten minutes has not just reloaded a page.
        kind: &Milliseconds { range: 0..=600_000, field: field!(core.presence.linger) },
    },
    Key {
        name: "presence.users_max",
        default: "10000",
        help: "Of rooms with more users it is only told how many there are",
        environment_alias: None,
        // Each instance with an observer keeps all of them.
        kind: &Number { unit: Unit::Count, range: 0..=1_000_000, field: field!(core.presence.users_max) },
    },
    Key {
        name: "presence.lease_ms",
        default: "10000",
        help: "How long the users of an instance stay in Redis after it was last heard of. It renews that three times as often",
        environment_alias: None,
        // Less than a second is a pause of a busy machine.
        kind: &Milliseconds { range: 1_000..=600_000, field: field!(redis.session.presence_lease) },
    },
];
