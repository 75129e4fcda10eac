//! The machine a figure comes from, and what the benchmark asks of it: descriptors, and a processor of one's own.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::{Context, Result};

/// What a reader must know to judge a figure.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Processors this process may use.
    pub cores: usize,
    /// Model name of the first processor.
    pub cpu: String,
    /// Kernel release.
    pub kernel: String,
    /// Short revision of the checkout, with `+changes` where it differs from it; none outside of a checkout.
    pub revision: Option<String>,
}

impl Machine {
    /// Looks at this machine and at the checkout in `directory`.
    pub fn look(directory: &Path) -> Machine {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
            .map_or("unknown".to_owned(), |(_, name)| name.trim().to_owned());
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_else(|_| "unknown".to_owned());
        let revision = git(directory, &["rev-parse", "--short", "HEAD"]).map(|head| {
            let changed = git(directory, &["status", "--porcelain"]).is_some_and(|status| !status.is_empty());
            if changed { format!("{head}+changes") } else { head }
        });
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Machine { cores, cpu, kernel: kernel.trim().to_owned(), revision }
    }
}

fn git(directory: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").current_dir(directory).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Raises the soft limit of open files to the hard one, for this process and the children it starts, and returns it.
pub fn raise_descriptor_limit() -> Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
        .context("cannot raise the limit of open files")?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

/// Which processor the measured process has to itself. Everything else runs on the others.
///
/// A server that shares a processor with its load is preempted by the very clients it wakes, and how often depends on
/// the scheduler's mood; apart, the figure is the server's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The measured process's processor; none where the kernel decides.
    pub measured: Option<usize>,
    /// The processor on which attackers are, where there are any.
    pub attackers: Option<usize>,
}

impl Placement {
    /// Moves this process off the first processor it may use, and leaves that one for the measured process. With a
    /// single processor, or if `pin` is false, nothing moves.
    pub fn split(pin: bool) -> Result<Placement> {
        let mut allowed = sched_getaffinity(None).context("cannot read the processor affinity")?;
        let first = (0..CpuSet::MAX_CPU).find(|&cpu| allowed.is_set(cpu));
        let (true, Some(first), 2..) = (pin, first, allowed.count()) else {
            return Ok(Placement { measured: None, attackers: None });
        };
        allowed.unset(first);
        sched_setaffinity(None, &allowed).context("cannot set the processor affinity")?;
        Ok(Placement { measured: Some(first), attackers: None })
    }

    /// The same, and of the other processors the last one is for attackers: where there are three, this process moves
    /// off that one, too; where there are two, it shares it.
    pub fn split_for_attack(pin: bool) -> Result<Placement> {
        let placement = Placement::split(pin)?;
        if placement.measured.is_none() {
            return Ok(placement);
        }
        let mut others = sched_getaffinity(None).context("cannot read the processor affinity")?;
        let last = (0..CpuSet::MAX_CPU).rev().find(|&cpu| others.is_set(cpu));
        if let (Some(last), 2..) = (last, others.count()) {
            others.unset(last);
            sched_setaffinity(None, &others).context("cannot set the processor affinity")?;
        }
        Ok(Placement { attackers: last, ..placement })
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.measured, self.attackers) {
            (None, _) => write!(f, "placed by the kernel"),
            (Some(measured), None) => {
                write!(f, "measured process alone on processor {measured}, load on the others")
            }
            (Some(measured), Some(attackers)) => {
                write!(f, "measured process alone on processor {measured}, attackers on {attackers}")
            }
        }
    }
}

/// The processors that this process may use now.
pub fn processors() -> Result<CpuSet> {
    sched_getaffinity(None).context("cannot read the processor affinity")
}

/// Lets this process use these again, after it was moved off some of them.
pub fn use_processors(processors: &CpuSet) -> Result<()> {
    sched_setaffinity(None, processors).context("cannot set the processor affinity")
}

/// Confines this process to one processor.
pub fn confine_to(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).context(format!("cannot move to processor {cpu}"))
}
