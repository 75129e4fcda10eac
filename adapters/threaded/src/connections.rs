//! The clients' sockets: a thread that reads each of them, writes that never wait, and threads that tell when a full socket takes
//! more.

use crate::client::Client;
use crate::inbox::{Inbound, Senders};
use fanfare_adapter::cost::Cost;
use fanfare_adapter::tls::{Link, Tls};
use fanfare_core::ConnId;
use fanfare_core::time::Time;
use fanfare_turn::Sockets;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, ioctl_fionread};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};
use std::net::{IpAddr, Shutdown};
use std::sync::atomic::{
    AtomicBool, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// A thread here does little, but for handshakes; what is not touched of its stack costs no memory.
const STACK_BYTES: usize = 64 * 1024;
/// For a handshake, which has numbers of 4,096 bits on its stack, and more where nothing is optimized.
const HANDSHAKE_STACK_BYTES: usize = 256 * 1024;
/// Mappings of memory that a thread takes: its stack, the one on which the standard library tells of an overflow, and a guard page for
/// each. Where the kernel has none left for the second, the standard library ends the process, so nobody must get that far.
const MAPPINGS_PER_THREAD: usize = 4;
/// Everything else has one in so many of the kernel's mappings: stacks that are kept for new threads, the heap, the program.
const OTHER_MAPPINGS: usize = 8;
/// How often a connection that lags is tried where the system has no thread left to wait for it.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// What is read of a client that sends little, which is kept on its thread's stack.
const READ_BYTES: usize = 1024;
/// What is read at once of a client for as long as it fills every read.
const LONG_READ_BYTES: usize = 8 * 1024;

/// What a connection's threads share.
#[derive(Debug)]
struct Connection {
    client: Client,
    /// Where clients speak TLS. Whoever holds it waits for nothing but a processor.
    link: Option<Mutex<Link>>,
    /// It was closed here. What a peer goes on sending would still be read: shutdown(2) does not keep it from coming.
    closed: AtomicBool,
    /// Reads that are on their way to the thread that owns the core.
    on_their_way: AtomicUsize,
    /// It has made much work lately.
    heavy: AtomicBool,
}

/// An open connection as the thread that owns the core sees it.
#[derive(Debug)]
struct Open {
    connection: Arc<Connection>,
    cost: Cost,
}

/// All open connections.
#[derive(Debug)]
pub struct Connections {
    open: HashMap<ConnId, Open>,
    inbox: Senders,
    threads: Arc<Threads>,
    tls: Option<Tls>,
    /// Who has it may go on with its handshake: signatures in many threads at once would leave the others no processor.
    handshakes: Arc<Mutex<()>>,
    /// Where a record is encrypted before a socket gets it.
    record: Vec<u8>,
    /// Those that lag and have no thread to wait for them, and when they are looked at again.
    unwaited: Vec<ConnId>,
    look_again_at: Option<Instant>,
}

/// How many threads there are, and may be.
#[derive(Debug)]
pub struct Threads {
    running: AtomicUsize,
    max: usize,
}

/// A thread that is counted.
#[derive(Debug)]
struct Counted(Arc<Threads>);

impl Connections {
    /// None yet, and no more than these threads. What they have to say goes to the inbox. Clients speak TLS, if that is there.
    pub fn new(inbox: Senders, threads: Threads, tls: Option<Tls>) -> Connections {
        Connections {
            open: HashMap::new(),
            inbox,
            threads: Arc::new(threads),
            tls,
            handshakes: Arc::default(),
            record: Vec::new(),
            unwaited: Vec::new(),
            look_again_at: None,
        }
    }

    /// Keeps a new connection's socket, and starts the thread that reads it.
    ///
    /// # Errors
    /// If the system has no thread left. The socket is closed.
    pub fn insert(&mut self, conn: ConnId, client: Client, peer: IpAddr) -> io::Result<()> {
        let connection = Arc::new(Connection {
            client,
            link: self.tls.as_ref().map(|tls| Mutex::new(tls.link(peer))),
            closed: AtomicBool::new(false),
            on_their_way: AtomicUsize::new(0),
            heavy: AtomicBool::new(false),
        });
        let (reader, inbox) = (Arc::clone(&connection), self.inbox.clone());
        let (threads, handshakes) = (Arc::clone(&self.threads), Arc::clone(&self.handshakes));
        let stack_bytes = if self.tls.is_some() { HANDSHAKE_STACK_BYTES } else { STACK_BYTES };
        self.threads.spawn("fanfare-read", stack_bytes, move || reader.read(conn, &inbox, &threads, &handshakes))?;
        self.open.insert(conn, Open { connection, cost: Cost::default() });
        Ok(())
    }

    /// Whether the connection has not been closed here.
    pub fn is_open(&self, conn: ConnId) -> bool {
        self.open.contains_key(&conn)
    }

    /// A read of the connection has been taken out of the inbox.
    pub fn taken(&self, conn: ConnId) {
        if let Some(open) = self.open.get(&conn) {
            open.connection.on_their_way.fetch_sub(1, Release);
        }
    }

    /// Notes what it has cost to act upon what a connection said.
    pub fn charge(&mut self, conn: ConnId, took: Duration, now: Time) {
        if let Some(open) = self.open.get_mut(&conn) {
            open.cost.add(took, now);
            open.connection.heavy.store(open.cost.class() > 0, Relaxed);
        }
    }

    /// Whether the peer has sent something, or its end, that has not been taken.
    pub fn has_unread(&self, conn: ConnId) -> bool {
        let Some(Open { connection, .. }) = self.open.get(&conn) else { return false };
        let peek = || recv(&connection.client.stream, &mut [0_u8; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        connection.on_their_way.load(Acquire) > 0 || !matches!(peek(), Err(Errno::AGAIN))
    }

    /// Whether anybody has sent something that has not been read yet.
    pub fn have_unread(&self) -> bool {
        let is_unread = |open: &Open| {
            let Open { connection, .. } = open;
            connection.on_their_way.load(Acquire) > 0
                || ioctl_fionread(&connection.client.stream).is_ok_and(|bytes| bytes > 0)
        };
        self.open.values().any(is_unread)
    }

    /// When connections have to be looked at for which there is no thread to wait.
    pub fn look_again_at(&self) -> Option<Instant> {
        self.look_again_at
    }

    /// These connections, if it is time: whoever is not writable yet will take nothing, and come again.
    pub fn look_again(&mut self) -> Vec<ConnId> {
        if self.look_again_at.is_none_or(|at| at > Instant::now()) {
            return Vec::new();
        }
        self.look_again_at = None;
        std::mem::take(&mut self.unwaited)
    }

    /// The socket takes more: gives it what was encrypted for it. Returns whether it takes still more.
    pub fn writable(&mut self, conn: ConnId) -> bool {
        let Some(Open { connection, .. }) = self.open.get(&conn) else { return false };
        let is_flushed = connection.flush();
        if !is_flushed {
            let connection = Arc::clone(connection);
            self.await_writable(conn, connection);
        }
        is_flushed
    }

    /// Where there is no thread to wait for it, the connection is looked at again after a while.
    fn await_writable(&mut self, conn: ConnId, connection: Arc<Connection>) {
        if connection.await_writable(conn, &self.inbox, &self.threads).is_err() {
            self.unwaited.push(conn);
            self.look_again_at.get_or_insert_with(|| Instant::now() + LOOK_AGAIN);
        }
    }
}

impl Sockets for Connections {
    /// Writes once, and does not wait: how much was taken, or `None` if the socket failed. Where that is not all, an
    /// [`Inbound::Writable`] follows.
    fn write(&mut self, conn: ConnId, bytes: &[u8]) -> Option<usize> {
        let Open { connection, .. } = self.open.get(&conn)?;
        let (written, is_flushed) = match &connection.link {
            None => (taken(connection.send(bytes)).ok()?, true),
            Some(link) => {
                let mut link = lock(link);
                let written = link.write(bytes, &mut self.record, |bytes| connection.send(bytes)).ok()?;
                (written, link.is_flushed())
            }
        };
        if written < bytes.len() || !is_flushed {
            let connection = Arc::clone(connection);
            self.await_writable(conn, connection);
        }
        Some(written)
    }

    /// Sends a FIN, after the end of a session.
    fn shutdown(&mut self, conn: ConnId) {
        let Some(Open { connection, .. }) = self.open.get(&conn) else { return };
        match &connection.link {
            // Fails only where the peer has gone, of which reading will tell.
            None => drop(connection.client.stream.shutdown(Shutdown::Write)),
            Some(link) => {
                lock(link).shut();
                self.writable(conn);
            }
        }
    }

    /// Ends the connection. Its threads notice and leave; with the last of them the descriptor is closed.
    fn close(&mut self, conn: ConnId) {
        if let Some(Open { connection, .. }) = self.open.remove(&conn) {
            connection.closed.store(true, Relaxed);
            if let Some(link) = &connection.link {
                lock(link).say_goodbye(&connection.client.stream, |bytes| connection.send(bytes));
            }
            // Fails only where the peer has gone, which its threads have noticed, too.
            let _ = connection.client.stream.shutdown(Shutdown::Both);
        }
    }
}

impl Threads {
    /// As many as the kernel has mappings for; where it does not say, it has no limit of them.
    pub fn within_the_mappings() -> Threads {
        let mappings = fs::read_to_string("/proc/sys/vm/max_map_count").ok().and_then(|text| text.trim().parse().ok());
        let max = mappings.map_or(usize::MAX, |max: usize| (max - max / OTHER_MAPPINGS) / MAPPINGS_PER_THREAD);
        Threads { running: AtomicUsize::new(0), max }
    }

    /// How many connections they are for. The rest, one in eight, is for those that lag.
    pub fn connections_max(&self) -> usize {
        self.max - self.max / 8
    }

    fn spawn(
        self: &Arc<Threads>,
        name: &str,
        stack_bytes: usize,
        work: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        let counted = Counted(Arc::clone(self));
        if self.running.fetch_add(1, Relaxed) >= self.max {
            return Err(io::Error::other(format!("{} threads are as many as vm.max_map_count allows", self.max)));
        }
        let work = move || {
            let _counted = counted;
            work();
        };
        thread::Builder::new().name(name.to_owned()).stack_size(stack_bytes).spawn(work).map(drop)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Relaxed);
    }
}

impl Connection {
    /// Reads until the end. A full inbox stops it, and so, once the kernel's buffers are full, the client.
    fn read(self: &Arc<Connection>, conn: ConnId, inbox: &Senders, threads: &Arc<Threads>, handshakes: &Mutex<()>) {
        let (mut stream, mut queue) = (&self.client.stream, &inbox.clients);
        let (mut short, mut long) = ([0; READ_BYTES], Vec::new());
        loop {
            let buffer = if long.is_empty() { &mut short[..] } else { &mut long[..] };
            match stream.read(buffer) {
                Ok(0) => break,
                Ok(bytes) => {
                    let filled = bytes == buffer.len();
                    let (data, is_closed) = match &self.link {
                        None => (buffer[..bytes].to_vec(), false),
                        Some(link) => decrypted(link, &mut buffer[..bytes], handshakes),
                    };
                    if self.link.is_some() && !self.flush() {
                        // If there is no thread to wait for the socket, the next write gives it what is left.
                        let _ = self.await_writable(conn, inbox, threads);
                    }
                    if data.is_empty() {
                        if is_closed || self.closed.load(Relaxed) { break } else { continue }
                    }
                    let inbound = Inbound::Bytes(conn, data);
                    // It changes from one queue to the other where nothing that it said before is left in either.
                    if self.on_their_way.fetch_add(1, AcqRel) == 0 {
                        queue = if self.heavy.load(Relaxed) { &inbox.heavy } else { &inbox.clients };
                    }
                    if self.closed.load(Relaxed) || queue.send(inbound).is_err() {
                        return;
                    }
                    if is_closed {
                        break;
                    }
                    match filled {
                        true => long.resize(LONG_READ_BYTES, 0),
                        false => long = Vec::new(),
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        // Behind what it said; nobody listens any more where the server has ended.
        let _ = queue.send(Inbound::Ended(conn));
    }

    /// Writes once, and does not wait.
    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match send(&self.client.stream, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => {}
                written => return Ok(written?),
            }
        }
    }

    /// Gives the socket what was encrypted for it and not taken, and a FIN if that was the end. Returns whether it took everything.
    fn flush(&self) -> bool {
        let Some(link) = &self.link else { return true };
        let mut link = lock(link);
        // If it fails, the next write tells.
        let is_flushed = link.flush(|bytes| self.send(bytes)).unwrap_or(true);
        if link.is_shut() {
            let _ = self.client.stream.shutdown(Shutdown::Write);
        }
        is_flushed
    }

    /// A full socket is rare, and a thread that comes and goes with it is cheaper than one that sleeps beside every reader.
    fn await_writable(self: &Arc<Connection>, conn: ConnId, inbox: &Senders, threads: &Arc<Threads>) -> io::Result<()> {
        let (connection, inbox) = (Arc::clone(self), inbox.clients.clone());
        threads.spawn("fanfare-wait", STACK_BYTES, move || {
            // A socket that fails or is closed meanwhile counts as writable: the next write tells.
            while let Err(Errno::INTR) = poll(&mut [PollFd::new(&connection.client.stream, PollFlags::OUT)], None) {}
            // Nobody listens any more where the server has ended.
            let _ = inbox.send(Inbound::Writable(conn));
        })
    }
}

/// What these bytes hold, and whether nothing more comes of the peer.
fn decrypted(link: &Mutex<Link>, incoming: &mut [u8], handshakes: &Mutex<()>) -> (Vec<u8>, bool) {
    // Only this thread reads, so a handshake that is over stays over.
    let is_handshaking = lock(link).is_handshaking();
    // Waited for without the link, because the thread that owns the core may want that.
    let _turn = is_handshaking.then(|| lock(handshakes));
    let (mut plaintext, mut link) = (Vec::new(), lock(link));
    link.read(incoming, &mut plaintext);
    (plaintext, link.is_closed())
}

/// How much a socket took at once.
fn taken(sent: io::Result<usize>) -> io::Result<usize> {
    match sent {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        sent => sent,
    }
}

/// If a thread panics, it does so in rustls, whose session fails at the next use.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::Gate;
    use fanfare_adapter::descriptors::Places;
    use std::net::{TcpListener, TcpStream};
    use std::sync::mpsc;

    #[test]
    fn who_lags_and_has_no_thread_is_looked_at_again() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        let gate = Gate::new(listener, Places { connections_max: 1, surplus_max: 1 }).unwrap();
        let (_inbound, inbox) = crate::inbox::Inbox::new();
        // The one thread is that which reads.
        let mut connections = Connections::new(inbox, Threads { running: AtomicUsize::new(0), max: 1 }, None);
        let conn = ConnId::new(0, 1);
        let address = peer.local_addr().unwrap().ip();
        connections.insert(conn, Client::new(stream, gate.admit()), address).unwrap();
        assert_eq!((connections.look_again_at(), connections.look_again()), (None, vec![]));
        let bytes = vec![0; 1 << 20];
        while connections.write(conn, &bytes) == Some(bytes.len()) {}
        assert!(connections.look_again_at().is_some());
        let mut again = Vec::new();
        while again.is_empty() {
            again = connections.look_again();
        }
        assert_eq!((again, connections.look_again_at()), (vec![conn], None));
        connections.close(conn);
        drop(peer);
    }

    #[test]
    fn there_are_no_more_threads_than_may_be() {
        let threads = Arc::new(Threads { running: AtomicUsize::new(0), max: 2 });
        let (end, ended) = mpsc::channel::<()>();
        let ended = Arc::new(std::sync::Mutex::new(ended));
        let sleeper = || {
            let ended = Arc::clone(&ended);
            move || drop(ended.lock().map(|ended| ended.recv()))
        };
        for _ in 0..2 {
            threads.spawn("test", STACK_BYTES, sleeper()).unwrap();
        }
        for _ in 0..2 {
            assert!(
                threads.spawn("test", STACK_BYTES, sleeper()).unwrap_err().to_string().contains("vm.max_map_count")
            );
        }
        drop(end);
        while threads.running.load(Relaxed) > 0 {
            thread::yield_now();
        }
        threads.spawn("test", STACK_BYTES, || ()).unwrap();
    }
}
