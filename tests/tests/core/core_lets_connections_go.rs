//! A core that drains takes newcomers for a while, tells each client when to go, and closes who is still there then. Before that, each
//! has got all that was acknowledged. A core that sheds does so to a share of its connections.

use fanfare_core::broker::{BrokerEvent, FenceId, PublishId};
use fanfare_core::time::Time;
use fanfare_core::{Config, ConnId, Event, Refused};
use fanfare_tests::lone_core::{LoneCore, Said, close_code, text_to};
use fanfare_tests::{Frame, code, upgrade_request};
use std::collections::BTreeMap;
use std::time::Duration;

const SPREAD: Duration = Duration::from_millis(4_000);
/// A quarter of it.
const GRACE: Duration = Duration::from_millis(1_000);

fn config() -> Config {
    let mut config = Config::default();
    config.drain.spread = SPREAD;
    config
}

fn drain(lone: &mut LoneCore) -> Vec<Said> {
    lone.turn(|turn| turn.feed(Event::Drain))
}

fn shed(lone: &mut LoneCore, share: f64) -> Vec<Said> {
    lone.turn(|turn| turn.feed(Event::Shed { share }))
}

fn fence_of(said: &[Said]) -> Option<FenceId> {
    said.iter().find_map(|said| if let Said::Fence(id) = said { Some(*id) } else { None })
}

fn fenced(lone: &mut LoneCore, id: FenceId) -> Vec<Said> {
    lone.broker(BrokerEvent::Fenced { id })
}

/// What the client is told to wait, if it is told anything.
fn told(said: &[Said], conn: ConnId) -> Option<Duration> {
    let text = text_to(said, conn);
    let (_, rest) = text.split_once(r#"{"type":"DRAIN","after_ms":"#)?;
    let digits = rest.split('}').next().and_then(|digits| digits.parse().ok());
    Some(Duration::from_millis(digits.expect("a number of milliseconds")))
}

/// Has turns, each when it is due and with the broker answering at once, until nobody is left. Who was closed when, with which code.
fn run(lone: &mut LoneCore, conns: &[ConnId], mut said: Vec<Said>) -> BTreeMap<ConnId, (Time, u16)> {
    let mut closed = BTreeMap::new();
    loop {
        for conn in conns {
            if let Some(code) = close_code(&said, *conn) {
                assert_eq!(closed.insert(*conn, (lone.now, code)), None, "it is closed once");
                lone.bytes(*conn, Frame::close(code, "").masked());
            }
        }
        if closed.len() == conns.len() {
            return closed;
        }
        said = match fence_of(&said) {
            Some(id) => fenced(lone, id),
            None => {
                lone.now = lone.core.next_timeout().expect("somebody has yet to go").max(lone.now);
                lone.turn(|_| {})
            }
        };
    }
}

fn classic(lone: &mut LoneCore) -> ConnId {
    let conn = lone.connect();
    lone.bytes(conn, upgrade_request("/classic", ""));
    conn
}

#[test]
fn each_client_has_a_time_of_its_own_and_is_closed_a_moment_after_it() {
    let mut lone = LoneCore::new(config());
    let conns: Vec<ConnId> = (0..12).map(|_| lone.client()).collect();
    let begun = lone.now;
    let said = drain(&mut lone);
    let mut slots: Vec<Duration> = conns.iter().map(|conn| told(&said, *conn).expect("everybody is told")).collect();
    let in_order = slots.is_sorted();
    let closed = run(&mut lone, &conns, said);
    for (conn, slot) in conns.iter().zip(&slots) {
        let (at, code) = closed[conn];
        assert_eq!(code, code::RESTART);
        let late = at.since(begun + *slot + GRACE);
        assert!(at >= begun + *slot + GRACE && late <= Duration::from_millis(1), "{conn:?} of {slot:?} at {at:?}");
    }
    slots.sort_unstable();
    // At equal distances, and the last is closed when the time is over.
    let part = (SPREAD - GRACE).as_millis() as u64 / 12;
    let expected: Vec<Duration> = (0..12).map(|index| Duration::from_millis(part * index + part / 2)).collect();
    assert_eq!(slots, expected);
    assert!(!in_order, "who goes first is drawn by lot");
    assert_eq!(lone.core.connections(), 0);
    let metrics = lone.core.metrics();
    assert_eq!((metrics.drains_told, metrics.drain_closes, metrics.departing_now), (12, 12, 0));
    assert_eq!(metrics.draining_now, 1);
    lone.wait(Duration::from_secs(10));
    lone.core.check_idle();
}

#[test]
fn whoever_goes_by_itself_is_not_closed() {
    let mut lone = LoneCore::new(config());
    let conn = lone.client();
    drain(&mut lone);
    assert_eq!(lone.core.metrics().departing_now, 1);
    let said = lone.bytes(conn, Frame::close(code::NORMAL, "").masked());
    assert_eq!(close_code(&said, conn), Some(code::NORMAL));
    assert_eq!((lone.core.connections(), lone.core.metrics().departing_now), (0, 0));
    assert_eq!(lone.core.metrics().drain_closes, 0);
    assert!(!lone.core.takes_newcomers());
}

#[test]
fn dialects_without_replies_are_closed_in_their_times() {
    let mut lone = LoneCore::new(config());
    let conns: Vec<ConnId> = (0..4).map(|_| classic(&mut lone)).collect();
    let said = drain(&mut lone);
    assert!(said.is_empty(), "{said:?}");
    let closed = run(&mut lone, &conns, said);
    let mut times: Vec<u64> = closed.values().map(|(at, _)| at.as_millis()).collect();
    times.sort_unstable();
    assert_eq!(times, [500, 1_500, 2_500, 3_500]);
    assert!(closed.values().all(|(_, code)| *code == code::RESTART));
    assert_eq!(lone.core.metrics().drains_told, 0);
}

#[test]
fn newcomers_are_taken_until_the_delay_is_over_and_go_with_the_others() {
    let mut config = config();
    config.drain.delay = Duration::from_secs(3);
    let mut lone = LoneCore::new(config);
    let first = lone.client();
    assert!(drain(&mut lone).is_empty());
    assert_eq!((lone.core.readiness(), lone.core.takes_newcomers()), (Err("draining"), true));
    let unready = lone.connect();
    let said = lone.bytes(unready, "GET /readyz HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(text_to(&said, unready).starts_with("HTTP/1.1 503 ") && text_to(&said, unready).ends_with("draining\n"));
    let second = lone.client();
    let unfinished = lone.connect();
    lone.bytes(unfinished, "GET / HT");
    assert_eq!(lone.core.next_timeout(), Some(lone.now + Duration::from_secs(3)));
    // To say so again is no news.
    lone.now = lone.now + Duration::from_secs(2);
    assert!(drain(&mut lone).is_empty());

    let said = lone.wait(Duration::from_secs(1));
    assert!(told(&said, first).is_some() && told(&said, second).is_some());
    assert!(text_to(&said, unfinished).starts_with("HTTP/1.1 503 "));
    assert!(!lone.core.takes_newcomers());
    let late = lone.connect();
    let said = lone.bytes(late, upgrade_request("/", ""));
    assert!(text_to(&said, late).starts_with("HTTP/1.1 503 "));
    lone.turn(|turn| {
        let refused = turn.open_websocket(fanfare_core::Dialect::Fanfare, &[], None);
        assert_eq!(refused, Err(Refused::ShuttingDown));
    });
}

#[test]
fn what_was_acknowledged_before_the_fence_is_there_before_the_close() {
    let mut lone = LoneCore::new(config());
    let (member, classic) = (lone.member("r"), classic(&mut lone));
    lone.command(classic, r#"{"type":"SUBSCRIBE","room":"r"}"#);
    drain(&mut lone);
    lone.now = lone.now + SPREAD;
    let said = lone.turn(|_| {});
    let id = fence_of(&said).expect("what was published before is asked for");
    assert_eq!((close_code(&said, member), close_code(&said, classic)), (None, None));
    let said = lone.turn(|turn| {
        let payload = br#"{"type":"SEND_MESSAGE","message":"the last"}"#;
        turn.feed(Event::Broker(BrokerEvent::Message { room: "r", payload }));
        turn.feed(Event::Broker(BrokerEvent::Fenced { id }));
    });
    for conn in [member, classic] {
        assert!(text_to(&said, conn).contains("the last"));
        assert_eq!(close_code(&said, conn), Some(code::RESTART));
    }
}

#[test]
fn one_fence_is_good_for_all_who_are_due_and_there_is_one_at_a_time() {
    let mut lone = LoneCore::new(config());
    let conns: Vec<ConnId> = (0..4).map(|_| classic(&mut lone)).collect();
    drain(&mut lone);
    let first = fence_of(&lone.wait(SPREAD / 2)).expect("two are due");
    let said = lone.wait(SPREAD / 4);
    assert!(said.is_empty(), "the third waits for the next fence: {said:?}");
    let said = fenced(&mut lone, first);
    let closed = |said: &[Said]| conns.iter().filter(|conn| close_code(said, **conn).is_some()).count();
    assert_eq!(closed(&said), 2);
    let second = fence_of(&said).expect("the third is due");
    // What answers an earlier question does not answer this one.
    assert_eq!(closed(&fenced(&mut lone, first)), 0);
    assert_eq!(closed(&fenced(&mut lone, second)), 1);
}

#[test]
fn a_broker_that_says_nothing_is_waited_for_no_longer_than_there_is_time() {
    let config = config();
    let patience = config.timeouts.drain;
    let mut lone = LoneCore::new(config);
    let conn = lone.client();
    drain(&mut lone);
    assert!(fence_of(&lone.wait(SPREAD)).is_some());
    assert_eq!(lone.core.next_timeout(), Some(lone.now + patience));
    assert_eq!(close_code(&lone.wait(patience), conn), Some(code::RESTART));
}

#[test]
fn a_broker_that_is_away_is_not_asked() {
    let mut lone = LoneCore::new(config());
    let (first, second) = (classic(&mut lone), classic(&mut lone));
    drain(&mut lone);
    let said = lone.wait(SPREAD / 2);
    assert!(fence_of(&said).is_some());
    // It came back in the same turn: it will not say what it was asked before.
    let said = lone.turn(|turn| {
        turn.feed(Event::Broker(BrokerEvent::Down { reason: "away" }));
        turn.feed(Event::Broker(BrokerEvent::Up));
        turn.feed(Event::Broker(BrokerEvent::Down { reason: "away" }));
    });
    let closed = |said: &[Said]| [first, second].iter().filter(|conn| close_code(said, **conn).is_some()).count();
    assert_eq!(closed(&said), 1);
    let said = lone.wait(SPREAD / 2);
    assert_eq!((fence_of(&said), closed(&said)), (None, 1));
}

#[test]
fn whoever_is_due_gets_the_answers_that_it_waits_for() {
    let mut lone = LoneCore::new(config());
    let conn = lone.client();
    let publish = |lone: &mut LoneCore, id: u64| -> Option<PublishId> {
        let command = format!(r#"{{"type":"SEND_MESSAGE","room":"r","message":1,"id":{id}}}"#);
        let said = lone.command(conn, &command);
        said.iter().find_map(|said| if let Said::Publish(.., id) = said { *id } else { None })
    };
    drain(&mut lone);
    // Until its time has come, it is served as ever.
    let asked = publish(&mut lone, 1).expect("it is published");
    let id = fence_of(&lone.wait(SPREAD)).expect("it is due");
    assert_eq!(publish(&mut lone, 2), None, "what it says now has no effect");
    assert_eq!(close_code(&fenced(&mut lone, id), conn), None);
    let said = lone.broker(BrokerEvent::Published { id: asked, position: None, receivers: None });
    assert!(text_to(&said, conn).contains(r#"{"type":"ACK","id":1}"#));
    assert_eq!(close_code(&said, conn), Some(code::RESTART));
}

#[test]
fn one_that_cannot_be_answered_is_heard_to_its_end() {
    let mut lone = LoneCore::new(config());
    let conn = classic(&mut lone);
    drain(&mut lone);
    let id = fence_of(&lone.wait(SPREAD)).expect("it is due");
    let said = lone.command(conn, r#"{"type":"SEND_MESSAGE","roomId":"r","message":1}"#);
    assert!(matches!(said[..], [Said::Publish(..)]), "{said:?}");
    assert_eq!(close_code(&fenced(&mut lone, id), conn), Some(code::RESTART));
}

#[test]
fn many_are_told_in_turns_of_their_own_and_each_once() {
    let mut lone = LoneCore::new(config());
    let conns: Vec<ConnId> = (0..600).map(|_| lone.client()).collect();
    let mut counts = BTreeMap::<ConnId, u32>::new();
    let mut said = drain(&mut lone);
    let (mut turns, mut slots) = (0, Vec::new());
    while lone.core.next_timeout() == Some(Time::ZERO) || turns == 0 {
        let in_turn: Vec<ConnId> = conns.iter().filter(|conn| told(&said, **conn).is_some()).copied().collect();
        assert!(!in_turn.is_empty() && in_turn.len() <= 256, "{} in a turn", in_turn.len());
        slots.extend(in_turn.iter().filter_map(|conn| told(&said, *conn)));
        in_turn.into_iter().for_each(|conn| *counts.entry(conn).or_default() += 1);
        (said, turns) = (lone.turn(|_| {}), turns + 1);
    }
    let in_turn: Vec<ConnId> = conns.iter().filter(|conn| told(&said, **conn).is_some()).copied().collect();
    in_turn.into_iter().for_each(|conn| *counts.entry(conn).or_default() += 1);
    assert_eq!(counts.len(), 600);
    assert!(counts.values().all(|count| *count == 1));
    assert!(slots.iter().all(|slot| *slot <= SPREAD - GRACE));
}

#[test]
fn without_a_spread_nobody_is_told_and_all_go_at_once() {
    let mut config = config();
    config.drain.spread = Duration::ZERO;
    let mut lone = LoneCore::new(config);
    let conns = [lone.client(), lone.client()];
    let said = drain(&mut lone);
    assert!(conns.iter().all(|conn| text_to(&said, *conn).is_empty()));
    let said = fenced(&mut lone, fence_of(&said).expect("all are due"));
    assert!(conns.iter().all(|conn| close_code(&said, *conn) == Some(code::RESTART)));
}

#[test]
fn a_stop_ends_a_drain_at_once() {
    let mut lone = LoneCore::new(config());
    let conns = [lone.client(), classic(&mut lone)];
    drain(&mut lone);
    let fence = fence_of(&lone.wait(SPREAD / 2));
    let said = lone.turn(|turn| turn.feed(Event::Shutdown));
    assert!(conns.iter().all(|conn| close_code(&said, *conn) == Some(code::RESTART)));
    assert_eq!(lone.core.readiness(), Err("shutting down"));
    if let Some(id) = fence {
        assert!(fenced(&mut lone, id).is_empty());
    }
    assert!(drain(&mut lone).is_empty() && shed(&mut lone, 1.0).is_empty());
}

#[test]
fn a_share_is_shed_and_the_others_stay() {
    let mut lone = LoneCore::new(config());
    let conns: Vec<ConnId> = (0..10).map(|_| lone.client()).collect();
    let said = shed(&mut lone, 0.25);
    let shed_first: Vec<ConnId> = conns.iter().filter(|conn| told(&said, **conn).is_some()).copied().collect();
    assert_eq!(shed_first.len(), 3, "a quarter of ten, rounded up");
    assert_eq!((lone.core.readiness(), lone.core.takes_newcomers()), (Ok(()), true));
    let metrics = lone.core.metrics();
    assert_eq!((metrics.draining_now, metrics.departing_now), (0, 3));
    // A second time, others.
    let again = shed(&mut lone, 0.25);
    let shed_second: Vec<ConnId> = conns.iter().filter(|conn| told(&again, **conn).is_some()).copied().collect();
    assert_eq!(shed_second.len(), 3);
    assert!(shed_second.iter().all(|conn| !shed_first.contains(conn)));
    let going = [shed_first, shed_second].concat();
    let closed = run(&mut lone, &going, vec![]);
    assert!(closed.values().all(|(_, code)| *code == code::RESTART));
    assert_eq!(lone.core.connections(), 4);
    assert_eq!(lone.core.metrics().departing_now, 0);
    let newcomer = lone.client();
    let staying: Vec<ConnId> = conns.into_iter().filter(|conn| !going.contains(conn)).chain([newcomer]).collect();
    // Those who were shed do not have to go again.
    let said = drain(&mut lone);
    assert!(staying.iter().all(|conn| told(&said, *conn).is_some()));
}

#[test]
fn a_drain_leaves_those_who_are_being_shed_their_times() {
    let mut lone = LoneCore::new(config());
    let conns: Vec<ConnId> = (0..4).map(|_| lone.client()).collect();
    let first = shed(&mut lone, 0.5);
    let second = drain(&mut lone);
    for conn in &conns {
        assert_ne!(told(&first, *conn).is_some(), told(&second, *conn).is_some(), "each is told once");
    }
    assert_eq!(lone.core.metrics().departing_now, 4);
    run(&mut lone, &conns, vec![]);
}

#[test]
fn a_share_that_is_none_sheds_nobody() {
    let mut lone = LoneCore::new(config());
    lone.client();
    for share in [0.0, -1.0, f64::NAN, f64::NEG_INFINITY] {
        assert!(shed(&mut lone, share).is_empty());
        assert_eq!(lone.core.metrics().departing_now, 0, "{share}");
    }
    assert!(!shed(&mut lone, f64::INFINITY).is_empty());
    assert_eq!(lone.core.metrics().departing_now, 1);
}
