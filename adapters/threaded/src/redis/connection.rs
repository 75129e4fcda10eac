//! A connection: signing in, and the replies that come on it.

use super::context::LinkContext;
use super::socket::Socket;
use fanfare_core::broker::redis::history::{self, Script};
use fanfare_core::broker::redis::resp::Reply;
use fanfare_core::broker::redis::{Complaints, RedisConfig, Refusal, Standing, explained_end, is_of_a_cluster, stores};
use redis::{Cmd, Parser, RedisError, RedisResult, Value, cmd};
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A message above the configured limit is passed over once it has been read whole. One that is longer than this, too, ends the
/// connection: twice as much as Redis keeps for a subscriber (32 MB, `client-output-buffer-limit`) before it does so itself.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What stands around a message, or any other reply, in bytes.
const REPLY_BYTES_MAX: usize = 64 * 1024;

/// A connection that is signed in: the end that reads.
pub(super) struct Connection {
    pub(super) socket: Arc<Socket>,
    /// The server tells its role, which is worth asking for again.
    pub(super) tells_role: bool,
    /// Why there are no histories of rooms on it.
    pub(super) unloaded: Option<String>,
    /// Why Redis may evict them.
    pub(super) eviction: Option<String>,
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
    /// For the histories of rooms. Without them everything else goes on.
    Load(Script),
    /// It tells whether they may be evicted.
    Memory,
}

/// Keeps a copy of the first bytes that are read.
struct Noting<'a> {
    socket: &'a Socket,
    first: &'a mut Vec<u8>,
}

/// So many of them show who speaks there.
const FIRST_BYTES: usize = 8;

impl Connection {
    /// Connects and signs in. The error says why that cannot be, for people.
    pub(super) fn open(link: &LinkContext) -> Result<Connection, String> {
        let config = &link.config;
        let socket = Socket::connect(&link.config.address, config.connect_timeout)
            .map_err(|error| format!("cannot connect: {error}"))?;
        let mut connection = Connection {
            socket: Arc::new(socket),
            tells_role: false,
            unloaded: None,
            eviction: None,
            parser: Parser::new(),
            first: Vec::new(),
        };
        // It has the whole time, too: an address before this one that did not answer may have taken as much.
        connection.sign_in(link, Instant::now() + config.connect_timeout)?;
        // Whoever says nothing for so long has not even answered a PING.
        let silence_max = config.probe_interval + config.probe_timeout;
        connection.socket.set_timeouts(silence_max).map_err(|error| link.reason(&error))?;
        Ok(connection)
    }

    fn sign_in(&mut self, link: &LinkContext, deadline: Instant) -> Result<(), String> {
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
        for script in Script::ALL.into_iter().filter(|_| link.loads_scripts()) {
            let load = cmd("SCRIPT").arg("LOAD").arg(script.source()).to_owned();
            steps.push(("SCRIPT LOAD", Step::Load(script), load));
        }
        if link.loads_scripts() {
            steps.push(("INFO", Step::Memory, cmd("INFO").arg("memory").to_owned()));
        }
        let mut refusal = None;
        for (name, step, command) in steps {
            match (self.ask(link, &command, deadline), step) {
                // Whoever is not told is not warned.
                (Ok(reply), Step::Memory) => {
                    if let Value::BulkString(text) = &reply {
                        self.eviction = Complaints::eviction(text, config);
                    }
                }
                (Ok(Value::ServerError(error)), step) => {
                    let error = error_text(&error);
                    let said = format!("{name} refused: {}", config.explained_error(error.as_bytes()));
                    if step == Step::Needed || Refusal::of_probe(error.as_bytes()) != Refusal::Lasting {
                        return Err(said);
                    }
                    match step {
                        Step::Load(_) => self.unloaded = Some(said),
                        _ => refusal = Some(said),
                    }
                }
                (Ok(reply), Step::Load(script)) => {
                    if let Err(reason) = history::loaded(script, &reply_of(&reply), config) {
                        self.unloaded = Some(reason);
                    }
                }
                (Ok(Value::Array(role)), Step::Role) => self.check_role(link, &role, deadline)?,
                (Ok(Value::Array(_)), _) => return Err("it answers what it was not asked".to_owned()),
                (Ok(_), _) => {}
                (Err(error), _) if error.is_timeout() => {
                    return Err(format!("set-up not finished within {} ms", config.connect_timeout.as_millis()));
                }
                // A server that takes nobody, or has no place, says so once and hangs up: that is the reason, not how it did.
                (Err(error), _) => return Err(refusal.unwrap_or_else(|| self.end_of_set_up(name, link, &error))),
            }
        }
        Ok(())
    }

    fn ask(&mut self, link: &LinkContext, command: &Cmd, deadline: Instant) -> RedisResult<Value> {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.socket.set_timeouts(left)?;
        (&mut &*self.socket).write_all(&command.get_packed_command())?;
        self.read(&link.config)
    }

    /// A replica is of no use, unless it is one of a cluster.
    fn check_role(&mut self, link: &LinkContext, role: &[Value], deadline: Instant) -> Result<(), String> {
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
    fn end_of_set_up(&self, name: &str, link: &LinkContext, error: &RedisError) -> String {
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
        let page_bytes_max = if config.keeps_history { stores::page_bytes_max(config) } else { 0 };
        let bytes_max = config.message_bytes_max.max(MESSAGE_BYTES_MAX).max(page_bytes_max) + REPLY_BYTES_MAX;
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

/// As the core knows replies. What has no place in the lists that scripts reply, nor is a script's name, is nothing.
pub(super) fn reply_of(value: &Value) -> Reply<'_> {
    match value {
        Value::Int(number) => Reply::Integer(*number),
        Value::BulkString(text) => Reply::Bulk(text),
        Value::SimpleString(text) => Reply::Simple(text.as_bytes()),
        _ => Reply::Null,
    }
}

/// As Redis said it.
pub(super) fn error_text(error: &redis::ServerError) -> String {
    format!("{} {}", error.code(), error.details().unwrap_or_default())
}
