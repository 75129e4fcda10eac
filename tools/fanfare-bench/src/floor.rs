//! The floor: a process that does nothing but `send` bytes to sockets, one call for each message and member. It speaks no
//! WebSocket, keeps no state, reads nothing from the members: no server of one `send` per member can cost less.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use crate::child::Child;
use crate::load::plan::nth_room_of;
use crate::{Context, Error, Result};

/// First argument of the benchmark's own program when it is to be the floor.
pub const FLOOR: &str = "floor-child";

/// How many connections are opened before the floor accepts them: less than the 128 that the standard library lets
/// wait at a listener, so that none is turned away to try again a second later.
pub const ACCEPT_BATCH: usize = 64;

/// Commands on the first connection: `ACCEPT` and a byte that says how many; `SEND`, the number of a room and the length
/// of a frame, both of 32 bits with the lowest byte first, and the frame.
const ACCEPT: u8 = b'a';
const SEND: u8 = b's';

/// The floor does next to nothing before it answers; this only ends a wait for one that hangs.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// A running floor, seen from the benchmark. Dropping it ends it.
#[derive(Debug)]
pub struct Floor {
    child: Child,
    address: SocketAddr,
    commands: TcpStream,
}

impl Floor {
    /// Starts one on processor `cpu` if one is given. Member i, counted as they are accepted, will be in `rooms_each` of
    /// `rooms` rooms, those of the load's plan.
    pub fn start(rooms: usize, rooms_each: usize, cpu: Option<usize>) -> Result<Floor> {
        let this_program = std::env::current_exe().context("cannot find the benchmark's own program")?;
        let mut command = Command::new(this_program);
        command.args([FLOOR, &rooms.to_string(), &rooms_each.to_string()]);
        let child = Child::start("the floor", &command, cpu)?;
        let address = child.wait_for("listening", ANSWER_WITHIN, address_in)?;
        let commands = TcpStream::connect(address).context("cannot command the floor")?;
        commands.set_nodelay(true).context("cannot command the floor")?;
        Ok(Floor { child, address, commands })
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
        self.commands.write_all(&[ACCEPT, count]).context("cannot command the floor")?;
        self.child.wait_for("accepted", ANSWER_WITHIN, |line| (line == "accepted").then_some(()))
    }

    /// Has it send `frame` to every member of `room`. Returns at once.
    pub fn send(&mut self, room: u32, frame: &[u8]) -> Result<()> {
        let mut command = Vec::new();
        write_send(room, frame, &mut command);
        self.commands.write_all(&command).context("cannot command the floor")
    }

    /// The connection for commands, for who writes them there without waiting.
    pub fn commands(&self) -> Result<TcpStream> {
        self.commands.try_clone().context("cannot command the floor")
    }
}

/// Appends the command to send `frame` to every member of `room`.
pub fn write_send(room: u32, frame: &[u8], out: &mut Vec<u8>) {
    out.push(SEND);
    out.extend_from_slice(&room.to_le_bytes());
    // A frame is far shorter than 4 GiB.
    out.extend_from_slice(&(frame.len() as u32).to_le_bytes());
    out.extend_from_slice(frame);
}

/// What the child does, until its first connection ends: `arguments` are the numbers of rooms, in all and of each member.
pub fn run(arguments: &[String]) -> Result<()> {
    let [rooms, rooms_each] = arguments else {
        return Err(Error::new(format!("{FLOOR} needs two numbers of rooms")));
    };
    let rooms_each: usize = rooms_each.parse().context("rooms of each")?;
    let mut rooms: Vec<Vec<usize>> = vec![Vec::new(); rooms.parse().context("rooms")?];
    let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen")?;
    say(&format!("listening {}", listener.local_addr().context("no address")?))?;

    let (commands, _) = listener.accept().context("cannot accept")?;
    let mut commands = BufReader::new(commands);
    let (mut members, mut frame) = (Vec::<TcpStream>::new(), Vec::new());
    let mut command = [0u8];
    while commands.read(&mut command).context("commands")? == 1 {
        if command[0] == SEND {
            let (room, length) = (number(&mut commands)?, number(&mut commands)?);
            frame.resize(length, 0);
            commands.read_exact(&mut frame).context("commands")?;
            for &member in &rooms[room] {
                // One `send`: the frame is smaller than the empty socket buffer it goes to.
                members[member].write_all(&frame).context("cannot send")?;
            }
        } else {
            commands.read_exact(&mut command).context("commands")?;
            for _ in 0..command[0] {
                let (socket, _) = listener.accept().context("cannot accept")?;
                socket.set_nodelay(true).context("cannot set TCP_NODELAY")?;
                let (member, count) = (members.len(), rooms.len());
                (0..rooms_each).for_each(|nth| rooms[nth_room_of(member, nth, count, rooms_each)].push(member));
                members.push(socket);
            }
            say("accepted")?;
        }
    }
    Ok(())
}

fn number(commands: &mut impl Read) -> Result<usize> {
    let mut bytes = [0; 4];
    commands.read_exact(&mut bytes).context("commands")?;
    Ok(u32::from_le_bytes(bytes) as usize)
}

/// Where a floor that says this line listens.
pub(crate) fn address_in(line: &str) -> Option<SocketAddr> {
    line.strip_prefix("listening ")?.parse().ok()
}

pub(crate) fn say(line: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).context("standard output")
}
