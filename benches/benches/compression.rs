//! The command: the real `fanfare` with and without permessage-deflate. What it does lives in `src/compression.rs`.

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("This benchmark reads /proc, so it runs on Linux only.");
}

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    fanfare_bench::command::run(&[], || linux::measure(clap::Parser::parse()))
}

#[cfg(target_os = "linux")]
mod linux {
    use fanfare_bench::machine::{self, Machine, Placement};
    use fanfare_bench::{Result, report, server};
    use fanfare_benches::compression::{self, Options, Report, Setup};

    /// Everything, in order: figures come last, on stdout; what is going on, on stderr.
    pub fn measure(options: Options) -> Result<()> {
        if !options.common.bench {
            println!("Nothing measured: run it with `cargo bench -p fanfare-benches --bench compression`.");
            return Ok(());
        }
        machine::raise_descriptor_limit()?;
        let binary = server::binary()?;
        let machine = Machine::look(&server::workspace());
        let placement = Placement::split(options.common.pins(&binary)?)?;
        let setup = Setup { options, binary, placement };
        let sizes = compression::measure(&setup, |size, pair| {
            let (bytes, cpu) = (pair.bytes_ratio(), pair.cpu_ratio());
            report::say(format_args!("{size} bytes: {bytes:.3} of the bytes, {cpu:.3} of the processor time"));
        })?;
        let json = setup.options.common.json;
        let report = Report { machine, setup, sizes };
        report::print(&if json { format!("{:#}\n", report.json()) } else { format!("\n{}", report.text()) })
    }
}
