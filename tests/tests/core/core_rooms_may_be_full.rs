//! A rule may say how many members a room has at most. Whoever comes to a full room is told so, however it comes, and a place that is left
//! can be taken again.

use fanfare_core::broker::BrokerEvent;
use fanfare_core::rules::{Permissions, Rule, Rules, Who};
use fanfare_core::{Auth, Config, Dialect, Event, Identity};
use fanfare_tests::lone_core::{LoneCore, close_code, text_to};
use fanfare_tests::{config, upgrade_request};

const SUBSCRIBE: &str = r#"{"type":"SUBSCRIBE","room":"r","id":1}"#;

fn with_members_max(members_max: u32) -> Config {
    config(|config| {
        let mut rule = Rule::new("r".parse().expect("a pattern"));
        rule.members_max = members_max;
        rule.permissions = Permissions { subscribe: Some(Who::Anyone), ..Permissions::default() };
        config.rules = Rules::new(vec![rule]).expect("a rule");
    })
}

fn counts(lone: &LoneCore) -> (u64, u64) {
    let metrics = lone.core.metrics();
    (metrics.memberships_now, metrics.members_refused)
}

#[test]
fn one_more_is_refused_until_one_leaves() {
    let mut lone = LoneCore::new(with_members_max(2));
    let members = [(); 2].map(|()| lone.member("r"));
    let late = lone.client();
    let said = lone.command(late, SUBSCRIBE);
    let error = r#"{"type":"ERROR","code":"room_full","reason":"this room has at most 2 members","id":1,"room":"r"}"#;
    assert!(text_to(&said, late).contains(error), "{said:?}");
    assert_eq!(counts(&lone), (2, 1));

    // Who is in it already may say so again.
    let said = lone.command(members[0], SUBSCRIBE);
    assert!(text_to(&said, members[0]).contains(r#"{"type":"SUBSCRIBED","room":"r","id":1}"#), "{said:?}");
    // Other rooms have other rules.
    lone.command(late, r#"{"type":"SUBSCRIBE","room":"s"}"#);
    assert_eq!(counts(&lone), (3, 1));

    lone.command(members[1], r#"{"type":"UNSUBSCRIBE","room":"r"}"#);
    let said = lone.command(late, SUBSCRIBE);
    assert!(text_to(&said, late).contains(r#"{"type":"SUBSCRIBED","room":"r","id":1}"#), "{said:?}");
    lone.turn(|turn| turn.feed(Event::Closed { conn: members[0] }));
    assert_eq!(counts(&lone), (2, 1));
    lone.member("r");
    assert_eq!(counts(&lone), (3, 1));
    lone.core.check_invariants();
}

#[test]
fn those_who_wait_for_the_broker_have_their_places() {
    let mut lone = LoneCore::new(with_members_max(1));
    let [first, second] = [(); 2].map(|()| lone.client());
    lone.command(first, SUBSCRIBE);
    let said = lone.command(second, SUBSCRIBE);
    assert!(text_to(&said, second).contains("room_full"), "{said:?}");
    let said = lone.broker(BrokerEvent::Subscribed { room: "r" });
    assert!(text_to(&said, first).contains("SUBSCRIBED"), "{said:?}");
    assert_eq!(counts(&lone), (1, 1));
    lone.core.check_invariants();
}

#[test]
fn whoever_gets_no_replies_is_closed() {
    let mut lone = LoneCore::new(with_members_max(1));
    lone.member("r");
    let broadcaster = lone.connect();
    let said = lone.bytes(broadcaster, upgrade_request("/broadcast/r", ""));
    assert_eq!(close_code(&said, broadcaster), Some(1013), "{said:?}");
    assert!(text_to(&said, broadcaster).contains("the room is full"));
    let classic = lone.connect();
    lone.bytes(classic, upgrade_request("/classic", ""));
    let said = lone.command(classic, SUBSCRIBE);
    assert_eq!(close_code(&said, classic), Some(1013), "{said:?}");
    assert_eq!(counts(&lone), (1, 2));
    lone.core.check_invariants();
}

#[test]
fn rooms_of_the_url_and_of_the_credential_are_refused_in_the_same_way() {
    let mut config = with_members_max(1);
    config.auth = Some(Auth::default());
    let mut lone = LoneCore::new(config);
    let mut open = |identity: &Identity, rooms: &[&str]| {
        let mut conn = None;
        let said = lone.turn(|turn| {
            conn = Some(turn.open_websocket_of(identity, Dialect::Fanfare, rooms, None).expect("there is a place"));
        });
        (said, conn.expect("set above"))
    };
    let mut bob = Identity::new("bob");
    open(&bob, &["r"]);
    let (said, by_url) = open(&bob, &["r"]);
    assert!(text_to(&said, by_url).contains("room_full"), "{said:?}");
    bob.join = vec!["r".into()];
    let (said, by_credential) = open(&bob, &[]);
    assert!(text_to(&said, by_credential).contains("room_full"), "{said:?}");
    assert_eq!(lone.core.metrics().members_refused, 2);
    lone.core.check_invariants();
}
