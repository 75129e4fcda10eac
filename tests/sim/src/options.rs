//! What a seed draws before anything happens: which faults, how often, and every limit and size (swarm testing: a seed in
//! which few kinds of faults are on reaches states that a mixture of all of them hides).

use crate::costs::Costs;
use crate::draining::Draining;
use crate::histories::Histories;
use crate::hooks;
use crate::identity::{Identities, is_guarded};
use crate::presence::Presence;
use crate::reference::ROOMS;
use crate::sentinel::Watched;
use crate::slotted::Slotted;
use fanfare_core::broker::redis::RedisConfig;
use fanfare_core::{Compression, Config, PublishFormat, Rate};
use fastrand::Rng;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Of so many seeds one lets each connection have no more than [`TIGHT_BYTES`] wait for a SUBSCRIBE.
const TIGHT_ONE_IN: u64 = 5;
/// Two short messages.
const TIGHT_BYTES: usize = 400;

/// Of a message that is not whole, beside what makes it longer.
const HELD_BYTES: usize = 500;

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// A client's connection is reset.
    ClientReset,
    /// A client's connection goes silent in both directions for good, and nobody is told.
    ClientBlackhole,
    /// A client does not read for a while.
    ClientStall,
    /// A client sends a FIN and goes on reading.
    ClientHalfClose,
    /// A client breaks a rule: nonsense for a command, or a frame that is none.
    ClientMisbehaves,
    /// A client answers no ping for a while.
    ClientMute,
    /// A wire delivers nothing for a while.
    NetworkStall,
    /// One of an instance's connections to Redis is reset.
    LinkReset,
    /// One of an instance's connections to Redis goes silent for good.
    LinkBlackhole,
    /// Redis ends one of its connections (`CLIENT KILL`).
    RedisKill,
    /// Redis goes away, refuses connections for a while, and comes back empty.
    RedisRestart,
    /// Redis does nothing for a while.
    RedisPause,
    /// Redis accepts connections for a while, but does not serve them (`LOADING`).
    RedisLoading,
    /// Redis refuses subscriptions of one room for a while (an ACL).
    RedisRefusesSubscribe,
    /// Redis refuses publishes for a while (an ACL).
    RedisRefusesPublish,
    /// What Redis says to one connection is no RESP.
    RedisJunk,
    /// An instance does nothing for a while.
    InstancePause,
    /// An instance's clock jumps ahead.
    InstanceClockJump,
    /// An instance is gone at once, and another takes its place after a while.
    InstanceCrash,
    /// An instance is told to stop, and another takes its place.
    InstanceShutdown,
    /// An instance's adapter reports something about a connection that has been closed.
    StaleEvents,
    /// Redis runs a script for a while, and refuses everything else (`BUSY`).
    RedisBusy,
    /// Redis is a replica for a while.
    RedisDemoted,
    /// Redis hands nothing any more that is published to one connection, and does everything else that it is asked on it.
    RedisDeafens,
    /// Redis forgets the scripts (`SCRIPT FLUSH`).
    RedisScriptFlush,
    /// A replica takes the place of Redis, with all that it has of its data.
    RedisFailover,
    /// Redis has lost all data, in a restart or by `FLUSHALL`.
    RedisDataLoss,
    /// A replica that has everything takes the master's place.
    SentinelFailover,
    /// The master cannot be reached for a while, and a replica takes its place, with all that it has.
    MasterLost,
    /// A replica takes the master's place, with all that it has, and the old one goes on as a master for a while.
    SplitBrain,
    /// One Sentinel, or all of them, cannot be reached for a while.
    SentinelDown,
    /// One Sentinel does nothing for a while.
    SentinelPause,
    /// One Sentinel learns nothing for a while.
    SentinelStale,
    /// A slot moves to another master, key by key.
    SlotMoves,
    /// `CLUSTER FAILOVER`: a replica that has everything takes its master's place.
    ClusterFailover,
    /// A node is gone until long after it is found missing.
    NodeLost,
    /// A node and the others do not reach each other until long after it is found missing.
    NodeCutOff,
    /// An instance and a node do not reach each other for a while.
    InstanceCutOff,
    /// All nodes are gone at once, and come back.
    ClusterRestart,
    /// An instance's lease runs out while somebody comes to it, and what it says to Redis arrives late.
    InstanceLapses,
    /// A backend removes a message, or clears a room.
    Removal,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 41] = [
        Fault::ClientReset,
        Fault::ClientBlackhole,
        Fault::ClientStall,
        Fault::ClientHalfClose,
        Fault::ClientMisbehaves,
        Fault::ClientMute,
        Fault::NetworkStall,
        Fault::LinkReset,
        Fault::LinkBlackhole,
        Fault::RedisKill,
        Fault::RedisRestart,
        Fault::RedisPause,
        Fault::RedisLoading,
        Fault::RedisRefusesSubscribe,
        Fault::RedisRefusesPublish,
        Fault::RedisJunk,
        Fault::InstancePause,
        Fault::InstanceClockJump,
        Fault::InstanceCrash,
        Fault::InstanceShutdown,
        Fault::StaleEvents,
        Fault::RedisBusy,
        Fault::RedisDemoted,
        Fault::RedisDeafens,
        Fault::RedisScriptFlush,
        Fault::RedisFailover,
        Fault::RedisDataLoss,
        Fault::SentinelFailover,
        Fault::MasterLost,
        Fault::SplitBrain,
        Fault::SentinelDown,
        Fault::SentinelPause,
        Fault::SentinelStale,
        Fault::SlotMoves,
        Fault::ClusterFailover,
        Fault::NodeLost,
        Fault::NodeCutOff,
        Fault::InstanceCutOff,
        Fault::ClusterRestart,
        Fault::InstanceLapses,
        Fault::Removal,
    ];

    /// Whether it does anything in seeds with histories only.
    pub fn is_of_histories(self) -> bool {
        matches!(self, Fault::RedisScriptFlush | Fault::RedisFailover | Fault::RedisDataLoss)
    }

    /// Whether it does anything in seeds with Sentinels only.
    pub fn is_of_sentinels(self) -> bool {
        use Fault::{MasterLost, SentinelDown, SentinelFailover, SentinelPause, SentinelStale, SplitBrain};
        matches!(self, SentinelFailover | MasterLost | SplitBrain | SentinelDown | SentinelPause | SentinelStale)
    }

    /// Whether it does anything in seeds with a Cluster only.
    pub fn is_of_clusters(self) -> bool {
        use Fault::{ClusterFailover, ClusterRestart, InstanceCutOff, NodeCutOff, NodeLost, SlotMoves};
        matches!(self, SlotMoves | ClusterFailover | NodeLost | NodeCutOff | InstanceCutOff | ClusterRestart)
    }

    /// Whether it does something in every seed.
    fn is_of_all(self) -> bool {
        let is_of_some = matches!(self, Fault::InstanceLapses | Fault::Removal);
        !self.is_of_histories() && !self.is_of_sentinels() && !self.is_of_clusters() && !is_of_some
    }
}

/// A range of microseconds, bytes or whatever else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The least.
    pub min: u64,
    /// The most.
    pub max: u64,
}

impl Span {
    /// One of it.
    pub fn draw(self, rng: &mut Rng) -> u64 {
        rng.u64(self.min..=self.max)
    }
}

/// Smaller than what the seed drew: how a failure is made shorter. Its text form is taken by the `replay` test.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Narrowed {
    /// At most so many clients.
    pub clients: Option<usize>,
    /// At most so many instances.
    pub instances: Option<usize>,
    /// At most so many steps before everything heals.
    pub steps: Option<u64>,
    /// Faults that do not happen.
    pub without: Vec<Fault>,
}

impl fmt::Display for Narrowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = [
            ("instances", self.instances.map(|instances| instances as u64)),
            ("clients", self.clients.map(|clients| clients as u64)),
            ("steps", self.steps),
        ];
        let mut words: Vec<String> =
            numbers.iter().filter_map(|(name, number)| Some(format!("{name}={}", (*number)?))).collect();
        if !self.without.is_empty() {
            let faults: Vec<String> = self.without.iter().map(|fault| format!("{fault:?}")).collect();
            words.push(format!("without={}", faults.join(",")));
        }
        f.write_str(&words.join(" "))
    }
}

impl FromStr for Narrowed {
    type Err = String;

    fn from_str(text: &str) -> Result<Narrowed, String> {
        let mut narrowed = Narrowed::default();
        for word in text.split_whitespace() {
            let (name, value) = word.split_once('=').ok_or_else(|| format!("not of the form name=value: {word}"))?;
            let number = || value.parse::<u64>().map_err(|error| format!("{word}: {error}"));
            match name {
                "clients" => narrowed.clients = Some(number()? as usize),
                "instances" => narrowed.instances = Some(number()? as usize),
                "steps" => narrowed.steps = Some(number()?),
                "without" => {
                    for name in value.split(',') {
                        let fault = Fault::ALL.into_iter().find(|fault| format!("{fault:?}") == name);
                        narrowed.without.push(fault.ok_or_else(|| format!("no such fault: {name}"))?);
                    }
                }
                _ => return Err(format!("unknown: {name}")),
            }
        }
        Ok(narrowed)
    }
}

/// What clients are like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clients {
    /// How many there are.
    pub count: usize,
    /// Microseconds between what one does and what it does next.
    pub pause: Span,
    /// Of a thousand, how many speak `classic`.
    pub classic: u32,
    /// Of a thousand, how many speak `broadcast`.
    pub broadcast: u32,
    /// Of a thousand, how many offer compression.
    pub compressed: u32,
    /// Of a thousand messages, how many come in several frames.
    pub fragmented: u32,
    /// Of a thousand commands, how many have no id.
    pub without_id: u32,
    /// Of a thousand messages, how many shall not come back.
    pub without_echo: u32,
    /// Of a thousand upgrades, how many name the rooms in the URL.
    pub joins_by_url: u32,
    /// Bytes that make messages longer.
    pub padding: Span,
    /// How long a client waits for a sign of life before it connects anew.
    pub patience: u64,
    /// Pause before it connects again.
    pub retry: Span,
    /// Things that it does at once, one behind the other.
    pub burst: u64,
}

/// What wires are like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wires {
    /// Microseconds on the way.
    pub latency: Span,
    /// Of a thousand writes, how many arrive in pieces at several times.
    pub split: u32,
    /// Bytes that a client's wire holds in each direction before its writer has to wait.
    pub client_capacity: Span,
    /// The same of a wire to Redis.
    pub link_capacity: Span,
}

/// What Redis is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisTraits {
    /// It knows `HELLO`.
    pub speaks_resp3: bool,
    /// It asks for one.
    pub password: Option<String>,
    /// `client-output-buffer-limit pubsub`, the hard one; 0 means none.
    pub output_bytes_max: usize,
    /// Commands of one connection that it does before it looks at the next.
    pub commands_per_turn: u64,
    /// Microseconds between messages of a publisher that is no instance, if there is one.
    pub foreign_pause: Option<Span>,
}

/// Everything that a seed draws.
#[derive(Clone, Debug)]
pub struct Options {
    /// What everything is drawn from.
    pub seed: u64,
    quiet: bool,
    /// How many instances.
    pub instances: usize,
    /// How many rooms.
    pub rooms: usize,
    /// Steps before everything heals.
    pub steps: u64,
    /// Faults that happen, and the mean of microseconds between two.
    pub faults: Vec<(Fault, u64)>,
    /// How long what a fault does lasts, where it ends by itself.
    pub relief: Span,
    /// What clients are like.
    pub clients: Clients,
    /// How clients make much work.
    pub costs: Costs,
    /// Which rooms are kept, and how.
    pub histories: Histories,
    /// Who clients are, where they are asked.
    pub identities: Option<Identities>,
    /// Of which rooms it is kept who is there, and who wants to know.
    pub presence: Option<Presence>,
    /// How instances let connections go, where they do before they stop.
    pub draining: Option<Draining>,
    /// The Sentinels, where there are any.
    pub watched: Option<Watched>,
    /// The Cluster, where Redis is one.
    pub slotted: Option<Slotted>,
    /// Whether messages are published only if somebody agrees.
    pub has_hooks: bool,
    /// What wires are like.
    pub wires: Wires,
    /// What Redis is like.
    pub redis: RedisTraits,
    /// Each instance's, but for its node and seed.
    pub core: Config,
    /// Each instance's, but for its seed.
    pub session: RedisConfig,
    /// Microseconds that a turn takes at least.
    pub turn: Span,
    /// Bytes that the adapter reads of one connection in a turn.
    pub read_bytes: usize,
    /// Connections that it reads in a turn.
    pub reads_per_turn: usize,
    /// Whether it sends what Redis was asked before it writes to clients.
    pub drives_midway: bool,
}

impl Options {
    /// What this seed draws.
    pub fn draw(seed: u64, narrowed: &Narrowed) -> Options {
        let mut rng = rng(seed, "options");
        let r = &mut rng;
        // Of ten seeds one has no faults at all: in those nothing may be lost for any reason.
        let quiet = r.u32(0..10) == 0;
        let instances = r.usize(1..=4);
        let count_max = pick(r, &[4, 12, 24]);
        let count = r.usize(2..=count_max);
        let small = r.u32(0..3) > 0;
        let pause = pick(r, &[500, 5_000, 50_000, 300_000]);
        let latency = pick(r, &[50, 500, 5_000, 40_000]);
        let mut clients = Clients {
            count,
            pause: Span { min: pause / 5, max: pause * 2 },
            classic: pick(r, &[0, 0, 200]),
            broadcast: pick(r, &[0, 0, 200]),
            compressed: pick(r, &[0, 300, 1_000]),
            fragmented: pick(r, &[0, 50, 400]),
            without_id: pick(r, &[0, 100, 500]),
            without_echo: pick(r, &[0, 100, 500]),
            joins_by_url: pick(r, &[0, 500]),
            padding: Span { min: 0, max: pick(r, &[0, 30, 600]) },
            patience: r.u64(3..=20) * 1_000_000,
            retry: Span { min: 1_000, max: pick(r, &[20_000, 500_000, 3_000_000]) },
            burst: pick(r, &[1, 3, 12]),
        };
        let capacity = if quiet || !small { Span { min: 65_536, max: 262_144 } } else { Span { min: 60, max: 2_000 } };
        let wires = Wires {
            latency: Span { min: latency / 10, max: latency * r.u64(1..=4) },
            split: pick(r, &[0, 100, 700]),
            client_capacity: capacity,
            link_capacity: if quiet || r.bool() {
                Span { min: 65_536, max: 262_144 }
            } else {
                Span { min: 100, max: 4_000 }
            },
        };
        let redis = RedisTraits {
            speaks_resp3: r.u32(0..4) > 0,
            password: r.bool().then(|| "s3cret-and-long".to_owned()),
            output_bytes_max: if quiet || r.bool() { 0 } else { r.usize(2_000..20_000) },
            commands_per_turn: pick(r, &[1, 4, 1_000]),
            foreign_pause: (r.u32(0..3) == 0).then_some(Span { min: 10_000, max: 1_000_000 }),
        };
        let mut session = RedisConfig::default();
        session.password = redis.password.clone();
        session.username = None;
        session.publishes_in_flight_max = if quiet { 16_384 } else { pick(r, &[8, 16_384]) };
        // Of a generator of its own: with it and without, a seed does the same otherwise.
        session.publish_wait = Duration::from_millis(pick(&mut self::rng(seed, "publishes that wait"), &[0, 0, 1_000]));
        session.connect_timeout = millis(r, 500, 5_000);
        session.probe_interval = millis(r, 200, 5_000);
        session.probe_timeout = millis(r, 300, 5_000);
        session.backoff_min = millis(r, 10, 50);
        session.backoff_max = millis(r, 50, 5_000);
        session.prefix = pick(r, &["fanfare:", "", "é:"]).to_owned();
        let linger_max = pick(r, &[0, 300, 2_000]);
        let mut core = Config::default();
        // Rates of messages and pings are tested by themselves; here they would only end connections.
        core.limits.messages = Rate::NONE;
        core.limits.bytes = Rate::NONE;
        core.limits.pings = Rate::NONE;
        (core.limits.deliveries, core.limits.surplus) = (Rate::NONE, Rate::NONE);
        core.limits.outbox_bytes_max = if quiet { 1 << 20 } else { pick(r, &[600, 5_000, 100_000, 1 << 20]) };
        core.limits.outbox_total_bytes_max = if quiet { 1 << 28 } else { pick(r, &[4_000, 100_000, 1 << 28]) };
        core.limits.members_per_turn_max = pick(r, &[1, 3, 16, 1_024]);
        core.limits.group_members_max = pick(r, &[1, 2, 5, 64]);
        if !quiet && seed.is_multiple_of(TIGHT_ONE_IN) {
            core.limits.deferred_bytes_max = TIGHT_BYTES;
        }
        (core.limits.errors_max, core.limits.errors_per_minute) = (pick(r, &[2, 100]), pick(r, &[0, 60, 6_000]));
        core.timeouts.room_linger = millis(r, 0, linger_max);
        core.timeouts.ping_interval = millis(r, 1_000, 25_000);
        core.timeouts.pong_timeout = millis(r, 1_000, 10_000);
        core.timeouts.close = millis(r, 500, 5_000);
        core.timeouts.drain = millis(r, 0, 3_000);
        core.timeouts.handshake = millis(r, 2_000, 10_000);
        core.compression = (r.u32(0..5) > 0).then(|| quick_compression(pick(r, &[0, 64, 256])));
        core.publish_format = if r.u32(0..5) == 0 { PublishFormat::Classic } else { PublishFormat::Fanfare };
        let rooms = pick(r, &[1, 2, 3, 6]);
        let rooms = if is_guarded(seed) { ROOMS.len() } else { rooms };
        let held = rooms * (clients.padding.max as usize * 2 + HELD_BYTES);
        let costs = Costs::draw(seed, (quiet, !small), (count * rooms) as u64, held, &mut core);
        if costs.are_drawn() {
            clients.compressed = 1_000;
        }
        let mut options = Options {
            seed,
            quiet,
            instances,
            rooms,
            costs,
            histories: Histories::default(),
            identities: None,
            presence: None,
            draining: None,
            watched: None,
            slotted: None,
            has_hooks: false,
            steps: r.u64(500..=15_000),
            faults: Vec::new(),
            relief: Span { min: 1_000, max: pick(r, &[pause * 4, pause * 30, 2_000_000, 12_000_000]) },
            clients,
            wires,
            redis,
            core,
            session,
            turn: Span { min: 10, max: pick(r, &[20, 300, 5_000]) },
            read_bytes: pick(r, &[64, 1_024, 8_192]),
            reads_per_turn: pick(r, &[1, 4, 256]),
            drives_midway: r.bool(),
        };
        let share = pick(r, &[2, 5, 12]);
        for fault in Fault::ALL.into_iter().filter(|fault| fault.is_of_all()) {
            let (on, mean) = (r.u32(0..20) < share, pick(r, &[40, 200, 1_000]) * pause / count as u64);
            if on && !quiet {
                options.faults.push((fault, mean));
            }
        }
        options.histories = Histories::draw(&mut options);
        options.identities = Identities::draw(&mut options);
        options.presence = Presence::draw(&mut options);
        options.draining = Draining::draw(&mut options);
        options.watched = Watched::draw(&mut options);
        options.slotted = Slotted::draw(&mut options);
        options.has_hooks = hooks::draw(&mut options);
        options.narrow(narrowed);
        options
    }

    fn narrow(&mut self, narrowed: &Narrowed) {
        self.clients.count = self.clients.count.min(narrowed.clients.unwrap_or(usize::MAX)).max(1);
        self.instances = self.instances.min(narrowed.instances.unwrap_or(usize::MAX)).max(1);
        self.steps = self.steps.min(narrowed.steps.unwrap_or(u64::MAX));
        self.faults.retain(|(fault, _)| !narrowed.without.contains(fault));
    }

    /// Whether this fault can happen.
    pub fn has(&self, fault: Fault) -> bool {
        self.faults.iter().any(|(of, _)| *of == fault)
    }

    /// Whether little may wait for a SUBSCRIBE to be confirmed, so that more is refused.
    pub fn is_tight(&self) -> bool {
        self.core.limits.deferred_bytes_max == TIGHT_BYTES
    }

    /// Whether nothing at all goes wrong: no fault, no limit that is met, no wire that is full.
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }
}

/// Draws for one purpose: what one part draws more or less does not change what the others get.
pub fn rng(seed: u64, purpose: &str) -> Rng {
    // FNV-1a: nothing but different numbers for different purposes.
    let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Rng::with_seed(purpose.bytes().fold(0xcbf2_9ce4_8422_2325, hash) ^ mixed)
}

/// Whether something happens that happens so often in a thousand.
pub fn chance(rng: &mut Rng, of_thousand: u32) -> bool {
    of_thousand > 0 && rng.u32(0..1_000) < of_thousand
}

/// One of these.
pub fn pick<T: Copy>(rng: &mut Rng, of: &[T]) -> T {
    of[rng.usize(..of.len())]
}

/// The quickest compression there is, from so many bytes on.
fn quick_compression(threshold_bytes: usize) -> Compression {
    let mut compression = Compression::default();
    (compression.threshold_bytes, compression.level) = (threshold_bytes, 1);
    compression
}

fn millis(rng: &mut Rng, min: u64, max: u64) -> Duration {
    Duration::from_millis(rng.u64(min..=max.max(min)))
}
