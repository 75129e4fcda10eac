//! A connection from its first byte to its last. [`Transport`] hears bytes, time and why a WebSocket ends. It says which requests
//! are upgrades, which messages have come, and how sockets end. It knows no room and no command.
//!
//! - `http`: request heads, and what they are answered
//! - `admission`: who may connect: places, addresses, proxies
//! - `credentials`: where in a request its credential is
//! - `frames`: bytes to messages, and what is kept of both
//! - `timers`: the heartbeat, and the other deadlines
//! - `closing`: how WebSockets and sockets end

mod admission;
mod closing;
mod credentials;
mod frames;
mod http;
mod pending;
mod route;
mod source;
mod timers;
mod unfinished;
mod unread;

pub(crate) use closing::End;
pub(crate) use credentials::Found;
pub(crate) use http::{Answered, Caller, Head, Opened, Readiness};

use crate::config::Config;
use crate::context::Context;
use crate::event::Elsewhere;
use crate::hash::{BySlot, Seeded, take_of};
use crate::limits::sources::Sources;
use crate::metrics::Metrics;
use crate::random::Random;
use crate::slots::{Phase, Slots, coarse, mark};
use crate::wheel::Wheel;
use crate::ws::deflate::Inflater;
use core::net::IpAddr;
use hashbrown::HashMap;
use pending::Pending;
use source::{awaits_introduction, is_source};
use std::fmt;
use unfinished::Unfinished;
use unread::Unread;

/// What connections are in the middle of.
pub(crate) struct Transport {
    /// Unfinished request heads.
    heads: BySlot<Vec<u8>>,
    /// Whole heads, and what follows them, of connections whose credential is looked at; and where the head ends.
    held: BySlot<(Vec<u8>, usize)>,
    /// Connections that are not a WebSocket.
    pending: Pending,
    sources: Sources,
    /// Trusted proxies' addresses, for connections whose client has still to be told; while addresses are limited.
    introducers: BySlot<IpAddr>,
    /// Other cores have such connections.
    elsewhere: Elsewhere,
    /// It has been told that no WebSocket is taken any more.
    is_draining: bool,
    unfinished: Unfinished,
    unread: Unread,
    wheel: Wheel,
    /// Out of its place while a connection's frames are read.
    inflater: Inflater,
    /// Ends of sockets that the adapter has not been told of.
    ends: Vec<End>,
    random: Random,

    // What follows belongs to the turn and is empty between turns.
    /// Slots whose connection ends when all is written.
    touched: Vec<u32>,
    fired: Vec<u32>,
}

impl fmt::Debug for Transport {
    /// Without request heads, in which credentials are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Transport { pending, sources, is_draining, unfinished, ends, .. } = self;
        let mut out = f.debug_struct("Transport");
        out.field("pending", pending).field("sources", sources).field("is_draining", is_draining);
        out.field("unfinished", unfinished).field("ends", ends).finish_non_exhaustive()
    }
}

impl Transport {
    pub fn new(config: &Config) -> Transport {
        Transport {
            heads: HashMap::with_hasher(Seeded::new(config.seed)),
            held: HashMap::with_hasher(Seeded::new(config.seed)),
            pending: Pending::default(),
            sources: Sources::new(
                config.admission.connections_per_address_max,
                config.admission.connects_per_address,
                config.auth.is_some() || config.notices,
                config.seed,
            ),
            introducers: HashMap::with_hasher(Seeded::new(config.seed)),
            elsewhere: Elsewhere::default(),
            is_draining: false,
            unfinished: Unfinished::new(config.seed),
            unread: Unread::new(config.seed),
            wheel: Wheel::default(),
            inflater: Inflater::default(),
            ends: Vec::new(),
            random: Random::new(config.seed),
            touched: Vec::new(),
            fired: Vec::new(),
        }
    }

    /// Something came from the peer: a sign of life.
    pub fn hear(&mut self, cx: &mut Context, slot: u32, bytes: usize) {
        cx.metrics.bytes_in += bytes as u64;
        cx.limits.begin_event(&cx.slots, slot, cx.now);
        let conn = cx.slots.get_mut(slot);
        conn.last_seen = coarse(cx.now);
        conn.pinged = false;
    }

    /// Changes the phase, and what depends on it.
    fn enter_phase(&mut self, cx: &mut Context, slot: u32, phase: Phase) {
        let conn = cx.slots.get_mut(slot);
        let before = std::mem::replace(&mut conn.phase, phase);
        let framing = conn.framing;
        let is_compressed = u64::from(framing.window().is_some());
        let is_events = u64::from(framing.is_events());
        match before {
            Phase::Head => {
                cx.metrics.pending_upgrades_now -= 1;
                take_of(&mut self.held, slot);
            }
            Phase::Open => {
                cx.metrics.connections_now -= 1;
                cx.metrics.compressed_connections_now -= is_compressed;
                cx.metrics.event_streams_now -= is_events;
                cx.metrics.departing_now -= u64::from(cx.slots.is_marked(slot, mark::DEPARTS));
                cx.slots.unmark(slot, mark::DEPARTS);
            }
            _ => {}
        }
        if phase == Phase::Open {
            cx.metrics.connections_now += 1;
            cx.metrics.compressed_connections_now += is_compressed;
            cx.metrics.event_streams_now += is_events;
        }
        if !matches!(phase, Phase::Open | Phase::Closing) {
            cx.limits.forget_meter(&mut cx.slots, slot);
            if matches!(before, Phase::Open | Phase::Closing) {
                self.unfinished.forget(slot);
                self.unread.take(slot);
            }
        }
        if phase != Phase::Open {
            cx.limits.forget_errors(&mut cx.slots, slot);
        }
        if before == Phase::Open {
            cx.journal.closed(cx.slots.id(slot), cx.now);
            cx.notices.closed(cx.slots.id(slot));
        }
        if before != phase {
            self.pending.leave(before);
            self.enter_pending(cx, slot, phase);
        }
    }

    /// Frees the slot of a connection that is no more. Its rooms must have been given up before.
    pub fn free(&mut self, cx: &mut Context, slot: u32) {
        self.enter_phase(cx, slot, Phase::Ended);
        self.wheel.cancel(slot);
        take_of(&mut self.heads, slot);
        self.leave_source(cx, slot);
        cx.slots.remove(slot);
    }

    /// Fills in the figures that are its own.
    pub fn describe(&self, metrics: &mut Metrics) {
        metrics.unfinished_bytes_now = self.unfinished.bytes() as u64;
    }

    /// Panics unless its parts agree with each other and with the connections.
    pub fn check_invariants(&self, cx: &Context) {
        let slots = &cx.slots;
        let (mut live, mut open, mut heads) = (0, 0, 0);
        let are_awaited = self.introducers.keys().all(|slot| awaits_introduction(slots.get(*slot).source));
        assert!(are_awaited, "a proxy is kept for a connection whose client has been told");
        let mut sources = HashMap::<u32, usize, _>::with_hasher(Seeded::new(0));
        for slot in slots.slots() {
            let conn = slots.get(slot);
            live += usize::from(!matches!(conn.phase, Phase::Free | Phase::Backend));
            open += u64::from(conn.phase == Phase::Open);
            heads += u64::from(conn.phase == Phase::Head);
            if is_source(conn.source) {
                *sources.entry(conn.source).or_default() += 1;
            }
            let is_read = matches!(conn.phase, Phase::Open | Phase::Closing);
            assert!(is_read || conn.meter.is_none(), "only a connection whose frames are read is metered");
            assert!(conn.phase == Phase::Open || conn.rooms.len() == 0, "only an open connection is in rooms");
            slots.check_written(slot);
        }
        assert_eq!(live, slots.live());
        assert!(self.touched.is_empty() && self.fired.is_empty());
        assert!(self.wheel.len() <= live, "only connections that are alive have a timer");
        assert_eq!((open, heads), (cx.metrics.connections_now, cx.metrics.pending_upgrades_now));
        assert!(
            [cx.journal.tells_of(), cx.notices.tells_of()].into_iter().flatten().all(|told| told as u64 == open),
            "the end of whoever is open will be told"
        );
        assert!(self.heads.keys().chain(self.held.keys()).all(|slot| slots.get(*slot).phase == Phase::Head));
        self.sources.check_invariants(|source| sources.get(&source).copied().unwrap_or(0));
        self.check_pending(slots, cx.config.admission.pending_upgrades_max);
        self.check_unfinished(slots, cx.config.limits.unfinished_total_bytes_max);
    }

    fn check_unfinished(&self, slots: &Slots, bytes_max: usize) {
        let mut bytes = 0;
        for (slot, held) in self.unfinished.iter() {
            assert_eq!(slots.get(slot).decoder.held_bytes(), held, "what is held of slot {slot} is counted");
            bytes += held;
        }
        assert_eq!(self.unfinished.bytes(), bytes);
        assert!(bytes <= bytes_max, "all together hold no more than allowed");
        for slot in slots.slots() {
            let held = slots.get(slot).decoder.held_bytes();
            assert!(
                held == 0 || self.unfinished.iter().any(|(other, _)| other == slot),
                "slot {slot} holds {held} bytes"
            );
        }
        let is_read = |slot: u32| matches!(slots.get(slot).phase, Phase::Open | Phase::Closing);
        assert!(self.unread.slots().all(is_read), "only frames are kept unread");
    }

    fn check_pending(&self, slots: &Slots, pending_max: usize) {
        let mut count = 0;
        for phase in [Phase::Head, Phase::Refused] {
            let is_pending = |slot: &u32| slots.get(*slot).phase == phase;
            let pending: Vec<u32> = slots.slots().filter(is_pending).collect();
            let ids = self.pending.ids(phase);
            let mut queued: Vec<u32> = ids.filter_map(|conn| slots.slot(conn)).filter(is_pending).collect();
            queued.sort_unstable();
            assert_eq!(queued, pending, "a pending connection stands in its queue once");
            count += pending.len();
        }
        assert_eq!(count, self.pending.count());
        assert!(count <= pending_max.max(1));
    }

    /// Panics if anything is left of a connection.
    pub fn check_idle(&self) {
        assert!(
            self.wheel.is_empty() && self.heads.is_empty() && self.held.is_empty(),
            "a timer or a request head is left"
        );
        assert!(self.unfinished.is_empty() && self.unread.is_empty(), "unfinished or unread bytes are left");
        assert!(self.introducers.is_empty(), "a proxy's address is left");
    }
}
