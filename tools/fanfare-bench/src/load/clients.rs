//! The clients of a load: members that listen and publishers that send, in one thread, on one epoll. Frames are read in
//! place by `connection`; what messages mean is `traffic`'s.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fanfare_tls::{Connector, ServerName};
use fanfare_wire as wire;
use mio::net::TcpStream;
use mio::{Events, Poll, Token};
use serde_json::Value;

use super::timer::Timer;
use super::traffic::Traffic;
use crate::connection::{Connection, EVENTS_MAX, End, Heard, READ_BUFFER_BYTES};
use crate::{Context, Error, Result, floor};

/// What a publisher may have to send and cannot. A server that reads nothing for so long is out of step with the load.
const UNSENT_BYTES_MAX: usize = 64 << 20;

const TIMER: Token = Token(usize::MAX - 1);

/// Whom clients connect to.
#[derive(Debug)]
pub struct Target {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it is.
    pub kind: Kind,
}

/// Who listens, and so what is said to it.
#[derive(Debug)]
pub enum Kind {
    /// A server.
    Server {
        /// What it is called, with the port if one is given.
        host: String,
        /// Where it has WebSockets, with the query if there is one.
        path: String,
        /// By what it is known, and its name, where TLS is spoken with it.
        tls: Option<(Connector, ServerName<'static>)>,
    },
    /// The bare loop of `send`. Its one publisher is the connection for commands, and its members say nothing.
    Floor(std::net::TcpStream),
}

/// How members get into their rooms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joining {
    /// By a `SUBSCRIBE` for each, once they are upgraded.
    ByCommand,
    /// By the query of the upgrade.
    ByUrl,
}

/// All connections of a run: the publishers first, the members behind them. Dropping it resets every one, so that no
/// port lingers.
pub struct Clients {
    poll: Poll,
    events: Events,
    sockets: Sockets,
    timer: Timer,
}

struct Sockets {
    address: SocketAddr,
    /// Host and path of a server's WebSockets; none where the floor takes its place.
    server: Option<(String, String)>,
    tls: Option<(Connector, ServerName<'static>)>,
    joining: Joining,
    connections: Vec<Client>,
    publishers: usize,
    ready: usize,
    buffer: Box<[u8]>,
    /// Moments are counted from here.
    epoch: Instant,
    /// Publishers with something new to send.
    fed: Vec<usize>,
    /// What the floor is to send next.
    frame: Vec<u8>,
}

struct Client {
    connection: Connection,
    stage: Stage,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    Connecting,
    /// The request asks for so many rooms; where it is none, they are asked for when the response is there.
    Upgrading(u32),
    /// Some of its rooms are not confirmed yet.
    Subscribing(Awaited),
    Ready,
}

/// Which of a member's rooms are not confirmed yet, and how many those are.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Awaited {
    rooms: Box<[bool]>,
    left: u32,
}

impl Awaited {
    fn new(rooms: u32) -> Awaited {
        Awaited { rooms: vec![true; rooms as usize].into(), left: rooms }
    }
}

impl Clients {
    /// None yet; the first `publishers` that are opened will send, the others join their rooms and listen.
    pub fn new(target: Target, publishers: usize, joining: Joining) -> Result<Clients> {
        let poll = Poll::new().context("cannot make an epoll")?;
        let timer = Timer::new(poll.registry(), TIMER)?;
        let (server, tls, commands) = match target.kind {
            Kind::Server { host, path, tls } => (Some((host, path)), tls, None),
            Kind::Floor(commands) => (None, None, Some(commands)),
        };
        let sockets = Sockets {
            address: target.address,
            server,
            tls,
            joining,
            connections: Vec::new(),
            publishers,
            ready: 0,
            buffer: vec![0; READ_BUFFER_BYTES].into(),
            epoch: Instant::now(),
            fed: Vec::new(),
            frame: Vec::new(),
        };
        let mut clients = Clients { poll, events: Events::with_capacity(EVENTS_MAX), sockets, timer };
        if let Some(commands) = commands {
            commands.set_nonblocking(true).context("cannot command the floor")?;
            clients.add(TcpStream::from_std(commands))?;
        }
        Ok(clients)
    }

    /// ns since these clients were made.
    pub fn now(&self) -> u64 {
        self.sockets.now()
    }

    /// How many connections there are, and how many of them are ready: upgraded, and in their rooms.
    pub fn counts(&self) -> (usize, usize) {
        (self.sockets.connections.len(), self.sockets.ready)
    }

    /// Begins one more connection.
    pub fn open(&mut self) -> Result<()> {
        let index = self.sockets.connections.len();
        let connected = TcpStream::connect(self.sockets.address);
        let explain = |error| self.sockets.explain(index, &self.sockets.cannot_connect(&error));
        self.add(connected.map_err(explain)?)
    }

    /// What the first of those waits for that are not ready.
    pub fn what_is_missing(&self) -> Option<String> {
        let (index, connection) =
            self.sockets.connections.iter().enumerate().find(|(_, connection)| connection.stage != Stage::Ready)?;
        let name = self.sockets.name(index);
        Some(match &connection.stage {
            Stage::Subscribing(awaited) => {
                format!("no SUBSCRIBED has come for {} of the rooms of {name}", awaited.left)
            }
            Stage::Upgrading(_) => format!("{name} has had no answer to its request for an upgrade"),
            Stage::Connecting | Stage::Ready => format!("{name} is not connected"),
        })
    }

    fn add(&mut self, stream: TcpStream) -> Result<()> {
        let index = self.sockets.connections.len();
        let connection = Connection::over(stream, self.poll.registry(), Token(index))
            .context(format!("cannot set up {}", self.sockets.name(index)))?;
        let connection = match (&self.sockets.server, &self.sockets.tls) {
            (None, _) => connection.without_upgrade(),
            (Some(_), None) => connection,
            (Some(_), Some((connector, name))) => {
                connection.by_tls(connector.session(name.clone()).context("cannot begin with TLS")?)
            }
        };
        self.sockets.connections.push(Client { connection, stage: Stage::Connecting });
        Ok(())
    }

    /// Sends what is due, waits for bytes until `until` at the latest (in ns, like [`Clients::now`]), and takes all that
    /// have come. Returns earlier where a signal or a message that is due interrupts it.
    pub fn turn(&mut self, traffic: &mut Traffic, until: u64) -> Result<()> {
        let now = self.now();
        self.sockets.send_due(traffic, now)?;
        self.timer.set(traffic.next_due().map(|due| (due, due.saturating_sub(now))))?;
        match self.poll.poll(&mut self.events, Some(Duration::from_nanos(until.saturating_sub(now)))) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            result => result.context("cannot wait for events")?,
        }
        for event in &self.events {
            let Token(index) = event.token();
            if event.token() == TIMER {
                self.timer.rang();
                let now = self.sockets.now();
                self.sockets.send_due(traffic, now)?;
                continue;
            }
            let sockets = &mut self.sockets;
            if event.is_writable() {
                sockets.writable(index, traffic).map_err(|error| sockets.explain(index, &error))?;
            }
            if event.is_readable() {
                sockets.read(index, traffic).map_err(|error| sockets.explain(index, &error))?;
            }
        }
        Ok(())
    }
}

impl Sockets {
    fn now(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    fn name(&self, index: usize) -> String {
        match index.checked_sub(self.publishers) {
            Some(member) => format!("connection {member}"),
            None => format!("publisher {index}"),
        }
    }

    fn explain(&self, index: usize, error: &Error) -> Error {
        Error::new(format!("{}: {error}", self.name(index)))
    }

    fn cannot_connect(&self, error: &std::io::Error) -> Error {
        let advice = match error.kind() {
            ErrorKind::AddrNotAvailable => {
                "; all local ports towards this server are taken (net.ipv4.ip_local_port_range)"
            }
            ErrorKind::ConnectionRefused => "; nobody listens there",
            _ => "",
        };
        Error::new(format!("cannot connect to {}: {error}{advice}", self.address))
    }

    /// Hands every message that is due to its publisher, and sends all of them.
    #[inline]
    fn send_due(&mut self, traffic: &mut Traffic, now: u64) -> Result<()> {
        while let Some(message) = traffic.next(now) {
            let unsent = self.connections[message.publisher].connection.unsent();
            let (room, text) = traffic.text(&message);
            if self.server.is_some() {
                wire::write_send_message(room, text, unsent);
            } else {
                self.frame.clear();
                wire::write_message(room, text, &mut self.frame);
                // There are fewer rooms than 32 bits can count: `Traffic::new` has checked it.
                floor::write_send(message.room as u32, &self.frame, unsent);
            }
            if unsent.len() > UNSENT_BYTES_MAX {
                let error = Error::new("the server does not take messages as fast as they are sent");
                return Err(self.explain(message.publisher, &error));
            }
            self.fed.push(message.publisher);
        }
        while let Some(publisher) = self.fed.pop() {
            self.connections[publisher].flush().map_err(|error| self.explain(publisher, &error))?;
        }
        Ok(())
    }

    fn writable(&mut self, index: usize, traffic: &Traffic) -> Result<()> {
        if self.connections[index].stage != Stage::Connecting {
            return self.connections[index].flush();
        }
        match self.connections[index].connection.is_established() {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) => return Err(self.cannot_connect(&error)),
        }
        let member = index.checked_sub(self.publishers);
        let client = &mut self.connections[index];
        if let Some((host, path)) = &self.server {
            let asking = member.filter(|_| self.joining == Joining::ByUrl);
            return client.upgrade(host, path, asking, traffic);
        }
        client.stage = Stage::Ready;
        self.ready += 1;
        Ok(())
    }

    fn read(&mut self, index: usize, traffic: &mut Traffic) -> Result<()> {
        loop {
            let client = &mut self.connections[index];
            if client.stage == Stage::Connecting {
                // Refused: that it can be read tells the same as that it can be written.
                return Ok(());
            }
            let Some(count) = client.connection.receive(&mut self.buffer)? else { return Ok(()) };
            // Once for everything that came together: a clock costs more than a frame.
            let now = self.epoch.elapsed().as_nanos() as u64;
            let member = index.checked_sub(self.publishers);
            self.ready += usize::from(client.take(&self.buffer[..count], member, traffic, now)?);
            self.send_due(traffic, now)?;
            // The socket is empty, and whatever comes next makes a new event: no need to ask for a WouldBlock.
            if count < self.buffer.len() && !self.connections[index].connection.has_more() {
                return Ok(());
            }
        }
    }
}

impl Client {
    fn flush(&mut self) -> Result<()> {
        self.connection.flush()?;
        Ok(())
    }

    /// Takes bytes that have come, and says whether they made it ready.
    fn take(&mut self, data: &[u8], member: Option<usize>, traffic: &mut Traffic, now: u64) -> Result<bool> {
        let Client { connection, stage } = self;
        let (was_ready, was_upgraded) = (*stage == Stage::Ready, connection.is_upgraded());
        let taken = connection.take(data, &mut |heard, unsent| {
            let Heard::Text(frame) = heard else {
                stage.upgraded(member, traffic, unsent);
                return Ok(());
            };
            match member {
                Some(member) if traffic.hear(member, frame.payload, frame.wire_bytes, now)? => Ok(()),
                _ => stage.hear_other(frame.payload, member, traffic),
            }
        });
        taken.map_err(explained)?;
        let is_ready = *stage == Stage::Ready;
        self.flush()?;
        if !was_upgraded && self.connection.is_upgraded() {
            // Tens of thousands of these buffers would lie idle from now on.
            self.connection.trim();
        }
        Ok(!was_ready && is_ready)
    }

    /// Asks for a WebSocket, and for the rooms of a member that is `asking` for them already.
    fn upgrade(&mut self, host: &str, path: &str, asking: Option<usize>, traffic: &Traffic) -> Result<()> {
        let mut rooms = 0;
        let names = asking.into_iter().flat_map(|member| traffic.rooms_of(member)).inspect(|_| rooms += 1);
        let request = wire::upgrade_request_to(host, &wire::path_joining(path, names), "");
        self.stage = Stage::Upgrading(rooms);
        self.connection.unsent().extend_from_slice(request.as_bytes());
        self.flush()
    }
}

impl Stage {
    /// The upgrade is accepted: asks for the rooms that have not been asked for.
    fn upgraded(&mut self, member: Option<usize>, traffic: &Traffic, unsent: &mut Vec<u8>) {
        *self = match (&self, member) {
            // Some or all of the answers may stand right behind the response.
            (Stage::Upgrading(rooms @ 1..), _) => Stage::Subscribing(Awaited::new(*rooms)),
            (_, None) => Stage::Ready,
            (_, Some(member)) => {
                let mut rooms = 0;
                for room in traffic.rooms_of(member) {
                    wire::write_subscribe(room, unsent);
                    rooms += 1;
                }
                Stage::Subscribing(Awaited::new(rooms))
            }
        };
    }

    /// Takes note that the server says that `room` has been joined.
    fn confirmed(&mut self, member: Option<usize>, room: &str, traffic: &Traffic) -> Result<()> {
        let nth = member.and_then(|member| traffic.nth_room_called(member, room));
        let (Stage::Subscribing(awaited), Some(nth)) = (&mut *self, nth) else {
            return Err(Error::new(format!("SUBSCRIBED came for '{room}', which it did not ask to join")));
        };
        if !std::mem::take(&mut awaited.rooms[nth]) {
            return Err(Error::new(format!("SUBSCRIBED came twice for '{room}'")));
        }
        awaited.left -= 1;
        if awaited.left == 0 {
            *self = Stage::Ready;
        }
        Ok(())
    }

    /// Acts on a text that is no message of the load.
    fn hear_other(&mut self, payload: &[u8], member: Option<usize>, traffic: &mut Traffic) -> Result<()> {
        match Reply::of(payload) {
            Reply::Subscribed(room) => self.confirmed(member, &room, traffic),
            Reply::Error => {
                let text = String::from_utf8_lossy(payload);
                let advice = if text.contains("too_fast") { TOO_FAST } else { "" };
                Err(Error::new(format!("the server answered {text}{advice}")))
            }
            Reply::Message => {
                traffic.check_foreign(member, payload)?;
                traffic.hear_foreign();
                Ok(())
            }
            Reply::Other => traffic.check_foreign(member, payload),
        }
    }
}

/// The end of a connection, with what to do about it.
fn explained(end: End) -> Error {
    let advice = match end {
        End::Closed(4029, _) => TOO_FAST,
        End::Closed(4008, _) => "\n  The members cannot read as fast as the server sends: lower --rate or --in-flight.",
        _ => "",
    };
    Error::new(format!("{}{advice}", Error::from(end)))
}

/// What a text is that is no message of the load.
enum Reply {
    /// The room with this name has been joined.
    Subscribed(String),
    Error,
    Message,
    Other,
}

impl Reply {
    fn of(text: &[u8]) -> Reply {
        let value: Option<Value> = serde_json::from_slice(text).ok();
        match value.as_ref().and_then(|value| value["type"].as_str()) {
            Some("SUBSCRIBED") => {
                let room = value.as_ref().and_then(|value| value["room"].as_str());
                Reply::Subscribed(room.unwrap_or_default().to_owned())
            }
            Some("ERROR") => Reply::Error,
            Some("MESSAGE") => Reply::Message,
            _ => Reply::Other,
        }
    }
}

/// What to do about a limit that a publisher has run into.
const TOO_FAST: &str = "\n  A publisher sends more than the server lets one connection send: more --publishers or a \
lower --rate share it out, and limits.messages_per_second = 0 and limits.bytes_per_second = 0 lift the limit.";
