//! Where a Redis listens, as whoever opens a connection is told it: no name is resolved here.

use std::fmt;
use std::path::PathBuf;

/// Where a Redis listens. Not `#[non_exhaustive]`: whoever opens connections has to know every kind.
///
/// `Display` names it as a log line does: `host:port`, or the path of a socket. It holds no password.
///
/// ```
/// # use fanfare_core::broker::redis::Address;
/// assert_eq!(Address::default().to_string(), "127.0.0.1:6379");
/// assert_eq!(Address::Tcp { host: "::1".to_owned(), port: 7000 }.to_string(), "[::1]:7000");
/// assert_eq!(Address::Unix { path: "/run/redis.sock".into() }.to_string(), "/run/redis.sock");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// By TCP.
    Tcp {
        /// A name, an IPv4 address, or an IPv6 address without brackets.
        host: String,
        /// Never 0.
        port: u16,
    },
    /// By a Unix socket.
    Unix {
        /// The socket's path.
        path: PathBuf,
    },
}

impl Address {
    /// The port that Redis listens on unless told otherwise.
    pub const PORT_DEFAULT: u16 = 6379;
}

impl Default for Address {
    /// A Redis on this machine that was told nothing.
    fn default() -> Address {
        Address::Tcp { host: "127.0.0.1".to_owned(), port: Address::PORT_DEFAULT }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Address::Tcp { host, port } => write!(f, "{host}:{port}"),
            Address::Unix { path } => path.display().fmt(f),
        }
    }
}
