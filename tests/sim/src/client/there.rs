//! What a client does in rooms in which it is kept who is there.

use super::{Client, room_field};
use crate::cluster::Surroundings;
use crate::identity::USERS;
use crate::options::{chance, pick};
use crate::reference::Incarnation;
use crate::view::{Ask, Dialect, WhoAsk};
use fanfare_core::rules::Right;

/// So many users are told where no number is named.
const LIMIT: usize = 100;

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

    /// Asks now and then who is in a room, also where nobody keeps that. Says whether it did.
    pub(super) fn wonders(&mut self, room: usize, around: &mut Surroundings<'_>) -> bool {
        let Some(presence) = &self.options.presence else { return false };
        let asks = self.dialect == Dialect::Fanfare && chance(&mut self.rng, presence.questions);
        if asks {
            self.ask_who(room, around);
        }
        asks
    }

    /// One of the rooms in which it is kept who is there, and which it may see.
    pub fn room_to_see(&mut self) -> Option<usize> {
        let presence = self.options.presence.as_ref()?;
        let may_see = |room: &usize| presence.kept[*room] && self.is_entitled(Right::Subscribe, *room);
        let rooms: Vec<usize> = (0..self.options.rooms).filter(may_see).collect();
        if self.dialect != Dialect::Fanfare || self.view().is_none() || self.is_banned() || rooms.is_empty() {
            return None;
        }
        Some(rooms[self.rng.usize(..rooms.len())])
    }

    /// Asks who is in a room.
    pub fn ask_who(&mut self, room: usize, around: &mut Surroundings<'_>) {
        let limit = pick(&mut self.rng, &[None, None, Some(0), Some(1), Some(2), Some(1_000)]);
        let after = pick(&mut self.rng, &[None, None, Some(USERS[self.number % USERS.len()])]);
        let mut fields = room_field(room);
        fields.extend(limit.map(|limit| format!(",\"limit\":{limit}")));
        fields.extend(after.map(|after| format!(",\"after\":{}", serde_json::Value::from(after))));
        let ask = WhoAsk { limit: limit.unwrap_or(LIMIT), after };
        if let Some(connection) = &mut self.connection {
            connection.asked.push((Right::Subscribe, room));
        }
        self.command("PRESENCE", &fields, Ask::Who(room, ask), around);
    }
}
