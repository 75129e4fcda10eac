//! Where the configuration asks for it, the core tells who connects and disconnects, and where rules ask for it, which rooms have members.

use fanfare_core::broker::BrokerEvent;
use fanfare_core::rules::{Rule, Rules};
use fanfare_core::{Auth, Config, ConnId, Dialect, Event, Identity, Notice};
use fanfare_tests::lone_core::LoneCore;
use fanfare_tests::{Frame, config, upgrade_request};

fn notices(lone: &mut LoneCore) -> Vec<Notice> {
    lone.core.notices().collect()
}

fn connected(conn: ConnId, user: Option<&str>) -> Notice {
    Notice::Connected { conn, user: user.map(Into::into), address: None, dialect: Dialect::Fanfare }
}

fn disconnected(conn: ConnId, user: Option<&str>, code: Option<u16>) -> Notice {
    Notice::Disconnected { conn, user: user.map(Into::into), code }
}

fn lone(set: impl FnOnce(&mut Config)) -> LoneCore {
    LoneCore::new(config(|config| {
        config.notices = true;
        set(config);
    }))
}

#[test]
fn each_that_opens_is_told_of_and_its_end_with_its_code() {
    let mut lone = lone(|_| {});
    let (closes, vanishes) = (lone.client(), lone.client());
    let request = lone.connect();
    lone.bytes(request, "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(notices(&mut lone), [connected(closes, None), connected(vanishes, None)], "requests are no clients");
    lone.bytes(closes, Frame::close(4242, "").masked());
    lone.turn(|turn| turn.feed(Event::Closed { conn: vanishes }));
    assert_eq!(notices(&mut lone), [disconnected(closes, None, Some(4242)), disconnected(vanishes, None, None)]);
    lone.turn(|turn| turn.feed(Event::Closed { conn: closes }));
    assert_eq!(notices(&mut lone), [], "once each");
}

#[test]
fn whose_they_are_is_told_with_it_or_when_it_is_known() {
    let mut lone = lone(|config| {
        let mut auth = Auth::default();
        auth.required = false;
        config.auth = Some(auth);
    });
    lone.turn(|turn| turn.feed(Event::WallClock { unix_ms: 1_000 }));
    let identity = Identity::new("alice");
    let conn = lone.connect();
    lone.bytes(conn, upgrade_request("/", "Authorization: Bearer t\r\n"));
    assert_eq!(notices(&mut lone), []);
    lone.turn(|turn| turn.feed(Event::Authenticated { conn, outcome: Ok(&identity) }));
    assert_eq!(notices(&mut lone), [connected(conn, Some("alice"))]);
    // What is renewed is nothing new.
    lone.turn(|turn| turn.feed(Event::Authenticated { conn, outcome: Ok(&identity) }));
    assert_eq!(notices(&mut lone), []);
    let later = lone.client();
    lone.command(later, r#"{"type":"AUTH","token":"t"}"#);
    assert_eq!(notices(&mut lone), [connected(later, None)]);
    lone.turn(|turn| turn.feed(Event::Authenticated { conn: later, outcome: Ok(&identity) }));
    assert_eq!(notices(&mut lone), [Notice::Identified { conn: later, user: "alice".into() }]);
    lone.turn(|turn| turn.feed(Event::Closed { conn: later }));
    assert_eq!(notices(&mut lone), [disconnected(later, Some("alice"), None)]);
}

#[test]
fn a_room_is_occupied_by_its_first_member_and_vacated_by_its_last() {
    let mut rule = Rule::new("chat:*".parse().expect("a pattern"));
    rule.occupancy = Some("rooms".into());
    let mut lone = LoneCore::new(config(|config| config.rules = Rules::new(vec![rule]).expect("rules")));
    let (first, second) = (lone.member("chat:1"), lone.member("chat:1"));
    lone.member("elsewhere");
    let (hook, room) = ("rooms".into(), "chat:1".into());
    assert_eq!(notices(&mut lone), [Notice::Occupied { hook, room }]);
    lone.command(first, r#"{"type":"UNSUBSCRIBE","room":"chat:1"}"#);
    assert_eq!(notices(&mut lone), []);
    lone.turn(|turn| turn.feed(Event::Closed { conn: second }));
    let (hook, room) = ("rooms".into(), "chat:1".into());
    assert_eq!(notices(&mut lone), [Notice::Vacated { hook, room }]);
    // It lingers at the broker, which is nothing to others.
    lone.command(first, r#"{"type":"SUBSCRIBE","room":"chat:1"}"#);
    lone.broker(BrokerEvent::SubscribeFailed { room: "chat:1", reason: "no" });
    let kinds: Vec<_> = notices(&mut lone).iter().map(|notice| matches!(notice, Notice::Occupied { .. })).collect();
    assert!(kinds == [true] || kinds == [true, false], "{kinds:?}");
}

#[test]
fn nothing_is_kept_where_nobody_asks() {
    let mut lone = LoneCore::new(Config::default());
    let conn = lone.member("chat:1");
    lone.turn(|turn| turn.feed(Event::Closed { conn }));
    assert_eq!(notices(&mut lone), []);
}
