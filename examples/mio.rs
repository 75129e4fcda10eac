//! The core on a poll of `mio`: one thread, non-blocking sockets, readiness by edges. The production server, `adapters/mio`, is
//! this with bounds on what a turn reads, Redis, several workers and metrics.
//!
//! ```text
//! cargo run -p fanfare-examples --example mio [-- ADDRESS]
//! ```

use fanfare_core::broker::memory::MemoryBroker;
use fanfare_core::time::Time;
use fanfare_core::{Action, Config, ConnId, Core, Event};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use std::collections::HashMap;
use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{self, Shutdown};
use std::time::{Duration, Instant};

/// All other tokens are connections' ids.
const LISTENER: Token = Token(usize::MAX);

fn main() {
    if let Err(error) = run() {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:8080".to_owned());
    let listener = net::TcpListener::bind(&address).map_err(|error| format!("cannot listen on {address}: {error}"))?;
    listener.set_nonblocking(true)?;
    let mut listener = TcpListener::from_std(listener);
    println!("listening on {}", listener.local_addr()?);
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;

    let mut config = Config::default();
    config.seed = getrandom::u64()?;
    config.limits.message_bytes_max = 1024 * 1024;
    config.limits.outbox_bytes_max = 16 * 1024 * 1024;
    let mut core = Core::new(config);
    let mut broker = MemoryBroker::default();
    let mut sockets = HashMap::<ConnId, TcpStream>::new();
    let (mut events, mut buffer, started) = (Events::with_capacity(1024), vec![0; 64 * 1024], Instant::now());
    let now = || Time::from_micros(started.elapsed().as_micros() as u64);

    loop {
        // Asleep until a socket is ready or the core wants to be woken; awake while the broker has something to say.
        let timeout = match broker.has_events() {
            true => Some(Duration::ZERO),
            false => core.next_timeout().map(|at| at.since(now())),
        };
        match poll.poll(&mut events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            polled => polled?,
        }

        // A turn: everything that is ready goes in …
        let mut turn = core.turn(now());
        broker.poll_events(|event| turn.feed(Event::Broker(event)));
        for event in &events {
            if event.token() == LISTENER {
                loop {
                    let (mut stream, peer) = match listener.accept() {
                        Ok(accepted) => accepted,
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                        // Of the connection that it would have been; the next one may be well.
                        Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                        // Where descriptors run out, this small server ends; the real one waits until somebody has left.
                        Err(error) => return Err(error.into()),
                    };
                    // Whoever is refused is closed by being dropped.
                    let Ok(conn) = turn.open_from(peer.ip()) else { continue };
                    let token = Token(conn.to_bits() as usize);
                    poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
                    sockets.insert(conn, stream);
                }
                continue;
            }
            let conn = ConnId::from_bits(event.token().0 as u64);
            let Some(stream) = sockets.get_mut(&conn) else { continue };
            if event.is_writable() {
                turn.feed(Event::Writable { conn });
            }
            // An edge is told once: what it announced is read to its end.
            while event.is_readable() {
                match stream.read(&mut buffer) {
                    Ok(taken @ 1..) => turn.feed(Event::Bytes { conn, data: &mut buffer[..taken] }),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Ok(0) | Err(_) => {
                        turn.feed(Event::Closed { conn });
                        break;
                    }
                }
            }
        }
        turn.feed(Event::Timeout);

        // … and everything that it leads to comes out.
        let mut actions = turn.finish();
        while let Some(action) = actions.next() {
            match action {
                Action::Send(mut delivery) => {
                    let bytes = delivery.bytes();
                    while let Some(conn) = delivery.next_target() {
                        match write(&mut sockets, conn, bytes) {
                            Ok(written) if written == bytes.len() => {}
                            // The core keeps the rest until it is told that the socket is writable again.
                            Ok(written) => delivery.short(conn, written),
                            Err(_) => {
                                sockets.remove(&conn);
                                delivery.gone(conn);
                            }
                        }
                    }
                }
                Action::Shutdown { conn } => {
                    // If the client has gone meanwhile, the next read tells.
                    let _ = sockets[&conn].shutdown(Shutdown::Write);
                }
                Action::Close { conn } => drop(sockets.remove(&conn)),
                Action::Ask(ask) => broker.ask(ask),
                Action::Authenticate(_) => unreachable!("`Config::auth` is not set"),
                Action::Propose(_) => unreachable!("no rule has a hook"),
            }
        }
    }
}

/// Writes until all is written or the socket would block, which arms its next edge. Returns how much it took.
fn write(sockets: &mut HashMap<ConnId, TcpStream>, conn: ConnId, bytes: &[u8]) -> io::Result<usize> {
    let stream = sockets.get_mut(&conn).expect("the core names nobody whose end it was told");
    let mut written = 0;
    while written < bytes.len() {
        match stream.write(&bytes[written..]) {
            Ok(taken) => written += taken,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}
