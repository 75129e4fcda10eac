//! Where a rule wants it, a message of a client's is published only once somebody has agreed. It may be altered or refused. Messages of one
//! connection to one room keep their order, and all others go past those that wait.

use fanfare_core::broker::BrokerEvent;
use fanfare_core::history::Retention;
use fanfare_core::rules::{Rule, Rules};
use fanfare_core::{Auth, Config, ConnId, Decision, Event, Identity, ProposalId};
use fanfare_tests::config;
use fanfare_tests::lone_core::{LoneCore, Said, close_code, text_to};
use std::time::Duration;

fn rule(pattern: &str, hook: Option<&str>) -> Rule {
    let mut rule = Rule::new(pattern.parse().expect("a pattern"));
    rule.before_publish = hook.map(Into::into);
    rule
}

fn with(set: impl FnOnce(&mut Config)) -> LoneCore {
    let rules = vec![rule("free", None), rule("kept", Some("kept")), rule("*", Some("words"))];
    LoneCore::new(config(|config| {
        let mut rules = rules;
        rules[1].history = Some(Retention { messages_max: 10, bytes_max: 1000, age_max: Duration::from_secs(60) });
        config.rules = Rules::new(rules).expect("rules");
        set(config);
    }))
}

fn lone() -> LoneCore {
    with(|_| {})
}

fn send(room: &str, id: u32) -> String {
    format!(r#"{{"type":"SEND_MESSAGE","room":"{room}","message":{id},"id":{id}}}"#)
}

/// What is asked: whom, by whom, where, about what.
fn proposed(said: &[Said]) -> Vec<(ProposalId, String)> {
    let asked = said.iter().filter_map(|said| match said {
        Said::Propose(id, asked) => Some((*id, asked.join(" "))),
        _ => None,
    });
    asked.collect()
}

/// The one message that somebody is asked about.
fn only(said: &[Said]) -> ProposalId {
    let proposed = proposed(said);
    assert_eq!(proposed.len(), 1, "{said:?}");
    proposed[0].0
}

fn decide(lone: &mut LoneCore, proposal: ProposalId, decision: Decision<'_>) -> Vec<Said> {
    lone.turn(|turn| turn.feed(Event::Decided { proposal, decision }))
}

/// What is published: the rooms with the messages, and how many of the senders wait for an answer.
fn published(said: &[Said]) -> (Vec<String>, usize) {
    let publishes = said.iter().filter_map(|said| match said {
        Said::Publish(room, payload, id) | Said::Store(room, payload, id) => Some((room, payload, id.is_some())),
        _ => None,
    });
    let text = |payload: &[u8]| {
        let text = String::from_utf8_lossy(payload).into_owned();
        text.split_once(r#""message":"#).and_then(|(_, rest)| rest.strip_suffix('}')).expect("a MESSAGE").to_owned()
    };
    let all: Vec<_> = publishes.map(|(room, payload, waits)| (format!("{room} {}", text(payload)), waits)).collect();
    (all.iter().map(|(said, _)| said.clone()).collect(), all.iter().filter(|(_, waits)| *waits).count())
}

fn at_once(said: &[Said], expected: &[&str]) {
    assert_eq!(published(said).0, expected, "{said:?}");
}

#[test]
fn it_is_published_as_it_was_allowed_or_altered() {
    let mut lone = lone();
    let conn = lone.client();
    let said = lone.command(conn, &send("chat", 1));
    at_once(&said, &[]);
    assert_eq!(proposed(&said)[0].1, "words  chat 1");
    assert_eq!(lone.core.metrics().proposals_waiting_now, 1);
    assert_eq!(published(&decide(&mut lone, only(&said), Decision::Allow)), (vec!["chat 1".to_owned()], 1));
    let said = lone.command(conn, &send("chat", 2));
    at_once(&decide(&mut lone, only(&said), Decision::Alter(r#"{"was":2}"#)), &[r#"chat {"was":2}"#]);
    // Once each: a second word about it counts for nothing.
    at_once(&decide(&mut lone, only(&said), Decision::Allow), &[]);
    at_once(&lone.command(conn, &send("free", 3)), &["free 3"]);
    let metrics = lone.core.metrics();
    assert_eq!((metrics.proposals, metrics.proposals_waiting_now, metrics.command_errors), (2, 0, 0));
}

#[test]
fn a_refusal_tells_its_reason_and_no_more_than_a_part_of_a_long_one() {
    let mut lone = lone();
    let conn = lone.client();
    let said = lone.command(conn, &send("chat", 1));
    let told = text_to(&decide(&mut lone, only(&said), Decision::Refuse("no \"links\"")), conn);
    let error = r#"{"type":"ERROR","code":"refused","reason":"no \"links\"","id":1,"room":"chat"}"#;
    assert!(told.ends_with(error), "{told}");
    let said = lone.command(conn, &send("chat", 2));
    let said = decide(&mut lone, only(&said), Decision::Refuse(&"é".repeat(1_000)));
    assert_eq!(text_to(&said, conn).matches('é').count(), 200);
    at_once(&said, &[]);
    let metrics = lone.core.metrics();
    assert_eq!((metrics.proposals_refused, metrics.command_errors, metrics.messages_in), (2, 2, 0));
}

#[test]
fn what_nobody_decides_or_what_is_no_message_is_refused_for_now() {
    let mut lone = with(|config| config.limits.message_bytes_max = 1_000);
    let conn = lone.client();
    let long = format!("\"{}\"", "x".repeat(1_000));
    let decisions = [
        Decision::Unavailable,
        Decision::Alter("{"),
        Decision::Alter("1 2"),
        Decision::Alter(""),
        Decision::Alter(&long),
    ];
    for (id, decision) in decisions.into_iter().enumerate() {
        let said = lone.command(conn, &send("chat", id as u32));
        let said = decide(&mut lone, only(&said), decision);
        at_once(&said, &[]);
        assert!(text_to(&said, conn).contains(r#""code":"hook_unavailable""#), "{decision:?}: {said:?}");
    }
    assert_eq!(lone.core.metrics().proposals_undecided, 5);
}

#[test]
fn messages_to_one_room_keep_their_order_and_others_go_past_them() {
    let mut lone = lone();
    let (conn, other) = (lone.client(), lone.client());
    let asked = [("chat", 1), ("chat", 2), ("tea", 3), ("chat", 4)].map(|(room, id)| {
        let said = lone.command(conn, &send(room, id));
        only(&said)
    });
    let of_other = lone.command(other, &send("chat", 5));
    at_once(&decide(&mut lone, asked[3], Decision::Allow), &[]);
    at_once(&decide(&mut lone, asked[2], Decision::Allow), &["tea 3"]);
    at_once(&decide(&mut lone, only(&of_other), Decision::Allow), &["chat 5"]);
    at_once(&decide(&mut lone, asked[1], Decision::Refuse("no")), &[]);
    let said = decide(&mut lone, asked[0], Decision::Allow);
    at_once(&said, &["chat 1", "chat 4"]);
    assert!(text_to(&said, conn).contains(r#""code":"refused","reason":"no","id":2"#), "in its place: {said:?}");
}

#[test]
fn several_of_one_read_are_asked_about_together() {
    let mut lone = lone();
    let conn = lone.client();
    let commands =
        [send("chat", 1), send("tea", 2), send("free", 3)].map(|text| fanfare_tests::Frame::text(text).masked());
    let said = lone.bytes(conn, commands.concat());
    assert_eq!(
        proposed(&said).into_iter().map(|(_, asked)| asked).collect::<Vec<_>>(),
        ["words  chat 1", "words  tea 2"]
    );
    at_once(&said, &["free 3"]);
}

#[test]
fn what_a_connection_said_before_it_went_is_published_if_it_is_allowed() {
    let mut lone = lone();
    let member = lone.member("chat");
    let conn = lone.client();
    let first = lone.command(conn, &send("chat", 1));
    let second = lone.command(conn, &send("chat", 2));
    lone.turn(|turn| turn.feed(Event::Closed { conn }));
    // Somebody else has its place by now, and is not answered in its stead.
    let next = lone.client();
    assert_eq!((next.slot(), next == conn), (conn.slot(), false));
    assert_eq!(published(&decide(&mut lone, only(&first), Decision::Allow)), (vec!["chat 1".to_owned()], 0));
    let said = decide(&mut lone, only(&second), Decision::Refuse("no"));
    assert!(!said.iter().any(|said| matches!(said, Said::Sent(..) | Said::Publish(..))), "{said:?}");
    for conn in [member, next] {
        lone.turn(|turn| turn.feed(Event::Closed { conn }));
    }
    lone.wait(Duration::from_secs(10));
    lone.broker(BrokerEvent::Unsubscribed { room: "chat" });
    lone.core.check_idle();
    assert!(lone.core.replies().next().is_none(), "the program has asked for nothing");
}

#[test]
fn no_more_wait_than_may_and_one_always_may() {
    let mut lone = with(|config| config.limits.deferred_bytes_max = 1_100);
    let conn = lone.client();
    let asked = [1, 2].map(|id| {
        let said = lone.command(conn, &send("chat", id));
        only(&said)
    });
    let said = lone.command(conn, &send("chat", 3));
    assert!(proposed(&said).is_empty() && text_to(&said, conn).contains(r#""code":"hook_busy""#), "{said:?}");
    // That is this connection's limit.
    let other = lone.client();
    let message = format!(r#"{{"type":"SEND_MESSAGE","room":"chat","message":"{}"}}"#, "x".repeat(2_000));
    let said = lone.command(other, &message);
    only(&said);
    at_once(&decide(&mut lone, asked[0], Decision::Allow), &["chat 1"]);
    only(&lone.command(conn, &send("chat", 4)));
    assert_eq!(lone.core.metrics().proposals_busy, 1);
    let mut lone = with(|config| config.limits.deferred_total_bytes_max = 600);
    let (one, other) = (lone.client(), lone.client());
    only(&lone.command(one, &send("chat", 1)));
    let said = lone.command(other, &send("chat", 2));
    assert!(text_to(&said, other).contains("hook_busy"), "all together have too many: {said:?}");
}

#[test]
fn whoever_cannot_be_told_is_closed() {
    let broadcaster = |lone: &mut LoneCore| {
        let conn = lone.connect();
        lone.bytes(conn, fanfare_tests::upgrade_request("/broadcast", ""));
        lone.broker(BrokerEvent::Subscribed { room: "global_chat" });
        conn
    };
    for (decision, code) in [(Decision::Refuse("no"), 4503), (Decision::Unavailable, 1013)] {
        let mut lone = lone();
        let conn = broadcaster(&mut lone);
        let said = lone.command(conn, "hello");
        assert_eq!(proposed(&said)[0].1, r#"words  global_chat "hello""#);
        let said = decide(&mut lone, only(&said), decision);
        assert_eq!(close_code(&said, conn), Some(code));
    }
}

#[test]
fn the_user_is_told_and_keys_are_its_own() {
    let mut lone = with(|config| config.auth = Some(Auth::default()));
    lone.turn(|turn| turn.feed(Event::WallClock { unix_ms: 1_000 }));
    let conn = lone.connect();
    lone.bytes(conn, fanfare_tests::upgrade_request("/", "Authorization: Bearer t\r\n"));
    let identity = Identity::new("al:ice");
    lone.turn(|turn| turn.feed(Event::Authenticated { conn, outcome: Ok(&identity) }));
    let said = lone.command(conn, r#"{"type":"SEND_MESSAGE","room":"kept","message":1,"key":"k"}"#);
    assert_eq!(proposed(&said)[0].1, "kept al:ice kept 1");
    lone.now = lone.now + Duration::from_secs(5);
    let said = decide(&mut lone, only(&said), Decision::Allow);
    let payload = said.iter().find_map(|said| match said {
        Said::Store(_, payload, _) => Some(String::from_utf8_lossy(payload).into_owned()),
        _ => None,
    });
    let payload = payload.expect("it is stored");
    // The time is that at which it enters the room, so that times follow the order of messages.
    assert!(payload.contains(r#""from":"al:ice","time":6000"#), "{payload}");
    // A key where there is no history is nobody else's business.
    let said = lone.command(conn, r#"{"type":"SEND_MESSAGE","room":"chat","message":1,"key":"k"}"#);
    assert!(proposed(&said).is_empty() && text_to(&said, conn).contains("key_unsupported"), "{said:?}");
}

#[test]
fn the_program_itself_is_not_asked() {
    let mut lone = lone();
    let text = r#"{"type":"SEND_MESSAGE","room":"chat","message":1,"id":1}"#;
    at_once(&lone.turn(|turn| turn.feed(Event::Command { text, user: None })), &["chat 1"]);
}

#[test]
fn a_server_that_stops_waits_for_what_it_owes() {
    let mut lone = lone();
    let conn = lone.client();
    let said = lone.command(conn, &send("chat", 1));
    let told = lone.turn(|turn| turn.feed(Event::Shutdown));
    assert_eq!(close_code(&told, conn), None, "it is still owed an answer");
    let said = decide(&mut lone, only(&said), Decision::Refuse("no"));
    assert!(text_to(&said, conn).contains("refused"), "{said:?}");
    assert_eq!(closed_by_then(&mut lone, conn, &said), Some(1012));
}

/// In this turn or the next one.
fn closed_by_then(lone: &mut LoneCore, conn: ConnId, said: &[Said]) -> Option<u16> {
    close_code(said, conn).or_else(|| close_code(&lone.wait(Duration::from_millis(1)), conn))
}
