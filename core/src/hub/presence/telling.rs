//! What the broker is told of this instance's members, and what it answers.

use super::super::Hub;
use super::view::{Course, Next, View};
use super::{Outstanding, Presence, READS_IN_FLIGHT_MAX, TELLS_IN_FLIGHT_MAX};
use crate::broker::PresenceId;
use crate::context::Context;
use crate::presence::crowd_of;
use crate::time::Time;
use std::collections::VecDeque;
use std::time::Duration;

/// How long the broker is left alone about what it did not take, or did not answer.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

impl Hub {
    /// It is known whose connection this is. In rooms with presence it is there from now on.
    pub fn identify(&mut self, cx: &Context, slot: u32, user: &str, info: &str) {
        let Some(presence) = &mut self.presence else { return };
        let is_new = presence.members.identify(slot, user, info);
        if is_new && presence.crowds.are_limited() {
            let key = presence.members.join(slot, &crowd_of(user), cx.now).expect("it has just become known");
            presence.crowds.come(key, slot);
        }
        for membership in cx.slots.get(slot).rooms.as_slice() {
            let room = self.rooms.get(membership.room);
            if !cx.config.rules.has_presence(room.rule) {
                continue;
            }
            match is_new {
                true => drop(presence.members.join(slot, &room.name, cx.now)),
                false => presence.members.look_again(slot, &room.name, cx.now),
            }
        }
        self.ask_presence(cx);
    }

    /// The connection has become a member of the room, or waits to.
    pub(in crate::hub) fn note_member(&mut self, cx: &Context, slot: u32, key: u32) {
        let Some(presence) = &mut self.presence else { return };
        let room = self.rooms.get(key);
        if cx.config.rules.has_presence(room.rule) {
            presence.members.join(slot, &room.name, cx.now);
            self.ask_presence(cx);
        }
    }

    /// It is none any more.
    pub(in crate::hub) fn unnote_member(&mut self, cx: &Context, slot: u32, key: u32) {
        let Some(presence) = &mut self.presence else { return };
        let room = self.rooms.get(key);
        if cx.config.rules.has_presence(room.rule) {
            presence.members.leave(slot, &room.name, cx.now, presence.linger);
            self.ask_presence(cx);
        }
    }

    /// Tells and asks what there are places for.
    pub(in crate::hub) fn ask_presence(&mut self, cx: &Context) {
        let Some(presence) = &mut self.presence else { return };
        if self.status.publisher_down.is_some() {
            return;
        }
        while presence.tells() < TELLS_IN_FLIGHT_MAX
            && let Some(tell) = presence.members.next(cx.now)
        {
            let id = PresenceId::new(presence.next_id);
            self.asks.push_present(id, tell.room, (tell.user, tell.info), tell.connections);
            let outstanding = Outstanding::Told(tell.key, (tell.connections, tell.edition));
            presence.crowds.told(tell.key);
            presence.outstanding.insert(id, outstanding);
            presence.next_id += 1;
        }
        while presence.reads < READS_IN_FLIGHT_MAX
            && let Some((room, course, from)) = presence.to_read.pop_front()
        {
            if !presence.has_view(room, course) {
                continue;
            }
            let id = PresenceId::new(presence.next_id);
            let name = crate::presence::room_of(&self.rooms.get(room).name).expect("only such rooms have a view");
            self.asks.push_roster(id, name, from);
            presence.outstanding.insert(id, Outstanding::Read(room, course));
            presence.next_id += 1;
            presence.reads += 1;
        }
    }

    /// The broker knows what it was told.
    pub(in crate::hub) fn presence_kept(&mut self, cx: &Context, id: PresenceId, connections: u32) {
        let Some(presence) = &mut self.presence else { return };
        if let Some(Outstanding::Told(key, told)) = presence.take(id) {
            presence.crowds.counted(key, connections);
            presence.members.kept(key, told, cx.now);
            self.ask_presence(cx);
        }
    }

    /// It has not taken what it was told, or has not answered.
    pub(in crate::hub) fn presence_failed(&mut self, cx: &mut Context, id: PresenceId, passes: bool) {
        let Some(presence) = &mut self.presence else { return };
        let again = cx.now + AGAIN_AFTER;
        match presence.take(id) {
            Some(Outstanding::Told(key, _)) => {
                presence.untold.push_back((again, key));
                cx.metrics.presence_failed += 1;
            }
            Some(Outstanding::Read(room, course)) if presence.has_view(room, course) => {
                presence.unread.push_back((again, room, course));
                cx.metrics.presence_failed += 1;
                self.refuse_questions(cx, room, passes);
                self.reconcile(cx, room);
            }
            Some(Outstanding::Read(..)) | None => {}
        }
        self.ask_presence(cx);
    }

    /// The publishing connection is gone: what is outstanding is not answered.
    pub(in crate::hub) fn void_presence(&mut self, cx: &mut Context) {
        let Some(presence) = &mut self.presence else { return };
        self.asks.void_presence();
        presence.reads = 0;
        for (_, key) in std::mem::take(&mut presence.untold) {
            presence.members.not_kept(key, cx.now);
        }
        for outstanding in std::mem::take(&mut presence.outstanding).into_values() {
            match outstanding {
                Outstanding::Told(key, _) => presence.members.not_kept(key, cx.now),
                Outstanding::Read(room, course) => presence.unread.push_back((cx.now, room, course)),
            }
        }
        let rooms: Vec<u32> = presence.questions.keys().copied().collect();
        for room in rooms {
            self.refuse_questions(cx, room, true);
            self.reconcile(cx, room);
        }
    }

    /// The broker knows nothing any more of what it was told.
    pub(in crate::hub) fn presence_lost(&mut self, cx: &mut Context) {
        self.void_presence(cx);
        if let Some(presence) = &mut self.presence {
            presence.members.lost(cx.now);
            self.ask_presence(cx);
        }
    }

    /// Time has passed.
    pub(in crate::hub) fn presence_timeout(&mut self, cx: &mut Context) {
        let Some(presence) = &mut self.presence else { return };
        presence.members.timeout(cx.now);
        while let Some((_, key)) = presence.untold.front().copied().filter(|(at, _)| *at <= cx.now) {
            presence.untold.pop_front();
            presence.members.not_kept(key, cx.now);
        }
        for (room, course) in due(&mut presence.unread, cx.now) {
            presence.change(room, course, |view| if view.is_learning() { view.learn() } else { Next::Nothing });
        }
        for (room, course) in due(&mut presence.unsettled, cx.now) {
            presence.change(room, course, |view| view.timeout(cx.now));
        }
        self.ask_presence(cx);
        self.refuse_overdue_questions(cx);
    }
}

/// Takes what is due.
fn due(queue: &mut VecDeque<(Time, u32, Course)>, now: Time) -> Vec<(u32, Course)> {
    let due = queue.iter().take_while(|(at, ..)| *at <= now).count();
    queue.drain(..due).map(|(_, room, course)| (room, course)).collect()
}

impl Presence {
    /// Whether this is still what is done for the room's view: its key may be another room's by now.
    pub(super) fn has_view(&self, room: u32, course: Course) -> bool {
        self.views.get(&room).is_some_and(|view| view.course() == course)
    }

    /// Changes the view, if it is there still, and notes what is to be done about it.
    fn change(&mut self, room: u32, course: Course, change: impl FnOnce(&mut View) -> Next) {
        if let Some(view) = self.views.get_mut(&room).filter(|view| view.course() == course) {
            let next = change(view);
            self.note(room, next);
        }
    }

    /// Notes what is to be done about a view. Whether it has become known.
    pub(super) fn note(&mut self, room: u32, next: Next) -> bool {
        let Some(course) = self.views.get(&room).map(View::course) else { return false };
        match next {
            Next::Nothing => {}
            Next::Read(from) => self.to_read.push_back((room, course, from)),
            Next::Later(at) => self.unsettled.push_back((at, room, course)),
            Next::Known => return true,
        }
        false
    }

    /// What this answers.
    pub(super) fn take(&mut self, id: PresenceId) -> Option<Outstanding> {
        let outstanding = self.outstanding.remove(&id)?;
        self.reads -= usize::from(matches!(outstanding, Outstanding::Read(..)));
        Some(outstanding)
    }
}
