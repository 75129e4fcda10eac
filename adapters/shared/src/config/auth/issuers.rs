//! Further issuers, `[[issuers]]` in the file: the keys of each. Their secrets stand in files, because the configuration is read by more
//! people than those who may sign.

use super::Issuer;
use super::kinds::{OptionalPath, PathList, UserPrefix, WebUrl};
use crate::config::Config;
use fanfare_shell::config::{Fault, Field, Key, List, Milliseconds, Tables, Text};
use std::time::Duration;

/// More issuers than anybody has, because a token is held against the name of each.
const ISSUERS_MAX: usize = 100;
/// As `fanfare-auth` has it by itself.
const LEEWAY: Duration = Duration::from_secs(30);

/// All of them.
pub(crate) static ISSUERS: Tables<Config, Issuer> = Tables {
    name: "issuers",
    tables_max: ISSUERS_MAX,
    keys: ISSUER_KEYS,
    blank: || Issuer { leeway: LEEWAY, ..Issuer::default() },
    check: |issuer| {
        let wrong = match () {
            () if issuer.name.is_empty() => "it is empty",
            () if !issuer.has_keys() => "it has no key to verify by",
            () => return Ok(()),
        };
        let right = "a name as tokens have it in iss, and secret_file, key_files, jwks_file or jwks_url beside it";
        Err(Fault { key: "name", wrong: wrong.to_owned(), right: right.to_owned() })
    },
    get: |config| &config.auth.issuers,
    put: |config, issuers| config.auth.issuers = issuers,
};

/// The keys of one issuer.
pub(crate) static ISSUER_KEYS: &[Key<Issuer>] = &[
    Key {
        name: "name",
        default: "",
        help: "What tokens have in iss, letter for letter",
        environment_alias: None,
        kind: &Text {
            bytes_max: 1024,
            field: Field { get: |issuer: &Issuer| &issuer.name, get_mut: |issuer| &mut issuer.name },
        },
    },
    Key {
        name: "user_prefix",
        default: "",
        help: "What stands before its users' names, and its tokens' own; to be said where users come from other places as well",
        environment_alias: None,
        kind: &UserPrefix {
            field: Field { get: |issuer: &Issuer| &issuer.user_prefix, get_mut: |issuer| &mut issuer.user_prefix },
        },
    },
    Key {
        name: "audience",
        default: "",
        help: "Of which tokens have to name one in aud",
        environment_alias: None,
        kind: &List {
            value_name: "AUDIENCES",
            right: super::AUDIENCES,
            field: Field { get: |issuer: &Issuer| &issuer.audience, get_mut: |issuer| &mut issuer.audience },
        },
    },
    Key {
        name: "secret_file",
        default: "",
        help: "A file with the secret that signs tokens by HS256, HS384 or HS512",
        environment_alias: None,
        kind: &OptionalPath {
            right: super::A_SECRET_FILE,
            field: Field { get: |issuer: &Issuer| &issuer.secret_file, get_mut: |issuer| &mut issuer.secret_file },
        },
    },
    Key {
        name: "key_files",
        default: "",
        help: "Files with a public key each, as PEM",
        environment_alias: None,
        kind: &PathList {
            right: super::KEY_FILES,
            field: Field { get: |issuer: &Issuer| &issuer.key_files, get_mut: |issuer| &mut issuer.key_files },
        },
    },
    Key {
        name: "jwks_file",
        default: "",
        help: "A file with a JSON Web Key Set",
        environment_alias: None,
        kind: &OptionalPath {
            right: super::A_KEY_SET_FILE,
            field: Field { get: |issuer: &Issuer| &issuer.jwks_file, get_mut: |issuer| &mut issuer.jwks_file },
        },
    },
    Key {
        name: "jwks_url",
        default: "",
        help: "Where the issuer publishes its JSON Web Key Set",
        environment_alias: None,
        kind: &WebUrl {
            is_private: true,
            field: Field { get: |issuer: &Issuer| &issuer.jwks_url, get_mut: |issuer| &mut issuer.jwks_url },
        },
    },
    Key {
        name: "leeway_ms",
        default: "30000",
        help: "How far its clock may be from this one",
        environment_alias: None,
        kind: &Milliseconds {
            range: super::LEEWAY_MS,
            field: Field { get: |issuer: &Issuer| &issuer.leeway, get_mut: |issuer| &mut issuer.leeway },
        },
    },
    Key {
        name: "algorithms",
        default: "",
        help: "The algorithms that its keys are for; not said: all that they can",
        environment_alias: None,
        kind: &List {
            value_name: "ALGORITHMS",
            right: super::ALGORITHM_NAMES,
            field: Field { get: |issuer: &Issuer| &issuer.algorithms, get_mut: |issuer| &mut issuer.algorithms },
        },
    },
];
