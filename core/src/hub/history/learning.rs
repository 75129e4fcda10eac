//! What a room has missed, and what comes while that is not known.

use super::super::Hub;
use super::keeper::{Behind, Held, Keeper};
use super::reads::{Purpose, Question};
use super::tail::Tail;
use crate::broker::envelope::{self, Except, Opened};
use crate::context::Context;
use crate::form::Shape;
use crate::history::{Continuity, Epoch, Page, Part, Position, Query, Removal};
use crate::protocol::reply::{self, Gap};

/// Ended epochs that are known, so that what comes late of them is not taken for news.
const ENDED_MAX: usize = 16;

/// Bytes that are read at a time of what a room has missed.
const PAGE_BYTES_MAX: u64 = 512 * 1024;

impl Hub {
    /// The room is subscribed to from here on. What came before is asked for.
    pub(in crate::hub) fn begin_to_keep(&mut self, cx: &mut Context, room: u32) {
        if let Some(keeper) = self.histories.keepers.get_mut(&room) {
            // What was asked before may have been answered before the subscription began.
            keeper.is_learning = false;
            self.learn(cx, room);
        }
    }

    /// Asks what came after the last message that was said; of a room that was just joined, which one that is.
    fn learn(&mut self, cx: &mut Context, room: u32) {
        let Some(keeper) = self.histories.keepers.get_mut(&room) else { return };
        keeper.is_live = false;
        if std::mem::replace(&mut keeper.is_learning, true) {
            return;
        }
        let query = match keeper.last {
            Some(last) => page_after(cx, last),
            None => Query { part: Part::Newest, messages_max: 0, bytes_max: 0 },
        };
        keeper.asked += 1;
        let purpose = Purpose::Learn(keeper.serial, keeper.asked);
        self.histories.reads.push(Question { room, purpose, query });
        self.ask_reads(cx);
    }

    /// A message of a room with history.
    pub(in crate::hub) fn heard(&mut self, cx: &mut Context, room: u32, opened: Opened<'_>) {
        let Some(keeper) = self.histories.keepers.get_mut(&room) else { return };
        let Opened { text, except, position, .. } = opened;
        let follows = match (keeper.is_live, position, keeper.last) {
            (false, ..) => false,
            (true, Some(position), Some(last)) if position.epoch == last.epoch => {
                if position.offset <= last.offset {
                    return;
                }
                position.offset == last.offset + 1
            }
            (true, Some(position), _) if keeper.ended.contains(&position.epoch) => return,
            (true, Some(_), _) => false,
            (true, None, _) => true,
        };
        let (was_live, asked) = (keeper.is_live, keeper.asked);
        if follows {
            self.say(cx, room, text, except, position);
        } else {
            self.histories.hold(room, Held { position, except, text: text.into(), asked });
            if was_live {
                cx.metrics.history_repairs += 1;
                self.learn(cx, room);
            }
        }
    }

    /// Says the room's next message.
    fn say(&mut self, cx: &mut Context, room: u32, text: &[u8], except: Option<Except>, position: Option<Position>) {
        let except = except.filter(|except| except.node == cx.config.node).map(|except| except.conn);
        // Whoever has to come back is given nothing more, so there is nothing that its own message would have to follow.
        let spared = except.and_then(|conn| cx.slots.slot(conn)).filter(|slot| !self.histories.has_to_come_back(*slot));
        let Some(position) = position else {
            return cx.fanout.say((&mut cx.slots, &mut cx.metrics), room, text, spared);
        };
        let Some(retention) = self.retention(cx, room) else { return };
        self.histories.remember(room, &retention, text);
        if let Some(keeper) = self.histories.keepers.get_mut(&room) {
            keeper.last = Some(position);
        }
        if let Some(removal) = Removal::of_payload(text) {
            return self.say_removal(cx, room, removal, position);
        }
        let mut said = std::mem::take(&mut self.text);
        said.clear();
        reply::with_offset(&mut said, text, position.offset);
        cx.fanout.say_stored((&mut cx.slots, &mut cx.metrics), room, (&said, position), spared);
        self.text = said;
    }

    /// Says that something is removed, and forgets it.
    #[cold]
    fn say_removal(&mut self, cx: &mut Context, room: u32, removal: Removal, position: Position) {
        self.histories.change(room, |keeper| keeper.remove(removal, position.offset));
        let mut said = std::mem::take(&mut self.text);
        said.clear();
        reply::removed(&mut said, &self.rooms.get(room).name, removal, position);
        cx.fanout.say_removal((&mut cx.slots, &mut cx.metrics), room, (&said, position));
        self.text = said;
    }

    /// What the room has missed.
    pub(super) fn learned(&mut self, cx: &mut Context, room: u32, page: &Page) {
        let Some(keeper) = self.histories.keepers.get_mut(&room) else { return };
        keeper.is_learning = false;
        match keeper.last {
            None => {
                keeper.last = Some(page.last);
                keeper.tail = Tail::beginning_at(page.last.offset + 1);
            }
            Some(last) => self.say_missed(cx, room, last, page),
        }
        self.say_held(cx, room, page.last);
    }

    fn say_missed(&mut self, cx: &mut Context, room: u32, last: Position, page: &Page) {
        let epoch = page.last.epoch;
        let (fence, lost) = match page.continuity {
            Continuity::Exact | Continuity::Trimmed => (last.offset, false),
            Continuity::Fenced(fence) => (fence, true),
            // Nothing of what was seen is known any more.
            Continuity::Unknown => (0, true),
        };
        let mut at = Position { epoch, offset: fence.min(last.offset) };
        if epoch != last.epoch || lost {
            self.cut(room, at);
            self.announce(cx, room, Gap::Epoch { epoch, previous: last.epoch, fence: at.offset, lost });
        }
        if page.first > at.offset + 1 {
            at.offset = page.first - 1;
            self.announce(cx, room, Gap::Trimmed { epoch, from: fence.min(last.offset) + 1, to: at.offset });
            self.cut(room, at);
        }
        let name = self.rooms.get(room).name.clone();
        let Some(retention) = self.retention(cx, room) else { return };
        for entry in &page.entries {
            let position = Position { epoch, offset: entry.offset };
            self.histories.pass_over(room, &retention, entry.offset);
            match envelope::open_sent(&name, &entry.payload) {
                Ok(opened) => {
                    self.say(cx, room, opened.text, opened.except, Some(position));
                }
                Err(_) => {
                    cx.metrics.messages_forged += 1;
                    self.skip(cx, room, position);
                }
            }
        }
    }

    /// The room goes on behind this place, whatever was said before.
    fn cut(&mut self, room: u32, at: Position) {
        self.histories.change(room, |keeper| {
            if let Some(before) = keeper.last.filter(|before| before.epoch != at.epoch) {
                keeper.ended.retain(|epoch| *epoch != at.epoch);
                keeper.ended.truncate(ENDED_MAX - 1);
                keeper.ended.insert(0, before.epoch);
            }
            keeper.last = Some(at);
            keeper.drop_page();
            if keeper.removed_to > at.offset {
                // The removal is lost, and what it has removed is there again.
                (keeper.removed_to, keeper.tail) = (0, Tail::beginning_at(at.offset + 1));
            }
            keeper.tail.cut_behind(at.offset);
            if keeper.tail.end() != at.offset + 1 {
                keeper.tail = Tail::beginning_at(at.offset + 1);
            }
        });
    }

    /// What is stored there cannot be said.
    fn skip(&mut self, cx: &Context, room: u32, position: Position) {
        let Some(retention) = self.retention(cx, room) else { return };
        self.histories.remember(room, &retention, b"");
        if let Some(keeper) = self.histories.keepers.get_mut(&room) {
            keeper.last = Some(position);
        }
    }

    /// Says what was held, as far as it follows what has been said. `known` is the room's last message as of the answer: what claims to come
    /// after it and had come before the question is nobody's, because what is published has been stored.
    fn say_held(&mut self, cx: &mut Context, room: u32, known: Position) {
        loop {
            let Some(keeper) = self.histories.keepers.get_mut(&room) else { return };
            let last = keeper.last.unwrap_or(known);
            if last.epoch == known.epoch && last.offset < known.offset {
                // There was more than one page of it.
                return self.learn(cx, room);
            }
            let (asked, ended) =
                (keeper.asked, keeper.next_held().is_some_and(|held| keeper.is_of_an_ended_epoch(held)));
            let Some(held) = self.histories.change(room, Keeper::take_held).flatten() else { break };
            match held.position {
                None => self.say(cx, room, &held.text, held.except, None),
                Some(position) if position.epoch == last.epoch && position.offset == last.offset + 1 => {
                    self.say(cx, room, &held.text, held.except, Some(position));
                }
                // It has been said, or its epoch has ended.
                Some(position) if position.epoch == last.epoch && position.offset <= last.offset => {}
                Some(_) if ended => {}
                Some(_) if held.asked < asked => cx.metrics.messages_forged += 1,
                Some(_) => {
                    self.histories.change(room, |keeper| keeper.put_back(held));
                    return self.learn(cx, room);
                }
            }
        }
        let Some(keeper) = self.histories.keepers.get_mut(&room) else { return };
        let last = keeper.last.unwrap_or(known);
        if keeper.let_go.take().is_some_and(|of| of.epoch != last.epoch || of.offset > last.offset) {
            return self.learn(cx, room);
        }
        keeper.is_live = true;
        self.seat_all(cx, room);
        self.ask_for_those_who_resume(cx, room);
    }

    /// Tells the room's members of a gap, those who are behind as well. Whoever cannot be told has to come back.
    fn announce(&mut self, cx: &mut Context, room: u32, gap: Gap) {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        reply::gap(&mut text, &self.rooms.get(room).name, gap);
        cx.fanout.announce((&mut cx.slots, &mut cx.metrics), room, &text, gap.position());
        self.text = text;
        cx.metrics.gaps += 1;
        match gap {
            Gap::Epoch { epoch, previous, fence, .. } => self.tell_who_is_behind(cx, room, (epoch, previous), fence),
            _ => {
                for group in cx.fanout.audience(room).groups() {
                    if !group.form.is_behind && group.form.shape != Shape::Message {
                        self.histories.missed.extend(group.members().iter().map(|conn| conn.slot() as u32));
                    }
                }
            }
        }
    }

    /// A new epoch has begun: whoever is being given what it has missed goes on at the fence, or before it where it has not come so far.
    fn tell_who_is_behind(&mut self, cx: &mut Context, room: u32, (epoch, previous): (Epoch, Epoch), fence: u64) {
        let Some(keeper) = self.histories.keepers.get_mut(&room) else { return };
        let name = &self.rooms.get(room).name;
        for (slot, behind) in &mut keeper.behind {
            let Behind::Replaying { next, asked_to } = behind else { continue };
            let lost = *next > fence + 1;
            *next = (*next).min(fence + 1);
            *asked_to = (*asked_to).min(fence);
            let gap = Gap::Epoch { epoch, previous, fence: *next - 1, lost };
            cx.reply_at((*slot, room), gap.position(), |out| reply::gap(out, name, gap));
        }
    }
}

/// Asks for a page of what came after this place.
pub(super) fn page_after(cx: &Context, place: Position) -> Query {
    let messages_max = cx.config.history.page_messages_max.max(1);
    Query { part: Part::After(place), messages_max, bytes_max: PAGE_BYTES_MAX }
}
