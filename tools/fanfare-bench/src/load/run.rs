//! One run: everybody connects, the load warms up, is measured, and comes to its end.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::check::Faults;
use super::clients::{Clients, Joining, Kind, Target};
use super::pace::Load;
use super::plan::Plan;
use super::traffic::{Tally, Traffic};
use super::watch::Watch;
use crate::floor::{ACCEPT_BATCH, Floor};
use crate::joining::JoiningFloor;
use crate::process::{CpuTime, settled_memory};
use crate::{Error, Result};

/// The last member has its message a moment before the server is done with it; after this pause it is.
const PAUSE_AFTER_THE_LAST: Duration = Duration::from_millis(5);

/// Samples of the mode that a server is in, below which they do not tell its share of user mode: with half a second of
/// them, a twentieth is told to within three hundredths.
const TICKS_MIN: u64 = 50;

/// How often the progress is told, and Ctrl-C is looked for where nothing else happens.
const LOOK: Duration = Duration::from_millis(200);

/// Where to look for messages that were lost.
const LOST: &str = "\n  A message without an id that a server cannot publish is dropped, and the sender not told. Fanfare counts \
those: fanfare_broker_publishes_dropped_total of its metrics.";

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who is where.
    pub plan: Plan,
    /// How messages follow one another.
    pub load: Load,
    /// Bytes of each message's text.
    pub message_bytes: usize,
    /// Connections that are on their way in at once.
    pub connecting_max: usize,
    /// How members get into their rooms.
    pub joining: Joining,
    /// How much is measured.
    pub extent: Extent,
    /// How much load there is before that.
    pub warm_up: Duration,
    /// How long nothing may arrive while something should.
    pub patience: Duration,
    /// How long something may arrive when nothing should: a duplicate that is late.
    pub linger: Duration,
}

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// What happens in so much time, while the load goes on.
    Time(Duration),
    /// So many messages, from the first to the last arrival.
    Messages(u64),
}

/// What a run has found out; parts of it, where it did not come to its end.
#[derive(Debug)]
pub struct Outcome {
    /// Everybody's way in.
    pub connecting: Option<Connecting>,
    /// The load, while it was measured.
    pub measured: Option<Measured>,
    /// From the moment messages were due to each reception, in ns.
    pub latency: Histogram<u64>,
    /// From the moment messages were due to their sending, in ns.
    pub lateness: Histogram<u64>,
    /// Everything since the first message, the warm-up included.
    pub total: Tally,
    /// What was wrong in it. Of a run that was cut off, what was on its way is not lost.
    pub faults: Faults,
    /// Receptions that a run that was cut off did not wait for.
    pub unfinished: u64,
    /// Whether somebody pressed Ctrl-C.
    pub interrupted: bool,
    /// Why it did not come to its end.
    pub failure: Option<Error>,
}

/// The members' way in.
#[derive(Clone, Copy, Debug)]
pub struct Connecting {
    /// From the first connection to the last subscription.
    pub took: Duration,
    /// Members.
    pub members: usize,
    /// What the server used for it.
    pub cpu: Option<CpuTime>,
    /// The server's anonymous memory without members and with all of them, idle.
    pub memory: Option<[u64; 2]>,
}

/// What happened in a span of time.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// How long it was.
    pub took: Duration,
    /// What was sent and what arrived in it.
    pub tally: Tally,
    /// Processor time of the server.
    pub server: Option<CpuTime>,
    /// Processor time of this program.
    pub own: CpuTime,
}

#[derive(Clone, Copy)]
struct Moment {
    at: u64,
    tally: Tally,
    server: Option<CpuTime>,
    own: CpuTime,
}

/// Does it with the server `target`, whose process is `pid` if that is known.
pub fn run(settings: &Settings, target: Target, pid: Option<u32>, watch: &mut Watch) -> Result<Outcome> {
    run_with(settings, target, pid, watch, |run| run.connect())
}

/// The same with the floor, which has one publisher whatever `settings` say.
pub fn run_floor(settings: &Settings, floor: &mut Floor, watch: &mut Watch) -> Result<Outcome> {
    let plan = Plan { publishers: 1, ..settings.plan.clone() };
    let settings = Settings { plan, ..settings.clone() };
    let target = Target { address: floor.address(), kind: Kind::Floor(floor.commands()?) };
    let pid = floor.child().pid();
    run_with(&settings, target, Some(pid), watch, |run| run.attach(floor))
}

/// Has the members join at the floor of joining, and nothing else. It tells all of them the same, so they are in the same
/// rooms, as many as each has to join.
pub fn run_joining(settings: &Settings, cpu: Option<usize>, watch: &mut Watch) -> Result<Connecting> {
    let plan = Plan { publishers: 0, rooms: settings.plan.rooms_each, ..settings.plan.clone() };
    let rooms: Vec<String> = (0..plan.rooms).map(|room| plan.name_of(room)).collect();
    let floor = JoiningFloor::start(settings.joining == Joining::ByUrl, &rooms, cpu)?;
    let settings = Settings { plan, ..settings.clone() };
    let kind = Kind::Server { host: floor.address().to_string(), path: "/".to_owned(), tls: None };
    let mut run = Run::new(&settings, Target { address: floor.address(), kind }, Some(floor.child().pid()), watch)?;
    let joined = run.join();
    run.watch.end();
    joined.map_err(|error| floor.child().explain(&error))
}

fn run_with(
    settings: &Settings,
    target: Target,
    pid: Option<u32>,
    watch: &mut Watch,
    connect: impl FnOnce(&mut Run<'_>) -> Result<()>,
) -> Result<Outcome> {
    let mut run = Run::new(settings, target, pid, watch)?;
    let failure = connect(&mut run).and_then(|()| run.load()).err();
    let cut_off = failure.is_some() && !run.waited;
    if run.measured.is_none() {
        // What had begun has no end; until now is all there is.
        let until = run.moment();
        run.measured = run.begin.map(|begin| until.since(begin));
    }
    run.watch.end();
    Ok(Outcome {
        connecting: run.connecting,
        measured: run.measured,
        latency: run.traffic.latency().clone(),
        lateness: run.traffic.lateness().clone(),
        total: run.traffic.tally(),
        faults: if cut_off { run.traffic.faults() } else { run.traffic.faults_at_the_end() },
        unfinished: if cut_off { run.traffic.outstanding() } else { 0 },
        interrupted: run.watch.interrupted(),
        failure,
    })
}

struct Run<'a> {
    settings: &'a Settings,
    pid: Option<u32>,
    watch: &'a mut Watch,
    clients: Clients,
    traffic: Traffic,
    connecting: Option<Connecting>,
    begin: Option<Moment>,
    measured: Option<Measured>,
    /// What the progress was when it was told last.
    told: (Tally, u64),
    /// Whether patience has run out, so that what has not come does not come.
    waited: bool,
}

impl<'a> Run<'a> {
    fn new(settings: &'a Settings, target: Target, pid: Option<u32>, watch: &'a mut Watch) -> Result<Run<'a>> {
        Ok(Run {
            settings,
            pid,
            watch,
            clients: Clients::new(target, settings.plan.publishers, settings.joining)?,
            traffic: Traffic::new(settings.plan.clone(), settings.load, settings.message_bytes)?,
            connecting: None,
            begin: None,
            measured: None,
            told: (Tally::default(), 0),
            waited: false,
        })
    }

    fn connect(&mut self) -> Result<()> {
        self.open(self.settings.plan.publishers)?;
        let before = self.settled_memory()?;
        let connecting = self.join()?;
        self.connecting = Some(connecting);
        let memory = before.zip(self.settled_memory()?).map(|(before, after)| [before, after]);
        self.connecting = Some(Connecting { memory, ..connecting });
        Ok(())
    }

    /// Lets the members in.
    fn join(&mut self) -> Result<Connecting> {
        let Plan { publishers, members, .. } = self.settings.plan;
        let (began, cpu) = (self.clients.now(), self.server_time());
        self.open(publishers + members)?;
        let took = Duration::from_nanos(self.clients.now() - began);
        let cpu = self.server_time().zip(cpu).map(|(after, before)| after.since(before));
        Ok(Connecting { took, members, cpu, memory: None })
    }

    /// The floor takes connections in batches, and nobody is measured meanwhile.
    fn attach(&mut self, floor: &mut Floor) -> Result<()> {
        let Plan { publishers, members, .. } = self.settings.plan;
        self.open(publishers)?;
        let mut left = members;
        while left > 0 {
            let batch = left.min(ACCEPT_BATCH);
            self.open(publishers + members - left + batch)?;
            floor.accept(batch)?;
            left -= batch;
        }
        Ok(())
    }

    /// Opens connections until there are `total`, and waits until all are ready.
    fn open(&mut self, total: usize) -> Result<()> {
        let patience = self.settings.patience.as_nanos() as u64;
        let mut heard_at = self.clients.now();
        loop {
            let (mut open, before) = self.clients.counts();
            if before >= total {
                return Ok(());
            }
            while open < total && open - before < self.settings.connecting_max {
                self.clients.open()?;
                open += 1;
            }
            self.turn(heard_at + patience)?;
            let ready = self.clients.counts().1;
            self.watch.tell(|| format!("{ready} of {total} connections"));
            if self.watch.interrupted() {
                return Err(Error::new(format!("interrupted when {ready} of {total} connections were ready")));
            }
            if ready > before {
                heard_at = self.clients.now();
            } else if self.clients.now() >= heard_at + patience {
                let missing = self.clients.what_is_missing().unwrap_or_default();
                return Err(Error::new(format!("after {ready} of {total} connections no more got in: {missing}")));
            }
        }
    }

    fn load(&mut self) -> Result<()> {
        self.load_to_the_last()?;
        self.turn_for(self.settings.linger)
    }

    fn load_to_the_last(&mut self) -> Result<()> {
        self.told.1 = self.clients.now();
        self.watch.begin();
        self.traffic.resume(u64::MAX, self.clients.now());
        self.go_on(Some(self.settings.warm_up))?;
        if self.watch.interrupted() {
            return self.go_on(None);
        }
        match self.settings.extent {
            Extent::Time(time) => {
                let begin = self.begin();
                self.go_on(Some(time))?;
                self.measured = Some(self.moment().since(begin));
                self.traffic.pause();
                self.go_on(None)
            }
            Extent::Messages(messages) => {
                self.traffic.pause();
                self.go_on(None)?;
                self.turn_for(PAUSE_AFTER_THE_LAST)?;
                let begin = self.begin();
                self.traffic.resume(messages, self.clients.now());
                self.go_on(None)?;
                let last = self.moment();
                self.turn_for(PAUSE_AFTER_THE_LAST)?;
                self.measured = Some(Moment { at: last.at, ..self.moment() }.since(begin));
                Ok(())
            }
        }
    }

    /// Lets the load go on for a time, or else until everything that may be sent has arrived. Ends earlier after Ctrl-C,
    /// and when nothing has arrived for too long, which is an error as long as more is to be sent.
    fn go_on(&mut self, time: Option<Duration>) -> Result<()> {
        let patience = self.settings.patience.as_nanos() as u64;
        let until = time.map(|time| self.clients.now() + time.as_nanos() as u64);
        let mut heard = (self.traffic.tally(), self.clients.now());
        loop {
            let now = self.clients.now();
            let tally = self.traffic.tally();
            if tally.deliveries != heard.0.deliveries || self.traffic.outstanding() == 0 {
                heard = (tally, now);
            }
            if until.is_some_and(|until| now >= until) {
                return Ok(());
            }
            if until.is_none() && self.traffic.is_silent() && self.traffic.outstanding() == 0 {
                return Ok(());
            }
            if now >= heard.1 + patience {
                self.waited = true;
                let problem = format!("nothing has arrived for {:?}", self.settings.patience);
                return if self.traffic.is_silent() { Ok(()) } else { Err(Error::new(problem)) };
            }
            if self.watch.interrupted() {
                self.traffic.pause();
                if until.is_some() {
                    return Ok(());
                }
            }
            self.watch.tell(|| {
                let seconds = (now - self.told.1).max(1) as f64 / 1e9;
                let each = |count: u64| count as f64 / seconds;
                let (sent, deliveries) = (tally.sent - self.told.0.sent, tally.deliveries - self.told.0.deliveries);
                self.told = (tally, now);
                format!("{:.0} messages/s, {:.0} deliveries/s", each(sent), each(deliveries))
            });
            self.turn(until.unwrap_or(u64::MAX).min(heard.1 + patience))?;
        }
    }

    fn begin(&mut self) -> Moment {
        self.traffic.record_from(self.clients.now());
        let begin = self.moment();
        self.begin = Some(begin);
        begin
    }

    fn turn(&mut self, until: u64) -> Result<()> {
        let look = self.clients.now() + LOOK.as_nanos() as u64;
        self.clients.turn(&mut self.traffic, until.min(look))
    }

    fn turn_for(&mut self, time: Duration) -> Result<()> {
        let until = self.clients.now() + time.as_nanos() as u64;
        while self.clients.now() < until {
            self.clients.turn(&mut self.traffic, until)?;
        }
        Ok(())
    }

    fn settled_memory(&mut self) -> Result<Option<u64>> {
        let Some(pid) = self.pid else { return Ok(None) };
        settled_memory(pid, |time| self.turn_for(time)).map(Some)
    }

    /// None of a server that is not known, or has ended.
    fn server_time(&self) -> Option<CpuTime> {
        CpuTime::of(self.pid?).ok()
    }

    fn moment(&self) -> Moment {
        Moment {
            at: self.clients.now(),
            tally: self.traffic.tally(),
            server: self.server_time(),
            own: CpuTime::of(std::process::id()).unwrap_or_default(),
        }
    }
}

impl Moment {
    fn since(self, earlier: Moment) -> Measured {
        let (now, then) = (self.tally, earlier.tally);
        Measured {
            took: Duration::from_nanos(self.at - earlier.at),
            tally: Tally {
                sent: now.sent - then.sent,
                deliveries: now.deliveries - then.deliveries,
                bytes: now.bytes - then.bytes,
                foreign: now.foreign - then.foreign,
            },
            server: self.server.zip(earlier.server).map(|(now, then)| now.since(then)),
            own: self.own.since(earlier.own),
        }
    }
}

impl Outcome {
    /// Why it does not count, if it does not.
    pub fn verdict(&self) -> Option<Error> {
        let wrong = || {
            let advice = if self.faults.lost > 0 { LOST } else { "" };
            (!self.faults.none()).then(|| Error::new(format!("not every message arrived once and in order{advice}")))
        };
        self.failure.clone().or_else(wrong).or_else(|| self.interrupted.then(|| Error::new("interrupted")))
    }
}

impl Connecting {
    /// Members a second.
    pub fn per_second(&self) -> f64 {
        self.members as f64 / self.took.as_secs_f64()
    }

    /// Processor time of the server for each member in µs.
    pub fn cpu_us(&self) -> Option<f64> {
        Some(self.cpu?.total_ns as f64 / 1e3 / self.members as f64)
    }

    /// Anonymous memory of the server for each member. None where it has not grown: a server that has had as many before
    /// uses what they have left, and a few may fit into pages that are there already.
    pub fn bytes_each(&self) -> Option<f64> {
        let [before, after] = self.memory?;
        Some(after.checked_sub(before).filter(|&bytes| bytes > 0)? as f64 / self.members as f64)
    }
}

impl Measured {
    /// So many of something, a second.
    pub fn per_second(&self, count: u64) -> f64 {
        count as f64 / self.took.as_secs_f64()
    }

    /// Processor time of the server per delivery in µs.
    pub fn total_us(&self) -> Option<f64> {
        self.each(self.server?.total_ns as f64)
    }

    /// Its share in user mode, sampled: see [`CpuTime::user_ns`]. None where there are too few samples.
    pub fn user_us(&self) -> Option<f64> {
        let server = self.server.filter(|cpu| cpu.user_ticks + cpu.system_ticks >= TICKS_MIN)?;
        self.each(server.user_ns()?)
    }

    /// The part of the time in which who has used `cpu` was at work: 1 is one processor.
    pub fn busy(&self, cpu: CpuTime) -> f64 {
        cpu.total_ns as f64 / self.took.as_nanos() as f64
    }

    fn each(&self, ns: f64) -> Option<f64> {
        (self.tally.deliveries > 0).then(|| ns / 1e3 / self.tally.deliveries as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_has_not_grown_is_not_called_none_at_all() {
        let of = |memory| Connecting { took: Duration::from_secs(1), members: 10, cpu: None, memory }.bytes_each();
        assert_eq!([Some([5, 45]), Some([5, 5]), Some([5, 1]), None].map(of), [Some(4.0), None, None, None]);
    }

    #[test]
    fn the_share_of_user_mode_is_told_only_by_enough_samples() {
        let of = |user_ticks, system_ticks| {
            let tally = Tally { deliveries: 10, ..Tally::default() };
            let server = Some(CpuTime { total_ns: 40_000, user_ticks, system_ticks });
            Measured { took: Duration::from_secs(1), tally, server, own: CpuTime::default() }.user_us()
        };
        assert_eq!([of(25, 75), of(0, 100), of(0, 49), of(49, 0)], [Some(1.0), Some(0.0), None, None]);
    }
}
