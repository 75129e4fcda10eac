//! How a client connects, and what it asks for in its request.

use super::{Client, Connection, Made};
use crate::cluster::Surroundings;
use crate::incoming::Incoming;
use crate::options::chance;
use crate::reference::ROOMS;
use crate::trace;
use crate::view::{Ask, Dialect, Start, View};
use fanfare_core::rules::Right;
use fanfare_wire::upgrade_request;
use std::collections::{BTreeMap, BTreeSet};

impl Client {
    pub(super) fn connect(&mut self, around: &mut Surroundings<'_>) {
        let place = self.rng.usize(0..self.options.instances);
        let (wire, session) = around.open_client(self.number, place);
        if let Some(guard) = &mut around.guard {
            guard.connects(wire);
        }
        trace!(around.trace, around.timeline, "client {} opens wire {wire} to instance {place}", self.number);
        let mut view = View::new(session, wire, self.number, self.dialect, &self.options);
        view.removals_told = around.reference.removals_told();
        if self.dialect == Dialect::Fanfare {
            view.take_up(&self.seen);
            self.observed.iter().for_each(|room| view.observes(*room));
        }
        self.connection = Some(Connection {
            wire,
            view,
            incoming: Incoming::new(self.offers_compression),
            unsent: Vec::new(),
            said: 0,
            is_upgraded: false,
            is_over: false,
            is_rude: false,
            heard_at: around.timeline.now,
            doubts_since: None,
            opened_at: around.timeline.now,
            unfinished: None,
            made: Made::default(),
            shown: None,
            is_full: false,
            is_silent: false,
            brought: BTreeSet::new(),
            awaited: BTreeSet::new(),
            left: BTreeMap::new(),
            asked: Vec::new(),
            told: None,
        });
    }

    /// Its connection is established, or was refused.
    pub fn settled(&mut self, established: bool, around: &mut Surroundings<'_>) {
        if !established {
            return self.drop_connection(around);
        }
        let shown = self.show(around);
        let further = if self.offers_compression { "Sec-WebSocket-Extensions: permessage-deflate\r\n" } else { "" };
        let by_url = self.dialect == Dialect::Fanfare && chance(&mut self.rng, self.options.clients.joins_by_url);
        let mut path = match self.dialect {
            Dialect::Fanfare => "/ws".to_owned(),
            Dialect::Classic => "/classic".to_owned(),
            Dialect::Broadcast => {
                format!("/broadcast/{}", encoded(ROOMS[*self.wants.first().expect("a broadcaster has its room")]))
            }
        };
        // What comes with its credential it does not name: of either nothing tells which of the two it is.
        let brought = self.brought(around);
        let is_named = |room: &usize| !self.is_own_room(*room) && !brought.contains(room);
        let named: Vec<usize> = self.wants.iter().copied().filter(is_named).collect();
        let mut fields: Vec<String> = Vec::new();
        if by_url {
            fields.extend(named.iter().map(|room| format!("room={}", encoded(ROOMS[*room]))));
        }
        fields.extend(Some(shown.query).filter(|query| !query.is_empty()));
        if !fields.is_empty() {
            path += "?";
            path += &fields.join("&");
        }
        let head = upgrade_request(&path, &(further.to_owned() + &shown.lines));
        self.write(head.as_bytes(), around);
        self.expect_rooms(around);
        let Some(connection) = self.connection.as_mut().filter(|_| by_url || self.dialect == Dialect::Broadcast) else {
            return;
        };
        let named = if self.dialect == Dialect::Broadcast { self.wants.iter().copied().collect() } else { named };
        for room in &named {
            connection.asked.push((Right::Subscribe, *room));
            connection.view.ask(
                None,
                Ask::Subscribe(*room, false, Start::Live),
                (connection.said, 0),
                around.timeline.now,
            );
        }
    }
}

/// A room's name as it stands in a URL.
fn encoded(room: &str) -> String {
    room.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
