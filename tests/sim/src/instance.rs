//! One instance: the real core and the real Redis session, driven as an adapter drives them, on wires instead of sockets. The
//! order of a turn is that of the mio adapter.

use crate::cluster::Surroundings;
use crate::network::{Read, Side, WireId};
use crate::options::{Options, rng};
use crate::reference::Incarnation;
use crate::timeline::{Happening, Moment};
use crate::trace;
use fanfare_core::broker;
use fanfare_core::broker::redis::{ConnectionRequest, LinkState, RedisSession, Role};
use fanfare_core::time::Time;
use fanfare_core::{Action, Actions, ConnId, Core, Delivery, Event, Turn};
use fanfare_wire::Frame;
use fastrand::Rng;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

#[derive(Debug)]
struct Socket {
    wire: WireId,
    /// It stands on the ready list.
    is_ready: bool,
    /// It took less than it was given.
    is_blocked: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Establishing {
    Waits,
    Done(bool),
    Established,
}

#[derive(Debug)]
struct Link {
    wire: WireId,
    establishing: Establishing,
    is_writable: bool,
}

/// What an adapter needs beside core and session.
#[derive(Debug)]
struct Adapter {
    incarnation: Incarnation,
    /// Where among the instances it stands.
    place: usize,
    sockets: BTreeMap<ConnId, Socket>,
    conns: BTreeMap<WireId, ConnId>,
    ready: VecDeque<ConnId>,
    writable: Vec<ConnId>,
    incoming: VecDeque<WireId>,
    links: [Option<Link>; 2],
    /// Connections of which the core keeps some bytes unread.
    kept: BTreeSet<ConnId>,
    /// Connections that are no more.
    gone: Vec<ConnId>,
    drives_midway: bool,
    /// Its clock has shown more time than has passed.
    has_jumped: bool,
    /// What the core said, in order.
    hash: DefaultHasher,
}

/// An instance.
#[derive(Debug)]
pub struct Instance {
    /// Its number among all that there ever were.
    pub incarnation: Incarnation,
    /// The core under test.
    pub core: Core,
    session: RedisSession,
    adapter: Adapter,
    /// Microseconds by which its clock shows more than the cluster's.
    clock_ahead: u64,
    /// It has no turns before.
    pub paused_until: u64,
    /// It was told to stop.
    pub is_stopping: bool,
    shutdown_due: bool,
    stale_due: bool,
    stale_fed: u64,
    planned: Option<Moment>,
    options: Options,
    rng: Rng,
}

impl Instance {
    /// A new one at this place.
    pub fn new(options: &Options, incarnation: Incarnation, place: usize) -> Instance {
        let mut rng = rng(options.seed, &format!("instance {incarnation}"));
        let (mut core, mut session) = (options.core.clone(), options.session.clone());
        (core.seed, core.node, session.seed) = (rng.u64(..), rng.u64(..), rng.u64(..));
        let (core, session) = (Core::new(core), RedisSession::new(session));
        Instance {
            incarnation,
            core,
            session,
            adapter: Adapter {
                incarnation,
                place,
                sockets: BTreeMap::new(),
                conns: BTreeMap::new(),
                ready: VecDeque::new(),
                writable: Vec::new(),
                incoming: VecDeque::new(),
                links: [None, None],
                kept: BTreeSet::new(),
                gone: Vec::new(),
                drives_midway: options.drives_midway,
                has_jumped: false,
                hash: DefaultHasher::new(),
            },
            // A clock that does not begin at nothing.
            clock_ahead: rng.u64(0..10_000_000_000),
            paused_until: 0,
            is_stopping: false,
            shutdown_due: false,
            stale_due: false,
            stale_fed: 0,
            planned: None,
            options: options.clone(),
            rng,
        }
    }

    /// A connection has arrived: it is taken in the next turn.
    pub fn accept(&mut self, wire: WireId) {
        self.adapter.incoming.push_back(wire);
    }

    /// A wire of a client's has something to read.
    pub fn readable(&mut self, wire: WireId, around: &mut Surroundings<'_>) {
        if let Some(conn) = self.adapter.conns.get(&wire).copied() {
            self.adapter.make_ready(conn);
        }
        self.wake(around);
    }

    /// A wire takes bytes again.
    pub fn writable(&mut self, wire: WireId, around: &mut Surroundings<'_>) {
        if let Some(conn) = self.adapter.conns.get(&wire) {
            self.adapter.writable.push(*conn);
        }
        for link in self.adapter.links.iter_mut().flatten().filter(|link| link.wire == wire) {
            link.is_writable = true;
        }
        self.wake(around);
    }

    /// A connection to Redis is established, or was refused.
    pub fn settled(&mut self, wire: WireId, established: bool, around: &mut Surroundings<'_>) {
        for link in self.adapter.links.iter_mut().flatten().filter(|link| link.wire == wire) {
            link.establishing = Establishing::Done(established);
        }
        self.wake(around);
    }

    /// Its clock jumps ahead by so many microseconds.
    pub fn jump(&mut self, micros: u64) {
        self.clock_ahead += micros;
        self.adapter.has_jumped = true;
    }

    /// It is told to stop.
    pub fn shut_down(&mut self, around: &mut Surroundings<'_>) {
        (self.is_stopping, self.shutdown_due) = (true, true);
        self.wake(around);
    }

    /// Its adapter will report something about connections that are no more, if there were any.
    pub fn report_stale(&mut self, around: &mut Surroundings<'_>) -> bool {
        self.stale_due = true;
        self.wake(around);
        !self.adapter.gone.is_empty()
    }

    /// It has no turn any more.
    pub fn cancel(&mut self, around: &mut Surroundings<'_>) {
        if let Some(planned) = self.planned.take() {
            around.timeline.cancel(planned);
        }
    }

    /// A turn follows soon.
    pub fn wake(&mut self, around: &mut Surroundings<'_>) {
        let turn = self.options.turn.draw(&mut self.rng);
        self.plan(around.timeline.now + turn, around);
    }

    fn plan(&mut self, time: u64, around: &mut Surroundings<'_>) {
        let time = time.max(self.paused_until);
        if self.planned.is_some_and(|(planned, _)| planned <= time && planned >= self.paused_until) {
            return;
        }
        if let Some(planned) = self.planned.take() {
            around.timeline.cancel(planned);
        }
        self.planned = Some(around.timeline.at(time, Happening::Turn(self.adapter.place)));
    }

    /// Established connections to Redis.
    pub fn links(&self) -> Vec<WireId> {
        let links = self.adapter.links.iter().flatten();
        links.filter(|link| link.establishing == Establishing::Established).map(|link| link.wire).collect()
    }

    /// The connection on which it subscribes.
    pub fn subscriber(&self) -> Option<WireId> {
        self.adapter.links[Role::Subscriber as usize].as_ref().map(|link| link.wire)
    }

    /// Whether both connections to Redis are in use.
    pub fn is_ready(&self) -> bool {
        self.core.readiness().is_ok()
    }

    /// All its wires: it is gone, and each of them breaks.
    pub fn wires(&self) -> Vec<WireId> {
        let links = self.adapter.links.iter().flatten().map(|link| link.wire);
        let incoming = self.adapter.incoming.iter().copied();
        links.chain(self.adapter.conns.keys().copied()).chain(incoming).collect()
    }

    /// What its core has said so far.
    pub fn hash(&self) -> u64 {
        self.adapter.hash.finish()
    }

    /// One turn.
    ///
    /// # Errors
    /// If the core does what it must not.
    pub fn turn(&mut self, around: &mut Surroundings<'_>) -> Result<(), String> {
        self.planned = None;
        if around.timeline.now < self.paused_until {
            self.plan(self.paused_until, around);
            return Ok(());
        }
        let now = Time::from_micros(around.timeline.now + self.clock_ahead);
        let Instance { core, session, adapter, options, .. } = self;
        let mut turn = core.turn(now);
        for conn in std::mem::take(&mut adapter.writable) {
            if let Some(socket) = adapter.sockets.get_mut(&conn)
                && std::mem::take(&mut socket.is_blocked)
            {
                turn.feed(Event::Writable { conn });
            }
        }
        if !turn.core().is_congested() {
            adapter.read_redis(session, &mut turn, now, around);
        }
        while let Some(wire) = adapter.incoming.pop_front() {
            match turn.open() {
                Ok(conn) => adapter.insert(conn, wire),
                Err(_) => around.network.close(wire, Side::Far, &mut around.timeline),
            }
        }
        adapter.read_clients(options, &mut turn, around);
        if std::mem::take(&mut self.stale_due) {
            self.stale_fed += adapter.feed_stale(&mut turn, &mut self.rng);
        }
        turn.timeout(|conn| adapter.sockets.get(&conn).is_some_and(|socket| socket.is_ready));
        adapter.note_looked_at(turn.core(), around);
        if std::mem::take(&mut self.shutdown_due) {
            let wires = adapter.conns.keys().copied();
            around.reference.stops(wires, &around.network, around.timeline.now);
            turn.feed(Event::Shutdown);
        }
        adapter.carry_out(turn.finish(), session, now, around);
        adapter.drive(session, now, around);
        core.check_invariants();
        if core.metrics().stale_ids != self.stale_fed {
            return Err(format!("{} stale ids were fed, and counted {}", self.stale_fed, core.metrics().stale_ids));
        }
        self.sleep(now, around);
        Ok(())
    }

    /// Plans the next turn: at once if there is something to do.
    fn sleep(&mut self, now: Time, around: &mut Surroundings<'_>) {
        // What is kept has its turn by the core's own time, and the sockets of these are left alone until then.
        let is_ready = self.adapter.ready.iter().any(|conn| !self.core.keeps_unread(*conn));
        if is_ready || self.session.has_events() {
            return self.wake(around);
        }
        let next = [self.core.next_timeout(), self.session.next_timeout()].into_iter().flatten().min();
        if let Some(next) = next {
            let turn = self.options.turn.draw(&mut self.rng);
            let delay = next.since(now).as_micros() as u64;
            self.plan(around.timeline.now + delay.max(turn), around);
        }
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

    fn make_ready(&mut self, conn: ConnId) {
        if let Some(socket) = self.sockets.get_mut(&conn)
            && !std::mem::replace(&mut socket.is_ready, true)
        {
            self.ready.push_back(conn);
        }
    }

    fn read_redis(
        &mut self,
        session: &mut RedisSession,
        turn: &mut Turn<'_>,
        now: Time,
        around: &mut Surroundings<'_>,
    ) {
        for role in Role::ALL {
            self.establish(role, session, now, around);
            while let Some(wire) = self.established(role) {
                match around.network.read(wire, Side::Near, 64 * 1024, &mut around.timeline) {
                    Read::Bytes(bytes) => {
                        session.input(role, &bytes, now, |event| turn.feed(Event::Broker(event)));
                    }
                    Read::Nothing => break,
                    Read::End => self.lost(role, session, now, around),
                }
            }
        }
        if session.next_timeout().is_some_and(|deadline| deadline <= now) {
            session.timeout(now);
        }
        session.poll_events(|event| turn.feed(Event::Broker(event)));
    }

    fn established(&self, role: Role) -> Option<WireId> {
        let link = self.links[role as usize].as_ref()?;
        (link.establishing == Establishing::Established).then_some(link.wire)
    }

    fn establish(&mut self, role: Role, session: &mut RedisSession, now: Time, around: &mut Surroundings<'_>) {
        let Some(link) = &mut self.links[role as usize] else { return };
        match link.establishing {
            Establishing::Done(true) => {
                link.establishing = Establishing::Established;
                session.connected(role, now);
            }
            Establishing::Done(false) => self.lost(role, session, now, around),
            Establishing::Waits | Establishing::Established => {}
        }
    }

    fn lost(&mut self, role: Role, session: &mut RedisSession, now: Time, around: &mut Surroundings<'_>) {
        self.forget(role, around);
        session.disconnected(role, "it closed the connection", now);
    }

    fn forget(&mut self, role: Role, around: &mut Surroundings<'_>) {
        if let Some(link) = self.links[role as usize].take() {
            trace!(around.trace, around.timeline, "an instance ends wire {} ({role:?})", link.wire);
            around.reference.link_ended_at_instance(link.wire, around.timeline.now);
            around.network.close(link.wire, Side::Near, &mut around.timeline);
        }
    }

    fn read_clients(&mut self, options: &Options, turn: &mut Turn<'_>, around: &mut Surroundings<'_>) {
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

    fn carry_out(
        &mut self,
        mut actions: Actions<'_>,
        session: &mut RedisSession,
        now: Time,
        around: &mut Surroundings<'_>,
    ) {
        now.hash(&mut self.hash);
        let mut asked = false;
        while let Some(action) = actions.next() {
            match action {
                Action::Send(delivery) => {
                    if std::mem::take(&mut asked) && self.drives_midway {
                        self.drive(session, now, around);
                    }
                    self.send(delivery, around);
                }
                Action::Shutdown { conn } => {
                    ("shutdown", conn).hash(&mut self.hash);
                    around.network.shutdown(self.sockets[&conn].wire, Side::Far, &mut around.timeline);
                }
                Action::Close { conn } => {
                    ("close", conn).hash(&mut self.hash);
                    let wire = self.remove(conn).expect("a socket is closed once");
                    around.network.close(wire, Side::Far, &mut around.timeline);
                }
                Action::Ask(broker::Ask::Publish { room, payload, id }) => {
                    ("publish", room, payload, id).hash(&mut self.hash);
                    asked = true;
                    let subscribes = session.stats().subscriber.state == LinkState::Up && !self.has_jumped;
                    let noted = around.reference.handed_on(
                        payload,
                        self.incarnation,
                        subscribes,
                        around.timeline.now,
                        &around.network,
                    );
                    noted.expect("an instance publishes what was sent");
                    session.publish(room, payload, id);
                }
                Action::Ask(broker::Ask::Subscribe { room }) => {
                    ("subscribe", room).hash(&mut self.hash);
                    asked = true;
                    session.subscribe(room);
                }
                Action::Ask(broker::Ask::Unsubscribe { room }) => {
                    ("unsubscribe", room).hash(&mut self.hash);
                    session.unsubscribe(room);
                }
            }
        }
    }

    fn send(&mut self, mut delivery: Delivery<'_>, around: &mut Surroundings<'_>) {
        let bytes = delivery.bytes();
        ("send", bytes).hash(&mut self.hash);
        while let Some(conn) = delivery.next_target() {
            conn.hash(&mut self.hash);
            let socket = self.sockets.get_mut(&conn).expect("no action names a closed socket");
            match around.network.write(socket.wire, Side::Far, bytes, &mut around.timeline) {
                Ok(taken) if taken == bytes.len() => {}
                Ok(taken) => {
                    socket.is_blocked = true;
                    around.short_writes += 1;
                    delivery.short(conn, taken);
                }
                Err(_) => {
                    if let Some(wire) = self.remove(conn) {
                        around.network.close(wire, Side::Far, &mut around.timeline);
                    }
                    delivery.gone(conn);
                }
            }
        }
    }

    /// Opens and drops connections to Redis as the session wants it, and writes what it has to say.
    fn drive(&mut self, session: &mut RedisSession, now: Time, around: &mut Surroundings<'_>) {
        let (place, incarnation) = (self.place, self.incarnation);
        while let Some((role, request)) = session.poll_connection(now) {
            match request {
                ConnectionRequest::Drop => self.forget(role, around),
                ConnectionRequest::Open => {
                    let wire = around.open_link(place, incarnation);
                    trace!(around.trace, around.timeline, "instance {place} opens wire {wire} ({role:?})");
                    if role == Role::Subscriber {
                        around.reference.link_opened(wire, incarnation);
                    }
                    let establishing = Establishing::Waits;
                    self.links[role as usize] = Some(Link { wire, establishing, is_writable: true });
                }
            }
        }
        for role in Role::ALL {
            self.write_link(role, session, now, around);
        }
    }

    fn write_link(&mut self, role: Role, session: &mut RedisSession, now: Time, around: &mut Surroundings<'_>) {
        while let Some(wire) = self.established(role) {
            let link = self.links[role as usize].as_mut().expect("it is established");
            let output = session.output(role);
            if !link.is_writable || output.is_empty() {
                return;
            }
            match around.network.write(wire, Side::Near, output, &mut around.timeline) {
                Ok(taken) => {
                    link.is_writable = taken == output.len();
                    session.written(role, taken);
                }
                Err(_) => return self.lost(role, session, now, around),
            }
        }
    }
}
