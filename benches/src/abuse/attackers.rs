//! How each attack is carried out: one thread that does nothing else, and comes back whenever it is thrown out. Those who take
//! part in the attacks of a crowd are in `parts`.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering;
use std::time::Duration;

use fanfare_bench::{Context, Result};
use fanfare_wire as wire;
use mio::{Events, Interest, Poll, Token};

use super::attack::{Attack, Counters, say};
use super::{crowd, parts};

/// Connections of a flood: more add nothing, for each has a buffer of the kernel to fill.
const FLOODERS: usize = 8;
/// Bytes that are prepared once and sent over and over.
const WAVE_BYTES: usize = 64 * 1024;
/// Fragments of a message: below what any server that counts them lets pass.
const FRAGMENTS: usize = 1_000;
/// Connections that drip.
const DRIPPERS: usize = 1_000;
/// Half-open connections that are kept before the oldest is given up; a server may allow fewer. At tens of thousands of connects a
/// second they are gone before Linux hands over a connection that has said nothing.
const HALF_OPEN_KEPT: usize = 2_000;
/// Connects between two looks whether the server has accepted them: two such batches are far less than any backlog, so
/// that none is dropped to be tried again a second later.
const CONNECT_BATCH: usize = 256;
/// Members that never read.
const IDLERS: usize = 50;
/// How long a flood sleeps when the server takes nothing, at most.
const BREATH: Duration = Duration::from_millis(1);

/// Attacks until the process is ended.
pub(crate) fn attack(attack: Attack, addresses: [SocketAddr; 2], counters: &Counters) -> Result<()> {
    let [address, _] = addresses;
    let flood = |prelude: &[u8], wave: Wave| Flood { address, counters, prelude: prelude.to_vec(), wave }.run();
    let never = match attack {
        Attack::HalfOpen => connect_storm(address, b"", HALF_OPEN_KEPT, counters),
        Attack::Upgrades => {
            let mut bytes = wire::upgrade_request("/", "").into_bytes();
            wire::write_subscribe("stormed", &mut bytes);
            connect_storm(address, &bytes, CONNECT_BATCH, counters)
        }
        Attack::Resets => connect_storm(address, &wire::upgrade_request("/", "").as_bytes()[..60], 0, counters),
        Attack::DripHeads => drip(address, false, b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Endless: ", b"x", counters),
        Attack::DripFrames => {
            let mut message = Vec::new();
            wire::write_masked(wire::opcode::TEXT, padded_ping(60_000).as_bytes(), &mut message);
            drip(address, true, b"", &message, counters)
        }
        Attack::Fragments => {
            flood(b"", Wave::of_one(|out| fragments(padded_ping(FRAGMENTS).as_bytes(), 0, out), FRAGMENTS))
        }
        Attack::EmptyFragments => {
            flood(b"", Wave::of_one(|out| fragments(br#"{"type":"PING"}"#, FRAGMENTS, out), FRAGMENTS))
        }
        Attack::EmptyMessages => flood(b"", Wave::of_one(|out| wire::write_masked(wire::opcode::TEXT, b"", out), 1)),
        Attack::Pings => flood(b"", Wave::of_one(|out| wire::write_masked(wire::opcode::PING, b"", out), 1)),
        Attack::Churn => flood(b"", Wave::churn()),
        Attack::NeverRead => {
            std::thread::spawn(move || never_read(address));
            let message = "x".repeat(8_000);
            flood(b"", Wave::of_one(|out| wire::write_send_message("busy", &message, out), 1))
        }
        Attack::InflatePings => crowd::run(parts::inflated_pings(address, 100), counters),
        Attack::InflatePings1100 => crowd::run(parts::inflated_pings(address, 1_100), counters),
        Attack::FourForms => crowd::run(parts::hogs(address, 4, addresses[1], "x"), counters),
        Attack::DeafMembers => crowd::run(parts::deaf_members(address), counters),
        Attack::OneHog => crowd::run(parts::hogs(address, 1, address, "x"), counters),
        Attack::OneHogQuotes => crowd::run(parts::hogs(address, 1, address, r#"\""#), counters),
        Attack::PingHogs => crowd::run(parts::ping_hogs(address), counters),
        Attack::SixHogs => crowd::run(parts::hogs(address, 6, address, "x"), counters),
        Attack::LongNames => crowd::run(parts::long_names(address), counters),
        Attack::Unfinished => crowd::run(parts::unfinished(address), counters),
        Attack::SmallFanOut => crowd::run(parts::small_fan_out(address), counters),
    };
    never.map(|never| match never {})
}

/// A command of `bytes` bytes that the server answers with a PONG.
fn padded_ping(bytes: usize) -> String {
    let around = r#"{"type":"PING","padding":""}"#;
    around.replace(r#":""}"#, &format!(r#":"{}"}}"#, "x".repeat(bytes - around.len())))
}

/// One text message, a byte to a fragment, and `empty` fragments before the last.
fn fragments(payload: &[u8], empty: usize, out: &mut Vec<u8>) {
    let (last, others) = payload.split_last().expect("a payload");
    for (index, byte) in others.iter().enumerate() {
        let opcode = if index == 0 { wire::opcode::TEXT } else { wire::opcode::CONTINUATION };
        // The last of them has the bit that says so.
        wire::write_frame(opcode, Some(wire::MASK), &[*byte], out);
    }
    for _ in 0..empty.saturating_sub(payload.len()) {
        wire::write_frame(wire::opcode::CONTINUATION, Some(wire::MASK), b"", out);
    }
    wire::write_masked(wire::opcode::CONTINUATION, &[*last], out);
}

/// What a flood sends over and over.
struct Wave {
    bytes: Vec<u8>,
    /// How many of the attack's units it is.
    units: u64,
}

impl Wave {
    /// The same thing of `units` units, until the wave is full.
    fn of_one(write: impl Fn(&mut Vec<u8>), units: usize) -> Wave {
        let mut wave = Wave { bytes: Vec::new(), units: 0 };
        while wave.bytes.len() < WAVE_BYTES {
            write(&mut wave.bytes);
            wave.units += units as u64;
        }
        wave
    }

    fn churn() -> Wave {
        let mut wave = Wave { bytes: Vec::new(), units: 0 };
        while wave.bytes.len() < WAVE_BYTES {
            let room = format!("churn {}", wave.units);
            wire::write_subscribe(&room, &mut wave.bytes);
            wire::write_unsubscribe(&room, &mut wave.bytes);
            wave.units += 2;
        }
        wave
    }
}

/// Connections that send as fast as the server takes it, and read what comes.
struct Flood<'a> {
    address: SocketAddr,
    counters: &'a Counters,
    prelude: Vec<u8>,
    wave: Wave,
}

struct Flooder {
    stream: mio::net::TcpStream,
    /// How far it is in the wave.
    at: usize,
    received: Vec<u8>,
}

impl Flood<'_> {
    fn run(&self) -> Result<Infallible> {
        let mut poll = Poll::new().context("cannot make an epoll")?;
        let mut events = Events::with_capacity(FLOODERS);
        let mut flooders = (0..FLOODERS).map(|_| self.enter(&poll)).collect::<Result<Vec<_>>>()?;
        say("ready");
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let mut moved = false;
            for flooder in &mut flooders {
                let here = self.write(flooder, &mut moved) && flooder.read(&mut buffer, &mut moved);
                if !here {
                    self.counters.ended.fetch_add(1, Ordering::Relaxed);
                    *flooder = self.enter(&poll)?;
                }
            }
            if !moved {
                poll.poll(&mut events, Some(BREATH)).context("cannot wait for events")?;
            }
        }
    }

    fn enter(&self, poll: &Poll) -> Result<Flooder> {
        let stream = upgraded(self.address, &self.prelude);
        stream.set_nonblocking(true).context("cannot set a socket's mode")?;
        let mut stream = mio::net::TcpStream::from_std(stream);
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut stream, Token(0), interest).context("cannot poll a socket")?;
        Ok(Flooder { stream, at: 0, received: Vec::new() })
    }

    /// Writes what is left of the wave, once; `false` if the server has hung up.
    fn write(&self, flooder: &mut Flooder, moved: &mut bool) -> bool {
        match flooder.stream.write(&self.wave.bytes[flooder.at..]) {
            Ok(written) => {
                self.counters.bytes.fetch_add(written as u64, Ordering::Relaxed);
                flooder.at += written;
                *moved = true;
                if flooder.at == self.wave.bytes.len() {
                    flooder.at = 0;
                    self.counters.done.fetch_add(self.wave.units, Ordering::Relaxed);
                }
                true
            }
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        }
    }
}

impl Flooder {
    /// Reads what is there; `false` at the end, or at a close frame, which is not waited upon.
    fn read(&mut self, buffer: &mut [u8], moved: &mut bool) -> bool {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return false,
                Ok(count) => {
                    *moved = true;
                    self.received.extend_from_slice(&buffer[..count]);
                    let mut taken = 0;
                    while let Ok(Some(frame)) = wire::first_frame(&self.received[taken..]) {
                        taken += frame.wire_bytes;
                        if frame.opcode == wire::opcode::CLOSE {
                            return false;
                        }
                    }
                    self.received.drain(..taken);
                }
                Err(error) => return matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
            }
        }
    }
}

/// An upgraded connection that has sent `prelude`, and is reset when it is dropped. Whoever is refused tries again.
fn upgraded(address: SocketAddr, prelude: &[u8]) -> TcpStream {
    loop {
        match try_upgrade(address, prelude) {
            Ok(stream) => return stream,
            Err(_) => std::thread::sleep(BREATH),
        }
    }
}

fn try_upgrade(address: SocketAddr, prelude: &[u8]) -> Result<TcpStream> {
    let mut stream = connect(address)?;
    let request = wire::upgrade_request("/", "");
    stream.write_all(request.as_bytes()).and_then(|()| stream.write_all(prelude)).context("cannot upgrade")?;
    let mut head = Vec::new();
    while wire::upgraded(&head)?.is_none() {
        let mut byte = [0];
        stream.read_exact(&mut byte).context("no answer to an upgrade")?;
        head.push(byte[0]);
    }
    Ok(stream)
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).context("cannot connect")?;
    stream.set_nodelay(true).context("cannot set TCP_NODELAY")?;
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).context("cannot set SO_LINGER")?;
    Ok(stream)
}

/// Connections one after the other, each sending `bytes`; the latest `kept` stay, older ones are reset.
fn connect_storm(address: SocketAddr, bytes: &[u8], kept: usize, counters: &Counters) -> Result<Infallible> {
    let mut open = VecDeque::new();
    let mut witness = None;
    say("ready");
    loop {
        for _ in 0..CONNECT_BATCH {
            let mut stream = connect(address)?;
            // The server may have ended it already.
            let _ = stream.write_all(bytes);
            counters.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            open.push_back(stream);
            if open.len() > kept {
                open.pop_front();
            }
            counters.done.fetch_add(1, Ordering::Relaxed);
        }
        // Connections that have spoken are accepted in their order: when this one is answered, those before it have been.
        let mut next = connect(address)?;
        next.write_all(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").context("cannot ask")?;
        if let Some(mut last) = witness.replace(next) {
            let _ = TcpStream::read(&mut last, &mut [0]);
        }
    }
}

/// Many connections in turn, each sending `once` and then `over_and_over`, a byte at a time.
fn drip(
    address: SocketAddr,
    upgrades: bool,
    once: &[u8],
    over_and_over: &[u8],
    counters: &Counters,
) -> Result<Infallible> {
    let enter = || -> Result<TcpStream> {
        let stream = if upgrades { upgraded(address, b"") } else { connect(address)? };
        stream.set_nonblocking(true).context("cannot set a socket's mode")?;
        Ok(stream)
    };
    let mut drippers = (0..DRIPPERS).map(|_| Ok((enter()?, 0_usize))).collect::<Result<Vec<_>>>()?;
    say("ready");
    loop {
        for (stream, sent) in &mut drippers {
            let byte = match sent.checked_sub(once.len()) {
                None => once[*sent],
                Some(after) => over_and_over[after % over_and_over.len()],
            };
            match stream.write(&[byte]) {
                Ok(_) => {
                    *sent += 1;
                    counters.bytes.fetch_add(1, Ordering::Relaxed);
                    counters.done.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(_) => {
                    counters.ended.fetch_add(1, Ordering::Relaxed);
                    (*stream, *sent) = (enter()?, 0);
                }
            }
        }
    }
}

/// Members of the busy room that never read, and come back when they are thrown out. Without a server there is nothing
/// left for them to do.
fn never_read(address: SocketAddr) -> Result<Infallible> {
    let mut subscribe = Vec::new();
    wire::write_subscribe("busy", &mut subscribe);
    let enter = |poll: &Poll, index: usize| -> Result<mio::net::TcpStream> {
        let stream = upgraded(address, &subscribe);
        stream.set_nonblocking(true).context("cannot set a socket's mode")?;
        let mut stream = mio::net::TcpStream::from_std(stream);
        poll.registry().register(&mut stream, Token(index), Interest::READABLE).context("cannot poll a socket")?;
        Ok(stream)
    };
    let mut poll = Poll::new().context("cannot make an epoll")?;
    let mut events = Events::with_capacity(IDLERS);
    let mut idlers = (0..IDLERS).map(|index| enter(&poll, index)).collect::<Result<Vec<_>>>()?;
    loop {
        poll.poll(&mut events, None).context("cannot wait for events")?;
        for event in events.iter().filter(|event| event.is_read_closed() || event.is_error()) {
            idlers[event.token().0] = enter(&poll, event.token().0)?;
        }
    }
}
