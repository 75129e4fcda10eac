//! After an outage: how many rooms have yet to come back, and how long it took until all had.

use fanfare_core::Config;
use fanfare_core::broker::{BrokerEvent, Partitions, partition_of};
use fanfare_tests::lone_core::{LoneCore, Said};
use std::time::Duration;

fn rooms(count: usize) -> Vec<String> {
    (0..count).map(|room| format!("r{room}")).collect()
}

fn with_rooms(count: usize) -> LoneCore {
    let mut config = Config::default();
    config.limits.rooms_per_connection_max = count as u16;
    let mut lone = LoneCore::new(config);
    let conn = lone.client();
    for room in rooms(count) {
        lone.command(conn, &format!(r#"{{"type":"SUBSCRIBE","room":"{room}"}}"#));
        lone.broker(BrokerEvent::Subscribed { room: &room });
    }
    lone
}

fn returning(lone: &LoneCore) -> u64 {
    lone.core.metrics().rooms_returning_now
}

/// How many outages were counted, and the sum of their times.
fn recoveries(lone: &LoneCore) -> (u64, Duration) {
    let metrics = lone.core.metrics();
    (metrics.recovery_counts.iter().sum(), Duration::from_micros(metrics.recovery_micros))
}

fn subscribed(said: &[Said]) -> Vec<String> {
    let of = |said: &Said| if let Said::Subscribe(room) = said { Some(room.clone()) } else { None };
    said.iter().filter_map(of).collect()
}

#[test]
fn the_time_is_that_from_the_end_of_the_outage_to_the_last_room() {
    // More than are looked at in one turn.
    const ROOMS: usize = 1_500;
    let mut lone = with_rooms(ROOMS);
    assert_eq!((returning(&lone), recoveries(&lone)), (0, (0, Duration::ZERO)));
    lone.broker(BrokerEvent::Down { reason: "away" });
    lone.wait(Duration::from_secs(60));
    assert_eq!(returning(&lone), 0, "nothing can come back yet");
    let mut asked = subscribed(&lone.broker(BrokerEvent::Up));
    assert_eq!(returning(&lone), ROOMS as u64);
    while asked.len() < ROOMS {
        let more = subscribed(&lone.wait(Duration::from_millis(1)));
        assert!(!more.is_empty());
        asked.extend(more);
    }
    let (last, others) = asked.split_last().unwrap();
    let began = lone.now;
    for (index, room) in others.iter().enumerate() {
        lone.broker(BrokerEvent::Subscribed { room });
        assert_eq!(returning(&lone), (ROOMS - 1 - index) as u64);
    }
    lone.wait(Duration::from_millis(700));
    assert_eq!(recoveries(&lone).0, 0);
    lone.broker(BrokerEvent::Subscribed { room: last });
    let (count, took) = recoveries(&lone);
    assert_eq!((count, returning(&lone)), (1, 0));
    assert!(took >= lone.now.since(began) && took < Duration::from_secs(1), "{took:?}");
    // Rooms that are new are none that come back.
    let conn = lone.client();
    lone.command(conn, r#"{"type":"SUBSCRIBE","room":"new"}"#);
    assert_eq!((returning(&lone), recoveries(&lone)), (0, (1, took)));
}

#[test]
fn an_outage_in_between_begins_anew_and_a_refused_room_is_waited_for_no_longer() {
    let mut lone = with_rooms(2);
    for _ in 0..2 {
        lone.broker(BrokerEvent::Down { reason: "away" });
        lone.broker(BrokerEvent::Up);
        lone.broker(BrokerEvent::Subscribed { room: "r0" });
        assert_eq!((returning(&lone), recoveries(&lone).0), (1, 0));
    }
    lone.broker(BrokerEvent::SubscribeFailed { room: "r1", reason: "no permission" });
    assert_eq!((returning(&lone), recoveries(&lone).0), (0, 1));
}

#[test]
fn an_outage_of_a_part_is_over_when_its_rooms_are_back() {
    let mut lone = with_rooms(20);
    let mut lost = Partitions::none_of(2);
    lost.insert(0);
    let gone: Vec<String> = rooms(20).into_iter().filter(|room| partition_of(room, 2) == 0).collect();
    assert!((1..20).contains(&gone.len()));
    for _ in 0..2 {
        assert_eq!(subscribed(&lone.broker(BrokerEvent::Lost { partitions: &lost })), gone);
        assert_eq!(returning(&lone), gone.len() as u64);
    }
    for room in &gone {
        assert_eq!(recoveries(&lone).0, 0);
        lone.broker(BrokerEvent::Subscribed { room });
    }
    assert_eq!((returning(&lone), recoveries(&lone).0), (0, 1));
}
