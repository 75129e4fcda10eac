//! Members that come back: what they have missed is said to them before what comes.

use super::super::Hub;
use super::histories::Histories;
use super::keeper::{Behind, continuity_at, is_beyond, tells_of};
use super::learning::page_after;
use super::reads::{Purpose, Question};
use crate::broker::envelope;
use crate::context::Context;
use crate::history::{Continuity, Page, Part, Position, Removal};
use crate::protocol::CommandId;
use crate::protocol::command::Start;
use crate::protocol::reply::{self, Gap};
use crate::slots::{Slots, mark};

/// Bytes of missed messages that are said in a turn, and of them to one member: about what a socket takes at once.
const REPLAYED_BYTES_MAX: usize = 1024 * 1024;
const REPLAYED_TO_ONE_MAX: usize = 64 * 1024;
/// Members that a turn looks at for that.
const REPLAYS_LOOKED_AT: usize = 256;

impl Hub {
    /// The connection becomes a member of a room that is live: its SUBSCRIBE is answered, or its room asked where it begins.
    pub(in crate::hub) fn begin(
        &mut self,
        cx: &mut Context,
        slot: u32,
        room: u32,
        start: Start,
        id: Option<CommandId>,
    ) {
        let Some(keeper) = self.histories.keepers.get(&room) else {
            let recovered = matches!(start, Start::Since(_)).then_some(false);
            let name = &self.rooms.get(room).name;
            cx.reply(slot, |out| reply::subscribed(out, name, id.as_ref(), None, recovered));
            return self.begin_to_observe(cx, slot, room);
        };
        let last = keeper.last.expect("a room that is live has a place");
        let next = match start {
            _ if keeper.behind.contains_key(&slot) => None,
            Start::Live => Some(last.offset + 1),
            Start::Newest(messages) => {
                let next = (last.offset + 1).saturating_sub(messages.into());
                Some(next).filter(|next| *next >= keeper.tail.first())
            }
            Start::Since(since) if since.epoch == last.epoch && since.offset <= last.offset => {
                Some(since.offset + 1).filter(|next| *next >= keeper.tail.first())
            }
            Start::Since(_) => None,
        };
        match next {
            Some(next) => {
                let recovered = matches!(start, Start::Since(_)).then_some(true);
                self.begin_at(cx, (slot, room), next, (id, recovered));
            }
            None if keeper.behind.contains_key(&slot) => {
                let (name, place) = (&self.rooms.get(room).name, self.place_of(slot, room));
                cx.reply_at((slot, room), place, |out| reply::subscribed(out, name, id.as_ref(), place, None));
                self.begin_to_observe(cx, slot, room);
            }
            None => {
                self.histories
                    .change(room, |keeper| keeper.behind.insert(slot, Behind::Asking { start, id, is_asked: false }));
                self.ask_for_those_who_resume(cx, room);
            }
        }
    }

    /// A member did not take what its room says from this offset on: it is given that later.
    pub fn fall_behind(&mut self, cx: &mut Context, slot: u32, room: u32, from: u64) {
        let is_member = cx.slots.get(slot).rooms.position(room).is_some();
        if !is_member || self.histories.keepers.get(&room).is_none_or(|keeper| keeper.behind.contains_key(&slot)) {
            return;
        }
        self.histories.change(room, |keeper| keeper.behind.insert(slot, Behind::Replaying { next: from, asked_to: 0 }));
        self.histories.replays.push_back((room, slot));
        cx.fanout.set_behind(&mut cx.slots, slot, room, true);
        cx.metrics.members_fallen_behind += 1;
    }

    /// Answers the SUBSCRIBE; what is said from this offset on follows.
    fn begin_at(
        &mut self,
        cx: &mut Context,
        (slot, room): (u32, u32),
        next: u64,
        (id, recovered): (Option<CommandId>, Option<bool>),
    ) {
        let Some(last) = self.histories.keepers.get(&room).and_then(|keeper| keeper.last) else { return };
        let (name, place) = (&self.rooms.get(room).name, Position { offset: next - 1, ..last });
        cx.reply_at((slot, room), Some(place), |out| reply::subscribed(out, name, id.as_ref(), Some(place), recovered));
        if next > last.offset {
            self.histories.change(room, |keeper| keeper.behind.remove(&slot));
            cx.fanout.set_behind(&mut cx.slots, slot, room, false);
        } else {
            let behind = Behind::Replaying { next, asked_to: last.offset };
            self.histories.change(room, |keeper| keeper.behind.insert(slot, behind));
            self.histories.replays.push_back((room, slot));
        }
        self.begin_to_observe(cx, slot, room);
    }

    /// Asks once for all of the room's members that wait for it, who have seen the same epoch.
    pub(super) fn ask_for_those_who_resume(&mut self, cx: &mut Context, room: u32) {
        let Some(keeper) = self.histories.keepers.get_mut(&room).filter(|keeper| keeper.is_live && !keeper.is_asking)
        else {
            return;
        };
        let Some(last) = keeper.last else { return };
        let places = keeper.behind.values().filter_map(|behind| behind.place(last));
        let Some(first) = places.clone().min() else { return };
        // Of an ended epoch the last place tells whether the others are before its fence. What follows them is read anyway.
        let place = match first.epoch == last.epoch {
            true => first,
            false => places.filter(|place| place.epoch == first.epoch).max().unwrap_or(first),
        };
        keeper.is_asking = true;
        for behind in keeper.behind.values_mut() {
            if let Behind::Asking { is_asked, .. } = behind {
                *is_asked = true;
            }
        }
        let purpose = Purpose::Resume(keeper.serial, place);
        self.histories.reads.push(Question { room, purpose, query: page_after(cx, place) });
        self.ask_reads(cx);
    }

    /// What is there behind this place: whoever waits for it is told where it begins.
    pub(super) fn resumed(&mut self, cx: &mut Context, room: u32, asked: Position, page: &Page) {
        let Some(keeper) = self.histories.keepers.get_mut(&room) else { return };
        keeper.is_asking = false;
        let Some(page) = self.histories.amended(room, page) else { return self.ask_for_those_who_resume(cx, room) };
        let page = &*page;
        let Some(keeper) = self.histories.keepers.get(&room) else { return };
        let Some(last) = keeper.last else { return };
        let waiting: Vec<(u32, Start, Option<CommandId>, Position)> = keeper
            .behind
            .iter()
            .filter_map(|(slot, behind)| match (behind, behind.place(last)) {
                // Whoever has come since may have seen more than there was when the page was read: it is asked for again.
                (Behind::Asking { start: Start::Since(since), is_asked: false, .. }, _) if is_beyond(page, *since) => {
                    None
                }
                (Behind::Asking { start, id, .. }, Some(place)) if tells_of(page, asked, place) => {
                    Some((*slot, *start, id.clone(), place))
                }
                _ => None,
            })
            .collect();
        let has_seen_more =
            waiting.iter().any(|(.., place)| place.offset > last.offset) && page.last.offset > last.offset;
        if page.last.epoch != last.epoch || has_seen_more {
            // The room has yet to hear of that. Who waits is asked for again then.
            return self.begin_to_keep(cx, room);
        }
        let begins = page.begins_behind(asked);
        self.histories.set_page(room, begins, &page.entries);
        let name = self.rooms.get(room).name.clone();
        self.recall(cx, room, &name, begins, page);
        for (slot, start, id, place) in waiting {
            let continuity = continuity_at(page, place);
            let next = match continuity {
                // It counts from the room's last message, and not from what it has seen.
                _ if !matches!(start, Start::Since(_)) => place.offset + 1,
                Continuity::Exact | Continuity::Trimmed => place.offset + 1,
                Continuity::Fenced(fence) => fence + 1,
                Continuity::Unknown => 1,
            };
            let (from, next) = (next, next.max(page.first).min(last.offset + 1));
            if !matches!(start, Start::Since(_)) {
                self.begin_at(cx, (slot, room), next, (id, None));
                continue;
            }
            self.begin_at(cx, (slot, room), next, (id, Some(continuity == Continuity::Exact)));
            let (epoch, previous) = (last.epoch, place.epoch);
            let fence = match continuity {
                Continuity::Exact | Continuity::Trimmed => None,
                Continuity::Fenced(fence) => Some(fence),
                Continuity::Unknown => Some(0),
            };
            let ended = fence.map(|fence| Gap::Epoch { epoch, previous, fence, lost: true });
            let trimmed = (next > from).then(|| Gap::Trimmed { epoch, from, to: next - 1 });
            for gap in ended.into_iter().chain(trimmed) {
                cx.reply_at((slot, room), gap.position(), |out| reply::gap(out, &name, gap));
            }
        }
        self.ask_for_those_who_resume(cx, room);
    }

    /// What was read up to the room's tail is as good as heard.
    fn recall(&mut self, cx: &Context, room: u32, name: &str, begins: u64, page: &Page) {
        let Some(retention) = self.retention(cx, room) else { return };
        let Some(first) = self.histories.keepers.get(&room).map(|keeper| keeper.tail.first()) else { return };
        if page.entries.last().is_some_and(|entry| entry.offset + 1 >= first) {
            // What is removed, or cannot be opened and is nobody's message, keeps its place.
            let text = |offset| {
                let index = page.entries.binary_search_by_key(&offset, |entry| entry.offset).ok()?;
                Some(envelope::open_sent(name, &page.entries[index].payload).ok()?.text)
            };
            self.histories.recall(
                room,
                &retention,
                (begins..first).rev().map(|offset| text(offset).unwrap_or_default()),
            );
        }
    }

    /// The next messages for those who are being given what they have missed.
    pub(super) fn paged(&mut self, cx: &mut Context, room: u32, asked: Part, page: &Page) {
        let Some(keeper) = self.histories.keepers.get_mut(&room) else { return };
        keeper.is_asking = false;
        let Some(last) = keeper.last else { return };
        // Else it is asked for again by those who need it.
        let Some(page) = self.histories.amended(room, page) else { return };
        let page = &*page;
        if page.last.epoch != last.epoch {
            return self.begin_to_keep(cx, room);
        }
        let begins = match asked {
            Part::After(place) => page.begins_behind(place),
            Part::Before(_) | Part::Newest => page.first,
        };
        self.histories.set_page(room, begins, &page.entries);
        let Some(keeper) = self.histories.keepers.get_mut(&room) else { return };
        let name = &self.rooms.get(room).name;
        let first = page.first.min(last.offset + 1);
        for (slot, behind) in &mut keeper.behind {
            if let Behind::Replaying { next, .. } = behind
                && *next < first
            {
                let gap = Gap::Trimmed { epoch: last.epoch, from: *next, to: first - 1 };
                *next = first;
                match cx.slots.get(*slot).dialect.has_replies() {
                    true => cx.reply_at((*slot, room), gap.position(), |out| reply::gap(out, name, gap)),
                    false => drop(self.histories.missed.insert(*slot)),
                }
            }
        }
        self.ask_for_those_who_resume(cx, room);
    }

    /// Says what was missed to those whose sockets take more, each a part in its turn.
    pub(super) fn replay(&mut self, cx: &mut Context) {
        let mut bytes = 0;
        for _ in 0..self.histories.replays.len().min(REPLAYS_LOOKED_AT) {
            if bytes >= REPLAYED_BYTES_MAX {
                return;
            }
            let Some((room, slot)) = self.histories.replays.pop_front() else { return };
            bytes += self.replay_to(cx, room, slot);
            let keeper = self.histories.keepers.get(&room);
            if keeper.is_some_and(|keeper| matches!(keeper.behind.get(&slot), Some(Behind::Replaying { .. }))) {
                self.histories.replays.push_back((room, slot));
            }
        }
    }

    /// The same to one of them. Returns the bytes.
    fn replay_to(&mut self, cx: &mut Context, room: u32, slot: u32) -> usize {
        let Some(keeper) = self.histories.keepers.get(&room) else { return 0 };
        let (Some(Behind::Replaying { next, asked_to }), Some(last)) = (keeper.behind.get(&slot), keeper.last) else {
            return 0;
        };
        if cx.slots.is_marked(slot, mark::HELD_UP) {
            return 0;
        }
        let (mut next, asked_to, mut bytes) = (*next, *asked_to, 0);
        let mut said = std::mem::take(&mut self.text);
        let name = &self.rooms.get(room).name;
        let bytes_max = REPLAYED_TO_ONE_MAX.min(cx.config.limits.outbox_bytes_max / 2);
        while next <= last.offset && bytes < bytes_max {
            let open = |payload| envelope::open_sent(name, payload).ok().map(|opened| opened.text);
            let text = keeper.text(next, open);
            if text.is_none() && !keeper.has(next) {
                break;
            }
            // What cannot be opened is nobody's message.
            if let Some(text) = text.filter(|text| !text.is_empty()) {
                said.clear();
                match Removal::of_payload(text) {
                    None => reply::with_offset(&mut said, text, next),
                    Some(removal) => reply::removed(&mut said, name, removal, Position { offset: next, ..last }),
                }
                bytes += cx.fanout.say_to(&mut cx.slots, (slot, room), &said, Position { offset: next, ..last });
                cx.metrics.messages_replayed += 1;
            }
            next += 1;
        }
        self.text = said;
        if next > last.offset {
            self.histories.change(room, |keeper| keeper.behind.remove(&slot));
            cx.fanout.set_behind(&mut cx.slots, slot, room, false);
            return bytes;
        }
        let is_missing = !keeper.has(next) && !keeper.is_asking;
        self.histories.change(room, |keeper| keeper.behind.insert(slot, Behind::Replaying { next, asked_to }));
        if is_missing {
            self.ask_for_a_page(cx, room);
        }
        bytes
    }

    /// Asks once for what the room's members need next that is in memory no more.
    fn ask_for_a_page(&mut self, cx: &mut Context, room: u32) {
        let Some(keeper) = self.histories.keepers.get_mut(&room).filter(|keeper| !keeper.is_asking) else { return };
        let Some(last) = keeper.last else { return };
        // A page stays while somebody reads it whose socket takes more.
        let nexts = keeper.behind.iter().filter_map(|(slot, behind)| match behind {
            Behind::Replaying { next, .. } if !cx.slots.is_marked(*slot, mark::HELD_UP) => Some(*next),
            Behind::Replaying { .. } | Behind::Asking { .. } => None,
        });
        if nexts.clone().any(|next| keeper.is_in_page(next) && keeper.tail.get(next).is_none()) {
            return;
        }
        let Some(next) = nexts.filter(|next| !keeper.has(*next)).min() else { return };
        keeper.is_asking = true;
        let query = page_after(cx, Position { offset: next - 1, ..last });
        self.histories.reads.push(Question { room, purpose: Purpose::Page(keeper.serial), query });
        self.ask_reads(cx);
    }
}

impl Behind {
    /// The place behind which it wants to begin, if nobody knows yet whether it can. `last` is the room's.
    fn place(&self, last: Position) -> Option<Position> {
        match self {
            Behind::Asking { start: Start::Since(since), .. } => Some(*since),
            Behind::Asking { start: Start::Newest(messages), .. } => {
                Some(Position { offset: last.offset.saturating_sub((*messages).into()), ..last })
            }
            Behind::Asking { start: Start::Live, .. } => Some(last),
            Behind::Replaying { .. } => None,
        }
    }
}

impl Histories {
    /// Whether somebody who has missed something can be given it now.
    pub(super) fn can_go_on(&self, slots: &Slots) -> bool {
        self.replays.iter().take(REPLAYS_LOOKED_AT).any(|(room, slot)| {
            let can = self.keepers.get(room).is_some_and(|keeper| keeper.can_go_on(*slot));
            can && !slots.is_marked(*slot, mark::HELD_UP)
        })
    }
}
