//! Section `auth`: how clients are asked who they are, and by what that is verified.

use crate::config::Config;
use crate::config::auth::{self, AuthSecret, Name, OptionalPath, PathList, SessionSecrets, WebUrl};
use crate::config::kinds::{DAY_MS, HOUR_MS, RedisUrl, field};
use fanfare_auth::CookieKind;
use fanfare_shell::config::{Choice, Key, List, Milliseconds, Text};

const A_NAMES_BYTES: usize = 1024;

pub(super) static AUTH: &[Key<Config>] = &[
    Key {
        name: "auth.secret",
        default: "",
        help: "The secret that signs tokens by HS256, HS384 or HS512. In a flag it can be seen in the list of processes: prefer \
               the environment or secret_file",
        environment_alias: None,
        kind: &AuthSecret { field: field!(auth.issuer.secret) },
    },
    Key {
        name: "auth.secret_file",
        default: "",
        help: "A file with that secret alone",
        environment_alias: None,
        kind: &OptionalPath { right: auth::A_SECRET_FILE, field: field!(auth.issuer.secret_file) },
    },
    Key {
        name: "auth.key_files",
        default: "",
        help: "Files with a public key each, as PEM, that verifies tokens",
        environment_alias: None,
        kind: &PathList { right: auth::KEY_FILES, field: field!(auth.issuer.key_files) },
    },
    Key {
        name: "auth.jwks_file",
        default: "",
        help: "A file with a JSON Web Key Set that verifies tokens",
        environment_alias: None,
        kind: &OptionalPath { right: auth::A_KEY_SET_FILE, field: field!(auth.issuer.jwks_file) },
    },
    Key {
        name: "auth.jwks_url",
        default: "",
        help: "Where the issuer publishes its JSON Web Key Set. It is fetched when it is needed, and kept while the issuer is \
               down",
        environment_alias: None,
        kind: &WebUrl { is_private: true, field: field!(auth.issuer.jwks_url) },
    },
    Key {
        name: "auth.algorithms",
        default: "",
        help: "The algorithms that the keys are for. Not set: all that they can",
        environment_alias: None,
        kind: &List { value_name: "ALGORITHMS", right: auth::ALGORITHM_NAMES, field: field!(auth.issuer.algorithms) },
    },
    Key {
        name: "auth.issuer",
        default: "",
        help: "What tokens have in iss, letter for letter. Not set: whatever no other issuer has. Further issuers are \
               [[issuers]] in the file",
        environment_alias: None,
        kind: &Text { bytes_max: A_NAMES_BYTES, field: field!(auth.issuer.name) },
    },
    Key {
        name: "auth.audience",
        default: "",
        help: "Of which tokens have to name one in aud. Not set: tokens with an aud are for somebody else, and refused",
        environment_alias: None,
        kind: &List { value_name: "AUDIENCES", right: auth::AUDIENCES, field: field!(auth.issuer.audience) },
    },
    Key {
        name: "auth.leeway_ms",
        default: "30000",
        help: "How far the issuer's clock may be from this one",
        environment_alias: None,
        kind: &Milliseconds { range: auth::LEEWAY_MS, field: field!(auth.issuer.leeway) },
    },
    Key {
        name: "auth.user_claim",
        default: "sub",
        help: "The claim of a token that holds the user",
        environment_alias: None,
        kind: &Text { bytes_max: A_NAMES_BYTES, field: field!(auth.user_claim) },
    },
    Key {
        name: "auth.grants_claim",
        default: "grants",
        help: "The claim of a token that holds what the user is granted: lists subscribe, publish, history, presence and join",
        environment_alias: None,
        kind: &Text { bytes_max: A_NAMES_BYTES, field: field!(auth.grants_claim) },
    },
    Key {
        name: "auth.info_claim",
        default: "info",
        help: "The claim of a token that holds what others are told of the user where it is kept who is in a room: any JSON value of at \
               most 1024 bytes. A longer one is left out",
        environment_alias: None,
        kind: &Text { bytes_max: A_NAMES_BYTES, field: field!(auth.info_claim) },
    },
    Key {
        name: "auth.ca_file",
        default: "",
        help: "A file with certificates as PEM, by which those of https URLs are checked. Not set: by Mozilla's, which are \
               compiled in",
        environment_alias: None,
        kind: &OptionalPath { right: "a file with certificates as PEM", field: field!(auth.ca_file) },
    },
    Key {
        name: "auth.header",
        default: "on",
        help: "Whether a token in Authorization: Bearer counts",
        environment_alias: None,
        kind: &Choice { choices: &[("off", false), ("on", true)], field: field!(auth.core.header) },
    },
    Key {
        name: "auth.query",
        default: "token",
        help: "The field of the query in which a token counts. It stands in the logs of proxies: prefer the others",
        environment_alias: None,
        kind: &Name { right: "the name of a field", field: field!(auth.core.query) },
    },
    Key {
        name: "auth.subprotocol",
        default: "on",
        help: "Whether a token counts in an entry fanfare.token.TOKEN of Sec-WebSocket-Protocol, as browsers can send it",
        environment_alias: None,
        kind: &Choice { choices: &[("off", false), ("on", true)], field: field!(auth.core.subprotocol) },
    },
    Key {
        name: "auth.cookie",
        default: "",
        help: "The cookie that counts, such as connect.sid, from pages that origins lets connect",
        environment_alias: None,
        kind: &Name { right: "the name of a cookie", field: field!(auth.core.cookie) },
    },
    Key {
        name: "auth.cookie_holds",
        default: "session",
        help: "What the cookie is: the signed id of a session, or a token",
        environment_alias: None,
        kind: &Choice {
            choices: &[("session", CookieKind::Session), ("token", CookieKind::Token)],
            field: field!(auth.cookie_holds),
        },
    },
    Key {
        name: "auth.command",
        default: "on",
        help: "Whether a token in the command AUTH counts",
        environment_alias: None,
        kind: &Choice { choices: &[("off", false), ("on", true)], field: field!(auth.core.command) },
    },
    Key {
        name: "auth.session_secret",
        default: "",
        help: "The secret of express-session that signs the cookie; several, one a line, while it is changed",
        environment_alias: None,
        kind: &SessionSecrets { field: field!(auth.session.secrets) },
    },
    Key {
        name: "auth.session_secret_file",
        default: "",
        help: "A file with that secret, or several, one a line",
        environment_alias: None,
        kind: &OptionalPath {
            right: "a file with the secret, or several, one a line",
            field: field!(auth.session.secret_file),
        },
    },
    Key {
        name: "auth.session_redis_url",
        default: "",
        help: "The Redis in which connect-redis stores sessions. Not set: that of redis.url",
        environment_alias: None,
        kind: &RedisUrl { none: "that of redis.url", field: field!(auth.session.redis) },
    },
    Key {
        name: "auth.session_prefix",
        default: "sess:",
        help: "What the keys of sessions begin with",
        environment_alias: None,
        kind: &Text { bytes_max: 256, field: field!(auth.session.prefix) },
    },
    Key {
        name: "auth.session_user",
        default: "passport.user",
        help: "Where in a session the user stands: names with dots between them",
        environment_alias: None,
        kind: &Text { bytes_max: A_NAMES_BYTES, field: field!(auth.session.user) },
    },
    Key {
        name: "auth.recheck_ms",
        default: "300000",
        help: "How often it is asked again whether a session is still there, or what auth.url says",
        environment_alias: None,
        kind: &Milliseconds {
            // Each connection asks so often.
            range: 1_000..=DAY_MS,
            field: field!(auth.core.recheck),
        },
    },
    Key {
        name: "auth.url",
        default: "",
        help: "An HTTP endpoint that is asked who a client is where neither a token nor a session says it",
        environment_alias: None,
        kind: &WebUrl { is_private: false, field: field!(auth.callback.url) },
    },
    Key {
        name: "auth.forward_headers",
        default: "",
        help: "The headers of the client's request that the endpoint is to see, such as cookie",
        environment_alias: None,
        kind: &List {
            value_name: "HEADERS",
            right: "names of headers, separated by commas (in the file an array of texts), or an empty text for none",
            field: field!(auth.callback.forward_headers),
        },
    },
    Key {
        name: "auth.url_timeout_ms",
        default: "3000",
        help: "How long the endpoint may take",
        environment_alias: None,
        kind: &Milliseconds { range: 1..=60_000, field: field!(auth.callback.timeout) },
    },
    Key {
        name: "auth.url_plaintext",
        default: "off",
        help: "Whether auth.url may be http although it is of another machine: who is between can sign in as anybody",
        environment_alias: None,
        kind: &Choice { choices: &[("off", false), ("on", true)], field: field!(auth.callback.plaintext) },
    },
    Key {
        name: "auth.required",
        default: "on",
        help: "Whether everybody has to be a user; off: without a credential, clients may do what rules leave to anyone",
        environment_alias: None,
        kind: &Choice { choices: &[("off", false), ("on", true)], field: field!(auth.core.required) },
    },
    Key {
        name: "auth.timeout_ms",
        default: "10000",
        help: "Time for a client without a credential to send AUTH before it is closed with 4501",
        environment_alias: None,
        kind: &Milliseconds { range: 1..=HOUR_MS, field: field!(auth.core.timeout) },
    },
    Key {
        name: "auth.expiry_notice_ms",
        default: "60000",
        help: "How long before its credential expires a client is told so",
        environment_alias: None,
        kind: &Milliseconds { range: 0..=DAY_MS, field: field!(auth.core.expiry_notice) },
    },
    Key {
        name: "auth.refuse",
        default: "status",
        help: "How a credential is refused: by the status 401 or 403, or by the close codes 4501 and 4503 after an upgrade, \
               which browsers can read",
        environment_alias: None,
        kind: &Choice { choices: &[("status", false), ("close", true)], field: field!(auth.core.refuses_by_close) },
    },
    Key {
        name: "auth.own_rooms",
        default: "on",
        help: "Whether the connections of a user join the room user:NAME by themselves",
        environment_alias: None,
        kind: &Choice { choices: &[("off", false), ("on", true)], field: field!(auth.core.own_rooms) },
    },
    Key {
        name: "auth.bans_file",
        default: "",
        help: "A file in which bans are kept where there is no redis.url",
        environment_alias: None,
        kind: &OptionalPath {
            right: "a file that may be written and, beside it, two with .lock and .new after its name",
            field: field!(auth.bans_file),
        },
    },
];
