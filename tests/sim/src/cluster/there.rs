//! Who is in rooms, once everything is quiet.

use super::{Cluster, LOOK};
use crate::client::Client;
use crate::options::Fault;
use crate::reference::ROOMS;
use crate::trace;
use std::collections::{BTreeMap, BTreeSet};

/// Microseconds within which a view that has been unsettled is read anew, and what did not go through is tried again.
const READ_ANEW: u64 = 30_000_000;
/// Microseconds within which a question is answered when nothing goes wrong.
const ANSWERED_WITHIN: u64 = 2_000_000;

impl Cluster<'_> {
    /// Redis and all who observe a room come to know who is there, and go on to do so.
    pub(super) fn check_there(&mut self) -> Result<(), String> {
        if self.options.presence.is_some() {
            self.await_knowledge()?;
            self.await_answers()?;
            self.pass(2 * self.options.session.presence_lease.as_micros() as u64)?;
            self.await_knowledge()?;
        }
        Ok(())
    }

    /// Redis loses all data, and nothing else goes wrong: instances find that out by their leases, and tell all anew.
    pub(super) fn forget_all(&mut self) -> Result<(), String> {
        if self.options.presence.is_some() && self.options.has(Fault::RedisDataLoss) {
            trace!(self.around.trace, self.around.timeline, "REDIS FORGETS ALL");
            self.group.master_mut().delete_all(&mut self.around);
            self.await_knowledge()?;
            self.knock()?;
            self.probe()?;
        }
        Ok(())
    }

    fn await_knowledge(&mut self) -> Result<(), String> {
        let kept = self.options.presence.as_ref().map(|presence| presence.kept.clone()).unwrap_or_default();
        // Whoever was not told of the last change finds that out by the next one.
        if self.options.has(Fault::RedisRefusesPublish) {
            let rooms = (0..kept.len()).filter(|room| kept[*room]);
            self.group.master_mut().pass_by(rooms, &mut self.around)?;
        }
        let lease = self.options.session.presence_lease.as_micros() as u64;
        let linger = self.options.core.presence.linger.as_micros() as u64;
        let deadline = self.around.timeline.now + self.patience() + 4 * lease + linger + READ_ANEW;
        while let Err(reason) = self.all_know(&kept) {
            if self.around.timeline.now >= deadline {
                return Err(reason);
            }
            self.pass(LOOK)?;
        }
        Ok(())
    }

    /// Each client asks who is in a room, and comes to be told. Where nobody observes, it may be found out a while later.
    fn await_answers(&mut self) -> Result<(), String> {
        let rooms: Vec<Option<usize>> = self.clients.iter_mut().map(Client::room_to_see).collect();
        let deadline = self.around.timeline.now + READ_ANEW;
        while let Err(reason) = self.ask_who(&rooms)? {
            if self.around.timeline.now >= deadline {
                return Err(reason);
            }
        }
        Ok(())
    }

    /// Whether what they are told is so. Fails if that cannot be found out.
    fn ask_who(&mut self, rooms: &[Option<usize>]) -> Result<Result<(), String>, String> {
        for (client, room) in self.clients.iter_mut().zip(rooms) {
            room.iter().for_each(|room| client.ask_who(*room, &mut self.around));
        }
        self.pass(ANSWERED_WITHIN)?;
        let asked = self.clients.iter().zip(rooms).filter_map(|(client, room)| Some((client, (*room)?)));
        for (client, room) in asked {
            let view = client.view().ok_or("a client was connected, and is not")?;
            if let Err(reason) = view.check_answer(room, &self.truth(room)) {
                return Ok(Err(format!("{:?}: {reason}", ROOMS[room])));
            }
        }
        Ok(Ok(()))
    }

    /// How many connections of which user are in a room.
    fn truth(&self, room: usize) -> BTreeMap<&'static str, u64> {
        let mut truth = BTreeMap::new();
        for user in self.clients.iter().filter_map(|client| client.user_in(room)) {
            *truth.entry(user).or_default() += 1;
        }
        truth
    }

    fn all_know(&self, kept: &[bool]) -> Result<(), String> {
        for room in (0..kept.len()).filter(|room| kept[*room]) {
            let truth = self.truth(room);
            let told = self.group.master().present(room);
            if told != truth {
                return Err(format!("in {:?} are {truth:?}, and Redis knows of {told:?}", ROOMS[room]));
            }
            let users: BTreeSet<&str> = truth.into_keys().collect();
            for view in self.clients.iter().filter_map(Client::view) {
                view.check_there(room, &users).map_err(|error| format!("{:?}: {error}", ROOMS[room]))?;
            }
        }
        Ok(())
    }

    /// Nobody is there any more.
    pub(super) fn check_nobody_there(&self) -> Result<(), String> {
        let kept = self.options.presence.iter().flat_map(|presence| presence.kept.iter().enumerate());
        for (room, _) in kept.filter(|(_, kept)| **kept) {
            let told = self.group.master().present(room);
            if !told.is_empty() {
                return Err(format!("everybody has left, and Redis knows of {told:?} in {:?}", ROOMS[room]));
            }
        }
        Ok(())
    }
}
