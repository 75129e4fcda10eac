//! Figures of the process as every Prometheus client has them, read from `/proc` (proc(5)) when somebody asks for them. Elsewhere
//! than on Linux there are none.

use super::exposition::{Kind, metric};
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};
use std::fmt::Display;
use std::fs;

/// Appends what can be read.
pub(crate) fn render(text: &mut String) {
    let mut sample = |name: &str, kind: Kind, help: &str, value: Option<&dyn Display>| {
        if let Some(value) = value {
            metric(text, name, kind, help, value);
        }
    };
    let stat = fs::read_to_string("/proc/self/stat").ok().and_then(|text| Stat::parse(&text));
    let cpu = stat.map(|stat| stat.cpu_ticks as f64 / clock_ticks_per_second() as f64);
    sample(
        "process_cpu_seconds_total",
        Kind::Counter,
        "Processor time used by the process, its own and the system's for it.",
        cpu.as_ref().map(|value| value as &dyn Display),
    );
    let resident = stat.map(|stat| stat.resident_pages * page_size() as u64);
    sample(
        "process_resident_memory_bytes",
        Kind::Gauge,
        "Memory of the process that is in use.",
        resident.as_ref().map(|value| value as &dyn Display),
    );
    let virtual_bytes = stat.map(|stat| stat.virtual_bytes);
    sample(
        "process_virtual_memory_bytes",
        Kind::Gauge,
        "Addresses that the process has mapped.",
        virtual_bytes.as_ref().map(|value| value as &dyn Display),
    );
    let threads = stat.map(|stat| stat.threads);
    sample("process_threads", Kind::Gauge, "Threads.", threads.as_ref().map(|value| value as &dyn Display));
    let started =
        stat.and_then(|stat| Some(boot_time()? as f64 + stat.start_ticks as f64 / clock_ticks_per_second() as f64));
    sample(
        "process_start_time_seconds",
        Kind::Gauge,
        "When the process was started, in seconds since the epoch.",
        started.as_ref().map(|value| value as &dyn Display),
    );
    let descriptors = open_descriptors();
    sample(
        "process_open_fds",
        Kind::Gauge,
        "Open file descriptors.",
        descriptors.as_ref().map(|value| value as &dyn Display),
    );
    let most = stat.and_then(|_| getrlimit(Resource::Nofile).current);
    sample(
        "process_max_fds",
        Kind::Gauge,
        "The limit of open file descriptors.",
        most.as_ref().map(|value| value as &dyn Display),
    );
}

/// What proc_pid_stat(5) tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    cpu_ticks: u64,
    threads: u64,
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Stat> {
        // The second field is a name in parentheses, with anything in it.
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        // The first one here is the third there.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Stat {
            cpu_ticks: field(14)? + field(15)?,
            threads: field(20)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

/// In seconds since the epoch.
fn boot_time() -> Option<u64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn open_descriptors() -> Option<u64> {
    // Since Linux 6.2 this is the number of them; before, the directory has to be read, which itself takes one.
    match fs::metadata("/proc/self/fd").ok()?.len() {
        0 => Some((fs::read_dir("/proc/self/fd").ok()?.count() as u64).saturating_sub(1)),
        open => Some(open),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_anything_in_it_is_passed_over() {
        let text = "7 (a) (b c) S 1 7 7 0 -1 4194560 1 0 0 0 31 11 0 0 20 0 5 0 1234 8192 99 18446744073709551615";
        let expected = Stat { cpu_ticks: 42, threads: 5, start_ticks: 1234, virtual_bytes: 8192, resident_pages: 99 };
        assert_eq!(Stat::parse(text), Some(expected));
        assert_eq!(Stat::parse("7 (a) S 1"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_process_is_described() {
        let mut text = String::new();
        render(&mut text);
        for (name, least) in [
            ("process_cpu_seconds_total", 0.0),
            ("process_resident_memory_bytes", 65_536.0),
            ("process_virtual_memory_bytes", 65_536.0),
            ("process_threads", 1.0),
            ("process_start_time_seconds", 1_600_000_000.0),
            ("process_open_fds", 3.0),
            ("process_max_fds", 3.0),
        ] {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse::<f64>().ok());
            assert!(value.is_some_and(|value| value >= least), "{name}: {text}");
        }
    }
}
