//! What it costs to hand one message to all members of a room, beside the floor.

use std::time::{Duration, Instant};

use fanfare_bench::Result;
use fanfare_bench::comparison::{Lap, Round, Subject};
use fanfare_bench::process::CpuTime;

use crate::rooms::Rooms;
use crate::subject::{Running, Setup};

/// Messages before the first that counts: buffers grow, caches fill, the kernel allocates what it will reuse.
const WARM_UP_MESSAGES: u32 = 3;

/// The last client has its message a moment before the server is done with it; after this pause it is.
const PAUSE_AFTER_THE_LAST: Duration = Duration::from_millis(5);

/// Takes turns: the floor and each of `servers`, `--pairs` times, every other time in reverse, so that a machine that
/// slowly gets faster or slower favours nobody. Every round is a fresh process with fresh connections, for where those
/// happen to lie in memory matters as well, and must not be the same luck every time.
pub fn measure(setup: &Setup, servers: &[Subject], mut progress: impl FnMut(u32, &Round)) -> Result<Vec<Lap>> {
    let mut laps = Vec::new();
    for lap in 0..setup.options.pairs {
        let mut order: Vec<Subject> = std::iter::once(Subject::Floor).chain(servers.iter().copied()).collect();
        if lap % 2 == 1 {
            order.reverse();
        }
        let mut rounds = Vec::new();
        for subject in order {
            let round = measure_round(setup, subject)?;
            progress(lap, &round);
            rounds.push(round);
        }
        if lap % 2 == 1 {
            rounds.reverse();
        }
        laps.push(Lap { floor: rounds.remove(0), servers: rounds });
    }
    Ok(laps)
}

fn measure_round(setup: &Setup, subject: Subject) -> Result<Round> {
    let members = setup.options.members();
    let message = setup.options.payload();
    let mut running = Running::start(setup, subject)?;
    running.join(members, Rooms::One)?;

    let mut said = 0;
    let mut say = |running: &mut Running| {
        said += 1;
        let sent_at = Instant::now();
        running.say_to_all(&message, said * members as u64).map(|()| sent_at.elapsed())
    };
    for _ in 0..WARM_UP_MESSAGES {
        say(&mut running)?;
    }
    std::thread::sleep(PAUSE_AFTER_THE_LAST);
    let before = CpuTime::of(running.pid())?;
    let mut times = Vec::new();
    for _ in 0..setup.options.messages {
        times.push(say(&mut running)?);
    }
    std::thread::sleep(PAUSE_AFTER_THE_LAST);
    let cpu = CpuTime::of(running.pid())?.since(before);

    let checked = running.swarm().check_each_received(said);
    checked.map_err(|error| running.explain(&error))?;
    times.sort_unstable();
    let deliveries = u64::from(setup.options.messages) * members as u64;
    Ok(Round { subject, deliveries, cpu, to_everybody: Some(times[times.len() / 2]) })
}
