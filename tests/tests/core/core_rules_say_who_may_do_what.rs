//! Every command and every other way to join or to publish, in every dialect, by every kind of user, in rooms of every rule: who may, and
//! what the others are told. `AUTH` changes who somebody is, and with that who may.

use fanfare_core::broker::BrokerEvent;
use fanfare_core::history::{Continuity, Epoch, Page, Position, Retention};
use fanfare_core::rules::{Permissions, Right, Rule, Rules, Who};
use fanfare_core::{Auth, ConnId, Denied, Dialect, Event, Identity, Source};
use fanfare_tests::lone_core::{LoneCore, Said, close_code, text_to};
use fanfare_tests::{config, upgrade_request};
use std::time::Duration;

/// Whose room it is: two users', whose names have what patterns have.
const OWNER: &str = "b:b*";
const MIRROR: &str = "m%{user}";
/// The pattern of the rule, and the room.
const PATTERN: &str = "r:{user}:{user}";
const ROOM: &str = "r:b%3Ab%2A:m%25%7Buser%7D";

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asker {
    /// Nobody knows.
    Nobody,
    /// The user whom the room names first.
    Owner,
    /// The one whom it names last.
    Mirror,
    /// A user who has a grant for such rooms, and for the one right alone.
    Granted,
    /// The same user with grants for all rights, in other rooms.
    Elsewhere,
    /// The same user with grants for all rooms, but for the one right.
    Otherwise,
    /// A user whose name would fit any, were it a pattern.
    Star,
}

use Asker::{Elsewhere, Granted, Mirror, Nobody, Otherwise, Owner, Star};

const ASKERS: [Asker; 7] = [Nobody, Owner, Mirror, Granted, Elsewhere, Otherwise, Star];
const RIGHTS: [Right; 4] = [Right::Subscribe, Right::Publish, Right::History, Right::Presence];

impl Asker {
    /// Who that is, where it is about this right.
    fn identity(self, right: Right) -> Option<Identity> {
        let mut identity = Identity::new(match self {
            Nobody => return None,
            Owner => OWNER,
            Mirror => MIRROR,
            Granted | Elsewhere | Otherwise => "granted",
            Star => "*",
        });
        let (rights, rooms): (Vec<Right>, &[&str]) = match self {
            Granted => (vec![right], &["r:*:*"]),
            Elsewhere => (RIGHTS.to_vec(), &["r:*", "r:other:*", "r:*:*:**", "s:**"]),
            Otherwise => (RIGHTS.into_iter().filter(|other| *other != right).collect(), &["**"]),
            _ => return Some(identity),
        };
        for right in rights {
            identity.grants = identity.grants.with(right, rooms.iter().copied()).expect("patterns");
        }
        Some(identity)
    }
}

/// What a rule leaves to `who`. Everything else is left to anyone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Left {
    right: Right,
    who: Option<Who>,
    /// Nothing is said of who may read what was said before, so those may that may become members.
    reads_as_member: bool,
}

impl Left {
    fn every() -> impl Iterator<Item = Left> {
        let whos = [None, Some(Who::Anyone), Some(Who::User), Some(Who::Granted), Some(Who::Owner), Some(Who::Nobody)];
        let rights = [
            (Right::Subscribe, false),
            (Right::Subscribe, true),
            (Right::Publish, false),
            (Right::History, false),
            (Right::Presence, false),
        ];
        rights.into_iter().flat_map(move |(right, reads_as_member)| {
            whos.into_iter().map(move |who| Left { right, who, reads_as_member })
        })
    }

    fn rules(self) -> Rules {
        let anyone = Some(Who::Anyone);
        let open = Permissions { subscribe: anyone, publish: anyone, history: anyone, presence: anyone };
        let mut said = open;
        if self.reads_as_member {
            (said.history, said.presence) = (None, None);
        }
        match self.right {
            Right::Subscribe => said.subscribe = self.who,
            Right::Publish => said.publish = self.who,
            Right::History => said.history = self.who,
            Right::Presence => said.presence = self.who,
            right => unreachable!("{right:?}"),
        }
        let mut rule = Rule::new(PATTERN.parse().expect("a pattern"));
        rule.history = Some(Retention { messages_max: 100, bytes_max: 100_000, age_max: Duration::from_secs(60) });
        rule.permissions = said;
        // What comes behind it would let everybody, and never counts.
        let mut behind = Rule::new("**".parse().expect("a pattern"));
        behind.permissions = open;
        Rules::new(vec![rule, behind]).expect("rules")
    }

    fn lone(self, required: bool) -> LoneCore {
        LoneCore::new(config(|config| {
            config.rules = self.rules().with_own_rooms();
            let mut auth = Auth::default();
            (auth.required, auth.own_rooms) = (required, false);
            config.auth = Some(auth);
        }))
    }

    /// What is told to somebody who does it in this way.
    fn told(self, asker: Asker, way: Way) -> &'static str {
        match (self.judges(asker, way.2), way) {
            // Nothing is read for a client that has no word for what is there.
            ("ok", ("/classic", Some(text), _)) if text.contains("HISTORY") => "nothing",
            ("ok", ("/classic", Some(text), _)) if text.contains("PRESENCE") => "nothing",
            // The rule lets them see who is there, and nobody keeps that.
            ("ok", (_, _, needs)) if needs.contains(&Right::Presence) => "presence_unavailable",
            (told, _) => told,
        }
    }

    /// What is told to somebody who does what needs these rights.
    fn judges(self, asker: Asker, needs: &[Right]) -> &'static str {
        let is_judged = |right| match right {
            // Nothing is said of it: who may read or see who is there is who may become a member, and that is anyone.
            Right::History | Right::Presence if self.right == right => self.who.is_some(),
            Right::History | Right::Presence => self.reads_as_member,
            right => right == self.right,
        };
        let (unknown, forbidden) = ("unauthorised", "forbidden");
        let askers = match self.who {
            _ if !needs.iter().any(|right| is_judged(*right)) => ["ok"; 7],
            Some(Who::Anyone) => ["ok"; 7],
            None | Some(Who::User) => [unknown, "ok", "ok", "ok", "ok", "ok", "ok"],
            Some(Who::Granted) => [unknown, forbidden, forbidden, "ok", forbidden, forbidden, forbidden],
            Some(Who::Owner) => [unknown, "ok", "ok", forbidden, forbidden, forbidden, forbidden],
            Some(Who::Nobody) => [forbidden; 7],
            who => unreachable!("{who:?}"),
        };
        askers[ASKERS.iter().position(|one| *one == asker).expect("every asker is there")]
    }
}

/// How somebody does something: the path of the upgrade, the text that follows, and what that needs.
type Way = (&'static str, Option<&'static str>, &'static [Right]);

const SUBSCRIBE: &[Right] = &[Right::Subscribe];
const READ: &[Right] = &[Right::Subscribe, Right::History];
const SEE: &[Right] = &[Right::Subscribe, Right::Presence];
const PUBLISH: &[Right] = &[Right::Publish];

/// Every command that is about a room. Both dialects that have commands have these.
const COMMANDS: [(&str, &[Right]); 7] = [
    (r#"{"type":"SUBSCRIBE","room":"ROOM","id":1}"#, SUBSCRIBE),
    (r#"{"type":"SUBSCRIBE","room":"ROOM","history":5,"id":1}"#, READ),
    (r#"{"type":"SUBSCRIBE","room":"ROOM","since":{"epoch":"3-00000000000000ff","offset":1},"id":1}"#, READ),
    (r#"{"type":"SEND_MESSAGE","room":"ROOM","message":1,"id":1}"#, PUBLISH),
    (r#"{"type":"SEND_MESSAGE","room":"ROOM","message":1,"store":false,"echo":false}"#, PUBLISH),
    (r#"{"type":"HISTORY","room":"ROOM","id":1}"#, &[Right::History]),
    (r#"{"type":"PRESENCE","room":"ROOM","id":1}"#, &[Right::Presence]),
];

/// What upgrades do by themselves, and a dialect without commands.
const URLS: [Way; 15] = [
    ("/?room=ROOM", None, SUBSCRIBE),
    ("/ws?room=open&room=ROOM", None, SUBSCRIBE),
    ("/fanfare?room=ROOM&history=5", None, READ),
    ("/?room=ROOM&since=3-00000000000000ff:1", None, READ),
    ("/?room=ROOM&presence=true", None, SEE),
    ("/?room=ROOM&presence=false", None, SUBSCRIBE),
    ("/", Some(r#"{"type":"SUBSCRIBE","room":"ROOM","presence":true}"#), SEE),
    // It has no word for who is there.
    ("/classic", Some(r#"{"type":"SUBSCRIBE","room":"ROOM","presence":true}"#), SUBSCRIBE),
    ("/classic?room=ROOM", None, SUBSCRIBE),
    ("/classic?room=open&room=ROOM", None, SUBSCRIBE),
    ("/classic?room=ROOM&history=5", None, READ),
    ("/broadcast/ROOM", None, SUBSCRIBE),
    ("/broadcast/ROOM?history=5", None, READ),
    ("/broadcast/ROOM?since=3-00000000000000ff:1", None, READ),
    ("/broadcast/ROOM", Some("hello"), &[Right::Subscribe, Right::Publish]),
];

fn every_way() -> impl Iterator<Item = Way> {
    let commands = |path| COMMANDS.map(|(text, needs)| (path, Some(text), needs));
    commands("/").into_iter().chain(commands("/classic")).chain(URLS)
}

/// A connection of this user that asks for an upgrade at this path.
fn enter(lone: &mut LoneCore, identity: Option<&Identity>, path: &str) -> (ConnId, Vec<Said>) {
    let path = path.replace("ROOM", &ROOM.replace('%', "%25"));
    let conn = lone.connect();
    let Some(identity) = identity else {
        let said = lone.bytes(conn, upgrade_request(&path, ""));
        return (conn, said);
    };
    let said = lone.bytes(conn, upgrade_request(&path, "Authorization: Bearer t\r\n"));
    assert_eq!(said, [Said::Authenticate(conn, Source::Header, b"t".to_vec())]);
    let said = verdict(lone, conn, Ok(identity));
    (conn, said)
}

fn verdict(lone: &mut LoneCore, conn: ConnId, outcome: Result<&Identity, Denied>) -> Vec<Said> {
    lone.turn(|turn| turn.feed(Event::Authenticated { conn, outcome }))
}

/// What a connection was told: `ok`, if something was done about the room, or the code of its `ERROR`, or by which close it ended.
fn told(said: &[Said], conn: ConnId) -> String {
    let text = text_to(said, conn);
    let error = text.split_once(r#""type":"ERROR","code":""#);
    let refused = match (close_code(said, conn), error) {
        (Some(4501), None) => Some("unauthorised".to_owned()),
        (Some(4503), None) => Some("forbidden".to_owned()),
        (Some(code), _) => Some(format!("close {code}")),
        (None, Some((_, rest))) => Some(rest.split('"').next().unwrap_or_default().to_owned()),
        (None, None) => None,
    };
    let is_about = |said: &&Said| match said {
        Said::Subscribe(room) | Said::Publish(room, ..) | Said::Store(room, ..) | Said::Read(_, room, _) => {
            room == ROOM
        }
        _ => false,
    };
    match (refused, said.iter().find(is_about)) {
        (Some(refused), None) => refused,
        (None, Some(_)) => "ok".to_owned(),
        (None, None) => "nothing".to_owned(),
        (Some(refused), Some(asked)) => panic!("whoever is refused, {refused}, has nothing asked for: {asked:?}"),
    }
}

/// What becomes of a text.
fn outcome(lone: &mut LoneCore, conn: ConnId, text: &str) -> String {
    let said = lone.command(conn, &text.replace("ROOM", ROOM));
    told(&said, conn)
}

/// The broker holds the room, in which nothing has been said.
fn open(lone: &mut LoneCore) {
    let said = lone.broker(BrokerEvent::Subscribed { room: ROOM });
    let [Said::Read(id, ..)] = said[..] else { panic!("{said:?}") };
    let last = Position { epoch: Epoch { ordinal: 1, random: 7 }, offset: 0 };
    let page = Page { last, first: 1, continuity: Continuity::Exact, entries: Vec::new() };
    lone.broker(BrokerEvent::Read { id, page: &page });
}

/// What becomes of an upgrade, and of the text that follows it.
fn outcome_of(lone: &mut LoneCore, identity: Option<&Identity>, (path, text, _): Way) -> String {
    let (conn, said) = enter(lone, identity, path);
    assert!(text_to(&said, conn).starts_with("HTTP/1.1 101 "), "{said:?}");
    let of_upgrade = path.contains("ROOM").then(|| told(&said, conn));
    match (of_upgrade, text) {
        (Some(told), None) => told,
        (Some(told), Some(_)) if told != "ok" => told,
        (joined, Some(text)) => {
            if joined.is_some() {
                // What is published waits for that.
                open(lone);
            }
            outcome(lone, conn, text)
        }
        (None, None) => unreachable!("it does nothing"),
    }
}

#[test]
fn every_way_to_do_something_is_judged_by_the_rule_for_everybody() {
    for left in Left::every() {
        for asker in ASKERS {
            let identity = asker.identity(left.right);
            for way in every_way() {
                let mut lone = left.lone(false);
                let outcome = outcome_of(&mut lone, identity.as_ref(), way);
                assert_eq!(outcome, left.told(asker, way), "{left:?}: {asker:?} by {way:?}");
            }
        }
    }
}

#[test]
fn rooms_that_come_with_a_credential_or_a_framework_are_judged_as_well() {
    for left in Left::every() {
        for asker in ASKERS {
            let identity = asker.identity(left.right);
            let expected = left.judges(asker, SUBSCRIBE);
            let mut lone = left.lone(false);
            let mut opened = None;
            let said = lone.turn(|turn| {
                let conn = match &identity {
                    Some(identity) => turn.open_websocket_of(identity, Dialect::Fanfare, &[ROOM], None),
                    None => turn.open_websocket(Dialect::Fanfare, &[ROOM], None),
                };
                opened = conn.ok();
            });
            let conn = opened.expect("there is a place");
            assert_eq!(told(&said, conn), expected, "{left:?}: {asker:?} by a framework");
            let Some(mut identity) = identity else { continue };
            identity.join = vec![ROOM.into()];
            for path in ["/", "/classic"] {
                let mut lone = left.lone(false);
                let (conn, said) = enter(&mut lone, Some(&identity), path);
                assert_eq!(told(&said, conn), expected, "{left:?}: {asker:?} at {path} by the credential");
            }
        }
    }
}

/// What was known, what is shown then, whose rights the connection has from then on, and what it is told by `AUTH`; in the dialect
/// without replies, it may end instead.
type Shown = (Asker, Result<Asker, Denied>, Asker, &'static str, Option<u16>);

const SHOWN: [Shown; 16] = [
    (Nobody, Ok(Owner), Owner, "AUTHENTICATED", None),
    (Nobody, Ok(Mirror), Mirror, "AUTHENTICATED", None),
    (Nobody, Ok(Granted), Granted, "AUTHENTICATED", None),
    (Nobody, Ok(Star), Star, "AUTHENTICATED", None),
    (Nobody, Err(Denied::Unauthorised), Nobody, "unauthorised", Some(4001)),
    (Nobody, Err(Denied::Unavailable), Nobody, "auth_unavailable", Some(1013)),
    // The same user: with the same rights, with more, with less.
    (Owner, Ok(Owner), Owner, "AUTHENTICATED", None),
    (Elsewhere, Ok(Granted), Granted, "AUTHENTICATED", None),
    (Granted, Ok(Elsewhere), Elsewhere, "AUTHENTICATED", None),
    (Granted, Ok(Otherwise), Otherwise, "AUTHENTICATED", None),
    // Another user, to whom that belongs which the first one may not have, or the other way round.
    (Star, Ok(Owner), Star, "forbidden", Some(4503)),
    (Owner, Ok(Star), Owner, "forbidden", Some(4503)),
    (Star, Ok(Granted), Star, "forbidden", Some(4503)),
    (Granted, Ok(Owner), Granted, "forbidden", Some(4503)),
    (Owner, Err(Denied::Forbidden), Owner, "forbidden", Some(4503)),
    (Granted, Err(Denied::Expired), Granted, "token_expired", Some(4001)),
];

/// When somebody does something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    BeforeAuth,
    /// The credential is still looked at.
    WhileAsked,
    AfterAuth,
}

/// Whether a connection, as which it is known who it is by now, has been ended by what it has shown.
fn shows(lone: &mut LoneCore, conn: ConnId, path: &str, right: Right, shown: Shown, moment: Moment) -> bool {
    let (_, shown, _, reply, ends) = shown;
    if moment == Moment::BeforeAuth {
        return false;
    }
    let said = lone.command(conn, r#"{"type":"AUTH","token":"t2","id":7}"#);
    assert_eq!(said, [Said::Authenticate(conn, Source::Command, b"t2".to_vec())]);
    if moment == Moment::WhileAsked {
        return false;
    }
    let identity = shown.map(|asker| asker.identity(right).expect("somebody is shown"));
    let said = verdict(lone, conn, identity.as_ref().map_err(|denied| *denied));
    let (text, ended) = (text_to(&said, conn), close_code(&said, conn));
    if path == "/classic" {
        assert_eq!(ended, ends, "{shown:?} at {path}");
        assert!(ended.is_some() || text.is_empty(), "it has no replies: {text}");
        return ended.is_some();
    }
    assert!(text.contains(&format!(r#""{reply}""#)) && text.contains(r#""id":7"#), "{shown:?} at {path}: {text}");
    assert_eq!(ended, None, "{shown:?} at {path}");
    false
}

#[test]
fn a_credential_changes_who_may_when_it_is_good_and_of_the_same_user() {
    for left in Left::every() {
        for shown in SHOWN {
            let (from, _, to, ..) = shown;
            let identity = from.identity(left.right);
            for path in ["/", "/classic"] {
                for moment in [Moment::BeforeAuth, Moment::WhileAsked, Moment::AfterAuth] {
                    for (command, needs) in COMMANDS {
                        let mut lone = left.lone(false);
                        let (conn, _) = enter(&mut lone, identity.as_ref(), path);
                        if shows(&mut lone, conn, path, left.right, shown, moment) {
                            continue;
                        }
                        let asker = if moment == Moment::AfterAuth { to } else { from };
                        let case = format!("{left:?}: {shown:?} at {path}, {moment:?}: {command}");
                        assert_eq!(
                            outcome(&mut lone, conn, command),
                            left.told(asker, (path, Some(command), needs)),
                            "{case}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn a_renewal_takes_back_the_rooms_of_every_way_in_and_leaves_what_may_stay() {
    let left = Left { right: Right::Subscribe, who: Some(Who::Granted), reads_as_member: false };
    let granted = Granted.identity(Right::Subscribe).expect("a user");
    // Who wants to see who is there becomes no member, because nobody keeps that in this room.
    let entries = every_way().filter(|(_, text, needs)| {
        needs.contains(&Right::Subscribe)
            && !needs.contains(&Right::Presence)
            && text.is_none_or(|text| text.contains("SUBSCRIBE"))
    });
    for (path, text, _) in entries {
        for (renewed, is_kept) in [(Granted, true), (Elsewhere, false), (Otherwise, false)] {
            let mut lone = left.lone(false);
            let (conn, _) = enter(&mut lone, Some(&granted), path);
            if let Some(text) = text {
                lone.command(conn, &text.replace("ROOM", ROOM));
            }
            lone.broker(BrokerEvent::Subscribed { room: ROOM });
            let said = verdict(&mut lone, conn, Ok(&renewed.identity(Right::Subscribe).expect("a user")));
            let is_taken =
                text_to(&said, conn).contains(r#""code":"forbidden""#) || close_code(&said, conn) == Some(4503);
            assert_eq!(is_taken, !is_kept, "{path} {text:?}: {renewed:?}: {said:?}");
        }
    }
}

#[test]
fn a_text_of_a_broadcaster_shows_no_credential() {
    let left = Left { right: Right::Publish, who: Some(Who::User), reads_as_member: false };
    let auth = r#"{"type":"AUTH","token":"t2"}"#;
    for (asker, told) in [(Nobody, "unauthorised"), (Star, "ok")] {
        let mut lone = left.lone(false);
        let identity = asker.identity(Right::Publish);
        assert_eq!(outcome_of(&mut lone, identity.as_ref(), ("/broadcast/ROOM", Some(auth), &[])), told, "{asker:?}");
        assert_eq!(lone.core.metrics().auth_waiting_now, 0);
    }
}

#[test]
fn where_everybody_has_to_be_a_user_nobody_else_may_do_anything() {
    let left = Left { right: Right::Subscribe, who: Some(Who::Anyone), reads_as_member: false };
    for way in every_way() {
        let mut lone = left.lone(true);
        if way.0.starts_with("/classic") || way.0.starts_with("/broadcast") {
            // No credential could follow.
            let (conn, said) = enter(&mut lone, None, way.0);
            assert!(text_to(&said, conn).starts_with("HTTP/1.1 401 "), "{way:?}: {said:?}");
        } else {
            assert_eq!(outcome_of(&mut lone, None, way), "unauthorised", "{way:?}");
        }
    }
    let mut lone = left.lone(true);
    let conn = lone.client();
    for (command, reply) in [
        (r#"{"type":"PING","id":1}"#, r#""type":"PONG","id":1"#),
        (r#"{"type":"UNSUBSCRIBE","room":"ROOM","id":1}"#, r#""type":"UNSUBSCRIBED""#),
    ] {
        let said = lone.command(conn, &command.replace("ROOM", ROOM));
        assert!(text_to(&said, conn).contains(reply), "{said:?}");
    }
}

#[test]
fn without_clients_being_asked_a_rule_may_still_close_a_room() {
    for left in Left::every() {
        for way in every_way() {
            let mut lone = LoneCore::new(config(|config| config.rules = left.rules()));
            // Where nothing is said, everybody is like everybody else.
            let left_to = Left { who: left.who.or(Some(Who::Anyone)), ..left };
            let expected = left_to.told(Nobody, way);
            assert_eq!(outcome_of(&mut lone, None, way), expected, "{left:?} by {way:?}");
        }
    }
    let mut lone = LoneCore::new(config(|_| {}));
    let conn = lone.client();
    assert_eq!(outcome(&mut lone, conn, r#"{"type":"AUTH","token":"t","id":1}"#), "not_supported");
}
