//! `fanfare-sim`: many seeds, one after another, with progress and a report.

use clap::{Arg, ArgAction, Command, value_parser};
use fanfare_sim::{Narrowed, Report, Trace, attempt, examine};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

/// What the command line says.
#[derive(Debug)]
struct Arguments {
    seeds: u64,
    from: u64,
    every: u64,
    threads: u64,
    failures_max: u64,
    brief: bool,
    twice: bool,
    hashes: Option<PathBuf>,
}

impl Arguments {
    fn parse() -> Arguments {
        let number = |name: &'static str, default: &'static str, help: &'static str| {
            Arg::new(name).long(name).default_value(default).value_parser(value_parser!(u64)).help(help)
        };
        let flag =
            |name: &'static str, help: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue).help(help);
        let matches = Command::new("fanfare-sim")
            .about("Runs simulated clusters of Fanfare, each from a seed; tells what was done to them, and what failed")
            .arg(number("seeds", "1000", "How many seeds"))
            .arg(number("from", "0", "The first of them"))
            .arg(number("every", "1", "Takes one of so many: with --from, those of a residue class"))
            .arg(number("threads", "1", "Threads, each with a seed of its own"))
            .arg(number("failures-max", "10", "Failures after which no further seed is begun"))
            .arg(flag("brief", "Only says which seeds fail and why, without making them smaller"))
            .arg(flag("twice", "Runs every seed twice, and compares what the cores did"))
            .arg(
                Arg::new("hashes").long("hashes").value_name("FILE").value_parser(value_parser!(PathBuf)).help(
                    "Writes there a line for each seed: its number, and a hash of everything that the cores said",
                ),
            )
            .get_matches();
        let number = |name: &str| *matches.get_one::<u64>(name).expect("it has a default");
        Arguments {
            seeds: number("seeds"),
            from: number("from"),
            every: number("every"),
            threads: number("threads"),
            failures_max: number("failures-max"),
            brief: matches.get_flag("brief"),
            twice: matches.get_flag("twice"),
            hashes: matches.get_one("hashes").cloned(),
        }
    }
}

/// Seeds between two lines of progress.
const PROGRESS: u64 = 1_000;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (began, next) = (Instant::now(), AtomicU64::new(0));
    let (report, hashes) = (Mutex::new(Report::default()), Mutex::new(BTreeMap::new()));
    thread::scope(|scope| {
        for _ in 0..arguments.threads.max(1) {
            scope.spawn(|| work(&arguments, &next, (&report, &hashes), began));
        }
    });
    let report = report.into_inner().expect("no thread has panicked");
    let seconds = began.elapsed().as_secs_f64();
    print!("{report}");
    println!("{:>14.0}  steps a second, {seconds:.1} s in all", report.steps() as f64 / seconds);
    if let Some(path) = &arguments.hashes {
        let hashes = hashes.into_inner().expect("no thread has panicked");
        let lines: String = hashes.iter().map(|(seed, hash)| format!("{seed} {hash:016x}\n")).collect();
        if let Err(error) = std::fs::write(path, lines) {
            eprintln!("cannot write {}: {error}", path.display());
            return ExitCode::FAILURE;
        }
    }
    if report.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What each seed's cores said.
type Hashes = Mutex<BTreeMap<u64, u64>>;

fn work(arguments: &Arguments, next: &AtomicU64, (report, hashes): (&Mutex<Report>, &Hashes), began: Instant) {
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= arguments.seeds || lock(report).failed.len() as u64 >= arguments.failures_max {
            return;
        }
        let seed = arguments.from + number * arguments.every;
        let outcome = if arguments.brief {
            attempt(seed, &Narrowed::default(), &mut Trace::off())
                .map_err(|reason| format!("seed {seed} fails: {reason}"))
        } else {
            examine(seed).map_err(|failure| failure.to_string())
        };
        let outcome = outcome.and_then(|outcome| match arguments.twice {
            true if attempt(seed, &Narrowed::default(), &mut Trace::off()).as_ref() != Ok(&outcome) => {
                Err(format!("seed {seed} does not do the same twice"))
            }
            _ => Ok(outcome),
        });
        let mut report = lock(report);
        match outcome {
            Ok(outcome) => {
                lock(hashes).insert(seed, outcome.hash);
                report.add(&outcome);
            }
            Err(text) => {
                println!("{text}");
                report.failed.push(seed);
            }
        }
        if report.seeds().is_multiple_of(PROGRESS) {
            let seconds = began.elapsed().as_secs_f64();
            let rate = report.steps() as f64 / seconds;
            println!(
                "{} seeds, {} failed, {rate:.0} steps a second, {seconds:.0} s",
                report.seeds(),
                report.failed.len()
            );
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("no thread has panicked")
}
