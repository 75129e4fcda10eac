//! A core alone: events in, a list of what it says out. No model and no rules, so that a test can be the worst of adapters.

use crate::{Frame, upgrade_request};
use fanfare_core::broker;
use fanfare_core::broker::{BrokerEvent, PublishId};
use fanfare_core::time::Time;
use fanfare_core::{Action, Config, ConnId, Core, Event, Turn};
use std::time::Duration;

/// What the core said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// These bytes to one connection.
    Sent(ConnId, Vec<u8>),
    /// Half-close.
    Shutdown(ConnId),
    /// Close.
    Close(ConnId),
    /// Publish.
    Publish(String, Vec<u8>, Option<PublishId>),
    /// Subscribe.
    Subscribe(String),
    /// Unsubscribe.
    Unsubscribe(String),
}

/// A core and its clock.
#[derive(Debug)]
pub struct LoneCore {
    /// The core under test.
    pub core: Core,
    /// What the next turn begins at.
    pub now: Time,
    /// Bytes that a socket takes of one write of so many; the rest is handed back.
    pub takes: fn(ConnId, usize) -> usize,
    /// Reports every write as short, whole ones too.
    pub reports_all: bool,
}

impl LoneCore {
    /// A core whose broker is up, and whose sockets take everything.
    pub fn new(config: Config) -> LoneCore {
        LoneCore::at(Time::ZERO, config)
    }

    /// The same on a clock that shows `now`.
    pub fn at(now: Time, config: Config) -> LoneCore {
        let mut lone = LoneCore { core: Core::new(config), now, takes: |_, bytes| bytes, reports_all: false };
        lone.broker(BrokerEvent::Up);
        lone.broker(BrokerEvent::PublisherUp);
        lone
    }

    /// One turn: what is fed, the timeout, and what the core says.
    pub fn turn(&mut self, feed: impl FnOnce(&mut Turn<'_>)) -> Vec<Said> {
        let mut turn = self.core.turn(self.now);
        feed(&mut turn);
        turn.feed(Event::Timeout);
        let (mut actions, mut said) = (turn.finish(), Vec::new());
        while let Some(action) = actions.next() {
            match action {
                Action::Send(mut delivery) => {
                    let bytes = delivery.bytes();
                    while let Some(conn) = delivery.next_target() {
                        let taken = (self.takes)(conn, bytes.len());
                        said.push(Said::Sent(conn, bytes[..taken.min(bytes.len())].to_vec()));
                        if taken < bytes.len() || self.reports_all {
                            delivery.short(conn, taken);
                        }
                    }
                }
                Action::Shutdown { conn } => said.push(Said::Shutdown(conn)),
                Action::Close { conn } => said.push(Said::Close(conn)),
                Action::Ask(broker::Ask::Publish { room, payload, id }) => {
                    said.push(Said::Publish(room.into(), payload.into(), id))
                }
                Action::Ask(broker::Ask::Subscribe { room }) => said.push(Said::Subscribe(room.into())),
                Action::Ask(broker::Ask::Unsubscribe { room }) => said.push(Said::Unsubscribe(room.into())),
            }
        }
        drop(actions);
        self.core.check_invariants();
        said
    }

    /// Lets time pass, and then has a turn.
    pub fn wait(&mut self, duration: Duration) -> Vec<Said> {
        self.now = self.now + duration;
        self.turn(|_| {})
    }

    /// Feeds one event of the broker.
    pub fn broker(&mut self, event: BrokerEvent<'_>) -> Vec<Said> {
        self.turn(|turn| turn.feed(Event::Broker(event)))
    }

    /// Feeds one client's bytes, and has turns until all of them have been looked at.
    pub fn bytes(&mut self, conn: ConnId, bytes: impl AsRef<[u8]>) -> Vec<Said> {
        let mut said = self.turn(|turn| turn.feed(Event::Bytes { conn, data: &mut bytes.as_ref().to_vec() }));
        while self.core.has_unread() {
            assert!(!self.core.is_strained(), "it waits for time to pass: more than `Config::surplus` allows");
            said.extend(self.turn(|_| {}));
        }
        said
    }

    /// Feeds one client's command.
    pub fn command(&mut self, conn: ConnId, text: &str) -> Vec<Said> {
        self.bytes(conn, Frame::text(text).masked())
    }

    /// A connection that has sent nothing yet.
    pub fn connect(&mut self) -> ConnId {
        let mut conn = None;
        self.turn(|turn| conn = Some(turn.open().expect("there is a place")));
        conn.expect("set above")
    }

    /// A WebSocket.
    pub fn client(&mut self) -> ConnId {
        let conn = self.connect();
        self.bytes(conn, upgrade_request("/", ""));
        conn
    }

    /// A WebSocket whose SUBSCRIBE for this room has been confirmed.
    pub fn member(&mut self, room: &str) -> ConnId {
        let conn = self.client();
        let said = self.command(conn, &format!(r#"{{"type":"SUBSCRIBE","room":"{room}"}}"#));
        if said.contains(&Said::Subscribe(room.to_owned())) {
            self.broker(BrokerEvent::Subscribed { room });
        }
        conn
    }
}

/// The bytes that `conn` was sent, as text for people.
pub fn text_to(said: &[Said], conn: ConnId) -> String {
    let parts = said.iter().filter_map(|said| match said {
        Said::Sent(to, bytes) if *to == conn => Some(&bytes[..]),
        _ => None,
    });
    String::from_utf8_lossy(&parts.collect::<Vec<_>>().concat()).into_owned()
}
