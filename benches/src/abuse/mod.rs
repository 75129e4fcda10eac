//! How long the messages of a small room take while the server is attacked, beside how long they take in quiet.

pub mod attack;
mod attackers;
pub mod options;
pub mod report;
pub mod victim;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::Result;
use crate::latency::histogram;
use crate::machine::Placement;
use crate::process::{CpuTime, resident_bytes};
use crate::server::Server;
use attack::{Attack, Attackers};
use options::Options;
use victim::{Phase, Victim};

/// Messages for this long count for nothing: caches fill, or an attack gets into its stride, or what it has left behind
/// is cleared away.
const WARM_UP: Duration = Duration::from_millis(500);

/// What every measurement of a run has in common.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The command line.
    pub options: Options,
    /// The server's program.
    pub binary: PathBuf,
    /// Where it and the attackers run.
    pub placement: Placement,
}

/// A quiet phase, and one under attack right after it.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Without an attack.
    pub quiet: Phase,
    /// With it.
    pub attacked: Phase,
    /// The attack's units per second.
    pub rate: f64,
    /// Connections of the attackers that the server ended, per second.
    pub ended_rate: f64,
    /// The server's processor time per second under attack: 1 is one processor.
    pub cpu: f64,
    /// The server's memory at the end of the attack.
    pub resident_bytes: u64,
}

/// All pairs of one attack.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Which.
    pub attack: Attack,
    /// In the order in which they were taken.
    pub pairs: Vec<Pair>,
}

/// Measures one attack on a fresh server, quiet and attack taking turns.
pub fn measure(setup: &Setup, attack: Attack, mut progress: impl FnMut(u32, &Pair)) -> Result<Measured> {
    let Options { members, rate, pairs, common, .. } = &setup.options;
    let server = Server::start(&setup.binary, None, setup.placement.measured, &common.server_arg)?;
    let mut take = || -> Result<Vec<Pair>> {
        let mut victim = Victim::join(server.address(), *members as usize)?;
        (0..*pairs)
            .map(|number| {
                victim.talk(WARM_UP, *rate)?;
                let quiet = victim.talk(setup.options.phase(), *rate)?;
                let pair = measure_attack(setup, attack, &server, &mut victim, quiet)?;
                progress(number, &pair);
                Ok(pair)
            })
            .collect()
    };
    let pairs = take().map_err(|error| server.child().explain(&error))?;
    Ok(Measured { attack, pairs })
}

fn measure_attack(setup: &Setup, attack: Attack, server: &Server, victim: &mut Victim, quiet: Phase) -> Result<Pair> {
    let mut attackers = Attackers::start(attack, server.address(), setup.placement.attackers)?;
    victim.talk(WARM_UP, setup.options.rate)?;
    let (began, before, cpu) = (Instant::now(), attackers.tally()?, CpuTime::of(server.child().pid())?);
    let attacked = victim.talk(setup.options.phase(), setup.options.rate)?;
    let (took, after) = (began.elapsed().as_secs_f64(), attackers.tally()?);
    let cpu = CpuTime::of(server.child().pid())?.since(cpu);
    Ok(Pair {
        quiet,
        attacked,
        rate: (after.done - before.done) as f64 / took,
        ended_rate: (after.ended - before.ended) as f64 / took,
        cpu: cpu.total_ns as f64 / 1e9 / took,
        resident_bytes: resident_bytes(server.child().pid())?,
    })
}

impl Pair {
    /// The 99th percentile under attack as a multiple of the quiet one.
    pub fn p99_ratio(&self) -> f64 {
        self.attacked.latency.value_at_quantile(0.99) as f64 / self.quiet.latency.value_at_quantile(0.99) as f64
    }
}

impl Measured {
    /// The latencies of all pairs together: quiet, and attacked.
    pub fn latencies(&self) -> Result<[Histogram<u64>; 2]> {
        let (mut quiet, mut attacked) = (histogram()?, histogram()?);
        for pair in &self.pairs {
            quiet += &pair.quiet.latency;
            attacked += &pair.attacked.latency;
        }
        Ok([quiet, attacked])
    }
}
