//! Cores that make up one server: what others hold counts against the limits of connections, and who of them is not ready is
//! told at `/readyz`.

use fanfare_core::broker::BrokerEvent;
use fanfare_core::{Config, ConnId, Elsewhere, Event};
use fanfare_tests::lone_core::{LoneCore, text_to};
use fanfare_tests::{config, upgrade_request};

fn status(lone: &mut LoneCore, conn: ConnId, request: &str) -> String {
    let said = lone.bytes(conn, request);
    text_to(&said, conn).split(' ').nth(1).expect("a status").to_owned()
}

fn upgrade(lone: &mut LoneCore) -> String {
    let conn = lone.connect();
    status(lone, conn, &upgrade_request("/ws", ""))
}

fn elsewhere(lone: &mut LoneCore, connections: usize, websockets: usize) {
    lone.turn(|turn| turn.feed(Event::Elsewhere(Elsewhere { connections, websockets })));
}

#[test]
fn websockets_elsewhere_take_places() {
    let mut lone = LoneCore::new(config(|config| config.admission.connections_max = 3));
    elsewhere(&mut lone, 1, 1);
    assert_eq!([(); 3].map(|()| upgrade(&mut lone)), ["101", "101", "503"]);
    elsewhere(&mut lone, 0, 0);
    assert_eq!([(); 2].map(|()| upgrade(&mut lone)), ["101", "503"]);
    elsewhere(&mut lone, usize::MAX, usize::MAX);
    assert_eq!(upgrade(&mut lone), "503");
}

#[test]
fn pending_connections_make_room_for_those_elsewhere() {
    let mut lone = LoneCore::new(config(|config| {
        config.admission.connections_max = 20;
        config.admission.surplus_connections_max = 4;
    }));
    let pending: Vec<ConnId> = (0..10).map(|_| lone.connect()).collect();
    let said = lone.turn(|turn| turn.feed(Event::Elsewhere(Elsewhere { connections: 12, websockets: 12 })));
    assert!(said.is_empty(), "half the surplus is free: {said:?}");
    let said = lone.turn(|turn| turn.feed(Event::Elsewhere(Elsewhere { connections: 15, websockets: 15 })));
    for (number, conn) in pending.iter().enumerate() {
        assert_eq!(text_to(&said, *conn).starts_with("HTTP/1.1 503"), number < 3, "{number}");
    }
    // There is always room for one.
    elsewhere(&mut lone, usize::MAX, 24);
    assert_eq!(lone.core.connections(), 1);
}

#[test]
fn it_is_ready_when_the_others_are() {
    let mut lone = LoneCore::new(Config::default());
    let readyz = |lone: &mut LoneCore| {
        let conn = lone.connect();
        let said = lone.bytes(conn, "GET /readyz HTTP/1.1\r\nHost: h\r\n\r\n");
        text_to(&said, conn)
    };
    assert!(readyz(&mut lone).starts_with("HTTP/1.1 200"));
    lone.turn(|turn| turn.feed(Event::ReadyElsewhere(Err("another is away"))));
    let response = readyz(&mut lone);
    assert!(response.starts_with("HTTP/1.1 503") && response.ends_with("another worker is not ready\n"), "{response}");
    // Its own word is about itself.
    assert_eq!(lone.core.readiness(), Ok(()));
    lone.turn(|turn| turn.feed(Event::ReadyElsewhere(Ok(()))));
    assert!(readyz(&mut lone).starts_with("HTTP/1.1 200"));
}

#[test]
fn what_it_says_of_itself_can_be_told_within_the_turn() {
    let mut lone = LoneCore::new(Config::default());
    lone.turn(|turn| {
        assert_eq!(turn.core().readiness(), Ok(()));
        turn.feed(Event::Broker(BrokerEvent::Down { reason: "away" }));
        assert_eq!(turn.core().readiness(), Err("away"));
        turn.feed(Event::Broker(BrokerEvent::Up));
        assert_eq!(turn.core().readiness(), Ok(()));
        turn.feed(Event::Shutdown);
        assert_eq!(turn.core().readiness(), Err("shutting down"));
    });
}
