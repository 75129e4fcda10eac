//! What those who keep the rules notice while the server is attacked, beside what they notice in quiet.

pub mod attack;
mod attackers;
mod crowd;
pub mod honest;
pub mod options;
mod parts;
pub mod phase;
pub mod report;
pub mod world;

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use fanfare_bench::Result;
use fanfare_bench::machine::Placement;
use fanfare_bench::process::sockets_bytes;
use rustix::thread::CpuSet;

use attack::{Attack, Attackers, Tally};
use honest::{Honest, Population};
use options::Options;
use phase::Phase;
use world::World;

/// This long counts for nothing: caches fill, or an attack gets into its stride, or what it has left behind is cleared away.
const WARM_UP: Duration = Duration::from_millis(500);

/// How often memory is looked at.
const SAMPLE_EVERY: Duration = Duration::from_millis(50);

/// Those who keep the rules in the very room that is attacked, where that is what an attack is about.
const BYSTANDERS: usize = 4;

/// What every measurement of a run has in common.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The command line.
    pub options: Options,
    /// The server's program.
    pub binary: PathBuf,
    /// The processors there are.
    pub processors: CpuSet,
    /// Whether the attacked server has one to itself.
    pub pins: bool,
    /// Where it and the attackers run, if nothing speaks against it.
    pub placement: Placement,
}

/// What a phase was like: for those who keep the rules, and for the servers.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// For those who keep the rules.
    pub phase: Phase,
    /// Processor time of each server per second: 1 is one processor.
    pub cpu: Vec<f64>,
    /// The most memory that each server had.
    pub resident_bytes: Vec<u64>,
    /// The most memory that the kernel had for all sockets of this machine, less what it had before anybody came.
    pub sockets_bytes: u64,
}

/// A quiet phase, and one under attack right after it.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Without an attack.
    pub quiet: Look,
    /// With it.
    pub attacked: Look,
    /// The attack's units per second.
    pub rate: f64,
    /// Its bytes per second.
    pub bytes_rate: f64,
    /// Connections of the attackers that the server ended, per second.
    pub ended_rate: f64,
}

/// All pairs of one attack.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Which.
    pub attack: Attack,
    /// In the order in which they were taken.
    pub pairs: Vec<Pair>,
}

/// Measures one attack on fresh servers, quiet and attack taking turns.
pub fn measure(setup: &Setup, attack: Attack, mut progress: impl FnMut(u32, &Pair)) -> Result<Measured> {
    let sockets_before = sockets_bytes()?;
    let world = World::start(setup, attack)?;
    let mut take = || -> Result<Vec<Pair>> {
        let options = &setup.options;
        let (pairs, rate, idlers) = (options.clients as usize, options.rate, options.idlers as usize);
        let everybody = Population { pairs, rate, idlers, room: None, newcomers: true };
        let mut honest = vec![Honest::join(everybody, world.addresses())?];
        if let Some(room) = attack.room() {
            let bystanders = Population { pairs: 0, rate: 0, idlers: BYSTANDERS, room: Some(room), newcomers: false };
            honest.push(Honest::join(bystanders, world.addresses())?);
        }
        let course = Course { setup, attack, world: &world, honest, sockets_before };
        (0..options.pairs)
            .map(|number| {
                let pair = course.pair()?;
                progress(number, &pair);
                Ok(pair)
            })
            .collect()
    };
    let pairs = take().map_err(|error| world.attacked().child().explain(&error))?;
    Ok(Measured { attack, pairs })
}

/// One attack on one world.
struct Course<'a> {
    setup: &'a Setup,
    attack: Attack,
    world: &'a World,
    honest: Vec<Honest>,
    sockets_before: u64,
}

impl Course<'_> {
    fn pair(&self) -> Result<Pair> {
        thread::sleep(WARM_UP);
        let quiet = self.look()?;
        let mut attackers = Attackers::start(self.attack, self.world.addresses(), self.world.placement.attackers)?;
        thread::sleep(WARM_UP);
        let (began, before) = (Instant::now(), attackers.tally()?);
        let mut attacked = self.look()?;
        let (took, after) = (began.elapsed().as_secs_f64(), attackers.tally()?);
        drop(attackers);
        thread::sleep(WARM_UP);
        // What an attack does to somebody may be seen a moment later.
        for honest in &self.honest {
            attacked.phase.incidents.add(honest.look()?);
        }
        let rate = |figure: fn(&Tally) -> u64| (figure(&after) - figure(&before)) as f64 / took;
        Ok(Pair {
            quiet,
            attacked,
            rate: rate(|tally| tally.done),
            bytes_rate: rate(|tally| tally.bytes),
            ended_rate: rate(|tally| tally.ended),
        })
    }

    /// One phase.
    fn look(&self) -> Result<Look> {
        let (began, cpu_before) = (Instant::now(), self.world.cpu()?);
        self.honest.iter().for_each(Honest::begin);
        let mut look = Look::default();
        while began.elapsed() < self.setup.options.phase() {
            thread::sleep(SAMPLE_EVERY);
            look.sockets_bytes = look.sockets_bytes.max(sockets_bytes()?.saturating_sub(self.sockets_before));
            let resident = self.world.resident_bytes()?;
            look.resident_bytes.resize(resident.len(), 0);
            look.resident_bytes.iter_mut().zip(resident).for_each(|(most, now)| *most = now.max(*most));
        }
        let took = began.elapsed().as_secs_f64();
        let used = self.world.cpu()?.into_iter().zip(cpu_before).map(|(after, before)| after.since(before));
        look.cpu = used.map(|cpu| cpu.total_ns as f64 / 1e9 / took).collect();
        for honest in &self.honest {
            look.phase.add(honest.end()?);
        }
        Ok(look)
    }
}

impl Pair {
    /// The 99th percentile of all pairs' messages under attack, as a multiple of the quiet one.
    pub fn p99_ratio(&self) -> f64 {
        self.attacked.phase.quantile_ms(0.99) / self.quiet.phase.quantile_ms(0.99)
    }
}

impl Measured {
    /// Everything of the quiet phases together, and of those under attack.
    pub fn phases(&self) -> [Phase; 2] {
        let [mut quiet, mut attacked] = [Phase::default(), Phase::default()];
        for pair in &self.pairs {
            quiet.add(pair.quiet.phase.clone());
            attacked.add(pair.attacked.phase.clone());
        }
        [quiet, attacked]
    }
}
