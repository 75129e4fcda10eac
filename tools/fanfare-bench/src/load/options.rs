//! The command line of the load generator.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, value_parser};
use fanfare_tls::Trust;

use super::clients::Joining;
use super::message::HEADER_BYTES;
use super::pace::Load;
use super::plan::Plan;
use super::run::{Extent, Settings};
use crate::common::{AFTER_HELP, Common, check_descriptors};
use crate::{Error, Result};

/// Messages a second that a publisher sends at most unless told otherwise: half of what a server takes of one
/// connection by default.
const RATE_OF_A_PUBLISHER: usize = 500;

/// Publishers of a window unless told otherwise: enough that messages come from several connections, as they do for
/// real.
const PUBLISHERS_OF_A_WINDOW: usize = 16;

/// Turns of the floor and the server unless told otherwise: the least with a median.
const PAIRS: u32 = 3;

/// What `fanfare-bench` takes.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "fanfare-bench",
    about = "Opens connections to a WebSocket server with rooms, sends messages, checks that all arrive, and tells how fast",
    after_help = format!("With --start, {AFTER_HELP}")
)]
pub struct Options {
    /// The server, as ws://host:port/path or wss://host:port/path.
    #[arg(conflicts_with = "start")]
    pub url: Option<String>,

    /// Start a fanfare of this program's own instead, without the limits on messages that the load would run into, and measure what it costs.
    #[arg(long)]
    pub start: bool,

    /// Give it a redis-server of its own, too, which must be in PATH.
    #[arg(long)]
    pub redis: bool,

    /// Of wss://: a PEM file with the authorities that may have signed the server's certificate.
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    pub tls_ca: Option<PathBuf>,

    /// Of wss://: take any certificate.
    #[arg(long)]
    pub insecure: bool,

    /// Connections that listen.
    #[arg(short, long, value_name = "N", default_value_t = 1_000, value_parser = value_parser!(u32).range(1..))]
    pub connections: u32,

    /// Rooms, into which the connections are dealt in turn.
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u32).range(1..=1_000_000))]
    pub rooms: u32,

    /// Rooms that each connection is in.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u32).range(1..))]
    pub rooms_per_connection: u32,

    /// How the names of the rooms begin.
    #[arg(long, value_name = "TEXT", default_value = "r")]
    pub room_prefix: String,

    /// Have connections join their rooms by the query of the upgrade, as in /ws?room=a&room=b, instead of by SUBSCRIBE.
    #[arg(long)]
    pub join_by_url: bool,

    /// Connections that are on their way in at once.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = value_parser!(u32).range(1..))]
    pub connecting_max: u32,

    /// Connections that send, and are in no room [default: one for 500 messages a second of --rate, or at most 16].
    #[arg(short, long, value_name = "N", value_parser = value_parser!(u32).range(1..=65_536))]
    pub publishers: Option<u32>,

    /// Closed loop: so many messages are on their way, and the next is sent when one has reached everybody.
    #[arg(short, long, value_name = "MESSAGES", default_value_t = 16, conflicts_with = "rate",
        value_parser = value_parser!(u32).range(1..=1_000_000))]
    pub in_flight: u32,

    /// Open loop: so many messages are sent a second, whatever becomes of them.
    #[arg(long, value_name = "MESSAGES", value_parser = value_parser!(u32).range(1..=10_000_000))]
    pub rate: Option<u32>,

    /// Bytes of each message's text, at least 40.
    #[arg(long, value_name = "BYTES", default_value_t = 64,
        value_parser = value_parser!(u32).range(HEADER_BYTES as i64..=65_000))]
    pub size: u32,

    /// How long to measure.
    #[arg(short, long, value_name = "TIME", default_value = "10", value_parser = some_seconds)]
    pub seconds: Duration,

    /// How many messages to measure, instead of a time.
    #[arg(short, long, value_name = "N", conflicts_with = "seconds", value_parser = value_parser!(u64).range(1..))]
    pub messages: Option<u64>,

    /// Seconds of load that count for nothing, before.
    #[arg(long, value_name = "TIME", default_value = "1", value_parser = seconds)]
    pub warm_up: Duration,

    /// Seconds in which nothing arrives, after which what is still on its way is lost.
    #[arg(long, value_name = "TIME", default_value = "10", value_parser = some_seconds)]
    pub patience: Duration,

    /// Seconds to go on listening at the end, for what should not come.
    #[arg(long, value_name = "TIME", default_value = "0.1", value_parser = seconds)]
    pub linger: Duration,

    /// The server's process on this machine, to measure what it costs.
    #[arg(long, conflicts_with = "start")]
    pub pid: Option<u32>,

    /// Put the bare loop of `send` under the same load in turns with the server, and tell the ratios of what they cost.
    #[arg(long)]
    pub floor: bool,

    /// How often the floor and the server take turns [default: 3].
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    pub pairs: Option<u32>,

    /// What every benchmark of the real server takes.
    #[command(flatten)]
    pub common: Common,
}

impl Options {
    /// Reads the command line; help and wrong values are answered and end the process.
    pub fn from_command_line() -> Options {
        Options::parse()
    }

    /// By what a server is known that speaks TLS.
    pub fn trust(&self) -> Option<Trust> {
        self.tls_ca.clone().map(Trust::CaFile).or(self.insecure.then_some(Trust::Nobody))
    }

    /// What they come to, checked against each other and against what this process may open.
    pub fn settings(&self, descriptors: u64) -> Result<Settings> {
        if self.room_prefix.contains(|c: char| c.is_control() || c == '"' || c == '\\') {
            return Err(Error::new("--room-prefix: no quotes, backslashes and control characters, please"));
        }
        self.check_combination()?;
        let load = self.rate.map_or(Load::InFlight(self.in_flight), Load::Rate);
        let publishers = match (self.publishers, load) {
            (Some(given), _) => given as usize,
            (None, Load::InFlight(messages)) => (messages as usize).min(PUBLISHERS_OF_A_WINDOW),
            (None, Load::Rate(messages)) => (messages as usize).div_ceil(RATE_OF_A_PUBLISHER),
        };
        let plan = Plan {
            members: self.connections as usize,
            rooms: self.rooms as usize,
            rooms_each: self.rooms_per_connection as usize,
            publishers,
            room_prefix: self.room_prefix.clone(),
        };
        plan.check()?;
        let what = format!("{} connections and {publishers} publishers", self.connections);
        check_descriptors(&what, plan.members + publishers, descriptors, "--connections")?;
        Ok(Settings {
            plan,
            load,
            message_bytes: self.size as usize,
            connecting_max: self.connecting_max as usize,
            joining: if self.join_by_url { Joining::ByUrl } else { Joining::ByCommand },
            extent: self.messages.map_or(Extent::Time(self.seconds), Extent::Messages),
            warm_up: self.warm_up,
            patience: self.patience,
            linger: self.linger,
        })
    }

    /// Checks what clap does not: there, an option that conflicts with one that is given is not missed by those that require it.
    fn check_combination(&self) -> Result<()> {
        if self.url.is_none() && !self.start {
            return Err(Error::new(
                "a server is needed: ws://host:port/path, or --start for one of this program's own",
            ));
        }
        for (given, flag) in [
            (self.redis, "--redis"),
            (self.floor, "--floor"),
            (self.common.no_pin, "--no-pin"),
            (!self.common.server_arg.is_empty(), "--server-arg"),
        ] {
            if given && !self.start {
                return Err(Error::new(format!("{flag} is for a server that --start starts")));
            }
        }
        if self.pairs.is_some() && !self.floor {
            return Err(Error::new("--pairs is for --floor"));
        }
        Ok(())
    }

    /// How often the floor and the server take turns.
    pub fn pairs(&self) -> u32 {
        self.pairs.unwrap_or(PAIRS)
    }

    /// What a server is started with: no limits that this load would run into, and what `--server-arg` says.
    pub fn server_arguments(&self) -> Vec<String> {
        let given = &self.common.server_arg;
        let mut arguments = given.clone();
        let rooms = self.rooms_per_connection.max(128).to_string();
        let mut limits = vec![
            ("--limits-messages-per-second", "0"),
            ("--limits-bytes-per-second", "0"),
            ("--limits-rooms-per-connection-max", &rooms),
        ];
        if self.redis {
            // The most that they take. What is beyond them is dropped, and nobody told.
            limits.extend([("--redis-publishes-in-flight-max", "1048576"), ("--redis-buffer-bytes-max", "1073741824")]);
        }
        for (flag, value) in limits {
            if !given.iter().any(|argument| argument.split('=').next() == Some(flag)) {
                arguments.push(format!("{flag}={value}"));
            }
        }
        arguments
    }
}

fn seconds(text: &str) -> std::result::Result<Duration, String> {
    let seconds = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

fn some_seconds(text: &str) -> std::result::Result<Duration, String> {
    let time = seconds(text)?;
    if time.is_zero() { Err("no time at all".to_owned()) } else { Ok(time) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(arguments: &str) -> Options {
        Options::try_parse_from(std::iter::once("fanfare-bench").chain(arguments.split_whitespace())).unwrap()
    }

    #[test]
    fn what_is_for_a_server_of_its_own_is_refused_with_a_url() {
        for flag in ["--redis", "--floor", "--no-pin", "--server-arg=--workers=2"] {
            let told =
                |arguments: &str| options(arguments).settings(u64::MAX).map(drop).map_err(|error| error.to_string());
            let error = told(&format!("ws://localhost {flag}")).unwrap_err();
            assert!(flag.starts_with(error.split(' ').next().unwrap()), "{flag}: {error}");
            assert_eq!(told(&format!("--start {flag}")), Ok(()));
        }
        assert!(options("ws://localhost --pairs 2").settings(u64::MAX).is_err());
        assert!(options("--start --pairs 2").settings(u64::MAX).is_err());
        assert_eq!([options("--start --floor").pairs(), options("--start --floor --pairs 2").pairs()], [3, 2]);
    }

    #[test]
    fn a_server_and_some_time_are_needed() {
        let error = options("").settings(u64::MAX).unwrap_err().to_string();
        assert!(error.contains("ws://") && error.contains("--start"), "{error}");
        for arguments in ["--start -s 0", "--start --seconds 1e-12", "--start --patience 0", "--start -s -1"] {
            let arguments = std::iter::once("fanfare-bench").chain(arguments.split_whitespace());
            assert!(Options::try_parse_from(arguments).is_err());
        }
        let none = options("--start --warm-up 0 --linger 0").settings(u64::MAX).unwrap();
        assert!(none.warm_up.is_zero() && none.linger.is_zero());
    }

    #[test]
    fn a_server_of_its_own_has_no_limit_that_the_load_runs_into_but_those_it_is_given() {
        let flag = "--redis-publishes-in-flight-max=";
        let of = |arguments: &str| options(arguments).server_arguments();
        assert!(!of("--start").iter().any(|argument| argument.starts_with(flag)));
        assert!(of("--start --redis").contains(&format!("{flag}1048576")));
        let given = of(&format!("--start --redis --server-arg={flag}5"));
        assert_eq!(
            given.iter().filter(|argument| argument.starts_with(flag)).collect::<Vec<_>>(),
            [&format!("{flag}5")]
        );
    }
}
