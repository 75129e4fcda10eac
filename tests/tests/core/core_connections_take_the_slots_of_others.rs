//! A connection's slot is below the highest number of connections that were ever open at once, so that adapters can keep what they
//! know of connections in a list.

use fanfare_core::{Config, ConnId, Event};
use fanfare_tests::lone_core::LoneCore;

#[test]
fn however_many_come_and_go() {
    let mut lone = LoneCore::new(Config::default());
    let mut open: Vec<ConnId> = Vec::new();
    for round in 0..20 {
        while open.len() < 8 {
            open.push(lone.connect());
        }
        let mut slots: Vec<usize> = open.iter().map(|conn| conn.slot()).collect();
        slots.sort_unstable();
        assert!(slots.into_iter().eq(0..8), "round {round}: {open:?}");
        // In other numbers and in another order every time.
        for _ in 0..1 + round % 8 {
            let conn = open.swap_remove(round % open.len());
            lone.turn(|turn| turn.feed(Event::Closed { conn }));
        }
    }
}
