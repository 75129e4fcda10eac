//! A turn has a bound, and below it does as much as it may: with less in each, there would be more of them, and more writes.

use fanfare_core::broker::BrokerEvent;
use fanfare_core::{Action, Config, Event};
use fanfare_tests::config;
use fanfare_tests::lone_core::LoneCore;

/// To how many connections each write of the turn goes, and how many bytes it has, where each of these rooms gets so many messages of so
/// many bytes, and sockets take all.
fn writes(lone: &mut LoneCore, rooms: &[String], (count, bytes): (usize, usize)) -> Vec<(usize, usize)> {
    let payload = vec![b'x'; bytes];
    let mut turn = lone.core.turn(lone.now);
    for room in rooms {
        for _ in 0..count {
            turn.feed(Event::Broker(BrokerEvent::Message { room, payload: &payload }));
        }
    }
    let (mut actions, mut writes) = (turn.finish(), Vec::new());
    while let Some(action) = actions.next() {
        let Action::Send(mut delivery) = action else { panic!("{action:?}") };
        writes.push((std::iter::from_fn(|| delivery.next_target()).count(), delivery.bytes().len()));
    }
    drop(actions);
    lone.core.check_invariants();
    writes
}

/// Rooms with so many members each.
fn rooms(lone: &mut LoneCore, rooms: usize, members: usize) -> Vec<String> {
    let rooms: Vec<String> = (0..rooms).map(|room| format!("room {room}")).collect();
    for room in &rooms {
        for _ in 0..members {
            lone.member(room);
        }
    }
    rooms
}

/// What a message of 1,000 bytes becomes at most.
const FRAME: usize = 1_100;

#[test]
fn small_rooms_are_written_to_until_the_turn_is_full() {
    const MEMBERS: usize = 100;
    let mut lone = LoneCore::new(config(|config| config.limits.members_per_turn_max = MEMBERS));
    let rooms = rooms(&mut lone, 200, 1);
    // A member counts once, and again for each 4 KiB.
    for bytes in [100, 5_000, 40_000] {
        let written = writes(&mut lone, &rooms, (1, bytes)).len();
        let expected = MEMBERS.div_ceil(1 + bytes / 4_096);
        assert!((expected..=expected + 1).contains(&written), "{written} of {expected} messages of {bytes} bytes");
        while !writes(&mut lone, &[], (0, 0)).is_empty() {}
    }
}

#[test]
fn what_a_room_has_to_say_goes_out_whole_up_to_4_mib() {
    let mut lone = LoneCore::new(Config::default());
    let rooms = rooms(&mut lone, 1, 4);
    let written = writes(&mut lone, &rooms, (900, 1_000));
    assert!(matches!(written[..], [(4, 900_000..)]), "less than 4 MiB for all: {written:?}");
    assert_eq!(writes(&mut lone, &[], (0, 0)), []);
    let written = writes(&mut lone, &rooms, (1_200, 1_000));
    let part = 64 * 1024 - FRAME..=64 * 1024;
    assert!(matches!(written[..], [(4, bytes)] if part.contains(&bytes)), "else what a socket takes: {written:?}");
}

#[test]
fn a_group_is_given_512_kib_at_a_time() {
    let mut lone = LoneCore::new(Config::default());
    let rooms = rooms(&mut lone, 1, 256);
    let written = writes(&mut lone, &rooms, (100, 1_000));
    let part = 512 * 1024 / 64;
    let (members, bytes) = written[0];
    assert!(members == 64 && (part - FRAME..=part).contains(&bytes), "{written:?}");
}
