//! How long publishes take is counted from the ask to the answer, whatever that is, for those whose client asked for one.

use fanfare_core::broker::{BrokerEvent, PublishError, PublishId};
use fanfare_core::{Config, Metrics};
use fanfare_tests::lone_core::LoneCore;
use std::time::Duration;

#[test]
fn each_is_counted_where_it_belongs() {
    let mut lone = LoneCore::new(Config::default());
    let conn = lone.client();
    // Nobody asks for the outcome of the first.
    lone.command(conn, r#"{"type":"SEND_MESSAGE","room":"r","message":1}"#);
    for (number, micros) in [100, 101, 1_000, 5_000_000, 5_000_001].into_iter().enumerate() {
        let id = PublishId::new(number as u64);
        lone.command(conn, r#"{"type":"SEND_MESSAGE","room":"r","message":1,"id":1}"#);
        lone.now = lone.now + Duration::from_micros(micros);
        lone.broker(match number {
            2 => BrokerEvent::PublishFailed { id, error: PublishError::Busy },
            _ => BrokerEvent::Published { id, position: None, receivers: None },
        });
        // Nothing is counted twice.
        lone.broker(BrokerEvent::Published { id, position: None, receivers: None });
    }
    let metrics = lone.core.metrics();
    let mut expected = [0; Metrics::PUBLISH_BOUNDS_US.len() + 1];
    for (bucket, count) in [(0, 1), (1, 1), (3, 1), (11, 1), (12, 1)] {
        expected[bucket] = count;
    }
    assert_eq!(metrics.publish_counts, expected);
    assert_eq!(metrics.publish_micros, 10_001_202);
}
