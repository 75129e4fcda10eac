//! The core of Fanfare: a real-time WebSocket room server as a pure state machine. It opens no socket, reads no clock, starts
//! no thread and draws no randomness: equal events at equal times give equal actions, bit for bit. Any event loop can drive it,
//! and it links for WebAssembly without a single import.
//!
//! - [Vocabulary](#vocabulary) and [the one law](#the-one-law)
//! - [To begin with](#to-begin-with): a whole server on `std::net`, and how its program publishes
//! - [A loop to test with](#a-loop-to-test-with), with short writes and timers
//! - [What an adapter must do, and must not](#what-an-adapter-must-do-and-must-not)
//! - [Several instances through Redis](#several-instances-through-redis)
//! - [Only the hub](#only-the-hub), inside a framework that owns its WebSockets
//! - [Examples that run](#examples-that-run) and [what may change](#what-may-change)
//!
//! # Vocabulary
//!
//! - A *connection* is named by a [`ConnId`]. It begins as an HTTP request head and becomes a WebSocket (RFC 6455), or an
//!   *event stream*, by which a client listens and says nothing.
//! - A *room* has a name and members. A message published to a room reaches every member, in the same order.
//! - A *dialect* is what clients speak over WebSocket, chosen by the path of the upgrade: see [`Dialect`].
//! - The *broker* carries messages between instances and tells each room's order. The core sees it as [`broker::BrokerEvent`]s in
//!   and [`broker::Ask`]s out. [`broker::memory`] is one in this process. [`broker::redis`] speaks to Redis, as a state machine
//!   without I/O of its own.
//! - The *adapter* owns the sockets and the clock, and drives the core.
//! - The *program* is what the core is a part of. It publishes, reads, looks at connections and ends them by [`Event::Command`], and is
//!   answered by [`Core::replies`].
//! - A *turn* is one round of the adapter's loop: [`Core::turn`], any number of [`Turn::feed`]s, [`Turn::finish`], and then
//!   every one of its [`Actions`].
//! - A connection *lags* while its socket has not taken everything. What it has not taken is its *outbox*, which the core keeps.
//!
//! # The one law
//!
//! *Feed a turn, then drain it.* `finish` takes the turn and lends the core to the actions, so an adapter that breaks the law does
//! not compile. What a turn buys: all messages that a room received in it are one contiguous run of frames, and one
//! [`Action::Send`] for a group of members. All replies to one connection are one more. A message that comes alone leaves in its
//! own turn. (Of a room with hundreds of members, a turn hands out a part: the next one is due at once.)
//!
//! The adapter writes each [`Delivery`]'s bytes to its targets and says who took less ([`Delivery::short`]); the core keeps the
//! rest, once for all who lag, and decides who is too slow. When the socket takes more, the adapter feeds
//! [`Event::Writable`].
//!
//! Nothing that a client or a broker sends makes the core panic, or fail: a breach of the protocol becomes a close code, a
//! limit an `ERROR`, a stale id a counter. A panic is a bug of this crate.
//!
//! # To begin with
//!
//! The crate is not on crates.io yet. A package beside a checkout of the repository names its folder:
//!
//! ```toml
//! [dependencies]
//! fanfare-core = { path = "../fanfare/core" }
//! ```
//!
//! `std` has no way to wait for several sockets, so this server looks at each of them every millisecond. It is whole otherwise, and real
//! clients can connect to it. Another thread publishes to its rooms through a channel.
//!
//! ```
//! use fanfare_core::broker::memory::MemoryBroker;
//! use fanfare_core::time::Time;
//! use fanfare_core::{Action, Config, ConnId, Core, Event};
//! use std::collections::HashMap;
//! use std::io::{self, ErrorKind, Read, Write};
//! use std::net::{Shutdown, TcpListener, TcpStream};
//! use std::sync::mpsc::{Receiver, channel};
//! use std::thread;
//! use std::time::{Duration, Instant};
//!
//! /// Serves clients for ever. What comes through the channel is published: a room, and a payload for the broker.
//! fn serve(listener: TcpListener, published: Receiver<(String, String)>) -> io::Result<()> {
//!     listener.set_nonblocking(true)?;
//!     let mut config = Config::default();
//!     (config.seed, config.node) = (17, 18); // Draw both at random.
//!     let (mut core, mut broker) = (Core::new(config), MemoryBroker::default());
//!     let mut sockets = HashMap::<ConnId, TcpStream>::new();
//!     let (started, mut buffer) = (Instant::now(), [0; 16 * 1024]);
//!     loop {
//!         thread::sleep(Duration::from_millis(1)); // In place of a poll.
//!         for (room, payload) in published.try_iter() {
//!             broker.publish(&room, payload.as_bytes(), None);
//!         }
//!         // Everything that is ready goes into a turn …
//!         let mut turn = core.turn(Time::from_micros(started.elapsed().as_micros() as u64));
//!         broker.poll_events(|event| turn.feed(Event::Broker(event)));
//!         while let Ok((stream, peer)) = listener.accept() {
//!             stream.set_nonblocking(true)?;
//!             if let Ok(conn) = turn.open_from(peer.ip()) {
//!                 sockets.insert(conn, stream);
//!             } // Else it is refused, and closed by being dropped.
//!         }
//!         for (&conn, mut stream) in &sockets {
//!             turn.feed(Event::Writable { conn }); // Of a socket that nobody waits for, it is ignored.
//!             match stream.read(&mut buffer) {
//!                 Ok(bytes @ 1..) => turn.feed(Event::Bytes { conn, data: &mut buffer[..bytes] }),
//!                 Err(error) if error.kind() == ErrorKind::WouldBlock => {}
//!                 Ok(0) | Err(_) => turn.feed(Event::Closed { conn }),
//!             }
//!         }
//!         turn.feed(Event::Timeout);
//!         // … and everything that follows from it is carried out.
//!         let mut actions = turn.finish();
//!         while let Some(action) = actions.next() {
//!             match action {
//!                 Action::Send(mut delivery) => {
//!                     let bytes = delivery.bytes();
//!                     while let Some(conn) = delivery.next_target() {
//!                         match (&sockets[&conn]).write(bytes) {
//!                             Ok(written) if written == bytes.len() => {}
//!                             Ok(written) => delivery.short(conn, written), // The core keeps the rest.
//!                             Err(error) if error.kind() == ErrorKind::WouldBlock => delivery.short(conn, 0),
//!                             Err(_) => {
//!                                 sockets.remove(&conn);
//!                                 delivery.gone(conn);
//!                             }
//!                         }
//!                     }
//!                 }
//!                 Action::Shutdown { conn } => drop(sockets[&conn].shutdown(Shutdown::Write)),
//!                 Action::Close { conn } => drop(sockets.remove(&conn)),
//!                 Action::Ask(ask) => broker.ask(ask),
//!                 Action::Authenticate(_) => unreachable!("`Config::auth` is not set"),
//!                 Action::Propose(_) => unreachable!("no rule has a hook"),
//!             }
//!         }
//!     }
//! }
//!
//! let listener = TcpListener::bind("127.0.0.1:0")?; // With port 8080, `new WebSocket('ws://localhost:8080')` can connect.
//! let mut client = TcpStream::connect(listener.local_addr()?)?;
//! let (publish, published) = channel();
//! thread::spawn(|| serve(listener, published));
//!
//! // A client joins a room: an upgrade with `?room=`. What it gets are the response, `SUBSCRIBED`, and then messages.
//! client.set_read_timeout(Some(Duration::from_secs(10)))?;
//! client.write_all(
//!     b"GET /?room=tea HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
//!       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
//! )?;
//! let mut got = Vec::new();
//! let mut read_until = |end: &[u8]| -> io::Result<()> {
//!     while !got.ends_with(end) {
//!         let mut byte = [0];
//!         client.read_exact(&mut byte)?;
//!         got.extend(byte);
//!     }
//!     Ok(())
//! };
//! read_until(br#"{"type":"SUBSCRIBED","room":"tea"}"#)?;
//!
//! publish.send(("tea".to_owned(), r#"{"type":"SEND_MESSAGE","message":{"any":"json"}}"#.to_owned())).unwrap();
//! read_until(br#"{"type":"MESSAGE","room":"tea","message":{"any":"json"}}"#)?;
//! # Ok::<(), io::Error>(())
//! ```
//!
//! ## Publishing from the program itself
//!
//! The program publishes by the broker, as above: [`MemoryBroker::publish`](broker::memory::MemoryBroker::publish), or
//! [`RedisBroker::publish`](broker::redis::RedisBroker::publish), with `None` for the id. The payload is one of:
//!
//! | payload | members get as `message` |
//! |---|---|
//! | `{"type":"SEND_MESSAGE","message":…}` | the JSON value that stands there |
//! | any other text | that text, as a JSON string; but a text that begins with `F`, digits and a space is taken for an instance's own, and dropped |
//!
//! With the embedded broker the next turn is due at once, as [`MemoryBroker::has_events`](broker::memory::MemoryBroker::has_events)
//! says; a loop that sleeps in another thread has to be woken. No limit of a client holds for what the program publishes.
//!
//! # A loop to test with
//!
//! The same loop on sockets that are buffers and a clock that is a number: short writes, timers and what is due at once can be seen
//! here. Two clients meet in a room.
//!
//! ```
//! use fanfare_core::broker::memory::MemoryBroker;
//! use fanfare_core::time::Time;
//! use fanfare_core::{Action, Config, ConnId, Core, Event};
//! use std::collections::BTreeMap;
//! use std::time::Duration;
//!
//! struct Loop {
//!     core: Core,
//!     broker: MemoryBroker,
//!     sockets: BTreeMap<ConnId, Socket>,
//!     now: Time,
//! }
//!
//! /// Takes 100 bytes, and then nothing until it has been flushed.
//! #[derive(Default)]
//! struct Socket {
//!     sent: Vec<u8>,
//!     unflushed: usize,
//! }
//!
//! impl Socket {
//!     fn write(&mut self, bytes: &[u8]) -> usize {
//!         let taken = bytes.len().min(100 - self.unflushed);
//!         self.sent.extend_from_slice(&bytes[..taken]);
//!         self.unflushed += taken;
//!         taken
//!     }
//! }
//!
//! impl Loop {
//!     /// One turn: what is ready goes in, what has to be written comes out.
//!     fn turn(&mut self, reads: Vec<(ConnId, Vec<u8>)>, writable: Vec<ConnId>) {
//!         let mut turn = self.core.turn(self.now);
//!         // The broker first: whoever joins in this turn finds every subscription as new as can be.
//!         self.broker.poll_events(|event| turn.feed(Event::Broker(event)));
//!         for conn in writable {
//!             turn.feed(Event::Writable { conn });
//!         }
//!         for (conn, mut data) in reads {
//!             turn.feed(Event::Bytes { conn, data: &mut data });
//!         }
//!         turn.feed(Event::Timeout);
//!         let mut actions = turn.finish();
//!         while let Some(action) = actions.next() {
//!             match action {
//!                 Action::Send(mut delivery) => {
//!                     let bytes = delivery.bytes();
//!                     while let Some(conn) = delivery.next_target() {
//!                         let taken = self.sockets.get_mut(&conn).expect("it is open").write(bytes);
//!                         if taken < bytes.len() {
//!                             delivery.short(conn, taken);
//!                         }
//!                         // A socket that has failed: `delivery.gone(conn)`.
//!                     }
//!                 }
//!                 Action::Shutdown { .. } => {} // Half-close the socket, and go on reading.
//!                 Action::Close { conn } => drop(self.sockets.remove(&conn)),
//!                 Action::Ask(ask) => self.broker.ask(ask),
//!                 Action::Authenticate(_) => unreachable!("`Config::auth` is not set"),
//!                 Action::Propose(_) => unreachable!("no rule has a hook"),
//!             }
//!         }
//!     }
//!
//!     fn accept(&mut self) -> ConnId {
//!         let mut turn = self.core.turn(self.now);
//!         let conn = turn.open().expect("there is a place");
//!         self.sockets.insert(conn, Socket::default());
//!         let mut actions = turn.finish();
//!         assert!(actions.next().is_none(), "a new connection has nothing to be told yet");
//!         conn
//!     }
//!
//!     /// What a poll would wait for: sockets that are flushed, or the time. `None` means: for a client, however long.
//!     fn wait(&mut self) -> Option<(Vec<ConnId>, Duration)> {
//!         let mut writable = Vec::new();
//!         for (conn, socket) in &mut self.sockets {
//!             if std::mem::take(&mut socket.unflushed) == 100 {
//!                 writable.push(*conn);
//!             }
//!         }
//!         if self.broker.has_events() || !writable.is_empty() {
//!             return Some((writable, Duration::ZERO));
//!         }
//!         Some((writable, self.core.next_timeout()?.since(self.now)))
//!     }
//!
//!     /// Turns as long as there is something to do at once.
//!     fn settle(&mut self) {
//!         while let Some((writable, Duration::ZERO)) = self.wait() {
//!             self.turn(vec![], writable);
//!         }
//!     }
//! }
//!
//! let mut config = Config::default();
//! config.seed = 17; // Draw it at random, and `node` as well.
//! let mut server =
//!     Loop { core: Core::new(config), broker: MemoryBroker::default(), sockets: BTreeMap::new(), now: Time::ZERO };
//! let upgrade = "GET /ws HTTP/1.1\r\nHost: example.org\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
//!                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
//! // A client's frame is masked; with a mask of zeros it is readable here.
//! let frame = |text: &str| [&[0x81, 0x80 | text.len() as u8, 0, 0, 0, 0], text.as_bytes()].concat();
//!
//! let (ann, bob) = (server.accept(), server.accept());
//! for conn in [ann, bob] {
//!     server.turn(vec![(conn, upgrade.into()), (conn, frame(r#"{"type":"SUBSCRIBE","room":"tea"}"#))], vec![]);
//! }
//! server.settle(); // The broker confirms the room, and the responses are flushed, which are longer than 100 bytes.
//! server.turn(vec![(ann, frame(r#"{"type":"SEND_MESSAGE","room":"tea","message":"hello"}"#))], vec![]);
//! server.settle(); // The broker hands the message to everyone.
//!
//! let bob_got = String::from_utf8_lossy(&server.sockets[&bob].sent);
//! assert!(bob_got.starts_with("HTTP/1.1 101 Switching Protocols\r\n"));
//! assert!(bob_got.ends_with(r#"{"type":"MESSAGE","room":"tea","message":"hello"}"#));
//!
//! // Nothing happens any more: the next thing is a ping, after 25 s of silence.
//! let (_, wait) = server.wait().expect("a heartbeat is due");
//! assert_eq!(wait.as_secs(), 25);
//! server.now = server.now + wait;
//! server.turn(vec![], vec![]);
//! assert!(server.sockets[&bob].sent.ends_with(&[0x89, 0]));
//! ```
//!
//! # What an adapter must do, and must not
//!
//! It must
//!
//! - carry out every action before it asks for the next one, in their order;
//! - report every write that was not whole, and feed [`Event::Writable`] when the socket takes more: a connection that lags is
//!   written to by nothing else. Where a write was whole, it says nothing; an `Event::Writable` that nobody waits for is harmless;
//! - sleep no longer than until [`Core::next_timeout`], and not at all while the broker has events;
//! - report the end of a socket: by [`Event::Closed`] where reading ends, by [`Delivery::gone`] where writing fails. After
//!   `Closed`, an [`Action::Close`] follows; after `gone`, no action names the connection any more;
//! - answer for the broker: each [`broker::Ask::Publish`] with an id by one `Published` or `PublishFailed`, each
//!   [`broker::Ask::Subscribe`] and [`broker::Ask::Unsubscribe`] as [`broker`] says, messages of one room in one order, each
//!   [`broker::Ask::Fence`] behind them;
//! - open no more connections once [`Core::takes_newcomers`] says so, after [`Event::Drain`] or [`Event::Shutdown`];
//! - draw [`Config::seed`] and [`Config::node`] at random: the first keeps strangers from choosing names that collide in hash
//!   tables, the second tells instances apart.
//!
//! It need not guard itself against its clients: what they may send, how fast, how much and for how long, is limited here, by
//! [`Config`]. It does bound what it takes into a turn, because what comes meanwhile waits for the turn's end.
//!
//! It must not
//!
//! - write anything of its own to a socket;
//! - let time go backwards: an earlier time counts as the last;
//! - touch a connection after its [`Action::Close`]. An event that names it is harmless, and counted ([`Metrics::stale_ids`]).
//!
//! # Several instances through Redis
//!
//! [`RedisBroker`](broker::redis::RedisBroker) is a second state machine, driven by the same loop. It owns two connections, one
//! that subscribes and one that publishes, a third where rooms wait for replicas, and one to each Sentinel where those say which server is
//! the master. It sets them up, asks Redis for signs of life, and reconnects with backoff. A turn of a loop that drives both, with what was
//! read from Redis since the last one:
//!
//! ```
//! use fanfare_core::broker::redis::{ConnectionRequest, LinkId, RedisBroker};
//! use fanfare_core::time::Time;
//! use fanfare_core::{Action, Core, Event};
//!
//! fn turn(core: &mut Core, redis: &mut RedisBroker, reads: Vec<(LinkId, Vec<u8>)>, now: Time) {
//!     let mut turn = core.turn(now);
//!     for (link, bytes) in reads {
//!         redis.input(link, &bytes, now, |event| turn.feed(Event::Broker(event)));
//!     }
//!     redis.timeout(now);
//!     redis.poll_events(|event| turn.feed(Event::Broker(event)));
//!     // … clients' bytes …
//!     turn.feed(Event::Timeout);
//!     let mut actions = turn.finish();
//!     while let Some(action) = actions.next() {
//!         match action {
//!             Action::Ask(ask) => redis.ask(ask),
//!             Action::Authenticate(_) => unreachable!("`Config::auth` is not set"),
//!             Action::Propose(_) => unreachable!("no rule has a hook"),
//!             Action::Send(_) | Action::Shutdown { .. } | Action::Close { .. } => {} // As above.
//!         }
//!     }
//!     while let Some((link, request)) = redis.poll_connection(now) {
//!         match request {
//!             ConnectionRequest::Open { address } => {} // Connect; then `redis.connected(link, now)`, or `redis.disconnected(…)`.
//!             ConnectionRequest::Drop => {} // Close that socket.
//!         }
//!     }
//!     for link in redis.links() {
//!         let taken = redis.output(link).len(); // Write it; this much was taken.
//!         redis.written(link, taken);
//!     }
//!     // Sleep until the earlier of `core.next_timeout()` and `redis.next_timeout()`; not while `redis.has_events()`.
//! }
//! ```
//!
//! The order of these calls is explained in [`broker::redis`]. Another broker can be written against [`broker`] alone.
//!
//! # Only the hub
//!
//! A web framework that answers upgrades, and reads and writes frames by itself, needs no framing. It can use the core's rooms,
//! limits, care for slow consumers and Redis. [`Turn::open_websocket`] takes such a WebSocket, [`Event::Message`] what it receives,
//! and [`Delivery::messages`] is what it is to send. A room may have members of both kinds. What a message carries is the same in
//! any case: commands and replies of the [`Dialect`].
//!
//! ```
//! use fanfare_core::broker::memory::MemoryBroker;
//! use fanfare_core::time::Time;
//! use fanfare_core::{Action, Config, ConnId, Core, Dialect, Event, Message};
//!
//! /// Messages that a socket of the framework takes at once.
//! const QUEUE: usize = 2;
//!
//! fn turn(core: &mut Core, broker: &mut MemoryBroker, received: &[(ConnId, Message<'_>)]) -> Vec<(ConnId, String)> {
//!     let (mut turn, mut sent) = (core.turn(Time::ZERO), Vec::new());
//!     broker.poll_events(|event| turn.feed(Event::Broker(event)));
//!     for (conn, message) in received {
//!         turn.feed(Event::Message { conn: *conn, message: *message });
//!     }
//!     let mut actions = turn.finish();
//!     while let Some(action) = actions.next() {
//!         match action {
//!             Action::Send(mut delivery) => {
//!                 // Made once, and then handed to every target.
//!                 let messages: Vec<Message<'_>> = delivery.messages().collect();
//!                 while let Some(conn) = delivery.next_target() {
//!                     sent.extend(messages.iter().take(QUEUE).map(|message| (conn, format!("{message:?}"))));
//!                     if messages.len() > QUEUE {
//!                         delivery.short_messages(conn, QUEUE); // `Event::Writable`, when there is room again.
//!                     }
//!                 }
//!             }
//!             Action::Close { .. } => {} // Drop the framework's WebSocket.
//!             Action::Shutdown { .. } => unreachable!("there is no socket to half-close"),
//!             Action::Ask(ask) => broker.ask(ask),
//!             Action::Authenticate(_) => unreachable!("`Config::auth` is not set"),
//!             Action::Propose(_) => unreachable!("no rule has a hook"),
//!         }
//!     }
//!     sent
//! }
//!
//! let (mut core, mut broker) = (Core::new(Config::default()), MemoryBroker::default());
//! let mut opening = core.turn(Time::ZERO);
//! let conn = opening.open_websocket(Dialect::Fanfare, &["tea"], None).expect("there is a place");
//! drop(opening.finish()); // What was not carried out comes with the next turn.
//! let mut sent = turn(&mut core, &mut broker, &[]);
//! let hello = Message::Text(r#"{"type":"SEND_MESSAGE","room":"tea","message":"hello"}"#);
//! while sent.is_empty() {
//!     sent = turn(&mut core, &mut broker, &[]);
//! }
//! assert_eq!(sent, [(conn, r#"Text("{\"type\":\"SUBSCRIBED\",\"room\":\"tea\"}")"#.to_owned())]);
//! turn(&mut core, &mut broker, &[(conn, hello)]);
//! let sent = turn(&mut core, &mut broker, &[]);
//! assert_eq!(sent, [(conn, r#"Text("{\"type\":\"MESSAGE\",\"room\":\"tea\",\"message\":\"hello\"}")"#.to_owned())]);
//! ```
//!
//! Pings: most frameworks have answered one already. Feed it all the same, because it is a sign of life, and leave the
//! [`Message::Pong`] unsent. Closing: feed the peer's close frame, and send the core's; a framework that has answered by itself
//! will refuse that, which is no error.
//!
//! # Examples that run
//!
//! In `examples/` of the repository, each a server of its own, tested against clients of other makers;
//! `cargo run -p fanfare-examples --example mio` starts the first:
//!
//! | example | the loop |
//! |---|---|
//! | `mio` | one thread, a poll, non-blocking sockets |
//! | `std_threads` | blocking sockets; a thread that reads and one that writes for each |
//! | `tokio` | tasks that read, and one that owns the core and writes |
//! | `polling` | smol's poller; every task has turns of its own |
//! | `io_uring` | completions instead of readiness; bounded queues |
//! | `axum_hub` | only the hub, with Redis or alone |
//!
//! `adapters/mio` is the production server, `adapters/threaded` the same on blocking threads, and `tests/wasm/server.mjs` one in Node,
//! where the core is WebAssembly.
//!
//! # What may change
//!
//! What can grow without harm to code that does not know the new part is `#[non_exhaustive]`: [`Config`] and other settings, which
//! are made from their defaults by assignment; [`Event`]s and [`broker::BrokerEvent`]s, which nobody has to feed; errors, refusals
//! and figures. What would be wrong to pass over is not: a new [`Action`] or
//! [`ConnectionRequest`](broker::redis::ConnectionRequest) is a new major version, so that the compiler finds every adapter.

#![warn(missing_docs)]

mod action;
pub mod broker;
mod close;
mod config;
mod context;
mod core;
mod dialect;
mod drain;
mod error;
mod event;
mod fanout;
mod form;
mod framing;
mod hash;
mod hidden;
pub mod history;
mod hub;
mod id;
mod identity;
mod journal;
mod limits;
mod metrics;
mod notices;
pub mod presence;
mod proposal;
pub mod protocol;
mod random;
pub mod rules;
mod session;
mod shared;
mod slots;
mod sse;
pub mod time;
mod transport;
pub mod wheel;
pub mod ws;

pub use action::Action;
pub use config::{Admission, Auth, Config, Drain, History, Limits, PublishFormat, Timeouts};
pub use core::{Actions, Core, Turn};
pub use dialect::{Dialect, Subprotocols};
pub use error::{Refused, Violation};
pub use event::{Elsewhere, Event};
pub use fanout::delivery::Delivery;
pub use id::ConnId;
pub use identity::{Authenticate, Ban, Banned, Bans, Denied, Identity, Source, TOKEN_BYTES_MAX};
pub use journal::Entry;
pub use limits::{Network, Origin, Origins, Proxies, ProxyHeader, Rate};
pub use metrics::Metrics;
pub use notices::Notice;
pub use proposal::{Decision, Proposal, ProposalId};
pub use ws::deflate::Compression;
pub use ws::{Message, Messages};
