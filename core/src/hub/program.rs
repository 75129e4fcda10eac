//! What the program that the core is a part of has of the broker and the rooms: rooms in which programs speak to each other, and which
//! rooms there are.

use super::Hub;
use super::asks::{Kind, Sender};
use super::lists::List;
use crate::context::Context;
use crate::hidden::{name_for_programs, of_programs, told, write_told};
use crate::protocol::{CommandId, ErrorCode, reply};
use crate::rules::Slow;

/// Rooms looked at in one turn for a list: some 0.1 ms.
const LISTED_PER_TURN: usize = 4_096;
/// Lists that may be under way.
const LISTS_MAX: usize = 64;

impl Hub {
    /// The program wants to hear what is said in this room of programs. It is told `HELD` once that is so, and again whenever it is so again.
    pub fn hold(&mut self, cx: &mut Context, name: &str) {
        let key = self.rooms.find_or_insert(&of_programs(name), &cx.config.rules);
        cx.fanout.add_room(key, Slow::Close);
        if self.program_rooms.contains(&key) {
            return;
        }
        self.program_rooms.push(key);
        match self.is_held(key) {
            true => self.tell_held(cx, key),
            false => self.reconcile(cx, key),
        }
    }

    /// The program is told that it hears from now on what is said in the room.
    pub(in crate::hub) fn tell_held(&self, cx: &mut Context, key: u32) {
        if let Some(room) = name_for_programs(&self.rooms.get(key).name) {
            cx.tell_program(|out| reply::held(out, room));
        }
    }

    /// The broker has refused that the room is held.
    pub(in crate::hub) fn release(&mut self, cx: &mut Context, key: u32) {
        self.program_rooms.retain(|held| *held != key);
        let room = name_for_programs(&self.rooms.get(key).name).unwrap_or_default();
        let reason = "the broker refused the subscription";
        cx.tell_program(|out| reply::error(out, ErrorCode::BrokerRefused, reason, None, Some(room)));
        self.reconcile(cx, key);
    }

    /// The program says something to those that hold the room.
    pub fn tell_programs(&mut self, cx: &Context, slot: u32, (room, text): (&str, &str), id: Option<CommandId>) {
        let id = id.map(|id| self.senders.push(Sender { conn: cx.slots.id(slot), id, at: cx.now }, 0));
        self.asks.push(Kind::Publish(id, 0), &of_programs(room), |out| write_told(out, text));
    }

    /// Something has been said in a room that is held.
    pub(in crate::hub) fn hear_programs(&self, cx: &mut Context, key: u32, payload: &[u8]) {
        let room = name_for_programs(&self.rooms.get(key).name);
        match told(payload) {
            Some(text) => cx.tell_program(|out| reply::told(out, room.unwrap_or_default(), text)),
            None => cx.metrics.messages_of_other_versions += 1,
        }
    }

    /// Begins a list of rooms with members. It is made in parts, because a core may have a million of them.
    pub fn list_rooms(
        &mut self,
        cx: &mut Context,
        slot: u32,
        (prefix, after, limit): (Box<str>, Box<str>, usize),
        id: Option<CommandId>,
    ) {
        // Nobody could tell whose answer it is.
        let Some(id) = id else { return };
        if self.lists.len() >= LISTS_MAX {
            return cx.refuse(slot, ErrorCode::BrokerBusy, "too many lists are being made", Some(&id), None);
        }
        self.lists.push_back(List::new(id, prefix, after, limit));
    }

    /// Looks at the next rooms for a list.
    pub(in crate::hub) fn list_some(&mut self, cx: &mut Context) {
        let Some(mut list) = self.lists.pop_front() else { return };
        for _ in 0..LISTED_PER_TURN {
            let Some(key) = self.rooms.next_key(list.at) else {
                return cx.tell_program(|out| list.write(out));
            };
            list.at = key + 1;
            let members = cx.fanout.audience(key).members();
            if members > 0 {
                list.consider(&self.rooms.get(key).name, members);
            }
        }
        self.lists.push_back(list);
    }
}
