//! The listening socket, and what a failure to accept means. When to accept is for each server to say. It is made for servers whose
//! clients speak first, and that keep and count what a client does not take.

use crate::program::StartError;
use rustix::net::sockopt::set_socket_reuseport;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::time::Duration;

/// As many as wait in the kernel while the server is busy. It is cut to `net.core.somaxconn`, 4,096 by default on Linux.
const BACKLOG: i32 = 4_096;

/// How much a socket takes beyond what its client has room for. What is more waits in the server, where it is counted, and kept
/// once for all who wait for the same; by itself the kernel keeps up to 4 MB for each client that does not read. It is no bound of what is on its
/// way, so it slows nobody who is far away. See `TCP_NOTSENT_LOWAT` in tcp(7).
const UNSENT_BYTES: u32 = 128 * 1024;

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

/// Opens several listening sockets on one address, over which the kernel spreads the connections.
///
/// # Errors
/// If the address cannot be bound, or somebody else listens there.
pub fn listen_together(address: SocketAddr, sockets: usize) -> Result<Vec<TcpListener>, StartError> {
    open_together(address, sockets).map_err(cannot_listen(address))
}

/// Has a socket take more than its client has room for, for the last bytes of a connection.
pub fn make_room(socket: &impl AsFd) {
    let socket = SockRef::from(socket);
    // A kernel that does not take one of these keeps what it has.
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_notsent_lowat(u32::MAX);
    if let Ok(bytes) = socket.send_buffer_size() {
        let _ = socket.set_send_buffer_size(bytes + UNSENT_BYTES as usize);
    }
}

fn cannot_listen(address: SocketAddr) -> impl Fn(io::Error) -> StartError {
    move |error| {
        let hint = hint(address, &error);
        StartError(format!("cannot listen on {address}: {error} (--listen chooses another address){hint}"))
    }
}

/// What an ordinary user has to know of the ports that only root may bind.
pub(crate) fn hint(address: SocketAddr, error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::PermissionDenied && (1..1024).contains(&address.port()) {
        "; a port below 1024 needs the capability CAP_NET_BIND_SERVICE: `AmbientCapabilities=CAP_NET_BIND_SERVICE` in a unit of \
         systemd, `setcap cap_net_bind_service=+ep` on the program, or a proxy in front"
    } else {
        ""
    }
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

/// Opens a listening socket, which blocks; `shared` with others of this process.
pub(crate) fn open(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if shared {
        set_socket_reuseport(&socket, true)?;
    }
    // A restart must not wait for the old process's connections in TIME_WAIT.
    socket.set_reuse_address(true)?;
    // What a server says is small, and leaves when it is ready. Every connection inherits it, without a system call of its own.
    socket.set_tcp_nodelay(true)?;
    #[cfg(target_os = "linux")]
    deferral::set(&socket);
    #[cfg(target_os = "linux")]
    if let Err(error) = socket.set_tcp_notsent_lowat(UNSENT_BYTES) {
        tracing::debug!(%error, "the kernel keeps as much for clients that do not read as it likes");
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Connections are accepted when their client has said something, so that it can be read in the turn that accepts it. That takes 17 µs
/// for a WebSocket's handshake and first command instead of 24, where nothing is done but the calls, since fewer connections are looked
/// for in vain.
#[cfg(target_os = "linux")]
mod deferral {
    use nix::sys::socket::setsockopt;
    use nix::sys::socket::sockopt::SetStruct;
    use std::os::fd::AsFd;

    /// How long a client may be silent before it is accepted all the same, that it may be told to go: TCP's first wait for an
    /// answer, and the shortest there is.
    const SECONDS: i32 = 1;

    #[derive(Clone, Copy)]
    struct DeferAccept;

    // No crate has this option, and the standard library's is not stable yet. nix's macro for options of one's own calls
    // setsockopt(2) with the address and the size of an `i32`, which is what tcp(7) says this one takes.
    nix::setsockopt_impl!(DeferAccept, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, i32, SetStruct<i32>);

    /// A kernel without it accepts at once, which is only slower.
    pub fn set(listener: &impl AsFd) {
        if let Err(error) = setsockopt(listener, DeferAccept, &SECONDS) {
            tracing::debug!(%error, "connections are accepted before they have spoken");
        }
    }
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
    use std::io::{Read, Write};
    use std::net::TcpStream;

    #[test]
    fn an_ordinary_user_is_told_of_privileged_ports() {
        let says = |address: &str, kind: io::ErrorKind| {
            cannot_listen(address.parse().unwrap())(kind.into()).to_string().contains("CAP_NET_BIND_SERVICE")
        };
        assert!(says("0.0.0.0:80", io::ErrorKind::PermissionDenied));
        assert!(!says("0.0.0.0:8080", io::ErrorKind::PermissionDenied));
        assert!(!says("0.0.0.0:80", io::ErrorKind::AddrInUse));
    }

    #[test]
    fn connections_send_small_messages_at_once() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.write_all(b"GET").unwrap();
        let (stream, _) = listener.accept().unwrap();
        assert!(stream.nodelay().unwrap());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_kernel_keeps_little_for_a_client_that_does_not_read() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.write_all(b"GET").unwrap();
        let (server, _) = listener.accept().unwrap();
        assert_eq!(socket2::SockRef::from(&server).tcp_notsent_lowat().unwrap(), UNSENT_BYTES);
        server.set_nonblocking(true).unwrap();
        let (mut taken, piece) = (0, [0; 64 * 1024]);
        while let Ok(bytes) = (&server).write(&piece) {
            taken += bytes;
        }
        // What the client's own buffer takes is beside it, and grows to what `net.ipv4.tcp_rmem` begins with.
        assert!(taken >= UNSENT_BYTES as usize && taken < 1024 * 1024, "{taken}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_socket_that_takes_no_more_takes_some_when_there_is_room() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.write_all(b"GET").unwrap();
        let (server, _) = listener.accept().unwrap();
        server.set_nonblocking(true).unwrap();
        let piece = [0; 16 * 1024];
        while (&server).write(&piece).is_ok() {}
        make_room(&server);
        assert_eq!((&server).write(&piece).unwrap(), piece.len());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn who_has_spoken_is_accepted_before_who_is_silent_and_both_are() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let silent = TcpStream::connect(address).unwrap();
        let mut speaking = TcpStream::connect(address).unwrap();
        speaking.write_all(b"GET").unwrap();
        let (mut first, peer) = listener.accept().unwrap();
        assert_eq!(peer, speaking.local_addr().unwrap());
        // What it said is there at once.
        first.set_nonblocking(true).unwrap();
        assert_eq!(first.read(&mut [0; 8]).unwrap(), 3);
        let (_, peer) = listener.accept().unwrap();
        assert_eq!(peer, silent.local_addr().unwrap());
    }
}
