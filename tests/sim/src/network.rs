//! Wires: byte streams in both directions that delay, split, merge and hold bytes back, fill up, half-close, break and go
//! silent. Nothing here knows what the bytes mean, or who stands at which side.

use crate::options::{Span, Wires, chance};
use crate::timeline::{Happening, Timeline};
use fastrand::Rng;
use std::collections::{BTreeMap, VecDeque};

/// A wire; numbers only grow, so they tell which of two is newer.
pub type WireId = u64;

/// The two ends of a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// Who opened it.
    Near,
    /// Who accepted it.
    Far,
}

impl Side {
    /// The other one.
    pub fn other(self) -> Side {
        match self {
            Side::Near => Side::Far,
            Side::Far => Side::Near,
        }
    }
}

/// What a read gave.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    /// These bytes.
    Bytes(Vec<u8>),
    /// Nothing is there yet.
    Nothing,
    /// The other side sends no more, or the wire is broken.
    End,
}

/// A write, or anything else, on a wire that is no more.
#[derive(Debug, PartialEq, Eq)]
pub struct Broken;

#[derive(Debug)]
enum Flying {
    Bytes(Vec<u8>),
    Fin,
}

/// One direction, named after its writer.
#[derive(Debug)]
struct Pipe {
    flying: VecDeque<(u64, Flying)>,
    flying_bytes: usize,
    arrived: VecDeque<u8>,
    /// Bytes that went into a silent wire: they fill it like others.
    lost_bytes: usize,
    capacity: usize,
    last_arrival: u64,
    fin_sent: bool,
    fin_arrived: bool,
    /// A write was short, and the writer waits to be told.
    blocked: bool,
    /// A write was short once.
    was_full: bool,
    /// Nothing arrives before.
    stalled_until: u64,
    read_total: u64,
    /// Each read of a link to Redis.
    reads: Vec<ReadAt>,
}

/// Up to where something was read, and when: the number of the read among all, and the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadAt {
    /// The place behind what was read.
    total: u64,
    /// The number of the read.
    pub number: u64,
    /// The time.
    pub time: u64,
}

/// How one side stands.
#[derive(Clone, Copy, Debug, Default)]
struct End {
    /// It has closed its socket.
    closed: bool,
    /// When it learns that the wire is broken.
    breaks_at: Option<u64>,
}

#[derive(Debug)]
struct Wire {
    pipes: [Pipe; 2],
    ends: [End; 2],
    silent: bool,
    is_link: bool,
}

/// All wires.
#[derive(Debug)]
pub struct Network {
    wires: BTreeMap<WireId, Wire>,
    opened: WireId,
    /// Reads of links to Redis.
    reads: u64,
    rng: Rng,
    traits: Wires,
}

impl Network {
    /// Without a wire.
    pub fn new(traits: Wires, rng: Rng) -> Network {
        Network { wires: BTreeMap::new(), opened: 0, reads: 0, rng, traits }
    }

    /// From now on wires are gentle: nothing is split or slow. What they hold stays as it is.
    pub fn heal(&mut self, timeline: &mut Timeline) {
        self.traits.split = 0;
        self.traits.latency = Span { min: 50, max: self.traits.latency.max.min(5_000) };
        self.traits.client_capacity = Span { min: 1 << 20, max: 1 << 20 };
        self.traits.link_capacity = self.traits.client_capacity;
        for (id, wire) in &mut self.wires {
            for (side, pipe) in [Side::Near, Side::Far].into_iter().zip(&mut wire.pipes) {
                pipe.capacity = 1 << 20;
                pipe.stalled_until = 0;
                timeline.after(50, Happening::Readable(*id, side.other()));
                if std::mem::take(&mut pipe.blocked) {
                    timeline.after(50, Happening::Writable(*id, side));
                }
            }
        }
    }

    /// A new wire; `to_redis` says which capacities are meant. Both sides can write at once; when they learn of each other
    /// is the caller's to plan.
    pub fn open(&mut self, to_redis: bool) -> WireId {
        self.opened += 1;
        let span = if to_redis { self.traits.link_capacity } else { self.traits.client_capacity };
        let pipes = [(); 2].map(|()| Pipe::new(span.draw(&mut self.rng) as usize));
        let wire = Wire { pipes, ends: [End::default(); 2], silent: false, is_link: to_redis };
        self.wires.insert(self.opened, wire);
        self.opened
    }

    /// Microseconds for a way.
    pub fn latency(&mut self) -> u64 {
        self.traits.latency.draw(&mut self.rng)
    }

    /// Writes what there is room for.
    ///
    /// # Errors
    /// If the wire is broken, and this side knows it.
    pub fn write(&mut self, id: WireId, side: Side, bytes: &[u8], timeline: &mut Timeline) -> Result<usize, Broken> {
        let (rng, traits) = (&mut self.rng, &self.traits);
        let wire = self.wires.get_mut(&id).ok_or(Broken)?;
        let (own, peer) = (wire.ends[side as usize], wire.ends[side.other() as usize]);
        assert!(!own.closed, "a closed socket is not written to");
        if own.breaks_at.is_some_and(|at| at <= timeline.now) {
            return Err(Broken);
        }
        let pipe = &mut wire.pipes[side as usize];
        assert!(!pipe.fin_sent, "nothing is written behind a FIN");
        if !wire.silent && (peer.closed || own.breaks_at.is_some() || peer.breaks_at.is_some()) {
            // The kernel takes it; what comes back is a reset.
            if own.breaks_at.is_none() {
                let at = timeline.now + traits.latency.draw(rng);
                wire.ends[side as usize].breaks_at = Some(at);
                timeline.at(at, Happening::Readable(id, side));
            }
            return Ok(bytes.len());
        }
        let taken = bytes.len().min(pipe.room());
        if taken < bytes.len() {
            (pipe.blocked, pipe.was_full) = (true, true);
        }
        if wire.silent {
            pipe.lost_bytes += taken;
            return Ok(taken);
        }
        let mut rest = &bytes[..taken];
        while !rest.is_empty() {
            let split = chance(rng, traits.split) && rest.len() > 1;
            let (piece, after) = rest.split_at(if split { rng.usize(1..rest.len()) } else { rest.len() });
            pipe.fly(timeline.now + traits.latency.draw(rng), Flying::Bytes(piece.to_vec()));
            pipe.flying_bytes += piece.len();
            timeline.at(pipe.last_arrival, Happening::Readable(id, side.other()));
            rest = after;
        }
        Ok(taken)
    }

    /// Reads at most so many bytes of what has arrived.
    pub fn read(&mut self, id: WireId, side: Side, bytes_max: usize, timeline: &mut Timeline) -> Read {
        let Some(wire) = self.wires.get_mut(&id) else { return Read::End };
        let pipe = &mut wire.pipes[side.other() as usize];
        pipe.arrive(timeline.now);
        if pipe.arrived.is_empty() {
            let broken = wire.ends[side as usize].breaks_at.is_some_and(|at| at <= timeline.now);
            return if broken || pipe.fin_arrived { Read::End } else { Read::Nothing };
        }
        let taken = bytes_max.min(pipe.arrived.len());
        let bytes: Vec<u8> = pipe.arrived.drain(..taken).collect();
        pipe.read_total += taken as u64;
        if wire.is_link && side == Side::Near {
            self.reads += 1;
            pipe.reads.push(ReadAt { total: pipe.read_total, number: self.reads, time: timeline.now });
        }
        if pipe.room() > 0 && std::mem::take(&mut pipe.blocked) {
            let delay = self.traits.latency.draw(&mut self.rng);
            timeline.after(delay, Happening::Writable(id, side.other()));
        }
        Read::Bytes(bytes)
    }

    /// How many bytes this side has read since the wire was opened, also when it is no more.
    pub fn read_total(&self, id: WireId, side: Side) -> u64 {
        self.wires.get(&id).map_or(0, |wire| wire.pipes[side.other() as usize].read_total)
    }

    /// The number of the last read of a link to Redis, of whichever.
    pub fn reads(&self) -> u64 {
        self.reads
    }

    /// When an instance has read a link to Redis up to this place.
    pub fn read_at(&self, id: WireId, place: u64) -> Option<ReadAt> {
        if place == 0 {
            return Some(ReadAt { total: 0, number: 0, time: 0 });
        }
        let reads = &self.wires.get(&id)?.pipes[Side::Far as usize].reads;
        reads.get(reads.partition_point(|read| read.total < place)).copied()
    }

    /// Sends a FIN behind what was written.
    pub fn shutdown(&mut self, id: WireId, side: Side, timeline: &mut Timeline) {
        let Some(wire) = self.wires.get_mut(&id) else { return };
        let pipe = &mut wire.pipes[side as usize];
        if std::mem::replace(&mut pipe.fin_sent, true) || wire.silent {
            return;
        }
        pipe.fly(timeline.now + self.traits.latency.draw(&mut self.rng), Flying::Fin);
        timeline.at(pipe.last_arrival, Happening::Readable(id, side.other()));
    }

    /// Closes this side's socket: what was written still arrives, and then the end; what comes is lost.
    pub fn close(&mut self, id: WireId, side: Side, timeline: &mut Timeline) {
        self.shutdown(id, side, timeline);
        let Some(wire) = self.wires.get_mut(&id) else { return };
        wire.ends[side as usize].closed = true;
        let pipe = &mut wire.pipes[side.other() as usize];
        let unread = !pipe.arrived.is_empty() || pipe.flying_bytes > 0;
        pipe.discard();
        // Whoever closes with something unread resets the connection.
        if unread && !wire.silent && wire.ends[side.other() as usize].breaks_at.is_none() {
            let at = wire.pipes[side as usize].last_arrival.max(timeline.now + self.traits.latency.min);
            wire.ends[side.other() as usize].breaks_at = Some(at);
            timeline.at(at, Happening::Readable(id, side.other()));
        }
    }

    /// Breaks the wire: what is under way is lost, and of what has arrived either nothing or everything.
    pub fn reset(&mut self, id: WireId, timeline: &mut Timeline) {
        let Some(wire) = self.wires.get_mut(&id) else { return };
        let keeps = self.rng.bool();
        for side in [Side::Near, Side::Far] {
            let pipe = &mut wire.pipes[side as usize];
            pipe.arrive(timeline.now);
            if keeps {
                pipe.drop_flying();
            } else {
                pipe.discard();
            }
            if wire.ends[side as usize].breaks_at.is_none() {
                let at = timeline.now + self.traits.latency.draw(&mut self.rng);
                wire.ends[side as usize].breaks_at = Some(at);
                timeline.at(at, Happening::Readable(id, side));
            }
        }
    }

    /// Makes the wire silent: from now on nothing arrives, and nobody is told.
    pub fn silence(&mut self, id: WireId) {
        let Some(wire) = self.wires.get_mut(&id) else { return };
        wire.silent = true;
        for pipe in &mut wire.pipes {
            pipe.lost_bytes += pipe.flying_bytes;
            pipe.drop_flying();
        }
    }

    /// Whether the wire is silent.
    pub fn is_silent(&self, id: WireId) -> bool {
        self.wires.get(&id).is_some_and(|wire| wire.silent)
    }

    /// Whether both sides have it open, and bytes get through.
    pub fn is_alive(&self, id: WireId) -> bool {
        self.wires.get(&id).is_some_and(Wire::is_alive)
    }

    /// Whether a write of this side was ever short.
    pub fn was_full(&self, id: WireId, side: Side) -> bool {
        self.wires.get(&id).is_some_and(|wire| wire.pipes[side as usize].was_full)
    }

    /// Holds everything on the wire back for a while.
    pub fn stall(&mut self, id: WireId, until: u64, timeline: &mut Timeline) {
        let Some(wire) = self.wires.get_mut(&id) else { return };
        for (side, pipe) in [Side::Near, Side::Far].into_iter().zip(&mut wire.pipes) {
            pipe.stalled_until = pipe.stalled_until.max(until);
            timeline.at(until, Happening::Readable(id, side.other()));
        }
    }

    /// Whether anything is under way or unread anywhere, on wires that are alive at both ends.
    pub fn is_busy(&self) -> bool {
        self.wires
            .values()
            .filter(|wire| wire.is_alive())
            .flat_map(|wire| &wire.pipes)
            .any(|pipe| pipe.flying_bytes > 0 || !pipe.arrived.is_empty())
    }
}

impl Wire {
    fn is_alive(&self) -> bool {
        !self.silent && self.ends.iter().all(|end| !end.closed && end.breaks_at.is_none())
    }
}

impl Pipe {
    fn new(capacity: usize) -> Pipe {
        Pipe {
            flying: VecDeque::new(),
            flying_bytes: 0,
            arrived: VecDeque::new(),
            lost_bytes: 0,
            capacity,
            last_arrival: 0,
            fin_sent: false,
            fin_arrived: false,
            blocked: false,
            was_full: false,
            stalled_until: 0,
            read_total: 0,
            reads: Vec::new(),
        }
    }

    fn room(&self) -> usize {
        self.capacity.saturating_sub(self.flying_bytes + self.arrived.len() + self.lost_bytes)
    }

    /// Puts something on its way; nothing overtakes.
    fn fly(&mut self, at: u64, what: Flying) {
        self.last_arrival = self.last_arrival.max(at).max(self.stalled_until);
        self.flying.push_back((self.last_arrival, what));
    }

    fn arrive(&mut self, now: u64) {
        if self.stalled_until > now {
            return;
        }
        while let Some((at, _)) = self.flying.front()
            && *at <= now
        {
            match self.flying.pop_front() {
                Some((_, Flying::Bytes(bytes))) => {
                    self.flying_bytes -= bytes.len();
                    self.arrived.extend(bytes);
                }
                _ => self.fin_arrived = true,
            }
        }
    }

    fn drop_flying(&mut self) {
        self.flying.clear();
        self.flying_bytes = 0;
    }

    fn discard(&mut self) {
        self.drop_flying();
        self.arrived.clear();
    }
}
