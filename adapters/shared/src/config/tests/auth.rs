//! Section `auth`, `[[issuers]]` and the rights in rules: what is taken, what is refused and how, and that no secret is shown.

use super::{TomlFile, assert_says, error, loaded, try_load};
use crate::config::auth::ISSUERS;
use crate::config::{Config, bans_store, methods};
use fanfare_auth::{ClaimNames, CookieKind};
use std::time::Duration;

/// 32 bytes.
const SECRET: &str = "hunter2-hunter2-hunter2-hunter2!";
const PUBLIC_KEY: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
const KEY_SET: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

fn with_secret(arguments: &[&str]) -> Config {
    loaded(arguments, &[("FANFARE_AUTH_SECRET", SECRET)])
}

fn refused(arguments: &[&str]) -> String {
    let text = error(arguments, &[("FANFARE_AUTH_SECRET", SECRET)]);
    assert!(!text.contains("hunter2"), "{text}");
    text
}

fn warnings(text: &str) -> Vec<String> {
    let file = TomlFile::new(text);
    try_load(&["--config", file.path()], &[("FANFARE_AUTH_SECRET", SECRET)]).unwrap().warnings
}

#[test]
fn clients_are_asked_once_anything_verifies() {
    let (secret, key, set) = (TomlFile::new(SECRET), TomlFile::new(PUBLIC_KEY), TomlFile::new(KEY_SET));
    assert_eq!(loaded(&[], &[]).core.auth, None);
    let issuer = TomlFile::new(&format!("[[issuers]]\nname = 'a'\nkey_files = ['{}']", key.path()));
    for arguments in [
        &["--auth-secret-file", secret.path()][..],
        &["--auth-key-files", key.path()],
        &["--auth-jwks-file", set.path()],
        &["--auth-jwks-url", "https://id.example/jwks"],
        &["--config", issuer.path()],
    ] {
        let config = loaded(arguments, &[]);
        let (methods, _) = methods(&config).unwrap();
        assert!(methods.tokens.is_some() && methods.sessions.is_none() && methods.callback.is_none(), "{arguments:?}");
        assert_eq!(config.core.auth, Some(fanfare_core::Auth::default()), "{arguments:?}");
    }
    let config =
        loaded(&["--auth-session-secret", "cat", "--auth-cookie", "connect.sid", "--redis-url", "redis://h"], &[]);
    assert_eq!(config.core.auth.as_ref().and_then(|auth| auth.cookie.as_deref()), Some("connect.sid"));
    assert!(methods(&config).unwrap().0.sessions.is_some());
    let config = loaded(&["--auth-url", "https://a.example/who", "--auth-forward-headers", "Cookie, x-key"], &[]);
    assert!(config.core.auth.as_ref().is_some_and(|auth| auth.requests && auth.forwards_head));
    assert_eq!(methods(&config).unwrap().0.forward_headers(), ["cookie", "x-key"]);
    let config = loaded(&["--auth-url", "https://a.example/who"], &[]);
    assert!(config.core.auth.is_some_and(|auth| !auth.requests && !auth.forwards_head));
}

#[test]
fn every_key_reaches_its_place() {
    let config = with_secret(&[
        "--auth-header",
        "off",
        "--auth-query",
        "",
        "--auth-subprotocol",
        "off",
        "--auth-cookie",
        "jwt",
        "--auth-cookie-holds",
        "token",
        "--auth-command",
        "off",
        "--auth-required",
        "off",
        "--auth-timeout-ms",
        "1",
        "--auth-expiry-notice-ms",
        "2",
        "--auth-recheck-ms",
        "3000",
        "--auth-refuse",
        "close",
        "--auth-own-rooms",
        "off",
        "--auth-audience",
        "a,b",
        "--auth-issuer",
        "me",
        "--auth-leeway-ms",
        "5",
        "--auth-user-claim",
        "uid",
        "--auth-grants-claim",
        "may",
        "--auth-info-claim",
        "profile",
        "--auth-algorithms",
        "HS512",
    ]);
    let mut auth = fanfare_core::Auth::default();
    (auth.header, auth.query, auth.subprotocol, auth.cookie) = (false, None, false, Some("jwt".into()));
    (auth.command, auth.required, auth.refuses_by_close, auth.own_rooms) = (false, false, true, false);
    (auth.timeout, auth.expiry_notice) = (Duration::from_millis(1), Duration::from_millis(2));
    auth.recheck = Duration::from_secs(3);
    assert_eq!(config.core.auth, Some(auth));
    assert_eq!(config.auth.cookie_holds, CookieKind::Token);
    let issuer = &config.auth.issuer;
    let audience: Vec<_> = issuer.audience.iter().map(|one| one.as_str()).collect();
    assert_eq!((&*issuer.name, audience, issuer.leeway), ("me", vec!["a", "b"], Duration::from_millis(5)));
    let names = ClaimNames { user: "uid".to_owned(), grants: "may".to_owned(), info: "profile".to_owned() };
    assert_eq!(config.auth.claim_names(), names);
    methods(&config).unwrap();
}

#[test]
fn whoever_takes_the_server_for_closed_is_told_that_it_is_open() {
    for (arguments, key) in [
        (["--auth-required", "on"], "auth.required"),
        (["--auth-required", "off"], "auth.required"),
        (["--auth-issuer", "me"], "auth.issuer"),
        (["--auth-cookie", "connect.sid"], "auth.cookie"),
        (["--auth-header", "off"], "auth.header"),
        (["--auth-forward-headers", "cookie"], "auth.forward_headers"),
        (["--auth-bans-file", "/tmp/bans"], "auth.bans_file"),
    ] {
        assert_says(
            &error(&arguments, &[]),
            &[&format!("\n{key}\n"), "nothing verifies credentials", "right: something"],
        );
    }
    // What is printed of a server that asks nobody can be read back.
    let printed = try_load(&[], &[]).unwrap().to_toml();
    assert_eq!(loaded(&["--config", TomlFile::new(&printed).path()], &[]), Config::default());
    let rule = TomlFile::new(
        "[[rooms]]\nmatch = 'a:{user}'\nsubscribe = 'self'\npublish = 'nobody'\nhistory = 'user'\npresence = 'granted'",
    );
    let text = error(&["--config", rule.path()], &[]);
    for key in ["subscribe", "history", "presence"] {
        assert_says(
            &text,
            &[&format!("[[rooms]] number 1 (match = \"a:{{user}}\"): {key}\n"), "nothing verifies who is one"],
        );
    }
    assert!(text.contains("wrong in 3 places"), "{text}");
    with_secret(&["--config", rule.path()]);
}

#[test]
fn what_does_not_go_together_is_told() {
    let session = ["--auth-session-secret", "hunter2", "--redis-url", "redis://h"];
    let with = |more: &[&str]| refused(&[&session[..], more].concat());
    for (text, key, wrong) in [
        (
            refused(&["--auth-cookie", "jwt", "--auth-cookie-holds", "token", "--origins", "*"]),
            "auth.cookie",
            "speak for the visitor",
        ),
        (refused(&["--auth-cookie", "connect.sid"]), "auth.cookie", "no secret is there to check its signature by"),
        (with(&[]), "auth.cookie", "no cookie is taken for one"),
        (with(&["--auth-cookie", "a", "--auth-cookie-holds", "token"]), "auth.cookie", "no cookie is taken for one"),
        (
            refused(&["--auth-cookie", "a", "--auth-session-secret", "hunter2"]),
            "auth.session_redis_url",
            "there is no Redis in which the sessions are",
        ),
        (
            refused(&[
                "--auth-header",
                "off",
                "--auth-query",
                "",
                "--auth-subprotocol",
                "off",
                "--auth-command",
                "off",
            ]),
            "auth.header",
            "clients can show none in any way",
        ),
        (refused(&["--auth-user-claim", ""]), "auth.user_claim", "it is empty"),
        (refused(&["--auth-bans-file", "bans"]), "auth.bans_file", "it is relative"),
        (refused(&["--auth-session-user", "a..b"]), "auth.session_user", "it has an empty name"),
        (refused(&["--auth-jwks-url", "https://h/keys"]), "auth.jwks_url", "keys in other places as well"),
        (refused(&["--auth-algorithms", "ES256"]), "auth.secret", "the key is for none of these algorithms"),
        (refused(&["--auth-algorithms", "none"]), "auth.algorithms", "it is no algorithm that is known here"),
        (refused(&["--auth-url", "http://h/who"]), "auth.url", "expected an https URL"),
        (refused(&["--auth-url", "https://a:hunter2@h/who"]), "auth.url", "without user and password"),
        (refused(&["--auth-jwks-url", "http://h/hunter2"]), "auth.jwks_url", "expected an https URL"),
        (
            refused(&["--auth-url", "https://h/who", "--auth-forward-headers", "host"]),
            "auth.forward_headers",
            "expected the name of a header",
        ),
        (
            refused(&["--auth-url", "https://h/who", "--auth-forward-headers", "Cookie", "--origins", "*"]),
            "auth.forward_headers",
            "speak for the visitor",
        ),
        (
            refused(&[
                "--auth-url",
                "https://h/who",
                "--auth-forward-headers",
                "x-key,authorization",
                "--origins",
                "*",
            ]),
            "auth.forward_headers",
            "speak for the visitor",
        ),
        (refused(&["--auth-query", "a b"]), "auth.query", "other characters than letters"),
    ] {
        assert_says(&text, &[&format!("\n{key}\n  from:  "), wrong, "right: "]);
    }
    with_secret(&["--auth-url", "https://h/who", "--auth-forward-headers", "x-key", "--origins", "*"]);
    with_secret(&["--auth-url", "http://h/who", "--auth-url-plaintext", "on", "--auth-cookie", "sid"]);
}

#[test]
fn files_without_a_key_are_named_and_not_quoted() {
    let short = TomlFile::new("hunter2\n");
    let (private, empty) =
        (TomlFile::new("-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n"), TomlFile::new("\n\n"));
    let no_keys = TomlFile::new(r#"{"keys":[{"kty":"oct","k":"aHVudGVyMg"}]}"#);
    for (flag, file, wrong) in [
        ("secret-file", short.path(), "the secret has fewer than 32 bytes"),
        ("secret-file", "/no/such/file", "cannot read /no/such/file: No such file"),
        ("secret-file", "/dev/zero", "it is larger than"),
        ("key-files", short.path(), "expected a PEM text with PUBLIC KEY"),
        ("key-files", private.path(), "expected a PEM text with PUBLIC KEY"),
        ("jwks-file", short.path(), "expected a JSON Web Key Set"),
        ("jwks-file", no_keys.path(), "the key is none of RSA"),
        ("ca-file", short.path(), "expected a PEM text with CERTIFICATE"),
        ("session-secret-file", empty.path(), "expected one or more secrets"),
    ] {
        let flag = format!("--auth-{flag}");
        let more = ["--auth-url", "https://h/who", "--auth-cookie", "sid", "--redis-url", "redis://h"];
        let text = refused(&[&[&*flag, file][..], &more].concat());
        assert_says(
            &text,
            &[&format!("{}\n  from:  flag {flag}\n", flag[2..].replacen('-', ".", 1).replace('-', "_")), wrong],
        );
        let is_named = wrong.contains("CERTIFICATE") || text.contains(file);
        assert!(is_named, "{text}");
    }
    let table = TomlFile::new(&format!("[[issuers]]\nname = 'a'\nkey_files = ['{}']", private.path()));
    assert_says(
        &refused(&["--config", table.path()]),
        &["[[issuers]] number 1 (name = \"a\"): key_files\n", private.path()],
    );
    assert_says(&error(&[], &[("FANFARE_AUTH_SECRET", "hunter2")]), &["auth.secret\n", "fewer than 32 bytes"]);
}

#[test]
fn issuers_have_names_and_keys_of_their_own() {
    let set = TomlFile::new(KEY_SET);
    let of = |text: &str| {
        let file = TomlFile::new(&text.replace("SET", set.path()));
        try_load(&["--config", file.path()], &[("FANFARE_AUTH_SECRET", SECRET), ("FANFARE_AUTH_ISSUER", "me")])
    };
    let two = "[[issuers]]\nname = 'a'\nuser_prefix = 'a:'\njwks_file = 'SET'\nalgorithms = ['EdDSA']\n\
               [[issuers]]\nname = 'b'\nuser_prefix = 'b:'\njwks_url = 'https://b/k'\naudience = 'x'\n";
    let loaded = of(two).unwrap();
    assert_eq!(loaded.config.auth.issuers.len(), 2);
    methods(&loaded.config).unwrap();
    assert_says(&loaded.to_toml(), &["\n[[issuers]] # file ", "name = \"b\" # file ", "leeway_ms = 30000 # default\n"]);
    for (text, wrong) in [
        ("[[issuers]]\nname = 'a'", "it has no key to verify by"),
        ("[[issuers]]\nname = ''\njwks_file = 'SET'", "it is empty"),
        ("[[issuers]]\njwks_file = 'SET'", "it is missing"),
        ("[[issuers]]\nname = 'me'\njwks_file = 'SET'", "each of another name"),
        ("[[issuers]]\nname = 'a'\nsecret = 'x'\njwks_file = 'SET'", "there is no such key"),
        (
            "[[issuers]]\nname = 'a'\nalgorithms = ['RS256']\njwks_file = 'SET'",
            "the key is for none of these algorithms",
        ),
    ] {
        let text = format!("{:?}", of(text).expect_err(wrong));
        assert_says(&text, &[wrong]);
    }
    assert_eq!(ISSUERS.keys.len(), 9);
}

#[test]
fn where_users_come_from_several_places_each_issuer_says_which_are_its_own() {
    let set = TomlFile::new(KEY_SET);
    let table = |name: &str, prefix: &str| format!("[[issuers]]\nname = '{name}'\njwks_file = 'SET'\n{prefix}");
    let of = |text: &str, arguments: &[&str]| {
        let file = TomlFile::new(&text.replace("SET", set.path()));
        try_load(&[&["--config", file.path()], arguments].concat(), &[("FANFARE_AUTH_SECRET", "")])
    };
    let missing = r#"[[issuers]] number 1 (name = \"a\"): user_prefix"#;
    // One alone can be nobody of another one.
    of(&table("a", ""), &[]).unwrap();
    let secret = TomlFile::new(SECRET);
    let others: [&[&str]; 3] = [
        &["--auth-secret-file", secret.path()],
        &["--auth-session-secret", "cat", "--auth-cookie", "connect.sid", "--redis-url", "redis://h"],
        &["--auth-url", "https://a.example/who"],
    ];
    for other in others {
        assert_says(
            &format!("{:?}", of(&table("a", ""), other).unwrap_err()),
            &[missing, "users come from other places"],
        );
        for prefix in ["user_prefix = 'a:'", "user_prefix = ''"] {
            let loaded = of(&table("a", prefix), other).unwrap();
            // What is printed says the same when it is read.
            let printed = TomlFile::new(&loaded.to_toml().replace("\"***\"", "'cat'"));
            let again = try_load(&["--config", printed.path()], &[]).unwrap();
            assert_eq!(again.config.auth.issuers, loaded.config.auth.issuers);
        }
    }
    let two = [table("a", ""), table("b", "user_prefix = 'b:'")].concat();
    let told = format!("{:?}", of(&two, &[]).unwrap_err());
    assert_says(&told, &[missing]);
    assert!(!told.contains("number 2"), "{told}");
    let long = format!("user_prefix = '{}'", "x".repeat(65));
    assert_says(&format!("{:?}", of(&table("a", &long), &[]).unwrap_err()), &["more than 64 bytes"]);
}

#[test]
fn no_secret_is_shown() {
    let (file, session) = (TomlFile::new(SECRET), TomlFile::new("hunter2"));
    let given = [
        "--auth-secret-file",
        file.path(),
        "--auth-session-secret",
        "hunter2\nhunter2b",
        "--auth-session-secret-file",
        session.path(),
        "--auth-cookie",
        "sid",
        "--auth-session-redis-url",
        "redis://me:hunter2@h",
        "--auth-url",
        "https://h/who?key=hunter2",
    ];
    let loaded = try_load(&given, &[("FANFARE_AUTH_SECRET", SECRET)]).unwrap();
    let printed = loaded.to_toml();
    assert!(!format!("{loaded:?}{printed}").contains("hunter2"), "{loaded:?}\n{printed}");
    assert_says(
        &printed,
        &[
            "secret = \"***\" # environment variable FANFARE_AUTH_SECRET\n",
            "session_secret = \"***\" # flag",
            "session_redis_url = \"redis://me:***@h:6379/0\"",
            "url = \"https://h/who?***\"",
        ],
    );
    let back = error(&["--config", TomlFile::new(&printed).path()], &[]);
    for key in ["auth.secret", "auth.session_secret", "auth.session_redis_url", "auth.url"] {
        assert_says(&back, &[&format!("\n{key}\n")]);
    }
    assert_says(&back, &["wrong in 4 places", "which check-config prints in place of the real one"]);
    let misplaced = [
        error(&["--auth-cookie", "redis://:hunter2@h"], &[]),
        error(&["--auth-session-redis-url", "rediss://:hunter2@h"], &[]),
        error(&["--auth-jwks-url", "ftp://h/?hunter2"], &[]),
        error(&["--auth-secret", "hunter2"], &[]),
        error(&[], &[("FANFARE_AUTH_KEY_FILES", "-----BEGIN PRIVATE KEY-----hunter2")]),
    ];
    for text in misplaced {
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn bans_are_kept_in_redis_else_in_a_file() {
    let is_kept = |config: &Config| bans_store(config).unwrap().is_some();
    assert!(!is_kept(&with_secret(&[])));
    let file = TomlFile::new("");
    let store = bans_store(&with_secret(&["--auth-bans-file", file.path()])).unwrap().unwrap();
    assert_eq!(store.list(0).unwrap().bans, []);
    for url in
        ["redis://u%20s:p%2Fw@h:7/3", "redis://:p+w@[::1]", "unix:///run/a%20b?db=2&user=u&pass=p%26", "redis://h"]
    {
        assert!(is_kept(&with_secret(&["--redis-url", url])), "{url}");
    }
}

#[test]
fn what_is_probably_not_meant_is_warned_of() {
    assert!(warnings("").is_empty());
    assert_says(&warnings("[redis]\nformat = 'classic'").join("\n"), &["cannot say which user sent it"]);
    let both = "[redis]\nurl = 'redis://h'\n[auth]\nbans_file = '/tmp/bans'";
    assert_says(&warnings(both).join("\n"), &["auth.bans_file is not used"]);
    let crowd = |limits: &str| warnings(&format!("listen = '0.0.0.0:8080'\n[limits]\n{limits}"));
    assert_says(&crowd("").join("\n"), &["limits.connections_per_address_max", "are 0"]);
    assert!(crowd("connections_per_address_max = 100").is_empty());
    assert!(crowd("connects_per_address_per_second = 10").is_empty());
    for limit in [
        "connections_per_user_max",
        "connections_per_user_cluster_max",
        "rooms_per_user_max",
        "messages_per_second_per_user",
    ] {
        let limited = format!("[limits]\n{limit} = 5");
        assert!(warnings(&limited).is_empty());
        let file = TomlFile::new(&limited);
        let without_users = try_load(&["--config", file.path()], &[]).unwrap().warnings;
        assert_says(&without_users.join("\n"), &["limits for users have no effect"]);
    }
    let own =
        |rights: &str| warnings(&format!("[[rooms]]\nmatch = '**'\n[[rooms]]\nmatch = 'user:{{user}}'\n{rights}"));
    assert!(own("publish = 'anyone'\nsubscribe = 'nobody'\nhistory = 'self'").is_empty());
    for key in ["subscribe", "history", "presence"] {
        let told = own(&format!("{key} = 'user'"));
        let wanted = format!(
            "[[rooms]] number 2 (match = \"user:{{user}}\"): {key} lets others than the user into the user's own room"
        );
        assert_eq!(told, [wanted]);
    }
    assert_eq!(
        warnings("[[rooms]]\nmatch = 'user:bob'"),
        [
            "[[rooms]] number 1 (match = \"user:bob\") is no room's rule, because the built-in rule of user:{user} comes first and fits \
          all of its rooms"
        ]
    );
}

#[test]
fn a_room_is_told_who_may_do_what_there() {
    let ask = |text: &str, room: &str| {
        let file = TomlFile::new(text);
        let arguments = ["check-config", "--config", file.path(), "--room", room];
        let loaded = try_load(&arguments, &[("FANFARE_AUTH_SECRET", SECRET)]).unwrap();
        loaded.answers().unwrap().replace(file.path(), "FILE")
    };
    assert_says(
        &ask("", "user:bob"),
        &[
            "rule = 0 # built in, because clients are asked who they are\nmatch = \"user:{user}\"\n",
            "subscribe = \"self\"\npublish = \"user\"\nhistory = \"self\"\npresence = false\n",
        ],
    );
    let rules = "[[rooms]]\nmatch = 'a:*'\nsubscribe = 'granted'\npresence = true\n[[rooms]]\nmatch = 'user:{user}'\npublish = 'nobody'\n\
                 [[rooms]]\nmatch = 'b'\npresence = 'nobody'\n";
    assert_says(
        &ask(rules, "a:1"),
        &[
            "rule = 1 # file FILE line 1\n",
            "subscribe = \"granted\" # by the patterns for subscribe in the credential\npublish = \"user\"\n\
             history = \"granted\" # as subscribe, by the patterns for subscribe in the credential\n\
             presence = \"granted\" # as subscribe, by the patterns for subscribe in the credential\n",
        ],
    );
    let own_list = "[[rooms]]\nmatch = 'a:*'\nsubscribe = 'granted'\nhistory = 'granted'\npresence = 'nobody'\n";
    assert_says(
        &ask(own_list, "a:1"),
        &["history = \"granted\" # by the patterns for history in the credential\npresence = \"nobody\"\n"],
    );
    assert_says(
        &ask(rules, "user:eve"),
        &["rule = 2 # file FILE line 5\n", "subscribe = \"self\"\npublish = \"nobody\"\n"],
    );
    assert_says(
        &ask(rules, "b"),
        &["rule = 3 # file FILE line 8\n", "history = \"user\" # as subscribe\npresence = \"nobody\"\n"],
    );
    assert_says(&ask(rules, "lobby"), &["# no rule fits", "subscribe = \"user\"\npublish = \"user\"\n"]);
}
