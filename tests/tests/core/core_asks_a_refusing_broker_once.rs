//! A SUBSCRIBE that the broker refuses costs it one request, and not one after another for as long as the room lingers.

use fanfare_core::Config;
use fanfare_core::broker::BrokerEvent;
use fanfare_tests::lone_core::{LoneCore, Said, text_to};
use std::time::Duration;

const REFUSED: BrokerEvent<'_> = BrokerEvent::SubscribeFailed { room: "r", reason: "no permission" };

#[test]
fn a_refused_subscribe_is_answered_and_not_asked_again() {
    let mut lone = LoneCore::new(Config::default());
    let conn = lone.client();
    let said = lone.command(conn, r#"{"type":"SUBSCRIBE","room":"r","id":1}"#);
    assert_eq!(said, [Said::Subscribe("r".into())]);
    let said = lone.broker(REFUSED);
    let error =
        r#"{"type":"ERROR","code":"broker_refused","reason":"the broker refused the subscription","id":1,"room":"r"}"#;
    assert!(text_to(&said, conn).contains(error));
    assert!(!said.contains(&Said::Subscribe("r".into())), "{said:?}");
    assert_eq!(lone.wait(Duration::from_secs(10)), []);

    let said = lone.command(conn, r#"{"type":"SUBSCRIBE","room":"r","id":2}"#);
    assert_eq!(said, [Said::Subscribe("r".into())], "a new SUBSCRIBE is a new request");
}

#[test]
fn members_from_before_an_outage_are_told_that_their_subscription_ended() {
    let mut lone = LoneCore::new(Config::default());
    let conn = lone.member("r");
    lone.broker(BrokerEvent::Down { reason: "away" });
    assert_eq!(lone.broker(BrokerEvent::Up), [Said::Subscribe("r".into())]);
    let said = lone.broker(REFUSED);
    assert!(text_to(&said, conn).contains(r#"{"type":"UNSUBSCRIBED","room":"r","code":"broker_refused"}"#));
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(lone.core.metrics().memberships_now, 0);
}

#[test]
fn a_room_that_only_lingers_is_not_subscribed_to_after_an_outage() {
    let mut lone = LoneCore::new(Config::default());
    let conn = lone.member("r");
    lone.command(conn, r#"{"type":"UNSUBSCRIBE","room":"r"}"#);
    lone.broker(BrokerEvent::Down { reason: "away" });
    assert_eq!(lone.broker(BrokerEvent::Up), []);
    assert_eq!(lone.wait(Duration::from_secs(10)), []);
}
