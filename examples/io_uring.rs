//! The core on io_uring, through `compio`: reads and writes are handed to the kernel with their buffers, so that each connection
//! has a task that writes what a bounded queue holds. All tasks are of one thread and share the core.
//!
//! ```text
//! cargo run -p fanfare-examples --example io_uring [-- ADDRESS]
//! ```
//!
//! Ends with status 77 where the kernel refuses io_uring, which many containers do.

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("io_uring is refused: this is not Linux");
    std::process::exit(77);
}

#[cfg(target_os = "linux")]
fn main() {
    let runtime = match compio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("io_uring is refused: {error}");
            std::process::exit(77);
        }
    };
    if let Err(error) = runtime.block_on(server::run()) {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

#[cfg(target_os = "linux")]
mod server {
    use async_channel::{Receiver, Sender, TrySendError, bounded};
    use compio::BufResult;
    use compio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
    use compio::net::{TcpListener, TcpStream};
    use compio::runtime::{JoinHandle, spawn};
    use compio::time::{sleep, timeout};
    use fanfare_core::broker::memory::MemoryBroker;
    use fanfare_core::time::Time;
    use fanfare_core::{Action, Config, ConnId, Core, Event, Turn};
    use futures_lite::future;
    use std::cell::{Cell, RefCell};
    use std::collections::HashMap;
    use std::error::Error;
    use std::rc::Rc;
    use std::time::{Duration, Instant};

    /// Writes that wait for one socket. What is more than that the core keeps, and limits.
    const WRITES_MAX: usize = 2;
    /// Longer than the core waits for a sign of life, by default 35 s: nobody is written to for ever whom it has long closed.
    const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

    /// What all tasks share. None holds the state across an `await`.
    #[derive(Clone)]
    struct Server {
        state: Rc<RefCell<State>>,
        started: Instant,
        /// Tells the task that keeps the time of every turn, for it may have changed when the next one is due.
        turned: Sender<()>,
    }

    struct State {
        core: Core,
        broker: MemoryBroker,
        clients: HashMap<ConnId, Client>,
    }

    /// The core's side of a connection.
    struct Client {
        /// `None` once the last has been queued.
        writes: Option<Sender<Rc<[u8]>>>,
        /// Its queue was full: the core wants to hear when it is not any more.
        full: Rc<Cell<bool>>,
        /// Ends with it.
        _reader: JoinHandle<()>,
    }

    pub async fn run() -> Result<(), Box<dyn Error>> {
        let address = std::env::args().nth(1).unwrap_or("127.0.0.1:8080".to_owned());
        let listener =
            TcpListener::bind(&address).await.map_err(|error| format!("cannot listen on {address}: {error}"))?;
        println!("listening on {}", listener.local_addr()?);
        let mut config = Config::default();
        config.seed = getrandom::u64()?;
        config.limits.message_bytes_max = 1024 * 1024;
        config.limits.outbox_bytes_max = 16 * 1024 * 1024;
        let state = State { core: Core::new(config), broker: MemoryBroker::default(), clients: HashMap::new() };
        let (turned, turns) = bounded(1);
        let server = Server { state: Rc::new(RefCell::new(state)), started: Instant::now(), turned };
        spawn(server.clone().keep_time(turns)).detach();
        server.accept(listener).await
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
                        // One copy, however many are sent it.
                        let bytes: Rc<[u8]> = delivery.bytes().into();
                        while let Some(conn) = delivery.next_target() {
                            let Client { writes, full, .. } = &clients[&conn];
                            let writes = writes.as_ref().expect("nothing is sent behind the last");
                            // Where the task that writes has ended, the one that reads will.
                            if let Err(TrySendError::Full(_)) = writes.try_send(Rc::clone(&bytes)) {
                                full.set(true);
                                delivery.short(conn, 0);
                            }
                        }
                    }
                    // In both cases the task that writes first writes what is queued.
                    Action::Shutdown { conn } => clients.get_mut(&conn).expect("it is open").writes = None,
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
                // A day, where nothing is due: it only has to look again.
                let wait = due.map_or(Duration::from_secs(86_400), |at| at.since(self.now()));
                if wait.is_zero() || timeout(wait, turns.recv()).await.is_err() {
                    self.turn(|_, _| {});
                }
                // Whoever has something to read comes first.
                future::yield_now().await;
            }
        }

        async fn accept(self, listener: TcpListener) -> Result<(), Box<dyn Error>> {
            loop {
                let Ok((stream, peer)) = listener.accept().await else {
                    // Without descriptors the next attempt fails as well: not at once.
                    sleep(Duration::from_millis(10)).await;
                    continue;
                };
                self.turn(|turn, clients| {
                    if let Ok(conn) = turn.open_from(peer.ip()) {
                        let (writes, queue) = bounded(WRITES_MAX);
                        let full = Rc::new(Cell::new(false));
                        spawn(self.clone().write(conn, stream.clone(), queue, Rc::clone(&full))).detach();
                        let reader = spawn(self.clone().read(conn, stream));
                        clients.insert(conn, Client { writes: Some(writes), full, _reader: reader });
                    }
                });
            }
        }

        async fn read(self, conn: ConnId, mut stream: TcpStream) {
            let mut buffer = Vec::with_capacity(64 * 1024);
            loop {
                // The kernel owns the buffer meanwhile.
                let BufResult(taken, filled) = stream.read(buffer).await;
                buffer = filled;
                match taken {
                    Ok(1..) => self.turn(|turn, _| turn.feed(Event::Bytes { conn, data: &mut buffer })),
                    Ok(0) | Err(_) => return self.turn(|turn, _| turn.feed(Event::Closed { conn })),
                }
                buffer.clear();
            }
        }

        async fn write(self, conn: ConnId, mut stream: TcpStream, queue: Receiver<Rc<[u8]>>, full: Rc<Cell<bool>>) {
            while let Ok(bytes) = queue.recv().await {
                // The kernel is given a buffer of its own.
                let written = timeout(WRITE_TIMEOUT, stream.write_all(bytes.to_vec())).await;
                if written.map_or(true, |BufResult(outcome, _)| outcome.is_err()) {
                    return self.turn(|turn, _| turn.feed(Event::Closed { conn }));
                }
                if full.take() {
                    self.turn(|turn, _| turn.feed(Event::Writable { conn }));
                }
            }
            // If the client has gone meanwhile, the task that reads tells.
            let _ = stream.shutdown().await;
        }
    }
}
