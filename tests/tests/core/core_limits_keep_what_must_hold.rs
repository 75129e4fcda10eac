//! Random clients from few addresses, some through a proxy, against limits that are small: whatever they do, counts are those of
//! the connections that are there, and what is bounded stays so. `LoneCore` checks the invariants after every turn.

use fanfare_core::{Config, ConnId, Event, Rate};
use fanfare_tests::lone_core::LoneCore;
use fanfare_tests::{Frame, opcode, proxies, upgrade_request};
use proptest::prelude::*;
use std::net::IpAddr;
use std::time::Duration;

#[derive(Clone, Debug)]
enum Step {
    /// From 10.0.0.x, of which 10.0.0.0 is the proxy.
    Open(u8),
    OpenFromNowhere,
    /// The connection with this number sends this; `true`: by halves, in two turns.
    Send(usize, Bytes, bool),
    Close(usize),
    /// In ms.
    Wait(u64),
    /// Sockets take nothing, or everything.
    Take(bool),
    Shutdown,
}

#[derive(Clone, Debug)]
enum Bytes {
    Upgrade,
    /// With a PROXY header or a header line for this client.
    Proxied(u8),
    Forwarded(u8),
    Health,
    Messages(usize),
    Pings(usize),
    Large,
    Nonsense,
}

impl Bytes {
    fn get(&self) -> Vec<u8> {
        match self {
            Bytes::Upgrade => upgrade_request("/", "").into_bytes(),
            Bytes::Proxied(client) => {
                format!("PROXY TCP4 10.0.0.{client} 10.0.0.0 1 2\r\n{}", upgrade_request("/classic", "")).into_bytes()
            }
            Bytes::Forwarded(client) => {
                upgrade_request("/", &format!("X-Forwarded-For: 10.0.0.{client}\r\n")).into_bytes()
            }
            Bytes::Health => b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(),
            Bytes::Messages(count) => Frame::text(r#"{"type":"PING"}"#).masked().repeat(*count),
            Bytes::Pings(count) => Frame::new(opcode::PING, "").masked().repeat(*count),
            Bytes::Large => Frame::text("x".repeat(400)).masked(),
            Bytes::Nonsense => vec![0xff; 20],
        }
    }
}

fn bytes() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        4 => Just(Bytes::Upgrade),
        2 => (0..4u8).prop_map(Bytes::Proxied),
        2 => (0..4u8).prop_map(Bytes::Forwarded),
        1 => Just(Bytes::Health),
        3 => (1..12usize).prop_map(Bytes::Messages),
        2 => (1..6usize).prop_map(Bytes::Pings),
        1 => Just(Bytes::Large),
        1 => Just(Bytes::Nonsense),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (0..4u8).prop_map(Step::Open),
        1 => Just(Step::OpenFromNowhere),
        20 => (any::<usize>(), bytes(), any::<bool>()).prop_map(|(conn, bytes, halves)| Step::Send(conn, bytes, halves)),
        3 => any::<usize>().prop_map(Step::Close),
        5 => prop_oneof![0..300u64, 0..12_000u64].prop_map(Step::Wait),
        1 => any::<bool>().prop_map(Step::Take),
    ]
}

fn config(per_address: usize, connects: u64, pending: usize, protocol: bool) -> Config {
    fanfare_tests::config(|config| {
        config.admission.connections_per_address_max = per_address;
        config.admission.connects_per_address = Rate { per_second: connects, burst: 3 };
        config.admission.pending_upgrades_max = pending;
        config.limits.messages = Rate { per_second: 5, burst: 10 };
        config.limits.bytes = Rate { per_second: 500, burst: 1_000 };
        config.limits.pings = Rate { per_second: 1, burst: 5 };
        config.limits.errors_max = 4;
        config.admission.proxies = proxies(["10.0.0.0".parse().expect("an address")], protocol);
    })
}

fn run(config: Config, steps: &[Step]) {
    let mut lone = LoneCore::new(config);
    let mut conns: Vec<ConnId> = Vec::new();
    let pick = |conns: &[ConnId], number: usize| (!conns.is_empty()).then(|| conns[number % conns.len()]);
    for step in steps {
        match step {
            Step::Open(address) => {
                let peer = IpAddr::from([10, 0, 0, *address]);
                lone.turn(|turn| conns.extend(turn.open_from(peer).ok()));
            }
            Step::OpenFromNowhere => drop(lone.turn(|turn| conns.extend(turn.open().ok()))),
            Step::Send(number, bytes, halves) => {
                // A connection that has gone is sent to as well: its id is stale.
                let Some(conn) = pick(&conns, *number) else { continue };
                let bytes = bytes.get();
                let middle = if *halves { bytes.len() / 2 } else { 0 };
                lone.bytes(conn, &bytes[..middle]);
                lone.bytes(conn, &bytes[middle..]);
            }
            Step::Close(number) => {
                let Some(conn) = pick(&conns, *number) else { continue };
                lone.turn(|turn| turn.feed(Event::Closed { conn }));
            }
            Step::Wait(millis) => drop(lone.wait(Duration::from_millis(*millis))),
            Step::Take(all) => {
                lone.takes = if *all { |_, bytes| bytes } else { |_, _| 0 };
                lone.turn(|turn| conns.iter().for_each(|conn| turn.feed(Event::Writable { conn: *conn })));
            }
            Step::Shutdown => drop(lone.turn(|turn| turn.feed(Event::Shutdown))),
        }
    }
    // Nobody answers pings and closes: all go, and nothing of them is left to be counted.
    for _ in 0..20 {
        lone.wait(Duration::from_secs(10));
    }
    assert_eq!(lone.core.connections(), 0);
}

proptest! {
    #[test]
    fn counts_are_true_whatever_happens(
        mut steps in prop::collection::vec(step(), 1..120), per_address in 0..4usize, connects in 0..3u64,
        pending in 1..6usize, protocol: bool, shutdown in prop::option::weighted(0.2, any::<prop::sample::Index>())
    ) {
        if let Some(at) = shutdown {
            steps.insert(at.index(steps.len()), Step::Shutdown);
        }
        run(config(per_address, connects, pending, protocol), &steps);
    }
}
