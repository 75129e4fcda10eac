//! Thousands of clients in one thread, on one epoll: they join, count what they receive, and are checked for having received
//! exactly what was sent. Their connections are those of the load generator; what the server costs is `process`'s.

use std::borrow::Cow;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fanfare_bench::connection::{Connection, EVENTS_MAX, Heard, READ_BUFFER_BYTES};
use fanfare_bench::{Context, Error, Result};
use fanfare_wire as wire;
use mio::{Events, Poll, Token};

/// How many clients are on their way in at once: enough to keep a server busy without pause, well below the backlog
/// of any.
const JOINING_MAX: usize = 256;

/// Longer than a reconnection, a garbage collection and a busy neighbour together: whoever waits that long in vain
/// waits for something that is lost.
const PATIENCE: Duration = Duration::from_secs(30);

/// Clients of one server or one floor. Dropping it resets every connection, so that no port lingers.
pub struct Swarm {
    poll: Poll,
    events: Events,
    members: Vec<Member>,
    buffer: Box<[u8]>,
    counts: Counts,
    /// What clients ask of the server first.
    request: String,
}

/// What all clients together have heard.
#[derive(Default)]
struct Counts {
    /// How many are in all their rooms.
    joined: usize,
    messages: u64,
    /// Length on the wire of the latest message.
    message_bytes: usize,
    /// Of all messages.
    messages_bytes: u64,
}

/// One client.
struct Member {
    connection: Connection,
    /// Rooms that are not confirmed yet; none before it has asked for them.
    missing: usize,
    received: u64,
}

impl Swarm {
    /// No clients yet.
    pub fn new() -> Result<Swarm> {
        Ok(Swarm {
            poll: Poll::new().context("cannot make an epoll")?,
            events: Events::with_capacity(EVENTS_MAX),
            members: Vec::new(),
            buffer: vec![0; READ_BUFFER_BYTES].into(),
            counts: Counts::default(),
            request: wire::upgrade_request("/", ""),
        })
    }

    /// No clients yet; those to come have the server compress.
    pub fn compressing() -> Result<Swarm> {
        Ok(Swarm { request: wire::upgrade_request("/", wire::COMPRESSION_OFFER), ..Swarm::new()? })
    }

    /// Adds `count` clients of the Fanfare server at `address`, each in the rooms that `rooms` names for its index,
    /// and waits until every one is `SUBSCRIBED` to all of them.
    pub fn join(&mut self, address: SocketAddr, count: usize, rooms: impl Fn(usize) -> Vec<String>) -> Result<()> {
        let target = self.members.len() + count;
        let mut heard_at = Instant::now();
        while self.counts.joined < target {
            while self.members.len() < target && self.members.len() - self.counts.joined < JOINING_MAX {
                let mut connection = self.open(address)?;
                connection.unsent().extend_from_slice(self.request.as_bytes());
                self.add(connection)?;
            }
            let before = self.counts.joined;
            self.turn(Duration::from_secs(1), &rooms)?;
            if self.counts.joined > before {
                heard_at = Instant::now();
            } else if heard_at.elapsed() > PATIENCE {
                return Err(Error::new(format!("after {} of {target} clients no more got in", self.counts.joined)));
            }
        }
        Ok(())
    }

    /// Adds `count` bare connections to `address`, in batches of at most `batch`; `accept` has the other side take each.
    pub fn attach(
        &mut self,
        address: SocketAddr,
        count: usize,
        batch: usize,
        mut accept: impl FnMut(usize) -> Result<()>,
    ) -> Result<()> {
        let mut left = count;
        while left > 0 {
            let now = left.min(batch);
            for _ in 0..now {
                let connection = self.open(address)?.without_upgrade();
                self.add(connection)?;
                self.counts.joined += 1;
            }
            accept(now)?;
            left -= now;
        }
        Ok(())
    }

    /// Has client `member` send `message` to `room`.
    pub fn publish(&mut self, member: usize, room: &str, message: &str) -> Result<()> {
        let mut frame = Vec::new();
        wire::write_send_message(room, message, &mut frame);
        self.members[member].send(&frame)
    }

    /// Has client `member` send `message`, which is JSON, to `room`.
    pub fn publish_json(&mut self, member: usize, room: &str, message: &str) -> Result<()> {
        let mut frame = Vec::new();
        wire::write_send_json(room, message, &mut frame);
        self.members[member].send(&frame)
    }

    /// Waits until all clients together have received `total` messages since they came.
    pub fn wait_for_messages(&mut self, total: u64) -> Result<()> {
        self.wait_for_each_message(total, &mut |_, _| Ok(()))
    }

    /// The same, showing `hear` every message.
    pub fn wait_for_each_message(&mut self, total: u64, hear: &mut Hear<'_>) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.counts.messages < total {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::new(format!(
                    "{} of {total} messages arrived within {PATIENCE:?}",
                    self.counts.messages
                )));
            }
            self.turn_hearing(left, &no_rooms, hear)?;
        }
        Ok(())
    }

    /// Checks that every client has received exactly `each` messages.
    pub fn check_each_received(&self, each: u64) -> Result<()> {
        match self.members.iter().position(|member| member.received != each) {
            None => Ok(()),
            Some(index) => Err(Error::new(format!(
                "client {index} received {} messages instead of {each}",
                self.members[index].received
            ))),
        }
    }

    /// Answers pings for a while.
    pub fn idle(&mut self, time: Duration) -> Result<()> {
        let deadline = Instant::now() + time;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.turn(left, &no_rooms)?;
        }
    }

    /// Length on the wire of all messages that all clients have received.
    pub fn messages_bytes(&self) -> u64 {
        self.counts.messages_bytes
    }

    /// Length on the wire of the latest message.
    pub fn message_bytes(&self) -> usize {
        self.counts.message_bytes
    }

    fn open(&self, address: SocketAddr) -> Result<Connection> {
        let index = self.members.len();
        Connection::open(address, self.poll.registry(), Token(index))
            .context(format!("client {index} cannot connect to {address}"))
    }

    /// Adds a client, and sends what it has to say already.
    fn add(&mut self, connection: Connection) -> Result<()> {
        let mut member = Member { connection, missing: 0, received: 0 };
        member.flush().context(format_args!("client {}", self.members.len()))?;
        self.members.push(member);
        Ok(())
    }

    /// Waits for bytes, at most `time`, and shows `hear` every message that has come: the client's index and the text.
    pub fn listen(&mut self, time: Duration, hear: &mut Hear<'_>) -> Result<()> {
        self.turn_hearing(time, &no_rooms, hear)
    }

    /// Waits for bytes, at most `time`, and takes all that have come.
    fn turn(&mut self, time: Duration, rooms: &RoomsOf<'_>) -> Result<()> {
        self.turn_hearing(time, rooms, &mut |_, _| Ok(()))
    }

    fn turn_hearing(&mut self, time: Duration, rooms: &RoomsOf<'_>, hear: &mut Hear<'_>) -> Result<()> {
        match self.poll.poll(&mut self.events, Some(time)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            result => result.context("cannot wait for events")?,
        }
        for event in &self.events {
            let index = event.token().0;
            let member = &mut self.members[index];
            let hear = &mut |text: &[u8]| hear(index, text);
            let turned = match event.is_readable() {
                true => member.read(&mut self.buffer, &mut self.counts, &|| rooms(index), hear),
                false => member.flush(),
            };
            turned.context(format_args!("client {index}"))?;
        }
        Ok(())
    }
}

/// What is done with each message: the client's index and the text.
pub type Hear<'a> = dyn FnMut(usize, &[u8]) -> Result<()> + 'a;

/// The same for one client.
type HearOne<'a> = dyn FnMut(&[u8]) -> Result<()> + 'a;

/// The rooms that the client with this index is to join.
type RoomsOf<'a> = dyn Fn(usize) -> Vec<String> + 'a;

/// Those of clients that are all joined already.
fn no_rooms(_: usize) -> Vec<String> {
    Vec::new()
}

impl Member {
    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.connection.unsent().extend_from_slice(bytes);
        self.flush()
    }

    fn flush(&mut self) -> Result<()> {
        self.connection.flush()?;
        self.connection.trim();
        Ok(())
    }

    fn read(
        &mut self,
        buffer: &mut [u8],
        counts: &mut Counts,
        rooms: &dyn Fn() -> Vec<String>,
        hear: &mut HearOne<'_>,
    ) -> Result<()> {
        let Member { connection, missing, received } = self;
        connection.read(buffer, |heard, unsent| {
            let Heard::Text(frame) = heard else {
                let rooms = rooms();
                rooms.iter().for_each(|room| wire::write_subscribe(room, unsent));
                *missing = rooms.len();
                return Ok(());
            };
            let text = if frame.is_compressed() {
                Cow::Owned(wire::inflate(frame.payload, READ_BUFFER_BYTES)?)
            } else {
                Cow::Borrowed(frame.payload)
            };
            if text.starts_with(wire::MESSAGE_PREFIX) {
                hear(&text)?;
                *received += 1;
                counts.messages += 1;
                counts.message_bytes = frame.wire_bytes;
                counts.messages_bytes += frame.wire_bytes as u64;
            } else if text.starts_with(wire::SUBSCRIBED_PREFIX) && *missing > 0 {
                *missing -= 1;
                counts.joined += usize::from(*missing == 0);
            } else if text.starts_with(wire::ERROR_PREFIX) {
                return Err(Error::new(format!("the server answered {}", String::from_utf8_lossy(&text))));
            }
            Ok(())
        })?;
        self.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// A server of one client, that says `script` byte by byte once it has a SUBSCRIBE for each of `rooms`, and returns the
    /// answer's first bytes.
    fn scripted(rooms: &'static [&str], script: Vec<u8>) -> (SocketAddr, thread::JoinHandle<[u8; 2]>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            socket.set_nodelay(true).unwrap();
            let mut request = vec![0; wire::upgrade_request("/", "").len()];
            socket.read_exact(&mut request).unwrap();
            let (mut upgraded, mut subscribe) = (Vec::new(), Vec::new());
            wire::write_upgraded(&mut upgraded);
            socket.write_all(&upgraded).unwrap();
            rooms.iter().for_each(|room| wire::write_subscribe(room, &mut subscribe));
            socket.read_exact(&mut subscribe).unwrap();
            for byte in script {
                socket.write_all(&[byte]).unwrap();
            }
            let mut answer = [0; 2];
            socket.read_exact(&mut answer).unwrap();
            answer
        });
        (address, server)
    }

    fn text(payload: &str) -> Vec<u8> {
        wire::Frame::text(payload).unmasked()
    }

    #[test]
    fn messages_are_counted_and_pings_answered_however_the_bytes_are_split() {
        let message = text(r#"{"type":"MESSAGE","room":"r","message":"m"}"#);
        let script = [text(r#"{"type":"SUBSCRIBED","room":"r"}"#), message.clone(), message.clone(), vec![0x89, 0]];
        let (address, server) = scripted(&["r"], script.concat());
        let mut swarm = Swarm::new().unwrap();
        swarm.join(address, 1, |_| vec!["r".to_owned()]).unwrap();
        swarm.wait_for_messages(2).unwrap();
        assert_eq!(swarm.message_bytes(), message.len());
        assert!(swarm.check_each_received(2).is_ok() && swarm.check_each_received(1).is_err());
        // The ping is on its way: its answer lets the server end, which ends the connection.
        assert!(swarm.idle(PATIENCE).is_err());
        assert_eq!(server.join().unwrap(), [0x8A, 0x80]);
    }

    #[test]
    fn a_client_has_joined_when_each_of_its_rooms_is_confirmed() {
        let [first, message, second] = [
            r#"{"type":"SUBSCRIBED","room":"r"}"#,
            r#"{"type":"MESSAGE","room":"r","message":"m"}"#,
            r#"{"type":"SUBSCRIBED","room":"s"}"#,
        ]
        .map(text);
        let (address, _server) = scripted(&["r", "s"], [first, message, second].concat());
        let mut swarm = Swarm::new().unwrap();
        swarm.join(address, 1, |_| ["r", "s"].map(str::to_owned).to_vec()).unwrap();
        assert!(swarm.check_each_received(1).is_ok());
    }

    #[test]
    fn an_error_of_the_server_is_reported_in_its_words() {
        let (address, _server) = scripted(&["r"], text(r#"{"type":"ERROR","code":"room_invalid","reason":"no"}"#));
        let error = Swarm::new().unwrap().join(address, 1, |_| vec!["r".to_owned()]).unwrap_err();
        assert!(error.to_string().contains("room_invalid"), "{error}");
    }
}
