//! Section `api`: where backends ask by HTTP.

use crate::config::Config;
use crate::config::auth::OptionalPath;
use crate::config::kinds::field;
use fanfare_shell::config::{Choice, Key, OptionalAddress};

pub(super) static API: &[Key<Config>] = &[
    Key {
        name: "api.listen",
        default: "",
        help: "Where backends publish, read and ask by HTTP, with a key. It is for programs: no browser needs to reach it",
        environment_alias: None,
        kind: &OptionalAddress { field: field!(api.listen) },
    },
    Key {
        name: "api.keys_file",
        default: "",
        help: "The keys of backends and their rights: a file of TOML with a table [[keys]] for each, of name, key and rights",
        environment_alias: None,
        kind: &OptionalPath { right: "a file of TOML with [[keys]]", field: field!(api.keys_file) },
    },
    Key {
        name: "api.tls",
        default: "off",
        help: "Whether backends connect by https:// alone, with the certificates by which clients know the server",
        environment_alias: None,
        kind: &Choice { choices: &[("off", false), ("on", true)], field: field!(api.tls) },
    },
];
