//! The command: measures the real `fanfare` beside the floor and prints the figures. What it does lives in `src/`.

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("This benchmark reads /proc, so it runs on Linux only.");
}

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    use fanfare_bench::floor;
    use fanfare_benches::options::Options;

    fanfare_bench::command::run(&[(floor::FLOOR, floor::run)], || linux::measure(Options::from_command_line()))
}

#[cfg(target_os = "linux")]
mod linux {
    use fanfare_bench::comparison::{Round, Subject};
    use fanfare_bench::machine::{self, Machine, Placement};
    use fanfare_bench::redis::Redis;
    use fanfare_bench::report;
    use fanfare_bench::{Error, Result, server};
    use fanfare_benches::options::Options;
    use fanfare_benches::report::Report;
    use fanfare_benches::rooms::Rooms;
    use fanfare_benches::subject::Setup;
    use fanfare_benches::{fan_out, idle};

    /// Everything, in order: figures come last, on stdout; what is going on, on stderr.
    pub fn measure(options: Options) -> Result<()> {
        if !options.common.bench {
            println!("Nothing measured: run it with `cargo bench -p fanfare-benches --bench server`.");
            return Ok(());
        }
        options.check(machine::raise_descriptor_limit()?)?;
        let servers = servers(&options)?;
        let json = options.common.json;
        let binary = server::binary()?;
        let machine = Machine::look(&server::workspace());
        let placement = Placement::split(options.common.pins(&binary)?)?;
        let setup = Setup::new(options.clone(), binary, placement)?;

        let mut idle = Vec::new();
        for subject in std::iter::once(Subject::Floor).chain(servers.iter().copied()) {
            // The floor knows no rooms.
            let rooms = if subject == Subject::Floor { &[Rooms::One] } else { options.rooms() };
            for &rooms in rooms {
                report::say(format_args!("idle subscribers: {subject}, {rooms}"));
                idle.push(idle::measure(&setup, subject, rooms)?);
            }
        }
        let tell = |lap: u32, round: &Round| {
            let (lap, laps) = (lap + 1, options.pairs);
            report::say(format_args!(
                "fan-out, lap {lap} of {laps}: {} {:.3} µs per delivery",
                round.subject,
                round.total_us()
            ));
        };
        let laps = if options.no_fan_out { Vec::new() } else { fan_out::measure(&setup, &servers, tell)? };

        let report = Report { machine, setup, idle, laps };
        report::print(&if json { format!("{:#}\n", report.json()) } else { format!("\n{}", report.text()) })
    }

    /// With Redis where it can be had, unless one of the two is asked for.
    fn servers(options: &Options) -> Result<Vec<Subject>> {
        let redis_is_here = Redis::program().is_some();
        if options.redis {
            return if redis_is_here {
                Ok(vec![Subject::Redis])
            } else {
                Err(Error::new("--redis: redis-server is not in PATH; install it first"))
            };
        }
        if !redis_is_here && !options.embedded {
            report::say(format_args!("redis-server is not in PATH: only the embedded broker is measured"));
        }
        Ok(if redis_is_here && !options.embedded {
            vec![Subject::Embedded, Subject::Redis]
        } else {
            vec![Subject::Embedded]
        })
    }
}
