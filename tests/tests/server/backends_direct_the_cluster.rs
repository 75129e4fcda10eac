//! Backends list and end connections, take them out of rooms, list rooms, ban, and have instances let clients go: of all instances,
//! whichever is asked.

use fanfare_tests::backend::{ALL, READER, ask_api, assert_problem, order, with_api};
use fanfare_tests::{Client, Launch, RawClient, Redis, Server, code, eventually};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const CONFIG: &str = r#"
[auth]
secret = "a secret of thirty-two bytes or more"
own_rooms = "off"
"#;

/// Instances whose users show tokens.
struct Cluster {
    servers: [Server; 2],
    token_of: Box<dyn Fn(&str) -> String>,
    _redis: Redis,
}

impl Cluster {
    fn start() -> Cluster {
        let redis = Redis::start();
        let url = redis.url();
        let launch = move || with_api(Server::launch().file(CONFIG).flag("--redis-url", &url));
        let servers = [0, 1].map(|_| launch().start());
        let cluster = Cluster { servers, token_of: Box::new(move |user| token(launch(), user)), _redis: redis };
        cluster.wait_until_they_hear_each_other();
        cluster
    }

    /// They are not waited for when they start.
    fn wait_until_they_hear_each_other(&self) {
        for server in &self.servers {
            eventually("both hear orders", || {
                let response = ask_api(server, ALL, "GET /v1/cluster", "", "");
                let answer: Value = serde_json::from_slice(&response.body).ok()?;
                (answer["reach"] == json!({"answered": 2, "of": 2})).then_some(())
            });
        }
    }

    /// A member of the room `r` at this instance.
    fn enter(&self, server: usize, user: &str) -> RawClient {
        let field = format!("Authorization: Bearer {}\r\n", (self.token_of)(user));
        let mut client = eventually("it is let in", || {
            let entered = RawClient::upgraded_with(self.servers[server].address(), "/?room=r", &field);
            entered.ok().map(|(client, _)| client)
        });
        assert!(client.recv_text().starts_with(r#"{"type":"SUBSCRIBED","room":"r""#));
        client
    }
}

fn token(launch: Launch, user: &str) -> String {
    let output = launch.args(["token", "--user", user]).run();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout).expect("a token is ASCII").trim_end().to_owned()
}

fn reach() -> Value {
    json!({"answered": 2, "of": 2})
}

#[test]
fn connections_of_a_user_are_listed_and_ended_wherever_they_are() {
    let cluster = Cluster::start();
    let mut bobs = [cluster.enter(0, "bob"), cluster.enter(1, "bob")];
    let mut eve = cluster.enter(1, "eve");
    let [asked, other] = &cluster.servers;
    let listed = order(asked, "GET /v1/users/bob/connections", &Value::Null);
    assert_eq!((&listed["total"], &listed["reach"]), (&json!(2), &reach()), "{listed}");
    let connections = listed["connections"].as_array().expect("a list");
    assert!(connections.iter().all(|one| one["user"] == "bob" && one["rooms"] == json!(["r"])), "{listed}");
    let name = connections[0]["connection"].as_str().expect("a name");

    // One of them, by its name, asked of either.
    assert_eq!(order(other, "POST /v1/disconnect", &json!({"connection": name}))["connections"], 1);
    let ended = order(asked, "POST /v1/disconnect", &json!({"user": "bob", "code": 4100, "reason": "moved"}));
    assert_eq!(ended, json!({"connections": 1, "reach": reach()}));
    let codes: BTreeSet<_> = bobs.iter_mut().map(RawClient::recv_close).collect();
    assert_eq!(codes, BTreeSet::from([Some(4500), Some(4100)]));
    eve.send_text(r#"{"type":"PING","id":1}"#);
    assert_eq!(eve.recv_text(), r#"{"type":"PONG","id":1}"#);
    assert_eq!(order(asked, "GET /v1/users/bob/connections", &Value::Null)["total"], 0);
}

#[test]
fn members_are_taken_out_of_a_room_everywhere() {
    let cluster = Cluster::start();
    let mut members = [cluster.enter(0, "bob"), cluster.enter(1, "eve")];
    let mut mute = RawClient::upgraded_with(
        cluster.servers[1].address(),
        "/broadcast/r",
        &format!("Authorization: Bearer {}\r\n", (cluster.token_of)("eve")),
    )
    .expect("it is let in")
    .0;
    eventually("all are there", || {
        let rooms = order(&cluster.servers[0], "GET /v1/rooms", &Value::Null);
        (rooms["rooms"] == json!([{"room": "r", "members": 3}])).then_some(())
    });
    let out = order(&cluster.servers[0], "POST /v1/unsubscribe", &json!({"all": true, "room": "r"}));
    assert_eq!(out, json!({"connections": 3, "reach": reach()}));
    for member in &mut members {
        assert_eq!(member.recv_text(), r#"{"type":"UNSUBSCRIBED","room":"r","code":"removed"}"#);
    }
    assert_eq!(mute.recv_close(), Some(4500));
}

#[test]
fn rooms_of_all_instances_are_paged() {
    let redis = Redis::start();
    let servers = [0, 1].map(|_| with_api(Server::launch().redis(&redis)).start());
    let mut clients = [0, 1].map(|server| Client::connect(&servers[server]));
    for (client, rooms) in clients.iter_mut().zip([["a", "b", "d"], ["b", "c", "e"]]) {
        rooms.into_iter().for_each(|room| client.subscribe(room));
    }
    let page = |query: &str| order(&servers[1], &format!("GET /v1/rooms{query}"), &Value::Null);
    let named = |page: &Value| -> Vec<(String, u64)> {
        let rooms = page["rooms"].as_array().expect("rooms").iter();
        rooms.map(|room| (room["room"].as_str().unwrap().to_owned(), room["members"].as_u64().unwrap())).collect()
    };
    let expected = |rooms: &[(&str, u64)]| -> Vec<(String, u64)> {
        rooms.iter().map(|(room, members)| ((*room).to_owned(), *members)).collect()
    };
    eventually("both instances answer", || (page("")["reach"] == reach()).then_some(()));
    let first = page("?limit=3");
    assert_eq!((named(&first), &first["more"]), (expected(&[("a", 1), ("b", 2), ("c", 1)]), &json!(true)), "{first}");
    let second = page("?limit=3&after=c");
    assert_eq!((named(&second), &second["more"]), (expected(&[("d", 1), ("e", 1)]), &json!(false)), "{second}");
    assert_eq!(named(&page("?prefix=e")), expected(&[("e", 1)]));
}

#[test]
fn bans_are_made_listed_and_lifted() {
    let cluster = Cluster::start();
    let mut bob = cluster.enter(1, "bob");
    let [asked, other] = &cluster.servers;
    let ban = order(asked, "POST /v1/bans", &json!({"user": "bob", "for_s": 3600}));
    assert!(ban["user"] == "bob" && ban["until_ms"].as_u64().is_some(), "{ban}");
    assert_eq!(bob.recv_close(), Some(4503));
    assert_eq!(order(other, "GET /v1/bans", &Value::Null), json!({"bans": [ban]}));
    assert_eq!(order(other, "DELETE /v1/bans", &json!({"user": "bob"})), Value::Null);
    assert_problem(&ask_api(other, ALL, "DELETE /v1/bans", "", r#"{"user":"bob"}"#), 404, "ban_unknown");
    drop(cluster.enter(0, "bob"));
}

#[test]
fn an_instance_is_drained_by_its_name_and_a_share_of_another_goes() {
    let mut cluster = Cluster::start();
    let mut clients: Vec<RawClient> = (0..4).map(|_| cluster.enter(0, "bob")).collect();
    let [one, other] = &cluster.servers;
    let all = order(one, "GET /v1/cluster", &Value::Null);
    let listed = all["instances"].as_array().expect("instances");
    let name_of = |server: &Server| {
        let address = server.address().to_string();
        let at = listed
            .iter()
            .find(|instance| instance["connections"] == u64::from(address == one.address().to_string()) * 4);
        at.and_then(|instance| instance["instance"].as_str()).unwrap_or_else(|| panic!("{all}")).to_owned()
    };
    let (first, second) = (name_of(one), name_of(other));
    assert!(listed.iter().all(|instance| instance["ready"] == true && instance["draining"] == false), "{all}");

    let shed = order(other, "POST /v1/shed", &json!({"share": 0.5, "instance": first}));
    assert_eq!(shed["instances"][0]["instance"], first, "{shed}");
    let told = |client: &mut RawClient| {
        client.send_text(r#"{"type":"PING","id":1}"#);
        client.recv_text().contains("DRAIN")
    };
    assert_eq!(clients.iter_mut().filter_map(|client| told(client).then_some(())).count(), 2);

    let unknown = ask_api(one, ALL, "POST /v1/drain", "", r#"{"instance":"nobody"}"#);
    assert_problem(&unknown, 404, "instance_unknown");
    order(one, "POST /v1/drain", &json!({"instance": second}));
    assert_eq!(cluster.servers[1].wait_for_exit().code(), Some(0));
    eventually("one is left", || {
        let all = order(&cluster.servers[0], "GET /v1/cluster", &Value::Null);
        (all["reach"] == json!({"answered": 1, "of": 1})).then_some(())
    });
}

#[test]
fn what_is_wrong_is_told() {
    let server = with_api(Server::launch()).start();
    let post = |path: &str, body: &str| ask_api(&server, ALL, &format!("POST {path}"), "", body);
    for (path, body) in [
        ("/v1/disconnect", "{}"),
        ("/v1/disconnect", r#"{"user":"a","connection":"b"}"#),
        ("/v1/disconnect", r#"{"connection":"b"}"#),
        ("/v1/disconnect", r#"{"user":"a","code":1000}"#),
        ("/v1/unsubscribe", r#"{"room":"a"}"#),
        ("/v1/shed", r#"{"share":2}"#),
    ] {
        assert_problem(&post(path, body), 400, "bad_field");
    }
    for request in ["GET /v1/cluster", "GET /v1/rooms", "GET /v1/users/a/connections", "GET /v1/bans"] {
        assert_problem(&ask_api(&server, READER, request, "", ""), 403, "forbidden");
    }
    assert_problem(&ask_api(&server, ALL, "GET /v1/rooms?limit=0", "", ""), 400, "bad_field");
    let reason = "x".repeat(124);
    assert_problem(&post("/v1/disconnect", &json!({"user": "a", "reason": reason}).to_string()), 400, "bad_field");
}

#[test]
fn without_a_broker_an_instance_is_alone() {
    let server = with_api(Server::launch().embedded()).start();
    let mut member = Client::connect(&server);
    member.subscribe("r");
    assert_eq!(order(&server, "GET /v1/cluster", &Value::Null)["reach"], json!({"answered": 1, "of": 1}));
    assert_eq!(order(&server, "POST /v1/unsubscribe", &json!({"all": true, "room": "r"}))["connections"], 1);
    member.expect(r#"{"type":"UNSUBSCRIBED","room":"r","code":"removed"}"#);
    assert_problem(&ask_api(&server, ALL, "GET /v1/bans", "", ""), 409, "bans_unavailable");
    let shed = order(&server, "POST /v1/shed", &json!({"share": 1}));
    assert_eq!(shed["reach"], json!({"answered": 1, "of": 1}), "{shed}");
    assert_eq!(member.recv_json()["type"], "DRAIN");
    assert_eq!(member.recv_close(), code::RESTART);
}
