//! The floor and servers in turns: what a round of each has cost, and how that compares.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::process::CpuTime;
use crate::report::{figure, line};

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The bare loop of `send`.
    Floor,
    /// Fanfare with the embedded broker.
    Embedded,
    /// Fanfare through a redis-server.
    Redis,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Subject::Floor => "floor",
            Subject::Embedded => "embedded",
            Subject::Redis => "redis",
        })
    }
}

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

/// What each of the laps has cost, and all of them together.
pub fn write_rounds(out: &mut String, laps: &[Lap]) {
    let to_all = if laps.iter().any(|lap| lap.floor.to_everybody.is_some()) { "to all, ms" } else { "" };
    line(
        out,
        format_args!(
            "  {:<5} {:<9} {:>8} {:>8} {:>8} {:>8} {:>8} {to_all:>14}",
            "lap", "", "total", "user", "system", "x total", "x user"
        ),
    );
    for (lap, number) in laps.iter().zip(1..) {
        write_round(out, &number.to_string(), &lap.floor, None);
        for server in &lap.servers {
            write_round(out, "", server, Some(&lap.floor));
        }
    }
    let floor = sum(laps.iter().map(|lap| &lap.floor));
    if let Some(floor) = &floor {
        write_round(out, "all", floor, None);
    }
    for index in 0..laps.first().map_or(0, |lap| lap.servers.len()) {
        if let (Some(server), Some(floor)) = (sum(laps.iter().map(|lap| &lap.servers[index])), &floor) {
            write_round(out, "", &server, Some(floor));
        }
    }
}

/// What the laps say about one server, in a line.
pub fn ratios_text(comparison: &Comparison) -> String {
    let mut out = String::new();
    line(
        &mut out,
        format_args!(
            "  {}: median of the laps' ratios to the floor: total {} (from {} to {}), user {}; \
             user of all laps together {}",
            comparison.subject,
            figure(median(&comparison.total_ratios)),
            figure(comparison.total_ratios.iter().copied().reduce(f64::min)),
            figure(comparison.total_ratios.iter().copied().reduce(f64::max)),
            figure(median(&comparison.user_ratios)),
            figure(comparison.user_ratio_of_sums),
        ),
    );
    out
}

/// The same as JSON.
pub fn ratios_json(comparison: &Comparison) -> Value {
    json!({
        "subject": comparison.subject.to_string(),
        "total": comparison.total_ratios, "total_median": median(&comparison.total_ratios),
        "user": comparison.user_ratios, "user_median": median(&comparison.user_ratios),
        "user_of_sums": comparison.user_ratio_of_sums,
    })
}

fn write_round(out: &mut String, lap: &str, round: &Round, floor: Option<&Round>) {
    let ratio = |ours: Option<f64>, theirs: Option<f64>| Some(ours? / theirs.filter(|&time| time > 0.0)?);
    let to_all = round.to_everybody.map_or(String::new(), |time| format!("{:.1}", time.as_secs_f64() * 1e3));
    line(
        out,
        format_args!(
            "  {lap:<5} {:<9} {:>8.3} {:>8} {:>8} {:>8} {:>8} {:>14}",
            round.subject,
            round.total_us(),
            figure(round.user_us()),
            figure(round.user_us().map(|user| round.total_us() - user)),
            floor.map_or(String::new(), |floor| figure(ratio(Some(round.total_us()), Some(floor.total_us())))),
            floor.map_or(String::new(), |floor| figure(ratio(round.user_us(), floor.user_us()))),
            to_all,
        ),
    );
}

/// A round for scripts.
pub fn round_json(round: &Round) -> Value {
    json!({
        "subject": round.subject.to_string(), "deliveries": round.deliveries,
        "cpu_ns": round.cpu.total_ns, "user_ticks": round.cpu.user_ticks, "system_ticks": round.cpu.system_ticks,
        "total_us_each": round.total_us(), "user_us_each": round.user_us(),
        "to_everybody_ms": round.to_everybody.map(|time| time.as_secs_f64() * 1e3),
    })
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
