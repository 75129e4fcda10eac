//! Credentials in every place, by npm's `ws`: who is let in, what a user may do, and what becomes of forged ones. The tokens are made by
//! node's own cryptography.

use fanfare_tests::{Launch, Redis, Server, run_node, workspace_root};

const SECRET: &str = "a secret of thirty-two bytes or more";
const RULES: &str = r#"
[[rooms]]
match = "team:*"
subscribe = "granted"
publish = "granted"
"#;

fn launch() -> Launch {
    Server::launch().file(RULES).flag("--auth-secret", SECRET).flag("--auth-leeway-ms", 0)
}

#[test]
fn a_token_is_taken_in_every_place_and_its_user_is_one_on_all_instances() {
    let redis = Redis::start();
    let launch = || launch().redis(&redis).flag("--auth-cookie", "jwt").flag("--auth-cookie-holds", "token");
    let servers: [Server; 2] = std::array::from_fn(|_| launch().start());
    let urls = servers.each_ref().map(Server::url);
    let printed = run_node("tests/node/credentials.mjs", &[&urls[0], &urls[1], SECRET], &[]);
    assert!(printed.contains("all is well"), "{printed}");
}

#[test]
fn an_instance_alone_does_the_same() {
    let server = launch().flag("--auth-cookie", "jwt").flag("--auth-cookie-holds", "token").start();
    let url = server.url();
    let printed = run_node("tests/node/credentials.mjs", &[&url, &url, SECRET], &[]);
    assert!(printed.contains("all is well"), "{printed}");
}

#[test]
fn forged_tokens_let_nobody_in_and_are_nowhere_in_the_log() {
    let key = workspace_root().join("adapters/auth/tests/keys/rsa-a.private.pem");
    let public = workspace_root().join("adapters/auth/tests/keys/rsa-a.public.pem");
    let mut server = launch()
        .flag("--auth-audience", "fanfare")
        .flag("--auth-key-files", public.display())
        .flag("--log-level", "debug")
        .start();
    let key = key.display().to_string();
    let printed = run_node("tests/node/attacks.mjs", &[&server.url(), SECRET, &key, "fanfare"], &[]);
    assert!(printed.contains("all is well"), "{printed}");
    let log = server.log_to_its_end().text();
    assert!(!log.contains("eyJ") && !log.contains(SECRET), "a token, or the secret, is in the log");
}
