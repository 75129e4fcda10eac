//! The core on plain threads and blocking sockets: one thread owns the core; each connection has a thread that reads and one that
//! writes what a bounded queue holds. For hundreds of connections, and for reading; `adapters/threaded` is the same as a server.
//!
//! ```text
//! cargo run -p fanfare-examples --example std_threads [-- ADDRESS]
//! ```

use fanfare_core::broker::memory::MemoryBroker;
use fanfare_core::time::Time;
use fanfare_core::{Action, Config, ConnId, Core, Event};
use std::collections::HashMap;
use std::error::Error;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Inputs that wait for the core: who reads faster than it thinks waits, too.
const INPUTS_MAX: usize = 256;
/// Writes that wait for one socket. What is more than that the core keeps, and limits.
const WRITES_MAX: usize = 2;
/// Longer than the core waits for a sign of life, by default 35 s: nobody is written to for ever whom it has long closed.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// What the other threads tell the one that owns the core.
enum Input {
    Accepted(TcpStream),
    Read(ConnId, Vec<u8>),
    Writable(ConnId),
    Ended(ConnId),
}

/// The core's side of a connection.
struct Client {
    stream: Arc<TcpStream>,
    /// `None` once the last has been queued.
    writes: Option<SyncSender<Arc<[u8]>>>,
    /// Its queue was full: the core wants to hear when it is not any more.
    full: Arc<AtomicBool>,
}

fn main() {
    if let Err(error) = run() {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:8080".to_owned());
    let listener = TcpListener::bind(&address).map_err(|error| format!("cannot listen on {address}: {error}"))?;
    println!("listening on {}", listener.local_addr()?);
    let (sender, inputs) = sync_channel(INPUTS_MAX);
    let accepted = sender.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            match stream {
                Ok(stream) => {
                    let Ok(()) = accepted.send(Input::Accepted(stream)) else { return };
                }
                // Without descriptors the next attempt fails as well: not at once.
                Err(_) => thread::sleep(Duration::from_millis(10)),
            }
        }
    });

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
        let timeout = match broker.has_events() {
            true => Duration::ZERO,
            false => core.next_timeout().map_or(Duration::MAX, |at| at.since(now())),
        };
        let first = inputs.recv_timeout(timeout).ok();
        let mut turn = core.turn(now());
        broker.poll_events(|event| turn.feed(Event::Broker(event)));
        for input in first.into_iter().chain(inputs.try_iter().take(INPUTS_MAX)) {
            match input {
                Input::Accepted(stream) => {
                    let Ok(peer) = stream.peer_addr() else { continue };
                    if let Ok(conn) = turn.open_from(peer.ip()) {
                        clients.insert(conn, serve(conn, stream, &sender));
                    }
                }
                Input::Read(conn, mut bytes) => turn.feed(Event::Bytes { conn, data: &mut bytes }),
                Input::Writable(conn) => turn.feed(Event::Writable { conn }),
                // It may come late, of a connection that the core has closed: its id is stale then, and ignored.
                Input::Ended(conn) => turn.feed(Event::Closed { conn }),
            }
        }
        turn.feed(Event::Timeout);

        let mut actions = turn.finish();
        while let Some(action) = actions.next() {
            match action {
                Action::Send(mut delivery) => {
                    // One copy, however many are sent it.
                    let bytes: Arc<[u8]> = delivery.bytes().into();
                    while let Some(conn) = delivery.next_target() {
                        if !clients[&conn].queue(&bytes) {
                            delivery.short(conn, 0);
                        }
                    }
                }
                // In both cases the thread that writes first writes what is queued.
                Action::Shutdown { conn } => clients.get_mut(&conn).expect("it is open").writes = None,
                Action::Close { conn } => drop(clients.remove(&conn)),
                Action::Ask(ask) => broker.ask(ask),
                Action::Authenticate(_) => unreachable!("`Config::auth` is not set"),
                Action::Propose(_) => unreachable!("no rule has a hook"),
            }
        }
    }
}

/// Starts the two threads of a connection.
fn serve(conn: ConnId, stream: TcpStream, inputs: &SyncSender<Input>) -> Client {
    // If the socket is gone, its threads notice.
    let _ = stream.set_write_timeout(Some(WRITE_TIMEOUT));
    let (stream, full) = (Arc::new(stream), Arc::new(AtomicBool::new(false)));
    let (writes, queue) = sync_channel(WRITES_MAX);
    let client = Client { stream: Arc::clone(&stream), writes: Some(writes), full: Arc::clone(&full) };
    let (reader, told) = (Arc::clone(&stream), inputs.clone());
    thread::spawn(move || read(conn, &reader, &told));
    let told = inputs.clone();
    thread::spawn(move || write(conn, &stream, &queue, &full, &told));
    client
}

fn read(conn: ConnId, mut stream: &TcpStream, inputs: &SyncSender<Input>) {
    let mut buffer = vec![0; 64 * 1024];
    // Interrupted system calls are the runtime's only by signals, and none is handled here.
    while let Ok(taken @ 1..) = stream.read(&mut buffer) {
        if inputs.send(Input::Read(conn, buffer[..taken].to_vec())).is_err() {
            return;
        }
    }
    let _ = inputs.send(Input::Ended(conn));
}

fn write(
    conn: ConnId,
    mut stream: &TcpStream,
    queue: &Receiver<Arc<[u8]>>,
    full: &AtomicBool,
    inputs: &SyncSender<Input>,
) {
    for bytes in queue {
        if stream.write_all(&bytes).is_err() {
            let _ = inputs.send(Input::Ended(conn));
            return;
        }
        if full.swap(false, Ordering::SeqCst) && inputs.send(Input::Writable(conn)).is_err() {
            return;
        }
    }
    let _ = stream.shutdown(Shutdown::Write);
}

impl Client {
    /// Whether the bytes are on their way.
    fn queue(&self, bytes: &Arc<[u8]>) -> bool {
        let writes = self.writes.as_ref().expect("nothing is sent behind the last");
        match writes.try_send(Arc::clone(bytes)) {
            Err(TrySendError::Full(bytes)) => {
                self.full.store(true, Ordering::SeqCst);
                // Once more: the queue may have been emptied before the flag was up, and then nobody would tell.
                !matches!(writes.try_send(bytes), Err(TrySendError::Full(_)))
            }
            // Where the thread has ended, it has said so.
            Ok(()) | Err(TrySendError::Disconnected(_)) => true,
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // The thread that reads ends by it, the other one when its queue is empty.
        let _ = self.stream.shutdown(Shutdown::Read);
    }
}
