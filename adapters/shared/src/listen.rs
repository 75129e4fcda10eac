//! The listening socket, and what a failure to accept means. When to accept is for each adapter to say.

use crate::program::StartError;
use rustix::net::sockopt::set_socket_reuseport;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

/// As many as wait in the kernel while the server is busy. It is cut to `net.core.somaxconn`, 4,096 by default on Linux.
const BACKLOG: i32 = 4_096;

/// How long not to accept after the kernel refused a descriptor: connections may be closed meanwhile, here or elsewhere on the
/// machine.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Opens the listening socket, which blocks.
///
/// # Errors
/// If the address cannot be bound.
pub fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    open(address, false).map_err(cannot_listen(address))
}

/// Opens so many listening sockets on one address, over which the kernel spreads the connections.
///
/// # Errors
/// If the address cannot be bound, or somebody else listens there.
pub fn listen_together(address: SocketAddr, sockets: usize) -> Result<Vec<TcpListener>, StartError> {
    open_together(address, sockets).map_err(cannot_listen(address))
}

fn cannot_listen(address: SocketAddr) -> impl Fn(io::Error) -> StartError {
    move |error| StartError(format!("cannot listen on {address}: {error} (--listen chooses another address)"))
}

fn open_together(mut address: SocketAddr, sockets: usize) -> io::Result<Vec<TcpListener>> {
    if address.port() != 0 {
        // What follows would share the port with another process of the same user, and the connections as well.
        open(address, false)?;
    }
    let mut listeners = Vec::with_capacity(sockets);
    for _ in 0..sockets {
        let listener = open(address, true)?;
        address.set_port(listener.local_addr()?.port());
        listeners.push(listener);
    }
    Ok(listeners)
}

fn open(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if shared {
        set_socket_reuseport(&socket, true)?;
    }
    // A restart must not wait for the old process's connections in TIME_WAIT.
    socket.set_reuse_address(true)?;
    // Frames are small and leave when they are ready. Every connection inherits it, without a system call of its own.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Whether accept(2) reports what befell the connection that it would have returned. Any other failure is the server's, mostly
/// for want of descriptors.
pub fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, TimedOut};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | TimedOut)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn connections_send_small_frames_at_once() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        assert!(stream.nodelay().unwrap());
    }
}
