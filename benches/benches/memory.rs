//! The core's memory, counted by an allocator: `cargo bench -p fanfare-benches --bench memory`. What an idle subscriber
//! holds, and the most that was held on its way in. No sockets and no broker: what the whole server takes, `server.rs` tells.

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("This benchmark shares its clients with those that read /proc, so it runs on Linux only.");
}

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    use clap::Parser;

    fanfare_bench::command::run(&[], || linux::measure(&linux::Options::parse()))
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fmt::Write as _;
    use std::time::Duration;

    use allocation_counter::{AllocationInfo, opt_out};
    use clap::{Parser, value_parser};
    use fanfare_bench::machine::Machine;
    use fanfare_bench::{Error, Result, report, server};
    use fanfare_benches::rooms::Rooms;
    use fanfare_core::broker::BrokerEvent;
    use fanfare_core::time::Time;
    use fanfare_core::{Action, Config, Core, Event, Turn};
    use fanfare_wire as wire;
    use serde_json::{Value, json};

    /// How many connections there are, unless the command line says so.
    const CONNECTIONS: [u32; 4] = [1_000, 10_000, 100_000, 1_000_000];

    /// Memberships beyond this many take longer than some seconds, so they are measured only where `--connections` asks.
    const MEMBERSHIPS_MAX: usize = 1_000_000;

    /// From one client to the next: more of them a second than any server lets in, and a million are there before the first
    /// has been silent for a ping's interval.
    const CLIENT_PACE: Duration = Duration::from_micros(10);

    /// What the core keeps of clients that have just been busy goes with the turns of this time, before the first ping.
    const SETTLING: Duration = Duration::from_secs(12);

    /// A turn as often as this, meanwhile.
    const SETTLING_PACE: Duration = Duration::from_millis(10);

    #[derive(Debug, Parser)]
    #[command(
        name = "memory",
        bin_name = "cargo bench -p fanfare-benches --bench memory --",
        about = "Counts what idle subscribers hold in the core's memory"
    )]
    pub struct Options {
        /// How many connections; may be repeated [default: 1,000 to 1,000,000, by tens].
        #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=1_000_000))]
        connections: Vec<u32>,

        /// Which rooms they are in; may be repeated [default: all three in turn].
        #[arg(long, value_enum)]
        rooms: Vec<Rooms>,

        /// One JSON object on stdout instead of the table.
        #[arg(long)]
        json: bool,

        /// Cargo adds it when it runs benchmarks, and leaves it out when it runs tests.
        #[arg(long, hide = true)]
        bench: bool,
    }

    /// Figures come last, on stdout; what is going on, on stderr.
    pub fn measure(options: &Options) -> Result<()> {
        if !options.bench {
            println!("Nothing measured: run it with `cargo bench -p fanfare-benches --bench memory`.");
            return Ok(());
        }
        let all = if options.rooms.is_empty() { &Rooms::ALL[..] } else { &options.rooms };
        let given = !options.connections.is_empty();
        let counts = if given { &options.connections[..] } else { &CONNECTIONS };
        let mut idle = Vec::new();
        for &rooms in all {
            for connections in counts.iter().map(|&count| count as usize) {
                if given || connections * rooms.of_each() <= MEMBERSHIPS_MAX {
                    report::say(format_args!("{connections} connections, {rooms}"));
                    idle.push(Idle::measure(connections, rooms)?);
                }
            }
        }
        let revision = Machine::look(&server::workspace()).revision;
        report::print(&if options.json {
            let idle: Vec<Value> = idle.iter().map(Idle::json).collect();
            format!("{:#}\n", json!({ "revision": revision, "idle": idle }))
        } else {
            text(revision.as_deref(), &idle)
        })
    }

    /// What was counted from the first connection until all were idle.
    struct Idle {
        connections: usize,
        rooms: Rooms,
        counted: AllocationInfo,
    }

    impl Idle {
        fn measure(connections: usize, rooms: Rooms) -> Result<Idle> {
            let mut host = Host::new(connections);
            let counted = allocation_counter::measure(|| {
                (0..connections).for_each(|index| host.join(index, rooms));
                host.settle();
            });
            let metrics = host.core.metrics();
            let (there, memberships) = (connections as u64, (connections * rooms.of_each()) as u64);
            if (metrics.connections_now, metrics.memberships_now) != (there, memberships) {
                return Err(Error::new(format!("not everybody is in its rooms: {metrics:?}")));
            }
            if host.confirmed != memberships {
                return Err(Error::new(format!("SUBSCRIBED came {} times instead of {memberships}", host.confirmed)));
            }
            Ok(Idle { connections, rooms, counted })
        }

        fn each(&self, count: impl TryInto<i64>) -> f64 {
            count.try_into().unwrap_or(i64::MAX) as f64 / self.connections as f64
        }

        fn json(&self) -> Value {
            let AllocationInfo { bytes_current, bytes_max, count_current, count_max, count_total, .. } = self.counted;
            json!({
                "rooms": self.rooms.to_string(), "connections": self.connections,
                "bytes": bytes_current, "bytes_each": self.each(bytes_current),
                "allocations": count_current, "allocations_each": self.each(count_current),
                "peak_bytes": bytes_max, "peak_bytes_each": self.each(bytes_max),
                "peak_allocations": count_max, "peak_allocations_each": self.each(count_max),
                "allocations_made": count_total, "allocations_made_each": self.each(count_total),
            })
        }
    }

    fn text(revision: Option<&str>, idle: &[Idle]) -> String {
        let mut out = format!("The core's memory for each subscriber, revision {}\n\n", revision.unwrap_or("unknown"));
        // Writing to a string cannot fail.
        let _ = writeln!(out, "  {:<14}  {:>11} {:>21}  {:>33}", "", "", "idle", "on the way in");
        let _ = writeln!(
            out,
            "  {:<14}  {:>11} {:>9} {:>11}  {:>10} {:>10} {:>11}",
            "", "connections", "bytes", "allocations", "peak bytes", "x idle", "allocations"
        );
        for idle in idle {
            let counted = &idle.counted;
            let (bytes, peak) = (idle.each(counted.bytes_current), idle.each(counted.bytes_max));
            let _ = writeln!(
                out,
                "  {:<14}  {:>11} {bytes:>9.1} {:>11.3}  {peak:>10.1} {:>10.2} {:>11.3}",
                idle.rooms,
                idle.connections,
                idle.each(counted.count_current),
                peak / bytes,
                idle.each(counted.count_total),
            );
        }
        out
    }

    /// A core, the time it is told, and in place of a broker somebody who confirms every subscription. What it is fed is not
    /// counted: that is its adapter's.
    struct Host {
        core: Core,
        now: Time,
        asked: Vec<String>,
        confirmed: u64,
    }

    impl Host {
        /// With the limits that a server has by default, but for the connections.
        fn new(connections: usize) -> Host {
            let mut config = Config::default();
            config.admission.connections_max = connections;
            let mut host = Host { core: Core::new(config), now: Time::ZERO, asked: Vec::new(), confirmed: 0 };
            host.turn(|turn| {
                turn.feed(Event::Broker(BrokerEvent::Up));
                turn.feed(Event::Broker(BrokerEvent::PublisherUp));
            });
            host
        }

        /// Client `index` connects and upgrades, subscribes, and is told that it is.
        fn join(&mut self, index: usize, rooms: Rooms) {
            let (mut request, mut commands) = (Vec::new(), Vec::new());
            opt_out(|| {
                request = wire::upgrade_request("/", wire::COMPRESSION_OFFER).into_bytes();
                rooms.names_of(index).iter().for_each(|room| wire::write_subscribe(room, &mut commands));
            });
            let mut opened = None;
            self.turn(|turn| {
                let conn = turn.open().expect("there is a place");
                turn.feed(Event::Bytes { conn, data: &mut request });
                opened = Some(conn);
            });
            let conn = opened.expect("set above");
            self.turn(|turn| turn.feed(Event::Bytes { conn, data: &mut commands }));
            let mut asked = std::mem::take(&mut self.asked);
            self.turn(|turn| {
                asked.iter().for_each(|room| turn.feed(Event::Broker(BrokerEvent::Subscribed { room })));
            });
            opt_out(|| {
                asked.clear();
                drop((request, commands));
            });
            self.asked = asked;
            self.now = self.now + CLIENT_PACE;
        }

        fn settle(&mut self) {
            for _ in 0..SETTLING.as_nanos() / SETTLING_PACE.as_nanos() {
                self.now = self.now + SETTLING_PACE;
                self.turn(|_| {});
            }
        }

        /// One turn on sockets that take everything.
        fn turn(&mut self, feed: impl FnOnce(&mut Turn<'_>)) {
            let mut turn = self.core.turn(self.now);
            feed(&mut turn);
            turn.feed(Event::Timeout);
            let mut actions = turn.finish();
            while let Some(action) = actions.next() {
                match action {
                    Action::Send(mut delivery) => {
                        let answers = confirmations(delivery.bytes());
                        while delivery.next_target().is_some() {
                            self.confirmed += answers;
                        }
                    }
                    Action::Ask(fanfare_core::broker::Ask::Subscribe { room }) => {
                        opt_out(|| self.asked.push(room.to_owned()))
                    }
                    other => panic!("nobody leaves or says anything here: {other:?}"),
                }
            }
        }
    }

    /// How many `SUBSCRIBED` there are in what is sent to a client.
    fn confirmations(bytes: &[u8]) -> u64 {
        let (mut rest, mut count) = (bytes, 0);
        if bytes.starts_with(b"HTTP/") {
            return 0;
        }
        while let Ok(Some(frame)) = wire::first_frame(rest) {
            count += u64::from(frame.payload.starts_with(wire::SUBSCRIBED_PREFIX));
            rest = &rest[frame.wire_bytes..];
        }
        count
    }
}
