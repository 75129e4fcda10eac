//! Drives the core as an embedder would, for a target that has no system at all: what the core would need of one shows
//! as an import of the module. Only what is called from here is linked, so every entry of the core belongs in [`drive`].

use std::time::Duration;

use fanfare_core::time::Time;

/// Runs the core. Takes and gives numbers, so that the compiler can foresee nothing.
#[unsafe(no_mangle)]
pub extern "C" fn drive(seed: u64) -> u64 {
    clock(seed)
}

fn clock(seed: u64) -> u64 {
    let start = Time::from_micros(seed);
    let later = start + Duration::from_millis(seed);
    later.as_micros() ^ u64::try_from(later.since(start).as_millis()).unwrap_or(u64::MAX)
}
