//! The seed in `SEED`, its trace printed; without `SEED`, the seeds that once found something.

use fanfare_sim::{Narrowed, Options, Trace, attempt, examine};
use std::env;

/// One seed per line, and behind `#` what it found.
const REGRESSIONS: &str = include_str!("../regressions");

/// Lines of the trace that are kept, though all are printed.
const LINES_KEPT: usize = 1;

#[test]
fn replay() {
    match env::var("SEED") {
        Ok(seed) => replay_one(seed.parse().expect("SEED is a number")),
        Err(_) => replay_regressions(),
    }
}

fn replay_one(seed: u64) {
    let narrowed: Narrowed =
        env::var("NARROWED").unwrap_or_default().parse().expect("NARROWED is as a failure tells it");
    println!("{:#?}", Options::draw(seed, &narrowed));
    match attempt(seed, &narrowed, &mut Trace::printing(LINES_KEPT)) {
        Ok(outcome) => println!("seed {seed} holds: {outcome:#?}"),
        Err(reason) => panic!("seed {seed} fails: {reason}"),
    }
}

fn replay_regressions() {
    let lines = REGRESSIONS.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let seeds: Vec<u64> =
        lines.filter(|line| !line.is_empty()).map(|line| line.parse().expect("a seed per line")).collect();
    assert!(!seeds.is_empty(), "there are seeds to replay");
    let failures: Vec<String> =
        seeds.iter().filter_map(|seed| examine(*seed).err()).map(|failure| failure.to_string()).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}
