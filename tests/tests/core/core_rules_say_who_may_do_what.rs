//! Every command, by every kind of user, in rooms of every rule: who may, and what the others are told.

use fanfare_core::history::Retention;
use fanfare_core::rules::{Grants, Permissions, Right, Rule, Rules, Who};
use fanfare_core::{Auth, ConnId, Event, Identity};
use fanfare_tests::config;
use fanfare_tests::lone_core::{LoneCore, Said, text_to};
use std::time::Duration;

/// Whose room it is.
const OWNER: &str = "b:b*";
const OWNERS_SEGMENT: &str = "b%3Ab%2A";

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asker {
    /// Nobody knows.
    Nobody,
    Owner,
    /// A user who has a grant for all rooms, and for one right alone.
    Granted,
    /// A user whose name would fit any, were it a pattern.
    Star,
}

/// A server on which this right is left to `who`, and everything else to anyone; nothing is left to them if it is `None`.
fn lone(right: Right, who: Option<Who>, required: bool) -> LoneCore {
    LoneCore::new(config(|config| {
        let mut rule = Rule::new("r:{user}".parse().expect("a pattern"));
        rule.history = Some(Retention { messages_max: 100, bytes_max: 100_000, age_max: Duration::from_secs(60) });
        let anyone = Some(Who::Anyone);
        let mut said = Permissions { subscribe: anyone, publish: anyone, history: anyone, presence: anyone };
        match right {
            Right::Subscribe => said.subscribe = who,
            Right::Publish => said.publish = who,
            Right::History => said.history = who,
            _ => unreachable!("PRESENCE is no command yet"),
        }
        rule.permissions = said;
        // What comes behind it would let everybody, and never counts.
        let mut open = Rule::new("**".parse().expect("a pattern"));
        open.permissions = Permissions { subscribe: anyone, publish: anyone, history: anyone, presence: anyone };
        config.rules = Rules::new(vec![rule, open]).expect("rules").with_own_rooms();
        let mut auth = Auth::default();
        (auth.required, auth.own_rooms) = (required, false);
        config.auth = Some(auth);
    }))
}

fn client(lone: &mut LoneCore, asker: Asker, right: Right) -> ConnId {
    let conn = lone.client();
    let mut identity = match asker {
        Asker::Nobody => return conn,
        Asker::Owner => Identity::new(OWNER),
        Asker::Granted => Identity::new("granted"),
        Asker::Star => Identity::new("*"),
    };
    if asker == Asker::Granted {
        identity.grants = Grants::default().with(right, ["r:*"]).expect("a pattern");
    }
    lone.turn(|turn| turn.feed(Event::Authenticated { conn, outcome: Ok(&identity) }));
    conn
}

/// What becomes of a command: `ok`, or the code of its `ERROR`.
fn outcome(lone: &mut LoneCore, conn: ConnId, command: &str) -> String {
    let said = lone.command(conn, command);
    let text = text_to(&said, conn);
    match text.split_once(r#""type":"ERROR","code":""#) {
        Some((_, rest)) => {
            let asked = said.iter().any(|said| !matches!(said, Said::Sent(..)));
            assert!(!asked, "whoever is refused has nothing asked for: {said:?}");
            rest.split('"').next().unwrap_or_default().to_owned()
        }
        None => "ok".to_owned(),
    }
}

const COMMANDS: [(Right, &str); 5] = [
    (Right::Subscribe, r#"{"type":"SUBSCRIBE","room":"r:ROOM","id":1}"#),
    (Right::History, r#"{"type":"SUBSCRIBE","room":"r:ROOM","history":5,"id":1}"#),
    (Right::Publish, r#"{"type":"SEND_MESSAGE","room":"r:ROOM","message":1,"id":1}"#),
    (Right::Publish, r#"{"type":"SEND_MESSAGE","room":"r:ROOM","message":1,"store":false}"#),
    (Right::History, r#"{"type":"HISTORY","room":"r:ROOM","id":1}"#),
];

/// To whom a right is left, and what each is told.
type Row = (Option<Who>, [(Asker, &'static str); 4]);

#[test]
fn every_command_of_everybody_in_every_room_is_judged_by_its_rule() {
    use Asker::{Granted, Nobody, Owner, Star};
    let (unknown, forbidden) = ("unauthorised", "forbidden");
    let table: [Row; 6] = [
        (None, [(Nobody, unknown), (Owner, "ok"), (Granted, "ok"), (Star, "ok")]),
        (Some(Who::Anyone), [(Nobody, "ok"), (Owner, "ok"), (Granted, "ok"), (Star, "ok")]),
        (Some(Who::User), [(Nobody, unknown), (Owner, "ok"), (Granted, "ok"), (Star, "ok")]),
        (Some(Who::Granted), [(Nobody, unknown), (Owner, forbidden), (Granted, "ok"), (Star, forbidden)]),
        (Some(Who::Owner), [(Nobody, unknown), (Owner, "ok"), (Granted, forbidden), (Star, forbidden)]),
        (Some(Who::Nobody), [(Nobody, forbidden), (Owner, forbidden), (Granted, forbidden), (Star, forbidden)]),
    ];
    for right in [Right::Subscribe, Right::Publish, Right::History] {
        for (who, askers) in table {
            for (asker, told) in askers {
                for (needs, command) in COMMANDS {
                    let command = command.replace("ROOM", OWNERS_SEGMENT);
                    // Who may read what was said is, where nothing is said of it, who may become a member.
                    let is_judged = needs == right && (who.is_some() || right != Right::History)
                        || needs == Right::History && right == Right::Subscribe && command.contains("SUBSCRIBE");
                    let expected = if is_judged { told } else { "ok" };
                    let case = format!("{right:?} is left to {who:?}: {asker:?} sends {command}");
                    let mut lone = lone(right, who, false);
                    let conn = client(&mut lone, asker, right);
                    assert_eq!(outcome(&mut lone, conn, &command), expected, "{case}");
                }
            }
        }
    }
}

#[test]
fn where_everybody_has_to_be_a_user_nobody_else_may_do_anything() {
    let mut lone = lone(Right::Subscribe, Some(Who::Anyone), true);
    let conn = lone.client();
    for (_, command) in COMMANDS {
        assert_eq!(outcome(&mut lone, conn, &command.replace("ROOM", "x")), "unauthorised", "{command}");
    }
    assert_eq!(outcome(&mut lone, conn, r#"{"type":"PING","id":1}"#), "ok");
    assert_eq!(outcome(&mut lone, conn, r#"{"type":"UNSUBSCRIBE","room":"r:x","id":1}"#), "ok");
}

#[test]
fn without_clients_being_asked_a_rule_may_still_close_a_room() {
    let mut lone = LoneCore::new(config(|config| {
        let mut rule = Rule::new("news".parse().expect("a pattern"));
        rule.permissions.publish = Some(Who::Nobody);
        config.rules = Rules::new(vec![rule]).expect("a rule");
    }));
    let conn = lone.client();
    for (command, told) in [
        (r#"{"type":"SUBSCRIBE","room":"news","id":1}"#, "ok"),
        (r#"{"type":"SEND_MESSAGE","room":"news","message":1}"#, "forbidden"),
        (r#"{"type":"SEND_MESSAGE","room":"new","message":1}"#, "ok"),
        (r#"{"type":"AUTH","token":"t","id":1}"#, "not_supported"),
    ] {
        assert_eq!(outcome(&mut lone, conn, command), told, "{command}");
    }
}

#[test]
fn both_of_a_pair_may_and_no_third() {
    for (user, told) in [("ann", "ok"), ("bob", "ok"), ("eve", "forbidden"), ("ann:bob", "forbidden")] {
        let mut lone = LoneCore::new(config(|config| {
            let mut rule = Rule::new("dm:{user}:{user}".parse().expect("a pattern"));
            rule.permissions.subscribe = Some(Who::Owner);
            config.rules = Rules::new(vec![rule]).expect("a rule").with_own_rooms();
            config.auth = Some(Auth::default());
        }));
        let conn = lone.client();
        let identity = Identity::new(user);
        lone.turn(|turn| turn.feed(Event::Authenticated { conn, outcome: Ok(&identity) }));
        assert_eq!(outcome(&mut lone, conn, r#"{"type":"SUBSCRIBE","room":"dm:ann:bob","id":1}"#), told, "{user}");
    }
}
