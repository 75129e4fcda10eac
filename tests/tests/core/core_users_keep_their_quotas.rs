//! What a user may have and do over all connections on one core: one more is refused, whichever way it comes, and what is given up can
//! be had again. Others notice nothing.

use fanfare_core::broker::BrokerEvent;
use fanfare_core::rules::{Rule, Rules, Who};
use fanfare_core::{Auth, Config, ConnId, Denied, Dialect, Event, Identity, Rate, Refused};
use fanfare_tests::lone_core::{LoneCore, Said, close_code, text_to};
use fanfare_tests::{Frame, config, upgrade_request};
use std::time::Duration;

const BEARER: &str = "Authorization: Bearer t0ken\r\n";
const AUTH: &str = r#"{"type":"AUTH","token":"t","id":1}"#;

fn lone_with(set: impl FnOnce(&mut Config)) -> LoneCore {
    LoneCore::new(config(|config| {
        config.auth.insert(Auth::default()).required = false;
        config.rules = Rules::default().with_own_rooms();
        set(config);
    }))
}

/// What an upgrade at this path with this user's credential is told.
fn upgrade(lone: &mut LoneCore, path: &str, user: &str) -> (ConnId, Vec<Said>) {
    let conn = lone.connect();
    lone.bytes(conn, upgrade_request(path, BEARER));
    let said = verdict(lone, conn, Ok(user));
    (conn, said)
}

fn user(lone: &mut LoneCore, user: &str) -> ConnId {
    let (conn, said) = upgrade(lone, "/", user);
    assert!(text_to(&said, conn).starts_with("HTTP/1.1 101 "), "{said:?}");
    conn
}

fn verdict(lone: &mut LoneCore, conn: ConnId, outcome: Result<&str, Denied>) -> Vec<Said> {
    let identity = outcome.map(Identity::new);
    lone.turn(|turn| turn.feed(Event::Authenticated { conn, outcome: identity.as_ref().map_err(|denied| *denied) }))
}

fn leave(lone: &mut LoneCore, conn: ConnId) {
    lone.turn(|turn| turn.feed(Event::Closed { conn }));
}

fn with_connections(most: u32) -> LoneCore {
    lone_with(|config| config.admission.connections_per_user_max = most)
}

#[test]
fn an_upgrade_of_a_user_with_as_many_connections_as_allowed_gets_429() {
    let mut lone = with_connections(2);
    let bobs = [(); 2].map(|()| user(&mut lone, "bob"));
    let (late, said) = upgrade(&mut lone, "/", "bob");
    let text = text_to(&said, late);
    assert!(text.starts_with("HTTP/1.1 429 ") && text.contains("\r\nRetry-After: 1\r\n"), "{text}");
    assert!(text.ends_with("too many connections of this user"), "{text}");
    let metrics = lone.core.metrics();
    assert_eq!((metrics.upgrades_refused_user, metrics.quota_connections_refused, lone.core.refusals()), (1, 1, 1));
    assert_eq!((metrics.connections_now, metrics.users_now), (2, 1));

    // Others have places of their own, and so has whoever is no user.
    user(&mut lone, "bobby");
    lone.client();
    leave(&mut lone, bobs[0]);
    user(&mut lone, "bob");
    assert_eq!(lone.core.metrics().quota_connections_refused, 1);
}

#[test]
fn an_auth_of_such_a_user_is_refused_and_has_no_effect() {
    let mut lone = with_connections(1);
    let bob = user(&mut lone, "bob");
    let nobody = lone.client();
    lone.command(nobody, AUTH);
    let said = verdict(&mut lone, nobody, Ok("bob"));
    let error = r#"{"type":"ERROR","code":"too_many_connections","reason":"this user has as many connections as allowed","id":1}"#;
    assert!(text_to(&said, nobody).contains(error), "{said:?}");
    assert!(!said.iter().any(|said| matches!(said, Said::Subscribe(_))), "it is not in the user's own room: {said:?}");
    let metrics = lone.core.metrics();
    assert_eq!((metrics.quota_connections_refused, metrics.upgrades_refused_user), (1, 0));
    let said = lone.command(nobody, r#"{"type":"SUBSCRIBE","room":"r"}"#);
    assert!(text_to(&said, nobody).contains("unauthorised"), "it is nobody's still: {said:?}");

    // Whose connection it is already may say so again.
    lone.command(bob, AUTH);
    let said = verdict(&mut lone, bob, Ok("bob"));
    assert!(text_to(&said, bob).contains("AUTHENTICATED"), "{said:?}");
    // It may be another user's, or this one's once there is a place.
    leave(&mut lone, bob);
    lone.command(nobody, AUTH);
    let said = verdict(&mut lone, nobody, Ok("bob"));
    assert!(text_to(&said, nobody).contains("AUTHENTICATED"), "{said:?}");
}

#[test]
fn who_needs_a_credential_and_has_no_place_may_come_back() {
    let mut lone = lone_with(|config| {
        config.auth = Some(Auth::default());
        config.admission.connections_per_user_max = 1;
    });
    user(&mut lone, "bob");
    let late = lone.client();
    lone.command(late, AUTH);
    let said = verdict(&mut lone, late, Ok("bob"));
    assert_eq!(close_code(&said, late), None, "{said:?}");
    let said = lone.wait(Duration::from_secs(11));
    assert_eq!(close_code(&said, late), Some(1013), "{said:?}");
}

#[test]
fn who_cannot_be_told_is_closed() {
    let mut lone = with_connections(1);
    user(&mut lone, "bob");
    let classic = lone.connect();
    lone.bytes(classic, upgrade_request("/classic", ""));
    lone.command(classic, AUTH);
    let said = verdict(&mut lone, classic, Ok("bob"));
    assert_eq!(close_code(&said, classic), Some(1013), "{said:?}");
    // Nobody has asked.
    let nobody = lone.client();
    let said = verdict(&mut lone, nobody, Ok("bob"));
    assert_eq!(close_code(&said, nobody), Some(1013), "{said:?}");
    assert_eq!(lone.core.metrics().quota_connections_refused, 2);
}

#[test]
fn a_framework_is_told_before_it_answers() {
    let mut lone = with_connections(1);
    let open = |lone: &mut LoneCore| {
        let mut outcome = Err(Refused::Full);
        lone.turn(|turn| outcome = turn.open_websocket_of(&Identity::new("bob"), Dialect::Fanfare, &[], None));
        outcome
    };
    let first = open(&mut lone).expect("a place");
    assert_eq!(open(&mut lone), Err(Refused::User));
    let metrics = lone.core.metrics();
    let refused = (metrics.upgrades_refused_user, metrics.quota_connections_refused, lone.core.refusals());
    assert_eq!((refused, lone.core.connections()), ((1, 1, 1), 1));
    leave(&mut lone, first);
    assert!(open(&mut lone).is_ok());
}

#[test]
fn a_connection_that_ends_has_left_its_place_when_its_close_frame_goes_out() {
    let mut lone = with_connections(1);
    let bob = user(&mut lone, "bob");
    let said = lone.bytes(bob, Frame::close(1000, "").masked());
    assert_eq!(close_code(&said, bob), Some(1000), "{said:?}");
    user(&mut lone, "bob");
}

fn with_rooms(most: u32) -> LoneCore {
    lone_with(|config| {
        config.limits.rooms_per_user_max = most;
        let mut open = Rule::new("open:*".parse().expect("a pattern"));
        open.permissions.subscribe = Some(Who::Anyone);
        config.rules = Rules::new(vec![open]).expect("a rule").with_own_rooms();
    })
}

fn subscribe(lone: &mut LoneCore, conn: ConnId, room: &str) -> Vec<Said> {
    lone.command(conn, &format!(r#"{{"type":"SUBSCRIBE","room":"{room}","id":1}}"#))
}

#[track_caller]
fn expect_full(said: &[Said], conn: ConnId, room: &str) {
    let reason = "the connections of a user are in at most 2 rooms, beside its own";
    let error = format!(r#""code":"too_many_rooms","reason":"{reason}","id":1,"room":"{room}""#);
    assert!(text_to(said, conn).contains(&error), "{said:?}");
}

#[track_caller]
fn expect_joins(said: &[Said], conn: ConnId) {
    assert!(!text_to(said, conn).contains("ERROR"), "{said:?}");
}

#[test]
fn the_connections_of_a_user_are_in_as_many_rooms_as_allowed() {
    let mut lone = with_rooms(2);
    let [one, other] = [(); 2].map(|()| user(&mut lone, "bob"));
    expect_joins(&subscribe(&mut lone, one, "a"), one);
    expect_joins(&subscribe(&mut lone, other, "b"), other);
    // Those who wait for the broker have their places, the user's own room needs none, and a room counts once.
    expect_full(&subscribe(&mut lone, one, "c"), one, "c");
    expect_joins(&subscribe(&mut lone, one, "b"), one);
    lone.command(other, r#"{"type":"UNSUBSCRIBE","room":"user:bob"}"#);
    expect_joins(&subscribe(&mut lone, other, "user:bob"), other);
    assert_eq!(lone.core.metrics().quota_rooms_refused, 1);
    // Others have places of their own, and so has whoever is no user.
    let eve = user(&mut lone, "eve");
    expect_joins(&subscribe(&mut lone, eve, "c"), eve);
    let nobody = lone.client();
    for room in ["open:1", "open:2", "open:3"] {
        expect_joins(&subscribe(&mut lone, nobody, room), nobody);
    }

    lone.command(other, r#"{"type":"UNSUBSCRIBE","room":"b"}"#);
    expect_full(&subscribe(&mut lone, other, "c"), other, "c");
    leave(&mut lone, one);
    expect_joins(&subscribe(&mut lone, other, "c"), other);
    expect_joins(&subscribe(&mut lone, other, "d"), other);
    expect_full(&subscribe(&mut lone, other, "a"), other, "a");
    leave(&mut lone, other);
    let again = user(&mut lone, "bob");
    expect_joins(&subscribe(&mut lone, again, "a"), again);
    assert_eq!(lone.core.metrics().quota_rooms_refused, 3);
}

#[test]
fn the_own_room_has_a_place_also_where_another_connection_is_in_it() {
    let mut lone = with_rooms(2);
    let [one, other] = [(); 2].map(|()| user(&mut lone, "bob"));
    lone.command(other, r#"{"type":"UNSUBSCRIBE","room":"user:bob"}"#);
    expect_joins(&subscribe(&mut lone, one, "a"), one);
    expect_joins(&subscribe(&mut lone, other, "b"), other);
    expect_full(&subscribe(&mut lone, other, "c"), other, "c");
}

#[test]
fn rooms_that_come_with_the_upgrade_and_the_credential_count_too() {
    let mut lone = with_rooms(2);
    let (conn, said) = upgrade(&mut lone, "/?room=a&room=b&room=c", "bob");
    let text = text_to(&said, conn);
    assert!(text.contains(r#""code":"too_many_rooms""#) && text.contains(r#""room":"c""#), "{text}");
    let (_, said) = upgrade(&mut lone, "/broadcast/a", "bob");
    assert!(!said.iter().any(|said| matches!(said, Said::Shutdown(_))), "{said:?}");
    let (broadcaster, said) = upgrade(&mut lone, "/broadcast/c", "bob");
    assert_eq!(close_code(&said, broadcaster), Some(1013), "{said:?}");
    // As beyond the rooms of one connection, this dialect hears nothing of it.
    let (classic, _) = upgrade(&mut lone, "/classic", "bob");
    let said = subscribe(&mut lone, classic, "c");
    assert_eq!((text_to(&said, classic).as_str(), close_code(&said, classic)), ("", None));
    assert_eq!(lone.core.metrics().quota_rooms_refused, 3);
}

#[test]
fn what_a_connection_was_in_before_it_was_the_users_counts_and_stays() {
    let mut lone = with_rooms(2);
    let conn = lone.client();
    for room in ["open:1", "open:2", "open:3"] {
        expect_joins(&subscribe(&mut lone, conn, room), conn);
    }
    lone.command(conn, AUTH);
    let said = verdict(&mut lone, conn, Ok("bob"));
    assert!(
        text_to(&said, conn).contains("AUTHENTICATED") && !text_to(&said, conn).contains("too_many_rooms"),
        "{said:?}"
    );
    lone.command(conn, r#"{"type":"UNSUBSCRIBE","room":"open:1"}"#);
    expect_full(&subscribe(&mut lone, conn, "open:1"), conn, "open:1");
    lone.command(conn, r#"{"type":"UNSUBSCRIBE","room":"open:2"}"#);
    expect_joins(&subscribe(&mut lone, conn, "open:1"), conn);
}

#[test]
fn nothing_is_left_of_users_that_have_gone() {
    let mut lone = with_rooms(2);
    let conns = ["bob", "eve", "bob"].map(|name| user(&mut lone, name));
    for conn in conns {
        expect_joins(&subscribe(&mut lone, conn, "a"), conn);
    }
    for conn in conns {
        leave(&mut lone, conn);
    }
    for room in ["user:bob", "user:eve", "a"] {
        lone.broker(BrokerEvent::Subscribed { room });
    }
    for said in lone.wait(Duration::from_secs(60)) {
        if let Said::Unsubscribe(room) = said {
            lone.broker(BrokerEvent::Unsubscribed { room: &room });
        }
    }
    lone.core.check_idle();
}

fn with_messages(per_second: u64, burst: u64) -> LoneCore {
    lone_with(|config| {
        config.limits.user_messages = Rate { per_second, burst };
        config.limits.errors_max = 5;
    })
}

const PING: &str = r#"{"type":"PING","id":7}"#;

/// How many of so many pings are answered, and how many are refused.
fn ping(lone: &mut LoneCore, conn: ConnId, count: usize) -> (usize, usize) {
    let said: Vec<Said> = (0..count).flat_map(|_| lone.command(conn, PING)).collect();
    let text = text_to(&said, conn);
    let error = r#""code":"too_fast","reason":"more messages a second than the connections of a user may send","id":7"#;
    (text.matches(r#"{"type":"PONG","id":7}"#).count(), text.matches(error).count())
}

#[test]
fn the_connections_of_a_user_send_as_fast_as_allowed_together() {
    let mut lone = with_messages(2, 5);
    let [one, other, eve] = ["bob", "bob", "eve"].map(|name| user(&mut lone, name));
    let nobody = lone.client();
    assert_eq!((ping(&mut lone, one, 4), ping(&mut lone, other, 3)), ((4, 0), (1, 2)));
    assert_eq!((ping(&mut lone, eve, 6), ping(&mut lone, nobody, 50)), ((5, 1), (50, 0)));
    let metrics = lone.core.metrics();
    assert_eq!((metrics.quota_messages_refused, metrics.limited_messages, metrics.rate_closes), (3, 0, 0));
    lone.wait(Duration::from_millis(500));
    assert_eq!((ping(&mut lone, one, 2), ping(&mut lone, other, 1)), ((1, 1), (0, 1)));
    // Whoever comes back owes what it owed.
    for conn in [one, other] {
        leave(&mut lone, conn);
    }
    let again = user(&mut lone, "bob");
    assert_eq!(ping(&mut lone, again, 1), (0, 1));
    lone.wait(Duration::from_secs(3));
    assert_eq!(ping(&mut lone, again, 6), (5, 1));
}

#[test]
fn what_the_connection_may_not_send_is_not_charged_to_its_user() {
    let mut lone = lone_with(|config| {
        config.limits.user_messages = Rate { per_second: 1, burst: 4 };
        config.limits.messages = Rate { per_second: 1, burst: 2 };
    });
    let [one, other] = [(); 2].map(|()| user(&mut lone, "bob"));
    assert_eq!(ping(&mut lone, one, 5), (2, 0), "the others are beyond the connection's own rate");
    assert_eq!(ping(&mut lone, other, 5), (2, 3));
}

#[test]
fn whoever_goes_on_or_cannot_be_told_is_closed() {
    let mut lone = with_messages(1, 5);
    let flood = user(&mut lone, "bob");
    let said: Vec<Said> = (0..11).flat_map(|_| lone.command(flood, PING)).collect();
    assert_eq!(close_code(&said, flood), Some(4029), "{said:?}");
    let (classic, _) = upgrade(&mut lone, "/classic", "bob");
    let said = lone.command(classic, PING);
    assert_eq!(close_code(&said, classic), Some(4029), "{said:?}");
    // Nothing can be answered in the midst of a message.
    let conn = user(&mut lone, "bob");
    let said = lone.bytes(conn, Frame::text("{").unfinished().masked());
    assert_eq!(close_code(&said, conn), Some(4029), "{said:?}");
    let metrics = lone.core.metrics();
    assert_eq!((metrics.quota_messages_refused, metrics.rate_closes), (8, 3));
}
