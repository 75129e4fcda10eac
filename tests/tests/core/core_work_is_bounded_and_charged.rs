//! Whatever a client sends, what the core does in a turn has a bound, with limits and without; and what it does for one client is no more
//! than that client could be charged. The bounds are derived where they stand: `fanfare_tests::work::Bounds`.

use fanfare_core::{Config, Rate};
use fanfare_tests::lone_core::LoneCore;
use fanfare_tests::work::sender::Kind;
use fanfare_tests::work::world::{CostlyWorld, SENDERS, Step};
use fanfare_tests::{COMPRESSED, Frame, config, deflated, upgrade_request};
use proptest::prelude::*;
use std::time::Duration;

/// In the large room, beside those who make work.
const MEMBERS: usize = 12;

fn kind() -> impl Strategy<Value = Kind> {
    let bytes = || prop_oneof![0..100usize, 100..2_000usize, 2_000..16_000usize];
    prop_oneof![
        4 => (bytes(), any::<bool>()).prop_map(|(bytes, compressed)| Kind::Send { bytes, compressed }),
        2 => Just(Kind::SendFar),
        3 => bytes().prop_map(|bytes| Kind::Padded { bytes }),
        2 => bytes().prop_map(|bytes| Kind::Escaped { bytes }),
        2 => Just(Kind::Tiny),
        2 => (0..3usize).prop_map(Kind::Subscribe),
        1 => (0..3usize).prop_map(Kind::Unsubscribe),
        1 => Just(Kind::Ping),
        1 => Just(Kind::Fragments),
        1 => Just(Kind::TooBig),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let times = prop_oneof![3 => 1..4usize, 2 => 4..40usize, 1 => 40..1_000usize];
    prop_oneof![
        16 => (0..SENDERS, kind(), times).prop_map(|(place, kind, times)| Step::Say(place, kind, times)),
        1 => (0..SENDERS).prop_map(Step::Begin),
        3 => (0..SENDERS).prop_map(Step::Return),
        3 => any::<bool>().prop_map(Step::Hold),
        3 => prop_oneof![0..20u64, 0..2_000u64].prop_map(Step::Wait),
    ]
}

/// Limits that are met.
#[derive(Clone, Copy, Debug)]
struct Limits {
    bytes: Rate,
    messages: Rate,
    deliveries: Rate,
    surplus: Rate,
    message_bytes_max: usize,
    members_per_turn_max: usize,
    group_members_max: u16,
    outbox_bytes_max: usize,
    read_bytes: usize,
    broker_bytes: usize,
}

impl Limits {
    fn config(self) -> Config {
        config(|config| {
            (config.limits.bytes, config.limits.messages, config.limits.deliveries) =
                (self.bytes, self.messages, self.deliveries);
            (config.limits.pings, config.limits.surplus) = (Rate::NONE, self.surplus);
            config.limits.message_bytes_max = self.message_bytes_max;
            config.limits.outbox_bytes_max = self.outbox_bytes_max;
            config.limits.members_per_turn_max = self.members_per_turn_max;
            config.limits.group_members_max = self.group_members_max;
            (config.limits.deferred_bytes_max, config.limits.deferred_total_bytes_max) = (2_000, 5_000);
            config.limits.unfinished_total_bytes_max = 2_000;
            config.limits.errors_max = u16::MAX;
            // Nobody is asked for a sign of life while time passes.
            config.timeouts.ping_interval = Duration::from_secs(1_000_000);
        })
    }
}

/// Of connections none.
fn unlimited() -> impl Strategy<Value = Limits> {
    let surplus = Rate { per_second: 1_000_000, burst: 50_000 };
    (
        prop_oneof![Just(Rate::NONE), Just(surplus)],
        prop_oneof![Just(2_000usize), Just(16_384)],
        prop_oneof![Just((8, 2)), Just((1_024, 64))],
        prop_oneof![Just(40_000usize), Just(1 << 20)],
        prop_oneof![Just(500usize), Just(8_192)],
        prop_oneof![Just(8_192usize), Just(1 << 20)],
    )
        .prop_map(|(surplus, message_bytes_max, (members, group), outbox_bytes_max, read_bytes, broker_bytes)| {
            Limits {
                bytes: Rate::NONE,
                messages: Rate::NONE,
                deliveries: Rate::NONE,
                surplus,
                message_bytes_max,
                members_per_turn_max: members,
                group_members_max: group,
                outbox_bytes_max,
                read_bytes,
                broker_bytes,
            }
        })
}

fn limited() -> impl Strategy<Value = Limits> {
    let rate = |per_second, burst| Rate { per_second, burst };
    (
        (1_000..50_000u64, 10_000..100_000u64).prop_map(move |(per_second, burst)| rate(per_second, burst)),
        prop_oneof![Just(Rate::NONE), (20..500u64).prop_map(move |burst| rate(10, burst))],
        prop_oneof![Just(Rate::NONE), (30..2_000u64).prop_map(move |burst| rate(100, burst))],
        unlimited(),
    )
        .prop_map(|(bytes, messages, deliveries, limits)| Limits { bytes, messages, deliveries, ..limits })
}

fn run(limits: Limits, steps: &[Step]) {
    let mut world = CostlyWorld::new(limits.config(), MEMBERS, (limits.read_bytes, limits.broker_bytes));
    steps.iter().for_each(|step| world.apply(step));
    world.end();
}

proptest! {
    #[test]
    fn a_client_is_charged_for_what_it_makes(limits in limited(), steps in prop::collection::vec(step(), 1..30)) {
        run(limits, &steps);
    }

    /// More comes at once than a turn writes, so that members are given it in parts.
    #[test]
    fn what_the_broker_has_held_back_is_given_in_its_order(
        limits in unlimited(),
        bytes in 1_000..16_000usize,
        steps in prop::collection::vec(step(), 0..3),
    ) {
        let limits = Limits { surplus: Rate::NONE, message_bytes_max: 16_384, broker_bytes: 1 << 20, ..limits };
        let say = Step::Say(1, Kind::Send { bytes, compressed: true }, 600_000 / bytes);
        run(limits, &[&[Step::Hold(true), say], &steps[..], &[Step::Hold(false)]].concat());
    }

    #[test]
    fn a_turn_has_its_bound_without_limits_too(limits in unlimited(), steps in prop::collection::vec(step(), 1..15)) {
        run(limits, &steps);
    }
}

#[test]
fn what_is_inflated_in_vain_is_work_of_all_as_well() {
    let mut lone = LoneCore::new(config(|config| config.limits.surplus = Rate { per_second: 1, burst: 100_000 }));
    let too_big = "x".repeat(Config::default().limits.message_bytes_max + 1);
    // One byte is missing at its end.
    let broken = deflated("x".repeat(60_000));
    for payload in [&deflated(too_big)[..], &broken[..broken.len() - 2]] {
        assert!(!lone.core.is_strained());
        let conn = lone.connect();
        lone.bytes(conn, upgrade_request("/", "Sec-WebSocket-Extensions: permessage-deflate\r\n"));
        lone.bytes(conn, Frame::text(payload).with_rsv(COMPRESSED).masked());
    }
    assert_eq!(lone.core.metrics().protocol_closes, 2);
    assert!(lone.core.is_strained());
}
