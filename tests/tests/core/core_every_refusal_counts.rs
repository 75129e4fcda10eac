//! Whatever is refused, and for whatever reason, is one more refusal: whoever watches their number misses none.

use fanfare_core::broker::BrokerEvent;
use fanfare_core::{Config, Event, Origins};
use fanfare_tests::lone_core::LoneCore;
use fanfare_tests::{config, upgrade_request};
use std::net::{IpAddr, Ipv4Addr};

/// What is said to a core in which nothing has been refused yet, and the refusals then.
fn refusals(set: impl FnOnce(&mut Config), say: impl FnOnce(&mut LoneCore)) -> u64 {
    let mut lone = LoneCore::new(config(set));
    say(&mut lone);
    lone.core.refusals()
}

fn ask(lone: &mut LoneCore, headers: &str) {
    let conn = lone.connect();
    lone.bytes(conn, upgrade_request("/", headers));
}

#[test]
fn each_by_itself() {
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let taken = refusals(|_| {}, |lone| ask(lone, ""));
    let full = refusals(|config| config.admission.connections_max = 0, |lone| ask(lone, ""));
    let stopping = refusals(
        |_| {},
        |lone| {
            lone.turn(|turn| turn.feed(Event::Shutdown));
            ask(lone, "");
        },
    );
    let foreign_page = refusals(
        |config| config.admission.origins = Origins::List(Vec::new()),
        |lone| ask(lone, "Origin: https://a.example\r\n"),
    );
    let same_address = refusals(
        |config| config.admission.connections_per_address_max = 1,
        |lone| {
            for _ in 0..2 {
                lone.turn(|turn| assert!(turn.open_from(address).is_ok()));
            }
        },
    );
    let too_many_heads = refusals(
        |config| config.admission.pending_upgrades_max = 1,
        |lone| {
            for _ in 0..2 {
                lone.connect();
            }
        },
    );
    let too_late = refusals(
        |_| {},
        |lone| {
            lone.connect();
            lone.wait(Config::default().timeouts.handshake * 2);
        },
    );
    let in_vain = refusals(
        |_| {},
        |lone| {
            let conn = lone.connect();
            lone.bytes(conn, "nonsense\r\n\r\n");
        },
    );
    let by_the_broker = refusals(
        |_| {},
        |lone| {
            let conn = lone.client();
            lone.command(conn, r#"{"type":"SUBSCRIBE","room":"r"}"#);
            lone.broker(BrokerEvent::SubscribeFailed { room: "r", reason: "no" });
        },
    );
    let refused = [full, stopping, foreign_page, same_address, too_many_heads, too_late, in_vain, by_the_broker];
    assert_eq!((taken, refused), (0, [1; 8]));
}
