//! A connection's life, again and again: connecting, signing in, talking until it ends, waiting before the next attempt.

use super::conversation::Conversation;
use super::{Counts, Report};
use crossbeam_channel::Sender;
use fanfare_adapter::config::RedisAddress;
use fanfare_core::broker::redis::{Backoff, RedisConfig, Refusal, Role, Standing, explained_end, is_of_a_cluster};
use redis::{Cmd, Parser, RedisError, RedisResult, Value, cmd};
use rustix::net::sockopt::set_socket_linger;
use std::fmt::Display;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// A message above the configured limit is passed over once it has been read whole. One that is longer than this, too, ends the
/// connection: twice as much as Redis keeps for a subscriber (32 MB, `client-output-buffer-limit`) before it does so itself.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What stands around a message, or any other reply, in bytes.
const REPLY_BYTES_MAX: usize = 64 * 1024;

/// What a role's thread needs for all its connections.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) role: Role,
    pub(super) config: Arc<RedisConfig>,
    pub(super) counts: Arc<Counts>,
    address: RedisAddress,
    inbox: Sender<Report>,
    backoff: Backoff,
    /// Why there is no connection, as the hub was told last.
    told: Option<String>,
}

/// The server has ended: nobody is left to report to.
#[derive(Debug)]
pub(super) struct Over;

/// A connection that is signed in: the end that reads.
pub(super) struct Connection {
    pub(super) socket: Arc<Socket>,
    /// The server tells its role, which is worth asking for again.
    pub(super) tells_role: bool,
    parser: Parser,
    /// What was heard first.
    first: Vec<u8>,
}

/// Whether a step of signing in has to succeed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Needed,
    /// It is not worth a connection if it is not allowed; whether the server is willing shows all the same.
    Optional,
    /// It tells whether the server is of use.
    Role,
}

/// Keeps a copy of the first bytes that are read.
struct Noting<'a> {
    socket: &'a Socket,
    first: &'a mut Vec<u8>,
}

/// So many of them show who speaks there.
const FIRST_BYTES: usize = 8;

/// The socket, which several threads use.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Link {
    pub(super) fn new(
        role: Role,
        config: &Arc<RedisConfig>,
        address: &RedisAddress,
        counts: &Arc<Counts>,
        inbox: &Sender<Report>,
    ) -> Link {
        Link {
            role,
            config: Arc::clone(config),
            counts: Arc::clone(counts),
            address: address.clone(),
            inbox: inbox.clone(),
            backoff: Backoff::new(config.seed.wrapping_add(role as u64)),
            told: None,
        }
    }

    /// Starts the thread, which lasts as long as the server.
    pub(super) fn start(mut self) -> io::Result<()> {
        let run = move || {
            while let Ok(wait) = self.attempt() {
                thread::sleep(wait);
            }
        };
        thread::Builder::new().name("fanfare-redis".to_owned()).spawn(run).map(drop)
    }

    /// One connection, from the attempt to its end. Returns how long to wait before the next.
    fn attempt(&mut self) -> Result<Duration, Over> {
        let reason = match Connection::open(self) {
            Err(reason) => reason,
            Ok(connection) => {
                self.told = None;
                let since = Instant::now();
                let reason = Conversation::hold(self, connection)?;
                // Had it been shorter, a server that ends every connection soon would be visited again and again at once.
                if since.elapsed() >= self.config.backoff_max {
                    self.backoff.reset();
                }
                reason
            }
        };
        let reason = format!("Redis: {reason}");
        if self.told.as_ref() != Some(&reason) {
            self.told = Some(reason.clone());
            self.report(Report::Down(self.role, reason))?;
        }
        Ok(self.backoff.next(self.config.backoff_min, self.config.backoff_max))
    }

    pub(super) fn report(&self, report: Report) -> Result<(), Over> {
        self.inbox.send(report).map_err(|_| Over)
    }

    pub(super) fn reporter(&self) -> Sender<Report> {
        self.inbox.clone()
    }

    /// What went wrong, fit to be read.
    pub(super) fn reason(&self, error: &impl Display) -> String {
        self.config.printable_error(error.to_string().as_bytes())
    }
}

impl Connection {
    /// Connects and signs in. The error says why that cannot be, for people.
    fn open(link: &Link) -> Result<Connection, String> {
        let config = &link.config;
        let socket = Socket::connect(&link.address, config.connect_timeout)
            .map_err(|error| format!("cannot connect: {error}"))?;
        let mut connection =
            Connection { socket: Arc::new(socket), tells_role: false, parser: Parser::new(), first: Vec::new() };
        // It has the whole time, too: an address before this one that did not answer may have taken as much.
        connection.sign_in(link, Instant::now() + config.connect_timeout)?;
        // Whoever says nothing for so long has not even answered a PING.
        let silence_max = config.probe_interval + config.probe_timeout;
        connection.socket.set_timeouts(silence_max).map_err(|error| link.reason(&error))?;
        Ok(connection)
    }

    fn sign_in(&mut self, link: &Link, deadline: Instant) -> Result<(), String> {
        let config = &link.config;
        let mut steps = Vec::new();
        if config.password.is_some() {
            steps.push(("AUTH", Step::Needed, cmd("AUTH").arg(config.auth_arguments()).to_owned()));
        }
        if config.database != 0 {
            steps.push(("SELECT", Step::Needed, cmd("SELECT").arg(config.database).to_owned()));
        }
        steps.push((
            "CLIENT SETNAME",
            Step::Optional,
            cmd("CLIENT").arg("SETNAME").arg(&config.client_name).to_owned(),
        ));
        steps.push(("ROLE", Step::Role, cmd("ROLE")));
        steps.push(("PING", Step::Optional, cmd("PING")));
        let mut refusal = None;
        for (name, step, command) in steps {
            match self.ask(link, &command, deadline) {
                Ok(Value::ServerError(error)) => {
                    let error = error_text(&error);
                    let said = format!("{name} refused: {}", config.explained_error(error.as_bytes()));
                    if step == Step::Needed || Refusal::of_probe(error.as_bytes()) != Refusal::Lasting {
                        return Err(said);
                    }
                    refusal = Some(said);
                }
                Ok(Value::Array(role)) if step == Step::Role => self.check_role(link, &role, deadline)?,
                Ok(Value::Array(_)) => return Err("it answers what it was not asked".to_owned()),
                Ok(_) => {}
                Err(error) if error.is_timeout() => {
                    return Err(format!("set-up not finished within {} ms", config.connect_timeout.as_millis()));
                }
                // A server that takes nobody, or has no place, says so once and hangs up: that is the reason, not how it did.
                Err(error) => return Err(refusal.unwrap_or_else(|| self.end_of_set_up(name, link, &error))),
            }
        }
        Ok(())
    }

    fn ask(&mut self, link: &Link, command: &Cmd, deadline: Instant) -> RedisResult<Value> {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.socket.set_timeouts(left)?;
        (&mut &*self.socket).write_all(&command.get_packed_command())?;
        self.read(&link.config)
    }

    /// A replica is of no use, unless it is one of a cluster.
    fn check_role(&mut self, link: &Link, role: &[Value], deadline: Instant) -> Result<(), String> {
        self.tells_role = true;
        match standing(role) {
            Standing::Sentinel => Err(Standing::SENTINEL.to_owned()),
            Standing::Replica => match self.ask(link, cmd("INFO").arg("cluster"), deadline) {
                Ok(reply) if tells_cluster(&reply) => {
                    self.tells_role = false;
                    Ok(())
                }
                _ => Err(Standing::REPLICA.to_owned()),
            },
            _ => Ok(()),
        }
    }

    /// Why nothing came of this step.
    fn end_of_set_up(&self, name: &str, link: &Link, error: &RedisError) -> String {
        match self.first.first() {
            None if error.is_connection_dropped() || error.is_io_error() => explained_end("it closed the connection"),
            Some(first) if !b"+-:$*".contains(first) => {
                format!("{} ({})", RedisConfig::explained_stranger(&self.first), link.reason(error))
            }
            _ => format!("{name}: {}", link.reason(error)),
        }
    }

    /// Waits for the next thing that Redis says.
    pub(super) fn read(&mut self, config: &RedisConfig) -> RedisResult<Value> {
        // The parser keeps all of a reply, however long it says it is.
        let bytes_max = config.message_bytes_max.max(MESSAGE_BYTES_MAX) + REPLY_BYTES_MAX;
        let mut bounded = Noting { socket: &self.socket, first: &mut self.first }.take(bytes_max as u64);
        let outcome = self.parser.parse_value(&mut bounded);
        match bounded.limit() {
            0 => Err(io::Error::new(io::ErrorKind::InvalidData, "a reply is too large").into()),
            _ => outcome,
        }
    }
}

impl Read for Noting<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = (&mut &*self.socket).read(buffer)?;
        if self.first.len() < FIRST_BYTES {
            self.first.extend(buffer[..len].iter().take(FIRST_BYTES - self.first.len()));
        }
        Ok(len)
    }
}

/// What an answer to `ROLE` tells.
pub(super) fn standing(role: &[Value]) -> Standing {
    match role.first() {
        Some(Value::BulkString(word)) => Standing::named(word),
        Some(Value::SimpleString(word)) => Standing::named(word.as_bytes()),
        _ => Standing::Master,
    }
}

/// Whether the answer to `INFO cluster` is that of a node of one.
pub(super) fn tells_cluster(reply: &Value) -> bool {
    matches!(reply, Value::BulkString(text) if is_of_a_cluster(text))
}

/// As Redis said it.
pub(super) fn error_text(error: &redis::ServerError) -> String {
    format!("{} {}", error.code(), error.details().unwrap_or_default())
}

impl Socket {
    /// Tries one address after the other, and gives each the whole time.
    fn connect(address: &RedisAddress, time: Duration) -> io::Result<Socket> {
        let (host, port) = match address {
            RedisAddress::Unix { path } => return UnixStream::connect(path).map(Socket::Unix),
            RedisAddress::Tcp { host, port } => (host.as_str(), *port),
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

    fn set_timeouts(&self, time: Duration) -> io::Result<()> {
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
