//! TLS for servers and clients that do their own I/O. It knows rustls, and neither sockets nor what is said over them.
//!
//! - [`Session`] stands between a socket and whoever speaks over it: ciphertext goes in, plaintext comes out, and the other way round.
//! - [`Acceptor`] begins the sessions of a server. Its certificates can change while it serves: [`Acceptor::reload`], [`Watch`].
//! - [`Connector`] begins those of a client.
//! - [`Counts`] tells what became of handshakes.

mod acceptor;
mod certificates;
mod connector;
mod counts;
mod error;
mod session;
mod side;
mod watch;

pub use acceptor::{Acceptor, Version};
pub use certificates::{Pair, check};
pub use connector::{Connector, Trust};
pub use counts::{Counts, Tally};
pub use error::{Failure, LoadError};
pub use rustls::ServerConfig;
pub use rustls::pki_types::ServerName;
pub use session::{Progress, Session};
pub use watch::{Look, Watch};
