//! The command: attacks the real `fanfare` and prints what its clients notice. What it does lives in `src/abuse/`.

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("This benchmark reads /proc, so it runs on Linux only.");
}

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    use fanfare_benches::abuse::{attack, options::Options};

    fanfare_bench::command::run(&[(attack::ATTACK, attack::run)], || linux::measure(Options::from_command_line()))
}

#[cfg(target_os = "linux")]
mod linux {
    use fanfare_bench::machine::{self, Machine, Placement};
    use fanfare_bench::{Result, report, server};
    use fanfare_benches::abuse::options::Options;
    use fanfare_benches::abuse::report::Report;
    use fanfare_benches::abuse::{self, Setup};

    /// Everything, in order: figures come last, on stdout; what is going on, on stderr.
    pub fn measure(options: Options) -> Result<()> {
        if !options.common.bench {
            println!("Nothing measured: run it with `cargo bench -p fanfare-benches --bench abuse`.");
            return Ok(());
        }
        machine::raise_descriptor_limit()?;
        let binary = server::binary()?;
        let machine = Machine::look(&server::workspace());
        let (processors, pins) = (machine::processors()?, options.common.pins(&binary)?);
        let placement = Placement::split_for_attack(pins)?;
        let setup = Setup { options, binary, processors, pins, placement };

        let mut attacks = Vec::new();
        for &attack in setup.options.attacks() {
            attacks.push(abuse::measure(&setup, attack, |number, pair| {
                let (number, pairs, name) = (number + 1, setup.options.pairs, attack.name());
                report::say(format_args!("{name}, {number} of {pairs}: {:.1} times the quiet p99", pair.p99_ratio()));
            })?);
        }
        let json = setup.options.common.json;
        let report = Report { machine, setup, attacks };
        report::print(&if json { format!("{:#}\n", report.json()) } else { format!("\n{}", report.text()?) })
    }
}
