//! The hot paths of the core, ready to be run: what is measured by time (`core.rs`) and by instructions (`instructions.rs`).
//! Each is a state that is prepared outside of what is measured, and a step that leaves it as it was.

use fanfare_core::broker;
use fanfare_core::broker::BrokerEvent;
use fanfare_core::broker::memory::MemoryBroker;
use fanfare_core::broker::redis::resp::{self, Scan};
use fanfare_core::protocol::command;
use fanfare_core::time::Time;
use fanfare_core::wheel::Wheel;
use fanfare_core::ws::Message;
use fanfare_core::ws::decoder::{Decoded, Decoder, Limits};
use fanfare_core::ws::deflate::{Compression, Deflater, Inflater, Window};
use fanfare_core::{Action, Actions, Config, ConnId, Core, Event, Rate, Turn};
use fanfare_wire::{Frame, upgrade_request};
use std::hint::black_box;
use std::time::Duration;

/// What a browser sends.
const BROWSER: &str = "GET / HTTP/1.1\r\nHost: example.com:8080\r\nConnection: Upgrade\r\nPragma: no-cache\r\n\
    Cache-Control: no-cache\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
    Chrome/142.0.0.0 Safari/537.36\r\nUpgrade: websocket\r\nOrigin: http://example.com:8080\r\nSec-WebSocket-Version: 13\r\n\
    Accept-Encoding: gzip, deflate\r\nAccept-Language: en-GB,en;q=0.9\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";
/// A message of 64 bytes as another instance publishes it.
const PAYLOAD: &[u8] = b"F1 0000000000000001 -\n\
    {\"type\":\"MESSAGE\",\"room\":\"r\",\"message\":\"0123456789012345678901234567890123456789012345678901234567890123\"}";
const SUBSCRIBE: &str = r#"{"type":"SUBSCRIBE","room":"r"}"#;
const UNSUBSCRIBE: &str = r#"{"type":"UNSUBSCRIBE","room":"r"}"#;
const SEND: &str = r#"{"type":"SEND_MESSAGE","roomId":"r","message":"0123456789012345678901234567890123456789012345678901234567890123"}"#;

/// A text frame of a client; its mask is zero, so that it can be read again.
fn frame(text: &str) -> Vec<u8> {
    Frame::text(text).masked_with([0; 4])
}

/// A core whose clients are not limited in how fast they send, for all of it happens at once.
fn core(connections_max: usize) -> Core {
    let mut config = Config::default();
    config.admission.connections_max = connections_max;
    (config.limits.messages, config.limits.bytes, config.limits.pings) = (Rate::NONE, Rate::NONE, Rate::NONE);
    // Counted, for that is a part of the path, and never too many.
    config.limits.deliveries = Rate { per_second: 1 << 40, burst: 1 << 40 };
    let mut core = Core::new(config);
    turn(&mut core, |turn| {
        turn.feed(Event::Broker(BrokerEvent::Up));
        turn.feed(Event::Broker(BrokerEvent::PublisherUp));
    });
    core
}

/// One turn on sockets that take everything and only count, and those that it takes until all is said.
pub fn turn(core: &mut Core, feed: impl FnOnce(&mut Turn<'_>)) -> usize {
    let mut turn = core.turn(Time::ZERO);
    feed(&mut turn);
    let mut written = count(turn.finish());
    while core.next_timeout().is_some_and(|timeout| timeout <= Time::ZERO) {
        written += count(core.turn(Time::ZERO).finish());
    }
    written
}

fn count(mut actions: Actions<'_>) -> usize {
    let mut written = 0;
    while let Some(action) = actions.next() {
        if let Action::Send(mut delivery) = action {
            let bytes = delivery.bytes().len();
            while let Some(conn) = delivery.next_target() {
                written += bytes + black_box(conn).slot() % 2;
            }
        }
    }
    written
}

fn stall_every_hundredth(mut actions: Actions<'_>, stalled: &mut Vec<ConnId>) {
    while let Some(action) = actions.next() {
        if let Action::Send(mut delivery) = action {
            while let Some(conn) = delivery.next_target() {
                if conn.slot().is_multiple_of(100) {
                    delivery.short(conn, 0);
                    stalled.push(conn);
                }
            }
        }
    }
}

/// A room of which the broker reports messages.
pub struct Room {
    core: Core,
    members: Vec<ConnId>,
    /// What a member says to leave, and to join again.
    commands: [Vec<u8>; 2],
}

impl Room {
    /// So many members, all of one form.
    pub fn of(members: usize) -> Room {
        let mut room =
            Room { core: core(members + 1), members: Vec::new(), commands: [UNSUBSCRIBE, SUBSCRIBE].map(frame) };
        let bytes = [upgrade_request("/", "").as_bytes(), &frame(SUBSCRIBE)].concat();
        for _ in 0..members {
            turn(&mut room.core, |turn| {
                let conn = turn.open().expect("there is a place");
                turn.feed(Event::Bytes { conn, data: &mut bytes.clone() });
                room.members.push(conn);
            });
        }
        turn(&mut room.core, |turn| turn.feed(Event::Broker(BrokerEvent::Subscribed { room: "r" })));
        room
    }

    /// So many messages in one turn, to everyone.
    pub fn fan_out(&mut self, messages: usize) -> usize {
        turn(&mut self.core, |turn| {
            for _ in 0..messages {
                turn.feed(Event::Broker(BrokerEvent::Message { room: "r", payload: PAYLOAD }));
            }
        })
    }

    /// A message to everyone, of whom every hundredth takes nothing, and catches up.
    pub fn fan_out_with_laggards(&mut self) -> usize {
        let mut feeding = self.core.turn(Time::ZERO);
        feeding.feed(Event::Broker(BrokerEvent::Message { room: "r", payload: PAYLOAD }));
        let mut stalled = Vec::new();
        stall_every_hundredth(feeding.finish(), &mut stalled);
        while self.core.next_timeout().is_some_and(|timeout| timeout <= Time::ZERO) {
            stall_every_hundredth(self.core.turn(Time::ZERO).finish(), &mut stalled);
        }
        turn(&mut self.core, |turn| stalled.iter().for_each(|conn| turn.feed(Event::Writable { conn: *conn })))
    }

    /// The first member leaves and joins again.
    pub fn leave_and_join(&mut self) -> usize {
        let Room { core, members, commands } = self;
        turn(core, |turn| {
            for data in commands {
                turn.feed(Event::Bytes { conn: members[0], data });
            }
        })
    }
}

/// A room whose members publish, by the embedded broker.
pub struct Conversation {
    room: Room,
    broker: MemoryBroker,
    command: Vec<u8>,
}

impl Conversation {
    /// Between so many.
    pub fn of(members: usize) -> Conversation {
        let mut broker = MemoryBroker::default();
        broker.subscribe("r");
        broker.poll_events(|_| {});
        Conversation { room: Room::of(members), broker, command: frame(SEND) }
    }

    /// A member sends a message: from its bytes to everyone's.
    pub fn say(&mut self) -> usize {
        let Conversation { room: Room { core, members, .. }, broker, command } = self;
        let mut feeding = core.turn(Time::ZERO);
        feeding.feed(Event::Bytes { conn: members[0], data: command });
        let mut actions = feeding.finish();
        while let Some(action) = actions.next() {
            if let Action::Ask(broker::Ask::Publish { room, payload, id, .. }) = action {
                broker.publish(room, payload, id);
            }
        }
        drop(actions);
        turn(core, |turn| broker.poll_events(|event| turn.feed(Event::Broker(event))))
    }
}

/// A core that nobody has connected to.
pub fn empty() -> Core {
    core(16)
}

/// A browser connects, upgrades and is gone.
pub fn handshake(core: &mut Core) -> usize {
    let mut data = BROWSER.as_bytes().to_vec();
    let mut opened = None;
    let written = turn(core, |turn| {
        let conn = turn.open().expect("there is a place");
        turn.feed(Event::Bytes { conn, data: &mut data });
        opened = Some(conn);
    });
    written + turn(core, |turn| turn.feed(Event::Closed { conn: opened.expect("set above") }))
}

/// A hundred small frames, as they come.
pub fn frames() -> Vec<u8> {
    frame(SEND).repeat(100)
}

/// Reads them; how many bytes of text there were.
pub fn decode_frames(frames: &mut [u8]) -> usize {
    let (mut decoder, mut inflater, limits) = (Decoder::default(), Inflater::default(), Limits::default());
    let (mut at, mut bytes) = (0, 0);
    while at < frames.len() {
        let (taken, message) = decoder.next(&mut frames[at..], limits, &mut inflater).expect("frames of a client");
        if let Some(Decoded::Message(Message::Text(text))) = message {
            bytes += text.len();
        }
        at += taken;
    }
    bytes
}

/// Takes the two most frequent commands apart.
pub fn parse_commands() -> usize {
    [SUBSCRIBE, SEND].iter().filter(|text| command::parse(black_box(text), 128).is_ok()).count()
}

/// What Redis sends for a message to a room, a hundred times.
pub fn pushes() -> Vec<u8> {
    let mut push = b">3\r\n$7\r\nmessage\r\n$9\r\nfanfare:r\r\n".to_vec();
    push.extend_from_slice(format!("${}\r\n", PAYLOAD.len()).as_bytes());
    push.extend_from_slice(PAYLOAD);
    push.extend_from_slice(b"\r\n");
    push.repeat(100)
}

/// Reads them; how many there were.
pub fn scan_pushes(bytes: &[u8]) -> usize {
    let limits = resp::Limits { message_bytes_max: 1 << 20, reply_bytes_max: 1 << 20 };
    let (mut at, mut replies) = (0, 0);
    while at < bytes.len() {
        let Ok(Scan::Message { len, .. }) = resp::scan(black_box(&bytes[at..]), &limits) else { panic!("a message") };
        at += len;
        replies += 1;
    }
    replies
}

/// A wheel with this many deadlines, spread over a ping interval.
pub fn wheel(slots: u32) -> (Wheel, Vec<u32>) {
    let mut wheel = Wheel::default();
    for slot in 0..slots {
        wheel.set(slot, Time::ZERO + Duration::from_micros(25_000_000 / u64::from(slots) * u64::from(slot + 1)));
    }
    (wheel, Vec::new())
}

/// A ping interval passes in steps of 10 ms, and everything that fires is set again.
pub fn turn_wheel((wheel, fired): &mut (Wheel, Vec<u32>), now: &mut Time) -> usize {
    let mut count = 0;
    for _ in 0..2_500 {
        *now = *now + Duration::from_millis(10);
        wheel.expire(*now, fired, usize::MAX);
        count += fired.len();
        for slot in fired.drain(..) {
            wheel.set(slot, *now + Duration::from_secs(25));
        }
    }
    count
}

/// Both machines, and a chat message of about 500 bytes.
pub struct Compressor {
    deflater: Deflater,
    inflater: Inflater,
    text: Vec<u8>,
    frame: Vec<u8>,
}

impl Compressor {
    /// With the default settings.
    pub fn new() -> Compressor {
        let text =
            (0..8).map(|line| format!("line {line} of what somebody says to everyone in the room, and then some; "));
        let text = format!(r#"{{"type":"MESSAGE","room":"r","message":"{}"}}"#, text.collect::<String>()).into_bytes();
        let mut compressor = Compressor {
            deflater: Deflater::new(Compression::default()),
            inflater: Inflater::default(),
            text,
            frame: Vec::new(),
        };
        compressor.deflate();
        compressor
    }

    /// Compresses the message.
    pub fn deflate(&mut self) -> usize {
        self.frame.clear();
        self.deflater.text(&mut self.frame, Some(Window::Wide), black_box(&self.text));
        self.frame.len()
    }

    /// Inflates it again.
    pub fn inflate(&mut self) -> usize {
        let header = if self.frame[1] == 126 { 4 } else { 2 };
        self.inflater.inflate(black_box(&self.frame[header..]), 1 << 16).expect("just compressed").len()
    }
}
