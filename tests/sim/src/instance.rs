//! One instance: the real core and the real Redis session, on wires instead of sockets, and when it has its turns. What a turn does is in
//! `steps.rs`.

use crate::cluster::Surroundings;
use crate::guard::Guard;
use crate::named::{Knowledge, check_together};
use crate::network::WireId;
use crate::options::{Options, rng};
use crate::reference::Incarnation;
use crate::sentinel::Target;
use crate::steps::{Adapter, Establishing, TurnSteps};
use crate::timeline::{Happening, Moment};
use fanfare_core::Core;
use fanfare_core::broker::redis::RedisBroker;
use fanfare_core::time::Time;
use fanfare_turn::Stop;
use fastrand::Rng;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hasher};

/// An instance.
#[derive(Debug)]
pub struct Instance {
    /// Its number among all that there ever were.
    pub incarnation: Incarnation,
    /// The core under test.
    pub core: Core,
    session: RedisBroker,
    adapter: Adapter,
    /// Microseconds by which its clock shows more than the cluster's.
    clock_ahead: u64,
    /// It has no turns before.
    pub paused_until: u64,
    /// It was told to stop.
    pub is_stopping: bool,
    stop_due: Option<Stop>,
    shed_due: Option<f64>,
    /// What its program wants.
    commands: Vec<String>,
    /// It lets everybody go, since then by its clock if it takes no newcomers any more.
    drains: Option<Option<Time>>,
    /// The first turns at which everybody was due, at which an earlier fence was given up at the latest, and at which the last one was.
    overdue: Vec<Time>,
    stale_due: bool,
    stale_fed: u64,
    planned: Option<Moment>,
    options: Options,
    rng: Rng,
}

impl Instance {
    /// A new one at this place.
    pub fn new(options: &Options, incarnation: Incarnation, place: usize) -> Instance {
        let mut rng = rng(options.seed, &format!("instance {incarnation}"));
        let (mut core, mut session) = (options.core.clone(), options.session.clone());
        (core.seed, core.node, session.seed) = (rng.u64(..), rng.u64(..), rng.u64(..));
        let (core, session) = (Core::new(core), RedisBroker::new(session));
        let knowledge = options.watched.as_ref().map(|watched| Knowledge::new(&session, watched.sentinels));
        Instance {
            incarnation,
            core,
            session,
            adapter: Adapter {
                incarnation,
                place,
                sockets: BTreeMap::new(),
                conns: BTreeMap::new(),
                ready: VecDeque::new(),
                writable: Vec::new(),
                incoming: VecDeque::new(),
                links: BTreeMap::new(),
                kept: BTreeSet::new(),
                gone: Vec::new(),
                drives_midway: options.drives_midway,
                has_jumped: false,
                publishing: BTreeMap::new(),
                deciding: BTreeMap::new(),
                proposals: 0,
                untrue: None,
                lost: None,
                knowledge,
                hash: DefaultHasher::new(),
            },
            // A clock that does not begin at nothing.
            clock_ahead: rng.u64(0..10_000_000_000),
            paused_until: 0,
            is_stopping: false,
            stop_due: None,
            shed_due: None,
            commands: Vec::new(),
            drains: None,
            overdue: Vec::new(),
            stale_due: false,
            stale_fed: 0,
            planned: None,
            options: options.clone(),
            rng,
        }
    }

    /// A connection has arrived: it is taken in the next turn.
    pub fn accept(&mut self, wire: WireId) {
        self.adapter.incoming.push_back(wire);
    }

    /// A wire of a client's has something to read.
    pub fn readable(&mut self, wire: WireId, around: &mut Surroundings<'_>) {
        if let Some(conn) = self.adapter.conns.get(&wire).copied() {
            self.adapter.make_ready(conn);
        }
        self.wake(around);
    }

    /// A wire takes bytes again.
    pub fn writable(&mut self, wire: WireId, around: &mut Surroundings<'_>) {
        if let Some(conn) = self.adapter.conns.get(&wire) {
            self.adapter.writable.push(*conn);
        }
        for link in self.adapter.links.values_mut().filter(|link| link.wire == wire) {
            link.is_writable = true;
        }
        self.wake(around);
    }

    /// A connection to Redis is established, or was refused.
    pub fn settled(&mut self, wire: WireId, established: bool, around: &mut Surroundings<'_>) {
        for link in self.adapter.links.values_mut().filter(|link| link.wire == wire) {
            link.establishing = Establishing::Done(established);
        }
        self.wake(around);
    }

    /// Its clock jumps ahead by so many microseconds.
    pub fn jump(&mut self, micros: u64) {
        self.clock_ahead += micros;
        self.adapter.has_jumped = true;
    }

    /// It is told to stop.
    pub fn stop(&mut self, stop: Stop, around: &mut Surroundings<'_>) {
        (self.is_stopping, self.stop_due) = (true, Some(stop));
        if stop == Stop::InTime {
            self.drains = Some(None);
        }
        self.wake(around);
    }

    /// It is told to let this share of its connections go.
    pub fn shed(&mut self, share: f64, around: &mut Surroundings<'_>) {
        self.shed_due = Some(share);
        self.wake(around);
    }

    /// Its program wants something.
    pub fn command(&mut self, text: String, around: &mut Surroundings<'_>) {
        self.commands.push(text);
        self.wake(around);
    }

    /// Whether its listener is open.
    pub fn takes_newcomers(&self) -> bool {
        !self.is_stopping || self.drains.is_some() && self.core.takes_newcomers()
    }

    /// Whether it has let everybody go.
    pub fn has_drained(&self) -> bool {
        let is_done = !self.core.takes_newcomers() && self.core.connections() == 0 && self.adapter.incoming.is_empty();
        self.drains.is_some() && is_done && self.session.stats().publishes_in_flight == 0
    }

    /// Everybody has to have gone in time: each is due by the end of the spread, and the broker is waited for twice, because another fence may
    /// be under way. However late its turns are, there is one for each of these.
    fn check_drained(&mut self, now: Time) -> Result<(), String> {
        let Some(begun) = self.drains.as_mut().filter(|_| !self.core.takes_newcomers()) else { return Ok(()) };
        let begun = *begun.get_or_insert(now);
        let (drain, patience) = (&self.options.core.drain, self.options.core.timeouts.drain);
        let is_later = match self.overdue.last() {
            None => begun + drain.spread <= now,
            Some(before) => *before + patience <= now,
        };
        if is_later && self.overdue.len() < 3 {
            self.overdue.push(now);
        }
        let left = self.core.metrics().connections_now;
        if self.overdue.len() == 3 && left > 0 {
            return Err(format!("{left} connections are left when all should have been let go"));
        }
        Ok(())
    }

    /// Its adapter will report something about connections that are no more, if there were any.
    pub fn report_stale(&mut self, around: &mut Surroundings<'_>) -> bool {
        self.stale_due = true;
        self.wake(around);
        !self.adapter.gone.is_empty()
    }

    /// It has no turn any more.
    pub fn cancel(&mut self, around: &mut Surroundings<'_>) {
        if let Some(planned) = self.planned.take() {
            around.timeline.cancel(planned);
        }
    }

    /// A turn follows soon.
    pub fn wake(&mut self, around: &mut Surroundings<'_>) {
        let turn = self.options.turn.draw(&mut self.rng);
        self.plan(around.timeline.now + turn, around);
    }

    fn plan(&mut self, time: u64, around: &mut Surroundings<'_>) {
        let time = time.max(self.paused_until);
        if self.planned.is_some_and(|(planned, _)| planned <= time && planned >= self.paused_until) {
            return;
        }
        if let Some(planned) = self.planned.take() {
            around.timeline.cancel(planned);
        }
        self.planned = Some(around.timeline.at(time, Happening::Turn(self.adapter.place)));
    }

    /// Established connections to Redis.
    pub fn links(&self) -> Vec<WireId> {
        let links = self.adapter.links.values();
        links.filter(|link| link.establishing == Establishing::Established).map(|link| link.wire).collect()
    }

    /// Connections to this server, established or not.
    pub fn links_to(&self, target: Target) -> impl Iterator<Item = WireId> {
        self.adapter.links.values().filter(move |link| link.target == target).map(|link| link.wire)
    }

    /// The connections on which it subscribes.
    pub fn subscribers(&self) -> impl Iterator<Item = WireId> {
        let receiving = self.session.links().filter(|link| self.session.receives(*link));
        receiving.filter_map(|link| self.adapter.links.get(&link).map(|link| link.wire))
    }

    /// Whether both connections to Redis are in use.
    pub fn is_ready(&self) -> bool {
        self.core.readiness().is_ok()
    }

    /// All its wires: it is gone, and each of them breaks.
    pub fn wires(&self) -> Vec<WireId> {
        let links = self.adapter.links.values().map(|link| link.wire);
        let incoming = self.adapter.incoming.iter().copied();
        links.chain(self.adapter.conns.keys().copied()).chain(incoming).collect()
    }

    /// What its core has said so far.
    pub fn hash(&self) -> u64 {
        self.adapter.hash.finish()
    }

    /// One turn.
    ///
    /// # Errors
    /// If the core does what it must not.
    pub fn turn(&mut self, around: &mut Surroundings<'_>) -> Result<(), String> {
        self.planned = None;
        if around.timeline.now < self.paused_until {
            self.plan(self.paused_until, around);
            return Ok(());
        }
        let now = Time::from_micros(around.timeline.now + self.clock_ahead);
        let Instance { core, session, adapter, options, rng, stale_fed, .. } = self;
        let stale_due = std::mem::take(&mut self.stale_due);
        let (stop_due, shed_due) = (self.stop_due.take(), self.shed_due.take());
        let mut steps = TurnSteps {
            adapter,
            session,
            options,
            now,
            around,
            rng,
            stale_due,
            stale_fed,
            stop_due,
            shed_due,
            commands: std::mem::take(&mut self.commands),
            failed: None,
        };
        fanfare_turn::turn(core, &mut steps, now);
        // Nobody waits for what the program is answered: it gives no id.
        core.replies().for_each(drop);
        core.check_invariants();
        self.check_drained(now)?;
        if let Some(untrue) = self.adapter.untrue.take() {
            return Err(untrue);
        }
        if let Some(knowledge) = &self.adapter.knowledge {
            check_together(knowledge, self.adapter.links.values().map(|link| link.target))?;
        }
        if let Some(failure) = around.guard.as_mut().and_then(Guard::take_failure) {
            return Err(failure);
        }
        let stale_ids = self.core.metrics().stale_ids;
        if stale_ids != self.stale_fed {
            return Err(format!("{} stale ids were fed, and counted {stale_ids}", self.stale_fed));
        }
        self.sleep(now, around);
        Ok(())
    }

    /// Plans the next turn: at once if there is something to do.
    fn sleep(&mut self, now: Time, around: &mut Surroundings<'_>) {
        // What is kept has its turn by the core's own time, and the sockets of these are left alone until then.
        let is_ready = self.adapter.ready.iter().any(|conn| !self.core.keeps_unread(*conn));
        if is_ready || self.session.has_events() {
            return self.wake(around);
        }
        let next = [self.core.next_timeout(), self.session.next_timeout()].into_iter().flatten().min();
        if let Some(next) = next {
            let turn = self.options.turn.draw(&mut self.rng);
            let delay = next.since(now).as_micros() as u64;
            self.plan(around.timeline.now + delay.max(turn), around);
        }
    }
}
