//! Messages on their way: what is sent next, what has arrived where, how long it took. No sockets and no clock.

use std::collections::{HashMap, HashSet};

use hdrhistogram::Histogram;

use super::check::{Checker, Faults};
use super::in_flight::InFlight;
use super::message::{Due, Header, Words};
use super::pace::{Load, Pace};
use super::plan::Plan;
use crate::latency::histogram;
use crate::{Error, Result};

/// Everything that counts since the run began, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages that were sent.
    pub sent: u64,
    /// Receptions of them, without duplicates.
    pub deliveries: u64,
    /// Bytes of all messages on the wire, with the headers of their frames.
    pub bytes: u64,
    /// Messages of somebody else in the same rooms.
    pub foreign: u64,
}

/// The messages of one run.
pub struct Traffic {
    plan: Plan,
    names: Vec<String>,
    words: Words,
    checker: Checker,
    in_flight: InFlight,
    /// How far each member has come in the order of each of its rooms.
    latest: Vec<u32>,
    /// Messages of a room that came in another order than to others, in each room where that happened.
    disagreements: HashMap<usize, u64>,
    load: Load,
    pace: Option<Pace>,
    /// Messages that may still be sent.
    allowance: u64,
    /// How many were sent on each stream.
    sequences: Vec<u32>,
    /// The lane that each room's next message takes.
    lanes_next: Vec<u32>,
    /// The members of each room.
    audience: Vec<u32>,
    /// The first room of each member.
    first_rooms: Vec<u32>,
    tally: Tally,
    /// Receptions that all that was sent comes to.
    expected: u64,
    /// Messages that were due earlier are not in the histograms.
    record_from_ns: u64,
    latency: Histogram<u64>,
    lateness: Histogram<u64>,
    text: String,
}

/// A message that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// By whom.
    pub publisher: usize,
    /// Where.
    pub room: usize,
    header: Header,
}

impl Traffic {
    /// Nothing is sent before [`Traffic::resume`].
    pub fn new(plan: Plan, load: Load, message_bytes: usize) -> Result<Traffic> {
        let (rooms, lanes) = (plan.rooms, plan.lanes());
        let count = |number: usize| u32::try_from(number).map_err(|_| Error::new("too many rooms or connections"));
        count(rooms * lanes)?;
        Ok(Traffic {
            names: (0..rooms).map(|room| plan.name_of(room)).collect(),
            words: Words::new(message_bytes),
            checker: Checker::new(plan.members * plan.rooms_each * lanes),
            in_flight: InFlight::new(rooms, lanes),
            latest: vec![0; plan.members * plan.rooms_each],
            disagreements: HashMap::new(),
            load,
            pace: None,
            allowance: 0,
            sequences: vec![0; rooms * lanes],
            lanes_next: vec![0; rooms],
            audience: (0..rooms).map(|room| count(plan.members_of(room))).collect::<Result<_>>()?,
            first_rooms: (0..plan.members).map(|member| count(plan.first_room_of(member))).collect::<Result<_>>()?,
            tally: Tally::default(),
            expected: 0,
            record_from_ns: u64::MAX,
            latency: histogram()?,
            lateness: histogram()?,
            text: String::new(),
            plan,
        })
    }

    /// Lets `messages` more be sent from `now` on. A window stays as it is, a schedule begins anew.
    pub fn resume(&mut self, messages: u64, now: u64) {
        self.allowance = messages;
        if !matches!(self.pace, Some(Pace::Window(_))) {
            self.pace = Some(Pace::new(self.load, self.plan.rooms, now));
        }
    }

    /// Lets nothing more be sent.
    pub fn pause(&mut self) {
        self.allowance = 0;
    }

    /// Keeps the latencies of messages that are due from `now` on.
    pub fn record_from(&mut self, now: u64) {
        self.record_from_ns = now;
    }

    /// The next message, if one is to be sent by `now`.
    #[inline]
    pub fn next(&mut self, now: u64) -> Option<Outgoing> {
        if self.allowance == 0 {
            return None;
        }
        let (room, due_ns) = self.pace.as_mut()?.next(now)?;
        Some(self.send(room, due_ns, now))
    }

    fn send(&mut self, room: usize, due_ns: u64, now: u64) -> Outgoing {
        let lane = self.lanes_next[room] as usize;
        self.lanes_next[room] = if lane + 1 < self.plan.lanes_of(room) { lane as u32 + 1 } else { 0 };
        let stream = room * self.plan.lanes() + lane;
        let sequence = self.sequences[stream];
        self.sequences[stream] += 1;
        self.allowance -= 1;
        self.tally.sent += 1;
        self.expected += u64::from(self.audience[room]);
        self.in_flight.sent(stream, due_ns, self.audience[room]);
        if due_ns >= self.record_from_ns && matches!(self.load, Load::Rate(_)) {
            self.lateness.saturating_record(now - due_ns);
        }
        // `new` has checked that streams fit.
        let header = Header { stream: stream as u32, sequence, due: Due::of(due_ns) };
        Outgoing { publisher: self.plan.publisher(room, lane), room, header }
    }

    /// The name of the room of `message`, and its text.
    pub fn text(&mut self, message: &Outgoing) -> (&str, &str) {
        self.text.clear();
        self.words.write(message.header, &mut self.text);
        (&self.names[message.room], &self.text)
    }

    /// When [`Traffic::next`] is to be asked again, if that is a matter of time.
    pub fn next_due(&self) -> Option<u64> {
        self.pace.as_ref().filter(|_| self.allowance > 0)?.next_due()
    }

    /// Takes note of what has come to `member` at `now`, and says whether it is a message of this run.
    #[inline]
    pub fn hear(&mut self, member: usize, payload: &[u8], wire_bytes: usize, now: u64) -> Result<bool> {
        let Some(header) = self.words.header_in(payload) else { return Ok(false) };
        let (stream, sequence) = (header.stream as usize, header.sequence);
        let lanes = self.plan.lanes();
        let (room, lane) = if lanes == 1 { (stream, 0) } else { (stream / lanes, stream % lanes) };
        if room >= self.plan.rooms || sequence >= self.sequences[stream] {
            return Err(Error::new("a message came that was never sent"));
        }
        let nth = self.plan.nth_room(self.first_rooms[member] as usize, room);
        if nth >= self.plan.rooms_each {
            return Err(Error::new(format!("a message of {} came, a room it is not in", self.names[room])));
        }
        self.words.check(payload, room, &self.names[room])?;
        self.tally.bytes += wire_bytes as u64;
        let membership = member * self.plan.rooms_each + nth;
        if self.checker.take(membership * lanes + lane, sequence) {
            self.tally.deliveries += 1;
            let Some(arrival) = self.in_flight.arrived(room, header, &mut self.latest[membership]) else {
                return Err(Error::new("a message came with another moment than it was sent with"));
            };
            if arrival.due_ns >= self.record_from_ns {
                self.latency.saturating_record(now.saturating_sub(arrival.due_ns));
            }
            if !arrival.agrees {
                *self.disagreements.entry(room).or_default() += 1;
            }
            if let (true, Some(pace)) = (arrival.completed, &mut self.pace) {
                pace.completed(room);
            }
        }
        Ok(true)
    }

    /// Takes note of a message that is not of this run.
    pub fn hear_foreign(&mut self) {
        self.tally.foreign += 1;
    }

    /// Checks that a text that [`Traffic::hear`] does not know is not of this run: such a one is not whole, or has come to a
    /// publisher, which is in no room.
    pub fn check_foreign(&self, member: Option<usize>, payload: &[u8]) -> Result<()> {
        if !self.words.are_in(payload) {
            return Ok(());
        }
        let why = if member.is_some() { "that is not whole" } else { "to who is in no room" };
        Err(Error::new(format!("a message came {why}: {}", String::from_utf8_lossy(payload))))
    }

    /// Which of the rooms of `member` is called `name`.
    pub fn nth_room_called(&self, member: usize, name: &str) -> Option<usize> {
        let room: usize = name.strip_prefix(self.plan.room_prefix.as_str())?.parse().ok()?;
        let nth =
            (self.names.get(room)? == name).then(|| self.plan.nth_room(self.first_rooms[member] as usize, room))?;
        (nth < self.plan.rooms_each).then_some(nth)
    }

    /// The names of the rooms of `member`.
    pub fn rooms_of(&self, member: usize) -> impl Iterator<Item = &str> {
        self.plan.rooms_of(member).map(|room| self.names[room].as_str())
    }

    /// What has been counted until now.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Whether the allowance is used up.
    pub fn is_silent(&self) -> bool {
        self.allowance == 0
    }

    /// Receptions that have not happened yet.
    pub fn outstanding(&self) -> u64 {
        self.expected - self.tally.deliveries
    }

    /// From the moment a message was due to its reception by each member, in ns.
    pub fn latency(&self) -> &Histogram<u64> {
        &self.latency
    }

    /// From the moment a message was due to its sending, in ns: this program's own part of the latency. Of a closed loop,
    /// in which messages are due when they are sent, nothing is kept.
    pub fn lateness(&self) -> &Histogram<u64> {
        &self.lateness
    }

    /// What is wrong so far, if what is on its way still comes.
    pub fn faults(&self) -> Faults {
        self.faults_of(|_, _| 0)
    }

    /// What is wrong, if nothing comes any more.
    pub fn faults_at_the_end(&self) -> Faults {
        self.faults_of(|room, lane| self.sequences[room * self.plan.lanes() + lane])
    }

    /// What is wrong, where so many messages have certainly been sent to a room on a lane.
    fn faults_of(&self, sent: impl Fn(usize, usize) -> u32) -> Faults {
        let (lanes, each) = (self.plan.lanes(), self.plan.rooms_each);
        let room_and_lane = |place: usize| {
            let (member, nth, lane) = (place / lanes / each, place / lanes % each, place % lanes);
            (self.plan.nth_room_of(member, nth), lane)
        };
        let sent_to = |place| {
            let (room, lane) = room_and_lane(place);
            sent(room, lane)
        };
        let faults = self.checker.faults(sent_to);
        if self.disagreements.is_empty() {
            return faults;
        }
        // Who has lost a message may agree with nobody and be right.
        let places = 0..self.latest.len() * lanes;
        let lossy = places.filter(|&place| self.checker.has_lost(place, sent_to(place)));
        let lossy: HashSet<usize> = lossy.map(|place| room_and_lane(place).0).collect();
        let disagreements = self.disagreements.iter().filter(|(room, _)| !lossy.contains(room));
        Faults { against_room_order: disagreements.map(|(_, count)| count).sum(), ..faults }
    }
}
