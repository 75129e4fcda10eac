//! The command line of the benchmark of attacks.

use std::time::Duration;

use clap::Parser;
use fanfare_bench::common::{AFTER_HELP, Common};

use super::attack::Attack;

/// What `cargo bench -p fanfare-benches --bench abuse -- …` takes.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "abuse",
    bin_name = "cargo bench -p fanfare-benches --bench abuse --",
    about = "Measures what clients that keep the rules notice while the server is attacked",
    after_help = AFTER_HELP
)]
pub struct Options {
    /// Only this attack; may be repeated.
    #[arg(long, value_enum)]
    pub attack: Vec<Attack>,

    /// Seconds of each phase, quiet or under attack.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    pub seconds: u32,

    /// How often quiet and attack take turns.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    pub pairs: u32,

    /// Pairs of clients that keep the rules, each with a room of its own.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=2_000))]
    pub clients: u32,

    /// Messages a second of each pair. From 1,000 on, the server's own limit throws the sender out.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..1_000))]
    pub rate: u32,

    /// Clients that keep the rules and are only there.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(..=5_000))]
    pub idlers: u32,

    /// One instance with its embedded broker, instead of two on a redis-server of the benchmark's own.
    #[arg(long)]
    pub embedded: bool,

    /// What every one of these benchmarks takes.
    #[command(flatten)]
    pub common: Common,
}

impl Options {
    /// Reads the command line; help and wrong values are answered and end the process.
    pub fn from_command_line() -> Options {
        Options::parse()
    }

    /// The length of a phase.
    pub fn phase(&self) -> Duration {
        Duration::from_secs(self.seconds.into())
    }

    /// The attacks asked for, or all.
    pub fn attacks(&self) -> &[Attack] {
        if self.attack.is_empty() { Attack::ALL } else { &self.attack }
    }
}
