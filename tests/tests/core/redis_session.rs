//! The Redis session of `fanfare-core` against a real `redis-server`, driven by plain blocking sockets.

mod presence;

use fanfare_tests::redis_config;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use fanfare_core::broker::redis::{Address, ConnectionRequest, LinkId, RedisBroker, RedisConfig, Topology};
use fanfare_core::broker::{BrokerEvent, PublishError, PublishId};
use fanfare_core::time::Time;

/// Longer than anything here takes; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server of its own port and folder, which ends with the test.
struct RedisServer {
    port: u16,
    folder: PathBuf,
    options: Vec<String>,
    process: Child,
}

impl RedisServer {
    fn start(options: &[&str]) -> RedisServer {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("fanfare-redis-session-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let options: Vec<String> = options.iter().map(|option| option.to_string()).collect();
        // Somebody else may take the free port first: then the server ends at once, and another is tried.
        for _ in 0..20 {
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
            let mut process = RedisServer::spawn(port, &folder, &options);
            if RedisServer::is_ready(port, &mut process) {
                return RedisServer { port, folder, options, process };
            }
        }
        panic!("redis-server does not start");
    }

    fn spawn(port: u16, folder: &PathBuf, options: &[String]) -> Child {
        Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(options)
            .current_dir(folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is installed")
    }

    fn is_ready(port: u16, process: &mut Child) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if process.try_wait().unwrap().is_some() {
                return false;
            }
            if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                // Ours and not somebody else's: it would have ended otherwise.
                std::thread::sleep(Duration::from_millis(20));
                return process.try_wait().unwrap().is_none();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    fn restart(&mut self) {
        self.process = RedisServer::spawn(self.port, &self.folder, &self.options);
        assert!(RedisServer::is_ready(self.port, &mut self.process), "redis-server restarts on its port");
    }

    /// A connection to look and meddle with.
    fn control(&self, password: &str) -> redis::Connection {
        let credentials = if password.is_empty() { String::new() } else { format!(":{password}@") };
        let url = format!("redis://{credentials}127.0.0.1:{}", self.port);
        redis::Client::open(url).unwrap().get_connection().unwrap()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// An event that may be kept.
#[derive(Clone, Debug, PartialEq)]
enum Heard {
    Up,
    Down,
    PublisherUp,
    PublisherDown,
    Subscribed(String),
    Unsubscribed(String),
    SubscribeFailed(String, String),
    Message(String, Vec<u8>),
    Published(u64),
    PublishFailed(u64, PublishError),
    PresenceKept(u64, u32),
    PresenceFailed(u64),
    /// How many users there are.
    Roster(u64, u32),
    PresenceLost,
}

/// A driver, and of the hub as much as resubscribes.
struct Driver {
    session: RedisBroker,
    sockets: BTreeMap<LinkId, TcpStream>,
    start: Instant,
    heard: Vec<Heard>,
    wanted: BTreeSet<String>,
    to_ask: Vec<String>,
}

impl Driver {
    fn new(server: &RedisServer, mut config: RedisConfig) -> Driver {
        let address = Address::Tcp { host: Ipv4Addr::LOCALHOST.to_string(), port: server.port };
        config.topology = Topology::Single(address);
        Driver {
            session: RedisBroker::new(config),
            sockets: BTreeMap::new(),
            start: Instant::now(),
            heard: Vec::new(),
            wanted: BTreeSet::new(),
            to_ask: Vec::new(),
        }
    }

    /// A driver with both connections up.
    fn up(server: &RedisServer, config: RedisConfig) -> Driver {
        let mut driver = Driver::new(server, config);
        driver.until("both connections up", |driver| driver.session.stats().trouble().is_none());
        driver
    }

    fn now(&self) -> Time {
        Time::ZERO + self.start.elapsed()
    }

    fn subscribe(&mut self, room: &str) {
        self.wanted.insert(room.to_owned());
        self.to_ask.push(room.to_owned());
    }

    fn publish(&mut self, room: &str, payload: &[u8], id: u64) {
        self.session.publish(room, payload, Some(PublishId::new(id)));
    }

    /// One turn, in the order that the session's guide asks for.
    fn turn(&mut self) {
        let now = self.now();
        let mut heard = Vec::new();
        for link in self.session.links() {
            self.read(link, now, &mut heard);
        }
        self.session.timeout(now);
        self.session.poll_events(|event| heard.push(Heard::from(event)));
        for event in &heard {
            match event {
                Heard::Up => self.to_ask = self.wanted.iter().cloned().collect(),
                Heard::Down => self.to_ask.clear(),
                _ => {}
            }
        }
        self.heard.append(&mut heard);
        // As many per turn as the hub asks for.
        for room in self.to_ask.split_off(self.to_ask.len().saturating_sub(512)) {
            self.session.subscribe(&room);
        }
        while let Some((link, request)) = self.session.poll_connection(now) {
            self.sockets.remove(&link);
            if let ConnectionRequest::Open { address } = request {
                match TcpStream::connect(address.to_string()) {
                    Ok(socket) => {
                        socket.set_nodelay(true).unwrap();
                        socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
                        self.sockets.insert(link, socket);
                        self.session.connected(link, now);
                    }
                    Err(error) => self.session.disconnected(link, &error.to_string(), now),
                }
            }
        }
        for link in self.session.links() {
            let output = self.session.output(link);
            let written = match self.sockets.get_mut(&link) {
                Some(socket) if !output.is_empty() => socket.write(output),
                _ => continue,
            };
            match written {
                Ok(len) => self.session.written(link, len),
                Err(error) => self.lost(link, &error.to_string(), now),
            }
        }
    }

    fn read(&mut self, link: LinkId, now: Time, heard: &mut Vec<Heard>) {
        let Some(socket) = self.sockets.get_mut(&link) else {
            std::thread::sleep(Duration::from_millis(1));
            return;
        };
        let mut buffer = [0; 16 * 1024];
        match socket.read(&mut buffer) {
            Ok(0) => self.lost(link, "end of file", now),
            Ok(len) => self.session.input(link, &buffer[..len], now, |event| heard.push(Heard::from(event))),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => self.lost(link, &error.to_string(), now),
        }
    }

    fn lost(&mut self, link: LinkId, reason: &str, now: Time) {
        self.sockets.remove(&link);
        self.session.disconnected(link, reason, now);
    }

    fn until(&mut self, what: &str, mut is_so: impl FnMut(&Driver) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(Instant::now() < deadline, "no {what}; {:?}; heard {:?}", self.session.stats(), self.heard);
            self.turn();
        }
    }

    fn until_heard(&mut self, event: Heard) {
        self.until(&format!("{event:?}"), |driver| driver.heard.contains(&event));
    }

    fn subscribed_count(&self) -> usize {
        self.heard.iter().filter(|event| matches!(event, Heard::Subscribed(_))).count()
    }
}

impl From<BrokerEvent<'_>> for Heard {
    fn from(event: BrokerEvent<'_>) -> Heard {
        match event {
            BrokerEvent::Up => Heard::Up,
            BrokerEvent::Down { .. } => Heard::Down,
            BrokerEvent::PublisherUp => Heard::PublisherUp,
            BrokerEvent::PublisherDown { .. } => Heard::PublisherDown,
            BrokerEvent::Subscribed { room } => Heard::Subscribed(room.to_owned()),
            BrokerEvent::Unsubscribed { room } => Heard::Unsubscribed(room.to_owned()),
            BrokerEvent::SubscribeFailed { room, reason } => Heard::SubscribeFailed(room.to_owned(), reason.to_owned()),
            BrokerEvent::Message { room, payload } => Heard::Message(room.to_owned(), payload.to_owned()),
            BrokerEvent::Published { id, .. } => Heard::Published(id.number()),
            BrokerEvent::PublishFailed { id, error } => Heard::PublishFailed(id.number(), error),
            BrokerEvent::PresenceKept { id, connections } => Heard::PresenceKept(id.number(), connections),
            BrokerEvent::PresenceFailed { id, .. } => Heard::PresenceFailed(id.number()),
            BrokerEvent::Roster { id, page } => Heard::Roster(id.number(), page.total),
            BrokerEvent::PresenceLost => Heard::PresenceLost,
            other => panic!("not heard of before: {other:?}"),
        }
    }
}

fn subscribers(control: &mut redis::Connection, channel: &str) -> u64 {
    let (_, count): (String, u64) = redis::cmd("PUBSUB").arg("NUMSUB").arg(channel).query(control).unwrap();
    count
}

#[test]
fn what_is_published_comes_back_as_it_was() {
    let server = RedisServer::start(&[]);
    let mut driver = Driver::up(&server, redis_config(|config| config.message_bytes_max = 200_000));
    driver.subscribe("räume");
    driver.until_heard(Heard::Subscribed("räume".to_owned()));
    let payloads: [&[u8]; 5] = [b"hello", b"", b"a\r\nb\0\xff", &[b'x'; 200_000], b"last"];
    for (id, payload) in payloads.iter().enumerate() {
        driver.publish("räume", payload, id as u64);
    }
    driver.publish("räume", &[b'x'; 200_001], 5);
    driver.publish("elsewhere", b"not for us", 6);
    driver.publish("räume", b"end", 7);
    driver.until_heard(Heard::Published(7));
    driver.until_heard(Heard::Message("räume".to_owned(), b"end".to_vec()));
    let messages: Vec<_> = driver
        .heard
        .iter()
        .filter_map(|event| match event {
            Heard::Message(_, payload) => Some(payload.as_slice()),
            _ => None,
        })
        .collect();
    assert_eq!(messages, [&payloads[..], &[b"end"]].concat());
    let published: Vec<_> = driver.heard.iter().filter(|event| matches!(event, Heard::Published(_))).cloned().collect();
    assert_eq!(published, (0..8).map(Heard::Published).collect::<Vec<_>>());
    assert_eq!(driver.session.stats().oversized, 1);

    driver.session.unsubscribe("räume");
    driver.until_heard(Heard::Unsubscribed("räume".to_owned()));
    assert_eq!(subscribers(&mut server.control(""), "fanfare:räume"), 0);
}

#[test]
fn a_message_from_elsewhere_is_heard() {
    let server = RedisServer::start(&[]);
    let mut driver = Driver::up(&server, RedisConfig::default());
    driver.subscribe("room1");
    driver.until_heard(Heard::Subscribed("room1".to_owned()));
    let receivers: u64 =
        redis::cmd("PUBLISH").arg("fanfare:room1").arg("hello").query(&mut server.control("")).unwrap();
    assert_eq!(receivers, 1);
    driver.until_heard(Heard::Message("room1".to_owned(), b"hello".to_vec()));
}

#[test]
fn password_database_and_name_are_set_up() {
    let server = RedisServer::start(&["--requirepass", "correct-horse"]);
    let config = redis_config(|config| {
        config.password = Some("correct-horse".to_owned());
        config.database = 3;
        config.client_name = "fanfare a".to_owned();
    });
    let driver = Driver::up(&server, config);
    let list: String = redis::cmd("CLIENT").arg("LIST").query(&mut server.control("correct-horse")).unwrap();
    let ours = list.lines().filter(|line| line.contains(" name=fanfare-a ") && line.contains(" db=3 "));
    assert_eq!(ours.filter(|line| line.contains(" resp=3")).count(), 2, "{list}");
    drop(driver);
}

#[test]
fn refusals_are_told_without_the_password() {
    let server = RedisServer::start(&["--requirepass", "correct-horse"]);
    for (password, database, reason) in [
        (Some("battery-staple"), 0, "HELLO refused: it does not know this user and password (WRONGPASS "),
        (None, 0, "HELLO refused: it wants a password, and none is given (NOAUTH "),
        (Some("correct-horse"), 99, "SELECT refused: ERR DB index is out of range"),
    ] {
        let password = password.map(str::to_owned);
        let mut driver = Driver::new(
            &server,
            redis_config(|config| {
                config.password = password;
                config.database = database;
            }),
        );
        driver.until("refusal", |driver| driver.session.stats().publisher.last_error.is_some());
        let told = driver.session.stats().publisher.last_error.unwrap();
        assert!(told.starts_with(reason), "{told}");
        let of_failure = |event: &Heard| matches!(event, Heard::Down | Heard::PublisherDown);
        assert!(driver.heard.contains(&Heard::PublisherDown) && driver.heard.iter().all(of_failure));
    }
}

#[test]
fn a_server_without_hello_serves_in_resp2() {
    let server = RedisServer::start(&["--requirepass", "correct-horse", "--rename-command", "HELLO", ""]);
    // Without a canary, which would spare it the PINGs.
    let rules = ["resetchannels", "&fanfare:a", "&fanfare:b"];
    let _: () = redis::cmd("ACL")
        .arg("SETUSER")
        .arg("default")
        .arg(&rules[..])
        .query(&mut server.control("correct-horse"))
        .unwrap();
    let mut config = redis_config(|config| {
        config.password = Some("correct-horse".to_owned());
        config.database = 2;
        config.probe_interval = Duration::from_millis(50);
    });
    let mut driver = Driver::up(&server, config.clone());
    driver.subscribe("a");
    driver.subscribe("b");
    driver.until_heard(Heard::Subscribed("b".to_owned()));
    driver.publish("a", b"hi", 1);
    driver.until_heard(Heard::Message("a".to_owned(), b"hi".to_vec()));
    driver.until_heard(Heard::Published(1));
    // Some probes are answered: as an array by a connection that subscribes.
    let probed_until = Instant::now() + Duration::from_millis(300);
    driver.until("time for probes", |_| Instant::now() > probed_until);
    let list: String = redis::cmd("CLIENT").arg("LIST").query(&mut server.control("correct-horse")).unwrap();
    // Who subscribes in RESP2 may not ask for the role; who publishes does.
    for command in ["ping", "role"] {
        let probed = |line: &&str| line.contains(&format!(" cmd={command} ")) && line.contains(" resp=2");
        assert_eq!(list.lines().filter(probed).count(), 1, "{list}");
    }
    assert_eq!(driver.session.stats().trouble(), None);
    assert_eq!(driver.session.stats().reconnects, 0);

    config.password = Some("correct-hors".to_owned());
    let mut driver = Driver::new(&server, config);
    driver.until("refusal", |driver| driver.session.stats().subscriber.last_error.is_some());
    let told = driver.session.stats().subscriber.last_error.unwrap();
    assert!(
        told.starts_with("AUTH refused: it does not know this user and password (WRONGPASS")
            && !told.contains("correct"),
        "{told}"
    );
}

#[test]
fn a_user_may_be_restricted_to_some_channels() {
    let server = RedisServer::start(&[]);
    let mut control = server.control("");
    let rules = ["on", ">hunter2", "resetchannels", "&fanfare:open-*", "+publish", "+subscribe", "+unsubscribe"];
    let _: () = redis::cmd("ACL").arg("SETUSER").arg("ann").arg(&rules[..]).query(&mut control).unwrap();
    let config = redis_config(|config| {
        config.username = Some("ann".to_owned());
        config.password = Some("hunter2".to_owned());
        // PING is not among her rights: its refusal is a sign of life, too.
        config.probe_interval = Duration::from_millis(20);
    });
    let mut driver = Driver::up(&server, config);
    for room in ["open-1", "closed", "open-2"] {
        driver.subscribe(room);
    }
    driver.until_heard(Heard::Subscribed("open-1".to_owned()));
    driver.until_heard(Heard::Subscribed("open-2".to_owned()));
    driver.until("refusal", |driver| {
        let refused = |event: &Heard| {
            matches!(event, Heard::SubscribeFailed(room, reason) if room == "closed" && reason.contains("NOPERM"))
        };
        driver.heard.iter().any(refused)
    });
    driver.publish("open-1", b"hi", 1);
    driver.publish("closed", b"no", 2);
    driver.publish("open-2", b"ho", 3);
    driver.until_heard(Heard::Message("open-2".to_owned(), b"ho".to_vec()));
    driver.until_heard(Heard::Published(3));
    assert!(driver.heard.contains(&Heard::PublishFailed(2, PublishError::Refused)));
    let probed_until = Instant::now() + Duration::from_millis(200);
    driver.until("time for probes", |_| Instant::now() > probed_until);
    assert!(!driver.heard.contains(&Heard::Down));
}

#[test]
fn two_thousand_rooms_are_back_after_redis_died_and_returned() {
    let mut server = RedisServer::start(&[]);
    let mut driver = Driver::up(&server, RedisConfig::default());
    for room in 0..2_000 {
        driver.subscribe(&format!("room{room}"));
    }
    driver.until("2,000 rooms", |driver| driver.subscribed_count() == 2_000);
    driver.heard.clear();

    server.kill();
    driver.until_heard(Heard::Down);
    driver.until_heard(Heard::PublisherDown);
    driver.publish("room7", b"lost", 1);
    driver.until_heard(Heard::PublishFailed(1, PublishError::Unavailable));
    let tries = driver.session.stats().trouble().unwrap().to_owned();
    assert!(!tries.is_empty());

    server.restart();
    driver.until("2,000 rooms again", |driver| driver.subscribed_count() == 2_000);
    driver.until_heard(Heard::PublisherUp);
    driver.publish("room1999", b"here", 2);
    driver.until_heard(Heard::Message("room1999".to_owned(), b"here".to_vec()));
    let channels: Vec<String> =
        redis::cmd("PUBSUB").arg("CHANNELS").arg("fanfare:*").query(&mut server.control("")).unwrap();
    assert_eq!(channels.iter().filter(|channel| !channel.contains('\u{1}')).count(), 2_000);
    assert_eq!(driver.heard.iter().filter(|event| **event == Heard::Up).count(), 1);
    assert_eq!(driver.session.stats().reconnects, 2);
}

#[test]
fn a_killed_subscriber_returns_while_the_publisher_stays() {
    let server = RedisServer::start(&[]);
    let mut driver = Driver::up(&server, RedisConfig::default());
    driver.subscribe("a");
    driver.until_heard(Heard::Subscribed("a".to_owned()));
    driver.heard.clear();
    let killed: u64 =
        redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("pubsub").query(&mut server.control("")).unwrap();
    assert_eq!(killed, 1);
    driver.until_heard(Heard::Subscribed("a".to_owned()));
    assert_eq!(driver.heard, [Heard::Down, Heard::Up, Heard::Subscribed("a".to_owned())]);
    driver.publish("a", b"again", 1);
    driver.until_heard(Heard::Message("a".to_owned(), b"again".to_vec()));
    assert_eq!(driver.session.stats().reconnects, 1);
}

#[test]
fn a_server_that_hangs_is_left_and_found_again() {
    let server = RedisServer::start(&[]);
    let config = redis_config(|config| {
        config.probe_interval = Duration::from_millis(50);
        config.probe_timeout = Duration::from_millis(150);
        config.connect_timeout = Duration::from_millis(300);
    });
    let mut driver = Driver::up(&server, config);
    driver.subscribe("a");
    driver.until_heard(Heard::Subscribed("a".to_owned()));
    let mut control = server.control("");
    let _: () = redis::cmd("CLIENT").arg("PAUSE").arg(1_000).arg("ALL").query(&mut control).unwrap();
    driver.heard.clear();
    driver.publish("a", b"perhaps", 1);
    driver.until_heard(Heard::PublishFailed(1, PublishError::Unconfirmed));
    driver.until_heard(Heard::Down);
    assert!(driver.session.stats().publisher.last_error.unwrap().starts_with("no answer to PING"));
    driver.until_heard(Heard::Subscribed("a".to_owned()));
    driver.until_heard(Heard::PublisherUp);
    driver.publish("a", b"certainly", 2);
    driver.until_heard(Heard::Message("a".to_owned(), b"certainly".to_vec()));
    driver.until_heard(Heard::Published(2));
}

#[test]
fn publishes_are_pipelined_in_order_under_load() {
    let server = RedisServer::start(&[]);
    let mut driver = Driver::up(&server, RedisConfig::default());
    driver.subscribe("a");
    driver.until_heard(Heard::Subscribed("a".to_owned()));
    driver.heard.clear();
    for id in 0..10_000 {
        driver.publish("a", format!("message {id}").as_bytes(), id);
    }
    driver.until("20,000 events", |driver| driver.heard.len() == 20_000);
    let (published, messages): (Vec<_>, Vec<_>) =
        driver.heard.drain(..).partition(|event| matches!(event, Heard::Published(_)));
    assert_eq!(published, (0..10_000).map(Heard::Published).collect::<Vec<_>>());
    let message = |id| Heard::Message("a".to_owned(), format!("message {id}").into_bytes());
    assert_eq!(messages, (0..10_000).map(message).collect::<Vec<_>>());
}
