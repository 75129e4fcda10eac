//! A socket to Redis: TCP or Unix, blocking, with timeouts.

use fanfare_core::broker::redis::Address;
use rustix::net::sockopt::set_socket_linger;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// The socket, which several threads use.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// Tries one address after the other, and gives each the whole time.
    pub(super) fn connect(address: &Address, time: Duration) -> io::Result<Socket> {
        let (host, port) = match address {
            Address::Unix { path } => return UnixStream::connect(path).map(Socket::Unix),
            Address::Tcp { host, port } => (host.as_str(), *port),
        };
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for address in (host, port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, time) {
                Ok(stream) if stream.local_addr()? == address => {
                    // Where nobody listens, TCP may connect a socket with itself. Reset, since TIME_WAIT would keep Redis from
                    // its port.
                    let _ = set_socket_linger(&stream, Some(Duration::ZERO));
                    failure = io::ErrorKind::ConnectionRefused.into();
                }
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(Socket::Tcp(stream));
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// How long a read and a write may take from here on.
    pub(super) fn set_timeouts(&self, time: Duration) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.set_read_timeout(Some(time)).and(stream.set_write_timeout(Some(time))),
            Socket::Unix(stream) => stream.set_read_timeout(Some(time)).and(stream.set_write_timeout(Some(time))),
        }
    }

    /// Ends reading and writing, wherever somebody waits for them.
    pub(super) fn shutdown(&self) {
        // Fails only where the connection has ended already.
        let _ = match self {
            Socket::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Socket::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }
}

impl Read for &Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let outcome = match self {
                Socket::Tcp(stream) => (&mut &*stream).read(buffer),
                Socket::Unix(stream) => (&mut &*stream).read(buffer),
            };
            match outcome {
                // Where there is a timeout, even a process that was stopped and goes on is told so, see signal(7); the parser
                // would take it for the connection's end.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => return outcome,
            }
        }
    }
}

impl Write for &Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => (&mut &*stream).write(bytes),
            Socket::Unix(stream) => (&mut &*stream).write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
