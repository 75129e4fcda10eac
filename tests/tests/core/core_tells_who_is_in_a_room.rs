//! What a client is told of who is in a room: in which order, how often, and when not.

use fanfare_core::broker::{BrokerEvent, Partitions, PresenceId};
use fanfare_core::presence::{Change, Present, RosterPage, Version, name_of};
use fanfare_core::rules::{Grants, Permissions, Right, Rule, Rules, Who};
use fanfare_core::ws::Message;
use fanfare_core::{Auth, Config, ConnId, Dialect, Event, Identity};
use fanfare_tests::lone_core::{LoneCore, Said, close_code, text_to};
use fanfare_tests::{Frame, config, upgrade_request};
use std::time::Duration;

const LINGER: Duration = Duration::from_secs(5);
const OBSERVE: &str = r#"{"type":"SUBSCRIBE","room":"r","presence":true,"id":1}"#;

fn with_presence(who: Option<Who>) -> Config {
    config(|config| {
        let mut rule = Rule::new("r".parse().expect("a pattern"));
        rule.presence = true;
        rule.permissions = Permissions { subscribe: Some(Who::Anyone), presence: who, ..Permissions::default() };
        let mut others = Rule::new("*".parse().expect("a pattern"));
        others.permissions = Permissions { subscribe: Some(Who::Anyone), ..Permissions::default() };
        config.rules = Rules::new(vec![rule, others]).expect("two rules");
        let mut auth = Auth::default();
        (auth.required, auth.own_rooms) = (false, false);
        config.auth = Some(auth);
        config.timeouts.ping_interval = Duration::from_secs(1_000_000);
        config.limits.rooms_per_connection_max = 2;
    })
}

fn open(lone: &mut LoneCore, identity: Option<&Identity>) -> ConnId {
    let mut conn = None;
    lone.turn(|turn| {
        conn = Some(match identity {
            Some(identity) => turn.open_websocket_of(identity, Dialect::Fanfare, &[], None),
            None => turn.open_websocket(Dialect::Fanfare, &[], None),
        });
    });
    conn.expect("set above").expect("there is a place")
}

fn user(name: &str, info: &str) -> Identity {
    let mut identity = Identity::new(name);
    identity.info = (!info.is_empty()).then(|| info.into());
    identity
}

fn say(lone: &mut LoneCore, conn: ConnId, text: &str) -> Vec<Said> {
    lone.turn(|turn| turn.feed(Event::Message { conn, message: Message::Text(text) }))
}

/// The texts that a connection is sent.
fn texts(said: &[Said], conn: ConnId) -> Vec<String> {
    let mut texts = Vec::new();
    for said in said {
        let Said::Sent(to, bytes) = said else { continue };
        let mut rest = &bytes[..];
        while let Some((frame, taken)) = Frame::parse(rest).filter(|_| *to == conn) {
            rest = &rest[taken..];
            texts.push(String::from_utf8(frame.payload).expect("a text"));
        }
    }
    texts
}

/// What the broker is told: who, of which info, with how many connections.
fn told(said: &[Said]) -> Vec<(&str, &str, u32)> {
    let told = said.iter().filter_map(|said| match said {
        Said::Present(_, room, (user, info), connections) => {
            assert_eq!(room, "r");
            Some((&**user, &**info, *connections))
        }
        _ => None,
    });
    told.collect()
}

/// Confirms what the broker was told.
fn keep(lone: &mut LoneCore, said: &[Said]) -> Vec<Said> {
    let mut next = Vec::new();
    for said in said {
        if let Said::Present(id, _, _, connections) = said {
            next.extend(lone.broker(BrokerEvent::PresenceKept { id: *id, connections: *connections }));
        }
    }
    next
}

fn roster_asked(said: &[Said]) -> Option<PresenceId> {
    said.iter().find_map(|said| if let Said::Roster(id, ..) = said { Some(*id) } else { None })
}

fn page(number: u64, users: &[(&str, u32, &str)]) -> RosterPage {
    let present = |(user, connections, info): &(&str, u32, &str)| Present {
        user: (*user).into(),
        connections: *connections,
        info: (*info).into(),
    };
    let users: Vec<Present> = users.iter().map(present).collect();
    RosterPage { version: Version { epoch: 1, number }, total: users.len() as u32, users, next: None }
}

fn change(lone: &mut LoneCore, number: u64, total: u32, user: &str, connections: u32, info: &str) -> Vec<Said> {
    let mut payload = Vec::new();
    Change { version: Version { epoch: 1, number }, total, connections, user, info }.write(&mut payload);
    lone.broker(BrokerEvent::Message { room: &name_of("r"), payload: &payload })
}

/// One who observes the room, in which these are.
fn observer(lone: &mut LoneCore, users: &[(&str, u32, &str)]) -> ConnId {
    let conn = open(lone, None);
    let said = say(lone, conn, OBSERVE);
    assert_eq!(said, [Said::Subscribe("r".into()), Said::Subscribe(name_of("r"))]);
    lone.broker(BrokerEvent::Subscribed { room: "r" });
    let said = lone.broker(BrokerEvent::Subscribed { room: &name_of("r") });
    let id = roster_asked(&said).expect("it is read who is there");
    lone.broker(BrokerEvent::Roster { id, page: &page(1, users) });
    conn
}

#[test]
fn whoever_observes_is_told_who_is_there_and_then_who_comes_and_goes() {
    let mut lone = LoneCore::new(with_presence(None));
    let conn = open(&mut lone, None);
    let said = say(&mut lone, conn, OBSERVE);
    assert_eq!(said, [Said::Subscribe("r".into()), Said::Subscribe(name_of("r"))]);
    let beside = name_of("r");
    let said = lone.broker(BrokerEvent::Subscribed { room: &beside });
    let id = roster_asked(&said).expect("it is read who is there");
    // What comes before the answer is in it, or behind it.
    change(&mut lone, 6, 2, "eve", 1, "");
    let users = page(5, &[("bob", 2, r#"{"n":1}"#), ("ann", 1, "")]);
    assert_eq!(lone.broker(BrokerEvent::Roster { id, page: &users }), [], "its SUBSCRIBE comes first");
    let said = lone.broker(BrokerEvent::Subscribed { room: "r" });
    assert_eq!(
        texts(&said, conn),
        [
            r#"{"type":"SUBSCRIBED","room":"r","id":1}"#,
            concat!(
                r#"{"type":"PRESENT","room":"r","users":[{"user":"ann","connections":1},"#,
                r#"{"user":"bob","connections":2,"info":{"n":1}},{"user":"eve","connections":1}],"total":3,"more":false}"#
            ),
        ]
    );

    let said = change(&mut lone, 7, 4, "cid", 1, "[7]");
    assert_eq!(texts(&said, conn), [r#"{"type":"JOINED","room":"r","user":"cid","info":[7]}"#]);
    assert_eq!(change(&mut lone, 8, 4, "cid", 2, "[7]"), [], "one who is there comes once more");
    let said = change(&mut lone, 9, 3, "cid", 0, "");
    assert_eq!(texts(&said, conn), [r#"{"type":"LEFT","room":"r","user":"cid"}"#]);
    // Where a change is missing, all is read again, and the difference told.
    let said = change(&mut lone, 11, 3, "dan", 1, "");
    assert_eq!(texts(&said, conn), [r#"{"type":"JOINED","room":"r","user":"dan"}"#]);
    let id = roster_asked(&said).expect("it is read who is there");
    let users = page(11, &[("bob", 1, ""), ("eve", 1, ""), ("dan", 1, "")]);
    let said = lone.broker(BrokerEvent::Roster { id, page: &users });
    assert_eq!(texts(&said, conn), [r#"{"type":"LEFT","room":"r","user":"ann"}"#]);

    // Who asks again is told again; who leaves is told no more.
    let said = say(&mut lone, conn, OBSERVE);
    assert_eq!(texts(&said, conn).len(), 2, "{said:?}");
    say(&mut lone, conn, r#"{"type":"UNSUBSCRIBE","room":"r"}"#);
    assert_eq!(change(&mut lone, 12, 2, "dan", 0, ""), []);
    let said = lone.wait(Duration::from_secs(10));
    assert!(said.contains(&Said::Unsubscribe(beside)), "{said:?}");
}

#[test]
fn a_user_is_told_of_once_and_a_reload_makes_no_noise() {
    let mut lone = LoneCore::new(with_presence(None));
    let bob = user("bob", r#"{"n":1}"#);
    let first = open(&mut lone, Some(&bob));
    let said = say(&mut lone, first, r#"{"type":"SUBSCRIBE","room":"r"}"#);
    assert_eq!(told(&said), [("bob", r#"{"n":1}"#, 1)]);
    // While that is outstanding, nothing else is told of the same user.
    let second = open(&mut lone, Some(&bob));
    let more = say(&mut lone, second, r#"{"type":"SUBSCRIBE","room":"r"}"#);
    assert_eq!(told(&more), []);
    let said = keep(&mut lone, &said);
    assert_eq!(told(&said), [("bob", r#"{"n":1}"#, 2)]);
    keep(&mut lone, &said);

    lone.turn(|turn| turn.feed(Event::Closed { conn: first }));
    lone.turn(|turn| turn.feed(Event::Closed { conn: second }));
    assert_eq!(told(&lone.wait(LINGER - Duration::from_secs(1))), []);
    let again = open(&mut lone, Some(&bob));
    assert_eq!(told(&say(&mut lone, again, r#"{"type":"SUBSCRIBE","room":"r"}"#)), []);
    let said = lone.wait(Duration::from_secs(1));
    assert_eq!(told(&said), [("bob", r#"{"n":1}"#, 1)], "one of them has not come back");
    keep(&mut lone, &said);
    say(&mut lone, again, r#"{"type":"UNSUBSCRIBE","room":"r"}"#);
    let said = lone.wait(LINGER);
    assert_eq!(told(&said), [("bob", r#"{"n":1}"#, 0)]);
    keep(&mut lone, &said);
    assert_eq!(lone.core.metrics().presence_users_now, 0);

    // A newer credential says something else of the user.
    let said = say(&mut lone, again, r#"{"type":"SUBSCRIBE","room":"r"}"#);
    keep(&mut lone, &said);
    let said = lone.turn(|turn| {
        turn.feed(Event::Authenticated { conn: again, outcome: Ok(&user("bob", "2")) });
    });
    assert_eq!(told(&said), [("bob", "2", 1)]);
}

#[test]
fn whoever_shows_who_it_is_later_is_there_from_then_on() {
    let mut lone = LoneCore::new(with_presence(None));
    let conn = open(&mut lone, None);
    assert_eq!(told(&say(&mut lone, conn, r#"{"type":"SUBSCRIBE","room":"r"}"#)), []);
    let said = lone.turn(|turn| turn.feed(Event::Authenticated { conn, outcome: Ok(&user("bob", "")) }));
    assert_eq!(told(&said), [("bob", "", 1)]);
    // A dialect without replies is there as well.
    let speaker = lone.connect();
    lone.bytes(speaker, upgrade_request("/broadcast/r", ""));
    let said = lone.turn(|turn| turn.feed(Event::Authenticated { conn: speaker, outcome: Ok(&user("eve", "")) }));
    assert_eq!(told(&said), [("eve", "", 1)]);
}

#[test]
fn who_is_there_is_told_to_those_who_ask_in_parts() {
    let mut lone = LoneCore::new(with_presence(None));
    let conn = open(&mut lone, None);
    let ask = |more: &str| format!(r#"{{"type":"PRESENCE","room":"r"{more}}}"#);
    let said = say(&mut lone, conn, &ask(r#","id":1"#));
    assert_eq!(said, [Said::Subscribe(name_of("r"))]);
    let said = lone.broker(BrokerEvent::Subscribed { room: &name_of("r") });
    let id = roster_asked(&said).expect("it is read who is there");
    let said = lone.broker(BrokerEvent::Roster { id, page: &page(1, &[("c", 1, ""), ("a", 2, ""), ("b", 1, "")]) });
    assert_eq!(
        texts(&said, conn),
        [concat!(
            r#"{"type":"PRESENT","room":"r","id":1,"users":[{"user":"a","connections":2},{"user":"b","connections":1},"#,
            r#"{"user":"c","connections":1}],"total":3,"more":false}"#
        )]
    );
    // From now on it is known for a while.
    for (more, users, is_more) in [
        (r#","limit":1"#, r#"{"user":"a","connections":2}"#, true),
        (r#","limit":1,"after":"b""#, r#"{"user":"c","connections":1}"#, false),
        (r#","limit":0"#, "", true),
        (r#","after":"c""#, "", false),
    ] {
        let said = say(&mut lone, conn, &ask(more));
        let answer = format!(r#"{{"type":"PRESENT","room":"r","users":[{users}],"total":3,"more":{is_more}}}"#);
        assert_eq!(texts(&said, conn), [answer]);
    }
    assert!(lone.wait(Duration::from_secs(10)).contains(&Said::Unsubscribe(name_of("r"))));
    lone.broker(BrokerEvent::Unsubscribed { room: &name_of("r") });

    // Nobody can tell.
    say(&mut lone, conn, &ask(r#","id":2"#));
    let said = lone.broker(BrokerEvent::Down { reason: "a test" });
    assert!(text_to(&said, conn).contains(r#""code":"broker_unavailable""#), "{said:?}");
    let said = say(&mut lone, conn, &ask(r#","id":3"#));
    assert!(text_to(&said, conn).contains(r#""code":"broker_unavailable""#), "{said:?}");
    let said = say(&mut lone, conn, r#"{"type":"PRESENCE","room":"s"}"#);
    assert!(text_to(&said, conn).contains(r#""code":"presence_unavailable""#), "{said:?}");
    let said = say(&mut lone, conn, r#"{"type":"SUBSCRIBE","room":"s","presence":true}"#);
    assert!(text_to(&said, conn).contains(r#""code":"presence_unavailable""#), "{said:?}");
    assert_eq!(lone.core.metrics().memberships_now, 0);
}

#[test]
fn of_large_rooms_it_is_told_how_many_are_there() {
    let mut config = with_presence(None);
    config.presence.users_max = 2;
    let mut lone = LoneCore::new(config);
    let conn = observer(&mut lone, &[("a", 1, ""), ("b", 1, "")]);
    let said = change(&mut lone, 2, 3, "c", 1, "");
    let expected = [r#"{"type":"JOINED","room":"r","user":"c"}"#, r#"{"type":"PRESENT","room":"r","total":3}"#];
    assert_eq!(texts(&said, conn), expected);
    assert_eq!(change(&mut lone, 3, 4, "d", 1, ""), []);
    let said = say(&mut lone, conn, r#"{"type":"PRESENCE","room":"r"}"#);
    assert_eq!(texts(&said, conn), [r#"{"type":"PRESENT","room":"r","total":4}"#]);
    change(&mut lone, 4, 3, "a", 0, "");
    let said = change(&mut lone, 5, 2, "b", 0, "");
    let id = roster_asked(&said).expect("it is read who is there");
    let said = lone.broker(BrokerEvent::Roster { id, page: &page(5, &[("c", 1, ""), ("d", 1, "")]) });
    assert!(text_to(&said, conn).contains(r#""total":2,"more":false"#), "{said:?}");
}

#[test]
fn of_a_room_that_becomes_large_while_it_is_read_it_is_told_how_many_are_there() {
    let mut config = with_presence(None);
    config.presence.users_max = 2;
    let mut lone = LoneCore::new(config);
    let conn = open(&mut lone, None);
    say(&mut lone, conn, OBSERVE);
    lone.broker(BrokerEvent::Subscribed { room: "r" });
    let said = lone.broker(BrokerEvent::Subscribed { room: &name_of("r") });
    let id = roster_asked(&said).expect("it is read who is there");
    change(&mut lone, 2, 3, "c", 1, "");
    let said = lone.broker(BrokerEvent::Roster { id, page: &page(1, &[("a", 1, ""), ("b", 1, "")]) });
    assert_eq!(texts(&said, conn), [r#"{"type":"PRESENT","room":"r","total":3}"#]);
}

#[test]
fn whoever_comes_or_goes_while_a_large_room_is_read_counts() {
    let mut config = with_presence(None);
    config.presence.users_max = 2;
    let mut lone = LoneCore::new(config);
    let conn = open(&mut lone, None);
    say(&mut lone, conn, OBSERVE);
    lone.broker(BrokerEvent::Subscribed { room: "r" });
    let said = lone.broker(BrokerEvent::Subscribed { room: &name_of("r") });
    let id = roster_asked(&said).expect("it is read who is there");
    change(&mut lone, 2, 4, "d", 1, "");
    let read = [("a", 1, ""), ("b", 1, ""), ("c", 1, "")];
    let said = lone.broker(BrokerEvent::Roster { id, page: &page(1, &read) });
    assert_eq!(texts(&said, conn), [r#"{"type":"PRESENT","room":"r","total":4}"#]);
    let said = change(&mut lone, 4, 3, "a", 0, "");
    let id = roster_asked(&said).expect("a change is missing, so it is read who is there");
    change(&mut lone, 5, 2, "b", 0, "");
    let said = lone.broker(BrokerEvent::Roster { id, page: &page(4, &[("b", 1, ""), ("c", 1, ""), ("d", 1, "")]) });
    assert_eq!(texts(&said, conn), [""; 0]);
    let id = roster_asked(&said).expect("there are few enough to read who they are");
    let said = lone.broker(BrokerEvent::Roster { id, page: &page(5, &[("c", 1, ""), ("d", 1, "")]) });
    assert!(text_to(&said, conn).contains(r#""total":2,"more":false"#), "{said:?}");
}

#[test]
fn much_that_is_different_at_once_is_told_in_one_text() {
    let mut lone = LoneCore::new(with_presence(None));
    let conn = observer(&mut lone, &[("a", 1, "")]);
    let names: Vec<String> = (0..300).map(|number| format!("user-{number:03}")).collect();
    let users: Vec<(&str, u32, &str)> = names.iter().map(|name| (&**name, 1, "")).collect();
    let said = change(&mut lone, 400, 2, "b", 1, "");
    assert_eq!(texts(&said, conn), [r#"{"type":"JOINED","room":"r","user":"b"}"#]);
    let id = roster_asked(&said).expect("a change is missing, so it is read who is there");
    let said = texts(&lone.broker(BrokerEvent::Roster { id, page: &page(400, &users) }), conn);
    assert!(
        said.len() == 1 && said[0].contains("PRESENT") && said[0].contains(r#""total":300,"more":true"#),
        "{said:?}"
    );
}

#[test]
fn what_nobody_tells_of_any_more_answers_no_question() {
    let mut lone = LoneCore::new(with_presence(None));
    let conn = open(&mut lone, None);
    let ask = r#"{"type":"PRESENCE","room":"r","limit":0}"#;
    let beside = name_of("r");
    say(&mut lone, conn, ask);
    let said = lone.broker(BrokerEvent::Subscribed { room: &beside });
    let id = roster_asked(&said).expect("it is read who is there");
    lone.broker(BrokerEvent::Roster { id, page: &page(1, &[("a", 1, "")]) });
    // Whoever asks again and again has it lingered, and so no longer than it is subscribed to.
    lone.broker(BrokerEvent::Down { reason: "a test" });
    let said = say(&mut lone, conn, ask);
    assert!(text_to(&said, conn).contains(r#""code":"broker_unavailable""#), "{said:?}");
    lone.broker(BrokerEvent::Up);
    assert_eq!(say(&mut lone, conn, ask), [Said::Subscribe(beside.clone())]);
    let said = lone.broker(BrokerEvent::Subscribed { room: &beside });
    let id = roster_asked(&said).expect("it is read who is there");
    let said = lone.broker(BrokerEvent::Roster { id, page: &page(2, &[]) });
    assert!(text_to(&said, conn).contains(r#""total":0"#), "{said:?}");
}

#[test]
fn a_question_does_not_wait_for_ever() {
    let mut lone = LoneCore::new(with_presence(None));
    let conn = open(&mut lone, None);
    let ask = |id: u32| format!(r#"{{"type":"PRESENCE","room":"r","id":{id}}}"#);
    for id in 0..16 {
        assert_eq!(texts(&say(&mut lone, conn, &ask(id)), conn), [] as [&str; 0]);
    }
    let said = say(&mut lone, conn, &ask(16));
    assert!(text_to(&said, conn).contains(r#""code":"broker_busy""#), "{said:?}");
    let said = texts(&lone.wait(Duration::from_secs(10)), conn);
    assert!(said.len() == 16 && said.iter().all(|said| said.contains(r#""code":"broker_unavailable""#)), "{said:?}");

    // Where the broker loses a part, those who ask of its rooms are told at once.
    say(&mut lone, conn, &ask(17));
    let mut all = Partitions::none_of(1);
    all.insert(0);
    let said = lone.broker(BrokerEvent::Lost { partitions: &all });
    assert!(text_to(&said, conn).contains(r#""code":"broker_unavailable""#), "{said:?}");
}

#[test]
fn what_the_broker_does_not_take_is_told_again_and_holds_up_nothing_else() {
    let mut lone = LoneCore::new(with_presence(None));
    let [ann, bob] = ["ann", "bob"].map(|name| open(&mut lone, Some(&user(name, ""))));
    let said = say(&mut lone, ann, r#"{"type":"SUBSCRIBE","room":"r"}"#);
    let [Said::Present(id, ..), Said::Subscribe(_)] = said[..] else { panic!("{said:?}") };
    assert_eq!(told(&lone.broker(BrokerEvent::PresenceFailed { id, passes: true })), []);
    assert_eq!(told(&say(&mut lone, bob, r#"{"type":"SUBSCRIBE","room":"r"}"#)), [("bob", "", 1)]);
    assert_eq!(told(&lone.wait(Duration::from_secs(1))), [("ann", "", 1)]);
}

#[test]
fn who_may_not_see_who_is_there_is_told_so_also_later() {
    let mut lone = LoneCore::new(with_presence(Some(Who::Granted)));
    let stranger = open(&mut lone, Some(&user("eve", "")));
    for text in [OBSERVE, r#"{"type":"PRESENCE","room":"r","id":1}"#] {
        let said = say(&mut lone, stranger, text);
        assert!(text_to(&said, stranger).contains(r#""code":"forbidden""#), "{said:?}");
    }
    assert_eq!(lone.core.metrics().memberships_now, 0);

    let mut bob = user("bob", "");
    bob.grants = Grants::default().with(Right::Presence, ["r"]).expect("a pattern");
    let conn = open(&mut lone, Some(&bob));
    say(&mut lone, conn, OBSERVE);
    lone.broker(BrokerEvent::Subscribed { room: "r" });
    let said = lone.broker(BrokerEvent::Subscribed { room: &name_of("r") });
    let id = roster_asked(&said).expect("it is read who is there");
    let asked = say(&mut lone, conn, r#"{"type":"PRESENCE","room":"r","id":5}"#);
    assert_eq!(texts(&asked, conn), [] as [&str; 0]);
    let said = lone.turn(|turn| turn.feed(Event::Authenticated { conn, outcome: Ok(&user("bob", "")) }));
    let said = texts(&said, conn);
    assert_eq!(said.len(), 2, "{said:?}");
    for (said, id) in said.iter().zip([None, Some(r#""id":5"#)]) {
        assert!(said.contains(r#""code":"forbidden""#) && id.is_none_or(|id| said.contains(id)), "{said}");
    }
    assert_eq!(lone.broker(BrokerEvent::Roster { id, page: &page(1, &[("bob", 1, "")]) }), []);
    assert_eq!(lone.core.metrics().memberships_now, 1);
}

#[test]
fn who_may_not_be_there_any_more_is_told_that_alone() {
    let mut config = with_presence(Some(Who::Granted));
    let mut rules: Vec<Rule> = config.rules.as_slice().to_vec();
    rules[0].permissions.subscribe = Some(Who::Granted);
    config.rules = Rules::new(rules).expect("rules");
    let mut bob = user("bob", "");
    bob.grants = Grants::default().with(Right::Presence, ["r"]).unwrap().with(Right::Subscribe, ["r"]).unwrap();
    // It comes to observe with its SUBSCRIBE, or later.
    for first in [OBSERVE, r#"{"type":"SUBSCRIBE","room":"r"}"#] {
        let mut lone = LoneCore::new(config.clone());
        let conn = open(&mut lone, Some(&bob));
        say(&mut lone, conn, first);
        lone.broker(BrokerEvent::Subscribed { room: "r" });
        say(&mut lone, conn, OBSERVE);
        lone.broker(BrokerEvent::Subscribed { room: &name_of("r") });
        let said = lone.turn(|turn| turn.feed(Event::Authenticated { conn, outcome: Ok(&user("bob", "")) }));
        let told = texts(&said, conn);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains(r#""type":"UNSUBSCRIBED""#) && told[0].contains(r#""code":"forbidden""#), "{told:?}");
        assert_eq!(lone.core.metrics().memberships_now, 0);
    }
}

#[test]
fn a_user_has_no_more_connections_on_all_instances_than_allowed() {
    let config = config(|config| {
        config.presence.connections_per_user_max = 2;
        let mut auth = Auth::default();
        (auth.required, auth.own_rooms) = (false, false);
        config.auth = Some(auth);
    });
    let mut lone = LoneCore::new(config);
    let opened = |lone: &mut LoneCore| {
        let mut conn = None;
        let said = lone.turn(|turn| {
            let opened = turn.open_websocket_of(&user("bob", ""), Dialect::Fanfare, &[], None);
            conn = Some(opened.expect("there is a place"));
        });
        (conn.expect("set above"), said)
    };
    let count = |said: &[Said]| match said {
        [Said::Present(id, room, (user, _), connections)] => {
            assert_eq!((&**room, &**user), ("\u{1}connections:bob", "bob"));
            (*id, *connections)
        }
        other => panic!("{other:?}"),
    };
    let (first, said) = opened(&mut lone);
    let (id, connections) = count(&said);
    assert_eq!(connections, 1);
    assert_eq!(lone.broker(BrokerEvent::PresenceKept { id, connections: 2 }), [], "another is elsewhere");
    let (second, said) = opened(&mut lone);
    let (id, connections) = count(&said);
    assert_eq!(connections, 2);
    let said = lone.broker(BrokerEvent::PresenceKept { id, connections: 3 });
    assert_eq!(close_code(&said, second), Some(1013), "{said:?}");
    assert!(text_to(&said, second).contains("this user has as many connections as allowed"));
    let told: Vec<&Said> = said.iter().filter(|said| matches!(said, Said::Present(..))).collect();
    let [Said::Present(id, _, _, 1)] = told[..] else { panic!("{said:?}") };
    lone.broker(BrokerEvent::PresenceKept { id: *id, connections: 2 });
    assert_eq!(lone.core.metrics().quota_connections_refused, 1);

    // What the broker has lost is told anew. It may count twice then, which ends nobody who was let in.
    let (id, connections) = count(&lone.broker(BrokerEvent::PresenceLost));
    assert_eq!((connections, lone.broker(BrokerEvent::PresenceKept { id, connections: 9 })), (1, vec![]));
    let said = lone.turn(|turn| turn.feed(Event::Closed { conn: first }));
    let told: Vec<&Said> = said.iter().filter(|said| matches!(said, Said::Present(..))).collect();
    assert!(matches!(told[..], [Said::Present(_, _, _, 0)]), "{said:?}");
}

#[test]
fn what_is_observed_is_no_room_of_the_connection() {
    let mut lone = LoneCore::new(with_presence(None));
    let conn = observer(&mut lone, &[]);
    lone.broker(BrokerEvent::Subscribed { room: "r" });
    let said = say(&mut lone, conn, r#"{"type":"SUBSCRIBE","room":"s"}"#);
    assert!(said.contains(&Said::Subscribe("s".into())), "{said:?}");
    let said = say(&mut lone, conn, r#"{"type":"SUBSCRIBE","room":"t"}"#);
    assert!(text_to(&said, conn).contains("too_many_rooms"), "{said:?}");
    let said = say(&mut lone, conn, &format!(r#"{{"type":"SUBSCRIBE","room":"{}"}}"#, "\\u0001presence:r"));
    assert!(text_to(&said, conn).contains("room_invalid"), "{said:?}");
    // The broker's refusal to tell costs nobody the room.
    let other = open(&mut lone, None);
    let said = say(&mut lone, other, r#"{"type":"PRESENCE","room":"r","id":1}"#);
    assert!(text_to(&said, other).contains(r#""total":0"#), "{said:?}");
    lone.broker(BrokerEvent::Down { reason: "a test" });
    let said = lone.broker(BrokerEvent::Up);
    assert!(said.contains(&Said::Subscribe(name_of("r"))), "{said:?}");
    let said = lone.broker(BrokerEvent::SubscribeFailed { room: &name_of("r"), reason: "a test" });
    let refused = texts(&said, conn);
    assert!(refused.len() == 1 && refused[0].contains(r#""code":"broker_refused""#), "{refused:?}");
    lone.broker(BrokerEvent::Subscribed { room: "r" });
    assert_eq!(lone.core.metrics().memberships_now, 2);
}
