//! Fifty instances lose one Redis in the same moment, and do not come back to it in one: each waits by a seed of its own.

use fanfare_core::broker::redis::{ConnectionRequest, RedisBroker, RedisConfig};
use fanfare_core::time::Time;
use std::time::Duration;

const INSTANCES: usize = 50;

/// After an outage as long as this: in which millisecond each instance opens its first connection, counted from the end of the outage.
/// Instances draw their seeds at random; these are the first that come to mind.
fn arrivals(outage: Duration) -> Vec<u128> {
    let end = Time::ZERO + outage;
    let arrival = |seed: u64| {
        let mut config = RedisConfig::default();
        config.seed = seed;
        let (mut broker, mut now) = (RedisBroker::new(config), Time::ZERO);
        loop {
            while let Some((link, request)) = broker.poll_connection(now) {
                match request {
                    ConnectionRequest::Open { .. } if now >= end => return now.since(end).as_millis(),
                    ConnectionRequest::Open { .. } => broker.disconnected(link, "connection refused", now),
                    ConnectionRequest::Drop => {}
                }
            }
            now = broker.next_timeout().expect("the next attempt");
            broker.timeout(now);
        }
    };
    (0..INSTANCES as u64).map(arrival).collect()
}

/// How many come within this time of each other at most.
fn most_within(arrivals: &[u128], millis: u128) -> usize {
    let others = |first: &u128| arrivals.iter().filter(|other| (*first..first + millis).contains(*other)).count();
    arrivals.iter().map(others).max().unwrap_or(0)
}

#[test]
fn after_a_long_outage_they_come_over_seconds() {
    let arrivals = arrivals(Duration::from_secs(60));
    println!("ms after the end of an outage of 60 s: {arrivals:?}");
    assert!(arrivals.iter().all(|arrival| *arrival <= RedisConfig::default().backoff_max.as_millis()));
    assert!(most_within(&arrivals, 1) <= 2, "{arrivals:?}");
    // The first of an instance's connections counts, so that they are not spread evenly: two thirds of them come within a second.
    assert!(most_within(&arrivals, 50) <= 8 && most_within(&arrivals, 1_000) <= 40, "{arrivals:?}");
}

#[test]
fn after_a_restart_they_come_within_a_tenth_of_a_second_and_not_as_one() {
    let arrivals = arrivals(Duration::from_millis(60));
    println!("ms after the end of an outage of 60 ms: {arrivals:?}");
    assert!(most_within(&arrivals, 1) <= 5, "{arrivals:?}");
    assert!(most_within(&arrivals, 10) <= INSTANCES / 2, "{arrivals:?}");
}
