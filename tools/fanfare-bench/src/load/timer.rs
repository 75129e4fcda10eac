//! A timer on the poll. The poll's own timeout counts in ms, which is more than a message takes.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use crate::{Context, Result};

/// Rings once at the moment it is set to.
#[derive(Debug)]
pub struct Timer {
    descriptor: OwnedFd,
    /// The moment for which it is set.
    set_to: Option<u64>,
}

impl Timer {
    /// One that rings as an event of `token`.
    pub fn new(registry: &Registry, token: Token) -> Result<Timer> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let descriptor = timerfd_create(TimerfdClockId::Monotonic, flags).context("cannot make a timer")?;
        registry
            .register(&mut SourceFd(&descriptor.as_raw_fd()), token, Interest::READABLE)
            .context("cannot wait for a timer")?;
        Ok(Timer { descriptor, set_to: None })
    }

    /// Sets it to a moment, which is so many ns away. `None` leaves it alone: it may ring once more for nothing.
    pub fn set(&mut self, moment: Option<(u64, u64)>) -> Result<()> {
        let Some((moment, away_ns)) = moment else { return Ok(()) };
        if self.set_to == Some(moment) {
            return Ok(());
        }
        // Zero would switch it off.
        let away = Duration::from_nanos(away_ns.max(1));
        let at = Timespec { tv_sec: away.as_secs() as i64, tv_nsec: i64::from(away.subsec_nanos()) };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: at };
        timerfd_settime(&self.descriptor, TimerfdTimerFlags::empty(), &once).context("cannot set a timer")?;
        self.set_to = Some(moment);
        Ok(())
    }

    /// It has rung. It need not be read: setting it again makes it ring anew.
    pub fn rang(&mut self) {
        self.set_to = None;
    }
}
