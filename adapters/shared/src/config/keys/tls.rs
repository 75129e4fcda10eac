//! Section `tls`: certificates by which clients know the server. Further ones are in `[[certificates]]`.

use crate::config::Config;
use crate::config::auth::OptionalPath;
use crate::config::kinds::field;
use crate::config::tls::{A_CERTIFICATE, A_KEY};
use fanfare_shell::config::{Choice, Key};
use fanfare_tls::Version;

pub(super) static TLS: &[Key<Config>] = &[
    Key {
        name: "tls.cert_file",
        default: "",
        help: "A PEM file with the server's certificate and those that lead to its authority. With it, clients connect by wss:// and \
               https:// alone. It is read again when it changes",
        environment_alias: None,
        kind: &OptionalPath { right: A_CERTIFICATE, field: field!(tls.first.cert_file) },
    },
    Key {
        name: "tls.key_file",
        default: "",
        help: "A PEM file with the private key of tls.cert_file",
        environment_alias: None,
        kind: &OptionalPath { right: A_KEY, field: field!(tls.first.key_file) },
    },
    Key {
        name: "tls.min_version",
        default: "1.2",
        help: "The oldest version of TLS that clients may speak",
        environment_alias: None,
        kind: &Choice { choices: &[("1.2", Version::Tls12), ("1.3", Version::Tls13)], field: field!(tls.version_min) },
    },
];
