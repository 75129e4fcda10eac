//! Drives the core as an embedder would, for a target that has no system at all: what the core would need of one shows
//! as an import of the module. Only what is called from here is linked, so every entry of the core belongs in [`drive`].

pub mod server;

use fanfare_core::broker::memory::MemoryBroker;
use fanfare_core::broker::redis::{RedisBroker, RedisConfig};
use fanfare_core::time::Time;
use fanfare_core::{Action, Config, Core, Dialect, Event, Message};
use fanfare_wire::{Frame, upgrade_request};

const COMMANDS: [&str; 4] = [
    r#"{"type":"SUBSCRIBE","room":"r","id":1}"#,
    r#"{"type":"SEND_MESSAGE","roomId":"r","message":{"a":1.0},"id":"x"}"#,
    "nonsense",
    r#"{"type":"PING"}"#,
];

/// A conversation through the embedded broker and a Redis session's beginning. Takes and gives numbers, so that the compiler
/// can foresee nothing; the result counts the bytes that were said.
#[unsafe(no_mangle)]
pub extern "C" fn drive(seed: u64) -> u64 {
    conversation(seed) + only_the_hub(seed) + redis(seed)
}

fn conversation(seed: u64) -> u64 {
    let mut config = Config::default();
    config.seed = seed;
    let mut core = Core::new(config);
    let mut broker = MemoryBroker::default();
    let (mut said, mut conn) = (0, None);
    for round in 0..4 {
        let mut turn = core.turn(Time::from_millis(seed + round * 30_000));
        broker.poll_events(|event| turn.feed(Event::Broker(event)));
        let Some(conn) = conn.or_else(|| turn.open().ok()).inspect(|opened| conn = Some(*opened)) else { return 0 };
        if round == 0 {
            turn.feed(Event::Bytes { conn, data: &mut upgrade_request("/", "").into_bytes() });
        }
        for command in COMMANDS {
            turn.feed(Event::Bytes { conn, data: &mut Frame::text(command).masked() });
        }
        turn.feed(Event::Timeout);
        let mut actions = turn.finish();
        while let Some(action) = actions.next() {
            match action {
                Action::Send(mut delivery) => {
                    while let Some(conn) = delivery.next_target() {
                        said += delivery.bytes().len() as u64;
                        delivery.short(conn, seed as usize % 2);
                    }
                }
                Action::Ask(ask) => broker.ask(ask),
                Action::Authenticate(_) => unreachable!("`Config::auth` is not set"),
                Action::Propose(_) => unreachable!("no rule has a hook"),
                Action::Shutdown { .. } | Action::Close { .. } => {}
            }
        }
    }
    core.check_invariants();
    said + core.metrics().commands
}

fn only_the_hub(seed: u64) -> u64 {
    let (mut core, now) = (Core::new(Config::default()), Time::from_millis(seed));
    let mut turn = core.turn(now);
    let Ok(conn) = turn.open_websocket(Dialect::Fanfare, &["r"], None) else { return 0 };
    for command in COMMANDS {
        turn.feed(Event::Message { conn, message: Message::Text(command) });
    }
    let (mut actions, mut said) = (turn.finish(), 0);
    while let Some(action) = actions.next() {
        if let Action::Send(mut delivery) = action {
            let messages = delivery.messages().count();
            while let Some(conn) = delivery.next_target() {
                said += messages as u64;
                delivery.short_messages(conn, seed as usize % 2);
            }
        }
    }
    said
}

fn redis(seed: u64) -> u64 {
    let mut config = RedisConfig::default();
    config.seed = seed;
    let mut session = RedisBroker::new(config);
    let now = Time::from_millis(seed);
    while session.poll_connection(now).is_some() {}
    let Some(link) = session.links().find(|link| session.receives(*link)) else { return 0 };
    session.connected(link, now);
    let said = session.output(link).len();
    session.input(link, b"-ERR unknown command 'HELLO'\r\n", now, |_| {});
    said as u64
}
