//! The second phase: everything heals, and then all must come to rest, be as the clients want it, work, and in the end leave
//! nothing behind.

use super::{Cluster, HEALED_STEPS_MAX, LOOK};
use crate::client::{Client, Mood};
use crate::reference::{ROOMS, Sent};
use crate::trace;
use fanfare_core::rules::Right;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

/// Pauses between looks are drawn out by multiples of the one within the other, in microseconds, so that they are in step with nothing that
/// happens again and again, such as the probes of instances.
const UNEVEN: u64 = 61_803;
const UNEVEN_MAX: u64 = 100_000;

impl Cluster<'_> {
    /// Nothing goes wrong any more.
    ///
    /// # Errors
    /// What the reference does not allow.
    pub(super) fn heal(&mut self) -> Result<(), String> {
        trace!(self.around.trace, self.around.timeline, "EVERYTHING HEALS");
        self.mood = Mood::Settled;
        self.group.heal(&mut self.around)?;
        self.around.network.heal(&mut self.around.timeline);
        self.heal_credentials();
        for client in &mut self.clients {
            client.heal(&mut self.around);
        }
        for place in 0..self.instances.len() {
            if self.instances[place].as_ref().is_some_and(|instance| instance.is_stopping) {
                self.end_instance(place);
            }
            match &mut self.instances[place] {
                None => self.start_instance(place),
                Some(instance) => {
                    instance.paused_until = 0;
                    instance.wake(&mut self.around);
                }
            }
        }
        for number in 0..self.clients.len() {
            self.plan_client(number, 1_000);
        }
        self.await_departures()
    }

    /// Lets this much time pass.
    pub(super) fn pass(&mut self, micros: u64) -> Result<(), String> {
        let until = self.around.timeline.now + micros;
        let steps_max = self.outcome.steps + HEALED_STEPS_MAX;
        while self.step(until)? {
            if self.outcome.steps > steps_max {
                return Err("it does not come to rest".to_owned());
            }
        }
        self.around.timeline.now = until;
        Ok(())
    }

    /// How long detecting what is dead, and connecting again, may take at worst.
    pub(super) fn patience(&self) -> u64 {
        let (core, session) = (&self.options.core, &self.options.session);
        let client = self.options.clients.patience * 2 + 1_000_000;
        let ended =
            core.timeouts.ping_interval + core.timeouts.pong_timeout + core.timeouts.close + core.timeouts.handshake;
        // Two of these: a canary may have been put off just before.
        let redis =
            session.probe_interval * 2 + session.probe_timeout + (session.connect_timeout + session.backoff_max) * 2;
        // Until Sentinels, or nodes of a Cluster, are reached and have answered again, or others are believed without them.
        let is_led = self.options.watched.is_some() || self.options.slotted.is_some();
        let sentinels = if is_led { redis + Duration::from_secs(10) } else { Duration::ZERO };
        // What clients have made of work may still wait for all that came before.
        let surplus: u64 = self.clients.iter().map(Client::surplus).sum();
        let waits = surplus * 1_000_000 / core.limits.surplus.per_second.max(1);
        let waits = if core.limits.surplus.is_limited() { waits } else { 0 };
        client + (ended + redis + sentinels + core.timeouts.message).as_micros() as u64 + waits + 10_000_000
    }

    /// Waits until everybody is where it wants to be.
    pub(super) fn settle(&mut self) -> Result<(), String> {
        let (deadline, mut uneven) = (self.around.timeline.now + self.patience(), 0);
        while self.around.timeline.now < deadline {
            self.pass(LOOK + uneven)?;
            uneven = (uneven + UNEVEN) % UNEVEN_MAX;
            // Who has a dead wire in its hands has yet to notice.
            let network = &self.around.network;
            let links = self.instances.iter().flatten().flat_map(|instance| instance.links());
            let mut wires = links.chain(self.clients.iter().filter_map(Client::wire));
            let ready = self.instances.iter().flatten().all(|instance| instance.is_ready());
            let settled = self.clients.iter().all(Client::is_settled);
            let hear = self.group.deaf() == 0;
            if ready && settled && hear && wires.all(|wire| network.is_alive(wire)) && !network.is_busy() {
                // What a client without replies has asked for is granted by now, too.
                return self.pass(1_000_000);
            }
        }
        let not_ready: Vec<_> =
            self.instances.iter().flatten().filter_map(|instance| instance.core.readiness().err()).collect();
        let unsettled: Vec<String> =
            self.clients.iter().filter(|client| !client.is_settled()).map(Client::complaint).collect();
        let deaf = self.group.deaf();
        Err(format!(
            "not at rest in time: instances are not ready: {not_ready:?}; {deaf} hear nothing; clients: {unsettled:?}"
        ))
    }

    /// Sends something to every room with history: of what was stored while Redis refused to announce it, the next message tells, and whoever
    /// then has missed what is kept no more, and cannot be told, has to come back.
    ///
    /// Such a client may take along what it has just sent to other rooms, and an instance that has found Redis without its scripts refuses
    /// until it looks again. What was lost so is sent again, for as long as detecting and repairing may take.
    pub(super) fn knock(&mut self) -> Result<(), String> {
        let deadline = self.around.timeline.now + self.patience();
        let mut rooms: Vec<usize> =
            (0..self.options.rooms).filter(|room| self.options.histories.keeps(*room)).collect();
        while !rooms.is_empty() {
            if self.around.timeline.now >= deadline {
                return Err(format!("nothing that is sent to rooms {rooms:?} is published"));
            }
            let mut sent = Vec::new();
            for room in rooms {
                if let Some(number) = self.clients.iter().position(|client| client.can_send(room)) {
                    let key = self.clients[number].send(room, true, &mut self.around);
                    sent.extend(key.map(|key| (room, key)));
                }
            }
            self.pass(3_000_000)?;
            self.settle()?;
            let is_lost = |key| self.around.reference.sent(key).is_none_or(|sent| sent.published.is_none());
            rooms = sent.into_iter().filter(|(_, key)| is_lost(*key)).map(|(room, _)| room).collect();
        }
        Ok(())
    }

    /// Sends something to every room, by a client and past all instances, and looks whether it reaches every member.
    pub(super) fn probe(&mut self) -> Result<(), String> {
        let (mut probes, foreign) = (Vec::new(), self.foreign_expected());
        for room in 0..self.options.rooms {
            let able: Vec<usize> =
                (0..self.clients.len()).filter(|number| self.clients[*number].can_send(room)).collect();
            if !able.is_empty() {
                let number = able[self.foreign.usize(0..able.len())];
                probes.extend(self.clients[number].send(room, true, &mut self.around).map(|key| (room, key)));
            }
            probes.push((room, self.publish_foreign_to(room)?));
        }
        self.pass(3_000_000)?;
        for instance in self.instances.iter().flatten() {
            let (count, expected) = (instance.core.metrics().history_foreign, &foreign[&instance.incarnation]);
            if !expected.contains(&count) {
                return Err(format!("{count} foreign messages are counted, and {expected:?} were to be expected"));
            }
        }
        for (room, key) in probes {
            let published = self.around.reference.sent(key).and_then(|sent| sent.published);
            let index = published.ok_or_else(|| format!("{key:?} of room {room} is not published"))?;
            for (number, client) in self.clients.iter().enumerate().filter(|(_, client)| client.wants(room)) {
                let view = client.view().ok_or_else(|| format!("client {number} was connected, and is not"))?;
                // It came in its place or not at all: see to it that it came.
                let has_place = !self.options.histories.keeps(room) || self.around.reference.place_of(key).is_some();
                let reference = &self.around.reference;
                let has_come = match has_place {
                    true => view.has_come(room, index, reference),
                    false => view.has_unstored_come(room, index, reference),
                };
                if !has_come {
                    return Err(format!("client {number} has not got {key:?}, number {index} of room {room}"));
                }
            }
        }
        Ok(())
    }

    /// How many foreign messages for rooms with history each instance will have counted when one more has been published to every room: one
    /// more for each of its rooms with members, and maybe for those that linger.
    fn foreign_expected(&self) -> BTreeMap<u32, RangeInclusive<u64>> {
        let subscriptions = self.group.subscriptions();
        let mut expected = BTreeMap::new();
        for instance in self.instances.iter().flatten() {
            let held: BTreeSet<_> =
                instance.subscribers().filter_map(|wire| subscriptions.get(&wire)).flatten().collect();
            let counted = instance.core.metrics().history_foreign;
            let (mut least, mut most) = (counted, counted);
            for room in (0..self.options.rooms).filter(|room| self.options.histories.keeps(*room)) {
                let is_member = |client: &Client| {
                    client.wants(room) && client.view().is_some_and(|of| of.incarnation == Some(instance.incarnation))
                };
                least += u64::from(self.clients.iter().any(is_member));
                most += u64::from(held.contains(&self.group.master().channel(ROOMS[room])));
            }
            expected.insert(instance.incarnation, least..=most);
        }
        expected
    }

    /// Redis refuses for a while, and then is a replica for a while, while nothing else goes wrong. Every instance says that it is
    /// not ready, nobody is told anything that is not so, and afterwards everybody is where it was.
    pub(super) fn refuse_for_a_while(&mut self) -> Result<(), String> {
        let session = &self.options.session;
        // Until each connection has been probed, and answered, and the instance has had a turn.
        let noticed = (session.probe_interval + session.probe_timeout).as_micros() as u64 + 2_000_000;
        for demoted in [false, true] {
            trace!(self.around.trace, self.around.timeline, "REDIS REFUSES, demoted: {demoted}");
            if self.group.shards.is_some() {
                if demoted {
                    // A master of a Cluster is not made a replica by hand.
                    break;
                }
                self.group.servers.iter_mut().for_each(|server| server.busy = true);
            }
            self.group.master_mut().busy = !demoted;
            self.group.master_mut().demote(demoted);
            self.pass(noticed)?;
            if let Some(place) = self.instances.iter().position(|of| of.as_ref().is_some_and(|of| of.is_ready())) {
                return Err(format!("instance {place} is ready, and Redis is not (demoted: {demoted})"));
            }
            self.group.servers.iter_mut().for_each(|server| server.busy = false);
            self.group.master_mut().demote(false);
            self.settle()?;
            self.probe()?;
        }
        Ok(())
    }

    /// In a Cluster the slot of a room is on its way for a while, and nothing else goes wrong: every message is published all the same, reaches
    /// every member, and does so when the slot has settled.
    pub(super) fn move_for_a_while(&mut self) -> Result<(), String> {
        if self.group.shards.is_none() {
            return Ok(());
        }
        let kept: Vec<usize> = (0..self.options.rooms).filter(|room| self.options.histories.keeps(*room)).collect();
        let room = if kept.is_empty() { 0 } else { kept[self.foreign.usize(0..kept.len())] };
        if !self.group.hold_on_the_way(room, &mut self.around) {
            return Err("a slot does not move".to_owned());
        }
        // At another node an epoch begins, and what is not stored may be lost until that is known.
        self.knock()?;
        self.probe()?;
        while self.group.let_settle() {
            self.pass(LOOK)?;
        }
        self.settle()?;
        self.probe()
    }

    /// Checks what must be true once everything is quiet.
    pub(super) fn check_quiet(&mut self) -> Result<(), String> {
        // Until instances have noticed who is dead, and rooms have lingered.
        let linger = self.options.core.timeouts.room_linger.as_micros() as u64;
        let core = &self.options.core;
        let dead = (core.timeouts.ping_interval + core.timeouts.pong_timeout + core.timeouts.close).as_micros() as u64;
        // And nodes that have nothing any more have been left.
        let left = if self.options.slotted.is_some() { 15_000_000 } else { 0 };
        self.pass(dead + 2 * linger + 2_000_000 + left)?;
        for (number, client) in self.clients.iter_mut().enumerate().filter(|(_, client)| !client.is_banned()) {
            let view = client.view_mut().ok_or_else(|| format!("client {number} was connected, and is not"))?;
            let checked = view.check_all(&self.around.reference, &self.around.network);
            checked.map_err(|error| format!("client {number}: {error}"))?;
        }
        let mut wanted: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
        for client in &self.clients {
            if let Some(incarnation) = client.view().and_then(|view| view.incarnation) {
                let rooms = (0..self.options.rooms).filter(|room| client.wants(*room));
                let channels = rooms.map(|room| self.group.master().channel(ROOMS[room]));
                wanted.entry(incarnation).or_default().extend(channels);
            }
        }
        let mut subscriptions = self.group.subscriptions();
        for instance in self.instances.iter().flatten() {
            let wanted = wanted.remove(&instance.incarnation).unwrap_or_default();
            let mut held = BTreeSet::new();
            for channel in instance.subscribers().filter_map(|wire| subscriptions.remove(&wire)).flatten() {
                if let Some(twice) = held.replace(channel) {
                    return Err(format!("subscribed is {twice} at two nodes"));
                }
            }
            if wanted != held {
                return Err(format!("subscribed is {held:?}, and members are in {wanted:?}"));
            }
            let metrics = instance.core.metrics();
            let is_unread = instance.core.has_unread() || metrics.unfinished_bytes_now > 0;
            if is_unread || metrics.publishes_deferred_now > 0 || metrics.members_behind_now > 0 {
                return Err(format!("something is left unread, unfinished, deferred or behind: {metrics:?}"));
            }
            if (metrics.unsent_bytes_now, metrics.stored_frame_bytes_now) != (0, 0) {
                return Err(format!("something is left unsent: {metrics:?}"));
            }
        }
        if !subscriptions.is_empty() {
            return Err(format!("subscriptions of nobody: {subscriptions:?}"));
        }
        let of_each = 2 + usize::from(self.options.session.waits_for_replicas);
        self.group.check_connections(of_each, self.instances.len())?;
        if self.options.is_quiet() {
            // Who went away in the meantime may have taken something along.
            let lasts = |session| self.clients.iter().filter_map(Client::view).any(|view| view.session == session);
            let (reference, guard) = (&self.around.reference, &self.around.guard);
            let is_owed = |sent: &Sent| match (guard, sent.behind) {
                (Some(guard), Some(behind)) => guard.was_always_allowed(behind, Right::Publish, sent.room),
                (guard, _) => guard.is_none(),
            };
            let mut lost = reference
                .all_sent()
                .filter(|(_, sent)| sent.published.is_none() && lasts(sent.session))
                .chain(reference.unpublished());
            if let Some((key, sent)) = lost.find(|(_, sent)| is_owed(sent)) {
                return Err(format!("nothing goes wrong, and {key:?} is not published: {sent:?}"));
            }
        }
        Ok(())
    }

    /// Everybody leaves, and nothing is left.
    pub(super) fn leave(&mut self) -> Result<(), String> {
        self.mood = Mood::Leaving;
        let linger = self.options.core.timeouts.room_linger.as_micros() as u64;
        let close = self.options.core.timeouts.close.as_micros() as u64;
        let there = self.options.core.presence.linger.as_micros() as u64 * u64::from(self.options.presence.is_some());
        self.pass(close + 2 * (linger + there) + 5_000_000)?;
        for instance in self.instances.iter().flatten() {
            instance.core.check_idle();
        }
        let subscriptions = self.group.subscriptions();
        if !subscriptions.is_empty() {
            return Err(format!("everybody has left, and subscribed is {subscriptions:?}"));
        }
        self.check_nobody_there()?;
        for place in 0..self.instances.len() {
            self.end_instance(place);
        }
        Ok(())
    }
}
