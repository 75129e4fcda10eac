//! Who takes part in the attacks of a crowd, and what each does. In all of them the server is to do, say or hold much more than
//! it is sent: a byte of a compressed message may be 450 of the message.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use fanfare_wire as wire;

use super::crowd::{Part, Step};

/// The room of every such attack.
pub(crate) const ROOM: &str = "attacked";

/// What a message inflates to: just below `limits.message_bytes_max`.
const INFLATED_BYTES: usize = 65_400;
/// Messages of a wave of `inflate-pings`: what one read of the server takes, 8 KiB.
const PINGS_OF_A_WAVE: usize = 55;
/// The pace of all senders of `inflate-pings` together, in bytes of frames a second.
const PINGS_BYTES_PER_SECOND: f64 = 900e3;
/// A hog sends so many messages every [`HOG_PAUSE`]: 950 a second, a little below `limits.messages_per_second`.
const HOG_MESSAGES: usize = 19;
const HOG_PAUSE: Duration = Duration::from_millis(20);
/// Members that do not read, of `deaf-members`.
const DEAF: usize = 800;
/// Messages of a burst to them: `limits.messages_burst`.
const BURST_MESSAGES: usize = 2_000;
/// Bursts come at most that often, whoever is thrown out meanwhile.
const BURST_PAUSE: Duration = Duration::from_millis(250);
/// Connections of `long-names`.
const NAMERS: usize = 300;
/// Commands that each of them sends at once; their answers fill a socket and most of an outbox.
const NAMES: usize = 53;
/// Connections of `unfinished`.
const BEGINNERS: usize = 3_000;
/// Bytes of the fragment that each of them begins with; uncompressed, for so it is held.
const FRAGMENT_BYTES: usize = 65_500;
/// A sign of life of those who do nothing else, for the server of this benchmark asks for one every second.
const SIGN_OF_LIFE: Duration = Duration::from_millis(900);
/// Members of `small-fan-out`.
const FANS: usize = 1_000;

/// Connections that send a tiny command, wait for the answer, send a wave of commands that inflate, and wait for all answers.
/// What the previous read of a connection brought says nothing of what the next one costs.
pub(crate) fn inflated_pings(address: SocketAddr, count: usize) -> Vec<Part> {
    let mut tiny = Vec::new();
    wire::write_masked(wire::opcode::TEXT, br#"{"type":"PING"}"#, &mut tiny);
    let mut wave = Vec::new();
    (0..PINGS_OF_A_WAVE).for_each(|_| wire::write_deflated(&inflated_ping(), &mut wave));
    let period = Duration::from_secs_f64((tiny.len() + wave.len()) as f64 * count as f64 / PINGS_BYTES_PER_SECOND);
    let round: Rc<[Step]> = Rc::new([
        Step { bytes: tiny.into(), units: 1, replies: 1, pause: Duration::ZERO },
        Step { bytes: wave.into(), units: PINGS_OF_A_WAVE as u64, replies: PINGS_OF_A_WAVE, pause: period },
    ]);
    let request = request("/fanfare", 15, b"");
    let part = |index: usize| Part {
        address,
        request: request.clone(),
        reads: true,
        round: round.clone(),
        first_after: period * index as u32 / count as u32,
    };
    (0..count).map(part).collect()
}

/// Senders of compressed texts at `address`, and at `members_at` a member in each of the four forms in which a room's messages
/// are encoded. The texts are `unit` over and over, which stands in a JSON string.
pub(crate) fn hogs(address: SocketAddr, senders: usize, members_at: SocketAddr, unit: &str) -> Vec<Part> {
    let mut join = Vec::new();
    wire::write_subscribe(ROOM, &mut join);
    let mut parts: Vec<Part> = [("/fanfare", 15), ("/fanfare", 9), ("/classic", 15), ("/classic", 9)]
        .map(|(path, window_bits)| present(members_at, request(path, window_bits, &join), true, Duration::ZERO, 0))
        .into();
    let messages = compressed_texts(HOG_MESSAGES, unit);
    parts.extend((0..senders).map(|index| Part {
        first_after: HOG_PAUSE * index as u32 / senders as u32,
        ..sender(address, messages.clone(), HOG_MESSAGES, HOG_PAUSE)
    }));
    parts
}

/// Members that do not read and have no compression, and a sender of bursts.
pub(crate) fn deaf_members(address: SocketAddr) -> Vec<Part> {
    let mut join = wire::upgrade_request("/", "").into_bytes();
    wire::write_subscribe(ROOM, &mut join);
    let mut parts = vec![present(address, join.into(), false, SIGN_OF_LIFE, 0); DEAF];
    spread(&mut parts, SIGN_OF_LIFE);
    parts.push(sender(address, compressed_texts(BURST_MESSAGES, "x"), BURST_MESSAGES, BURST_PAUSE));
    parts
}

/// Senders of commands with many unknown keys, and nobody else.
pub(crate) fn ping_hogs(address: SocketAddr) -> Vec<Part> {
    let mut pings = Vec::new();
    (0..HOG_MESSAGES).for_each(|_| wire::write_deflated(&inflated_ping(), &mut pings));
    let mut parts = vec![sender(address, pings.into(), HOG_MESSAGES, HOG_PAUSE); 3];
    spread(&mut parts, HOG_PAUSE);
    parts
}

/// Connections that ask for rooms with names that are too long, and do not read the refusals.
pub(crate) fn long_names(address: SocketAddr) -> Vec<Part> {
    let name = "x".repeat(INFLATED_BYTES);
    let mut subscribe = Vec::new();
    wire::write_deflated(&format!(r#"{{"type":"SUBSCRIBE","room":"{name}"}}"#), &mut subscribe);
    let request = request("/fanfare", 15, &subscribe.repeat(NAMES));
    let pause = SIGN_OF_LIFE;
    let one_more = Step { bytes: subscribe.into(), units: 1, replies: 0, pause };
    let part = Part { address, request, reads: false, round: Rc::new([one_more]), first_after: pause };
    let mut parts = vec![part; NAMERS];
    spread(&mut parts, pause);
    parts
}

/// Connections that begin a message, and then only say that they are alive.
pub(crate) fn unfinished(address: SocketAddr) -> Vec<Part> {
    let mut beginning = wire::upgrade_request("/", "").into_bytes();
    beginning.extend(wire::Frame::text(vec![b'x'; FRAGMENT_BYTES]).unfinished().masked());
    let mut parts = vec![present(address, beginning.into(), true, SIGN_OF_LIFE, 1); BEGINNERS];
    spread(&mut parts, SIGN_OF_LIFE);
    parts
}

/// Members that read, and a sender of messages that are as small as messages are.
pub(crate) fn small_fan_out(address: SocketAddr) -> Vec<Part> {
    let mut join = wire::upgrade_request("/", "").into_bytes();
    wire::write_subscribe(ROOM, &mut join);
    let mut parts = vec![present(address, join.into(), true, Duration::ZERO, 0); FANS];
    let mut messages = Vec::new();
    (0..HOG_MESSAGES).for_each(|_| wire::write_send_json(ROOM, "1", &mut messages));
    parts.push(sender(address, messages.into(), HOG_MESSAGES, HOG_PAUSE));
    parts
}

/// One who only is there, and says so every `sign_of_life`, unless that is nothing; each is so many of the attack's units.
fn present(address: SocketAddr, request: Rc<[u8]>, reads: bool, sign_of_life: Duration, units: u64) -> Part {
    let mut pong = Vec::new();
    wire::write_masked(wire::opcode::PONG, b"", &mut pong);
    let step = Step { bytes: pong.into(), units, replies: 0, pause: sign_of_life };
    let round: Rc<[Step]> = if sign_of_life.is_zero() { Rc::new([]) } else { Rc::new([step]) };
    Part { address, request, reads, round, first_after: Duration::ZERO }
}

/// One who sends `bytes` of so many messages, over and over.
fn sender(address: SocketAddr, bytes: Rc<[u8]>, messages: usize, pause: Duration) -> Part {
    let step = Step { bytes, units: messages as u64, replies: 0, pause };
    let request = request("/fanfare", 15, b"");
    Part { address, request, reads: true, round: Rc::new([step]), first_after: Duration::ZERO }
}

/// Has them begin one after the other.
fn spread(parts: &mut [Part], over: Duration) {
    let count = parts.len() as u32;
    parts.iter_mut().zip(0..).for_each(|(part, index)| part.first_after = over * index / count);
}

/// A request for an upgrade with compression, and what follows it.
fn request(path: &str, window_bits: u8, more: &[u8]) -> Rc<[u8]> {
    let offer = format!("Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits={window_bits}\r\n");
    [wire::upgrade_request(path, &offer).as_bytes(), more].concat().into()
}

/// A command of many keys that mean nothing.
fn inflated_ping() -> String {
    let mut text = r#"{"type":"PING","#.to_owned();
    text.push_str(&r#""a":1,"#.repeat((INFLATED_BYTES - text.len()) / 6 - 1));
    text.push_str(r#""a":1}"#);
    text
}

/// So many messages to the room.
fn compressed_texts(count: usize, unit: &str) -> Rc<[u8]> {
    let text = unit.repeat((INFLATED_BYTES - 100) / unit.len());
    let mut message = Vec::new();
    wire::write_deflated(&format!(r#"{{"type":"SEND_MESSAGE","roomId":"{ROOM}","message":"{text}"}}"#), &mut message);
    message.repeat(count).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_bytes_are_a_message_of_64_kib() {
        let ping = inflated_ping();
        assert!(serde_json::from_str::<serde_json::Value>(&ping).is_ok());
        assert!((INFLATED_BYTES - 12..=INFLATED_BYTES).contains(&ping.len()), "{}", ping.len());
        let mut frame = Vec::new();
        wire::write_deflated(&ping, &mut frame);
        assert!(frame.len() <= 160, "{}", frame.len());
        for unit in ["x", r#"\""#] {
            assert!(compressed_texts(1, unit).len() <= 200, "{}", compressed_texts(1, unit).len());
        }
    }
}
