//! Sections `compression`, `proxy` and `timeouts`: how connections are treated.

use crate::config::Config;
use crate::config::kinds::{HOUR_MS, MIB, field};
use fanfare_shell::config::{Choice, Key, List, Milliseconds, Number, Unit};

pub(super) static CONNECTIONS: &[Key<Config>] = &[
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
    Key {
        name: "drain.delay_ms",
        default: "0",
        help: "How long newcomers are still taken after SIGTERM, while /readyz says 503 already: what a load balancer needs to notice",
        environment_alias: None,
        kind: &Milliseconds { range: 0..=HOUR_MS, field: field!(core.drain.delay) },
    },
    Key {
        name: "drain.spread_ms",
        default: "5000",
        help: "The time over which clients are let go then, each at a time of its own, so that they do not come back all at once; \
               0: all at once",
        environment_alias: None,
        kind: &Milliseconds { range: 0..=HOUR_MS, field: field!(core.drain.spread) },
    },
];
