//! A connection to a Redis or a Sentinel: its socket, TLS over it, and signing in. Commands and replies are encoded and parsed by the
//! `redis` crate, whose own connection takes no name for TLS but the host's, and waits for a handshake as long as it takes.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use fanfare_tls::{Failure, Progress, Session};
use redis::{ConnectionAddr, ConnectionLike, Parser, RedisError, RedisResult, Value, cmd};

use crate::redis_place::Access;
use crate::redis_trouble::reason;

/// Ciphertext that is read at once.
const READ_BYTES: usize = 16 * 1024;

/// A connection, which blocks for as long as its server may take for an answer.
pub(crate) struct RedisConnection {
    stream: Stream,
    parser: Parser,
    database: i64,
    is_open: bool,
}

impl RedisConnection {
    /// To this server, signed in. Connecting, the handshake of TLS and each answer may take this long. The error is why not, for people.
    pub(crate) fn open(server: &ConnectionAddr, access: &Access, time_max: Duration) -> Result<Self, String> {
        let password = access.sign_in.password()?;
        let tls = access.tls.as_ref().map(|tls| tls.session(server)).transpose()?;
        let socket = Socket::connect(server, time_max).map_err(|error| format!("no connection to Redis: {error}"))?;
        let mut stream = Stream { socket, tls: None };
        if let Some(session) = tls {
            stream.tls = Some(Tls { session, plaintext: Vec::new(), taken: 0, record: Vec::new() });
            stream.shake_hands(time_max).map_err(|error| error.to_string())?;
        }
        let mut connection = Self { stream, parser: Parser::new(), database: access.database, is_open: true };
        let told = |error: RedisError| reason(&error);
        if let Some(password) = password {
            let mut command = cmd("AUTH");
            if let Some(username) = &access.sign_in.username {
                command.arg(username);
            }
            command.arg(password.expose()).exec(&mut connection).map_err(told)?;
        }
        if access.database != 0 {
            cmd("SELECT").arg(access.database).exec(&mut connection).map_err(told)?;
        }
        Ok(connection)
    }

    fn send(&mut self, commands: &[u8]) -> RedisResult<()> {
        let sent = self.stream.write_all(commands);
        self.is_open &= sent.is_ok();
        Ok(sent?)
    }

    fn receive(&mut self) -> RedisResult<Value> {
        let value = self.parser.parse_value(&mut self.stream);
        self.is_open &= value.is_ok();
        value
    }
}

impl ConnectionLike for RedisConnection {
    fn req_packed_command(&mut self, command: &[u8]) -> RedisResult<Value> {
        self.send(command)?;
        self.receive()
    }

    /// What is skipped says that commands of a transaction wait. What says otherwise is the outcome, because Redis then does none of them.
    fn req_packed_commands(&mut self, commands: &[u8], skip: usize, count: usize) -> RedisResult<Vec<Value>> {
        self.send(commands)?;
        let mut replies = (0..skip + count).map(|_| self.receive()).collect::<RedisResult<Vec<Value>>>()?;
        if skip > 0 {
            let refused = replies.iter().find(|reply| matches!(reply, Value::ServerError(_)));
            refused.map_or(Ok(Value::Nil), |reply| reply.clone().extract_error())?;
        }
        Ok(replies.split_off(skip))
    }

    fn get_db(&self) -> i64 {
        self.database
    }

    fn check_connection(&mut self) -> bool {
        cmd("PING").exec(self).is_ok()
    }

    fn is_open(&self) -> bool {
        self.is_open
    }
}

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// Tries each address of the host.
    fn connect(server: &ConnectionAddr, time_max: Duration) -> io::Result<Socket> {
        let socket = match server {
            ConnectionAddr::Unix(path) => {
                let socket = UnixStream::connect(path)?;
                socket.set_read_timeout(Some(time_max))?;
                socket.set_write_timeout(Some(time_max))?;
                Socket::Unix(socket)
            }
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                let mut outcome = Err(io::Error::other("the host has no address"));
                for address in (host.as_str(), *port).to_socket_addrs()? {
                    outcome = connect(address, time_max);
                    if outcome.is_ok() {
                        break;
                    }
                }
                let socket = outcome?;
                socket.set_nodelay(true)?;
                socket.set_read_timeout(Some(time_max))?;
                socket.set_write_timeout(Some(time_max))?;
                Socket::Tcp(socket)
            }
            _ => return Err(io::ErrorKind::Unsupported.into()),
        };
        Ok(socket)
    }
}

/// A socket that meets itself is none: TCP lets it, where nobody listens on a port that the kernel may give to a client.
fn connect(address: SocketAddr, time_max: Duration) -> io::Result<TcpStream> {
    let socket = TcpStream::connect_timeout(&address, time_max)?;
    if socket.local_addr()? == address {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(socket)
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(socket) => socket.read(buffer),
            Socket::Unix(socket) => socket.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(socket) => socket.write(bytes),
            Socket::Unix(socket) => socket.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A socket, and TLS over it where that is spoken.
struct Stream {
    socket: Socket,
    tls: Option<Tls>,
}

struct Tls {
    session: Session,
    /// What has been decrypted, taken up to here.
    plaintext: Vec<u8>,
    taken: usize,
    record: Vec<u8>,
}

impl Stream {
    fn shake_hands(&mut self, time_max: Duration) -> io::Result<()> {
        let Stream { socket, tls: Some(tls) } = self else { return Ok(()) };
        let began = Instant::now();
        tls.flush(socket)?;
        while tls.session.is_handshaking() {
            let silent = || io::Error::new(io::ErrorKind::TimedOut, NO_HANDSHAKE);
            if began.elapsed() > time_max {
                return Err(silent());
            }
            match tls.take(socket) {
                Ok(true) => {}
                Ok(false) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) if is_timeout(&error) => return Err(silent()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// As the broker says it.
const NO_HANDSHAKE: &str = "TLS: no answer in time: does this port speak TLS?";

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

impl Tls {
    /// Takes what comes next of the server. Returns whether more may come.
    fn take(&mut self, socket: &mut Socket) -> io::Result<bool> {
        let mut ciphertext = [0; READ_BYTES];
        let bytes = socket.read(&mut ciphertext)?;
        if bytes == 0 {
            return Ok(false);
        }
        if self.taken == self.plaintext.len() {
            self.plaintext.clear();
            self.taken = 0;
        }
        let progress = self.session.read(&mut ciphertext[..bytes], &mut self.plaintext);
        let flushed = self.flush(socket);
        match progress {
            Progress::Open => flushed.map(|()| true),
            Progress::Closed => Ok(false),
            Progress::Failed(failure @ Failure::Malformed(_)) => Err(io::Error::other(format!(
                "what answers there speaks no TLS ({failure}): is it redis:// without it?"
            ))),
            Progress::Failed(failure) => Err(io::Error::other(format!("TLS: {failure}"))),
        }
    }

    /// Sends what the session has to say by itself.
    fn flush(&mut self, socket: &mut Socket) -> io::Result<()> {
        let is_all = self.session.flush(|bytes| socket.write(bytes))?;
        if is_all { Ok(()) } else { Err(io::ErrorKind::TimedOut.into()) }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.socket.read(buffer) };
        while tls.taken == tls.plaintext.len() {
            if tls.session.is_closed() || !tls.take(&mut self.socket)? && tls.taken == tls.plaintext.len() {
                return Ok(0);
            }
        }
        let bytes = (&tls.plaintext[tls.taken..]).read(buffer)?;
        tls.taken += bytes;
        Ok(bytes)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Stream { socket, tls: Some(tls) } = self else { return self.socket.write(bytes) };
        let written = tls.session.write(bytes, &mut tls.record, |record| socket.write(record))?;
        tls.flush(socket)?;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
