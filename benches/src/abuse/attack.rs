//! The attacks, and the child process that carries one out until it is ended. How each works is in `attackers` and `parts`.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::ValueEnum;
use fanfare_bench::child::Child;
use fanfare_bench::{Context, Error, Result};

use super::{attackers, parts};

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
    /// A hundred connections of small commands that inflate to the largest ones.
    InflatePings,
    /// The same from 1,100 connections.
    #[value(name = "inflate-pings-1100")]
    InflatePings1100,
    /// Four senders of texts that inflate, to four members in four forms at the other instance.
    FourForms,
    /// A burst of texts that inflate, to members that do not read.
    DeafMembers,
    /// One sender of texts that inflate, to four members in four forms.
    OneHog,
    /// The same with texts of quotation marks.
    OneHogQuotes,
    /// Three senders of commands that inflate.
    PingHogs,
    /// Six senders of texts that inflate, at a server of two workers.
    SixHogs,
    /// Names of rooms that inflate and are refused, and the answers are never read.
    LongNames,
    /// Messages that begin and do not end.
    Unfinished,
    /// Small messages to a thousand members.
    SmallFanOut,
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
        Attack::InflatePings,
        Attack::InflatePings1100,
        Attack::FourForms,
        Attack::DeafMembers,
        Attack::OneHog,
        Attack::OneHogQuotes,
        Attack::PingHogs,
        Attack::SixHogs,
        Attack::LongNames,
        Attack::Unfinished,
        Attack::SmallFanOut,
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
            Attack::Churn | Attack::InflatePings | Attack::InflatePings1100 | Attack::PingHogs | Attack::LongNames => {
                "commands"
            }
            Attack::NeverRead
            | Attack::FourForms
            | Attack::DeafMembers
            | Attack::OneHog
            | Attack::OneHogQuotes
            | Attack::SixHogs
            | Attack::SmallFanOut => "messages",
            Attack::Unfinished => "pongs",
        }
    }

    /// How many workers the server must have for it; `None` if that does not matter.
    pub fn workers(self) -> Option<usize> {
        (self == Attack::SixHogs).then_some(2)
    }

    /// The attacked room, where those who keep the rules may be as well.
    pub fn room(self) -> Option<&'static str> {
        (self == Attack::DeafMembers).then_some(parts::ROOM)
    }
}

/// What an attacker has done so far, or between two looks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Connects, frames or whatever its unit is.
    pub done: u64,
    /// Connections that the server ended.
    pub ended: u64,
    /// Bytes that the sockets have taken, without headers of TCP.
    pub bytes: u64,
}

/// An attack under way, seen from the benchmark. Dropping it ends it; the kernel resets its connections.
#[derive(Debug)]
pub struct Attackers {
    child: Child,
}

impl Attackers {
    /// Starts `attack` on the servers at `addresses`, the attacked one and the one that shares its rooms (or the same again), from processor `cpu` if one is given, and waits until it is under way.
    ///
    /// It runs with the priority of the idle: it takes all of a processor that nobody else wants, and gives it up at once
    /// to a client of the measurement that may be on the same one.
    pub fn start(attack: Attack, addresses: [SocketAddr; 2], cpu: Option<usize>) -> Result<Attackers> {
        let this_program = std::env::current_exe().context("cannot find the benchmark's own program")?;
        let mut command = Command::new(chrt()?);
        command.args(["--idle", "0"]).arg(this_program).args([ATTACK, &attack.name()]);
        command.args(addresses.map(|address| address.to_string()));
        let child = Child::start("the attacker", &command, cpu)?;
        child.wait_for("ready", ANSWER_WITHIN, |line| (line == "ready").then_some(()))?;
        Ok(Attackers { child })
    }

    /// What has been done since the attack began.
    pub fn tally(&mut self) -> Result<Tally> {
        self.child.write(b"?")?;
        self.child.wait_for("a tally", ANSWER_WITHIN, |line| {
            let mut figures = line.strip_prefix("tally ")?.split(' ').map(str::parse);
            let mut next = || figures.next()?.ok();
            Some(Tally { done: next()?, ended: next()?, bytes: next()? })
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
    pub(crate) bytes: Arc<AtomicU64>,
}

/// What the child does, until it is killed: `arguments` are the attack's name and the servers' addresses.
pub fn run(arguments: &[String]) -> Result<()> {
    let [name, attacked, other] = arguments else {
        return Err(Error::new(format!("{ATTACK} needs an attack and two addresses")));
    };
    let attack = Attack::from_str(name, false).map_err(Error::new)?;
    let address = |text: &str| text.parse().context("address of a server");
    let addresses = [address(attacked)?, address(other)?];
    let counters = Counters::default();
    let answers = counters.clone();
    std::thread::spawn(move || answer(&answers));
    attackers::attack(attack, addresses, &counters)
}

/// Answers every byte on standard input with the tally.
fn answer(counters: &Counters) {
    let mut questions = std::io::stdin().lock();
    while questions.read_exact(&mut [0]).is_ok() {
        let [done, ended, bytes] =
            [&counters.done, &counters.ended, &counters.bytes].map(|counter| counter.load(Ordering::Relaxed));
        say(&format!("tally {done} {ended} {bytes}"));
    }
}

/// Says a line to the benchmark. If it is gone, so is this process in a moment.
pub(crate) fn say(line: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}
