//! Thousands of clients in one thread, on one epoll: they join, count what they receive, answer pings, and are checked
//! for having received exactly what was sent. The bytes are `wire`'s; what the server costs is `process`'s.

use std::borrow::Cow;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fanfare_bench::{Context, Error, Result};
use fanfare_wire as wire;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

/// How many clients are on their way in at once: enough to keep a server busy without pause, well below the backlog
/// of any.
const JOINING_MAX: usize = 256;

/// Bytes read at once. Longer than any run of frames between two rounds of a benchmark that sends one at a time.
const READ_BUFFER_BYTES: usize = 64 * 1024;

/// Events taken at once; a wait that brings more brings the rest next time.
const EVENTS_MAX: usize = 1024;

/// Longer than a reconnection, a garbage collection and a busy neighbour together: whoever waits that long in vain
/// waits for something that is lost.
const PATIENCE: Duration = Duration::from_secs(30);

/// Clients of one server or one floor. Dropping it resets every connection, so that no port lingers.
pub struct Swarm {
    poll: Poll,
    events: Events,
    members: Vec<Member>,
    buffer: Box<[u8]>,
    joined: usize,
    received: u64,
    /// Length on the wire of the latest message.
    message_bytes: usize,
    /// Of all messages.
    messages_bytes: u64,
    /// What clients ask of the server first.
    request: String,
}

/// One client.
struct Member {
    stream: TcpStream,
    stage: Stage,
    received: u64,
    /// The start of a frame whose end has not come yet; almost always empty, and then without memory.
    unfinished: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Upgrading,
    /// So many rooms are not confirmed yet.
    Subscribing(usize),
    Joined,
}

impl Swarm {
    /// No clients yet.
    pub fn new() -> Result<Swarm> {
        Ok(Swarm {
            poll: Poll::new().context("cannot make an epoll")?,
            events: Events::with_capacity(EVENTS_MAX),
            members: Vec::new(),
            buffer: vec![0; READ_BUFFER_BYTES].into(),
            joined: 0,
            received: 0,
            message_bytes: 0,
            messages_bytes: 0,
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
        while self.joined < target {
            while self.members.len() < target && self.members.len() - self.joined < JOINING_MAX {
                let index = self.open(address, Stage::Upgrading)?;
                self.members[index].send(self.request.as_bytes())?;
            }
            let before = self.joined;
            self.turn(Duration::from_secs(1), &rooms)?;
            if self.joined > before {
                heard_at = Instant::now();
            } else if heard_at.elapsed() > PATIENCE {
                return Err(Error::new(format!("after {} of {target} clients no more got in", self.joined)));
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
                self.open(address, Stage::Joined)?;
                self.joined += 1;
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
        while self.received < total {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::new(format!("{} of {total} messages arrived within {PATIENCE:?}", self.received)));
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
        self.messages_bytes
    }

    /// Length on the wire of the latest message.
    pub fn message_bytes(&self) -> usize {
        self.message_bytes
    }

    fn open(&mut self, address: SocketAddr, stage: Stage) -> Result<usize> {
        let index = self.members.len();
        let what = || format!("client {index} cannot connect to {address}");
        // Connecting on the spot is a matter of microseconds here, and so there is no half-open state to keep.
        let stream = std::net::TcpStream::connect(address).context(what())?;
        stream.set_nodelay(true).and_then(|()| stream.set_nonblocking(true)).context(what())?;
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).context(what())?;
        let mut stream = TcpStream::from_std(stream);
        self.poll.registry().register(&mut stream, Token(index), Interest::READABLE).context(what())?;
        self.members.push(Member { stream, stage, received: 0, unfinished: Vec::new() });
        Ok(index)
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
            let heard = member.read(&mut self.buffer, &|| rooms(index), hear).context(format!("client {index}"))?;
            self.joined += usize::from(heard.joined);
            self.received += heard.messages;
            self.messages_bytes += heard.messages_bytes;
            if heard.message_bytes > 0 {
                self.message_bytes = heard.message_bytes;
            }
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

/// What one reading of one client brought.
#[derive(Default)]
struct Heard {
    joined: bool,
    messages: u64,
    message_bytes: usize,
    messages_bytes: u64,
}

impl Member {
    /// Commands are small and sent to a server that reads: a socket that does not take one at once is an error.
    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("cannot send")
    }

    fn read(&mut self, buffer: &mut [u8], rooms: &dyn Fn() -> Vec<String>, hear: &mut HearOne<'_>) -> Result<Heard> {
        let mut heard = Heard::default();
        loop {
            let count = match self.stream.read(buffer) {
                Ok(0) => return Err(Error::new("the server closed the connection")),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(heard),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::new(format!("cannot read: {error}"))),
            };
            self.take(&buffer[..count], rooms, hear, &mut heard)?;
            // The socket is empty, and whatever comes next makes a new event: no need to ask for a WouldBlock.
            if count < buffer.len() {
                return Ok(heard);
            }
        }
    }

    fn take(
        &mut self,
        data: &[u8],
        rooms: &dyn Fn() -> Vec<String>,
        hear: &mut HearOne<'_>,
        heard: &mut Heard,
    ) -> Result<()> {
        if self.unfinished.is_empty() {
            let taken = self.understand(data, rooms, hear, heard)?;
            self.unfinished.extend_from_slice(&data[taken..]);
        } else {
            let mut whole = std::mem::take(&mut self.unfinished);
            whole.extend_from_slice(data);
            let taken = self.understand(&whole, rooms, hear, heard)?;
            whole.drain(..taken);
            // An emptied buffer is given back: ten thousand of them would only slow the next rounds down.
            self.unfinished = if whole.is_empty() { Vec::new() } else { whole };
        }
        Ok(())
    }

    /// Acts on everything complete at the start of `data`, and returns where that ends.
    fn understand(
        &mut self,
        data: &[u8],
        rooms: &dyn Fn() -> Vec<String>,
        hear: &mut HearOne<'_>,
        heard: &mut Heard,
    ) -> Result<usize> {
        let mut taken = 0;
        if self.stage == Stage::Upgrading {
            let Some(end) = wire::upgraded(data)? else { return Ok(0) };
            let (mut commands, rooms) = (Vec::new(), rooms());
            rooms.iter().for_each(|room| wire::write_subscribe(room, &mut commands));
            self.send(&commands)?;
            self.stage = Stage::Subscribing(rooms.len());
            taken = end;
        }
        while let Some(frame) = wire::first_frame(&data[taken..])? {
            taken += frame.wire_bytes;
            let payload = if frame.is_compressed() {
                Cow::Owned(wire::inflate(frame.payload, READ_BUFFER_BYTES)?)
            } else {
                Cow::Borrowed(frame.payload)
            };
            let text = || String::from_utf8_lossy(&payload).into_owned();
            match frame.opcode {
                wire::opcode::TEXT if payload.starts_with(wire::MESSAGE_PREFIX) => {
                    hear(&payload)?;
                    self.received += 1;
                    heard.messages += 1;
                    heard.message_bytes = frame.wire_bytes;
                    heard.messages_bytes += frame.wire_bytes as u64;
                }
                wire::opcode::TEXT if payload.starts_with(wire::SUBSCRIBED_PREFIX) => match self.stage {
                    Stage::Subscribing(rooms @ 2..) => self.stage = Stage::Subscribing(rooms - 1),
                    Stage::Subscribing(_) => {
                        self.stage = Stage::Joined;
                        heard.joined = true;
                    }
                    Stage::Upgrading | Stage::Joined => {}
                },
                wire::opcode::TEXT if payload.starts_with(wire::ERROR_PREFIX) => {
                    return Err(Error::new(format!("the server answered {}", text())));
                }
                wire::opcode::PING => {
                    let mut pong = Vec::new();
                    wire::write_masked(wire::opcode::PONG, frame.payload, &mut pong);
                    self.send(&pong)?;
                }
                wire::opcode::CLOSE => {
                    let code = frame.payload.first_chunk().map_or(1005, |bytes| u16::from_be_bytes(*bytes));
                    return Err(Error::new(format!("the server closed the connection with {code}")));
                }
                _ => {}
            }
        }
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
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
