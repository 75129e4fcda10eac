//! The core of Fanfare: a real-time WebSocket room server as a pure state machine. It opens no socket, reads no clock, starts
//! no thread and draws no randomness: equal events at equal times give equal actions, bit for bit.
//!
//! # Vocabulary
//!
//! - A *connection* is named by a [`ConnId`]. It begins as an HTTP request head and becomes a WebSocket (RFC 6455).
//! - A *room* has a name and members. A message published to a room reaches every member, in the same order.
//! - The *broker* carries messages between instances and tells each room's order. The core sees it as [`broker::BrokerEvent`]s
//!   in and publish, subscribe and unsubscribe [`Action`]s out; [`broker::memory`] is one in this process,
//!   [`broker::redis`] speaks to Redis, as a state machine without I/O of its own.
//! - The *adapter* is whoever owns the sockets and the clock, and drives the core.
//! - A *turn* is one round of the adapter's loop: [`Core::turn`], any number of [`Turn::feed`]s, [`Turn::finish`], and then
//!   every one of its [`Actions`].
//!
//! # The one law
//!
//! *Feed a turn, then drain it.* `finish` takes the turn and lends the core to the actions, so an adapter that breaks the law
//! does not compile. What a turn buys: all messages that a room received in it are one contiguous run of frames and one
//! [`Action::Send`], however many members there are, and all replies to one connection are one more. A message that comes
//! alone leaves in its own turn.
//!
//! The adapter writes each [`Delivery`]'s bytes to its targets and says who took less ([`Delivery::short`]); the core keeps the
//! rest, once for all who lag, and decides who is too slow. When the socket takes more, the adapter feeds
//! [`Event::Writable`].
//!
//! Nothing that a client or a broker sends makes the core panic, or fail: a breach of the protocol becomes a close code, a
//! limit an `ERROR`, a stale id a counter. A panic is a bug of this crate.
//!
//! # A complete loop
//!
//! Two clients meet in a room. Their sockets are buffers here; replace them with real ones, `now` with a monotonic clock, and
//! this is a server.
//!
//! ```
//! use fanfare_core::broker::memory::MemoryBroker;
//! use fanfare_core::time::Time;
//! use fanfare_core::{Action, Config, ConnId, Core, Event};
//! use std::collections::BTreeMap;
//!
//! struct Loop {
//!     core: Core,
//!     broker: MemoryBroker,
//!     sockets: BTreeMap<ConnId, Vec<u8>>,
//!     now: Time,
//! }
//!
//! impl Loop {
//!     /// One turn: what has been read goes in, what has to be written comes out.
//!     fn turn(&mut self, reads: Vec<(ConnId, Vec<u8>)>) {
//!         let mut turn = self.core.turn(self.now);
//!         self.broker.poll_events(|event| turn.feed(Event::Broker(event)));
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
//!                         // A socket that takes only `n` bytes: `delivery.short(conn, n)`.
//!                         // One that has failed: `delivery.gone(conn)`.
//!                         self.sockets.get_mut(&conn).unwrap().extend_from_slice(bytes);
//!                     }
//!                 }
//!                 Action::Shutdown { .. } => {} // Half-close the socket.
//!                 Action::Close { conn } => drop(self.sockets.remove(&conn)),
//!                 Action::Publish { room, payload, id } => self.broker.publish(room, payload, id),
//!                 Action::Subscribe { room } => self.broker.subscribe(room),
//!                 Action::Unsubscribe { room } => self.broker.unsubscribe(room),
//!             }
//!         }
//!     }
//!
//!     fn accept(&mut self) -> ConnId {
//!         let mut turn = self.core.turn(self.now);
//!         let conn = turn.open().expect("there is a place");
//!         let mut actions = turn.finish();
//!         assert!(actions.next().is_none(), "a new connection has nothing to be told yet");
//!         self.sockets.insert(conn, Vec::new());
//!         conn
//!     }
//! }
//!
//! let mut server = Loop {
//!     core: Core::new(Config::default()),
//!     broker: MemoryBroker::default(),
//!     sockets: BTreeMap::new(),
//!     now: Time::ZERO,
//! };
//! let upgrade = "GET /ws HTTP/1.1\r\nHost: example.org\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
//!                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
//! // A client's frame is masked; with a mask of zeros it is readable here.
//! let frame = |text: &str| [&[0x81, 0x80 | text.len() as u8, 0, 0, 0, 0], text.as_bytes()].concat();
//!
//! let (ann, bob) = (server.accept(), server.accept());
//! for conn in [ann, bob] {
//!     server.turn(vec![(conn, upgrade.into()), (conn, frame(r#"{"type":"SUBSCRIBE","room":"tea"}"#))]);
//! }
//! server.turn(vec![]); // The broker confirms the room.
//! server.turn(vec![(ann, frame(r#"{"type":"SEND_MESSAGE","room":"tea","message":"hello"}"#))]);
//! server.turn(vec![]); // The broker hands the message to everyone.
//!
//! let bob_got = String::from_utf8_lossy(&server.sockets[&bob]);
//! assert!(bob_got.starts_with("HTTP/1.1 101 Switching Protocols\r\n"));
//! assert!(bob_got.ends_with(r#"{"type":"MESSAGE","room":"tea","message":"hello"}"#));
//! ```
//!
//! A loop that sleeps wakes at [`Core::next_timeout`] at the latest, and turns again at once while its broker has events.

#![warn(missing_docs)]

mod action;
pub mod broker;
mod config;
mod conn;
mod core;
mod delivery;
mod dialect;
mod error;
mod event;
mod hub;
mod invariants;
mod life;
mod limits;
mod metrics;
pub mod protocol;
pub mod time;
pub mod wheel;
pub mod ws;

pub use action::{Action, Actions};
pub use config::{Config, PublishFormat};
pub use core::{Core, Turn};
pub use delivery::Delivery;
pub use dialect::Dialect;
pub use error::{Refused, Violation};
pub use event::{ConnId, Elsewhere, Event};
pub use limits::{Network, Origin, Proxies, Rate};
pub use metrics::Metrics;
pub use ws::deflate::Compression;
pub use ws::{Message, Messages};
