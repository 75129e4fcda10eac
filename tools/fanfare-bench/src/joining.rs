//! The floor of a join: a process that does nothing but the calls that a join takes. It accepts, reads and answers as the
//! server does, from a listener of the server's own, but looks at nothing that it reads: no server of as many steps can
//! cost less.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::process::Command;

use fanfare_wire as wire;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::child::Child;
use crate::floor::{ANSWER_WITHIN, address_in, say};
use crate::{Context, Error, Result};

/// First argument of the benchmark's own program when it is to be the floor of a join.
pub const JOINING_FLOOR: &str = "joining-floor-child";

/// Longer than what a client says at once.
const READ_BUFFER_BYTES: usize = 64 * 1024;

const EVENTS_MAX: usize = 1024;

const LISTENER: Token = Token(usize::MAX);

/// A running floor of a join, seen from the benchmark. Dropping it ends it.
#[derive(Debug)]
pub struct JoiningFloor {
    child: Child,
    address: SocketAddr,
}

impl JoiningFloor {
    /// Starts one on processor `cpu` if one is given, which answers every request for an upgrade, and with it if `by_url`,
    /// else when more comes, says that the client has joined `rooms`.
    pub fn start(by_url: bool, rooms: &[String], cpu: Option<usize>) -> Result<JoiningFloor> {
        let this_program = std::env::current_exe().context("cannot find the benchmark's own program")?;
        let mut command = Command::new(this_program);
        command.args([JOINING_FLOOR, &by_url.to_string()]).args(rooms);
        let child = Child::start("the floor of joining", &command, cpu)?;
        let address = child.wait_for("listening", ANSWER_WITHIN, address_in)?;
        Ok(JoiningFloor { child, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process.
    pub fn child(&self) -> &Child {
        &self.child
    }
}

/// What the child does until it is killed: `arguments` are those of [`JoiningFloor::start`].
pub fn run(arguments: &[String]) -> Result<()> {
    let Some((by_url, rooms)) = arguments.split_first() else {
        return Err(Error::new(format!("{JOINING_FLOOR} needs to be told how clients join")));
    };
    let mut answers = [Vec::new(), Vec::new()];
    wire::write_upgraded(&mut answers[0]);
    let subscribed = &mut answers[usize::from(by_url != "true")];
    rooms.iter().for_each(|room| wire::write_subscribed(room, subscribed));

    let listener = fanfare_adapter::listen::listen(SocketAddr::from(([127, 0, 0, 1], 0))).context("cannot listen")?;
    listener.set_nonblocking(true).context("cannot listen")?;
    let mut listener = TcpListener::from_std(listener);
    let mut poll = Poll::new().context("cannot make an epoll")?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE).context("cannot wait for connections")?;
    say(&format!("listening {}", listener.local_addr().context("no address")?))?;

    let (mut events, mut buffer) = (Events::with_capacity(EVENTS_MAX), vec![0; READ_BUFFER_BYTES]);
    let mut clients: Vec<Client> = Vec::new();
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            result => result.context("cannot wait for events")?,
        }
        for event in &events {
            if event.token() != LISTENER {
                clients[event.token().0].answer(&mut buffer, &answers)?;
                continue;
            }
            while let Some(stream) = accept(&listener)? {
                let mut client = Client { stream, answered: 0 };
                client.answer(&mut buffer, &answers)?;
                let token = Token(clients.len());
                poll.registry()
                    .register(&mut client.stream, token, Interest::READABLE)
                    .context("cannot wait for bytes")?;
                clients.push(client);
            }
        }
    }
}

fn accept(listener: &TcpListener) -> Result<Option<TcpStream>> {
    match listener.accept() {
        Ok((stream, _)) => Ok(Some(stream)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(Error::new(format!("cannot accept: {error}"))),
    }
}

struct Client {
    stream: TcpStream,
    /// How many of the answers it has had.
    answered: usize,
}

impl Client {
    /// Reads once, and gives the next answer if there was something and one is left.
    fn answer(&mut self, buffer: &mut [u8], answers: &[Vec<u8>]) -> Result<()> {
        match self.stream.read(buffer) {
            // Gone, as all of them are in the end, or accepted before it has spoken.
            Ok(0) => return Ok(()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionReset) => return Ok(()),
            result => result.context("cannot read")?,
        };
        let Some(answer) = answers.get(self.answered).filter(|answer| !answer.is_empty()) else { return Ok(()) };
        self.answered += 1;
        // At once: it is smaller than the empty socket buffer it goes to.
        self.stream.write_all(answer).context("cannot send")
    }
}
