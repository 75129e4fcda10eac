//! The core on smol's poller, `polling`, in its safe form: `async-io`, which keeps the one promise that the poller itself cannot
//! check, that a socket is taken off it before it is closed. All tasks are of one thread and share the core.
//!
//! ```text
//! cargo run -p fanfare-examples --example polling [-- ADDRESS]
//! ```

use async_channel::{Receiver, Sender, bounded};
use async_executor::{LocalExecutor, Task};
use async_io::{Async, Timer};
use fanfare_core::broker::memory::MemoryBroker;
use fanfare_core::time::Time;
use fanfare_core::{Action, Config, ConnId, Core, Event, Turn};
use futures_lite::future;
use std::cell::RefCell;
use std::collections::HashMap;
use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// What all tasks share. None holds it across an `await`.
#[derive(Clone)]
struct Server {
    state: Rc<RefCell<State>>,
    executor: Rc<LocalExecutor<'static>>,
    started: Instant,
    /// Tells the task that keeps the time of every turn, for it may have changed when the next one is due.
    turned: Sender<()>,
}

struct State {
    core: Core,
    broker: MemoryBroker,
    clients: HashMap<ConnId, Client>,
}

/// A connection. Its tasks end with it, and then its socket is closed.
struct Client {
    stream: Rc<Async<TcpStream>>,
    tasks: Vec<Task<()>>,
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
    let listener = Async::new(listener)?;
    println!("listening on {}", listener.get_ref().local_addr()?);
    let mut config = Config::default();
    config.seed = getrandom::u64()?;
    config.limits.message_bytes_max = 1024 * 1024;
    config.limits.outbox_bytes_max = 16 * 1024 * 1024;
    let state = State { core: Core::new(config), broker: MemoryBroker::default(), clients: HashMap::new() };
    let (turned, turns) = bounded(1);
    let executor = Rc::new(LocalExecutor::new());
    let server =
        Server { state: Rc::new(RefCell::new(state)), executor: Rc::clone(&executor), started: Instant::now(), turned };
    executor.spawn(server.clone().keep_time(turns)).detach();
    async_io::block_on(executor.run(server.accept(listener)))
}

impl Server {
    fn now(&self) -> Time {
        Time::from_micros(self.started.elapsed().as_micros() as u64)
    }

    /// One turn: here, whoever has something to say has one of their own.
    fn turn(&self, feed: impl FnOnce(&mut Turn<'_>, &mut HashMap<ConnId, Client>)) {
        let State { core, broker, clients } = &mut *self.state.borrow_mut();
        let mut turn = core.turn(self.now());
        broker.poll_events(|event| turn.feed(Event::Broker(event)));
        feed(&mut turn, clients);
        turn.feed(Event::Timeout);
        let mut actions = turn.finish();
        while let Some(action) = actions.next() {
            match action {
                Action::Send(mut delivery) => {
                    let bytes = delivery.bytes();
                    while let Some(conn) = delivery.next_target() {
                        let Client { stream, tasks } = clients.get_mut(&conn).expect("it is open");
                        match write(stream.get_ref(), bytes) {
                            Ok(written) if written == bytes.len() => {}
                            Ok(written) => {
                                delivery.short(conn, written);
                                tasks.retain(|task| !task.is_finished());
                                tasks.push(self.executor.spawn(self.clone().wait_for_room(conn, Rc::clone(stream))));
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
                    let _ = clients[&conn].stream.get_ref().shutdown(Shutdown::Write);
                }
                Action::Close { conn } => drop(clients.remove(&conn)),
                Action::Ask(ask) => broker.ask(ask),
                Action::Authenticate(_) => unreachable!("`Config::auth` is not set"),
                Action::Propose(_) => unreachable!("no rule has a hook"),
            }
        }
        // Where it is full, the task will look anyway.
        let _ = self.turned.try_send(());
    }

    /// Has a turn whenever the core wants one, and at once while the broker has something to say.
    async fn keep_time(self, turns: Receiver<()>) {
        loop {
            let due = {
                let state = self.state.borrow();
                if state.broker.has_events() { Some(Time::ZERO) } else { state.core.next_timeout() }
            };
            let timer = async {
                let wait = due.map_or(Duration::MAX, |at| at.since(self.now()));
                Instant::now().checked_add(wait).map_or_else(Timer::never, Timer::at).await;
                true
            };
            let is_due = future::or(timer, async { turns.recv().await.is_err() }).await;
            if is_due {
                self.turn(|_, _| {});
            }
            // Whoever has something to read comes first.
            future::yield_now().await;
        }
    }

    async fn accept(self, listener: Async<TcpListener>) -> Result<(), Box<dyn Error>> {
        loop {
            let Ok((stream, peer)) = listener.accept().await else {
                // Without descriptors the next attempt fails as well: not at once.
                Timer::after(Duration::from_millis(10)).await;
                continue;
            };
            self.turn(|turn, clients| {
                if let Ok(conn) = turn.open_from(peer.ip()) {
                    let stream = Rc::new(stream);
                    let tasks = vec![self.executor.spawn(self.clone().read(conn, Rc::clone(&stream)))];
                    clients.insert(conn, Client { stream, tasks });
                }
            });
        }
    }

    async fn read(self, conn: ConnId, stream: Rc<Async<TcpStream>>) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(taken @ 1..) = stream.read_with(|mut stream| stream.read(&mut buffer)).await {
            self.turn(|turn, _| turn.feed(Event::Bytes { conn, data: &mut buffer[..taken] }));
            future::yield_now().await;
        }
        self.turn(|turn, _| turn.feed(Event::Closed { conn }));
    }

    /// After a short write, of which there is no other before the core has heard of this.
    async fn wait_for_room(self, conn: ConnId, stream: Rc<Async<TcpStream>>) {
        // If it fails instead, the next write does, too.
        let _ = stream.writable().await;
        self.turn(|turn, _| turn.feed(Event::Writable { conn }));
    }
}

/// Writes until all is written or the socket would block. Returns how much it took.
fn write(mut stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
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
