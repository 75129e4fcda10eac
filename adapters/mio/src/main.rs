//! The `fanfare` binary.

use fanfare::workers::Workers;
use fanfare_adapter::program::{self, Program};
use std::process::ExitCode;

const PROGRAM: Program = Program {
    name: "fanfare",
    about: "\
Fanfare: a real-time WebSocket room server. Clients join rooms, a message sent to a room reaches every member, \
and any number of instances act as one through Redis.",
    workers_max: 64,
};

fn main() -> ExitCode {
    program::main(&PROGRAM, Workers::start)
}
