//! What is known where Redis is a Cluster: what nodes tell each other and take back, and what an instance has given up.

use super::{Incarnation, Key, Reference};
use crate::network::{Network, Side, WireId};
use fanfare_core::history::Position;

impl Reference {
    /// Redis wrote a message that was published to these connections as well.
    ///
    /// # Errors
    /// If one of them is not known.
    pub fn passed_on(&mut self, (room, index): (usize, usize), to: &[(WireId, u64)]) -> Result<(), String> {
        let fates = &mut self.rooms[room][index].fates;
        for (wire, behind) in to {
            let link = self.links.get(wire).ok_or("a connection subscribes that is no instance's subscriber")?;
            fates.entry(link.incarnation).or_default().sent.push((*wire, *behind));
        }
        Ok(())
    }

    /// What is said to be stored at this place, and to have been published there, is said again to the subscribers of another server: in a
    /// Cluster, while the room's slot moves. Returns its number in its room.
    ///
    /// # Errors
    /// If it is not so.
    pub fn said_again(&self, room: &str, payload: &[u8]) -> Result<Option<(usize, usize)>, String> {
        let payload = std::str::from_utf8(payload).map_err(|error| error.to_string())?;
        let (key, room) = (Reference::key_of(payload)?, Reference::room(room)?);
        let sent = self.sent.get(&key).filter(|_| payload.starts_with("F2 "));
        let Some(index) = sent.and_then(|sent| sent.published) else { return Ok(None) };
        let place = self.place_of(key).map(|Position { epoch, offset }| format!("F2 {epoch} {offset} "));
        match place.is_some_and(|place| payload.starts_with(&place)) && sent.is_some_and(|sent| sent.room == room) {
            true => Ok(Some((room, index))),
            false => Err(format!("{key:?} is stored at {:?}, and said to be: {payload}", self.place_of(key))),
        }
    }

    /// Redis ends a subscription unasked; the word of it ends there in the stream.
    ///
    /// # Errors
    /// If it is none that subscribes.
    pub fn withdrawn(&mut self, wire: WireId, room: &str, place: u64) -> Result<(), String> {
        let link = self.links.get_mut(&wire).ok_or("a publishing connection has a subscription")?;
        if let Some(held) = link.rooms.get_mut(&Reference::room(room)?).and_then(|held| held.last_mut()) {
            held.withdrawn = Some(place);
        }
        Ok(())
    }

    /// The broker of an instance has said that it is subscribed, by what it has just read on this connection.
    pub fn confirmed(&mut self, wire: WireId, room: &str, network: &Network) -> Result<(), String> {
        let read = network.read_total(wire, Side::Near);
        let held = self.links.get_mut(&wire).and_then(|link| link.rooms.get_mut(&Reference::room(room).ok()?));
        let mut held = held.into_iter().flatten().filter(|held| held.confirmed <= read);
        held.next_back()
            .map(|held| held.is_known = true)
            .ok_or_else(|| format!("{room} is not subscribed on wire {wire}"))
    }

    /// The broker of an instance has said that subscriptions of these rooms are lost. Nothing is owed to their members from here on.
    pub fn lost(&mut self, incarnation: Incarnation, rooms: impl Fn(usize) -> bool, read: u64) {
        for link in self.links.values_mut().filter(|link| link.incarnation == incarnation) {
            for (_, held) in link.rooms.iter_mut().filter(|(room, _)| rooms(**room)) {
                for held in held {
                    held.lost.get_or_insert(read);
                }
            }
        }
    }

    /// Whether this message may come to a member of the instance behind a later one of the same origin, or once more: the instance has read the
    /// later one by one connection, has lost that or the subscription there, and this one by another connection. A node passes on to others what
    /// was published at it, and instances find the next node meanwhile.
    pub fn may_come_late(
        &self,
        room: usize,
        (index, later): (usize, usize),
        incarnation: Incarnation,
        network: &Network,
    ) -> bool {
        let copies = |index: usize| {
            let fate = self.rooms[room][index].fates.get(&incarnation).filter(|_| self.is_slotted);
            let read = |(wire, behind): &(WireId, u64)| Some((*wire, *behind, network.read_at(*wire, *behind)?.number));
            fate.into_iter().flat_map(|fate| &fate.sent).filter_map(read)
        };
        copies(index).any(|(wire, _, number)| {
            copies(later).any(|(other, behind, _)| {
                let is_over =
                    || self.links[&other].ended_at_instance.is_some() || self.is_lost(other, room, behind, number);
                other != wire && is_over()
            })
        })
    }

    /// A node of a Cluster refuses a message, which may be sent to another one, or again. What it says ends there.
    pub fn put_off(&mut self, payload: &[u8], wire: WireId, place: u64) {
        let key = Reference::key_of(&String::from_utf8_lossy(payload)).ok();
        if let Some(sent) = key.and_then(|key| self.sent.get_mut(&key)) {
            sent.put_off.push((wire, place));
        }
    }

    /// Whether one message may be published before another one of the same sender, over the same connection: the node had refused the other, and
    /// the slot came back before it read the one, which was on its way before its instance had read the refusal.
    pub(super) fn may_overtake(&self, one: Key, other: Key, publisher: WireId, network: &Network) -> bool {
        let (Some(one), Some(other)) = (self.sent.get(&one), self.sent.get(&other)) else { return false };
        let mut put_off = other.put_off.iter().filter(|(wire, _)| *wire == publisher);
        put_off.any(|(wire, place)| network.read_at(*wire, *place).is_none_or(|read| one.handed_at <= read.time))
    }
}
