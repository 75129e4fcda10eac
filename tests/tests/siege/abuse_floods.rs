//! Frames as fast as they are taken, as small as they can be: whoever sends them is answered or thrown out, and the
//! others do not notice.

use fanfare_tests::abuse::{Flood, Outcome, Siege};
use fanfare_tests::{Frame, Server, code, opcode};

const PEERS: usize = 4;
/// `limits.frames_per_message_max` is 1,024 by default; this is as good as that.
const FRAMES_PER_MESSAGE: usize = 1_000;
const MESSAGE_BYTES_MAX: u64 = 64 << 10;
/// Each peer may have a message in hand, in a buffer that doubles as it grows.
const BYTES_MAX: u64 = PEERS as u64 * 2 * MESSAGE_BYTES_MAX;

/// Peers that read their answers.
fn flood(waves: u64, wave: &dyn Fn(u64) -> Vec<u8>) -> Outcome {
    let server = Server::launch()
        .flag("--limits-message-bytes-max", MESSAGE_BYTES_MAX)
        .flag("--timeouts-close-ms", 300)
        .ops()
        .start();
    let mut outcome = Outcome::default();
    Siege::lay(&server, BYTES_MAX, |siege| outcome = Flood { peers: PEERS, waves, wave, reads: true }.run(siege));
    outcome
}

/// Nobody was thrown out but with this code.
#[track_caller]
fn expect_no_closes_but(code: u16, outcome: &Outcome) {
    assert!(outcome.closes.keys().all(|closed_with| *closed_with == code), "{:?}", outcome.closes);
}

#[test]
fn messages_in_fragments_of_one_byte() {
    let around = r#"{"type":"PING","padding":""}"#;
    let command = around.replace(r#":""}"#, &format!(r#":"{}"}}"#, "x".repeat(FRAMES_PER_MESSAGE - around.len())));
    let wave = fragments(command.as_bytes().chunks(1));
    let outcome = flood(200, &|_| wave.clone());
    expect_every_wave_answered(&outcome);
}

#[test]
fn messages_of_empty_fragments() {
    let empty = std::iter::repeat_n(&b""[..], FRAMES_PER_MESSAGE - 2);
    let wave = fragments([&br#"{"type":"#[..]].into_iter().chain(empty).chain([&br#""PING"}"#[..]]));
    let outcome = flood(200, &|_| wave.clone());
    expect_every_wave_answered(&outcome);
}

/// Each wave was one command; only whoever was thrown out as too fast has gone without the answer.
#[track_caller]
fn expect_every_wave_answered(outcome: &Outcome) {
    expect_no_closes_but(code::TOO_FAST, outcome);
    let answered = outcome.texts.get(r#"{"type":"PONG"}"#).copied().unwrap_or_default();
    assert!(answered > 0, "{outcome:?}");
    assert!(answered == outcome.waves || !outcome.closes.is_empty(), "{outcome:?}");
}

/// One text message in these fragments.
fn fragments<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut pieces = pieces.into_iter().peekable();
    let mut opcode = opcode::TEXT;
    while let Some(piece) = pieces.next() {
        let frame = Frame::new(opcode, piece);
        bytes.extend(if pieces.peek().is_some() { frame.unfinished().masked() } else { frame.masked() });
        opcode = opcode::CONTINUATION;
    }
    bytes
}

#[test]
fn empty_messages() {
    for opcode in [opcode::TEXT, opcode::BINARY] {
        let empty = Frame::new(opcode, "").masked().repeat(1_000);
        let outcome = flood(100, &|_| empty.clone());
        expect_no_closes_but(code::TOO_MANY_ERRORS, &outcome);
        assert!(outcome.closes.values().sum::<u64>() > 0, "{outcome:?}");
    }
}

#[test]
fn pings() {
    for payload in [0, 125] {
        let pings = Frame::new(opcode::PING, "x".repeat(payload)).masked().repeat(500);
        let outcome = flood(400, &|_| pings.clone());
        expect_no_closes_but(code::TOO_FAST, &outcome);
        assert!(outcome.pongs > 0, "{outcome:?}");
        assert!(!outcome.closes.is_empty() || outcome.pongs == outcome.waves * 500, "{outcome:?}");
    }
}

#[test]
fn pings_whose_pongs_are_never_read() {
    flood_without_reading(&Frame::new(opcode::PING, "x".repeat(125)));
}

#[test]
fn commands_whose_answers_are_never_read() {
    flood_without_reading(&Frame::text(
        r#"{"type":"PING","id":"the answer carries it, so it is as long as this one"}"#,
    ));
}

#[track_caller]
fn flood_without_reading(frame: &Frame) {
    const OUTBOX_BYTES_MAX: u64 = 256 << 10;
    let server = Server::launch()
        .flag("--limits-outbox-bytes-max", OUTBOX_BYTES_MAX)
        .flag("--timeouts-close-ms", 300)
        .ops()
        .start();
    let wave = frame.masked().repeat(500);
    // A queue of answers grows like any buffer.
    Siege::lay(&server, PEERS as u64 * 2 * OUTBOX_BYTES_MAX, |siege| {
        Flood { peers: PEERS, waves: 200, wave: &|_| wave.clone(), reads: false }.run(siege);
    });
}
