//! A core that is told to stop closes whoever it owes nothing at once, the others when they have been answered, and after a time
//! everybody. What comes later is not acted upon.

use fanfare_core::broker::{BrokerEvent, PublishError, PublishId};
use fanfare_core::{Config, ConnId, Event};
use fanfare_tests::lone_core::{LoneCore, Said, text_to};
use fanfare_tests::{Frame, code, opcode, upgrade_request};

fn publish(lone: &mut LoneCore, conn: ConnId, id: u32) -> PublishId {
    let said = lone.command(conn, &format!(r#"{{"type":"SEND_MESSAGE","room":"r","message":1,"id":{id}}}"#));
    let publish = said.iter().find_map(|said| match said {
        Said::Publish(_, _, id) => *id,
        _ => None,
    });
    publish.expect("it is published, and has an id")
}

fn is_told_to_come_back(said: &[Said], conn: ConnId) -> bool {
    text_to(said, conn).contains("the server restarts")
}

#[test]
fn whoever_waits_for_an_answer_gets_it_and_then_the_close() {
    let mut lone = LoneCore::new(Config::default());
    let (idle, sender, failing, joining) = (lone.member("r"), lone.client(), lone.client(), lone.client());
    let (first, second) = (publish(&mut lone, sender, 1), publish(&mut lone, sender, 2));
    let third = publish(&mut lone, failing, 3);
    lone.command(joining, r#"{"type":"SUBSCRIBE","room":"other","id":4}"#);

    let said = lone.turn(|turn| turn.feed(Event::Shutdown));
    assert!(is_told_to_come_back(&said, idle));
    assert!([sender, failing, joining].iter().all(|conn| text_to(&said, *conn).is_empty()), "{said:?}");
    assert!(lone.command(sender, r#"{"type":"SEND_MESSAGE","room":"r","message":1,"id":5}"#).is_empty());
    assert!(lone.command(sender, "nonsense").is_empty());
    let pong = lone.bytes(sender, Frame::new(opcode::PING, "").masked());
    assert_eq!(pong.len(), 1, "it is alive, and its WebSocket as well");

    let said = lone.broker(BrokerEvent::Published { id: first, position: None, receivers: None });
    assert!(text_to(&said, sender).contains(r#"{"type":"ACK","id":1}"#) && !is_told_to_come_back(&said, sender));
    let said = lone.broker(BrokerEvent::Published { id: second, position: None, receivers: None });
    let text = text_to(&said, sender);
    assert!(text.find("ACK").is_some_and(|ack| Some(ack) < text.find("the server restarts")), "{text:?}");
    let said = lone.broker(BrokerEvent::PublishFailed { id: third, error: PublishError::Busy });
    assert!(text_to(&said, failing).contains("broker_busy") && is_told_to_come_back(&said, failing));
    let said = lone.broker(BrokerEvent::Subscribed { room: "other" });
    assert!(text_to(&said, joining).contains("SUBSCRIBED") && is_told_to_come_back(&said, joining));
}

#[test]
fn nobody_waits_longer_than_there_is_time() {
    let config = Config::default();
    let drain_timeout = config.timeouts.drain;
    let mut lone = LoneCore::new(config);
    let sender = lone.client();
    publish(&mut lone, sender, 1);
    assert!(lone.turn(|turn| turn.feed(Event::Shutdown)).is_empty());
    assert_eq!(lone.core.next_timeout(), Some(lone.now + drain_timeout));
    // It has no more time for being told twice.
    lone.now = lone.now + drain_timeout / 2;
    assert!(lone.turn(|turn| turn.feed(Event::Shutdown)).is_empty());
    let said = lone.wait(drain_timeout / 2);
    assert!(is_told_to_come_back(&said, sender), "{said:?}");
}

#[test]
fn what_cannot_be_said_is_not_waited_for() {
    let mut lone = LoneCore::new(Config::default());
    let classic = lone.connect();
    lone.bytes(classic, upgrade_request("/classic", ""));
    publish(&mut lone, classic, 1);
    let joining = lone.client();
    lone.command(joining, r#"{"type":"SUBSCRIBE","room":"r"}"#);
    lone.broker(BrokerEvent::Down { reason: "away" });
    let said = lone.turn(|turn| turn.feed(Event::Shutdown));
    assert!(is_told_to_come_back(&said, classic) && is_told_to_come_back(&said, joining), "{said:?}");
}

#[test]
fn a_client_that_leaves_meanwhile_is_let_go() {
    let mut lone = LoneCore::new(Config::default());
    let (closing, vanishing) = (lone.client(), lone.client());
    for conn in [closing, vanishing] {
        publish(&mut lone, conn, 1);
    }
    lone.turn(|turn| turn.feed(Event::Shutdown));
    lone.bytes(closing, Frame::close(code::NORMAL, "").masked());
    lone.turn(|turn| turn.feed(Event::Closed { conn: vanishing }));
    assert_eq!(lone.core.connections(), 0);
}
