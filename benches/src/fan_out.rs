//! What it costs to hand one message to all members of a room, and how that compares to the floor.

use std::time::{Duration, Instant};

use crate::Result;
use crate::process::CpuTime;
use crate::rooms::Rooms;
use crate::subject::{Running, Setup, Subject};

/// Messages before the first that counts: buffers grow, caches fill, the kernel allocates what it will reuse.
const WARM_UP_MESSAGES: u32 = 3;

/// The last client has its message a moment before the server is done with it; after this pause it is.
const PAUSE_AFTER_THE_LAST: Duration = Duration::from_millis(5);

/// One round of one subject: the same message a number of times, each only when everybody has the one before.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// Who was measured.
    pub subject: Subject,
    /// Messages times members.
    pub deliveries: u64,
    /// What they cost.
    pub cpu: CpuTime,
    /// Median time from a message's sending to its last arrival. Includes the reading of all members' sockets by the
    /// benchmark, so it says more about the machine than about the server. None for rounds put together.
    pub to_everybody: Option<Duration>,
}

impl Round {
    /// Processor time per delivery in µs.
    pub fn total_us(&self) -> f64 {
        self.cpu.total_ns as f64 / 1e3 / self.deliveries as f64
    }

    /// Its share in user mode, sampled: see [`CpuTime::user_ns`].
    pub fn user_us(&self) -> Option<f64> {
        Some(self.cpu.user_ns()? / 1e3 / self.deliveries as f64)
    }
}

/// The floor and each server, once.
#[derive(Clone, Debug)]
pub struct Lap {
    /// The floor's round.
    pub floor: Round,
    /// One round of each server.
    pub servers: Vec<Round>,
}

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

/// What the laps say about one server.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Which server.
    pub subject: Subject,
    /// Each lap's processor time per delivery over the floor's.
    pub total_ratios: Vec<f64>,
    /// The same of user time, where it was seen at all on both sides.
    pub user_ratios: Vec<f64>,
    /// User time per delivery over the floor's, of all laps together: better than the median of the laps' ratios where
    /// the floor's few ticks per lap make each of those a guess.
    pub user_ratio_of_sums: Option<f64>,
}

impl Comparison {
    /// Compares the server at `index` of each lap with the floor.
    pub fn of(laps: &[Lap], index: usize) -> Option<Comparison> {
        let subject = laps.first()?.servers.get(index)?.subject;
        let pairs = || laps.iter().map(|lap| (&lap.servers[index], &lap.floor));
        let user_ratio = |server: Option<f64>, floor: Option<f64>| Some(server? / floor.filter(|&user| user > 0.0)?);
        Some(Comparison {
            subject,
            total_ratios: pairs().map(|(server, floor)| server.total_us() / floor.total_us()).collect(),
            user_ratios: pairs().filter_map(|(server, floor)| user_ratio(server.user_us(), floor.user_us())).collect(),
            user_ratio_of_sums: {
                let (server, floor) = (sum(pairs().map(|pair| pair.0)), sum(pairs().map(|pair| pair.1)));
                user_ratio(server.and_then(|sum| sum.user_us()), floor.and_then(|sum| sum.user_us()))
            },
        })
    }
}

/// All rounds as if they were one.
pub fn sum<'a>(rounds: impl Iterator<Item = &'a Round>) -> Option<Round> {
    rounds.copied().reduce(|sum, round| Round {
        deliveries: sum.deliveries + round.deliveries,
        cpu: sum.cpu.plus(round.cpu),
        subject: sum.subject,
        to_everybody: None,
    })
}

/// The middle value, or the mean of the two in the middle; `None` of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(subject: Subject, total_ns: u64, user_ticks: u64, system_ticks: u64) -> Round {
        let cpu = CpuTime { total_ns, user_ticks, system_ticks };
        Round { subject, deliveries: 100, cpu, to_everybody: None }
    }

    #[test]
    fn ratios_are_taken_within_a_lap() {
        let lap = |floor, server| Lap {
            floor: round(Subject::Floor, floor, 1, 9),
            servers: vec![round(Subject::Embedded, server, 2, 8)],
        };
        let comparison = Comparison::of(&[lap(1_000, 1_100), lap(2_000, 2_400)], 0).unwrap();
        assert_eq!(comparison.total_ratios, [1.1, 1.2]);
        assert!((comparison.user_ratio_of_sums.unwrap() - 3_500.0 * 0.2 / (3_000.0 * 0.1)).abs() < 1e-9);
    }

    #[test]
    fn a_floor_without_a_sampled_tick_of_user_time_gives_no_ratio() {
        let laps =
            [Lap { floor: round(Subject::Floor, 1_000, 0, 10), servers: vec![round(Subject::Embedded, 1_000, 2, 8)] }];
        let comparison = Comparison::of(&laps, 0).unwrap();
        assert_eq!((comparison.user_ratios.len(), comparison.user_ratio_of_sums), (0, None));
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_two_in_the_middle() {
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[]), None);
    }
}
