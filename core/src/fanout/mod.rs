//! Who hears what, and bytes on their way to many. [`FanOut`] hears who joins and leaves, what is said in a room or to one
//! connection, and what sockets take. It says what is written to whom, in which order. It knows no command and no broker, and of
//! frames only where they begin.

pub(crate) mod audience;
pub(crate) mod coalesced;
pub(crate) mod delivery;
pub(crate) mod group;
mod ids;
pub(crate) mod outbox;
pub(crate) mod outlet;
pub(crate) mod place;
pub(crate) mod queue;
pub(crate) mod run;
pub(crate) mod stream;
pub(crate) mod text_kind;

use crate::config::Config;
use crate::form::{Form, Shape};
use crate::framing::Framing;
use crate::history::Position;
use crate::id::ConnId;
use crate::metrics::Metrics;
use crate::rules::Slow;
use crate::slots::{Membership, NONE, Slots, mark};
use crate::sse;
use crate::ws::deflate::Deflater;
use crate::ws::encode;
use audience::{Audience, Audiences};
use coalesced::Coalesced;
use delivery::Fallen;
use ids::Ids;
use outbox::Backlog;
use place::{Place, Seat};
use run::{KEPT_BYTES_MAX, Runs};
use std::ops::Range;
use std::sync::Arc;
use stream::Streams;
use text_kind::TextKind;

/// A message in one of the forms in which a room's members get it.
#[derive(Clone, Copy, Debug)]
struct Frame {
    form: Form,
    /// Where it is written.
    track: u32,
    /// Where it begins there; `None` if it cannot be written in this form.
    position: Option<u64>,
}

/// What a member that leaves a room still gets of what has been said there and is not written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rest {
    Nothing,
    /// As much as a member is given in a turn. That is all of it, unless the room is congested.
    Part,
    All,
}

/// The members of all rooms, and what has been said to them and is not written.
#[derive(Debug)]
pub(crate) struct FanOut {
    audiences: Audiences,
    backlog: Backlog,
    deflater: Deflater,
    /// Lagging connections whose sockets are writable again. Those who have had no turn yet wait for the next.
    writable: Vec<ConnId>,
    runs: Runs,
    ids: Ids,

    // What follows belongs to the turn and is empty between turns.
    streams: Streams,
    coalesced: Coalesced,
    /// What is being written, where it had to be put together.
    gathered: Vec<u8>,
    /// Slots whose queues have been written to their end.
    emptied: Vec<u32>,
    /// Members that did not keep up.
    fallen: Fallen,
    /// What the newest message is for those who take more again.
    newest: Vec<(ConnId, Arc<[u8]>)>,
    /// Slots whose sockets failed.
    gone: Vec<u32>,
    /// For one text that is being built.
    scratch: Vec<u8>,
    /// For the forms of one message.
    frames: Vec<Frame>,
}

impl FanOut {
    pub fn new(config: &Config) -> FanOut {
        FanOut {
            audiences: Audiences::new(config.limits.group_members_max),
            backlog: Backlog::new(config.limits.outbox_bytes_max, config.limits.outbox_total_bytes_max),
            deflater: Deflater::new(config.compression.unwrap_or_default()),
            writable: Vec::new(),
            runs: Runs::new(config.limits.group_members_max, config.limits.outbox_bytes_max),
            ids: Ids::new(config.seed),
            streams: Streams::default(),
            coalesced: Coalesced::default(),
            gathered: Vec::new(),
            emptied: Vec::new(),
            fallen: Fallen::default(),
            newest: Vec::new(),
            gone: Vec::new(),
            scratch: Vec::new(),
            frames: Vec::new(),
        }
    }

    /// There is a room with this key from now on.
    pub fn add_room(&mut self, room: u32, slow: Slow) {
        self.audiences.add(room, slow);
    }

    /// The room is no more. It must have no member.
    pub fn remove_room(&mut self, room: u32) {
        self.audiences.remove(room);
    }

    /// The room's members.
    pub fn audience(&self, room: u32) -> &Audience {
        self.audiences.get(room)
    }

    /// The connection is a member of the room from now on; `is_waiting` while the broker has yet to confirm that. One that `is_behind` is
    /// given nothing that is said there, until [`FanOut::set_behind`].
    pub fn join(&mut self, slots: &mut Slots, slot: u32, room: u32, is_waiting: bool, is_behind: bool) {
        let (conn, position) = (slots.id(slot), slots.get(slot).rooms.len());
        let form = Form { is_behind, ..slots.get(slot).form() };
        let place = self.audiences.join(room, form, conn, Seat::new(position, is_waiting), &mut self.runs);
        slots.enter_room(slot, Membership { room, place });
    }

    /// Takes the connection out of the room at this position of its list.
    pub fn leave(&mut self, slots: &mut Slots, slot: u32, position: usize, rest: Rest) {
        let (conn, Membership { room, place }) = (slots.id(slot), slots.leave_room(slot, position));
        self.ids.forget(slot, room);
        if let Some(moved) = slots.get(slot).rooms.as_slice().get(position) {
            let group = self.audiences.get_mut(moved.room).group_at_mut(moved.place.group());
            let index = moved.place.index();
            group.set_seat(index, Seat::new(position, group.seat(index).is_waiting()));
        }
        if !self.fallen.newest.is_empty() {
            self.fallen.newest.remove(&(slot, room));
        }
        let run = self.audiences.get(room).group_at(place.group()).run;
        let part = self.audiences.leave(room, place, &mut self.runs, |conn, seat, place| {
            slots.get_mut(conn.slot() as u32).rooms.set_place(seat.list_position(), place);
        });
        if run == NONE {
            return;
        }
        match rest {
            Rest::Nothing => {}
            Rest::Part => {
                let part = self.runs.hand_out(run, part);
                self.give(slots, slot, run, part);
            }
            Rest::All => self.give(slots, slot, run, part),
        }
        self.runs.get_mut(run).forget_spared(conn);
    }

    /// Hands the connection this part of a run, but for what it is spared.
    fn give(&mut self, slots: &mut Slots, slot: u32, run: u32, part: Range<usize>) {
        let room = self.runs.get(run).room;
        if slots.get(slot).framing == Framing::EventsOfSeveral
            && let Some(position) = sse::last_commented(&self.runs.bytes(run)[part.clone()])
        {
            self.ids.note(slot, room, position);
        }
        for piece in self.runs.get(run).pieces(slots.id(slot), part) {
            self.streams.add_part(slots, slot, run, piece);
        }
    }

    /// From now on the member is given what is said in the room, or nothing of it. What has been said and it has not been given yet, it is
    /// not given either.
    pub fn set_behind(&mut self, slots: &mut Slots, slot: u32, room: u32, is_behind: bool) {
        let position = slots.get(slot).rooms.position(room).expect("it is a member");
        let place = slots.get(slot).rooms.as_slice()[position].place;
        let group = self.audiences.get(room).group_at(place.group());
        if group.form.is_behind == is_behind {
            return;
        }
        let (run, seat, form) = (group.run, group.seat(place.index()), Form { is_behind, ..group.form });
        self.audiences.leave(room, place, &mut self.runs, |conn, seat, place| {
            slots.get_mut(conn.slot() as u32).rooms.set_place(seat.list_position(), place);
        });
        let conn = slots.id(slot);
        if run != NONE {
            self.runs.get_mut(run).forget_spared(conn);
        }
        let place = self.audiences.join(room, form, conn, seat, &mut self.runs);
        slots.get_mut(slot).rooms.set_place(position, place);
    }

    /// One message of a room, stored there, to a member that is behind, in the form in which it gets them. Returns the bytes.
    pub fn say_to(&mut self, slots: &mut Slots, (slot, room): (u32, u32), text: &[u8], position: Position) -> usize {
        let form = slots.get(slot).form();
        let stream = self.streams.of(slots, slot);
        let before = stream.len();
        form.write(&mut self.deflater, stream, text, Some(position));
        let bytes = stream.len() - before;
        if form.framing == Framing::EventsOfSeveral {
            self.ids.note(slot, room, position);
        }
        bytes
    }

    /// Notes whether the member still waits for the broker.
    pub fn set_waiting(&mut self, room: u32, place: Place, is_waiting: bool) {
        let group = self.audiences.get_mut(room).group_at_mut(place.group());
        let position = group.seat(place.index()).list_position();
        group.set_seat(place.index(), Seat::new(position, is_waiting));
    }

    /// A text to one connection in this turn. Returns its bytes.
    pub fn reply(&mut self, slots: &mut Slots, slot: u32, write: impl FnOnce(&mut Vec<u8>)) -> usize {
        self.scratch.clear();
        write(&mut self.scratch);
        match slots.get(slot).framing.is_events() {
            true => sse::event(self.streams.of(slots, slot), &self.scratch, None),
            false => encode::text(self.streams.of(slots, slot), &self.scratch),
        }
        self.scratch.len()
    }

    /// What the connection was told last of the room is behind this position: an event stream says so by an id.
    pub fn stands_at(&mut self, slots: &mut Slots, slot: u32, room: u32, position: Position) {
        match slots.get(slot).framing {
            Framing::Frames | Framing::Deflated(_) => {}
            Framing::Events => sse::id(self.streams.of(slots, slot), position),
            Framing::EventsOfSeveral => self.ids.note(slot, room, position),
        }
    }

    /// Tells event streams about several rooms where they stand now. `name` knows the names of rooms.
    pub fn tell_ids<'r>(&mut self, slots: &mut Slots, name: impl Fn(u32) -> &'r str) {
        for slot in self.ids.take_changed() {
            let positions = self.ids.of(slot).map(|(room, position)| (name(room), position));
            sse::ids(self.streams.of(slots, slot), positions);
        }
    }

    /// Sends a client's text back to it.
    pub fn echo_text(&mut self, slots: &mut Slots, slot: u32, text: &str) {
        let window = slots.get(slot).framing.window();
        self.deflater.text(self.streams.of(slots, slot), window, text.as_bytes());
    }

    /// Sends a client's binary message back to it.
    pub fn echo_binary(&mut self, slots: &mut Slots, slot: u32, bytes: &[u8]) {
        let window = slots.get(slot).framing.window();
        self.deflater.binary(self.streams.of(slots, slot), window, bytes);
    }

    /// Where this turn's bytes to the connection alone go: whole frames, or a response of HTTP.
    pub fn stream(&mut self, slots: &mut Slots, slot: u32) -> &mut Vec<u8> {
        self.streams.of(slots, slot)
    }

    /// The socket of a lagging connection takes more.
    pub fn writable(&mut self, conn: ConnId) {
        self.writable.push(conn);
    }

    /// Forgets all that is queued for the connection, and what this turn was to say to it alone.
    pub fn silence(&mut self, slots: &mut Slots, slot: u32) {
        self.drop_queue(slots, slot);
        self.streams.hush(slots, slot);
    }

    /// Forgets all that is queued for the connection.
    pub fn drop_queue(&mut self, slots: &mut Slots, slot: u32) {
        self.backlog.drop_all(slots, slot);
    }

    /// See [`Backlog::cut`].
    pub fn cut_queue(&mut self, slots: &mut Slots, slot: u32, last: &[u8]) -> bool {
        self.backlog.cut(slots, slot, last)
    }

    /// The next connection that has to be ended because it does not read. Connections over their own limit come first, then those
    /// that lag most, until all together are within the budget. Each loses its queue, so this comes to an end.
    pub fn next_slow(&mut self, slots: &mut Slots) -> Option<u32> {
        loop {
            // In the order in which they were doomed.
            while let Some(slot) = self.backlog.next_doomed() {
                if !slots.is_marked(slot, mark::GONE) && slots.is_marked(slot, mark::DOOMED) {
                    return Some(slot);
                }
            }
            if !self.backlog.is_over_budget() {
                return None;
            }
            self.backlog.doom_slowest(slots);
        }
    }

    /// Takes the slots whose sockets failed in this turn.
    pub fn take_gone(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.gone)
    }

    /// The turn's feeding is over: chooses what is written in it.
    pub fn choose(&mut self, slots: &mut Slots, members_max: usize) {
        if !self.newest.is_empty() {
            self.give_newest(slots);
        }
        self.runs.choose_due(members_max);
        self.give_the_late_their_part(slots);
    }

    /// The turn is over. Tells `emptied` of the slots whose queues have been written to their end.
    pub fn end_turn(&mut self, slots: &mut Slots, emptied: &mut Vec<u32>) {
        self.runs.forget_due(|room, group| self.audiences.get_mut(room).group_at_mut(group).run = NONE);
        self.streams.clear(slots);
        self.coalesced.clear();
        self.gathered.clear();
        self.gathered.shrink_to(KEPT_BYTES_MAX);
        self.deflater.settle();
        if !self.fallen.newest.is_empty() {
            self.take_newest(slots);
        }
        if !self.emptied.is_empty() {
            emptied.append(&mut self.emptied);
        }
    }

    #[cold]
    fn give_newest(&mut self, slots: &mut Slots) {
        for (conn, frame) in std::mem::take(&mut self.newest) {
            if let Some(slot) = slots.slot(conn) {
                self.streams.of(slots, slot).extend_from_slice(&frame);
            }
        }
    }

    /// Whoever takes more again is given the newest message of its rooms that it did not take, before what comes.
    #[cold]
    fn take_newest(&mut self, slots: &Slots) {
        for slot in &self.emptied {
            while let Some((key, _)) = self.fallen.newest.range((*slot, 0)..=(*slot, u32::MAX)).next() {
                let key = *key;
                let frame = self.fallen.newest.remove(&key).expect("just found");
                self.newest.push((slots.id(*slot), frame));
            }
        }
    }

    /// Whether any member did not keep up, and has to be given later what it did not take.
    pub fn has_behind(&self) -> bool {
        !self.fallen.behind.is_empty()
    }

    /// Takes the members that did not keep up, with their rooms, and from which offset on they have to be given what they did not take.
    pub fn take_behind(&mut self) -> Vec<(ConnId, u32, u64)> {
        std::mem::take(&mut self.fallen.behind)
    }

    /// Whether there is something to be written at once.
    pub fn is_waiting(&self) -> bool {
        self.runs.wait() || !self.writable.is_empty() || !self.newest.is_empty()
    }

    /// See [`Runs::is_congested`].
    pub fn is_congested(&self) -> bool {
        self.runs.is_congested()
    }

    /// Rooms with at least one member.
    pub fn rooms(&self) -> u64 {
        self.audiences.populated()
    }

    /// Fills in the figures that are its own.
    pub fn describe(&self, metrics: &mut Metrics) {
        (metrics.compression_bytes_in, metrics.compression_bytes_out) = self.deflater.bytes();
        metrics.rooms_now = self.rooms();
        metrics.memberships_now = self.audiences.memberships();
        metrics.unsent_bytes_now = self.backlog.unsent_bytes() as u64;
        metrics.stored_frame_bytes_now = self.backlog.stored_bytes() as u64;
    }

    /// Tells members something else about their room. Members that are behind are not told, nor are those whose dialect has no word
    /// for it.
    /// What follows begins behind `position`, if that is told.
    pub fn announce(&mut self, slots: (&mut Slots, &mut Metrics), key: u32, text: &[u8], position: Option<Position>) {
        self.write_to_groups(slots, key, (TextKind::Notice(position), text), None);
    }

    /// The same to all but these.
    pub fn announce_but(
        &mut self,
        (slots, metrics): (&mut Slots, &mut Metrics),
        key: u32,
        text: &[u8],
        spared: &[u32],
    ) {
        let audience = self.audiences.get(key);
        let bytes = |run: u32| if run == NONE { 0 } else { self.runs.bytes(run).len() };
        let before: Vec<usize> = audience.groups().map(|group| bytes(group.run)).collect();
        self.announce((&mut *slots, metrics), key, text, None);
        for slot in spared {
            let rooms = &slots.get(*slot).rooms;
            let Some(position) = rooms.position(key) else { continue };
            let place = rooms.as_slice()[position].place;
            let run = self.audiences.get(key).group_at(place.group()).run;
            if run != NONE && self.runs.bytes(run).len() > before[place.group()] {
                self.spare(slots, *slot, key, place, before[place.group()]);
            }
        }
    }

    /// Adds a message to the run of each group. Members that are behind do not get it, nor does the connection `spared`.
    pub fn say(&mut self, (slots, metrics): (&mut Slots, &mut Metrics), key: u32, text: &[u8], spared: Option<u32>) {
        metrics.messages_out += 1;
        self.write_to_groups((slots, metrics), key, (TextKind::Message, text), spared);
    }

    /// The same of a message that is stored there.
    pub fn say_stored(
        &mut self,
        (slots, metrics): (&mut Slots, &mut Metrics),
        key: u32,
        (text, position): (&[u8], Position),
        spared: Option<u32>,
    ) {
        metrics.messages_out += 1;
        self.write_to_groups((slots, metrics), key, (TextKind::Stored(position), text), spared);
    }

    /// Tells the room's members that something is removed, which is stored at this position.
    pub fn say_removal(
        &mut self,
        (slots, metrics): (&mut Slots, &mut Metrics),
        key: u32,
        (text, position): (&[u8], Position),
    ) {
        self.write_to_groups((slots, metrics), key, (TextKind::Removal(position), text), None);
    }

    #[inline]
    fn write_to_groups(
        &mut self,
        (slots, metrics): (&mut Slots, &mut Metrics),
        key: u32,
        (said, text): (TextKind, &[u8]),
        spared: Option<u32>,
    ) {
        let spared = spared.and_then(|slot| {
            let rooms = &slots.get(slot).rooms;
            Some((slot, rooms.as_slice()[rooms.position(key)?].place))
        });
        let FanOut { audiences, runs, deflater, frames, .. } = self;
        let audience = audiences.get_mut(key);
        let (in_all, slow) = (audience.members(), audience.slow);
        frames.clear();
        for at in 0..audience.group_count() {
            let group = audience.group_at(at);
            let (form, run, members) = (group.form, group.run, group.members().len());
            if members == 0 || form.is_behind || said.is_for_objects() && form.shape != Shape::Message {
                continue;
            }
            // A message is written once for each form, behind what groups of that form have yet to be given.
            let known = frames.iter().position(|frame| frame.form == form).unwrap_or_else(|| {
                let track = match audience.run_of(form) {
                    Some(run) => runs.track_of(run),
                    None => runs.add_track(),
                };
                let position = runs.write(track, |out| match said {
                    TextKind::Message | TextKind::Stored(_) | TextKind::Removal(_) => {
                        form.write(deflater, out, text, said.position())
                    }
                    TextKind::Notice(position) => {
                        form.write_notice(deflater, out, text, position);
                        true
                    }
                });
                if slow == Slow::CatchUp {
                    runs.note_place(track, position, said);
                }
                if position.is_none() {
                    metrics.messages_forged += 1;
                    runs.forget_unused(track);
                }
                frames.push(Frame { form, track, position });
                frames.len() - 1
            });
            let Frame { track, position: Some(position), .. } = frames[known] else { continue };
            if run == NONE {
                let run = runs.start(key, at, (members, in_all), track, position);
                let group = audience.group_at_mut(at);
                (group.run, group.full) = (run, members as u32);
                if form.framing == Framing::EventsOfSeveral {
                    // Each is told at once where it stands then, so each gets its part by its own stream.
                    group.full = 0;
                    runs.all_are_late(run, members);
                }
            }
            metrics.deliveries += members as u64;
        }
        if let Some((slot, place)) = spared {
            let group = audience.group_at(place.group());
            let frame = frames.iter().find(|frame| frame.form == group.form);
            if let Some(position) = frame.and_then(|frame| frame.position) {
                metrics.deliveries -= 1;
                let until = runs.offset(group.run, position);
                self.spare(slots, slot, key, place, until);
            }
        }
    }

    /// Gives a member its part of the run so far, so that what is said to it next comes after that.
    pub fn catch_up(&mut self, slots: &mut Slots, slot: u32, key: u32, place: Place) {
        let group = self.audiences.get(key).group_at(place.group());
        if group.run != NONE {
            let (run, end) = (group.run, self.runs.bytes(group.run).len());
            let part = group.start(place.index(), self.runs.get(run))..end;
            self.give_out_of_turn(slots, (slot, key, place), part);
        }
    }

    /// The same where that is not much. Returns whether it has all now.
    pub fn try_catch_up(&mut self, slots: &mut Slots, slot: u32, key: u32, place: Place) -> bool {
        let group = self.audiences.get(key).group_at(place.group());
        if group.run == NONE {
            return true;
        }
        let (start, end) = (group.start(place.index(), self.runs.get(group.run)), self.runs.bytes(group.run).len());
        let part = self.runs.hand_out_whole(start..end);
        part.map(|part| self.give_out_of_turn(slots, (slot, key, place), part)).is_some()
    }

    /// The member is not given the run's last message, which begins there. What comes before it is given to it at once, unless that is
    /// much: then it is passed over when its turn has come.
    fn spare(&mut self, slots: &mut Slots, slot: u32, key: u32, place: Place, until: usize) {
        let group = self.audiences.get(key).group_at(place.group());
        let (run, start) = (group.run, group.start(place.index(), self.runs.get(group.run)));
        match self.runs.hand_out_whole(start..until) {
            Some(part) => self.give_out_of_turn(slots, (slot, key, place), part),
            None => {
                let end = self.runs.bytes(run).len();
                self.begin_at(slots, (key, place), start);
                self.runs.get_mut(run).spare(slots.id(slot), until..end);
            }
        }
    }

    /// Gives a member this part of its group's run, and spares it the rest that there is so far.
    fn give_out_of_turn(&mut self, slots: &mut Slots, (slot, key, place): (u32, u32, Place), part: Range<usize>) {
        let run = self.audiences.get(key).group_at(place.group()).run;
        self.give(slots, slot, run, part);
        self.runs.get_mut(run).forget_spared(slots.id(slot));
        self.begin_at(slots, (key, place), self.runs.bytes(run).len());
    }

    /// What the member is given of its group's run begins there.
    fn begin_at(&mut self, slots: &mut Slots, (key, place): (u32, Place), start: usize) {
        let group = self.audiences.get_mut(key).group_at_mut(place.group());
        let run = self.runs.get_mut(group.run);
        group.set_start(place.index(), run, start, |conn, seat, index| {
            let place = Place::new(place.group(), index);
            slots.get_mut(conn.slot() as u32).rooms.set_place(seat.list_position(), place);
        });
    }

    /// Hands members that joined while a run was being built the part that follows their SUBSCRIBED. Hands members that are spared
    /// some of it the rest.
    fn give_the_late_their_part(&mut self, slots: &mut Slots) {
        for key in self.runs.due() {
            let run = self.runs.get(*key);
            let group = self.audiences.get(run.room).group_at(run.group);
            if group.form.framing == Framing::EventsOfSeveral
                && let Some(position) = sse::last_commented(self.runs.part(*key))
            {
                group.members().iter().for_each(|conn| self.ids.note(conn.slot() as u32, run.room, position));
            }
            for (conn, start) in group.members()[group.full as usize..].iter().zip(&run.late) {
                let end = self.runs.part(*key).len();
                for piece in run.pieces(*conn, (*start as usize).min(end)..end) {
                    self.streams.add_part(slots, conn.slot() as u32, *key, piece);
                }
            }
        }
    }

    /// Panics unless its parts agree with each other and with the connections.
    pub fn check_invariants(&self, slots: &Slots, group_members_max: usize) {
        self.backlog.check_invariants(slots);
        assert!(self.runs.due().is_empty() && self.streams.all().is_empty(), "a turn says what is due");
        assert!(self.gone.is_empty() && self.emptied.is_empty());
        assert!(self.backlog.is_settled(), "a turn ends within the limits");
        self.check_runs();
        self.check_audiences(slots, group_members_max);
    }

    fn check_runs(&self) {
        let waiting: Vec<u32> = self.runs.waiting().collect();
        let groups = self.audiences.iter().flat_map(|(_, audience)| audience.groups());
        assert_eq!(groups.filter(|group| group.run != NONE).count(), waiting.len(), "every run of a group waits, once");
        for key in &waiting {
            let run = self.runs.get(*key);
            let group = self.audiences.get(run.room).group_at(run.group);
            assert_eq!(group.run, *key, "a run is that of its group");
            assert_eq!(group.members().len(), group.full as usize + run.late.len(), "every member has its part of it");
            assert!(run.late.iter().all(|start| *start as usize <= self.runs.bytes(*key).len()));
        }
        self.runs.check_invariants();
    }

    fn check_audiences(&self, slots: &Slots, group_members_max: usize) {
        let (mut memberships, mut populated) = (0, 0);
        for (key, audience) in self.audiences.iter() {
            assert_eq!(audience.is_empty(), audience.groups().all(|group| group.members().is_empty()));
            populated += u64::from(!audience.is_empty());
            for group in audience.groups() {
                assert!(group.members().len() <= group_members_max);
                memberships += group.members().len() as u64;
                for (index, conn) in group.members().iter().enumerate() {
                    let slot = slots.slot(*conn).expect("members are alive");
                    assert_eq!(slots.get(slot).form(), Form { is_behind: false, ..group.form });
                    let seat = group.seat(index as u32);
                    assert_eq!(slots.get(slot).rooms.as_slice()[seat.list_position()].room, key);
                }
            }
        }
        assert_eq!((memberships, populated), (self.audiences.memberships(), self.audiences.populated()));
        for slot in slots.slots() {
            for (position, membership) in slots.get(slot).rooms.as_slice().iter().enumerate() {
                let group = self.audiences.get(membership.room).group_at(membership.place.group());
                assert_eq!(group.members()[membership.place.index() as usize], slots.id(slot));
                assert_eq!(group.seat(membership.place.index()).list_position(), position);
            }
        }
    }

    /// Panics if anything is left to be said.
    pub fn check_idle(&self) {
        assert_eq!((self.backlog.unsent_bytes(), self.backlog.stored_bytes()), (0, 0), "bytes are left");
        assert!(!self.is_waiting(), "a run is left");
        assert!(self.ids.is_empty(), "the position of an event stream is left");
    }
}
