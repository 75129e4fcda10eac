//! What permessage-deflate saves on the wire and costs the processor, per delivery: the same messages to the same number
//! of members, who all have them compressed, or none.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use fanfare_bench::common::{AFTER_HELP, Common};
use fanfare_bench::comparison::median;
use fanfare_bench::machine::{Machine, Placement};
use fanfare_bench::process::CpuTime;
use fanfare_bench::report::{figure, line, machine_json, write_machine};
use fanfare_bench::server::Server;
use fanfare_bench::{Error, Result};
use serde_json::{Value, json};

use crate::chat;
use crate::swarm::Swarm;

/// Bytes of the messages: what somebody types, a message with a few fields, a small document.
const SIZES: [usize; 3] = [100, 500, 2_000];

const ROOM: &str = "chat";

/// Messages before the first that counts.
const WARM_UP_MESSAGES: u64 = 3;

/// The last client has its message a moment before the server is done with it; after this pause it is.
const PAUSE_AFTER_THE_LAST: Duration = Duration::from_millis(5);

/// What `cargo bench -p fanfare-benches --bench compression -- …` takes.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "compression",
    bin_name = "cargo bench -p fanfare-benches --bench compression --",
    about = "Measures what permessage-deflate saves on the wire and what it costs",
    after_help = AFTER_HELP
)]
pub struct Options {
    /// Members of the room.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub members: u32,

    /// Messages of each round, sent one at a time.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub messages: u32,

    /// How often plain and compressed take turns.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub pairs: u32,

    /// What every one of these benchmarks takes.
    #[command(flatten)]
    pub common: Common,
}

/// What every measurement of a run has in common.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The command line.
    pub options: Options,
    /// The server's program.
    pub binary: PathBuf,
    /// Where it runs.
    pub placement: Placement,
}

/// One fresh server and its clients, and messages of one size.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// Messages times members.
    pub deliveries: u64,
    /// Bytes on the wire to all members, frame headers included.
    pub bytes: u64,
    /// What they cost the server.
    pub cpu: CpuTime,
}

impl Round {
    /// Bytes on the wire per delivery.
    pub fn bytes_each(&self) -> f64 {
        self.bytes as f64 / self.deliveries as f64
    }

    /// Processor time per delivery in µs.
    pub fn cpu_us_each(&self) -> f64 {
        self.cpu.total_ns as f64 / 1e3 / self.deliveries as f64
    }
}

/// The same messages without and with compression.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    /// Without.
    pub plain: Round,
    /// With.
    pub compressed: Round,
}

/// All pairs of one size.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Bytes of each message.
    pub size: usize,
    /// In the order in which they were taken.
    pub pairs: Vec<Pair>,
}

/// Measures every size, plain and compressed taking turns, every other time in reverse.
pub fn measure(setup: &Setup, mut progress: impl FnMut(usize, &Pair)) -> Result<Vec<Measured>> {
    SIZES
        .map(|size| {
            let pairs = (0..setup.options.pairs).map(|number| {
                let (plain, compressed) = if number % 2 == 0 {
                    let plain = measure_round(setup, size, false)?;
                    (plain, measure_round(setup, size, true)?)
                } else {
                    let compressed = measure_round(setup, size, true)?;
                    (measure_round(setup, size, false)?, compressed)
                };
                let pair = Pair { plain, compressed };
                progress(size, &pair);
                Ok(pair)
            });
            Ok(Measured { size, pairs: pairs.collect::<Result<_>>()? })
        })
        .into_iter()
        .collect()
}

fn measure_round(setup: &Setup, size: usize, compressed: bool) -> Result<Round> {
    let server = Server::start(&setup.binary, None, setup.placement.measured, &setup.options.common.server_arg)?;
    let round = || -> Result<Round> {
        let mut swarm = if compressed { Swarm::compressing()? } else { Swarm::new()? };
        let members = setup.options.members as usize;
        swarm.join(server.address(), members, |_| vec![ROOM.to_owned()])?;
        let (mut before, mut bytes) = (CpuTime::default(), 0);
        let last = WARM_UP_MESSAGES + u64::from(setup.options.messages);
        for number in 0..last {
            if number == WARM_UP_MESSAGES {
                std::thread::sleep(PAUSE_AFTER_THE_LAST);
                (before, bytes) = (CpuTime::of(server.child().pid())?, swarm.messages_bytes());
            }
            say(&mut swarm, number, size, members as u64)?;
        }
        std::thread::sleep(PAUSE_AFTER_THE_LAST);
        let cpu = CpuTime::of(server.child().pid())?.since(before);
        swarm.check_each_received(last)?;
        let deliveries = u64::from(setup.options.messages) * members as u64;
        Ok(Round { deliveries, bytes: swarm.messages_bytes() - bytes, cpu })
    };
    round().map_err(|error| server.child().explain(&error))
}

/// Sends message `number` and waits until everybody has it, word for word.
fn say(swarm: &mut Swarm, number: u64, size: usize, members: u64) -> Result<()> {
    let message = chat::message(number, size);
    let expected = format!(r#"{{"type":"MESSAGE","room":"{ROOM}","message":{message}}}"#);
    swarm.publish_json(0, ROOM, &message)?;
    let total = (number + 1) * members;
    swarm.wait_for_each_message(total, &mut |member, text| {
        if text == expected.as_bytes() {
            Ok(())
        } else {
            Err(Error::new(format!("client {member} got something else than message {number}")))
        }
    })
}

/// Everything that one run found out.
#[derive(Clone, Debug)]
pub struct Report {
    /// Where.
    pub machine: Machine,
    /// How.
    pub setup: Setup,
    /// Each size.
    pub sizes: Vec<Measured>,
}

impl Report {
    /// A table for people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let options = &self.setup.options;
        write_machine(&mut out, &self.machine, self.setup.placement, &self.setup.binary);
        line(
            &mut out,
            format_args!(
                "\nJSON chat messages to {} members, {} a round, {} rounds plain and {} compressed; per delivery\n",
                options.members, options.messages, options.pairs, options.pairs
            ),
        );
        line(
            &mut out,
            format_args!(
                "  {:>7} {:>12} {:>12} {:>8} {:>10} {:>10} {:>22}",
                "bytes", "wire: plain", "compressed", "x", "µs: plain", "compressed", "x (from, to)"
            ),
        );
        for Measured { size, pairs } in &self.sizes {
            let of = |figure: fn(&Pair) -> f64| pairs.iter().map(figure).collect::<Vec<_>>();
            let cpu = of(Pair::cpu_ratio);
            let range = [f64::min, f64::max].map(|end| figure(cpu.iter().copied().reduce(end)));
            line(
                &mut out,
                format_args!(
                    "  {:>7} {:>12} {:>12} {:>8} {:>10} {:>10} {:>22}",
                    size,
                    figure(median(&of(|pair| pair.plain.bytes_each()))),
                    figure(median(&of(|pair| pair.compressed.bytes_each()))),
                    figure(median(&of(Pair::bytes_ratio))),
                    figure(median(&of(|pair| pair.plain.cpu_us_each()))),
                    figure(median(&of(|pair| pair.compressed.cpu_us_each()))),
                    format!("{} ({}, {})", figure(median(&cpu)), range[0], range[1]),
                ),
            );
        }
        line(&mut out, format_args!("  x: compressed as a multiple of plain, median of the pairs"));
        out
    }

    /// One JSON object.
    pub fn json(&self) -> Value {
        let options = &self.setup.options;
        let round = |round: &Round| {
            json!({
                "deliveries": round.deliveries, "bytes": round.bytes, "cpu_ns": round.cpu.total_ns,
                "bytes_each": round.bytes_each(), "cpu_us_each": round.cpu_us_each(),
            })
        };
        json!({
            "machine": machine_json(&self.machine, self.setup.placement),
            "binary": self.setup.binary,
            "members": options.members, "messages": options.messages, "pairs": options.pairs,
            "sizes": self.sizes.iter().map(|Measured { size, pairs }| json!({
                "message_bytes": size,
                "bytes_ratio_median": median(&pairs.iter().map(Pair::bytes_ratio).collect::<Vec<_>>()),
                "cpu_ratio_median": median(&pairs.iter().map(Pair::cpu_ratio).collect::<Vec<_>>()),
                "pairs": pairs.iter().map(|pair| json!({
                    "plain": round(&pair.plain), "compressed": round(&pair.compressed),
                    "bytes_ratio": pair.bytes_ratio(), "cpu_ratio": pair.cpu_ratio(),
                })).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
        })
    }
}

impl Pair {
    /// Bytes on the wire with compression over those without.
    pub fn bytes_ratio(&self) -> f64 {
        self.compressed.bytes_each() / self.plain.bytes_each()
    }

    /// Processor time with compression over that without.
    pub fn cpu_ratio(&self) -> f64 {
        self.compressed.cpu_us_each() / self.plain.cpu_us_each()
    }
}
