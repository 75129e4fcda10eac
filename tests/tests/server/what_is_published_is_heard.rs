//! The connections that publish and subscribe may lead to different servers, which both answer. The server finds that out by a message to
//! itself.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use fanfare_tests::stored::{Place, hear, join, server as stored};
use fanfare_tests::{Client, Launch, Redis, Server, eventually};
use serde_json::{Value, json};

/// A name of Redis that leads to another server from some time on: connections that exist stay where they are.
struct Name {
    port: u16,
    leads_to: Arc<AtomicU16>,
    /// By the port from which each comes to Redis.
    connections: Arc<Mutex<Vec<(u16, TcpStream)>>>,
}

impl Name {
    fn of(redis: &Redis) -> Name {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let (leads_to, connections) = (Arc::new(AtomicU16::new(redis.port())), Arc::default());
        let name = Name { port, leads_to: Arc::clone(&leads_to), connections: Arc::clone(&connections) };
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(redis) = TcpStream::connect(("127.0.0.1", leads_to.load(Ordering::SeqCst))) else { continue };
                let from = redis.local_addr().expect("it is connected").port();
                forward(&client, &redis);
                forward(&redis, &client);
                connections.lock().expect("nobody panics").push((from, client));
            }
        });
        name
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Leads to another server, and one of the server's two connections breaks.
    fn leads_to(&self, to: &Redis, from: &Redis, breaks: Breaks) {
        self.leads_to.store(to.port(), Ordering::SeqCst);
        let is_it = |line: &&String| {
            line.contains(" name=fanfare-") && line.contains(" sub=0 ") == (breaks == Breaks::Publisher)
        };
        let clients = from.clients();
        let line = clients.iter().find(is_it).unwrap_or_else(|| panic!("it is not there: {clients:?}"));
        let address = line.split(' ').find_map(|field| field.strip_prefix("addr=127.0.0.1:")).expect("an address");
        let port: u16 = address.parse().expect("a port");
        let connections = self.connections.lock().expect("nobody panics");
        let (_, connection) = connections.iter().find(|(from, _)| *from == port).expect("it came this way");
        connection.shutdown(Shutdown::Both).expect("it is open");
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Breaks {
    Publisher,
    Subscriber,
}

fn forward(from: &TcpStream, to: &TcpStream) {
    let (mut from, mut to) = (from.try_clone().expect("a handle"), to.try_clone().expect("a handle"));
    thread::spawn(move || {
        // However it ends, both ends do.
        let _ = io::copy(&mut from, &mut to);
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    });
}

/// Long enough for a test to say something before it is noticed that nobody hears it.
fn patient(launch: Launch, name: &Name) -> Launch {
    launch.workers(1).flag("--redis-url", name.url()).args([
        "--redis-backoff-ms-max",
        "100",
        "--redis-probe-interval-ms",
        "500",
        "--redis-probe-timeout-ms",
        "3000",
    ])
}

/// How many connections of the server are there.
fn connections(redis: &Redis) -> usize {
    redis.clients().iter().filter(|line| line.contains(" name=fanfare-")).count()
}

fn wait_until_both_are_at(redis: &Redis, server: &Server) {
    eventually("both connections lead there", || (connections(redis) == 2).then_some(()));
    server.wait_until_ready();
}

/// How often Redis has been told this.
fn calls(redis: &Redis, command: &str) -> u32 {
    let counts = redis.cli(&["INFO", "commandstats"]);
    let beginning = format!("cmdstat_{command}:calls=");
    let rest = counts.lines().find_map(|line| line.strip_prefix(&beginning));
    rest.and_then(|rest| rest.split(',').next()).and_then(|count| count.parse().ok()).unwrap_or(0)
}

fn is_unheard(lost: &Value) -> bool {
    lost["reason"].as_str().is_some_and(|reason| reason.contains("what is published is not heard within 3000 ms"))
}

#[test]
fn a_subscriber_that_stays_behind_comes_after_and_members_are_told() {
    let (old, new) = (Redis::start(), Redis::start());
    let name = Name::of(&old);
    let server = patient(Server::launch(), &name).ops().start();
    let mut member = Client::member(&server, "r");
    let mut sender = Client::connect(&server);
    sender.publish_acknowledged("r", "1");
    member.expect_message("r", "1");

    name.leads_to(&new, &old, Breaks::Publisher);
    server.wait_for_log("redis lost");
    server.log().wait_for("redis connected", 2);
    // Redis has taken it, and nobody hears it: the next that the member is told is that it has missed something.
    sender.publish_acknowledged("r", r#""unheard""#);
    member.expect_interruption("r");
    assert!(is_unheard(&server.log().wait_for("redis lost", 2)), "{}", server.log().text());
    wait_until_both_are_at(&new, &server);
    sender.publish_acknowledged("r", "2");
    member.expect_message("r", "2");
    let metrics = server.metrics();
    assert_eq!(metrics.value(r#"fanfare_messages_dropped_total{reason="not_utf8"}"#), 0.0);
    assert_eq!(metrics.value("fanfare_broker_reconnects_total"), 2.0);
}

#[test]
fn a_publisher_that_stays_behind_comes_after() {
    let (old, new) = (Redis::start(), Redis::start());
    let name = Name::of(&old);
    let server = patient(Server::launch(), &name).ops().start();
    let mut member = Client::member(&server, "r");
    name.leads_to(&new, &old, Breaks::Subscriber);
    member.expect_interruption("r");
    // Another subscriber does not help, and is there for nothing: then the publisher goes as well.
    assert!(is_unheard(&server.log().wait_for("redis lost", 2)), "{}", server.log().text());
    wait_until_both_are_at(&new, &server);
    assert_eq!(connections(&old), 0);
    let mut sender = Client::connect(&server);
    sender.publish_acknowledged("r", "1");
    loop {
        let text = member.recv_json();
        match text["type"].as_str() {
            Some("GAP") => {}
            _ => break assert_eq!((&text["type"], &text["message"]), (&json!("MESSAGE"), &json!(1)), "{text}"),
        }
    }
}

#[test]
fn members_of_a_room_with_history_get_what_was_published_meanwhile() {
    const ROOM: &str = "chat:a";
    let old = Redis::launch().directive("repl-diskless-sync-delay 0").start();
    let new = Redis::launch().directive(&format!("replicaof 127.0.0.1 {}", old.port())).start();
    let name = Name::of(&old);
    let server = patient(stored(), &name).start();
    let (mut member, _) = join(&server, ROOM);
    let mut sender = Client::connect(&server);
    let send = |sender: &mut Client, message: &str| {
        sender.send_json(&json!({"type": "SEND_MESSAGE", "room": ROOM, "message": message, "id": 1}));
        let reply = sender.recv_json();
        assert_eq!(reply["type"], "ACK", "{reply}");
        Place::of(&reply)
    };
    let before = send(&mut sender, "before");
    assert_eq!(hear(&mut member, ROOM), (1, json!("before")));

    // It has all data, and becomes a master; the old one does not notice.
    let log = format!("fanfare:\u{1}log:{ROOM}");
    eventually("the replica has it", || (new.cli(&["EXISTS", &log]) == "1").then_some(()));
    new.cli(&["REPLICAOF", "NO", "ONE"]);
    name.leads_to(&new, &old, Breaks::Publisher);
    server.wait_for_log("redis lost");
    server.log().wait_for("redis connected", 2);
    let meanwhile = send(&mut sender, "meanwhile");
    assert_ne!(meanwhile.epoch, before.epoch);
    let gap = member.recv_json();
    assert_eq!((&gap["type"], &gap["reason"], &gap["fence"]), (&json!("GAP"), &json!("epoch"), &json!(1)), "{gap}");
    assert_eq!(hear(&mut member, ROOM), (2, json!("meanwhile")));
    assert!(is_unheard(&server.log().wait_for("redis lost", 2)), "{}", server.log().text());
}

/// What is allowed are rooms, each by its name.
#[test]
fn a_server_that_may_not_listen_to_itself_does_everything_else() {
    let redis = Redis::launch().user("limited", "pw", "~* resetchannels &fanfare:open +@all").start();
    let url = format!("redis://limited:pw@127.0.0.1:{}", redis.port());
    let mut server = Server::launch()
        .workers(1)
        .flag("--redis-url", url)
        .args(["--redis-probe-interval-ms", "50", "--redis-probe-timeout-ms", "5000", "--redis-backoff-ms-max", "100"])
        .ops()
        .start();
    let refused = server.wait_for_log("redis refuses the canary");
    assert!(refused["reason"].as_str().is_some_and(|reason| reason.contains("NOPERM")), "{refused}");
    let mut member = Client::member(&server, "open");
    for number in 1..=3 {
        member.publish("open", &number.to_string());
        member.expect_message("open", &number.to_string());
    }
    // Another connection is refused it as well, which is worth no second line.
    redis.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    member.expect_interruption("open");
    server.wait_until_ready();
    eventually("it is probed again and again", || (calls(&redis, "role") >= 20).then_some(()));
    assert_eq!(server.metrics().value("fanfare_broker_subscriptions_refused_total"), 0.0);
    assert_eq!(calls(&redis, "publish"), 3, "nothing else is published");
    drop(member);
    let log = server.log_to_its_end();
    assert_eq!((log.count("redis refuses the canary"), log.count("redis lost")), (1, 1), "{}", log.text());
}

#[test]
fn an_acl_of_single_channels_may_allow_it() {
    let rules = "~* resetchannels &fanfare:open &fanfare:?canary:* +@all";
    let redis = Redis::launch().user("limited", "pw", rules).start();
    let url = format!("redis://limited:pw@127.0.0.1:{}", redis.port());
    let launch = Server::launch().workers(1).flag("--redis-url", url).args(["--redis-probe-interval-ms", "50"]);
    let mut server = launch.start();
    eventually("it says something to itself again and again", || (calls(&redis, "publish") >= 5).then_some(()));
    let log = server.log_to_its_end();
    assert_eq!((log.count("redis refuses the canary"), log.count("redis lost")), (0, 0), "{}", log.text());
}

#[test]
fn no_client_can_say_or_hear_what_the_server_says_to_itself() {
    let redis = Redis::start();
    let server = Server::launch().workers(1).redis(&redis).args(["--redis-probe-interval-ms", "50"]).start();
    let channels = eventually("it listens to itself", || {
        let channels = redis.cli(&["PUBSUB", "CHANNELS", "fanfare:*"]);
        (!channels.is_empty()).then_some(channels)
    });
    let name = channels.strip_prefix("fanfare:\u{1}canary:fanfare-").unwrap_or_else(|| panic!("{channels:?}"));
    let room = format!("\u{1}canary:fanfare-{name}");
    let mut client = Client::connect(&server);
    for kind in ["SUBSCRIBE", "SEND_MESSAGE"] {
        client.send_json(&json!({"type": kind, "room": room, "message": 1, "id": 1}));
        client.expect_error("room_invalid");
    }
}
