//! What a room keeps, and up to where its members have been given it.

use super::super::Hub;
use super::keeper::Behind;
use crate::context::Context;
use crate::history::{Position, Retention};

impl Hub {
    /// What the room keeps, if it keeps anything.
    pub(in crate::hub) fn retention(&self, cx: &Context, room: u32) -> Option<Retention> {
        let rule = self.rooms.get(room).rule?;
        cx.config.rules.get(rule)?.history
    }

    /// By what its messages are stored, if they are.
    pub(in crate::hub) fn stores(&self, cx: &Context, room: u32) -> Option<Retention> {
        cx.config.rules.get(self.rooms.get(room).rule?)?.stores()
    }

    /// The place of a room with history up to which this member has been given everything.
    pub(in crate::hub) fn place_of(&self, slot: u32, room: u32) -> Option<Position> {
        let keeper = self.histories.keepers.get(&room)?;
        let last = keeper.last?;
        Some(match keeper.behind.get(&slot) {
            Some(Behind::Replaying { next }) => Position { offset: next - 1, ..last },
            _ => last,
        })
    }
}
