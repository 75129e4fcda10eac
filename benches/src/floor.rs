//! The floor: a process that does nothing but `send` the same bytes to each of its sockets. It speaks no WebSocket,
//! keeps no state, reads nothing from its connections: no server of one `send` per member can cost less.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use crate::child::Child;
use crate::{Context, Error, Result, wire};

/// First argument of the benchmark's own program when it is to be the floor.
pub const FLOOR: &str = "floor-child";

/// How many connections are opened before the floor accepts them: less than the 128 that the standard library lets
/// wait at a listener, so that none is turned away to try again a second later.
pub const ACCEPT_BATCH: usize = 64;

/// Commands on standard input: one byte each, `ACCEPT` followed by a byte that says how many.
const ACCEPT: u8 = b'a';
const SEND: u8 = b's';

/// The floor does next to nothing before it answers; this only ends a wait for one that hangs.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// A running floor, seen from the benchmark. Dropping it ends it.
#[derive(Debug)]
pub struct Floor {
    child: Child,
    address: SocketAddr,
}

impl Floor {
    /// Starts one that sends frames of `frame_bytes` bytes in all, on processor `cpu` if one is given.
    pub fn start(frame_bytes: usize, cpu: Option<usize>) -> Result<Floor> {
        let this_program = std::env::current_exe().context("cannot find the benchmark's own program")?;
        let mut command = Command::new(this_program);
        command.args([FLOOR, &frame_bytes.to_string()]);
        let child = Child::start("the floor", &command, cpu)?;
        let address =
            child.wait_for("listening", ANSWER_WITHIN, |line| line.strip_prefix("listening ")?.parse().ok())?;
        Ok(Floor { child, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process.
    pub fn child(&self) -> &Child {
        &self.child
    }

    /// Has it accept the next `count` connections, at most [`ACCEPT_BATCH`], and waits until it has.
    pub fn accept(&mut self, count: usize) -> Result<()> {
        let count = u8::try_from(count).context("too many connections for one batch")?;
        self.child.write(&[ACCEPT, count])?;
        self.child.wait_for("accepted", ANSWER_WITHIN, |line| (line == "accepted").then_some(()))
    }

    /// Has it send one frame to every connection. Returns at once.
    pub fn send(&mut self) -> Result<()> {
        self.child.write(&[SEND])
    }
}

/// What the child does, until its standard input ends: `arguments` is the size of the frame.
pub fn run(arguments: &[String]) -> Result<()> {
    let [frame_bytes] = arguments else {
        return Err(Error::new(format!("{FLOOR} needs the size of the frame")));
    };
    let frame = wire::text_frame_of(frame_bytes.parse().context("size of the frame")?);
    let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen")?;
    say(&format!("listening {}", listener.local_addr().context("no address")?))?;

    let mut sockets: Vec<TcpStream> = Vec::new();
    let mut commands = std::io::stdin().lock();
    let mut command = [0u8];
    while commands.read(&mut command).context("standard input")? == 1 {
        if command[0] == SEND {
            for mut socket in &sockets {
                // One `send`: the frame is smaller than the empty socket buffer it goes to.
                socket.write_all(&frame).context("cannot send")?;
            }
        } else {
            commands.read_exact(&mut command).context("standard input")?;
            for _ in 0..command[0] {
                let (socket, _) = listener.accept().context("cannot accept")?;
                socket.set_nodelay(true).context("cannot set TCP_NODELAY")?;
                sockets.push(socket);
            }
            say("accepted")?;
        }
    }
    Ok(())
}

fn say(line: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).context("standard output")
}
