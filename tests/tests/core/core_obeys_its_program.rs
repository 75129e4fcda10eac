//! The program that a core is a part of looks at connections, ends them, takes them out of rooms, lists rooms, and speaks to other programs.

use fanfare_core::broker::BrokerEvent;
use fanfare_core::{Auth, Config, ConnId, Event, Identity};
use fanfare_tests::embedded::Embedded;
use fanfare_tests::lone_core::{LoneCore, Said, close_code, text_to};
use fanfare_tests::{config, upgrade_request};
use serde_json::{Value, json};
use std::time::Duration;

const NODE: u64 = 7;

fn embedded() -> Embedded {
    Embedded::new(config(|config: &mut Config| {
        config.node = NODE;
        let mut auth = Auth::default();
        auth.own_rooms = false;
        config.auth = Some(auth);
    }))
}

/// A WebSocket at this path, of this user.
fn of_user(embedded: &mut Embedded, user: &str, path: &str) -> ConnId {
    let conn = embedded.request(&upgrade_request(path, "Authorization: Bearer t0ken\r\n"));
    let identity = Identity::new(user);
    embedded.turn(|turn| turn.feed(Event::Authenticated { conn, outcome: Ok(&identity) }));
    conn
}

fn answers(embedded: &mut Embedded) -> Vec<Value> {
    embedded.lone.core.replies().map(|text| serde_json::from_slice(&text).expect("JSON")).collect()
}

/// What the program is answered, once all has been answered.
fn ask(embedded: &mut Embedded, command: &Value) -> Value {
    embedded.said.clear();
    let text = command.to_string();
    embedded.turn(|turn| turn.feed(Event::Command { text: &text, user: None }));
    match &mut answers(embedded)[..] {
        [answer] => answer.take(),
        several => panic!("one answer: {several:?}"),
    }
}

#[test]
fn connections_of_a_user_are_listed_and_ended() {
    let mut embedded = embedded();
    let (bob, again) = (of_user(&mut embedded, "bob", "/?room=r"), of_user(&mut embedded, "bob", "/classic?room=r"));
    let eve = of_user(&mut embedded, "eve", "/?room=r");
    let listed = ask(&mut embedded, &json!({"type": "CONNECTIONS", "user": "bob", "id": 1}));
    let expected = |conn: ConnId, dialect: &str| json!({"connection": conn.public(NODE), "user": "bob", "dialect": dialect, "rooms": ["r"], "room_count": 1});
    let both = [expected(bob, "fanfare"), expected(again, "classic")];
    assert_eq!(listed, json!({"type": "CONNECTIONS", "id": 1, "connections": both, "total": 2}));
    let first = ask(&mut embedded, &json!({"type": "CONNECTIONS", "user": "bob", "limit": 1, "id": 2}));
    assert_eq!((first["connections"].as_array().map(Vec::len), &first["total"]), (Some(1), &json!(2)));

    let order = json!({"type": "DISCONNECT", "user": "bob", "code": 4100, "reason": "moved", "id": 3});
    assert_eq!(ask(&mut embedded, &order), json!({"type": "DONE", "id": 3, "connections": 2}));
    for conn in [bob, again] {
        assert_eq!(close_code(&embedded.said, conn), Some(4100));
    }
    assert_eq!(close_code(&embedded.said, eve), None);
    assert_eq!(embedded.lone.core.metrics().program_closes, 2);
    assert_eq!(ask(&mut embedded, &order)["connections"], 0);
}

#[test]
fn one_connection_is_found_by_its_name_and_no_other_by_it() {
    let mut embedded = embedded();
    let (one, other) = (embedded.client("/?room=r"), embedded.client("/?room=r"));
    let of_another_core = one.public(NODE + 1);
    let disconnect = |name: &str| json!({"type": "DISCONNECT", "connection": name, "id": 1});
    assert_eq!(ask(&mut embedded, &disconnect(&of_another_core))["connections"], 0);
    assert_eq!(ask(&mut embedded, &disconnect("bob"))["code"], "bad_field");
    assert_eq!(ask(&mut embedded, &disconnect(&one.public(NODE)))["connections"], 1);
    assert_eq!((close_code(&embedded.said, one), close_code(&embedded.said, other)), (Some(4500), None));
    embedded.turn(|turn| turn.feed(Event::Closed { conn: one }));
    let newer = embedded.client("/?room=r");
    assert_eq!(newer.slot(), one.slot());
    assert_eq!(ask(&mut embedded, &disconnect(&one.public(NODE)))["connections"], 0, "it is another in the same place");
}

#[test]
fn who_is_taken_out_of_a_room_is_told_and_hears_no_more() {
    let mut embedded = embedded();
    let bob = of_user(&mut embedded, "bob", "/?room=r");
    let mute = of_user(&mut embedded, "bob", "/broadcast/r");
    let eve = of_user(&mut embedded, "eve", "/?room=r");
    let expel = json!({"type": "EXPEL", "user": "bob", "room": "r", "id": 1});
    assert_eq!(ask(&mut embedded, &expel)["connections"], 2);
    assert!(text_to(&embedded.said, bob).ends_with(r#"{"type":"UNSUBSCRIBED","room":"r","code":"removed"}"#));
    assert_eq!(close_code(&embedded.said, mute), Some(4500), "its dialect has no word for it");
    embedded.said.clear();
    embedded.command(eve, r#"{"type":"SEND_MESSAGE","room":"r","message":1}"#);
    assert_eq!((text_to(&embedded.said, bob), text_to(&embedded.said, eve).contains("MESSAGE")), (String::new(), true));
    assert_eq!(ask(&mut embedded, &expel)["connections"], 0);
    let all = ask(&mut embedded, &json!({"type": "EXPEL", "room": "r", "id": 2}));
    assert_eq!(all["connections"], 1);
}

#[test]
fn rooms_with_members_are_listed_in_pages_by_their_names() {
    let mut embedded = embedded();
    let client = of_user(&mut embedded, "bob", "/?room=b&room=a&room=c&room=other");
    let _other = of_user(&mut embedded, "eve", "/?room=b");
    embedded.command(client, r#"{"type":"UNSUBSCRIBE","room":"c"}"#);
    let ask = |embedded: &mut Embedded, more: Value| {
        let mut command = json!({"type": "ROOMS", "id": 1});
        command.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let answer = ask(embedded, &command);
        (answer["rooms"].clone(), answer["more"].clone())
    };
    let (a, b, other) = (
        json!({"room": "a", "members": 1}),
        json!({"room": "b", "members": 2}),
        json!({"room": "other", "members": 1}),
    );
    assert_eq!(ask(&mut embedded, json!({})), (json!([a, b, other]), json!(false)));
    assert_eq!(ask(&mut embedded, json!({"limit": 2})), (json!([a, b]), json!(true)));
    assert_eq!(ask(&mut embedded, json!({"limit": 2, "after": "b"})), (json!([other]), json!(false)));
    assert_eq!(ask(&mut embedded, json!({"prefix": "o"})), (json!([other]), json!(false)));
}

#[test]
fn many_rooms_are_listed_in_several_turns() {
    let mut embedded = Embedded::new(config(|config: &mut Config| config.limits.rooms_per_connection_max = 10_000));
    let client = embedded.client("/");
    for room in 0..5_000 {
        embedded.lone.now = embedded.lone.now + Duration::from_millis(100);
        embedded.command(client, &format!(r#"{{"type":"SUBSCRIBE","room":"r{room}"}}"#));
    }
    let turns = embedded.bytes.len();
    let answer = ask(&mut embedded, &json!({"type": "ROOMS", "after": "r4999", "id": 1}));
    assert_eq!(answer["rooms"].as_array().map(Vec::len), Some(100));
    assert_eq!(answer["rooms"][0]["room"], "r5");
    assert!(embedded.bytes.len() - turns >= 2, "no turn looks at all of them");
}

#[test]
fn no_more_lists_are_made_at_a_time_than_sixty_four() {
    let mut embedded = embedded();
    of_user(&mut embedded, "bob", "/?room=r");
    embedded.turn(|turn| {
        for id in 0..66 {
            let text = json!({"type": "ROOMS", "id": id}).to_string();
            turn.feed(Event::Command { text: &text, user: None });
        }
    });
    let answers = answers(&mut embedded);
    let refused: Vec<_> =
        answers.iter().filter(|answer| answer["code"] == "broker_busy").map(|one| &one["id"]).collect();
    assert_eq!(refused, [64, 65]);
    assert_eq!(answers.iter().filter(|answer| answer["type"] == "ROOMS").count(), 64, "the others are made");
}

#[test]
fn a_share_of_the_connections_goes() {
    let mut embedded = embedded();
    let clients: Vec<ConnId> = (0..4).map(|_| embedded.client("/?room=r")).collect();
    assert_eq!(ask(&mut embedded, &json!({"type": "SHED", "share": 0.5, "id": 1}))["type"], "DONE");
    embedded.turn(|_| {});
    let told = clients.iter().filter(|conn| text_to(&embedded.said, **conn).contains("DRAIN")).count();
    assert_eq!(told, 2);
}

#[test]
fn what_is_no_command_is_refused() {
    let mut embedded = embedded();
    for (command, code) in [
        (json!({"type": "DISCONNECT", "user": "a", "connection": "b", "id": 1}), "bad_field"),
        (json!({"type": "DISCONNECT", "code": 999, "id": 1}), "bad_field"),
        (json!({"type": "NOTHING", "id": 1}), "unknown_type"),
    ] {
        let answer = ask(&mut embedded, &command);
        assert_eq!((&answer["type"], &answer["code"], &answer["id"]), (&json!("ERROR"), &json!(code), &json!(1)));
    }
}

#[test]
fn clients_have_no_such_commands() {
    let mut embedded = embedded();
    let client = embedded.client("/?room=r");
    for command in ["HOLD", "TELL", "CONNECTIONS", "DISCONNECT", "EXPEL", "ROOMS", "SHED"] {
        embedded.said.clear();
        embedded.command(client, &json!({"type": command, "room": "r", "text": "t", "share": 1.0}).to_string());
        assert!(text_to(&embedded.said, client).contains("unknown_type"), "{command}");
    }
    assert_eq!((answers(&mut embedded), embedded.lone.core.connections()), (vec![], 1));
}

fn order(lone: &mut LoneCore, command: &Value) -> Vec<Said> {
    let text = command.to_string();
    lone.turn(|turn| turn.feed(Event::Command { text: &text, user: None }))
}

fn told(lone: &mut LoneCore) -> Vec<Value> {
    lone.core.replies().map(|text| serde_json::from_slice(&text).expect("JSON")).collect()
}

#[test]
fn programs_hear_each_other_in_rooms_that_no_client_can_join() {
    const ROOM: &str = "\u{1}program:orders";
    let mut lone = LoneCore::new(config(|config: &mut Config| config.node = NODE));
    let asked = order(&mut lone, &json!({"type": "HOLD", "room": "orders"}));
    assert!(asked.iter().any(|said| *said == Said::Subscribe(ROOM.into())), "{asked:?}");
    assert_eq!(told(&mut lone), Vec::<Value>::new());
    lone.broker(BrokerEvent::Subscribed { room: ROOM });
    assert_eq!(told(&mut lone), [json!({"type": "HELD", "room": "orders"})]);
    lone.broker(BrokerEvent::Message { room: ROOM, payload: b"F4 \"do\"" });
    lone.broker(BrokerEvent::Message { room: ROOM, payload: b"F9 later" });
    assert_eq!(told(&mut lone), [json!({"type": "TOLD", "room": "orders", "text": "\"do\""})]);
    assert_eq!(lone.core.metrics().messages_of_other_versions, 1);

    // After an outage it is held again.
    lone.broker(BrokerEvent::Down { reason: "gone" });
    let asked = lone.broker(BrokerEvent::Up);
    assert!(asked.iter().any(|said| *said == Said::Subscribe(ROOM.into())), "{asked:?}");
    lone.broker(BrokerEvent::Subscribed { room: ROOM });
    assert_eq!(told(&mut lone), [json!({"type": "HELD", "room": "orders"})]);

    let asked = order(&mut lone, &json!({"type": "TELL", "room": "orders", "text": "hello", "id": 4}));
    let [Said::Publish(room, payload, Some(id))] = &asked[..] else { panic!("it is published: {asked:?}") };
    assert_eq!((&**room, &payload[..]), (ROOM, &b"F4 hello"[..]));
    let id = *id;
    lone.broker(BrokerEvent::Published { id, position: None, receivers: Some(3) });
    assert_eq!(told(&mut lone), [json!({"type": "ACK", "id": 4, "receivers": 3})]);

    let client = lone.client();
    let refused = lone.command(client, &json!({"type": "SUBSCRIBE", "room": ROOM}).to_string());
    assert!(text_to(&refused, client).contains("room_invalid"), "{refused:?}");
}

#[test]
fn a_room_of_programs_that_the_broker_refuses_is_asked_for_when_the_program_asks_again() {
    const ROOM: &str = "\u{1}program:orders";
    let mut lone = LoneCore::new(config(|_| {}));
    order(&mut lone, &json!({"type": "HOLD", "room": "orders"}));
    let asked = lone.broker(BrokerEvent::SubscribeFailed { room: ROOM, reason: "NOPERM" });
    assert!(!asked.iter().any(|said| *said == Said::Subscribe(ROOM.into())), "{asked:?}");
    let refused = told(&mut lone);
    assert_eq!((&refused[0]["code"], &refused[0]["room"]), (&json!("broker_refused"), &json!("orders")));
    let asked = order(&mut lone, &json!({"type": "HOLD", "room": "orders"}));
    assert!(asked.iter().any(|said| *said == Said::Subscribe(ROOM.into())), "{asked:?}");
}
