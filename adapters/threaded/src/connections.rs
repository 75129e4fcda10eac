//! The clients' sockets: a thread that reads each of them, writes that never wait, and threads that tell when a full socket takes
//! more.

use crate::client::Client;
use crate::inbox::{Inbound, Senders};
use fanfare_adapter::cost::Cost;
use fanfare_core::ConnId;
use fanfare_core::time::Time;
use fanfare_turn::Sockets;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, ioctl_fionread};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use std::thread;
use std::time::{Duration, Instant};

/// A thread here does little; what is not touched of its stack costs no memory.
const STACK_BYTES: usize = 64 * 1024;
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
    /// None yet, and no more than these threads. What they have to say goes to the inbox.
    pub fn new(inbox: Senders, threads: Threads) -> Connections {
        Connections {
            open: HashMap::new(),
            inbox,
            threads: Arc::new(threads),
            unwaited: Vec::new(),
            look_again_at: None,
        }
    }

    /// Keeps a new connection's socket, and starts the thread that reads it.
    ///
    /// # Errors
    /// If the system has no thread left. The socket is closed.
    pub fn insert(&mut self, conn: ConnId, client: Client) -> io::Result<()> {
        let connection = Arc::new(Connection {
            client,
            closed: AtomicBool::new(false),
            on_their_way: AtomicUsize::new(0),
            heavy: AtomicBool::new(false),
        });
        let (reader, inbox) = (Arc::clone(&connection), self.inbox.clone());
        self.threads.spawn("fanfare-read", move || reader.read(conn, &inbox))?;
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

    /// A full socket is rare, and a thread that comes and goes with it is cheaper than one that sleeps beside every reader.
    fn await_writable(&self, conn: ConnId, connection: Arc<Connection>) -> io::Result<()> {
        let inbox = self.inbox.clients.clone();
        self.threads.spawn("fanfare-wait", move || {
            // A socket that fails or is closed meanwhile counts as writable: the next write tells.
            while let Err(Errno::INTR) = poll(&mut [PollFd::new(&connection.client.stream, PollFlags::OUT)], None) {}
            // Nobody listens any more where the server has ended.
            let _ = inbox.send(Inbound::Writable(conn));
        })
    }
}

impl Sockets for Connections {
    /// Writes once, and does not wait: how much was taken, or `None` if the socket failed. Where that is not all, an
    /// [`Inbound::Writable`] follows.
    fn write(&mut self, conn: ConnId, bytes: &[u8]) -> Option<usize> {
        let Open { connection, .. } = self.open.get(&conn)?;
        let written = loop {
            match send(&connection.client.stream, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(written) => break written,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break 0,
                Err(_) => return None,
            }
        };
        if written < bytes.len() && self.await_writable(conn, Arc::clone(connection)).is_err() {
            self.unwaited.push(conn);
            self.look_again_at.get_or_insert_with(|| Instant::now() + LOOK_AGAIN);
        }
        Some(written)
    }

    /// Sends a FIN.
    fn shutdown(&mut self, conn: ConnId) {
        if let Some(Open { connection, .. }) = self.open.get(&conn) {
            // Fails only where the peer has gone, of which reading will tell.
            let _ = connection.client.stream.shutdown(Shutdown::Write);
        }
    }

    /// Ends the connection. Its threads notice and leave; with the last of them the descriptor is closed.
    fn close(&mut self, conn: ConnId) {
        if let Some(Open { connection, .. }) = self.open.remove(&conn) {
            connection.closed.store(true, Relaxed);
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

    fn spawn(self: &Arc<Threads>, name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let counted = Counted(Arc::clone(self));
        if self.running.fetch_add(1, Relaxed) >= self.max {
            return Err(io::Error::other(format!("{} threads are as many as vm.max_map_count allows", self.max)));
        }
        let work = move || {
            let _counted = counted;
            work();
        };
        thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(work).map(drop)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Relaxed);
    }
}

impl Connection {
    /// Reads until the end. A full inbox stops it, and so, once the kernel's buffers are full, the client.
    fn read(&self, conn: ConnId, inbox: &Senders) {
        let (mut stream, mut queue) = (&self.client.stream, &inbox.clients);
        let (mut short, mut long) = ([0; READ_BYTES], Vec::new());
        loop {
            let buffer = if long.is_empty() { &mut short[..] } else { &mut long[..] };
            match stream.read(buffer) {
                Ok(0) => break,
                Ok(bytes) => {
                    let filled = bytes == buffer.len();
                    let inbound = Inbound::Bytes(conn, buffer[..bytes].to_vec());
                    // It changes from one queue to the other where nothing that it said before is left in either.
                    if self.on_their_way.fetch_add(1, AcqRel) == 0 {
                        queue = if self.heavy.load(Relaxed) { &inbox.heavy } else { &inbox.clients };
                    }
                    if self.closed.load(Relaxed) || queue.send(inbound).is_err() {
                        return;
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
        let mut connections = Connections::new(inbox, Threads { running: AtomicUsize::new(0), max: 1 });
        let conn = ConnId::new(0, 1);
        connections.insert(conn, Client::new(stream, gate.admit())).unwrap();
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
            threads.spawn("test", sleeper()).unwrap();
        }
        for _ in 0..2 {
            assert!(threads.spawn("test", sleeper()).unwrap_err().to_string().contains("vm.max_map_count"));
        }
        drop(end);
        while threads.running.load(Relaxed) > 0 {
            thread::yield_now();
        }
        threads.spawn("test", || ()).unwrap();
    }
}
