//! Rooms made and left as fast as commands are taken: an empty room is forgotten, here and at the broker.

use fanfare_tests::abuse::{Flood, Outcome, Siege};
use fanfare_tests::{Adapter, Frame, Redis, Server, code, eventually};

const PEERS: usize = 4;
const WAVES: u64 = 200;
const ROOMS_PER_WAVE: u64 = 100;
/// A name of up to 128 bytes, twice where the broker knows it as well, the room's record and its places in tables.
const ROOM_BYTES: u64 = 1 << 10;

/// A hundred rooms of its own, each joined and left, some again.
fn wave(number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for room in number * ROOMS_PER_WAVE..(number + 1) * ROOMS_PER_WAVE {
        for kind in ["SUBSCRIBE", "UNSUBSCRIBE", "UNSUBSCRIBE", "SUBSCRIBE", "UNSUBSCRIBE"] {
            bytes.extend(Frame::text(format!(r#"{{"type":"{kind}","room":"churn {room}"}}"#)).masked());
        }
    }
    bytes
}

/// `lasts`: rooms stay for as long as Redis takes, which on threads may be as long as the pair takes its time.
fn churn(server: &Server, lasts: bool) -> Outcome {
    let mut outcome = Outcome::default();
    // An empty room lingers for a moment, so all of them may be there at once.
    Siege::lay(server, WAVES * ROOMS_PER_WAVE * ROOM_BYTES, |siege| {
        outcome = Flood { peers: PEERS, waves: WAVES, wave: &wave, reads: true }.run(siege);
        if lasts && Adapter::under_test() == Adapter::Threaded {
            siege.allow(outcome.waves * ROOMS_PER_WAVE * ROOM_BYTES);
        }
    });
    // Too fast is told per command first.
    assert!(outcome.closes.keys().all(|code| *code == code::TOO_FAST), "{:?}", outcome.closes);
    let left = outcome.texts.iter().filter(|(text, _)| text.starts_with(r#"{"type":"UNSUBSCRIBED""#));
    assert!(left.count() > 0, "nobody has left any room");
    outcome
}

#[test]
fn churn_with_the_embedded_broker() {
    let server = Server::launch().embedded();
    churn(&server.flag("--timeouts-room-linger-ms", 200).flag("--timeouts-close-ms", 300).ops().start(), false);
}

#[test]
fn churn_through_redis() {
    let redis = Redis::start();
    let server = Server::launch()
        .redis(&redis)
        .flag("--timeouts-room-linger-ms", 200)
        .flag("--timeouts-close-ms", 300)
        .ops()
        .start();
    churn(&server, true);
    eventually("no channel is subscribed to any more", || (redis.channels() == 0).then_some(()));
}
