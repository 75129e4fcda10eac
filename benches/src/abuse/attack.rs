//! The attacks, and the child process that carries one out until it is ended. How each works is in `attackers`.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::ValueEnum;

use super::attackers;
use crate::child::Child;
use crate::{Context, Error, Result};

/// First argument of the benchmark's own program when it is to attack.
pub const ATTACK: &str = "attack-child";

/// Some attacks begin with a thousand connections; this only ends a wait for one that hangs.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// What is done to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Attack {
    /// Connects, sends nothing, and takes its place again when it is lost.
    HalfOpen,
    /// Connects, upgrades, subscribes, and resets.
    Upgrades,
    /// Connects, sends half a request head, and resets.
    Resets,
    /// A thousand request heads, a byte at a time.
    DripHeads,
    /// A thousand messages, a byte at a time.
    DripFrames,
    /// Messages in fragments of one byte.
    Fragments,
    /// Messages in fragments of no byte.
    EmptyFragments,
    /// Messages without content.
    EmptyMessages,
    /// Pings without content.
    Pings,
    /// Rooms, each joined and left again.
    Churn,
    /// Messages to members that never read.
    NeverRead,
}

impl Attack {
    /// All of them.
    pub const ALL: &'static [Attack] = &[
        Attack::HalfOpen,
        Attack::Upgrades,
        Attack::Resets,
        Attack::DripHeads,
        Attack::DripFrames,
        Attack::Fragments,
        Attack::EmptyFragments,
        Attack::EmptyMessages,
        Attack::Pings,
        Attack::Churn,
        Attack::NeverRead,
    ];

    /// As the command line calls it.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// What [`Tally::done`] counts.
    pub fn unit(self) -> &'static str {
        match self {
            Attack::HalfOpen | Attack::Upgrades | Attack::Resets => "connects",
            Attack::DripHeads | Attack::DripFrames => "writes",
            Attack::Fragments | Attack::EmptyFragments | Attack::EmptyMessages | Attack::Pings => "frames",
            Attack::Churn => "commands",
            Attack::NeverRead => "messages",
        }
    }
}

/// What an attacker has done so far, or between two looks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Connects, frames or whatever its unit is.
    pub done: u64,
    /// Connections that the server ended.
    pub ended: u64,
}

/// An attack under way, seen from the benchmark. Dropping it ends it; the kernel resets its connections.
#[derive(Debug)]
pub struct Attackers {
    child: Child,
}

impl Attackers {
    /// Starts `attack` on the server at `address`, from processor `cpu` if one is given, and waits until it is under way.
    ///
    /// It runs with the priority of the idle: it takes all of a processor that nobody else wants, and gives it up at once
    /// to a client of the measurement that may be on the same one.
    pub fn start(attack: Attack, address: SocketAddr, cpu: Option<usize>) -> Result<Attackers> {
        let this_program = std::env::current_exe().context("cannot find the benchmark's own program")?;
        let mut command = Command::new(chrt()?);
        command.args(["--idle", "0"]).arg(this_program).args([ATTACK, &attack.name(), &address.to_string()]);
        let child = Child::start("the attacker", &command, cpu)?;
        child.wait_for("ready", ANSWER_WITHIN, |line| (line == "ready").then_some(()))?;
        Ok(Attackers { child })
    }

    /// What has been done since the attack began.
    pub fn tally(&mut self) -> Result<Tally> {
        self.child.write(b"?")?;
        self.child.wait_for("a tally", ANSWER_WITHIN, |line| {
            let (done, ended) = line.strip_prefix("tally ")?.split_once(' ')?;
            Some(Tally { done: done.parse().ok()?, ended: ended.parse().ok()? })
        })
    }
}

fn chrt() -> Result<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .map(|directory| directory.join("chrt"))
        .find(|program| program.is_file())
        .ok_or_else(|| Error::new("chrt is needed to run the attackers at idle priority: apt-get install util-linux"))
}

/// The counters of a running attack.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters {
    pub(crate) done: Arc<AtomicU64>,
    pub(crate) ended: Arc<AtomicU64>,
}

/// What the child does, until it is killed: `arguments` are the attack's name and the server's address.
pub fn run(arguments: &[String]) -> Result<()> {
    let [name, address] = arguments else {
        return Err(Error::new(format!("{ATTACK} needs an attack and an address")));
    };
    let attack = Attack::from_str(name, false).map_err(Error::new)?;
    let address = address.parse().context("address of the server")?;
    let counters = Counters::default();
    let answers = counters.clone();
    std::thread::spawn(move || answer(&answers));
    attackers::attack(attack, address, &counters)
}

/// Answers every byte on standard input with the tally.
fn answer(counters: &Counters) {
    let mut questions = std::io::stdin().lock();
    while questions.read_exact(&mut [0]).is_ok() {
        let (done, ended) = (counters.done.load(Ordering::Relaxed), counters.ended.load(Ordering::Relaxed));
        say(&format!("tally {done} {ended}"));
    }
}

/// Says a line to the benchmark. If it is gone, so is this process in a moment.
pub(crate) fn say(line: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}
