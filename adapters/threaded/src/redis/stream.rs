//! A connection's bytes: the socket, which one thread reads and another writes. What the bytes mean is known elsewhere.

use fanfare_core::broker::redis::Address;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_linger;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::io::{self, Read};
use std::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// Where a socket leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// An established connection.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Place {
    /// What an address leads to. It asks the system's resolver where the host is a name, which may take long.
    pub(super) fn of(address: &Address) -> io::Result<Vec<Place>> {
        match address {
            Address::Unix { path } => Ok(vec![Place::Unix(path.clone())]),
            Address::Tcp { host, port } => Ok((host.as_str(), *port).to_socket_addrs()?.map(Place::Tcp).collect()),
        }
    }
}

impl Stream {
    /// Connects, by TCP within this time, which is more than none. By a Unix socket whose backlog is full, it waits for a place in it, or for
    /// the server's end.
    pub(super) fn connect(place: &Place, time: Duration) -> io::Result<Stream> {
        let address = match place {
            Place::Unix(path) => return UnixStream::connect(path).map(Stream::Unix),
            Place::Tcp(address) => address,
        };
        let stream = TcpStream::connect_timeout(address, time)?;
        if stream.local_addr()? == *address {
            // TCP lets a socket meet itself where nobody listens on a port that the kernel may give to a client: it would echo every
            // command. Reset, since TIME_WAIT would keep Redis from its port.
            let _ = set_socket_linger(&stream, Some(Duration::ZERO));
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        stream.set_nodelay(true)?;
        Ok(Stream::Tcp(stream))
    }

    /// Waits for bytes. None are the end.
    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let outcome = match self {
                Stream::Tcp(stream) => (&mut &*stream).read(buffer),
                Stream::Unix(stream) => (&mut &*stream).read(buffer),
            };
            match outcome {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => return outcome,
            }
        }
    }

    /// Writes what is taken at once, and does not wait. `WouldBlock` is nothing.
    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match send(self, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => {}
                outcome => return Ok(outcome?),
            }
        }
    }

    /// Whether there is something to read, or the end.
    pub(super) fn has_unread(&self) -> bool {
        let peeked = recv(self, &mut [0_u8; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        !matches!(peeked, Err(Errno::AGAIN))
    }

    /// Waits until more is taken. A connection that has ended counts as well: the next write tells.
    pub(super) fn wait_until_writable(&self) {
        while let Err(Errno::INTR) = poll(&mut [PollFd::new(self, PollFlags::OUT)], None) {}
    }

    /// Ends the connection, wherever somebody waits for it.
    pub(super) fn shutdown(&self) {
        // Fails only where it has ended already.
        let _ = match self {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Unix(stream) => stream.as_fd(),
        }
    }
}
