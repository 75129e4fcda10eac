//! Rooms with history, some instances and a broker that loses what a real one can lose: links break and lose what was on them, messages
//! are skipped or repeated, a replica that lags is promoted, all data are lost. Whatever happens, each client gets each message once and
//! in its place, or is told exactly which it will not get.

mod broker;
mod reader;

use crate::{Frame, config, upgrade_request};
use broker::{Broker, Heard, Link};
use fanfare_core::broker::BrokerEvent;
use fanfare_core::history::Retention;
use fanfare_core::rules::{Rule, Rules, Slow};
use fanfare_core::time::Time;
use fanfare_core::{Action, Config, ConnId, Core, Event, Turn};
use reader::Reader;
use std::collections::BTreeMap;
use std::time::Duration;

const INSTANCES: usize = 2;
const CLIENTS: usize = 5;
const ROOMS: [&str; 2] = ["chat:a", "chat:b"];
/// So few that messages are trimmed all the time.
const KEPT_MESSAGES: u32 = 20;
/// Turns after which all must be quiet.
const TURNS_MAX: usize = 20_000;

/// One instance.
#[derive(Debug)]
struct Instance {
    core: Core,
    conns: BTreeMap<ConnId, usize>,
}

/// A client, and where it is connected.
#[derive(Debug)]
struct Client {
    instance: usize,
    conn: Option<ConnId>,
    /// Its socket takes nothing.
    is_stalled: bool,
    reader: Reader,
}

/// All of them.
#[derive(Debug)]
struct Cluster {
    instances: Vec<Instance>,
    clients: Vec<Client>,
    broker: Broker,
    now: Time,
    published: u64,
}

/// What is done, two bytes each; then everything is mended, and what was said is compared with what was stored.
pub fn history(data: &[u8]) {
    let mut cluster = Cluster::new();
    for step in data.as_chunks::<2>().0 {
        cluster.step(*step);
    }
    cluster.end();
}

fn settings(node: u64) -> Config {
    config(|config| {
        let rule = |pattern: &str, slow| {
            let mut rule = Rule::new(pattern.parse().expect("a pattern"));
            let age_max = Duration::from_secs(60);
            rule.history = Some(Retention { messages_max: KEPT_MESSAGES, bytes_max: 4_000, age_max });
            rule.slow = slow;
            rule
        };
        config.rules = Rules::new(vec![rule("chat:a", Slow::Close), rule("chat:*", Slow::CatchUp)]).expect("rules");
        (config.node, config.seed) = (node, node);
        // Less than the rooms keep, so that what is missed is read as well.
        config.history.memory_bytes_max = 1_000;
        config.history.reads_in_flight_max = 2;
        config.history.page_messages_max = 3;
        config.limits.outbox_bytes_max = 100_000;
        config.timeouts.ping_interval = Duration::from_secs(100_000);
    })
}

impl Cluster {
    fn new() -> Cluster {
        let instance = |node: usize| Instance { core: Core::new(settings(node as u64)), conns: BTreeMap::new() };
        let client = |number: usize| Client {
            instance: number % INSTANCES,
            conn: None,
            is_stalled: false,
            reader: Reader::default(),
        };
        let mut cluster = Cluster {
            instances: (0..INSTANCES).map(instance).collect(),
            clients: (0..CLIENTS).map(client).collect(),
            broker: Broker::new(INSTANCES),
            now: Time::ZERO,
            published: 0,
        };
        for instance in 0..INSTANCES {
            cluster.mend(instance);
        }
        cluster
    }

    fn step(&mut self, [what, of]: [u8; 2]) {
        let of = usize::from(of);
        let (client, instance, room) = (of % CLIENTS, of % INSTANCES, ROOMS[of / 8 % ROOMS.len()]);
        match what % 28 {
            0 | 1 => self.publish(client, room),
            2 => {
                let subscribe = self.clients[client].reader.subscribe(room, of / 16);
                self.command(client, &subscribe);
            }
            3 => {
                self.command(client, &format!(r#"{{"type":"UNSUBSCRIBE","room":"{room}"}}"#));
                self.clients[client].reader.leaves(room);
            }
            4..=7 => self.broker_acts(instance, Link::ALL[of / 2 % 2], 1 + of / 4 % 8),
            8 | 9 => {
                self.hear(instance, Link::ALL[of / 2 % 2], 1 + of / 4 % 8);
            }
            10 => self.break_link(instance, Link::Subscriber),
            11 => self.break_link(instance, Link::Publisher),
            12 => self.broker.replicate(),
            13 if of % 4 == 0 => self.fail_over(),
            14 => self.reconnect(client),
            15 => {
                self.now = self.now + Duration::from_millis(200 * of as u64);
                self.turn(instance, |_| {});
            }
            16 => self.broker.skip(instance, of / 2),
            17 => self.broker.repeat(instance, of / 2),
            18 => {
                self.clients[client].is_stalled = !self.clients[client].is_stalled;
                self.writable(client);
            }
            19 if of % 16 == 0 => self.broker.forget_all(),
            // Else hardly anything would come to an end.
            20..=27 => self.go_on(of / 2),
            _ => self.broker.publish_foreign(room),
        }
    }

    /// All links carry some of what is on them.
    fn go_on(&mut self, rounds: usize) {
        for _ in 0..1 + rounds % 3 {
            for instance in 0..INSTANCES {
                for link in Link::ALL {
                    self.broker_acts(instance, link, 1 + rounds % 7);
                    self.hear(instance, link, 1 + rounds % 5);
                }
            }
        }
    }

    fn publish(&mut self, client: usize, room: &str) {
        self.published += 1;
        let message = format!("{room}|{}", self.published);
        let number = self.published;
        self.command(
            client,
            &format!(r#"{{"type":"SEND_MESSAGE","room":"{room}","message":"{message}","id":{number}}}"#),
        );
    }

    /// The client says something; it connects first where it is not connected.
    fn command(&mut self, client: usize, text: &str) {
        let instance = self.clients[client].instance;
        let conn = match self.clients[client].conn {
            Some(conn) => conn,
            None => self.connect(client),
        };
        let mut bytes = Frame::text(text).masked();
        self.turn(instance, |turn| turn.feed(Event::Bytes { conn, data: &mut bytes }));
    }

    fn connect(&mut self, client: usize) -> ConnId {
        let instance = self.clients[client].instance;
        let mut conn = None;
        self.turn(instance, |turn| conn = turn.open().ok());
        let conn = conn.expect("there is a place");
        self.clients[client].conn = Some(conn);
        self.instances[instance].conns.insert(conn, client);
        let mut head = upgrade_request("/", "").into_bytes();
        self.turn(instance, |turn| turn.feed(Event::Bytes { conn, data: &mut head }));
        conn
    }

    /// The client's connection breaks, and it comes back elsewhere with what it has seen.
    fn reconnect(&mut self, client: usize) {
        self.hang_up(client);
        self.clients[client].instance = (self.clients[client].instance + 1) % INSTANCES;
        for room in self.clients[client].reader.rooms() {
            let again = self.clients[client].reader.subscribe(&room, 0);
            self.command(client, &again);
        }
    }

    fn hang_up(&mut self, client: usize) {
        let instance = self.clients[client].instance;
        self.clients[client].reader.is_cut_off();
        self.clients[client].is_stalled = false;
        if let Some(conn) = self.clients[client].conn.take() {
            self.instances[instance].conns.remove(&conn);
            self.turn(instance, |turn| turn.feed(Event::Closed { conn }));
        }
    }

    fn writable(&mut self, client: usize) {
        if let (Some(conn), false) = (self.clients[client].conn, self.clients[client].is_stalled) {
            self.turn(self.clients[client].instance, |turn| turn.feed(Event::Writable { conn }));
        }
    }

    /// The broker carries out some of what it was asked on this link.
    fn broker_acts(&mut self, instance: usize, link: Link, asks: usize) {
        self.broker.now_ms = self.now.as_micros() / 1_000;
        for _ in 0..asks {
            self.broker.act(instance, link);
        }
    }

    /// The instance hears some of what comes on this link.
    fn hear(&mut self, instance: usize, link: Link, events: usize) -> bool {
        let heard: Vec<Heard> = (0..events).map_while(|_| self.broker.hear(instance, link)).collect();
        let any = !heard.is_empty();
        self.turn(instance, |turn| heard.iter().for_each(|heard| turn.feed(Event::Broker(heard.event()))));
        any
    }

    fn break_link(&mut self, instance: usize, link: Link) {
        let lost = self.broker.break_link(instance, link);
        self.turn(instance, |turn| {
            lost.iter().for_each(|heard| turn.feed(Event::Broker(heard.event())));
            turn.feed(Event::Broker(match link {
                Link::Subscriber => BrokerEvent::Down { reason: "broken" },
                Link::Publisher => BrokerEvent::PublisherDown { reason: "broken" },
            }));
        });
        self.mend_link(instance, link);
    }

    fn mend(&mut self, instance: usize) {
        Link::ALL.into_iter().for_each(|link| self.mend_link(instance, link));
    }

    fn mend_link(&mut self, instance: usize, link: Link) {
        let event = match link {
            Link::Subscriber => BrokerEvent::Up,
            Link::Publisher => BrokerEvent::PublisherUp,
        };
        self.turn(instance, |turn| turn.feed(Event::Broker(event)));
    }

    fn fail_over(&mut self) {
        self.broker.fail_over();
        for instance in 0..INSTANCES {
            Link::ALL.into_iter().for_each(|link| self.break_link(instance, link));
        }
    }

    /// One turn of an instance, and what it says.
    fn turn(&mut self, instance: usize, feed: impl FnOnce(&mut Turn<'_>)) {
        let Cluster { instances, clients, broker, now, .. } = self;
        let Instance { core, conns } = &mut instances[instance];
        let mut turn = core.turn(*now);
        feed(&mut turn);
        turn.feed(Event::Timeout);
        let mut actions = turn.finish();
        while let Some(action) = actions.next() {
            match action {
                Action::Send(mut delivery) => {
                    let bytes = delivery.bytes();
                    while let Some(conn) = delivery.next_target() {
                        let Some(client) = conns.get(&conn) else { continue };
                        match clients[*client].is_stalled {
                            true => delivery.short(conn, 0),
                            false => clients[*client].reader.hears(bytes, &broker.lives),
                        }
                    }
                }
                Action::Shutdown { .. } => {}
                Action::Close { conn } => {
                    if let Some(client) = conns.remove(&conn) {
                        clients[client].conn = None;
                        clients[client].reader.is_cut_off();
                    }
                }
                Action::Ask(ask) => broker.ask(instance, ask),
                Action::Authenticate(_) => panic!("nobody is asked who they are"),
                Action::Propose(_) => panic!("nobody is asked about messages"),
            }
        }
        drop(actions);
        core.check_invariants();
    }

    /// All is mended, and comes to an end.
    fn end(&mut self) {
        for client in 0..CLIENTS {
            self.clients[client].is_stalled = false;
            self.writable(client);
        }
        // Of data that were lost while no link broke, the next message tells.
        ROOMS.into_iter().for_each(|room| self.publish(0, room));
        for turn in 0.. {
            assert!(turn < TURNS_MAX, "it comes to an end");
            let mut any = false;
            for instance in 0..INSTANCES {
                for link in Link::ALL {
                    self.broker_acts(instance, link, 1_000);
                    any |= self.hear(instance, link, 1_000);
                }
                if let Some(due) = self.instances[instance].core.next_timeout().filter(|_| !any) {
                    let is_near = due <= self.now + Duration::from_secs(20);
                    self.now = self.now.max(due);
                    any |= is_near;
                    self.turn(instance, |_| {});
                }
            }
            if !any {
                break;
            }
        }
        for client in &self.clients {
            for room in ROOMS {
                if client.conn.is_some() {
                    client.reader.has_all(room, self.broker.last(room));
                }
            }
        }
    }
}
