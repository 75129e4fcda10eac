//! What a process costs, as the kernel accounts for it: processor time and memory. Reads `/proc`, changes nothing.

use std::fs;
use std::time::Duration;

use crate::{Context, Error, Result};

/// Memory is read at this pace, until it holds still: a server may give back what the way in needed.
const SETTLE_PACE: Duration = Duration::from_millis(200);

/// So many equal readings in a row are called still.
const SETTLED_READINGS: usize = 4;

/// A server whose memory never holds still is read after this many.
const READINGS_MAX: usize = 25;

/// Processor time a process has used so far, or between two such readings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTime {
    /// Time on a processor, exact: the sum over its threads (`/proc/PID/task/*/schedstat`).
    pub total_ns: u64,
    /// Clock ticks in user mode (`/proc/PID/stat`).
    pub user_ticks: u64,
    /// Clock ticks in the kernel.
    pub system_ticks: u64,
}

impl CpuTime {
    /// What process `pid` has used until now. Threads that have ended no longer count.
    pub fn of(pid: u32) -> Result<CpuTime> {
        let (user_ticks, system_ticks) = ticks(pid)?;
        let total_ns = match scheduled_ns(pid)? {
            // A kernel without these statistics shows zeros; ticks are all there is then.
            0 => (user_ticks + system_ticks) * (1_000_000_000 / rustix::param::clock_ticks_per_second()),
            ns => ns,
        };
        Ok(CpuTime { total_ns, user_ticks, system_ticks })
    }

    /// What was used since `earlier`.
    #[must_use]
    pub fn since(self, earlier: CpuTime) -> CpuTime {
        CpuTime {
            total_ns: self.total_ns.saturating_sub(earlier.total_ns),
            user_ticks: self.user_ticks.saturating_sub(earlier.user_ticks),
            system_ticks: self.system_ticks.saturating_sub(earlier.system_ticks),
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: CpuTime) -> CpuTime {
        CpuTime {
            total_ns: self.total_ns + other.total_ns,
            user_ticks: self.user_ticks + other.user_ticks,
            system_ticks: self.system_ticks + other.system_ticks,
        }
    }

    /// Time in user mode. Most kernels only sample which mode a process is in, once per tick (10 ms): the share is
    /// sampled, the total it is a share of is exact. `None` if not a single tick was seen.
    pub fn user_ns(self) -> Option<f64> {
        let ticks = self.user_ticks + self.system_ticks;
        (ticks > 0).then(|| self.total_ns as f64 * self.user_ticks as f64 / ticks as f64)
    }
}

fn ticks(pid: u32) -> Result<(u64, u64)> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).context(&path)?;
    // The second field is the name in parentheses, which may contain anything; the count starts behind it. There,
    // user and system time are fields 14 and 15 of proc(5), the 12th and 13th after the name.
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut fields = after_name.split_ascii_whitespace().skip(11).map(str::parse::<u64>);
    match (fields.next(), fields.next()) {
        (Some(Ok(user)), Some(Ok(system))) => Ok((user, system)),
        _ => Err(Error::new(format!("{path} is not as proc(5) describes it: {stat}"))),
    }
}

fn scheduled_ns(pid: u32) -> Result<u64> {
    let directory = format!("/proc/{pid}/task");
    let mut total = 0;
    for thread in fs::read_dir(&directory).context(&directory)? {
        let path = thread.context(&directory)?.path().join("schedstat");
        // A thread may end between the listing and the reading.
        let Ok(text) = fs::read_to_string(path) else { continue };
        total += text.split_ascii_whitespace().next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(total)
}

/// Bytes of anonymous memory of process `pid`: heap, stacks and written copies of mapped files, not the program text
/// and not the kernel's socket buffers (`/proc/PID/smaps_rollup`).
pub fn anonymous_bytes(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).context(&path)?;
    text.lines()
        .find_map(|line| line.strip_prefix("Anonymous:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok())
        .map(|kib| kib * 1024)
        .ok_or_else(|| Error::new(format!("{path} has no Anonymous line")))
}

/// Bytes of memory of process `pid` that are in use now, program text included (`VmRSS` in `/proc/PID/status`).
pub fn resident_bytes(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).context(&path)?;
    text.lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok())
        .map(|kib| kib * 1024)
        .ok_or_else(|| Error::new(format!("{path} has no VmRSS line")))
}

/// Bytes of memory that the kernel has for the TCP sockets of all processes (`mem` in `/proc/net/sockstat`).
pub fn sockets_bytes() -> Result<u64> {
    let path = "/proc/net/sockstat";
    let text = fs::read_to_string(path).context(path)?;
    text.lines()
        .find_map(|line| line.strip_prefix("TCP:")?.split_once(" mem ")?.1.trim().parse::<u64>().ok())
        .map(|pages| pages * rustix::param::page_size() as u64)
        .ok_or_else(|| Error::new(format!("{path} is not as proc(5) describes it: {text}")))
}

/// Anonymous memory of process `pid` once it holds still. `idle` passes the time between readings.
pub fn settled_memory(pid: u32, mut idle: impl FnMut(Duration) -> Result<()>) -> Result<u64> {
    let (mut last, mut equal) = (anonymous_bytes(pid)?, 1);
    for _ in 0..READINGS_MAX {
        if equal == SETTLED_READINGS {
            break;
        }
        idle(SETTLE_PACE)?;
        let now = anonymous_bytes(pid)?;
        equal = if now == last { equal + 1 } else { 1 };
        last = now;
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_work_shows_up_as_processor_time() {
        let pid = std::process::id();
        let before = CpuTime::of(pid).unwrap();
        let mut text = String::new();
        while CpuTime::of(pid).unwrap().since(before).total_ns < 1_000_000 {
            text.push('x');
        }
        assert!(!text.is_empty());
    }

    #[test]
    fn own_memory_shows_up_as_anonymous_bytes() {
        let pid = std::process::id();
        let before = anonymous_bytes(pid).unwrap();
        let block = std::hint::black_box(vec![1u8; 8 << 20]);
        let after = anonymous_bytes(pid).unwrap();
        assert!(after >= before + (7 << 20), "{before} -> {after} with {} more", block.len());
    }

    #[test]
    fn user_time_is_the_sampled_share_of_the_exact_total() {
        let spent = CpuTime { total_ns: 1_000, user_ticks: 1, system_ticks: 3 };
        assert_eq!(spent.user_ns(), Some(250.0));
        assert_eq!(CpuTime::default().user_ns(), None);
    }
}
