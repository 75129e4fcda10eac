//! What is measured: the floor, or the server with one of its brokers, running and with its clients attached.

use std::path::PathBuf;

use fanfare_bench::child::Child;
use fanfare_bench::comparison::Subject;
use fanfare_bench::floor::{ACCEPT_BATCH, Floor};
use fanfare_bench::machine::Placement;
use fanfare_bench::redis::Redis;
use fanfare_bench::server::Server;
use fanfare_bench::{Error, Result};
use fanfare_wire as wire;

use crate::options::Options;
use crate::rooms::{ROOM, Rooms};
use crate::swarm::Swarm;

/// What every measurement of a run has in common.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The command line.
    pub options: Options,
    /// The server's program.
    pub binary: PathBuf,
    /// Where it runs.
    pub placement: Placement,
    /// Length on the wire of the server's `MESSAGE` for the payload, which the floor sends as well.
    pub message_bytes: usize,
}

impl Setup {
    /// Looks how long a `MESSAGE` is, by having one sent.
    pub fn new(options: Options, binary: PathBuf, placement: Placement) -> Result<Setup> {
        let mut setup = Setup { options, binary, placement, message_bytes: 0 };
        let mut running = Running::start(&setup, Subject::Embedded)?;
        running.join(1, Rooms::One)?;
        running.say_to_all(&setup.options.payload(), 1)?;
        setup.message_bytes = running.swarm.message_bytes();
        Ok(setup)
    }
}

/// A subject that runs. Dropping it first ends the processes and then resets the connections, so that no port waits
/// out its time and the next subject finds the machine as this one did.
pub struct Running {
    source: Source,
    swarm: Swarm,
}

enum Source {
    Floor { floor: Floor, frame: Vec<u8> },
    Server { server: Server, _redis: Option<Redis> },
}

impl Running {
    /// Starts `subject`, without clients.
    pub fn start(setup: &Setup, subject: Subject) -> Result<Running> {
        let cpu = setup.placement.measured;
        let source = match subject {
            Subject::Floor => {
                Source::Floor { floor: Floor::start(1, 1, cpu)?, frame: wire::text_frame_of(setup.message_bytes) }
            }
            Subject::Embedded | Subject::Redis => {
                let redis = if subject == Subject::Redis { Some(Redis::start()?) } else { None };
                let url = redis.as_ref().map(Redis::url);
                let server = Server::start(&setup.binary, url, cpu, &setup.options.common.server_arg)?;
                Source::Server { server, _redis: redis }
            }
        };
        Ok(Running { source, swarm: Swarm::new()? })
    }

    /// Attaches `count` clients. The floor knows no rooms.
    pub fn join(&mut self, count: usize, rooms: Rooms) -> Result<()> {
        let result = match &mut self.source {
            Source::Floor { floor, .. } => {
                self.swarm.attach(floor.address(), count, ACCEPT_BATCH, |batch| floor.accept(batch))
            }
            Source::Server { server, .. } => self.swarm.join(server.address(), count, |index| rooms.names_of(index)),
        };
        result.map_err(|error| self.explain(&error))
    }

    /// Sends `message` to all clients, who are in one room, and waits until all messages they are to have received
    /// since they came have arrived: `total`.
    pub fn say_to_all(&mut self, message: &str, total: u64) -> Result<()> {
        let said = match &mut self.source {
            Source::Floor { floor, frame } => floor.send(0, frame),
            Source::Server { .. } => self.swarm.publish(0, ROOM, message),
        };
        said.and_then(|()| self.swarm.wait_for_messages(total)).map_err(|error| self.explain(&error))
    }

    /// The clients.
    pub fn swarm(&mut self) -> &mut Swarm {
        &mut self.swarm
    }

    /// The measured process's id.
    pub fn pid(&self) -> u32 {
        self.child().pid()
    }

    /// `error`, with what the measured process has said.
    pub fn explain(&self, error: &Error) -> Error {
        self.child().explain(error)
    }

    fn child(&self) -> &Child {
        match &self.source {
            Source::Floor { floor, .. } => floor.child(),
            Source::Server { server, .. } => server.child(),
        }
    }
}
