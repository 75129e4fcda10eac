//! The `fanfare-threaded` binary.

use fanfare_adapter::program::{self, Program};
use fanfare_threaded::server::ThreadedServer;
use std::process::ExitCode;

const PROGRAM: Program = Program {
    name: "fanfare-threaded",
    about: "\
Fanfare on blocking threads: a real-time WebSocket room server. Clients join rooms, a message sent to a room reaches every \
member, and any number of instances act as one through Redis. One thread per connection: for small deployments; `fanfare` \
is the same server for many connections.",
    workers_max: 1,
};

fn main() -> ExitCode {
    program::main(&PROGRAM, ThreadedServer::start)
}
