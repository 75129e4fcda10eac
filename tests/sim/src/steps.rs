//! What a turn does, step by step, on wires. The order of the steps is `fanfare-turn`'s, as it is that of the servers.

use crate::cluster::Surroundings;
use crate::guard::Guard;
use crate::hooks::{DELAY_MAX, Decided};
use crate::issuer::Credential;
use crate::named::Knowledge;
use crate::network::{Read, Side, WireId};
use crate::options::{Options, rng};
use crate::reference::{Incarnation, Key, ROOMS};
use crate::sentinel::Target;
use crate::timeline::Happening;
use crate::trace;
use fanfare_core::broker::redis::{ConnectionRequest, LinkId, LinkState, RedisBroker};
use fanfare_core::broker::{Ask, BrokerEvent, PublishId, Store};
use fanfare_core::time::Time;
use fanfare_core::{Authenticate, Bans, ConnId, Core, Delivery, Denied, Event, Proposal, ProposalId, Turn};
use fanfare_turn::{Sockets, Steps, Stop, deliver};
use fanfare_wire::Frame;
use fastrand::Rng;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash};
use std::rc::Rc;
use std::sync::Arc;

#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) wire: WireId,
    /// It stands on the ready list.
    pub(crate) is_ready: bool,
    /// It took less than it was given.
    pub(crate) is_blocked: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Establishing {
    Waits,
    Done(bool),
    Established,
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) wire: WireId,
    pub(crate) target: Target,
    pub(crate) establishing: Establishing,
    pub(crate) is_writable: bool,
}

/// What an adapter needs beside core and session.
#[derive(Debug)]
pub(crate) struct Adapter {
    pub(crate) incarnation: Incarnation,
    /// Where among the instances it stands.
    pub(crate) place: usize,
    pub(crate) sockets: BTreeMap<ConnId, Socket>,
    pub(crate) conns: BTreeMap<WireId, ConnId>,
    pub(crate) ready: VecDeque<ConnId>,
    pub(crate) writable: Vec<ConnId>,
    pub(crate) incoming: VecDeque<WireId>,
    pub(crate) links: BTreeMap<LinkId, Link>,
    /// Connections of which the core keeps some bytes unread.
    pub(crate) kept: BTreeSet<ConnId>,
    /// Connections that are no more.
    pub(crate) gone: Vec<ConnId>,
    pub(crate) drives_midway: bool,
    /// Its clock has shown more time than has passed.
    pub(crate) has_jumped: bool,
    /// What the broker was asked to publish, and has yet to tell the outcome of.
    pub(crate) publishing: BTreeMap<PublishId, Key>,
    /// What is decided about messages, and when that is told.
    pub(crate) deciding: BTreeMap<(u64, u64), (ProposalId, Decided)>,
    /// How many there have been.
    pub(crate) proposals: u64,
    /// What the session said and is not so.
    pub(crate) untrue: Option<String>,
    /// In a Cluster: rooms whose subscriptions are lost, as the hub was told; none before it was told that it can subscribe.
    pub(crate) lost: Option<BTreeSet<usize>>,
    /// Whom Sentinels have named, where there are any.
    pub(crate) knowledge: Option<Knowledge>,
    /// What the core said, in order.
    pub(crate) hash: DefaultHasher,
}

/// One turn of an instance.
pub(crate) struct TurnSteps<'a, 'b> {
    pub(crate) adapter: &'a mut Adapter,
    pub(crate) session: &'a mut RedisBroker,
    pub(crate) options: &'a Options,
    pub(crate) now: Time,
    pub(crate) around: &'a mut Surroundings<'b>,
    pub(crate) rng: &'a mut Rng,
    /// It reports something about connections that are no more.
    pub(crate) stale_due: bool,
    /// How often that was done.
    pub(crate) stale_fed: &'a mut u64,
    /// It is told to stop.
    pub(crate) stop_due: Option<Stop>,
    /// It is told to let this share of its connections go.
    pub(crate) shed_due: Option<f64>,
    pub(crate) commands: Vec<String>,
    /// The last write was to this connection, and failed.
    pub(crate) failed: Option<ConnId>,
}

impl Steps for TurnSteps<'_, '_> {
    type Sockets = Self;

    fn events(&mut self, turn: &mut Turn<'_>) {
        for conn in std::mem::take(&mut self.adapter.writable) {
            if let Some(socket) = self.adapter.sockets.get_mut(&conn)
                && std::mem::take(&mut socket.is_blocked)
            {
                turn.feed(Event::Writable { conn });
            }
        }
    }

    fn broker(&mut self, turn: &mut Turn<'_>, congested: bool) {
        self.adapter.read_redis(self.session, turn, (self.now, congested), self.around);
    }

    fn accept(&mut self, turn: &mut Turn<'_>) {
        while let Some(wire) = self.adapter.incoming.pop_front() {
            match turn.open() {
                Ok(conn) => {
                    if let Some(guard) = &mut self.around.guard {
                        guard.opened(self.adapter.incarnation, wire);
                    }
                    self.adapter.insert(conn, wire);
                }
                Err(_) => self.around.network.close(wire, Side::Far, &mut self.around.timeline),
            }
        }
    }

    fn credentials(&mut self, turn: &mut Turn<'_>) {
        if let Some(mut guard) = self.around.guard.take() {
            *self.stale_fed += self.tell(turn, &mut guard);
            self.around.guard = Some(guard);
        }
    }

    fn clients(&mut self, turn: &mut Turn<'_>) {
        self.adapter.tell_decisions(turn, self.around.timeline.now);
        self.adapter.read_clients(self.options, turn, self.now, self.around);
        if let Some(share) = self.shed_due {
            turn.feed(Event::Shed { share });
        }
        for text in self.commands.drain(..) {
            turn.feed(Event::Command { text: &text, user: None });
        }
        if self.stale_due {
            *self.stale_fed += self.adapter.feed_stale(turn, self.rng);
        }
    }

    fn has_unread(&mut self, conn: ConnId) -> bool {
        let ready = self.adapter.sockets.get(&conn).filter(|socket| socket.is_ready);
        if let (Some(socket), Some(guard)) = (ready, &mut self.around.guard) {
            guard.spares(socket.wire, self.now.as_micros());
        }
        ready.is_some()
    }

    fn stops(&mut self, core: &Core) -> Option<Stop> {
        self.adapter.note_looked_at(core, self.around);
        let (wires, now) = (self.adapter.conns.keys().copied(), self.around.timeline.now);
        if self.shed_due.is_some() && !matches!(core.readiness(), Err("draining" | "shutting down")) {
            self.around.reference.lets_go(wires.clone(), &self.around.network, now);
        }
        if self.stop_due.is_some() {
            self.around.reference.stops(wires.clone(), &self.around.network, now);
        }
        match self.stop_due {
            None => {}
            Some(Stop::InTime) => self.around.reference.lets_go(wires, &self.around.network, now),
            Some(Stop::AtOnce) => self.around.reference.cuts_off(wires),
        }
        self.stop_due
    }

    fn release(&mut self, _core: &Core) {
        // What the core says follows.
        self.now.hash(&mut self.adapter.hash);
    }

    fn settle(&mut self, core: &Core) {
        if !core.takes_newcomers() && core.connections() == 0 {
            self.session.give_back(self.options.core.presence.linger);
        }
        if let Some(guard) = &mut self.around.guard {
            let (adapter, times) = (&self.adapter, (self.around.timeline.now, self.now.as_micros()));
            guard.end_turn(adapter.incarnation, times, |wire| adapter.conns.contains_key(&wire));
        }
        self.adapter.drive(self.session, self.now, self.around);
    }

    fn send_asks(&mut self) {
        if self.adapter.drives_midway {
            self.adapter.drive(self.session, self.now, self.around);
        }
    }

    fn ask(&mut self, ask: Ask<'_>) {
        let TurnSteps { adapter, session, around, .. } = self;
        match ask {
            Ask::Publish { room, payload, store: Some(Store { removes: Some(_), .. }), .. } => {
                ("remove", room, payload).hash(&mut adapter.hash);
            }
            Ask::Publish { room, payload, id, .. } => {
                ("publish", room, payload, id).hash(&mut adapter.hash);
                let is_up = match around.reference.is_slotted() {
                    true => adapter.knows_of_no_outage(room),
                    false => session.stats().subscriber.state == LinkState::Up,
                };
                let subscribes = is_up && !adapter.has_jumped;
                let noted = around.reference.handed_on(
                    payload,
                    adapter.incarnation,
                    subscribes,
                    around.timeline.now,
                    &around.network,
                );
                let key = noted.expect("an instance publishes what was sent");
                if let Some(guard) = &mut around.guard {
                    guard.published(key, &mut around.reference, payload, around.timeline.now);
                }
                if let Some(id) = id {
                    adapter.publishing.insert(id, key);
                }
            }
            Ask::Read { room, id, .. } => ("read", room, id).hash(&mut adapter.hash),
            Ask::Present { room, user, info, connections, id } => {
                ("present", room, user, info, connections, id).hash(&mut adapter.hash);
            }
            Ask::Roster { room, from, id } => ("roster", room, from, id).hash(&mut adapter.hash),
            Ask::Fence { id } => ("fence", id).hash(&mut adapter.hash),
            Ask::Subscribe { room } => ("subscribe", room).hash(&mut adapter.hash),
            Ask::Unsubscribe { room } => ("unsubscribe", room).hash(&mut adapter.hash),
        }
        session.ask(ask);
    }

    fn propose(&mut self, proposal: Proposal<'_>) {
        let TurnSteps { adapter, around, options, .. } = self;
        ("propose", proposal.room, proposal.message).hash(&mut adapter.hash);
        let decided = around.reference.decide(proposal.message).expect("somebody is asked about what was sent");
        adapter.proposals += 1;
        // Of a generator of its own, so that nobody else draws anything else.
        let incarnation = format!("{:?} {}", adapter.incarnation, adapter.proposals);
        let delay = rng(options.seed, &incarnation).u64(0..DELAY_MAX);
        let due = around.timeline.now + delay;
        adapter.deciding.insert((due, adapter.proposals), (proposal.id, decided));
        around.timeline.after(delay, Happening::Verdict(adapter.place));
    }

    fn authenticate(&mut self, asked: Authenticate<'_>) {
        let TurnSteps { adapter, around, now, .. } = self;
        ("authenticate", asked.conn, asked.credential).hash(&mut adapter.hash);
        let guard = around.guard.as_mut().expect("`Config::auth` is set in guarded seeds alone");
        let Some(socket) = adapter.sockets.get(&asked.conn) else { return };
        if let Some(delay) =
            guard.asked(adapter.incarnation, socket.wire, asked, (around.timeline.now, now.as_micros()))
        {
            around.timeline.after(delay, Happening::Verdict(adapter.place));
        }
    }

    fn sockets(&mut self) -> &mut Self {
        self
    }

    fn send(&mut self, delivery: Delivery<'_>) {
        ("send", delivery.bytes()).hash(&mut self.adapter.hash);
        deliver(delivery, self.sockets());
    }
}

impl Sockets for TurnSteps<'_, '_> {
    fn write(&mut self, conn: ConnId, bytes: &[u8]) -> Option<usize> {
        let TurnSteps { adapter, around, .. } = self;
        conn.hash(&mut adapter.hash);
        let socket = adapter.sockets.get_mut(&conn).expect("no action names a closed socket");
        match around.network.write(socket.wire, Side::Far, bytes, &mut around.timeline) {
            Ok(taken) => {
                if let Some(guard) = &mut around.guard {
                    guard.wrote(socket.wire, taken, taken < bytes.len(), around.timeline.now);
                }
                if taken < bytes.len() {
                    socket.is_blocked = true;
                    around.short_writes += 1;
                }
                Some(taken)
            }
            Err(_) => {
                self.failed = Some(conn);
                None
            }
        }
    }

    fn shutdown(&mut self, conn: ConnId) {
        ("shutdown", conn).hash(&mut self.adapter.hash);
        self.around.network.shutdown(self.adapter.sockets[&conn].wire, Side::Far, &mut self.around.timeline);
    }

    fn close(&mut self, conn: ConnId) {
        if self.failed.take() != Some(conn) {
            // The core says so.
            ("close", conn).hash(&mut self.adapter.hash);
        }
        let wire = self.adapter.remove(conn).expect("a socket is closed once");
        self.around.network.close(wire, Side::Far, &mut self.around.timeline);
    }
}

impl TurnSteps<'_, '_> {
    /// Feeds what time it is, what counts no more, and what has been found out about credentials. Says how much of that was about
    /// connections that are no more.
    fn tell(&mut self, turn: &mut Turn<'_>, guard: &mut Guard) -> u64 {
        let TurnSteps { adapter, around, .. } = self;
        let times = (around.timeline.now, self.now.as_micros());
        let place = around.reference.place(adapter.incarnation, &around.network);
        let told = guard.tell(adapter.incarnation, times, place);
        if let Some(unix_ms) = told.unix_ms {
            turn.feed(Event::WallClock { unix_ms });
        }
        if let Some(bans) = told.bans {
            trace!(around.trace, around.timeline, "instance {} hears of bans: {bans:?}", adapter.place);
            turn.feed(Event::Bans(&Arc::new(Bans::new(bans))));
        }
        let mut stale = 0;
        let mut feed = |conn: ConnId, outcome: Result<Rc<Credential>, Denied>| {
            trace!(around.trace, around.timeline, "instance {} hears of {conn:?}: {outcome:?}", adapter.place);
            stale += u64::from(!adapter.sockets.contains_key(&conn));
            match outcome {
                Ok(credential) => turn.feed(Event::Authenticated { conn, outcome: Ok(&credential.identity()) }),
                Err(denied) => turn.feed(Event::Authenticated { conn, outcome: Err(denied) }),
            }
        };
        for (conn, outcome) in told.answers {
            feed(conn, outcome);
        }
        if let Some(wire) = guard.unasked(adapter.incarnation)
            && let Some(outcome) = guard.renew(wire, adapter.incarnation, times, place)
        {
            feed(adapter.conns[&wire], outcome);
        }
        stale
    }
}

impl Adapter {
    fn insert(&mut self, conn: ConnId, wire: WireId) {
        let socket = Socket { wire, is_ready: false, is_blocked: false };
        assert!(self.sockets.insert(conn, socket).is_none(), "an id is given once");
        self.conns.insert(wire, conn);
        self.make_ready(conn);
    }

    fn remove(&mut self, conn: ConnId) -> Option<WireId> {
        let socket = self.sockets.remove(&conn)?;
        self.conns.remove(&socket.wire);
        self.gone.push(conn);
        Some(socket.wire)
    }

    pub(crate) fn make_ready(&mut self, conn: ConnId) {
        if let Some(socket) = self.sockets.get_mut(&conn)
            && !std::mem::replace(&mut socket.is_ready, true)
        {
            self.ready.push_back(conn);
        }
    }

    fn read_redis(
        &mut self,
        session: &mut RedisBroker,
        turn: &mut Turn<'_>,
        (now, congested): (Time, bool),
        around: &mut Surroundings<'_>,
    ) {
        for id in session.links() {
            self.establish(id, session, now, around);
            if congested && session.receives(id) {
                continue;
            }
            while let Some(wire) = self.established(id) {
                match around.network.read(wire, Side::Near, 64 * 1024, &mut around.timeline) {
                    Read::Bytes(bytes) => {
                        session.input(id, &bytes, now, |event| self.hear(event, Some(wire), turn, around));
                        self.look(session, Some((id, wire)), now, around);
                    }
                    Read::Nothing => break,
                    Read::End => self.lost(id, session, now, around),
                }
            }
        }
        session.leave_unread(congested);
        if session.next_timeout().is_some_and(|deadline| deadline <= now) {
            session.timeout(now);
            self.look(session, None, now, around);
        }
        session.poll_events(|event| self.hear(event, None, turn, around));
    }

    /// What the session says, which must be so when it says it: by the time that a client hears of it, it may have become so.
    fn hear(
        &mut self,
        event: BrokerEvent<'_>,
        wire: Option<WireId>,
        turn: &mut Turn<'_>,
        around: &mut Surroundings<'_>,
    ) {
        let (reference, reads) = (&mut around.reference, around.network.reads());
        match event {
            BrokerEvent::Lost { partitions } => {
                trace!(around.trace, around.timeline, "instance {} has lost {partitions:?}", self.place);
                reference.lost(self.incarnation, |room| partitions.has_room(ROOMS[room]), reads);
                let lost = (0..ROOMS.len()).filter(|room| partitions.has_room(ROOMS[*room]));
                self.lost.iter_mut().for_each(|all| all.extend(lost.clone()));
            }
            BrokerEvent::Up => self.lost = Some(BTreeSet::new()),
            BrokerEvent::Subscribed { room } => {
                self.lost.iter_mut().for_each(|lost| lost.retain(|of| ROOMS[*of] != room));
                let wire = wire.filter(|_| reference.is_slotted());
                let confirmed = wire.map(|wire| reference.confirmed(wire, room, &around.network));
                self.untrue = self.untrue.take().or(confirmed.and_then(Result::err));
            }
            BrokerEvent::Down { .. } if reference.is_slotted() => {
                self.lost = None;
                reference.lost(self.incarnation, |_| true, reads);
            }
            BrokerEvent::Published { id, position, .. } => {
                let told = self.publishing.remove(&id).map(|key| reference.check_published(key, position));
                self.untrue = self.untrue.take().or(told.and_then(Result::err));
            }
            BrokerEvent::PublishFailed { id, .. } => drop(self.publishing.remove(&id)),
            _ => {}
        }
        turn.feed(Event::Broker(event));
    }

    fn knows_of_no_outage(&self, room: &str) -> bool {
        self.lost.as_ref().is_some_and(|lost| !lost.iter().any(|of| ROOMS[*of] == room))
    }

    /// The session has read on a wire, or lost a connection: where it may connect to follows.
    fn look(
        &mut self,
        session: &RedisBroker,
        read: Option<(LinkId, WireId)>,
        now: Time,
        around: &mut Surroundings<'_>,
    ) {
        let Some(knowledge) = &mut self.knowledge else { return };
        if let Some(read) = read {
            knowledge.read(read, &mut around.named, &around.network);
        }
        knowledge.look(session, now);
    }

    fn established(&self, id: LinkId) -> Option<WireId> {
        let link = self.links.get(&id)?;
        (link.establishing == Establishing::Established).then_some(link.wire)
    }

    fn establish(&mut self, id: LinkId, session: &mut RedisBroker, now: Time, around: &mut Surroundings<'_>) {
        let Some(link) = self.links.get_mut(&id) else { return };
        match link.establishing {
            Establishing::Done(true) => {
                link.establishing = Establishing::Established;
                session.connected(id, now);
            }
            Establishing::Done(false) => self.lost(id, session, now, around),
            Establishing::Waits | Establishing::Established => {}
        }
    }

    fn lost(&mut self, id: LinkId, session: &mut RedisBroker, now: Time, around: &mut Surroundings<'_>) {
        self.forget(id, around);
        session.disconnected(id, "it closed the connection", now);
        self.look(session, None, now, around);
    }

    fn forget(&mut self, id: LinkId, around: &mut Surroundings<'_>) {
        if let Some(link) = self.links.remove(&id) {
            trace!(around.trace, around.timeline, "an instance ends wire {} ({id:?})", link.wire);
            around.reference.link_ended_at_instance(link.wire, around.timeline.now);
            around.network.close(link.wire, Side::Near, &mut around.timeline);
        }
    }

    fn tell_decisions(&mut self, turn: &mut Turn<'_>, now: u64) {
        while let Some(first) = self.deciding.first_entry().filter(|first| first.key().0 <= now) {
            let (proposal, decided) = first.remove();
            turn.feed(Event::Decided { proposal, decision: decided.decision() });
        }
    }

    fn read_clients(&mut self, options: &Options, turn: &mut Turn<'_>, now: Time, around: &mut Surroundings<'_>) {
        for _ in 0..self.ready.len().min(options.reads_per_turn) {
            let Some(conn) = self.ready.pop_front() else { return };
            let Some(socket) = self.sockets.get_mut(&conn) else { continue };
            socket.is_ready = false;
            if turn.core().keeps_unread(conn) {
                self.make_ready(conn);
                continue;
            }
            match around.network.read(socket.wire, Side::Far, options.read_bytes, &mut around.timeline) {
                Read::Bytes(mut data) => {
                    if let Some(guard) = &mut around.guard {
                        let total = around.network.read_total(socket.wire, Side::Far);
                        guard.read(socket.wire, total, (around.timeline.now, now.as_micros()));
                    }
                    turn.feed(Event::Bytes { conn, data: &mut data });
                    if turn.core().keeps_unread(conn) {
                        around.reference.client_kept(socket.wire);
                        self.kept.insert(conn);
                    } else {
                        around.reference.client_read(socket.wire, self.incarnation, &around.network);
                    }
                    self.make_ready(conn);
                }
                Read::Nothing => {}
                Read::End => turn.feed(Event::Closed { conn }),
            }
        }
    }

    /// Tells of whom the core has come to the end of what was kept.
    fn note_looked_at(&mut self, core: &Core, around: &mut Surroundings<'_>) {
        let Adapter { kept, sockets, incarnation, .. } = self;
        kept.retain(|conn| {
            let Some(socket) = sockets.get(conn) else { return false };
            let is_kept = core.keeps_unread(*conn);
            if !is_kept {
                around.reference.client_read(socket.wire, *incarnation, &around.network);
            }
            is_kept
        });
    }

    /// Reports something about connections that were closed, as an adapter with events still in its hands may.
    fn feed_stale(&mut self, turn: &mut Turn<'_>, rng: &mut Rng) -> u64 {
        let mut fed = 0;
        for _ in 0..rng.usize(1..4) {
            let Some(conn) = (!self.gone.is_empty()).then(|| self.gone[rng.usize(..self.gone.len())]) else {
                return fed;
            };
            match rng.u32(0..4) {
                0 => turn.feed(Event::Writable { conn }),
                1 => turn.feed(Event::Closed { conn }),
                _ => {
                    let mut data = Frame::text(r#"{"type":"SEND_MESSAGE","room":"tea","message":"m|0|0|0|"}"#).masked();
                    turn.feed(Event::Bytes { conn, data: &mut data });
                }
            }
            fed += 1;
        }
        fed
    }

    /// Opens and drops connections to Redis as the session wants it, and writes what it has to say.
    fn drive(&mut self, session: &mut RedisBroker, now: Time, around: &mut Surroundings<'_>) {
        let (place, incarnation) = (self.place, self.incarnation);
        if let Some(knowledge) = &mut self.knowledge {
            knowledge.begin(now);
        }
        while let Some((id, request)) = session.poll_connection(now) {
            match request {
                ConnectionRequest::Drop => self.forget(id, around),
                ConnectionRequest::Open { address } => {
                    let target = Target::of(&address);
                    let wire = around.open_link(place, incarnation, target);
                    trace!(around.trace, around.timeline, "instance {place} opens wire {wire} ({id:?}) to {target:?}");
                    if let (Some(knowledge), Target::Server(server)) = (&mut self.knowledge, target) {
                        let opened = knowledge.opens(server, now);
                        self.untrue = self.untrue.take().or(opened.err());
                    }
                    if session.receives(id) {
                        around.reference.link_opened(wire, incarnation);
                    }
                    let establishing = Establishing::Waits;
                    self.links.insert(id, Link { wire, target, establishing, is_writable: true });
                }
            }
        }
        for id in session.links() {
            self.write_link(id, session, now, around);
        }
    }

    fn write_link(&mut self, id: LinkId, session: &mut RedisBroker, now: Time, around: &mut Surroundings<'_>) {
        while let Some(wire) = self.established(id) {
            let link = self.links.get_mut(&id).expect("it is established");
            let output = session.output(id);
            if !link.is_writable || output.is_empty() {
                return;
            }
            match around.network.write(wire, Side::Near, output, &mut around.timeline) {
                Ok(taken) => {
                    link.is_writable = taken == output.len();
                    session.written(id, taken);
                }
                Err(_) => return self.lost(id, session, now, around),
            }
        }
    }
}
