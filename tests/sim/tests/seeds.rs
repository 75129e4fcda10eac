//! Whatever goes wrong: rooms keep their order, nobody gets what is not its own, nothing is lost but in the one outage that is
//! documented, and once everything heals, all works and nothing is left. And a seed always does the same.

use fanfare_sim::{Narrowed, Report, Trace, attempt, examine};
use std::env;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// So many in every run of the tests, but where `SEEDS` says how many; the binary does more.
const SEEDS: u64 = 3_000;
/// One of so many is run twice.
const TWICE: u64 = 40;
/// Each thread has a seed of its own.
const THREADS: usize = 2;
/// After so many failures, more would say nothing new.
const FAILURES_MAX: usize = 3;

#[test]
fn every_seed_holds() {
    let seeds = env::var("SEEDS").map_or(SEEDS, |seeds| seeds.parse().expect("SEEDS is a number"));
    let (next, report, failures) = (AtomicU64::new(0), Mutex::new(Report::default()), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds || failures.lock().unwrap().len() >= FAILURES_MAX {
                        return;
                    }
                    match examine(seed) {
                        Ok(outcome) => report.lock().unwrap().add(&outcome),
                        Err(failure) => failures.lock().unwrap().push(failure.to_string()),
                    }
                }
            });
        }
    });
    print!("{}", report.into_inner().unwrap());
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[test]
fn the_same_seed_does_the_same() {
    for seed in (0..SEEDS).step_by(TWICE as usize) {
        let [first, second] = [(); 2].map(|()| attempt(seed, &Narrowed::default(), &mut Trace::off()));
        assert_eq!(first, second, "seed {seed}");
    }
}

#[test]
fn other_seeds_do_other_things() {
    let hashes = (0..8).map(|seed| attempt(seed, &Narrowed::default(), &mut Trace::off()).map(|outcome| outcome.hash));
    let mut hashes = hashes.collect::<Result<Vec<u64>, String>>().unwrap();
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), 8);
}

#[test]
fn what_narrows_a_run_can_be_said_and_read() {
    let text = "instances=1 clients=2 steps=30 without=ClientReset,RedisPause";
    assert_eq!(text.parse::<Narrowed>().unwrap().to_string(), text);
    assert!("without=Nothing".parse::<Narrowed>().is_err());
}
