//! Who is banned by the command of the server's own binary: open connections end on every instance, no new ones come in, and others
//! notice nothing. With Redis, and with a file.

use fanfare_tests::{
    Authority, DEADLINE, Group, Launch, RawClient, Redis, Response, Server, eventually, eventually_within, get,
};
use serde_json::Value;
use std::fs;
use std::time::Duration;

/// What the servers and the commands are configured with, as by one operator.
const CONFIG: &str = r#"
[auth]
secret = "a secret of thirty-two bytes or more"
"#;

/// Bans may be out of sight for ten seconds before a server is not ready.
const UNSEEN: Duration = Duration::from_secs(10 + DEADLINE.as_secs());

/// Instances that share their bans, and the place where those are.
struct Instances {
    servers: Vec<Server>,
    launch: Box<dyn Fn() -> Launch>,
}

impl Instances {
    fn start(count: usize, launch: impl Fn() -> Launch + 'static) -> Instances {
        Instances { servers: (0..count).map(|_| launch().start()).collect(), launch: Box::new(launch) }
    }

    /// What a command of the binary prints on stdout and on stderr.
    fn run(&self, arguments: &[&str]) -> (String, String) {
        let output = (self.launch)().args(arguments).run();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("output is UTF-8");
        (text(&output.stdout), text(&output.stderr))
    }

    fn token(&self, user: &str, id: &str) -> String {
        self.run(&["token", "--user", user, "--id", id]).0.trim_end().to_owned()
    }

    /// A connection to every instance, each in the room of its user.
    fn connect(&self, token: &str) -> Vec<RawClient> {
        let let_in = |server| match enter(server, token) {
            // It does not know yet who is banned.
            Err(refusal) if refusal.status == 503 => None,
            outcome => Some(outcome.unwrap_or_else(|refusal| panic!("{}", refusal.head))),
        };
        self.servers.iter().map(|server| eventually("it is let in", || let_in(server))).collect()
    }

    /// The status and the error with which every instance refuses it.
    fn assert_refused(&self, token: &str, status: u16, error: &str) {
        for server in &self.servers {
            let response = enter(server, token).err().expect("a refusal");
            let body: Value = serde_json::from_str(&response.text()).expect("a refusal says why in JSON");
            assert_eq!((response.status, body["error"].as_str()), (status, Some(error)), "{body}");
        }
    }

    fn wait_until_let_in(&self, token: &str) {
        for server in &self.servers {
            eventually("who is not banned any more is let in", || enter(server, token).ok());
        }
    }
}

fn enter(server: &Server, token: &str) -> Result<RawClient, Response> {
    let field = format!("Authorization: Bearer {token}\r\n");
    let (mut client, _) = RawClient::upgraded_with(server.address(), "/ws", &field)?;
    assert!(client.recv_text().starts_with(r#"{"type":"SUBSCRIBED","room":"user:"#));
    Ok(client)
}

fn assert_open(clients: &mut [RawClient]) {
    for client in clients {
        client.send_text(r#"{"type":"PING","id":1}"#);
        assert_eq!(client.recv_text(), r#"{"type":"PONG","id":1}"#);
    }
}

fn assert_closed(clients: &mut [RawClient], code: u16) {
    for client in clients {
        assert_eq!(client.recv_close(), Some(code));
    }
}

/// The command that lifts a ban, which the command that made it tells.
fn lifting(hint: &str) -> Vec<String> {
    let command = hint.split_once("to lift it: ").expect("it says how to lift it").1;
    command.split_whitespace().map(|word| word.trim_matches('"').to_owned()).collect()
}

fn bans_are_in_force(instances: &Instances) {
    let [eve, lost, kept, dave, bob] =
        [("eve", "e"), ("carol", "lost"), ("carol", "kept"), ("dave", "d"), ("bob", "b")]
            .map(|(user, id)| instances.token(user, id));
    let [mut eves, mut losts, mut kepts, mut daves, mut bobs] =
        [&eve, &lost, &kept, &dave, &bob].map(|token| instances.connect(token));
    assert_eq!(instances.run(&["bans"]).0, "nobody is banned\n");

    let of_eve = instances.run(&["ban", "--user", "eve", "--for", "1h"]).1;
    assert_closed(&mut eves, 4503);
    instances.assert_refused(&eve, 403, "forbidden");
    let of_token = instances.run(&["ban", "--token", "lost", "--for", "1h"]).1;
    assert_closed(&mut losts, 4001);
    instances.assert_refused(&lost, 401, "token_expired");
    let of_dave = instances.run(&["ban", "--issued-before", "now", "--user", "dave", "--for", "1h"]).1;
    assert_closed(&mut daves, 4001);
    instances.assert_refused(&dave, 401, "token_expired");
    // Neither another token of the same user nor another user.
    assert_open(&mut kepts);
    assert_open(&mut bobs);
    drop(instances.connect(&kept));

    // By a command it is no better.
    for server in &instances.servers {
        let mut client = RawClient::upgraded(server.address());
        client.send_text(&format!(r#"{{"type":"AUTH","token":"{eve}","id":1}}"#));
        let reply: Value = serde_json::from_str(&client.recv_text()).expect("JSON");
        assert_eq!((reply["type"].as_str(), reply["code"].as_str()), (Some("ERROR"), Some("forbidden")), "{reply}");
    }

    let list = instances.run(&["bans"]).0;
    for line in ["  --user eve\n", "  --token lost\n", "  --issued-before 2"] {
        assert!(list.contains(line), "{line:?} is not in:\n{list}");
    }
    assert_eq!(list.lines().count(), 3, "{list}");

    for (hint, token) in [(of_eve, &eve), (of_token, &lost), (of_dave, &dave)] {
        let command = lifting(&hint);
        instances.run(&command.iter().map(String::as_str).collect::<Vec<_>>());
        instances.wait_until_let_in(token);
    }
    assert_eq!(instances.run(&["bans"]).0, "nobody is banned\n");

    instances.run(&["ban", "--issued-before", "now", "--for", "1h"]);
    assert_closed(&mut kepts, 4001);
    assert_closed(&mut bobs, 4001);
    instances.assert_refused(&bob, 401, "token_expired");
}

#[test]
fn on_two_instances_with_one_redis() {
    let redis = Redis::start();
    let url = redis.url();
    let launch = move || Server::launch().file(CONFIG).flag("--redis-url", &url);
    bans_are_in_force(&Instances::start(2, launch));
}

#[test]
fn on_two_instances_with_one_redis_by_tls() {
    let authority = Authority::new();
    authority.write("redis", &["127.0.0.1"]);
    let redis = Redis::launch().tls(&authority, "redis").directive("tls-auth-clients no").start();
    let (url, ca_file) = (redis.tls_url(), authority.ca_file().display().to_string());
    let launch = move || Server::launch().file(CONFIG).flag("--redis-url", &url).flag("--redis-tls-ca-file", &ca_file);
    bans_are_in_force(&Instances::start(2, launch));
}

/// Bans are replicated as everything else is.
#[test]
fn behind_sentinels_also_after_a_failover() {
    let group = Group::start(2, |launch| launch);
    let url = group.url();
    let launch = move || Server::launch().file(CONFIG).flag("--redis-url", &url).ops();
    let instances = Instances::start(2, launch);
    let [eve, dave, bob] = ["eve", "dave", "bob"].map(|user| instances.token(user, user));
    let mut eves = instances.connect(&eve);
    instances.run(&["ban", "--user", "eve", "--for", "1h"]);
    assert_closed(&mut eves, 4503);

    group.fail_over();
    instances.servers.iter().for_each(Server::wait_until_ready);
    instances.assert_refused(&eve, 403, "forbidden");
    let [mut daves, mut bobs] = [&dave, &bob].map(|token| instances.connect(token));
    instances.run(&["ban", "--user", "dave", "--for", "1h"]);
    assert_closed(&mut daves, 4503);
    let list = instances.run(&["bans"]).0;
    assert!(list.contains("--user eve") && list.contains("--user dave"), "{list}");
    instances.run(&["unban", "--user", "eve"]);
    instances.wait_until_let_in(&eve);
    assert_open(&mut bobs);
}

#[test]
fn bans_that_are_not_seen_are_told_of_and_make_a_server_unready() {
    let folder = std::env::temp_dir().join(format!("fanfare-bans-unseen-{}", std::process::id()));
    fs::create_dir(&folder).expect("the folder is new");
    let file = folder.join("bans");
    let server = Server::launch().embedded().ops().file(CONFIG).flag("--auth-bans-file", file.display()).start();
    let unseen = "fanfare_auth_bans_unseen_seconds";
    server.wait_until_ready();
    assert!(server.metrics().value(unseen) < 10.0);
    // What stands there is no file any more.
    fs::create_dir(&file).expect("nothing is there");
    let told = server.wait_for_log("bans may be out of date: those that are known stay in force");
    let error = told["error"].as_str().expect("it says why");
    assert!(error.starts_with("bans are not seen since 2"), "{told}");
    eventually_within(UNSEEN, "it is not ready", || (get(server.address(), "/readyz").status == 503).then_some(()));
    server.wait_for_metrics("they are not seen", |metrics| metrics.value(unseen) >= 10.0);
    fs::remove_dir(&file).expect("it is empty");
    server.wait_until_ready();
    server.wait_for_metrics("they are seen", |metrics| metrics.value(unseen) < 10.0);
    drop(server);
    fs::remove_dir_all(&folder).expect("the server has ended");
}

#[test]
fn on_an_instance_alone_by_a_file() {
    let file = std::env::temp_dir().join(format!("fanfare-bans-of-one-{}", std::process::id()));
    let path = file.display().to_string();
    // Without Redis, because with it bans are kept there.
    let launch = move || Server::launch().embedded().file(CONFIG).flag("--auth-bans-file", &path);
    bans_are_in_force(&Instances::start(1, launch));
    for ending in ["", ".lock", ".new"] {
        let _ = std::fs::remove_file(format!("{}{ending}", file.display()));
    }
}
