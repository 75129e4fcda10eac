//! Bytes as fast as the server takes them, over several connections that come back whenever they are thrown out.

use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::abuse::Siege;
use crate::{DEADLINE, Frame, RawClient, code, opcode};

/// What is sent, and by how many.
pub struct Flood<'a> {
    /// Connections at once.
    pub peers: usize,
    /// Waves in all; more of them if the siege has not lasted by then. A peer that is thrown out within a wave gives up
    /// the rest of it.
    pub waves: u64,
    /// The bytes of a wave, by its number. Each begins where a frame may begin.
    pub wave: &'a dyn Fn(u64) -> Vec<u8>,
    /// Whether the peers read what they are sent. Those who do not must be thrown out for it: the flood lasts until the
    /// server has ended as many connections as there are peers.
    pub reads: bool,
}

/// What became of a flood.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Waves sent, given up ones included.
    pub waves: u64,
    /// Text frames received, by their content.
    pub texts: BTreeMap<String, u64>,
    /// Pongs received.
    pub pongs: u64,
    /// Close frames received, by their code.
    pub closes: BTreeMap<u16, u64>,
    /// Connections that the server ended before the end of the flood.
    pub ended: u64,
}

struct Peer {
    stream: TcpStream,
    unsent: VecDeque<u8>,
    received: Vec<u8>,
}

impl Flood<'_> {
    /// Lets it go.
    ///
    /// # Panics
    ///
    /// If nothing moves for [`DEADLINE`], or the server sends what is no frame.
    pub fn run(&self, siege: &Siege<'_>) -> Outcome {
        let address = siege.server().address();
        let mut outcome = Outcome::default();
        let mut peers: Vec<Peer> = (0..self.peers).map(|_| Peer::new(address)).collect();
        let began = Instant::now();
        let mut moved_at = began;
        loop {
            let goes_on = !self.is_enough(&outcome, began) || !siege.has_lasted();
            if !goes_on && peers.iter().all(|peer| peer.unsent.is_empty()) {
                break;
            }
            let mut moved = false;
            for peer in &mut peers {
                if peer.unsent.is_empty() && goes_on {
                    peer.unsent = (self.wave)(outcome.waves).into();
                    outcome.waves += 1;
                }
                let here = peer.write(&mut moved)
                    && if self.reads { peer.read(&mut moved, &mut outcome) } else { !peer.is_hung_up() };
                if !here {
                    *peer = Peer::new(address);
                    outcome.ended += 1;
                    moved = true;
                }
            }
            if moved {
                moved_at = Instant::now();
            } else {
                assert!(moved_at.elapsed() < DEADLINE, "the server takes nothing for {DEADLINE:?}: {outcome:?}");
                thread::yield_now();
            }
        }
        if self.reads {
            peers.into_iter().for_each(|peer| peer.hear_out(&mut outcome));
        }
        outcome
    }

    fn is_enough(&self, outcome: &Outcome, began: Instant) -> bool {
        let thrown_out = outcome.ended >= self.peers as u64;
        // The server throws away what comes behind its close frame, however much that is, until it closes the socket.
        assert!(self.reads || thrown_out || began.elapsed() < DEADLINE, "nobody is thrown out: {outcome:?}");
        outcome.waves >= self.waves && (self.reads || thrown_out)
    }
}

impl Peer {
    fn new(address: SocketAddr) -> Peer {
        let stream = RawClient::upgraded(address).stream().try_clone().expect("this process has descriptors enough");
        stream.set_nonblocking(true).expect("an open socket takes options");
        Peer { stream, unsent: VecDeque::new(), received: Vec::new() }
    }

    /// Writes what the socket takes; `false` if the server has hung up.
    fn write(&mut self, moved: &mut bool) -> bool {
        while !self.unsent.is_empty() {
            match self.stream.write(self.unsent.as_slices().0) {
                Ok(written) => {
                    self.unsent.drain(..written);
                    *moved = true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }

    /// Whether the server sends no more, for a peer that does not read up to there. Writing may not tell for a minute: a kernel
    /// that has closed a connection while nothing more was taken goes on saying so.
    fn is_hung_up(&self) -> bool {
        let mut polled = [PollFd::new(&self.stream, PollFlags::RDHUP)];
        poll(&mut polled, Some(&Timespec::default())).expect("an open socket can be polled") > 0
    }

    /// Reads what is there; `false` at the end of the connection.
    fn read(&mut self, moved: &mut bool, outcome: &mut Outcome) -> bool {
        let mut buffer = [0; 64 * 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return false,
                Ok(length) => {
                    self.received.extend_from_slice(&buffer[..length]);
                    self.understand(outcome);
                    *moved = true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
    }

    fn understand(&mut self, outcome: &mut Outcome) {
        let mut at = 0;
        while let Some((frame, length)) = Frame::parse(&self.received[at..]) {
            at += length;
            match frame.opcode {
                opcode::TEXT => {
                    let text = String::from_utf8(frame.payload).expect("a text in UTF-8");
                    *outcome.texts.entry(text).or_default() += 1;
                }
                opcode::PONG => outcome.pongs += 1,
                opcode::CLOSE => {
                    let code = frame.payload.first_chunk().map_or(0, |code| u16::from_be_bytes(*code));
                    *outcome.closes.entry(code).or_default() += 1;
                }
                opcode::PING => {}
                other => panic!("a frame that the server never sends: {other}"),
            }
        }
        self.received.drain(..at);
    }

    /// Says that it will send no more, and reads to the end: the server answers everything before.
    fn hear_out(mut self, outcome: &mut Outcome) {
        self.stream.set_nonblocking(false).expect("an open socket takes options");
        self.stream.set_read_timeout(Some(DEADLINE)).expect("a timeout above zero");
        // If the server has hung up already, reading tells.
        let _ = self.stream.write_all(&Frame::close(code::NORMAL, "").masked());
        let _ = self.stream.set_read_timeout(Some(DEADLINE));
        let mut buffer = [0; 64 * 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => self.received.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                Err(error) => panic!("the server does not end the connection: {error}"),
            }
        }
        self.understand(outcome);
        // The answer to the farewell.
        outcome.closes.remove(&code::NORMAL);
    }
}
