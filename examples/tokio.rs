//! The core in a task of tokio: each connection has a task that reads; the task that owns the core writes, as far as sockets take
//! it at once.
//!
//! ```text
//! cargo run -p fanfare-examples --example tokio [-- ADDRESS]
//! ```

use fanfare_core::broker::memory::MemoryBroker;
use fanfare_core::time::Time;
use fanfare_core::{Action, Config, ConnId, Core, Event};
use socket2::SockRef;
use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{Sender, channel};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Inputs that wait for the core: who reads faster than it thinks waits, too.
const INPUTS_MAX: usize = 256;

/// What the other tasks tell the one that owns the core.
enum Input {
    Accepted(TcpStream, SocketAddr),
    Read(ConnId, Vec<u8>),
    Writable(ConnId),
    Ended(ConnId),
}

/// A connection. Its tasks end with it, and then its socket is closed.
struct Client {
    stream: Arc<TcpStream>,
    tasks: JoinSet<()>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    if let Err(error) = run().await {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:8080".to_owned());
    let listener = TcpListener::bind(&address).await.map_err(|error| format!("cannot listen on {address}: {error}"))?;
    println!("listening on {}", listener.local_addr()?);
    let (sender, mut inputs) = channel(INPUTS_MAX);
    tokio::spawn(accept(listener, sender.clone()));

    let mut config = Config::default();
    config.seed = getrandom::u64()?;
    config.limits.message_bytes_max = 1024 * 1024;
    config.limits.outbox_bytes_max = 16 * 1024 * 1024;
    let mut core = Core::new(config);
    let mut broker = MemoryBroker::default();
    let mut clients = HashMap::<ConnId, Client>::new();
    let started = Instant::now();
    let now = || Time::from_micros(started.elapsed().as_micros() as u64);

    loop {
        // Waits for one input, at most until the core wants to be woken, and takes what has come with it.
        let wait = match broker.has_events() {
            true => Duration::ZERO,
            false => core.next_timeout().map_or(Duration::MAX, |at| at.since(now())),
        };
        let mut input = timeout(wait, inputs.recv()).await.ok().flatten();
        let mut turn = core.turn(now());
        broker.poll_events(|event| turn.feed(Event::Broker(event)));
        for _ in 0..INPUTS_MAX {
            match input.take() {
                None => break,
                Some(Input::Accepted(stream, peer)) => {
                    if let Ok(conn) = turn.open_from(peer.ip()) {
                        let (stream, mut tasks) = (Arc::new(stream), JoinSet::new());
                        tasks.spawn(read(conn, Arc::clone(&stream), sender.clone()));
                        clients.insert(conn, Client { stream, tasks });
                    }
                }
                Some(Input::Read(conn, mut bytes)) => turn.feed(Event::Bytes { conn, data: &mut bytes }),
                Some(Input::Writable(conn)) => turn.feed(Event::Writable { conn }),
                // It may come late, of a connection that the core has closed: its id is stale then, and ignored.
                Some(Input::Ended(conn)) => turn.feed(Event::Closed { conn }),
            }
            input = inputs.try_recv().ok();
        }
        turn.feed(Event::Timeout);

        let mut actions = turn.finish();
        while let Some(action) = actions.next() {
            match action {
                Action::Send(mut delivery) => {
                    let bytes = delivery.bytes();
                    while let Some(conn) = delivery.next_target() {
                        let Client { stream, tasks } = clients.get_mut(&conn).expect("it is open");
                        match write(stream, bytes) {
                            Ok(written) if written == bytes.len() => {}
                            Ok(written) => {
                                delivery.short(conn, written);
                                // Those that have ended are forgotten only here.
                                while tasks.try_join_next().is_some() {}
                                tasks.spawn(wait_for_room(conn, Arc::clone(stream), sender.clone()));
                            }
                            Err(_) => {
                                clients.remove(&conn);
                                delivery.gone(conn);
                            }
                        }
                    }
                }
                Action::Shutdown { conn } => {
                    // If the client has gone meanwhile, the next read tells.
                    let _ = SockRef::from(&*clients[&conn].stream).shutdown(Shutdown::Write);
                }
                Action::Close { conn } => drop(clients.remove(&conn)),
                Action::Ask(ask) => broker.ask(ask),
                Action::Authenticate(_) => unreachable!("`Config::auth` is not set"),
                Action::Propose(_) => unreachable!("no rule has a hook"),
            }
        }
    }
}

async fn accept(listener: TcpListener, inputs: Sender<Input>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let Ok(()) = inputs.send(Input::Accepted(stream, peer)).await else { return };
            }
            // Without descriptors the next attempt fails as well: not at once.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn read(conn: ConnId, stream: Arc<TcpStream>, inputs: Sender<Input>) {
    let mut buffer = vec![0; 64 * 1024];
    while stream.readable().await.is_ok() {
        match stream.try_read(&mut buffer) {
            Ok(taken @ 1..) => {
                if inputs.send(Input::Read(conn, buffer[..taken].to_vec())).await.is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(0) | Err(_) => break,
        }
    }
    let _ = inputs.send(Input::Ended(conn)).await;
}

/// After a short write, of which there is no other before the core has heard of this.
async fn wait_for_room(conn: ConnId, stream: Arc<TcpStream>, inputs: Sender<Input>) {
    // If it fails instead, the next write does, too.
    let _ = stream.writable().await;
    let _ = inputs.send(Input::Writable(conn)).await;
}

/// Writes until all is written or the socket would block. Returns how much it took.
fn write(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match stream.try_write(&bytes[written..]) {
            Ok(taken) => written += taken,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}
