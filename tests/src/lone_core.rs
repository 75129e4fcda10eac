//! A core alone: events in, a list of what it says out. No model and no rules, so that a test can be the worst of adapters.

use crate::{Frame, head_bytes, opcode, upgrade_request};
use fanfare_core::broker::{Ask, BrokerEvent, FenceId, PresenceId, PublishId, ReadId};
use fanfare_core::history::Query;
use fanfare_core::time::Time;
use fanfare_core::{Action, Authenticate, Config, ConnId, Core, Event, Proposal, ProposalId, Source, Turn};
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
    /// Find out whether this credential is good.
    Authenticate(ConnId, Source, Vec<u8>),
    /// Find out whether this message may be published: whom to ask, by whom, where, and what it is.
    Propose(ProposalId, [String; 4]),
    /// Publish.
    Publish(String, Vec<u8>, Option<PublishId>),
    /// Publish, and store.
    Store(String, Vec<u8>, Option<PublishId>),
    /// Read a part of a room's history.
    Read(ReadId, String, Query),
    /// So many connections of a user, who has this info, are in a room.
    Present(PresenceId, String, (String, String), u32),
    /// Who is in a room is to be read, from there on.
    Roster(PresenceId, String, u64),
    /// Say when all that was published by now has been reported.
    Fence(FenceId),
    /// Subscribe.
    Subscribe(String),
    /// Unsubscribe.
    Unsubscribe(String),
}

impl Said {
    /// A message that somebody has to agree to.
    pub fn proposed(Proposal { id, hook, user, room, message, .. }: Proposal<'_>) -> Said {
        Said::Propose(id, [hook, user.unwrap_or_default(), room, message].map(str::to_owned))
    }
}

/// One thing that the core does at the end of a turn.
#[derive(Clone, Copy, Debug)]
pub enum Does<'a> {
    /// It sends these bytes to one connection, which takes them.
    Send(ConnId, &'a [u8]),
    /// It half-closes.
    Shutdown(ConnId),
    /// It closes.
    Close(ConnId),
    /// It asks the broker for something.
    Ask(Ask<'a>),
    /// It asks about a credential.
    Authenticate(Authenticate<'a>),
    /// It asks about a message.
    Propose(Proposal<'a>),
}

/// Ends a turn and shows `see` what the core does. `takes` says how many of so many bytes a socket takes, if that is to be
/// reported; else it takes all. Allocates nothing.
pub fn carry_out(turn: Turn<'_>, takes: impl Fn(ConnId, usize) -> Option<usize>, mut see: impl FnMut(Does<'_>)) {
    let mut actions = turn.finish();
    while let Some(action) = actions.next() {
        match action {
            Action::Send(mut delivery) => {
                let bytes = delivery.bytes();
                while let Some(conn) = delivery.next_target() {
                    let taken = takes(conn, bytes.len());
                    see(Does::Send(conn, &bytes[..taken.unwrap_or(bytes.len()).min(bytes.len())]));
                    if let Some(taken) = taken {
                        delivery.short(conn, taken);
                    }
                }
            }
            Action::Shutdown { conn } => see(Does::Shutdown(conn)),
            Action::Close { conn } => see(Does::Close(conn)),
            Action::Ask(ask) => see(Does::Ask(ask)),
            Action::Authenticate(asked) => see(Does::Authenticate(asked)),
            Action::Propose(proposal) => see(Does::Propose(proposal)),
        }
    }
}

/// Sockets that take everything.
pub fn take_all(_: ConnId, _: usize) -> Option<usize> {
    None
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
        let (takes, reports_all, mut said) = (self.takes, self.reports_all, Vec::new());
        let takes = |conn, bytes| Some(takes(conn, bytes)).filter(|taken| *taken < bytes || reports_all);
        carry_out(turn, takes, |does| {
            said.push(match does {
                Does::Send(conn, bytes) => Said::Sent(conn, bytes.to_vec()),
                Does::Shutdown(conn) => Said::Shutdown(conn),
                Does::Close(conn) => Said::Close(conn),
                Does::Authenticate(asked) => Said::Authenticate(asked.conn, asked.source, asked.credential.to_vec()),
                Does::Propose(proposal) => Said::proposed(proposal),
                Does::Ask(Ask::Publish { room, payload, store: None, id, .. }) => {
                    Said::Publish(room.into(), payload.into(), id)
                }
                Does::Ask(Ask::Publish { room, payload, store: Some(_), id, .. }) => {
                    Said::Store(room.into(), payload.into(), id)
                }
                Does::Ask(Ask::Read { room, query, id, .. }) => Said::Read(id, room.into(), query),
                Does::Ask(Ask::Present { room, user, info, connections, id }) => {
                    Said::Present(id, room.into(), (user.into(), info.into()), connections)
                }
                Does::Ask(Ask::Roster { room, from, id }) => Said::Roster(id, room.into(), from),
                Does::Ask(Ask::Fence { id }) => Said::Fence(id),
                Does::Ask(Ask::Subscribe { room }) => Said::Subscribe(room.into()),
                Does::Ask(Ask::Unsubscribe { room }) => Said::Unsubscribe(room.into()),
            });
        });
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

/// The code of the close frame that ends the bytes which `conn` was sent, where one does.
pub fn close_code(said: &[Said], conn: ConnId) -> Option<u16> {
    let bytes: Vec<u8> = said
        .iter()
        .filter_map(|said| match said {
            Said::Sent(to, bytes) if *to == conn => Some(&bytes[..]),
            _ => None,
        })
        .flatten()
        .copied()
        .collect();
    let start = head_bytes(&bytes).unwrap_or(0);
    let (mut rest, mut code) = (&bytes[start..], None);
    while let Some((frame, taken)) = Frame::parse(rest) {
        rest = &rest[taken..];
        if frame.opcode == opcode::CLOSE {
            code = frame.payload.first_chunk().map(|code| u16::from_be_bytes(*code));
        }
    }
    code
}
