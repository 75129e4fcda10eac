//! What a large room has to say leaves small ones their turn, however few of its members are left in each group.

use fanfare_core::broker::BrokerEvent;
use fanfare_core::{ConnId, Event};
use fanfare_tests::config;
use fanfare_tests::lone_core::{LoneCore, Said, text_to};

#[test]
fn a_room_that_has_lost_members_is_large_still() {
    let mut lone = LoneCore::new(config(|config| {
        config.limits.group_members_max = 4;
        config.limits.members_per_turn_max = 8;
    }));
    let members: Vec<ConnId> = (0..64).map(|_| lone.member("large")).collect();
    let other = lone.member("small");
    let (left, stayed): (Vec<_>, Vec<_>) = members.into_iter().enumerate().partition(|(index, _)| index % 4 > 0);
    for (_, conn) in left {
        lone.command(conn, r#"{"type":"UNSUBSCRIBE","room":"large"}"#);
    }
    let mut said = lone.turn(|turn| {
        for room in ["large", "small"] {
            turn.feed(Event::Broker(BrokerEvent::Message { room, payload: b"text" }));
        }
    });
    assert!(text_to(&said, other).contains("text"), "it waits for nobody");
    let has_it = |said: &[Said], conn: ConnId| text_to(said, conn).contains("text");
    assert!(stayed.iter().any(|(_, conn)| has_it(&said, *conn)), "the large room has begun");
    for _ in 0..stayed.len() {
        said.extend(lone.turn(|_| {}));
    }
    assert!(stayed.iter().all(|(_, conn)| has_it(&said, *conn)));
}
