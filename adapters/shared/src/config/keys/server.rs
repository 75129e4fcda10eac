//! What the server as a whole is told: addresses, workers, dialects, origins, and section `log`.

use crate::config::Config;
use crate::config::kinds::{OriginList, field};
use fanfare_core::{Dialect, Subprotocols};
use fanfare_shell::config::{Address, Choice, Key, List, Number, OptionalAddress, Unit};
use fanfare_shell::logging::{LogFormat, LogLevel};

pub(super) static SERVER: &[Key<Config>] = &[
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
        help: "Where /metrics, /instances, /healthz and /readyz are served for operators, without any authentication: keep it private",
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
];
