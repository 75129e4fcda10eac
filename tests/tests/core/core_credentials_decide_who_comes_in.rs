//! Credentials from the request to their end: what is asked about them, and what becomes of the answer.

use fanfare_core::broker::BrokerEvent;
use fanfare_core::rules::{Grants, Right, Rule, Rules, Who};
use fanfare_core::{
    Auth, Ban, Banned, Bans, Config, ConnId, Denied, Dialect, Event, Identity, Source, TOKEN_BYTES_MAX,
};
use fanfare_tests::lone_core::{Does, LoneCore, Said, carry_out, close_code, take_all, text_to};
use fanfare_tests::{Frame, config, upgrade_request};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Unix, ms.
const NOW: u64 = 1_700_000_000_000;
const BEARER: &str = "Authorization: Bearer t0ken\r\n";

fn lone_with(set: impl FnOnce(&mut Config)) -> LoneCore {
    let mut lone = LoneCore::new(config(|config| {
        config.auth = Some(Auth::default());
        config.rules = Rules::default().with_own_rooms();
        set(config);
    }));
    lone.turn(|turn| turn.feed(Event::WallClock { unix_ms: NOW }));
    lone
}

fn auth(config: &mut Config) -> &mut Auth {
    config.auth.as_mut().expect("set before")
}

fn verdict(lone: &mut LoneCore, conn: ConnId, outcome: Result<&Identity, Denied>) -> Vec<Said> {
    lone.turn(|turn| turn.feed(Event::Authenticated { conn, outcome }))
}

/// A connection that has sent this request.
fn asks(lone: &mut LoneCore, path: &str, fields: &str) -> (ConnId, Vec<Said>) {
    let conn = lone.connect();
    let said = lone.bytes(conn, upgrade_request(path, fields));
    (conn, said)
}

/// A connection of this identity.
fn user(lone: &mut LoneCore, identity: &Identity) -> ConnId {
    let (conn, said) = asks(lone, "/", BEARER);
    assert_eq!(said, [Said::Authenticate(conn, Source::Header, b"t0ken".to_vec())]);
    let said = verdict(lone, conn, Ok(identity));
    assert!(text_to(&said, conn).starts_with("HTTP/1.1 101 "), "{said:?}");
    conn
}

fn expiring(user: &str, after: Duration) -> Identity {
    let mut identity = Identity::new(user);
    identity.expires_ms = Some(NOW + after.as_millis() as u64);
    identity
}

#[test]
fn an_upgrade_waits_for_its_credential_and_what_follows_it_is_kept() {
    let mut lone = lone_with(|_| {});
    let conn = lone.connect();
    let mut bytes = upgrade_request("/?room=tea", BEARER).into_bytes();
    bytes.extend(Frame::text(r#"{"type":"PING","id":1}"#).masked());
    assert_eq!(lone.bytes(conn, bytes), [Said::Authenticate(conn, Source::Header, b"t0ken".to_vec())]);
    assert_eq!(lone.bytes(conn, Frame::text(r#"{"type":"PING","id":2}"#).masked()), []);
    let said = verdict(&mut lone, conn, Ok(&Identity::new("bob")));
    let text = text_to(&said, conn);
    assert!(text.starts_with("HTTP/1.1 101 "), "{text}");
    assert!(text.contains(r#""type":"PONG","id":1"#) && text.contains(r#""type":"PONG","id":2"#), "{text}");
    assert!(said.contains(&Said::Subscribe("user:bob".into())) && said.contains(&Said::Subscribe("tea".into())));
}

#[test]
fn a_refused_credential_is_told_by_a_status_or_by_a_close_code() {
    for (denied, status, code) in [
        (Denied::Unauthorised, "401", 4501),
        (Denied::Expired, "401", 4001),
        (Denied::Forbidden, "403", 4503),
        (Denied::Unavailable, "503", 1013),
    ] {
        let mut lone = lone_with(|_| {});
        let (conn, _) = asks(&mut lone, "/", BEARER);
        let said = verdict(&mut lone, conn, Err(denied));
        let text = text_to(&said, conn);
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")) && text.contains(r#"{"error":""#), "{text}");
        assert_eq!(lone.core.metrics().upgrades_refused_auth, 1);

        let mut lone = lone_with(|config| auth(config).refuses_by_close = true);
        let (conn, _) = asks(&mut lone, "/?room=tea", BEARER);
        let said = verdict(&mut lone, conn, Err(denied));
        assert!(text_to(&said, conn).starts_with("HTTP/1.1 101 "), "{said:?}");
        assert_eq!(close_code(&said, conn), Some(code));
        assert!(!said.iter().any(|said| matches!(said, Said::Subscribe(_))), "{said:?}");
    }
}

#[test]
fn a_credential_that_nobody_looks_at_ends_in_time_and_a_late_answer_is_nobodys() {
    let mut lone = lone_with(|_| {});
    let (conn, _) = asks(&mut lone, "/", BEARER);
    let said = lone.wait(Duration::from_secs(11));
    assert!(text_to(&said, conn).starts_with("HTTP/1.1 503 "), "{said:?}");
    assert_eq!(verdict(&mut lone, conn, Ok(&Identity::new("bob"))), []);
    lone.turn(|turn| turn.feed(Event::Closed { conn }));
    verdict(&mut lone, conn, Ok(&Identity::new("bob")));
    lone.core.check_idle();
}

#[test]
fn without_a_credential_one_has_to_follow_in_time() {
    let mut lone = lone_with(|_| {});
    let conn = lone.client();
    let said = lone.wait(Duration::from_secs(11));
    assert_eq!(close_code(&said, conn), Some(4501));
    // A dialect in which none could follow.
    for path in ["/classic", "/broadcast"] {
        let (conn, said) = asks(&mut lone, path, "");
        assert!(text_to(&said, conn).starts_with("HTTP/1.1 401 "), "{said:?}");
    }
    let mut lone = lone_with(|config| auth(config).refuses_by_close = true);
    let (conn, said) = asks(&mut lone, "/classic", "");
    assert_eq!(close_code(&said, conn), Some(4501));
}

#[test]
fn a_command_shows_a_credential() {
    let mut lone = lone_with(|_| {});
    let conn = lone.client();
    let said = lone.command(conn, r#"{"type":"AUTH","token":"t","id":1}"#);
    assert_eq!(said, [Said::Authenticate(conn, Source::Command, b"t".to_vec())]);
    let said = lone.command(conn, r#"{"type":"AUTH","token":"t","id":2}"#);
    assert!(text_to(&said, conn).contains(r#""code":"pending""#), "{said:?}");
    let said = verdict(&mut lone, conn, Err(Denied::Unauthorised));
    assert!(text_to(&said, conn).contains(r#""code":"unauthorised""#), "{said:?}");
    lone.command(conn, r#"{"type":"AUTH","token":"t","id":3}"#);
    let said = verdict(&mut lone, conn, Ok(&expiring("bob", Duration::from_secs(100))));
    let reply = r#"{"type":"AUTHENTICATED","user":"bob","expires":1700000100,"id":3}"#;
    assert!(text_to(&said, conn).contains(reply), "{said:?}");
    assert!(said.contains(&Said::Subscribe("user:bob".into())));
    // It stays, although the time for a first credential is over.
    let said = lone.wait(Duration::from_secs(15));
    assert_eq!(close_code(&said, conn), None);
}

#[test]
fn a_credential_that_expires_is_told_of_before_and_a_renewal_keeps_the_connection() {
    let mut lone = lone_with(|_| {});
    let conn = user(&mut lone, &expiring("bob", Duration::from_secs(100)));
    let second = Duration::from_secs(1);
    let said = lone.wait(41 * second);
    assert!(text_to(&said, conn).contains(r#""code":"token_expiring""#), "{said:?}");
    // Another user's does not renew it, and what is known stays.
    lone.command(conn, r#"{"type":"AUTH","token":"t","id":1}"#);
    let said = verdict(&mut lone, conn, Ok(&expiring("eve", 500 * second)));
    assert!(text_to(&said, conn).contains(r#""code":"forbidden""#), "{said:?}");
    lone.command(conn, r#"{"type":"AUTH","token":"t","id":1}"#);
    let said = verdict(&mut lone, conn, Ok(&expiring("bob", 200 * second)));
    assert!(text_to(&said, conn).contains("AUTHENTICATED"), "{said:?}");
    lone.bytes(conn, Frame::text(r#"{"type":"PING"}"#).masked());
    let said = lone.wait(70 * second);
    assert!(text_to(&said, conn).contains("token_expiring") || close_code(&said, conn).is_none(), "{said:?}");
    lone.bytes(conn, Frame::text(r#"{"type":"PING"}"#).masked());
    let said = lone.wait(90 * second);
    assert_eq!(close_code(&said, conn), Some(4001));
}

#[test]
fn what_cannot_be_found_out_unasked_puts_off_no_end() {
    let mut lone = lone_with(|_| {});
    let second = Duration::from_secs(1);
    let conn = user(&mut lone, &expiring("bob", 3 * second));
    lone.wait(2 * second);
    assert_eq!(verdict(&mut lone, conn, Err(Denied::Unavailable)), []);
    assert_eq!(close_code(&lone.wait(2 * second), conn), Some(4001));
}

#[test]
fn a_session_is_looked_up_again_and_ends_with_it() {
    let mut lone = lone_with(|config| auth(config).recheck = Duration::from_secs(20));
    let mut session = Identity::new("bob");
    session.renewal = Some(b"again"[..].into());
    let conn = user(&mut lone, &session);
    let asked = [Said::Authenticate(conn, Source::Renewal, b"again".to_vec())];
    assert_eq!(lone.wait(Duration::from_secs(21)), asked);
    assert_eq!(verdict(&mut lone, conn, Ok(&session)), []);
    assert!(lone.wait(Duration::from_secs(21)).contains(&asked[0]));
    // Nobody knows: it stays, and is asked again soon.
    assert_eq!(verdict(&mut lone, conn, Err(Denied::Unavailable)), []);
    lone.bytes(conn, Frame::text(r#"{"type":"PING"}"#).masked());
    assert_eq!(lone.wait(Duration::from_secs(6)), asked);
    let said = verdict(&mut lone, conn, Err(Denied::Unauthorised));
    assert_eq!(close_code(&said, conn), Some(4001));
}

#[test]
fn a_ban_ends_connections_and_keeps_others_from_coming() {
    let ban = |banned| Arc::new(Bans::new([Ban { banned, until_ms: NOW + 1_000_000 }]));
    let mut bob = Identity::new("bob");
    (bob.token_id, bob.issued_ms) = (Some("t1".into()), Some(NOW - 1_000));
    for (bans, code, status) in [
        (ban(Banned::User("bob".into())), 4503, "403"),
        (ban(Banned::Token("t1".into())), 4001, "401"),
        (ban(Banned::IssuedBefore { ms: NOW, user: None }), 4001, "401"),
        (ban(Banned::IssuedBefore { ms: NOW, user: Some("bob".into()) }), 4001, "401"),
    ] {
        let mut lone = lone_with(|_| {});
        let mut eve = Identity::new("eve");
        eve.issued_ms = Some(NOW);
        let (banned, other) = (user(&mut lone, &bob), user(&mut lone, &eve));
        let (waiting, _) = asks(&mut lone, "/", BEARER);
        let said = lone.turn(|turn| turn.feed(Event::Bans(&bans)));
        assert_eq!((close_code(&said, banned), close_code(&said, other)), (Some(code), None), "{bans:?}");
        let said = verdict(&mut lone, waiting, Ok(&bob));
        assert!(text_to(&said, waiting).starts_with(&format!("HTTP/1.1 {status} ")), "{said:?}");
        // It has an end.
        lone.turn(|turn| turn.feed(Event::WallClock { unix_ms: NOW + 1_000_000 }));
        user(&mut lone, &bob);
    }
}

#[test]
fn a_permission_that_is_taken_back_ends_the_membership() {
    let mut lone = lone_with(|config| {
        let mut rule = Rule::new("team:*".parse().expect("a pattern"));
        rule.permissions.subscribe = Some(Who::Granted);
        config.rules = Rules::new(vec![rule]).expect("a rule").with_own_rooms();
        auth(config).own_rooms = false;
    });
    let granted = |rooms: &[&str]| {
        let mut identity = Identity::new("bob");
        identity.grants = Grants::default().with(Right::Subscribe, rooms.iter().copied()).expect("patterns");
        identity
    };
    let conn = user(&mut lone, &granted(&["team:1", "team:2", "team:3"]));
    for room in ["team:1", "team:2", "team:3"] {
        lone.command(conn, &format!(r#"{{"type":"SUBSCRIBE","room":"{room}","id":1}}"#));
        if room != "team:3" {
            lone.broker(BrokerEvent::Subscribed { room });
        }
    }
    let said = verdict(&mut lone, conn, Ok(&granted(&["team:1"])));
    let text = text_to(&said, conn);
    assert!(text.contains(r#"{"type":"UNSUBSCRIBED","room":"team:2","code":"forbidden"}"#), "{text}");
    // Its SUBSCRIBE still waited for the broker.
    assert!(text.contains(r#""code":"forbidden","reason":"this user may not be in this room","id":1,"room":"team:3""#));
    assert!(!text.contains("team:1"), "{text}");
    let said = lone.broker(BrokerEvent::Message { room: "team:2", payload: b"secret" });
    assert!(!text_to(&said, conn).contains("secret"), "{said:?}");
    let said = lone.broker(BrokerEvent::Message { room: "team:1", payload: b"hello" });
    assert!(text_to(&said, conn).contains("hello"), "{said:?}");
}

#[test]
fn what_a_user_says_is_signed_and_what_a_client_writes_is_not_taken_for_it() {
    let mut lone = lone_with(|config| auth(config).required = false);
    let send = r#"{"type":"SEND_MESSAGE","room":"tea","message":"hi","from":"eve","time":1}"#;
    let bob = user(&mut lone, &Identity::new("b\"ob"));
    let said = lone.command(bob, send);
    let payload = said.iter().find_map(|said| match said {
        Said::Publish(_, payload, _) => Some(payload.clone()),
        _ => None,
    });
    let text = r#"{"type":"MESSAGE","room":"tea","from":"b\"ob","time":1700000000000,"message":"hi"}"#;
    let payload = payload.expect("it is published");
    assert!(payload.ends_with(text.as_bytes()), "{}", String::from_utf8_lossy(&payload));
    // It reaches members as it is, and bare ones without it.
    lone.command(bob, r#"{"type":"SUBSCRIBE","room":"tea"}"#);
    lone.broker(BrokerEvent::Subscribed { room: "tea" });
    let said = lone.broker(BrokerEvent::Message { room: "tea", payload: &payload });
    assert!(text_to(&said, bob).contains(text), "{said:?}");
    assert_eq!(lone.core.metrics().messages_forged, 0);
}

#[test]
fn somebody_who_is_no_user_signs_nothing() {
    let mut lone = lone_with(|config| {
        auth(config).required = false;
        let mut rule = Rule::new("tea".parse().expect("a pattern"));
        rule.permissions.publish = Some(Who::Anyone);
        config.rules = Rules::new(vec![rule]).expect("a rule").with_own_rooms();
    });
    let conn = lone.client();
    let said = lone.command(conn, r#"{"type":"SEND_MESSAGE","room":"tea","message":"hi","from":"eve"}"#);
    let Some(Said::Publish(_, payload, _)) = said.first() else { panic!("{said:?}") };
    assert!(payload.ends_with(br#"{"type":"MESSAGE","room":"tea","time":1700000000000,"message":"hi"}"#));
}

#[test]
fn a_users_connections_share_the_users_own_room_and_nobody_else_has_it() {
    let mut lone = lone_with(|_| {});
    let (one, two) = (user(&mut lone, &Identity::new("a:b")), user(&mut lone, &Identity::new("a:b")));
    let said = lone.broker(BrokerEvent::Subscribed { room: "user:a%3Ab" });
    for conn in [one, two] {
        assert!(text_to(&said, conn).contains(r#"{"type":"SUBSCRIBED","room":"user:a%3Ab"}"#), "{said:?}");
    }
    let eve = user(&mut lone, &Identity::new("eve"));
    let said = lone.command(eve, r#"{"type":"SUBSCRIBE","room":"user:a%3Ab","id":1}"#);
    assert!(text_to(&said, eve).contains(r#""code":"forbidden""#), "{said:?}");
    let said = lone.command(eve, r#"{"type":"SEND_MESSAGE","room":"user:a%3Ab","message":1}"#);
    assert!(matches!(said.first(), Some(Said::Publish(..))), "every user may write to it: {said:?}");
}

#[test]
fn rooms_that_come_with_a_credential_are_joined_if_they_can_be() {
    let mut lone = lone_with(|config| {
        let mut rule = Rule::new("closed".parse().expect("a pattern"));
        rule.permissions.subscribe = Some(Who::Nobody);
        config.rules = Rules::new(vec![rule]).expect("a rule").with_own_rooms();
    });
    let mut bob = Identity::new("bob");
    bob.join = ["tea", "closed", "\u{1}bans", "tea"].map(Into::into).into();
    let (conn, _) = asks(&mut lone, "/", BEARER);
    let said = verdict(&mut lone, conn, Ok(&bob));
    let rooms: Vec<&str> = said
        .iter()
        .filter_map(|said| match said {
            Said::Subscribe(room) => Some(&**room),
            _ => None,
        })
        .collect();
    assert_eq!(rooms, ["user:bob", "tea"]);
    let text = text_to(&said, conn);
    assert!(text.contains(r#""code":"room_invalid""#) && text.contains(r#""code":"forbidden""#), "{text}");
}

#[test]
fn the_users_own_room_takes_no_place_of_another_one() {
    let mut lone = lone_with(|config| config.limits.rooms_per_connection_max = 2);
    let joined = |said: &[Said]| -> Vec<String> {
        let rooms = said.iter().filter_map(|said| match said {
            Said::Subscribe(room) => Some(room.clone()),
            _ => None,
        });
        rooms.collect()
    };
    let full = |room: &str| {
        format!(
            r#""code":"too_many_rooms","reason":"a connection is in at most 2 rooms, beside its user's own","room":"{room}""#
        )
    };
    // First the own room, then those of the credential, then those of the URL.
    let mut bob = Identity::new("bob");
    bob.join = ["a", "b", "c"].map(Into::into).into();
    let (conn, _) = asks(&mut lone, "/?room=d&room=b", BEARER);
    let said = verdict(&mut lone, conn, Ok(&bob));
    let text = text_to(&said, conn);
    assert_eq!(joined(&said), ["user:bob", "a", "b"]);
    assert!(text.contains(&full("c")) && text.contains(&full("d")) && !text.contains(&full("b")), "{text}");
    assert_eq!(close_code(&said, conn), None);
    // Without the own room there is no place more.
    lone.command(conn, r#"{"type":"UNSUBSCRIBE","room":"user:bob"}"#);
    let said = lone.command(conn, r#"{"type":"SUBSCRIBE","room":"d"}"#);
    assert!(text_to(&said, conn).contains(r#""reason":"a connection is in at most 2 rooms","room":"d""#), "{said:?}");
    let said = lone.command(conn, r#"{"type":"SUBSCRIBE","room":"user:bob"}"#);
    assert!(!text_to(&said, conn).contains("too_many_rooms"), "{said:?}");

    // A connection that shows its credential late has its user's own room as well.
    let mut lone = lone_with(|config| {
        config.limits.rooms_per_connection_max = 2;
        auth(config).required = false;
        let mut open = Rule::new("**".parse().expect("a pattern"));
        open.permissions.subscribe = Some(Who::Anyone);
        config.rules = Rules::new(vec![open]).expect("a rule").with_own_rooms();
    });
    let (conn, said) = asks(&mut lone, "/?room=a&room=b", "");
    assert_eq!(joined(&said), ["a", "b"]);
    lone.command(conn, r#"{"type":"AUTH","token":"x"}"#);
    let said = verdict(&mut lone, conn, Ok(&Identity::new("bob")));
    assert_eq!(joined(&said), ["user:bob"]);
    let said = lone.command(conn, r#"{"type":"SUBSCRIBE","room":"c"}"#);
    assert!(text_to(&said, conn).contains(&full("c")), "{said:?}");
    // It has joined all that it may, and each of its rooms may be joined again.
    let said = lone.command(conn, r#"{"type":"SUBSCRIBE","room":"a","id":1}"#);
    assert!(!text_to(&said, conn).contains("too_many_rooms"), "{said:?}");
    // Nobody's connection has no own room.
    let (nobody, _) = asks(&mut lone, "/?room=a&room=b", "");
    let said = lone.command(nobody, r#"{"type":"SUBSCRIBE","room":"c"}"#);
    assert!(text_to(&said, nobody).contains("too_many_rooms"), "{said:?}");
}

/// A path, header fields, what is configured, and where the credential is found then.
type Place = (&'static str, &'static str, fn(&mut Auth), Source);

#[test]
fn a_credential_counts_where_it_is_configured_to() {
    let cases: [Place; 5] = [
        ("/?token=q", "", |_| {}, Source::Query),
        ("/", "Sec-WebSocket-Protocol: fanfare.v1, fanfare.token.s\r\n", |_| {}, Source::Subprotocol),
        (
            "/",
            "Origin: http://localhost\r\nCookie: a=b; sid=c\r\n",
            |auth| auth.cookie = Some("sid".into()),
            Source::Cookie,
        ),
        ("/?token=q", "", |auth| (auth.query, auth.requests) = (None, true), Source::Request),
        ("/?jwt=q", "", |auth| auth.query = Some("jwt".into()), Source::Query),
    ];
    for (path, fields, set, source) in cases {
        let mut lone = lone_with(|config| set(auth(config)));
        let (conn, said) = asks(&mut lone, path, fields);
        assert!(matches!(said[..], [Said::Authenticate(_, found, _)] if found == source), "{path} {fields} {said:?}");
        let said = verdict(&mut lone, conn, Ok(&Identity::new("bob")));
        let text = text_to(&said, conn);
        assert!(text.starts_with("HTTP/1.1 101 ") && !text.contains("fanfare.token"), "{text}");
    }
    // The page of another origin gets no further than before.
    let mut lone = lone_with(|config| auth(config).cookie = Some("sid".into()));
    let (conn, said) = asks(&mut lone, "/", "Origin: http://evil.example\r\nCookie: sid=c\r\n");
    assert!(text_to(&said, conn).starts_with("HTTP/1.1 403 "), "{said:?}");
}

#[test]
fn idempotency_keys_are_the_users_own() {
    let mut lone = lone_with(|config| {
        auth(config).required = false;
        let mut rule = Rule::new("**".parse().expect("a pattern"));
        rule.permissions.publish = Some(Who::Anyone);
        let age_max = Duration::from_secs(60);
        rule.history = Some(fanfare_core::history::Retention { messages_max: 10, bytes_max: 10_000, age_max });
        config.rules = Rules::new(vec![rule]).expect("a rule").with_own_rooms();
        auth(config).own_rooms = false;
    });
    let conn = lone.client();
    let send = |key: &str| format!(r#"{{"type":"SEND_MESSAGE","room":"r","message":1,"key":"{key}","id":1}}"#);
    let said = lone.command(conn, &send("short"));
    assert!(text_to(&said, conn).contains(r#""code":"bad_field""#), "a stranger's key has to be long: {said:?}");
    let bob = user(&mut lone, &Identity::new("bob"));
    let said = lone.command(bob, &send("short"));
    assert!(matches!(said.first(), Some(Said::Store(..))), "{said:?}");
}

#[test]
fn a_wrong_credential_puts_off_no_look_at_the_right_one() {
    let mut lone = lone_with(|config| auth(config).recheck = Duration::from_secs(300));
    let mut session = expiring("bob", Duration::from_secs(86_400));
    session.renewal = Some(b"again"[..].into());
    let conn = user(&mut lone, &session);
    lone.command(conn, r#"{"type":"AUTH","token":"wrong"}"#);
    verdict(&mut lone, conn, Err(Denied::Unauthorised));
    let said = lone.wait(Duration::from_secs(6));
    assert!(said.contains(&Said::Authenticate(conn, Source::Renewal, b"again".to_vec())), "{said:?}");
}

#[test]
fn wrong_credentials_end_a_connection_whatever_it_says_between_them() {
    // Nothing, another command, and a good credential that is another user's.
    for between in ["", r#"{"type":"PING"}"#, r#"{"type":"AUTH","token":"eve"}"#] {
        let mut lone = lone_with(|config| config.limits.errors_max = 2);
        let conn = user(&mut lone, &Identity::new("bob"));
        let mut ended = None;
        for _ in 0..3 {
            if !between.is_empty()
                && lone.command(conn, between).contains(&Said::Authenticate(conn, Source::Command, b"eve".to_vec()))
            {
                ended = ended.or(close_code(&verdict(&mut lone, conn, Ok(&Identity::new("eve"))), conn));
            }
            if ended.is_none() {
                lone.command(conn, r#"{"type":"AUTH","token":"t"}"#);
                ended = close_code(&verdict(&mut lone, conn, Err(Denied::Unauthorised)), conn);
            }
        }
        assert_eq!(ended, Some(4509), "{between}");
    }
}

#[test]
fn it_is_told_where_a_client_comes_from_and_whether_it_is_a_user() {
    fn told(lone: &mut LoneCore, conn: ConnId, mut bytes: Vec<u8>) -> Option<(bool, Option<IpAddr>)> {
        let mut turn = lone.core.turn(lone.now);
        turn.feed(Event::Bytes { conn, data: &mut bytes });
        let mut told = None;
        carry_out(turn, take_all, |does| {
            if let Does::Authenticate(asked) = does {
                told = Some((asked.is_known, asked.from));
            }
        });
        told
    }
    let network = Some("2001:db8:1:2::".parse().expect("an address"));
    let mut lone = lone_with(|_| {});
    let mut conn = None;
    lone.turn(|turn| conn = turn.open_from("2001:db8:1:2:3::4".parse().expect("an address")).ok());
    let conn = conn.expect("a place");
    let head = upgrade_request("/", BEARER).into_bytes();
    assert_eq!(told(&mut lone, conn, head.clone()), Some((false, network)));
    verdict(&mut lone, conn, Ok(&Identity::new("bob")));
    let auth = Frame::text(r#"{"type":"AUTH","token":"t"}"#).masked();
    assert_eq!(told(&mut lone, conn, auth.clone()), Some((true, network)));
    let nobody = lone.client();
    assert_eq!(told(&mut lone, nobody, auth), Some((false, None)), "it came from nowhere");
}

#[test]
fn a_credential_that_is_too_long_is_refused_without_a_question() {
    let mut lone = lone_with(|config| config.limits.errors_max = 3);
    let conn = lone.client();
    let auth = |bytes: usize| format!(r#"{{"type":"AUTH","token":"{}","id":1}}"#, "t".repeat(bytes));
    for _ in 0..2 {
        let said = lone.command(conn, &auth(TOKEN_BYTES_MAX + 1));
        assert!(!said.iter().any(|said| matches!(said, Said::Authenticate(..))), "{said:?}");
        assert!(text_to(&said, conn).contains(r#""code":"unauthorised""#), "{said:?}");
    }
    assert_eq!(lone.core.metrics().auth_refused, 2);
    assert!(matches!(lone.command(conn, &auth(TOKEN_BYTES_MAX))[..], [Said::Authenticate(..)]));
    verdict(&mut lone, conn, Err(Denied::Unavailable));
    let said = lone.command(conn, &auth(TOKEN_BYTES_MAX + 1));
    assert_eq!(close_code(&said, conn), Some(4509), "{said:?}");
}

#[test]
fn whose_credential_nobody_can_look_at_may_come_back() {
    let mut lone = lone_with(|_| {});
    let conn = lone.client();
    lone.command(conn, r#"{"type":"AUTH","token":"t","id":1}"#);
    let said = verdict(&mut lone, conn, Err(Denied::Unavailable));
    assert!(text_to(&said, conn).contains(r#""code":"auth_unavailable""#), "{said:?}");
    let said = lone.wait(Duration::from_secs(11));
    assert_eq!(close_code(&said, conn), Some(1013));
}

#[test]
fn a_request_in_which_nobody_is_found_is_one_without_a_credential() {
    let mut lone = lone_with(|config| auth(config).requests = true);
    let (conn, said) = asks(&mut lone, "/", "");
    assert_eq!(said, [Said::Authenticate(conn, Source::Request, Vec::new())]);
    let said = verdict(&mut lone, conn, Err(Denied::Unauthorised));
    assert!(text_to(&said, conn).starts_with("HTTP/1.1 101 "), "one may follow by AUTH: {said:?}");
    let (conn, _) = asks(&mut lone, "/classic", "");
    let said = verdict(&mut lone, conn, Err(Denied::Unauthorised));
    assert!(text_to(&said, conn).starts_with("HTTP/1.1 401 "), "{said:?}");
}

#[test]
fn a_framework_lets_in_nobody_who_may_not_come_in() {
    let mut lone = lone_with(|_| {});
    let bans = Arc::new(Bans::new([Ban { banned: Banned::User("eve".into()), until_ms: NOW + 1_000 }]));
    lone.turn(|turn| turn.feed(Event::Bans(&bans)));
    for identity in [Identity::new("eve"), Identity::new(""), expiring("bob", Duration::ZERO)] {
        let said = lone.turn(|turn| {
            let conn = turn.open_websocket_of(&identity, Dialect::Fanfare, &["tea"], None).expect("a place");
            assert!(turn.core().connections() > 0, "{conn:?}");
        });
        assert!(!said.iter().any(|said| matches!(said, Said::Subscribe(_))), "{identity:?}: {said:?}");
    }
    let mut opened = None;
    let said = lone.turn(|turn| {
        opened = turn.open_websocket_of(&Identity::new("bob"), Dialect::Fanfare, &["tea"], None).ok();
    });
    assert!(opened.is_some() && said.contains(&Said::Subscribe("user:bob".into())), "{said:?}");
}

#[test]
fn a_clock_that_is_set_ends_credentials_that_are_over() {
    let mut lone = lone_with(|_| {});
    let conn = user(&mut lone, &expiring("bob", Duration::from_secs(3_600)));
    let said = lone.turn(|turn| turn.feed(Event::WallClock { unix_ms: NOW + 3_700_000 }));
    assert_eq!(close_code(&said, conn), Some(4001));
}

#[test]
fn thousands_that_are_banned_end_in_several_turns() {
    let mut lone = lone_with(|config| auth(config).own_rooms = false);
    let users: Vec<ConnId> = (0..600).map(|_| user(&mut lone, &Identity::new("eve"))).collect();
    let bans = Arc::new(Bans::new([Ban { banned: Banned::User("eve".into()), until_ms: NOW + 1_000_000 }]));
    let mut ended = Vec::new();
    let mut said = lone.turn(|turn| turn.feed(Event::Bans(&bans)));
    loop {
        ended.push(users.iter().filter(|conn| close_code(&said, **conn) == Some(4503)).count());
        if ended.iter().sum::<usize>() == users.len() {
            break;
        }
        assert!(lone.core.next_timeout().is_some_and(|at| at <= lone.now), "the next turn goes on at once: {ended:?}");
        said = lone.turn(|_| {});
    }
    assert_eq!(ended, [512, 88], "a part when they are told, and one when time has passed");
}

#[test]
fn nobody_is_sent_here_before_it_is_known_who_is_banned() {
    let mut lone = lone_with(|config| auth(config).awaits_bans = true);
    assert_eq!(lone.core.readiness(), Err("it is not known yet who is banned"));
    lone.turn(|turn| turn.feed(Event::Bans(&Arc::default())));
    assert_eq!(lone.core.readiness(), Ok(()));
    lone.turn(|turn| turn.feed(Event::BansUnseen(true)));
    assert_eq!(lone.core.readiness(), Err("changes of the bans are not seen"));
    lone.turn(|turn| turn.feed(Event::BansUnseen(false)));
    assert_eq!(lone.core.readiness(), Ok(()));
}
