//! What a client does in rooms in which it is kept who is there.

use super::Client;
use crate::cluster::Surroundings;
use crate::reference::Incarnation;
use crate::view::Dialect;
use fanfare_core::rules::Right;

impl Client {
    /// Whether its connection is a WebSocket at this instance.
    pub fn is_at(&self, incarnation: Incarnation) -> bool {
        self.view().is_some_and(|view| view.incarnation == Some(incarnation))
    }

    /// Comes to a room in which it is kept who is there, if it is not in all of these; else it goes from one.
    pub fn stirs(&mut self, around: &mut Surroundings<'_>) {
        let (Some(presence), Some(view)) = (&self.options.presence, self.view()) else { return };
        let is_able =
            self.dialect != Dialect::Broadcast && self.connection.as_ref().is_some_and(|of| of.unfinished.is_none());
        let rooms = (0..self.options.rooms).filter(|room| presence.kept[*room] && !self.is_brought(*room));
        let (there, away): (Vec<usize>, Vec<usize>) = rooms
            .filter(|room| self.is_entitled(Right::Subscribe, *room) && !view.waits_for(*room))
            .partition(|room| view.is_member(*room));
        let is_coming = !away.is_empty() && self.rng.u32(0..4) > 0;
        let rooms = if is_coming { away } else { there };
        if rooms.is_empty() || !is_able {
            return;
        }
        let room = rooms[self.rng.usize(..rooms.len())];
        if is_coming {
            self.wants.insert(room);
            self.subscribe(room, around);
        } else {
            self.wants.remove(&room);
            self.unsubscribe(room, around);
        }
    }
}
