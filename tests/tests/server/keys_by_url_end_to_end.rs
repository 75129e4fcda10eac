//! Keys that issuers publish at a URL: which tokens come in by them, how a new key is found and an old one is gone, and that nobody can
//! have an issuer flooded. Keys and tokens are made by node's own cryptography.

use fanfare_tests::{Endpoint, RawClient, Response, Server, eventually, eventually_within, run_node};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A server asks for keys again no sooner than after 30 s, however often a token names one that it does not know.
const REFRESHED: Duration = Duration::from_secs(60);

/// Keys and tokens of `issuers.mjs`.
struct Material(Value);

impl Material {
    fn make() -> Material {
        Material(serde_json::from_str(&run_node("tests/node/issuers.mjs", &["fanfare"], &[])).expect("JSON"))
    }

    fn token(&self, name: &str) -> &str {
        self.0["tokens"][name].as_str().expect("a token")
    }

    fn unknown(&self) -> Vec<&str> {
        self.0["unknown"].as_array().expect("tokens").iter().map(|token| token.as_str().expect("a token")).collect()
    }
}

/// Where an issuer publishes its keys.
struct Published {
    endpoint: Endpoint,
    keys: Arc<Mutex<Value>>,
}

impl Published {
    fn new(material: &Material, names: &[&str]) -> Published {
        let keys = Arc::new(Mutex::new(Value::Null));
        let of_endpoint = Arc::clone(&keys);
        let endpoint = Endpoint::start(move |_| (200, of_endpoint.lock().expect("nobody panics").to_string()));
        let published = Published { endpoint, keys };
        published.publish(material, names);
        published
    }

    fn publish(&self, material: &Material, names: &[&str]) {
        let keys: Vec<_> = names.iter().map(|name| &material.0["keys"][*name]).collect();
        *self.keys.lock().expect("nobody panics") = json!({ "keys": keys });
    }

    /// How often it was asked for them.
    fn fetches(&self) -> usize {
        self.endpoint.asked().len()
    }
}

/// A server for tokens of these issuers.
fn server_of(issuers: &[(&str, &Published)]) -> Server {
    let table = |(name, published): &(&str, &Published)| {
        let url = published.endpoint.url();
        format!(
            "[[issuers]]\nname = \"{name}\"\nuser_prefix = \"{}\"\naudience = [\"fanfare\"]\njwks_url = \"{url}\"\n",
            prefix(name)
        )
    };
    Server::launch().file(&issuers.iter().map(table).collect::<String>()).start()
}

/// What stands before the users of an issuer: those of the first are called as it calls them.
fn prefix(issuer: &str) -> &'static str {
    if issuer == FIRST { "" } else { "second:" }
}

const FIRST: &str = "https://first.example";
const SECOND: &str = "https://second.example";

/// What a connection with this token is told first.
fn enter(server: &Server, token: &str) -> Result<String, Response> {
    let field = format!("Authorization: Bearer {token}\r\n");
    RawClient::upgraded_with(server.address(), "/ws", &field).map(|(mut client, _)| client.recv_text())
}

fn assert_let_in(server: &Server, token: &str, user: &str) {
    // It is told to come back while the server does not know yet who is banned, or has no keys at all.
    let told = eventually(&format!("{user} is let in"), || match enter(server, token) {
        Err(refusal) if refusal.status == 503 => None,
        outcome => Some(outcome.unwrap_or_else(|refusal| panic!("{user}: {}", refusal.head))),
    });
    assert_eq!(told, format!(r#"{{"type":"SUBSCRIBED","room":"user:{user}"}}"#));
}

fn status(server: &Server, token: &str) -> u16 {
    enter(server, token).map_or_else(|refusal| refusal.status, |_| 101)
}

#[test]
fn tokens_come_in_by_their_own_issuers_keys_and_by_no_others() {
    let material = Material::make();
    let (first, second) = (Published::new(&material, &["rsa", "ec"]), Published::new(&material, &["other"]));
    let server = server_of(&[(FIRST, &first), (SECOND, &second)]);
    for (name, user) in [("rsa", "alice"), ("ec", "bob"), ("other", "second%3Adave")] {
        assert_let_in(&server, material.token(name), user);
    }
    for name in ["forged", "crossed", "crossedByName", "crossedBack", "stranger"] {
        assert_eq!(status(&server, material.token(name)), 401, "{name}");
    }
}

#[test]
fn a_new_key_is_found_and_one_that_is_gone_verifies_nothing() {
    let material = Material::make();
    let published = Published::new(&material, &["rsa", "ec"]);
    let server = server_of(&[(FIRST, &published)]);
    assert_let_in(&server, material.token("ec"), "bob");
    assert_eq!(status(&server, material.token("next")), 401);
    published.publish(&material, &["rsa", "next"]);
    eventually_within(REFRESHED, "a token of the new key comes in", || {
        (status(&server, material.token("next")) == 101).then_some(())
    });
    assert_let_in(&server, material.token("next"), "carol");
    assert_let_in(&server, material.token("rsa"), "alice");
    assert_eq!(status(&server, material.token("ec")), 401, "its key is gone");
}

#[test]
fn a_flood_of_unknown_keys_makes_a_few_requests_and_keeps_nobody_out() {
    let material = Material::make();
    let published = Published::new(&material, &["ec"]);
    let server = server_of(&[(FIRST, &published)]);
    assert_let_in(&server, material.token("ec"), "bob");
    thread::scope(|scope| {
        for tokens in material.unknown().chunks(25) {
            let (server, tokens) = (&server, tokens.to_vec());
            scope.spawn(move || tokens.iter().for_each(|token| assert_eq!(status(server, token), 401)));
        }
        assert_let_in(&server, material.token("ec"), "bob");
    });
    // One at the start, and one for each 30 s that the flood may take on a machine that is slow.
    assert!(published.fetches() <= 3, "{} requests for {} tokens", published.fetches(), material.unknown().len());
}
