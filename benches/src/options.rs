//! The command line of `--bench server`.

use clap::Parser;
use fanfare_bench::Result;
use fanfare_bench::common::{AFTER_HELP, Common, check_descriptors};

use crate::rooms::Rooms;

/// What `cargo bench -p fanfare-benches --bench server -- …` takes.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "server",
    bin_name = "cargo bench -p fanfare-benches --bench server --",
    about = "Measures the real fanfare server beside a bare loop of send",
    after_help = AFTER_HELP
)]
pub struct Options {
    /// Connections of each measurement.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub members: u32,

    /// Messages of each fan-out round, sent one at a time.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..))]
    pub messages: u32,

    /// How often the floor and the server take turns.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub pairs: u32,

    /// Bytes of each message's text. At most what a server takes by default in one frame, with room for the JSON.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(0..=65_000))]
    pub payload: u32,

    /// Which rooms idle subscribers are in; may be repeated [default: all three in turn].
    #[arg(long, value_enum)]
    pub rooms: Vec<Rooms>,

    /// Measure idle subscribers and leave out the fan-out.
    #[arg(long)]
    pub no_fan_out: bool,

    /// Only through a redis-server of this benchmark's own, which must be in PATH.
    #[arg(long, conflicts_with = "embedded")]
    pub redis: bool,

    /// Only the embedded broker, even where redis-server is in PATH.
    #[arg(long)]
    pub embedded: bool,

    /// What every one of these benchmarks takes.
    #[command(flatten)]
    pub common: Common,
}

impl Options {
    /// Members as a count of things in memory.
    pub fn members(&self) -> usize {
        self.members as usize
    }

    /// Where idle subscribers are measured.
    pub fn rooms(&self) -> &[Rooms] {
        if self.rooms.is_empty() { &Rooms::ALL } else { &self.rooms }
    }

    /// The text of every message.
    pub fn payload(&self) -> String {
        "x".repeat(self.payload as usize)
    }

    /// Reads the command line; help and wrong values are answered and end the process.
    pub fn from_command_line() -> Options {
        Options::parse()
    }

    /// Checks what depends on the machine: descriptors for every connection.
    pub fn check(&self, descriptors: u64) -> Result<()> {
        check_descriptors(&format!("{} members", self.members), self.members(), descriptors, "--members")
    }
}
