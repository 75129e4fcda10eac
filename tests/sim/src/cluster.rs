//! The cluster: instances, clients, Redis and the wires between them, moved on one happening after another; and its life in
//! two phases, first faults and then the demand that everything comes to rest and works.

mod bans;
mod chaos;
mod failing_over;
mod lapsing;
mod letting_go;
mod rest;
mod sharding;
mod there;

use crate::client::{Client, Mood};
use crate::group::Group;
use crate::guard::Guard;
use crate::instance::Instance;
use crate::named::Named;
use crate::network::{Network, Side, WireId};
use crate::options::{Fault, Narrowed, Options, rng};
use crate::reference::{Incarnation, Key, ROOMS, Reference, Sent};
use crate::sentinel::Target;
use crate::timeline::{Happening, Moment, Timeline};
use crate::trace::Trace;
use fastrand::Rng;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Microseconds after which clients begin in a run in which nothing goes wrong: every instance is connected to Redis by then.
const QUIET_START: u64 = 5_000_000;
/// Microseconds between what a client does once everything heals.
const CALM_PAUSE: u64 = 500_000;
/// Microseconds between looks at whether everything has come to rest, at least; not in step with what clients do.
const LOOK: u64 = 370_000;
/// Happenings after which a cluster in which nothing goes wrong any more should be at rest.
const HEALED_STEPS_MAX: u64 = 2_000_000;

/// Whose wire it is.
#[derive(Clone, Copy, Debug)]
enum Owner {
    Client { number: usize, place: usize, incarnation: Option<Incarnation> },
    Link { place: usize, incarnation: Incarnation, target: Target },
}

/// What everybody in the cluster stands on.
#[derive(Debug)]
pub struct Surroundings<'t> {
    /// The wires.
    pub network: Network,
    /// The clock, and what is to happen.
    pub timeline: Timeline,
    /// What must hold.
    pub reference: Reference,
    /// Whom Sentinels name.
    pub named: Named,
    /// Who may do what, where clients are asked who they are.
    pub guard: Option<Guard>,
    /// What happened, for people.
    pub trace: &'t mut Trace,
    /// Writes to clients that were short.
    pub short_writes: u64,
    owners: BTreeMap<WireId, Owner>,
    sessions: u64,
}

impl Surroundings<'_> {
    /// Opens a wire from an instance to a server or Sentinel.
    pub fn open_link(&mut self, place: usize, incarnation: Incarnation, target: Target) -> WireId {
        let wire = self.network.open(true);
        self.plan_arrival(wire, Owner::Link { place, incarnation, target });
        wire
    }

    /// Opens a wire from a client to the instance at a place. Returns the number of the connection as well.
    pub fn open_client(&mut self, number: usize, place: usize) -> (WireId, u64) {
        let wire = self.network.open(false);
        self.plan_arrival(wire, Owner::Client { number, place, incarnation: None });
        self.sessions += 1;
        (wire, self.sessions)
    }

    fn plan_arrival(&mut self, wire: WireId, owner: Owner) {
        self.owners.insert(wire, owner);
        let latency = self.network.latency();
        self.timeline.after(latency, Happening::Arrives(wire));
    }
}

/// What a run that did not fail has to tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Of every action of every core, in order.
    pub hash: u64,
    /// Happenings.
    pub steps: u64,
    /// Microseconds on the virtual clock.
    pub virtual_micros: u64,
    /// How often each fault struck.
    pub faults: BTreeMap<Fault, u64>,
    /// Messages that Redis took.
    pub published: u64,
    /// Messages that clients got.
    pub delivered: u64,
    /// Writes to clients that were short.
    pub short_writes: u64,
    /// Connections that Redis ended because they read too slowly.
    pub output_kills: u64,
    /// Connections of clients.
    pub connections: u64,
    /// How often what has happened because clients are asked who they are.
    pub counts: BTreeMap<&'static str, u64>,
}

/// Runs a seed.
///
/// # Errors
/// What did not hold.
///
/// # Panics
/// If the core panics.
pub fn run(seed: u64, narrowed: &Narrowed, trace: &mut Trace) -> Result<Outcome, String> {
    Cluster::new(Options::draw(seed, narrowed), trace).run()
}

/// The cluster.
#[derive(Debug)]
struct Cluster<'t> {
    options: Options,
    around: Surroundings<'t>,
    group: Group,
    instances: Vec<Option<Instance>>,
    clients: Vec<Client>,
    /// When each client does something next.
    acts: Vec<Option<Moment>>,
    incarnations: Incarnation,
    mood: Mood,
    chaos: BTreeMap<Fault, Rng>,
    letting_go: Rng,
    foreign: Rng,
    foreign_sent: u64,
    outcome: Outcome,
    hash: DefaultHasher,
}

impl<'t> Cluster<'t> {
    fn new(options: Options, trace: &'t mut Trace) -> Cluster<'t> {
        let seed = options.seed;
        let around = Surroundings {
            network: Network::new(options.wires.clone(), rng(seed, "network")),
            timeline: Timeline::default(),
            reference: match options.slotted {
                Some(_) => Reference::new(&options.histories.kept, &options.histories.waits).slotted(),
                None => Reference::new(&options.histories.kept, &options.histories.waits),
            },
            named: Named::default(),
            guard: Guard::new(&options),
            trace,
            short_writes: 0,
            owners: BTreeMap::new(),
            sessions: 0,
        };
        let chaos = options.faults.iter().map(|(fault, _)| (*fault, rng(seed, &format!("{fault:?}"))));
        Cluster {
            around,
            group: Group::new(&options),
            instances: Vec::new(),
            clients: (0..options.clients.count).map(|number| Client::new(&options, number)).collect(),
            acts: vec![None; options.clients.count],
            incarnations: 0,
            mood: Mood::Active,
            chaos: chaos.collect(),
            letting_go: rng(seed, "letting go"),
            foreign: rng(seed, "foreign"),
            foreign_sent: 0,
            outcome: Outcome::default(),
            hash: DefaultHasher::new(),
            options,
        }
    }

    fn run(mut self) -> Result<Outcome, String> {
        self.begin();
        while self.outcome.steps < self.options.steps {
            self.step(u64::MAX)?;
        }
        self.heal()?;
        self.settle()?;
        self.knock()?;
        self.probe()?;
        self.check_there()?;
        self.forget_all()?;
        self.refuse_for_a_while()?;
        self.move_for_a_while()?;
        self.check_quiet()?;
        self.check_there()?;
        self.leave()?;
        let Cluster { around, group, mut outcome, clients, .. } = self;
        outcome.virtual_micros = around.timeline.now;
        outcome.published = around.reference.published_total;
        outcome.delivered = clients.iter().map(Client::delivered).sum();
        outcome.short_writes = around.short_writes;
        outcome.output_kills = group.output_kills();
        outcome.connections = around.sessions;
        outcome.counts.extend(around.guard.map(|guard| guard.counts).unwrap_or_default());
        (outcome.published, outcome.delivered, outcome.virtual_micros).hash(&mut self.hash);
        outcome.hash = self.hash.finish();
        Ok(outcome)
    }

    fn begin(&mut self) {
        for place in 0..self.options.instances {
            self.instances.push(None);
            self.start_instance(place);
        }
        let start = if self.options.is_quiet() { QUIET_START } else { 0 };
        for number in 0..self.clients.len() {
            let pause = self.clients[number].pause(0);
            self.plan_client(number, start + pause);
        }
        for (fault, _) in self.options.faults.clone() {
            self.plan_fault(fault);
        }
        self.plan_foreign();
        self.plan_ban();
        self.plan_shed();
    }

    fn plan_client(&mut self, number: usize, delay: u64) {
        if let Some(planned) = self.acts[number].take() {
            self.around.timeline.cancel(planned);
        }
        self.acts[number] = Some(self.around.timeline.after(delay, Happening::Client(number)));
    }

    fn start_instance(&mut self, place: usize) {
        self.incarnations += 1;
        let mut instance = Instance::new(&self.options, self.incarnations, place);
        instance.wake(&mut self.around);
        self.instances[place] = Some(instance);
    }

    fn end_instance(&mut self, place: usize) {
        self.end_and_drain(place, false);
    }

    /// The same. If it `drains`, what it has said to Redis still arrives, however late.
    fn end_and_drain(&mut self, place: usize, drains: bool) {
        if let Some(mut instance) = self.instances[place].take() {
            instance.hash().hash(&mut self.hash);
            let drained = if drains { instance.links() } else { Vec::new() };
            for wire in &drained {
                self.around.reference.link_ended_at_instance(*wire, self.around.timeline.now);
                self.around.network.close(*wire, Side::Near, &mut self.around.timeline);
            }
            for wire in instance.wires().into_iter().filter(|wire| !drained.contains(wire)) {
                self.around.reference.link_ended_at_instance(wire, self.around.timeline.now);
                self.around.network.reset(wire, &mut self.around.timeline);
            }
            instance.cancel(&mut self.around);
        }
    }

    /// The next happening, unless that is after `until`. Says whether there was one.
    fn step(&mut self, until: u64) -> Result<bool, String> {
        let Some(happening) = self.around.timeline.next(until) else { return Ok(false) };
        self.outcome.steps += 1;
        let around = &mut self.around;
        match happening {
            Happening::Turn(place) => {
                if let Some(instance) = &mut self.instances[place] {
                    instance.turn(around).map_err(|error| format!("instance {place}: {error}"))?;
                    self.replace_drained(place);
                }
            }
            Happening::Redis(number) => {
                self.group.servers[number].turn(around)?;
                self.group.pass_on(number, around);
            }
            Happening::Looks => self.group.look(around)?,
            Happening::NodeLearns(number) => self.group.tell(number, around)?,
            Happening::Moves => self.group.go_on_moving(around)?,
            Happening::Sentinel(number) => self.group.sentinels[number].turn(around)?,
            Happening::Learns(number) => self.group.sentinels[number].learn(self.group.known, around),
            Happening::Arrives(wire) => self.arrive(wire),
            Happening::Settled(wire) => self.settle_wire(wire, true),
            Happening::Refused(wire) => self.settle_wire(wire, false),
            Happening::Readable(wire, side) => self.readable(wire, side)?,
            Happening::Writable(wire, side) => self.writable(wire, side),
            Happening::Client(number) => {
                self.clients[number].act(self.mood, around)?;
                let pause = if self.mood == Mood::Active {
                    self.clients[number].pause(around.timeline.now)
                } else {
                    CALM_PAUSE
                };
                self.plan_client(number, pause);
            }
            Happening::Foreign => {
                self.publish_foreign()?;
                self.plan_foreign();
            }
            Happening::Verdict(place) => self.wake_instance(place),
            Happening::Ban if self.mood == Mood::Active => {
                self.ban();
                self.plan_ban();
            }
            Happening::Ban => {}
            Happening::Shed if self.mood == Mood::Active => {
                self.shed();
                self.plan_shed();
            }
            Happening::Shed => {}
            Happening::BansReach(place) => {
                if let (Some(instance), Some(guard)) = (&self.instances[place], &mut around.guard) {
                    guard.bans_are_due(instance.incarnation);
                }
                self.wake_instance(place);
            }
            Happening::Fault(fault) if self.mood == Mood::Active => {
                self.strike(fault)?;
                self.plan_fault(fault);
            }
            Happening::Relief(fault, target) if self.mood == Mood::Active => self.relieve(fault, target as usize)?,
            Happening::Fault(_) | Happening::Relief(..) => {}
        }
        Ok(true)
    }

    fn arrive(&mut self, wire: WireId) {
        if let Some(Owner::Link { place, target: Target::Server(node), .. }) = self.around.owners.get(&wire)
            && (self.group.is_cut(*place, *node) || self.around.network.is_silent(wire))
        {
            // Nobody hears of it.
            return;
        }
        let taken = match self.around.owners.get_mut(&wire) {
            Some(Owner::Link { target, .. }) => self.group.accept(*target, wire, &mut self.around.timeline),
            Some(Owner::Client { number, place, incarnation }) => {
                let instance = self.instances[*place].as_mut().filter(|instance| instance.takes_newcomers());
                let client = &mut self.clients[*number];
                instance.is_some_and(|instance| {
                    *incarnation = Some(instance.incarnation);
                    if client.wire() == Some(wire) {
                        client.accepted(instance.incarnation);
                    }
                    instance.accept(wire);
                    true
                })
            }
            _ => false,
        };
        if let Some(Owner::Client { place, .. }) = self.around.owners.get(&wire)
            && let Some(instance) = &mut self.instances[*place]
        {
            instance.wake(&mut self.around);
        }
        let latency = self.around.network.latency();
        self.around.timeline.after(latency, if taken { Happening::Settled(wire) } else { Happening::Refused(wire) });
    }

    fn settle_wire(&mut self, wire: WireId, established: bool) {
        match self.around.owners[&wire] {
            Owner::Client { number, .. } if self.clients[number].wire() == Some(wire) => {
                self.clients[number].settled(established, &mut self.around);
            }
            Owner::Client { .. } => {}
            Owner::Link { place, incarnation, .. } => {
                if let Some(instance) = self.instances[place].as_mut().filter(|of| of.incarnation == incarnation) {
                    instance.settled(wire, established, &mut self.around);
                }
            }
        }
    }

    fn readable(&mut self, wire: WireId, side: Side) -> Result<(), String> {
        match (self.around.owners[&wire], side) {
            (Owner::Client { number, .. }, Side::Near) if self.clients[number].wire() == Some(wire) => {
                self.clients[number].read(&mut self.around)?;
            }
            (Owner::Client { place, incarnation: Some(incarnation), .. }, Side::Far)
            | (Owner::Link { place, incarnation, .. }, Side::Near) => {
                if let Some(instance) = self.instances[place].as_mut().filter(|of| of.incarnation == incarnation) {
                    instance.readable(wire, &mut self.around);
                }
            }
            (Owner::Link { target, .. }, Side::Far) => self.group.wake(target, &mut self.around.timeline),
            _ => {}
        }
        Ok(())
    }

    fn writable(&mut self, wire: WireId, side: Side) {
        match (self.around.owners[&wire], side) {
            (Owner::Client { number, .. }, Side::Near) if self.clients[number].wire() == Some(wire) => {
                self.clients[number].flush(&mut self.around);
            }
            (Owner::Client { place, incarnation: Some(incarnation), .. }, Side::Far)
            | (Owner::Link { place, incarnation, .. }, Side::Near) => {
                if let Some(instance) = self.instances[place].as_mut().filter(|of| of.incarnation == incarnation) {
                    instance.writable(wire, &mut self.around);
                }
            }
            (Owner::Link { target, .. }, Side::Far) => self.group.wake(target, &mut self.around.timeline),
            _ => {}
        }
    }

    fn plan_foreign(&mut self) {
        if let Some(span) = self.options.redis.foreign_pause.filter(|_| self.mood == Mood::Active) {
            let pause = span.draw(&mut self.foreign);
            self.around.timeline.after(pause, Happening::Foreign);
        }
    }

    fn publish_foreign(&mut self) -> Result<(), String> {
        let room = self.foreign.usize(0..self.options.rooms);
        self.publish_foreign_to(room).map(drop)
    }

    /// Publishes past all instances, as text or in the form of another server.
    fn publish_foreign_to(&mut self, room: usize) -> Result<Key, String> {
        self.foreign_sent += 1;
        let key = (None, self.foreign_sent);
        let text = Reference::text(key, room, 0);
        let json = format!("\"{text}\"");
        let sent = Sent::new(room, json.clone(), (0, true), None, self.around.timeline.now);
        self.around.reference.send(key, sent);
        let classic = format!("{{\"type\":\"SEND_MESSAGE\",\"roomId\":\"?\",\"message\":{json}}}");
        let payload = if self.foreign.bool() { text } else { classic };
        let node = self.group.shards.as_ref().map(|shards| shards.map.master(shards.slot(room)));
        let server = node.unwrap_or(self.group.number());
        self.group.servers[server].publish_foreign(ROOMS[room], payload.as_bytes(), &mut self.around)?;
        self.group.pass_on(server, &mut self.around);
        Ok(key)
    }
}
