//! The order of a turn, as its steps see it.

use fanfare_core::broker::{Ask, BrokerEvent};
use fanfare_core::time::Time;
use fanfare_core::{Authenticate, Config, ConnId, Core, Dialect, Event, Message, Proposal, Turn};
use fanfare_turn::{Sockets, Steps, Stop, turn};
use std::cell::{Cell, RefCell};

/// Beyond every deadline of a connection that says nothing.
const LATER: Time = Time::from_micros(3_600_000_000);

/// Notes what it is called for.
#[derive(Default)]
struct Noting {
    noted: RefCell<Vec<&'static str>>,
    /// A connection is new.
    accepts: bool,
    /// A client says this.
    says: Vec<(ConnId, &'static str)>,
    has_unread: bool,
    stops: Option<Stop>,
    /// The broker has answered at once, so many more times.
    answers: Cell<u32>,
    fails: bool,
}

impl Noting {
    fn note(&self, what: &'static str) {
        self.noted.borrow_mut().push(what);
    }

    fn turn(&mut self, core: &mut Core, now: Time) -> Vec<&'static str> {
        turn(core, self, now);
        core.check_invariants();
        self.noted.take()
    }
}

impl Steps for Noting {
    type Sockets = Noting;

    fn events(&mut self, _turn: &mut Turn<'_>) {
        self.note("events");
    }

    fn broker(&mut self, turn: &mut Turn<'_>, congested: bool) {
        assert!(!congested);
        self.note("broker");
        if turn.core().readiness().is_err() {
            turn.feed(Event::Broker(BrokerEvent::Up));
            turn.feed(Event::Broker(BrokerEvent::PublisherUp));
        }
    }

    fn readiness(&mut self, readiness: Result<(), &str>) {
        self.note(if readiness.is_ok() { "ready" } else { "unready" });
    }

    fn accept(&mut self, turn: &mut Turn<'_>) {
        self.note("accept");
        if std::mem::take(&mut self.accepts) {
            turn.open().unwrap();
        }
    }

    fn reserve(&mut self, _turn: &mut Turn<'_>) {
        self.note("reserve");
    }

    fn credentials(&mut self, _turn: &mut Turn<'_>) {
        self.note("credentials");
    }

    fn clients(&mut self, turn: &mut Turn<'_>) {
        self.note("clients");
        for (conn, text) in self.says.drain(..) {
            turn.feed(Event::Message { conn, message: Message::Text(text) });
        }
    }

    fn has_unread(&mut self, _conn: ConnId) -> bool {
        self.note("has_unread");
        self.has_unread
    }

    fn stops(&mut self, _core: &Core) -> Option<Stop> {
        self.note("stops");
        self.stops
    }

    fn release(&mut self, _core: &Core) {
        self.note("release");
    }

    fn is_answered(&self) -> bool {
        self.note("is_answered");
        let answers = self.answers.get();
        self.answers.set(answers.saturating_sub(1));
        answers > 0
    }

    fn settle(&mut self, _core: &Core) {
        self.note("settle");
    }

    fn send_asks(&mut self) {
        self.note("send_asks");
    }

    fn ask(&mut self, _ask: Ask<'_>) {
        self.note("ask");
    }

    fn propose(&mut self, _proposal: Proposal<'_>) {
        self.note("propose");
    }

    fn authenticate(&mut self, _asked: Authenticate<'_>) {
        self.note("authenticate");
    }

    fn sockets(&mut self) -> &mut Noting {
        self
    }
}

impl Sockets for Noting {
    fn write(&mut self, _conn: ConnId, bytes: &[u8]) -> Option<usize> {
        self.note("write");
        (!self.fails).then_some(bytes.len())
    }

    fn shutdown(&mut self, _conn: ConnId) {
        self.note("shutdown");
    }

    fn close(&mut self, _conn: ConnId) {
        self.note("close");
    }
}

fn websocket(core: &mut Core) -> ConnId {
    let mut turn = core.turn(Time::ZERO);
    let conn = turn.open_websocket(Dialect::Fanfare, &[], None).unwrap();
    assert!(turn.finish().next().is_none());
    conn
}

#[test]
fn what_is_fed_before_what_else() {
    let (mut core, mut steps) = (Core::new(Config::default()), Noting { accepts: true, ..Noting::default() });
    let whole =
        ["events", "broker", "ready", "accept", "reserve", "credentials", "clients", "stops", "release", "is_answered"];
    assert_eq!(steps.turn(&mut core, Time::ZERO), [&whole[..], &["settle"]].concat());
    // What the broker has answered is fed alone, and whether it has is asked once.
    steps.answers.set(2);
    assert_eq!(steps.turn(&mut core, Time::ZERO), [&whole[..], &["broker", "settle"]].concat());
}

#[test]
fn nobody_is_given_up_before_clients_have_been_read() {
    let (mut core, mut steps) = (Core::new(Config::default()), Noting { accepts: true, ..Noting::default() });
    steps.turn(&mut core, Time::ZERO);
    steps.has_unread = true;
    let asked =
        ["events", "broker", "ready", "accept", "reserve", "credentials", "clients", "has_unread", "stops", "release"];
    assert_eq!(steps.turn(&mut core, LATER), [&asked[..], &["is_answered", "settle"]].concat());
    assert_eq!(core.connections(), 1, "what it has sent has yet to be read");
}

#[test]
fn readiness_is_told_before_clients_are() {
    for stop in [Stop::InTime, Stop::AtOnce] {
        let (mut core, mut steps) = (Core::new(Config::default()), Noting::default());
        websocket(&mut core);
        steps.stops = Some(stop);
        let noted = steps.turn(&mut core, Time::ZERO);
        let told = noted.iter().position(|what| *what == "unready").unwrap();
        assert_eq!(noted[told - 1..=told + 2], ["stops", "unready", "release", "write"], "{stop:?}");
    }
}

#[test]
fn the_broker_has_its_work_before_members_are_written_to() {
    let (mut core, mut steps) = (Core::new(Config::default()), Noting::default());
    let conn = websocket(&mut core);
    steps.turn(&mut core, Time::ZERO);
    steps.says = vec![(conn, r#"{"type":"PING"}"#), (conn, r#"{"type":"SUBSCRIBE","room":"tea"}"#)];
    let noted = steps.turn(&mut core, Time::ZERO);
    assert_eq!(noted[noted.len() - 5..], ["ask", "send_asks", "write", "is_answered", "settle"]);
    // With nothing to ask there is nothing to send.
    steps.says = vec![(conn, r#"{"type":"PING"}"#)];
    let noted = steps.turn(&mut core, Time::ZERO);
    assert_eq!(noted[noted.len() - 4..], ["release", "write", "is_answered", "settle"]);
}

#[test]
fn a_socket_that_fails_is_closed_and_that_is_all_of_it() {
    let (mut core, mut steps) = (Core::new(Config::default()), Noting::default());
    let conn = websocket(&mut core);
    (steps.says, steps.fails) = (vec![(conn, r#"{"type":"PING"}"#)], true);
    let noted = steps.turn(&mut core, Time::ZERO);
    assert_eq!(noted[noted.len() - 4..], ["write", "close", "is_answered", "settle"]);
    assert_eq!(core.connections(), 0);
}
