//! The reference: what was sent, in which order Redis took it, which instance was given what, and so what every member must
//! get and must not get. Views of single connections are in `view`.
//!
//! Exactly one loss without a word is allowed: that of a message which Redis was given while it held no subscription of the
//! member's instance, between the end of one subscribing connection and the subscription of the room on the next, or which
//! was on its way on such a connection when it ended. What an instance has read, its members get.

pub mod leaving;
mod sent;
mod slotted;

pub use sent::{Sent, Told};

use crate::hooks::Decided;
use crate::lives::Lives;
use crate::network::{Network, Side, WireId};
use fanfare_core::history::{Position, Retention};
use std::collections::{BTreeMap, BTreeSet};

/// The names of the rooms; a seed uses the first so many. From the seventh on they are for seeds in which clients are asked who they are.
pub const ROOMS: [&str; 16] = [
    "tea",
    "a b",
    "caf\u{e9}",
    "\"quoted\\\"",
    "x",
    "\u{1f600}/?&",
    "user:%2A",
    "user:a%3Ab",
    "user:%7Buser%7D",
    "user:%C3%A9",
    "user:bob",
    "dm:%2A:bob",
    "dm:bob:%C3%A9",
    "user:bob:x",
    "team:1",
    "team:2",
];

/// Microseconds for which a message waits for the SUBSCRIBE before it, at least.
const PATIENCE: u64 = 5_000_000;

/// An instance from its start to its end; the next one in its place has another number.
pub type Incarnation = u32;

/// Who wrote a message, and its number there; foreign ones have no client.
pub type Key = (Option<usize>, u64);

/// What became of one message on its way to one instance.
#[derive(Clone, Debug, Default)]
struct Fate {
    /// Redis wrote it to these connections; the place in each one's stream behind it.
    sent: Vec<(WireId, u64)>,
    /// Redis held no subscription of the room on the instance's present connection, and had held one before.
    unheld: bool,
}

#[derive(Clone, Debug)]
struct Logged {
    key: Key,
    /// The server that passes it on to all others, in a Cluster.
    origin: Origin,
    fates: BTreeMap<Incarnation, Fate>,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    /// The place in the stream behind the confirmation.
    confirmed: u64,
    /// When Redis ended it because it was asked to.
    until: Option<u64>,
    /// The place in the stream behind the word that Redis has ended it unasked.
    withdrawn: Option<u64>,
    /// The read in which the instance has said that the room's subscription is lost.
    lost: Option<u64>,
    /// The instance has said that it has read the confirmation. In a Cluster one may come that it has given up before.
    is_known: bool,
}

impl Held {
    /// When it was over for the instance: at once if it has asked, and else when it had read that.
    fn over_at(&self, wire: WireId, network: &Network) -> Option<u64> {
        let withdrawn = self.withdrawn.and_then(|place| network.read_at(wire, place)).map(|read| read.time);
        self.until.or(withdrawn)
    }
}

#[derive(Clone, Debug)]
struct Link {
    incarnation: Incarnation,
    /// Every subscription there ever was on it.
    rooms: BTreeMap<usize, Vec<Held>>,
    at_redis: bool,
    ended_at_instance: Option<u64>,
}

/// Whether a member of an instance is owed a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owed {
    /// The instance has read it.
    Yes,
    /// It was lost with a connection to Redis, or is on its way.
    No,
    /// Redis did not send it although nothing had happened to the connection: the instance gave the room up.
    GivenUp,
}

/// How far an instance has read its subscribing connections: the last read among all. None before it has any.
pub type Place = Option<u64>;

/// The same in that read: the number of the read, and a place in its connection. None: behind nothing.
pub type ReadTo = Option<(u64, u64)>;

/// The server through which a message came to the others. What one server passes on stays in order; everywhere but in a Cluster it is one.
pub type Origin = usize;

/// Everything that was sent and published.
#[derive(Debug)]
pub struct Reference {
    rooms: Vec<Vec<Logged>>,
    sent: BTreeMap<Key, Sent>,
    links: BTreeMap<WireId, Link>,
    /// The newest of each instance.
    newest: BTreeMap<Incarnation, WireId>,
    /// Redis is a Cluster.
    is_slotted: bool,
    /// What instances have read of each client's wire so far, and how far each had read Redis by then.
    client_reads: BTreeMap<WireId, Vec<(u64, Place)>>,
    /// Wires of which an instance has read more than it has looked at.
    kept: BTreeSet<WireId>,
    /// When the instance of a client's wire was told to stop, and how far it had read by then.
    stops: BTreeMap<WireId, (u64, u64)>,
    /// When the instance of a client's wire was told to let it go.
    leaves: BTreeMap<WireId, leaving::Leave>,
    /// The number of the last message of a session to a room over one publishing connection. What is stored and what is not may overtake
    /// each other where Redis has forgotten the scripts.
    last_published: BTreeMap<(WireId, u64, usize, bool), u64>,
    /// What is stored.
    pub lives: Lives,
    /// Removals of which clients have been told, and by which instance.
    removals_told: Vec<(Incarnation, usize, Position)>,
    /// Messages in all rooms.
    pub published_total: u64,
}

impl Reference {
    /// Nothing has been sent. How much each room keeps, if anything, and whether it waits for the replica.
    pub fn new(kept: &[Option<Retention>], waits: &[bool]) -> Reference {
        Reference {
            rooms: vec![Vec::new(); kept.len()],
            sent: BTreeMap::new(),
            links: BTreeMap::new(),
            newest: BTreeMap::new(),
            is_slotted: false,
            client_reads: BTreeMap::new(),
            kept: BTreeSet::new(),
            stops: BTreeMap::new(),
            leaves: BTreeMap::new(),
            last_published: BTreeMap::new(),
            lives: Lives::new(kept, waits),
            removals_told: Vec::new(),
            published_total: 0,
        }
    }

    /// The same where Redis is a Cluster.
    pub fn slotted(self) -> Reference {
        Reference { is_slotted: true, ..self }
    }

    /// Whether Redis is a Cluster.
    pub fn is_slotted(&self) -> bool {
        self.is_slotted
    }

    /// The place of a room's name.
    pub fn room(name: &str) -> Result<usize, String> {
        ROOMS.iter().position(|room| *room == name).ok_or_else(|| format!("there is no room {name:?}"))
    }

    /// How many messages the room has had.
    pub fn len(&self, room: usize) -> usize {
        self.rooms[room].len()
    }

    /// Which message stands there.
    pub fn key(&self, room: usize, index: usize) -> Key {
        self.rooms[room][index].key
    }

    /// The server through which that message came.
    pub fn origin(&self, room: usize, index: usize) -> Origin {
        self.rooms[room][index].origin
    }

    /// What is known of a message.
    pub fn sent(&self, key: Key) -> Option<&Sent> {
        self.sent.get(&key)
    }

    /// A client is told of a removal by an instance: from now on that knows of it.
    pub fn removal_told(&mut self, incarnation: Option<Incarnation>, room: usize, at: Position) {
        self.removals_told.extend(incarnation.map(|incarnation| (incarnation, room, at)));
    }

    /// How many have been told.
    pub fn removals_told(&self) -> usize {
        self.removals_told.len()
    }

    /// Whether what stands at this place is removed by one of the first so many of those that this instance has told.
    pub fn knew_removed(&self, first: usize, incarnation: Option<Incarnation>, room: usize, place: Position) -> bool {
        self.removals_told[..first].iter().any(|(of, in_room, at)| {
            let is_known = Some(*of) == incarnation && *in_room == room;
            // In an epoch that does not go on from that one, something else may stand there.
            let there = self.lives.entry(room, Position { epoch: place.epoch, ..*at });
            let is_same =
                || there.zip(self.lives.entry(room, *at)).is_some_and(|(one, other)| std::ptr::eq(one, other));
            is_known && is_same() && self.lives.is_removed_at(room, place, at.offset)
        })
    }

    /// Where a message is stored, if it is.
    pub fn place_of(&self, key: Key) -> Option<Position> {
        let room = self.sent.get(&key)?.room;
        if self.lives.keeps(room) { self.lives.place(room, key) } else { None }
    }

    /// A session says that a message is published, and where it is stored: the replica has it, where its room waits for that.
    ///
    /// # Errors
    /// If it is not so.
    pub fn check_published(&self, key: Key, place: Option<Position>) -> Result<(), String> {
        let sent = self.sent.get(&key).filter(|sent| sent.published.is_some());
        let sent = sent.ok_or_else(|| format!("{key:?} is said to be published, and was not"))?;
        let stored = self.place_of(key);
        if stored != place {
            return Err(format!("{key:?} is stored at {stored:?}, and said to be at {place:?}"));
        }
        let waits = self.lives.waits(sent.room);
        if place.is_some_and(|place| waits && !self.lives.is_replicated(sent.room, place)) {
            return Err(format!("{key:?} is said to be published, and the replica has not had it"));
        }
        Ok(())
    }

    /// All messages.
    pub fn all_sent(&self) -> impl Iterator<Item = (&Key, &Sent)> {
        self.sent.iter()
    }

    /// Somebody sends a message.
    pub fn send(&mut self, key: Key, sent: Sent) {
        assert!(self.sent.insert(key, sent).is_none(), "messages are numbered");
    }

    /// What a client says ends there with a message.
    pub fn sent_to(&mut self, key: Key, wire: WireId, end: u64) {
        self.sent.get_mut(&key).expect("it has been sent").behind = Some((wire, end));
    }

    /// An instance hands a message to its session with Redis; with `subscribes`, that can subscribe.
    ///
    /// # Errors
    /// If nobody has sent it.
    pub fn handed_on(
        &mut self,
        payload: &[u8],
        incarnation: Incarnation,
        subscribes: bool,
        now: u64,
        network: &Network,
    ) -> Result<Key, String> {
        let key = Reference::key_of(&String::from_utf8_lossy(payload))?;
        let sent = self.sent.get(&key).ok_or_else(|| format!("{key:?} was never sent"))?;
        let is_early = subscribes
            && now < sent.at + PATIENCE
            && sent.joining_since.is_some_and(|since| !self.was_held(incarnation, sent.room, since, network));
        let sent = self.sent.get_mut(&key).expect("found above");
        (sent.is_early, sent.handed_at) = (is_early, now);
        Ok(key)
    }

    /// Whether a message overtook the SUBSCRIBE before it, provided that this was not undone in the meantime.
    pub fn is_early(&self, key: Key) -> bool {
        self.sent.get(&key).is_some_and(|sent| sent.is_early)
    }

    /// Somebody decides about a message. What is altered is another message from here on.
    ///
    /// # Errors
    /// Nobody has sent it, or not so.
    pub fn decide(&mut self, json: &str) -> Result<Decided, String> {
        let key = Reference::key_of(json)?;
        let sent = self.sent.get_mut(&key).filter(|sent| sent.json == json);
        let sent = sent.ok_or_else(|| format!("asked about {json}, which nobody has sent"))?;
        let decided = Decided::about(key, json, sent.can_be_refused);
        match &decided {
            Decided::Altered(altered) => sent.json.clone_from(altered),
            Decided::Refused | Decided::Undecided => sent.is_refused = true,
            Decided::Allowed => {}
        }
        Ok(decided)
    }

    /// Whether a message of this connection to this room was refused.
    pub fn has_refused(&self, session: u64, room: usize) -> bool {
        self.sent.values().any(|sent| sent.is_refused && (sent.session, sent.room) == (session, room))
    }

    /// It is known who has sent a message.
    pub fn signed(&mut self, key: Key, from: Option<&'static str>) {
        self.sent.get_mut(&key).expect("it has been sent").from = from;
    }

    /// Messages that an instance has read to their ends, and did not publish.
    pub fn unpublished(&self) -> impl Iterator<Item = (&Key, &Sent)> {
        self.sent.iter().filter(|(_, sent)| {
            let is_read = |(wire, end): (WireId, u64)| {
                self.client_reads.get(&wire).and_then(|reads| reads.last()).is_some_and(|(total, _)| *total >= end)
            };
            sent.published.is_none() && sent.behind.is_some_and(is_read)
        })
    }

    /// The text by which a message is known everywhere.
    pub fn text(key: Key, room: usize, padding: usize) -> String {
        let author = key.0.map_or("f".to_owned(), |client| client.to_string());
        format!("m|{author}|{}|{room}|{}", key.1, "x".repeat(padding))
    }

    /// Finds a message in the text of one.
    pub fn key_of(text: &str) -> Result<Key, String> {
        let parse = || {
            let mut fields = text[text.find("m|")?..].split('|').skip(1);
            let author = match fields.next()? {
                "f" => None,
                client => Some(client.parse().ok()?),
            };
            Some((author, fields.next()?.parse().ok()?))
        };
        parse().ok_or_else(|| format!("no message that anybody has sent: {text}"))
    }

    /// A sender hears what became of its message.
    ///
    /// # Errors
    /// If that is not so.
    pub fn told(&mut self, key: Key, told: Told) -> Result<(), String> {
        let sent = self.sent.get_mut(&key).ok_or_else(|| format!("{key:?} was never sent"))?;
        match (told, sent.published) {
            (Told::Acked, None) => return Err(format!("{key:?} is acknowledged and was not published")),
            (Told::Refused, Some(_)) => return Err(format!("{key:?} is said not to be published, and was")),
            _ => sent.told = told,
        }
        Ok(())
    }

    /// Redis took a message and wrote it to these connections. Returns its number in its room.
    ///
    /// # Errors
    /// If it should not have been published, or not so, or not now.
    pub fn published(
        &mut self,
        (publisher, origin): (Option<WireId>, Origin),
        room: &str,
        payload: &[u8],
        to: &[(WireId, u64)],
        network: &Network,
    ) -> Result<usize, String> {
        let payload = std::str::from_utf8(payload).map_err(|error| error.to_string())?;
        let (key, room_name, room) = (Reference::key_of(payload)?, room, Reference::room(room)?);
        let sent = self.sent.get_mut(&key).ok_or_else(|| format!("{key:?} was never sent: {payload}"))?;
        // What a publisher of another kind sends need not be JSON.
        let text = if key.0.is_some() { &sent.json } else { sent.json.trim_matches('"') };
        let is_stored = payload.starts_with("F2 ");
        if sent.room != room || !payload.contains(text) || is_stored != sent.stores {
            return Err(format!("published to {room_name} is {payload}, and sent was {sent:?}"));
        }
        if sent.published.is_some() || sent.told == Told::Refused || sent.is_refused {
            return Err(format!("{key:?} is published, and before: {:?}, {:?}", sent.published, sent.told));
        }
        sent.published = Some(self.rooms[room].len());
        let session = sent.session;
        if let Some(publisher) = publisher {
            let of = (publisher, session, room, is_stored);
            let before = self.last_published.get(&of).copied();
            self.last_published.insert(of, before.map_or(key.1, |before| before.max(key.1)));
            if let Some(before) = before.filter(|before| *before >= key.1)
                && !self.may_overtake((key.0, before), key, publisher, network)
            {
                return Err(format!("{key:?} is published behind the sender's own {before}"));
            }
        }
        self.published_total += 1;
        let index = self.rooms[room].len();
        self.rooms[room].push(Logged { key, origin, fates: BTreeMap::new() });
        let fates = &mut self.rooms[room][index].fates;
        for (incarnation, wire) in &self.newest {
            let link = &self.links[wire];
            let last = link.rooms.get(&room).and_then(|held| held.last());
            let unheld = link.at_redis && last.is_some_and(|held| held.until.is_some());
            // Of several connections of one instance any may hold the room.
            if unheld && !self.is_slotted {
                fates.insert(*incarnation, Fate { sent: Vec::new(), unheld });
            }
        }
        self.passed_on((room, index), to)?;
        Ok(index)
    }

    /// An instance opens a connection to subscribe with.
    pub fn link_opened(&mut self, wire: WireId, incarnation: Incarnation) {
        let link = Link { incarnation, rooms: BTreeMap::new(), at_redis: true, ended_at_instance: None };
        self.links.insert(wire, link);
        self.newest.insert(incarnation, wire);
    }

    /// It ends for the instance.
    pub fn link_ended_at_instance(&mut self, wire: WireId, now: u64) {
        if let Some(link) = self.links.get_mut(&wire) {
            link.ended_at_instance.get_or_insert(now);
        }
    }

    /// It ends for Redis.
    pub fn link_ended_at_redis(&mut self, wire: WireId) {
        if let Some(link) = self.links.get_mut(&wire) {
            link.at_redis = false;
        }
    }

    /// What Redis says on it from now on cannot be understood.
    pub fn link_poisoned(&mut self, wire: WireId) {
        self.link_ended_at_redis(wire);
    }

    /// Redis subscribes the connection; the confirmation ends there in its stream.
    ///
    /// # Errors
    /// If it is none that subscribes.
    pub fn subscribed(&mut self, wire: WireId, room: &str, confirmed: u64) -> Result<(), String> {
        let link = self.links.get_mut(&wire).ok_or("a publishing connection subscribes")?;
        let held = Held { confirmed, until: None, withdrawn: None, lost: None, is_known: false };
        link.rooms.entry(Reference::room(room)?).or_default().push(held);
        Ok(())
    }

    /// Redis ends a subscription.
    ///
    /// # Errors
    /// If it is none that subscribes.
    pub fn unsubscribed(&mut self, wire: WireId, room: &str, now: u64) -> Result<(), String> {
        let link = self.links.get_mut(&wire).ok_or("a publishing connection unsubscribes")?;
        if let Some(held) = link.rooms.get_mut(&Reference::room(room)?).and_then(|held| held.last_mut()) {
            held.until = Some(now);
        }
        Ok(())
    }

    /// Whether the instance could know, at some time since `asked_at`, that Redis held the room for it.
    pub fn was_held(&self, incarnation: Incarnation, room: usize, asked_at: u64, network: &Network) -> bool {
        self.links.iter().filter(|(_, link)| link.incarnation == incarnation).any(|(wire, link)| {
            link.ended_at_instance.is_none_or(|at| at >= asked_at)
                && link.rooms.get(&room).into_iter().flatten().any(|held| {
                    held.over_at(*wire, network).is_none_or(|at| at >= asked_at)
                        && held.confirmed <= network.read_total(*wire, Side::Near)
                })
        })
    }

    /// An instance has read something that a client says, and looked at all that it has read.
    pub fn client_read(&mut self, wire: WireId, incarnation: Incarnation, network: &Network) {
        let place = self.place(incarnation, network);
        self.kept.remove(&wire);
        self.client_reads.entry(wire).or_default().push((network.read_total(wire, Side::Far), place));
    }

    /// An instance has read something, and keeps some of it unread.
    pub fn client_kept(&mut self, wire: WireId) {
        self.kept.insert(wire);
    }

    /// How far the instance has looked at what a client says, at least.
    fn looked_at(&self, wire: WireId, network: &Network) -> u64 {
        let last = || self.client_reads.get(&wire).and_then(|reads| reads.last()).map_or(0, |(total, _)| *total);
        if self.kept.contains(&wire) { last() } else { network.read_total(wire, Side::Far) }
    }

    /// The instance of these wires is told to stop.
    pub fn stops(&mut self, wires: impl Iterator<Item = WireId>, network: &Network, now: u64) {
        let stops: Vec<_> = wires.map(|wire| (wire, (now, self.looked_at(wire, network)))).collect();
        self.stops.extend(stops);
    }

    /// When the instance of this wire was told to stop, and how far it had read by then.
    pub fn stop_of(&self, wire: WireId) -> Option<(u64, u64)> {
        self.stops.get(&wire).copied()
    }

    /// The first message of the room that whoever was told SUBSCRIBED is owed; `asked` is the place behind its request in what it
    /// says. Both the request and the broker's confirmation stand before it in what the instance has read.
    ///
    /// Of several confirmations that the instance has read by now the last counts: which of them it was that made the
    /// client a member cannot be told from outside.
    pub fn owed_from(
        &self,
        room: usize,
        incarnation: Incarnation,
        asked: (WireId, u64),
        network: &Network,
    ) -> Result<(usize, ReadTo), String> {
        let request = self.request_of(incarnation, asked, network)?;
        Ok(self.owed_behind(room, incarnation, request, network))
    }

    /// How far the instance had read when it read a request, of which `asked` is the end.
    fn request_of(&self, incarnation: Incarnation, asked: (WireId, u64), network: &Network) -> Result<Place, String> {
        let reads = self.client_reads.get(&asked.0).map_or(&[][..], Vec::as_slice);
        Ok(match reads.iter().find(|(total, _)| *total >= asked.1) {
            Some((_, request)) => *request,
            // It is among what has been looked at since, of which only the end is known.
            None if self.kept.contains(&asked.0) => self.place(incarnation, network),
            None => return Err("the request has not been read".to_owned()),
        })
    }

    /// Whether the instance has read this message, each time that it came, behind a request, of which `asked` is the end.
    pub fn is_read_behind(
        &self,
        (room, index): (usize, usize),
        incarnation: Incarnation,
        asked: (WireId, u64),
        network: &Network,
    ) -> bool {
        let Ok(request) = self.request_of(incarnation, asked, network) else { return false };
        let sent = self.rooms[room][index].fates.get(&incarnation).into_iter().flat_map(|fate| &fate.sent);
        let mut read = sent.filter_map(|(wire, behind)| network.read_at(*wire, *behind)).peekable();
        read.peek().is_some() && read.all(|read| request.is_none_or(|request| read.number > request))
    }

    /// The same for a request that came when the instance had read so far.
    pub fn owed_behind(
        &self,
        room: usize,
        incarnation: Incarnation,
        request: Place,
        network: &Network,
    ) -> (usize, ReadTo) {
        let links = self.links.iter().filter(|(_, link)| link.incarnation == incarnation);
        let confirmations = links.flat_map(|(wire, link)| {
            let held = link.rooms.get(&room).into_iter().flatten();
            held.filter_map(|held| Some((network.read_at(*wire, held.confirmed)?.number, held.confirmed)))
        });
        let from = confirmations.max().max(request.map(|number| (number, u64::MAX)));
        // What has not been read may be, unless the connection is no more.
        let is_later = |(wire, behind): &(WireId, u64)| match network.read_at(*wire, *behind) {
            Some(read) => Some((read.number, *behind)) > from,
            None => self.links[wire].ended_at_instance.is_none(),
        };
        let is_behind =
            |logged: &Logged| logged.fates.get(&incarnation).is_some_and(|fate| fate.sent.iter().any(is_later));
        (self.rooms[room].iter().position(is_behind).unwrap_or(self.len(room)), from)
    }

    /// How far the instance has read.
    pub fn place(&self, incarnation: Incarnation, network: &Network) -> Place {
        self.newest.get(&incarnation)?;
        Some(network.reads())
    }

    /// Whether the subscription by which a message came was lost for the instance before it had read it.
    fn is_lost(&self, wire: WireId, room: usize, behind: u64, read: u64) -> bool {
        let mut held = self.links.get(&wire).and_then(|link| link.rooms.get(&room)).into_iter().flatten();
        let held = held.rfind(|held| held.confirmed < behind);
        held.is_some_and(|held| held.lost.is_some_and(|lost| lost <= read) || self.is_slotted && !held.is_known)
    }

    /// Whether members of the instance are owed this message, once it has read as far as `until`, or by now.
    pub fn owed(
        &self,
        (room, index): (usize, usize),
        incarnation: Incarnation,
        (from, until): (ReadTo, Option<Place>),
        network: &Network,
    ) -> Owed {
        let Some(fate) = self.rooms[room][index].fates.get(&incarnation) else { return Owed::No };
        let is_read = |(wire, behind): &(WireId, u64)| {
            let Some(read) = network.read_at(*wire, *behind) else { return false };
            let is_lost = self.is_lost(*wire, room, *behind, read.number);
            !is_lost && until.is_none_or(|until| until.is_some_and(|until| read.number <= until))
        };
        // Of a message that comes by several connections the first copy counts, or whichever.
        let was_read = |(wire, behind): &(WireId, u64)| {
            network.read_at(*wire, *behind).is_some_and(|read| Some((read.number, *behind)) <= from)
        };
        if self.is_slotted && fate.sent.iter().any(was_read) {
            Owed::No
        } else if fate.sent.iter().any(is_read) {
            Owed::Yes
        } else if fate.sent.is_empty() && fate.unheld {
            Owed::GivenUp
        } else {
            Owed::No
        }
    }
}
