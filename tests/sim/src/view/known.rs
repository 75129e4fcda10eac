//! What a connection asks and hears because of who its client is.

use super::{Ask, Asked, Start, View};
use crate::network::Network;
use crate::reference::{Place, Reference};
use fanfare_core::history::Position;
use std::collections::BTreeMap;

impl View {
    /// What was asked with this id, or else as the first for this room, and the place behind it in what the client says.
    pub fn asked(&self, id: Option<u64>, room: Option<usize>) -> Option<(&Ask, u64)> {
        let is_it = |asked: &&Asked| matches!(asked.ask, Ask::Subscribe(of, ..) if Some(of) == room);
        let asked = match id {
            Some(id) => self.asked.get(&id),
            None => self.without_id.iter().find(is_it),
        };
        asked.map(|asked| (&asked.ask, asked.end))
    }

    /// Whether a credential that it has shown by a command is still looked at.
    pub fn waits_for_auth(&self) -> bool {
        self.asked.values().any(|asked| matches!(asked.ask, Ask::Auth(_)))
    }

    /// `AUTHENTICATED`; returns the credential that was shown.
    ///
    /// # Errors
    /// If nobody asked.
    pub fn authenticated(&mut self, id: Option<u64>) -> Result<String, String> {
        match self.take(id, |ask| matches!(ask, Ask::Auth(_))).map(|asked| asked.ask) {
            Some(Ask::Auth(text)) => Ok(text),
            _ => Err("AUTHENTICATED, and nobody asked".to_owned()),
        }
    }

    /// `SUBSCRIBED` of the user's own room, in which the instance was to put it, by itself: at the latest when it had read Redis so far.
    ///
    /// # Errors
    /// If the broker did not confirm.
    pub fn joined(
        &mut self,
        room: usize,
        told: (Option<Position>, Option<bool>),
        (since, request): (u64, Place),
        reference: &Reference,
        network: &Network,
    ) -> Result<(), String> {
        let incarnation = self.incarnation.ok_or("SUBSCRIBED by nobody")?;
        if !reference.was_held(incarnation, room, since, network) {
            return Err("SUBSCRIBED, and the broker has not confirmed it".to_owned());
        }
        self.begins(room, Start::Live, told, reference)?;
        let from = reference.owed_behind(room, incarnation, request, network);
        let seat = &mut self.seats[room];
        if !seat.is_member {
            (seat.is_member, seat.next, seat.from) = (true, BTreeMap::new(), from);
        }
        Ok(())
    }
}
