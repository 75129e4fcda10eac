//! What a room keeps, and up to where its members have been given it.

use super::super::Hub;
use super::keeper::Behind;
use crate::context::Context;
use crate::history::{Position, Retention};
use crate::rules::Rule;

impl Hub {
    /// The room's rule, if it has one.
    pub(in crate::hub) fn rule<'a>(&self, cx: &'a Context, room: u32) -> Option<&'a Rule> {
        cx.config.rules.get(self.rooms.get(room).rule?)
    }

    /// What the room keeps, if it keeps anything.
    pub(in crate::hub) fn retention(&self, cx: &Context, room: u32) -> Option<Retention> {
        self.rule(cx, room)?.history
    }

    /// The place of a room with history up to which this member has been given everything.
    pub(in crate::hub) fn place_of(&self, slot: u32, room: u32) -> Option<Position> {
        let keeper = self.histories.keepers.get(&room)?;
        let last = keeper.last?;
        Some(match keeper.behind.get(&slot) {
            Some(Behind::Replaying { next, .. }) => Position { offset: next - 1, ..last },
            _ => last,
        })
    }
}
