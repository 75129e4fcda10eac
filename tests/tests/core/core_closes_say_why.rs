//! Whoever is closed is told by which code and for which reason, and docs/protocol.md names both.

use fanfare_core::broker::BrokerEvent;
use fanfare_core::{Config, ConnId, Event, Rate};
use fanfare_tests::lone_core::{LoneCore, Said};
use fanfare_tests::{COMPRESSED, Frame, Length, code, config, head, opcode, upgrade_request};
use std::time::Duration;

const PROTOCOL: &str = include_str!("../../../docs/protocol.md");

/// A client that has connected to this path, and its core.
struct Case {
    lone: LoneCore,
    conn: ConnId,
}

impl Case {
    fn at(path: &str, set: impl FnOnce(&mut Config)) -> Case {
        let mut lone = LoneCore::new(config(set));
        let conn = lone.connect();
        lone.bytes(conn, upgrade_request(path, "Sec-WebSocket-Extensions: permessage-deflate\r\n"));
        Case { lone, conn }
    }

    fn new() -> Case {
        Case::at("/", |_| {})
    }

    fn with(set: impl FnOnce(&mut Config)) -> Case {
        Case::at("/", set)
    }

    fn sends(mut self, bytes: impl AsRef<[u8]>) -> (u16, String) {
        let said = self.lone.bytes(self.conn, bytes);
        self.close(&said)
    }

    fn waits(mut self, duration: Duration) -> (u16, String) {
        let said = self.lone.wait(duration);
        self.close(&said)
    }

    fn hears(mut self, event: BrokerEvent<'_>) -> (u16, String) {
        let said = self.lone.broker(event);
        self.close(&said)
    }

    /// Code and reason of the close frame, which is the last that the client is sent.
    fn close(&self, said: &[Said]) -> (u16, String) {
        let sent = said.iter().filter_map(|said| match said {
            Said::Sent(to, bytes) if *to == self.conn => Some(&bytes[..]),
            _ => None,
        });
        let (sent, mut at, mut last) = (sent.collect::<Vec<_>>().concat(), 0, None);
        while let Some((frame, bytes)) = Frame::parse(&sent[at..]) {
            (at, last) = (at + bytes, Some(frame));
        }
        let frame = last.filter(|frame| frame.opcode == opcode::CLOSE).expect("a close frame");
        let (code, reason) = frame.payload.split_first_chunk().expect("a code");
        (u16::from_be_bytes(*code), String::from_utf8(reason.to_vec()).expect("a reason is text"))
    }
}

/// The line of the table of codes.
fn documented(code: u16) -> String {
    let start = format!("| {code} | ");
    PROTOCOL.lines().filter(|line| line.starts_with(&start)).collect::<Vec<_>>().concat()
}

fn assert_documented(cases: impl IntoIterator<Item = ((u16, String), u16)>) {
    for ((code, reason), expected) in cases {
        assert_eq!(code, expected, "{reason:?}");
        assert!(documented(code).contains(&format!("`{reason}`")), "{code} {reason:?}");
    }
}

const MANY: Duration = Duration::from_secs(1_000);
const SEND: &str = r#"{"type":"SEND_MESSAGE","room":"r","message":1}"#;

#[test]
fn a_breach_of_the_websocket_protocol() {
    let text = |payload: &[u8]| Frame::text(payload).masked();
    let (ping, again) = (Frame::new(opcode::PING, ""), Frame::new(opcode::CONTINUATION, ""));
    let breaches = [
        Frame::text("").with_rsv(2).masked(),
        Frame::new(3, "").masked(),
        Frame::text("").unmasked(),
        head(0x81, Length::Medium(5)),
        ping.clone().unfinished().masked(),
        Frame::new(opcode::PING, [0; 126]).masked(),
        again.masked(),
        [Frame::text("a").unfinished().masked(), text(b"b")].concat(),
        Frame::close(1005, "").masked(),
    ];
    let mut reasons: Vec<String> = Vec::new();
    for bytes in breaches {
        let (code, reason) = Case::new().sends(&bytes);
        assert_eq!(code, code::PROTOCOL, "{reason:?}");
        assert!(!reason.is_empty() && !reasons.contains(&reason), "each has its own reason: {reason:?}");
        reasons.push(reason);
    }
    assert!(documented(code::PROTOCOL).contains(&format!("`{}`", reasons[0])), "{reasons:?}");
}

#[test]
fn a_message_that_cannot_be_taken() {
    let fragments = [Frame::text("").unfinished().masked(), Frame::new(opcode::CONTINUATION, "").masked()].concat();
    assert_documented([
        (Case::new().sends(Frame::text(b"\xff").masked()), code::NOT_UTF8),
        (Case::new().sends(Frame::text(b"\xff\xff").with_rsv(COMPRESSED).masked()), code::NOT_UTF8),
        (Case::with(|config| config.limits.frames_per_message_max = 1).sends(fragments), code::POLICY),
        (Case::with(|config| config.limits.message_bytes_max = 3).sends(Frame::text("long").masked()), code::TOO_BIG),
    ]);
}

#[test]
fn what_the_server_or_its_broker_cannot_do() {
    let mut stopped = Case::new();
    let said = stopped.lone.turn(|turn| turn.feed(Event::Shutdown));
    let refused = Case::at("/broadcast/r", |_| {});
    let mut waiting = Case::at("/classic", |config| config.limits.deferred_bytes_max = 1);
    waiting.lone.command(waiting.conn, r#"{"type":"SUBSCRIBE","room":"r"}"#);
    waiting.lone.command(waiting.conn, SEND);
    assert_documented([
        (stopped.close(&said), code::RESTART),
        (refused.hears(BrokerEvent::SubscribeFailed { room: "r", reason: "its own" }), 1013),
        (waiting.sends(Frame::text(SEND).masked()), 1013),
    ]);
}

#[test]
fn silence_and_slowness() {
    let mut silent = Case::new();
    silent.lone.wait(Config::default().timeouts.ping_interval * 2);
    let mut unfinished = Case::with(|config| config.timeouts.ping_interval = MANY);
    unfinished.lone.bytes(unfinished.conn, Frame::text("a").unfinished().masked());
    let mut slow = Case::with(|config| config.limits.outbox_bytes_max = 100);
    slow.lone.command(slow.conn, r#"{"type":"SUBSCRIBE","room":"r"}"#);
    slow.lone.broker(BrokerEvent::Subscribed { room: "r" });
    slow.lone.takes = |_, _| 0;
    slow.lone.broker(BrokerEvent::Message { room: "r", payload: &[b'x'; 200] });
    slow.lone.takes = |_, bytes| bytes;
    let said = slow.lone.turn(|turn| turn.feed(Event::Writable { conn: slow.conn }));
    assert_documented([
        (silent.waits(Config::default().timeouts.pong_timeout * 2), code::NO_SIGN_OF_LIFE),
        (unfinished.waits(MANY / 2), code::TOO_SLOW),
        (
            Case::with(|config| config.limits.unfinished_total_bytes_max = 1)
                .sends(Frame::text("abc").unfinished().masked()),
            code::TOO_SLOW,
        ),
        (slow.close(&said), code::TOO_SLOW),
    ]);
}

#[test]
fn more_than_it_may_send() {
    let once = Rate { per_second: 1, burst: 1 };
    let twice = |frame: Frame| [frame.masked(), frame.masked()].concat();
    let (text, ping) = (Frame::text("text"), Frame::new(opcode::PING, ""));
    let mut member = Case::at("/broadcast/r", |config| config.limits.deliveries = once);
    member.lone.broker(BrokerEvent::Subscribed { room: "r" });
    assert_documented([
        (Case::at("/broadcast/r", |config| config.limits.messages = once).sends(twice(text.clone())), code::TOO_FAST),
        (Case::with(|config| config.limits.pings = once).sends(twice(ping)), code::TOO_FAST),
        (member.sends(twice(text.clone())), code::TOO_FAST),
        (
            Case::with(|config| config.limits.bytes = Rate { per_second: 1, burst: 1_000 })
                .sends(text.masked().repeat(200)),
            code::TOO_FAST,
        ),
        (Case::with(|config| config.limits.errors_max = 0).sends(text.masked()), code::TOO_MANY_ERRORS),
    ]);
}
