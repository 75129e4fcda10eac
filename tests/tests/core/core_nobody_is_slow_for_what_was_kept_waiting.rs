//! What a large room has to say waits for its turn; but never for so long that a client that reads as fast as the room speaks
//! is given more at once than it may leave unread.

use fanfare_core::broker::BrokerEvent;
use fanfare_core::{ConnId, Event};
use fanfare_tests::config;
use fanfare_tests::lone_core::{LoneCore, text_to};

const MEMBERS: usize = 60;
const MESSAGES: usize = 200;
const MESSAGE_BYTES: usize = 2_000;

/// Each socket takes twice as much in a turn as the room says in it.
#[test]
fn members_who_read_twice_as_fast_as_the_room_speaks_are_not_too_slow() {
    let config = config(|config| {
        config.limits.group_members_max = 1;
        config.limits.members_per_turn_max = 8;
        config.limits.outbox_bytes_max = 32 * 1024;
    });
    let mut lone = LoneCore::new(config);
    let members: Vec<ConnId> = (0..MEMBERS).map(|_| lone.member("r")).collect();
    lone.takes = |_, bytes| bytes.min(2 * MESSAGE_BYTES);
    let mut said = Vec::new();
    for number in 0.. {
        said.extend(lone.turn(|turn| {
            members.iter().for_each(|conn| turn.feed(Event::Writable { conn: *conn }));
            if number < MESSAGES {
                let payload = [number.to_string().as_bytes(), &[b'x'; MESSAGE_BYTES]].concat();
                turn.feed(Event::Broker(BrokerEvent::Message { room: "r", payload: &payload }));
            }
        }));
        let is_all_said = lone.core.next_timeout().is_none_or(|next| next > lone.now);
        if number > MESSAGES && is_all_said && lone.core.metrics().unsent_bytes_now == 0 {
            break;
        }
    }
    assert_eq!(lone.core.metrics().slow_closes, 0);
    for conn in members {
        assert!(text_to(&said, conn).contains(&format!("{}x", MESSAGES - 1)), "{conn:?} has the last message");
    }
}
