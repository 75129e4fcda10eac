//! A server for whoever has sockets and a clock, and no Rust: numbers and bytes go in and out through the module's memory. See
//! `server.mjs`, which is one in Node.
//!
//! A call is a turn. What it leads to is written down, one record after the other: a byte for what is to be done, the
//! connection's id, how many bytes are to be sent, and those. Numbers are little-endian.

use fanfare_core::broker::memory::MemoryBroker;
use fanfare_core::time::Time;
use fanfare_core::{Action, Config, ConnId, Core, Event, Turn};
use std::cell::RefCell;
use std::collections::BTreeMap;

const SEND: u8 = 0;
const SHUTDOWN: u8 = 1;
const CLOSE: u8 = 2;

/// Bytes that a socket is given before it has said that it is rid of some: the rest stays in the core, which limits it.
const SOCKET_BYTES_MAX: usize = 64 * 1024;
/// No connection's id: its slot would have to be the last there is.
const REFUSED: u64 = u64::MAX;

struct Server {
    core: Core,
    broker: MemoryBroker,
    sockets: BTreeMap<ConnId, Socket>,
    input: Vec<u8>,
    output: Vec<u8>,
}

struct Socket {
    /// Bytes that it may still be given.
    room: usize,
    short: bool,
}

thread_local! {
    static SERVER: RefCell<Option<Server>> = const { RefCell::new(None) };
}

fn with<T>(act: impl FnOnce(&mut Server) -> T) -> T {
    SERVER.with_borrow_mut(|server| act(server.as_mut().expect("`start` comes first")))
}

/// Begins a server. `seed` is to be drawn at random.
#[unsafe(no_mangle)]
pub extern "C" fn start(seed: u64) {
    let mut config = Config::default();
    config.seed = seed;
    config.limits.message_bytes_max = 1024 * 1024;
    config.limits.outbox_bytes_max = 16 * 1024 * 1024;
    let server = Server {
        core: Core::new(config),
        broker: MemoryBroker::default(),
        sockets: BTreeMap::new(),
        input: Vec::new(),
        output: Vec::new(),
    };
    SERVER.set(Some(server));
}

/// Where to put so many bytes that [`feed`] will read.
#[unsafe(no_mangle)]
pub extern "C" fn input(bytes: usize) -> *mut u8 {
    with(|server| {
        server.input.resize(bytes, 0);
        server.input.as_mut_ptr()
    })
}

/// Where the records of the last turn stand; until the next call.
#[unsafe(no_mangle)]
pub extern "C" fn output() -> *const u8 {
    with(|server| server.output.as_ptr())
}

/// How many bytes of records there are.
#[unsafe(no_mangle)]
pub extern "C" fn output_bytes() -> usize {
    with(|server| server.output.len())
}

/// A new connection; all bits are set where it is refused. Times are microseconds of a clock that never goes back.
#[unsafe(no_mangle)]
pub extern "C" fn open(now: u64) -> u64 {
    let mut opened = REFUSED;
    turn(now, |turn, sockets, _| {
        if let Ok(conn) = turn.open() {
            sockets.insert(conn, Socket { room: SOCKET_BYTES_MAX, short: false });
            opened = conn.to_bits();
        }
    });
    opened
}

/// What was put at [`input`] came from this connection.
#[unsafe(no_mangle)]
pub extern "C" fn feed(conn: u64, now: u64) {
    turn(now, |turn, _, data| turn.feed(Event::Bytes { conn: ConnId::from_bits(conn), data }));
}

/// The connection's socket is rid of so many bytes.
#[unsafe(no_mangle)]
pub extern "C" fn written(conn: u64, bytes: usize, now: u64) {
    let conn = ConnId::from_bits(conn);
    turn(now, |turn, sockets, _| {
        if let Some(socket) = sockets.get_mut(&conn) {
            socket.room += bytes;
            if std::mem::take(&mut socket.short) {
                turn.feed(Event::Writable { conn });
            }
        }
    });
}

/// The client's end is reached.
#[unsafe(no_mangle)]
pub extern "C" fn closed(conn: u64, now: u64) {
    turn(now, |turn, _, _| turn.feed(Event::Closed { conn: ConnId::from_bits(conn) }));
}

/// The time has come, or may have.
#[unsafe(no_mangle)]
pub extern "C" fn timeout(now: u64) {
    turn(now, |_, _, _| {});
}

/// When to call [`timeout`]; all bits are set where there is no need.
#[unsafe(no_mangle)]
pub extern "C" fn next_timeout() -> u64 {
    with(|server| server.core.next_timeout().map_or(u64::MAX, Time::as_micros))
}

fn turn(now: u64, feed: impl FnOnce(&mut Turn<'_>, &mut BTreeMap<ConnId, Socket>, &mut [u8])) {
    with(|server| {
        let Server { core, broker, sockets, input, output } = server;
        output.clear();
        let mut turn = core.turn(Time::from_micros(now));
        feed(&mut turn, sockets, input);
        loop {
            broker.poll_events(|event| turn.feed(Event::Broker(event)));
            turn.feed(Event::Timeout);
            let mut actions = turn.finish();
            while let Some(action) = actions.next() {
                match action {
                    Action::Send(mut delivery) => {
                        let bytes = delivery.bytes();
                        while let Some(conn) = delivery.next_target() {
                            let socket = sockets.get_mut(&conn).expect("it is open");
                            let taken = bytes.len().min(socket.room);
                            socket.room -= taken;
                            record(output, SEND, conn, &bytes[..taken]);
                            if taken < bytes.len() {
                                socket.short = true;
                                delivery.short(conn, taken);
                            }
                        }
                    }
                    Action::Shutdown { conn } => record(output, SHUTDOWN, conn, &[]),
                    Action::Close { conn } => {
                        sockets.remove(&conn);
                        record(output, CLOSE, conn, &[]);
                    }
                    Action::Ask(ask) => broker.ask(ask),
                    Action::Authenticate(_) => unreachable!("`Config::auth` is not set"),
                    Action::Propose(_) => unreachable!("no rule has a hook"),
                }
            }
            drop(actions);
            if !broker.has_events() {
                break;
            }
            turn = core.turn(Time::from_micros(now));
        }
        core.check_invariants();
    });
}

fn record(output: &mut Vec<u8>, what: u8, conn: ConnId, bytes: &[u8]) {
    output.push(what);
    output.extend_from_slice(&conn.to_bits().to_le_bytes());
    output.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    output.extend_from_slice(bytes);
}
