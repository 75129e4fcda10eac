//! A broker that keeps histories, and what may happen to it and to the links of the instances.

use super::reader::Lives;
use fanfare_core::broker::envelope::write_stored_header;
use fanfare_core::broker::{Ask, BrokerEvent, PublishError, PublishId, ReadId};
use fanfare_core::history::{Moment, Page, Position, Query, Retention, RoomLog};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// One of an instance's two links.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Link {
    Subscriber,
    Publisher,
}

impl Link {
    pub const ALL: [Link; 2] = [Link::Subscriber, Link::Publisher];
}

/// What an instance asks.
#[derive(Clone, Debug)]
enum Asked {
    Subscribe(String),
    Unsubscribe(String),
    Store(String, Vec<u8>, Retention, Option<PublishId>),
    Read(String, Query, Retention, ReadId),
}

/// What an instance hears.
#[derive(Clone, Debug)]
pub enum Heard {
    Subscribed(String),
    Unsubscribed(String),
    Message(String, Vec<u8>),
    Published(PublishId, Position),
    Unconfirmed(PublishId),
    Read(ReadId, Page),
}

impl Heard {
    pub fn event(&self) -> BrokerEvent<'_> {
        match self {
            Heard::Subscribed(room) => BrokerEvent::Subscribed { room },
            Heard::Unsubscribed(room) => BrokerEvent::Unsubscribed { room },
            Heard::Message(room, payload) => BrokerEvent::Message { room, payload },
            Heard::Published(id, position) => {
                BrokerEvent::Published { id: *id, position: Some(*position), receivers: None }
            }
            Heard::Unconfirmed(id) => BrokerEvent::PublishFailed { id: *id, error: PublishError::Unconfirmed },
            Heard::Read(id, page) => BrokerEvent::Read { id: *id, page },
        }
    }
}

/// What is on its way on one link.
#[derive(Debug, Default)]
struct Wire {
    asked: VecDeque<Asked>,
    heard: VecDeque<Heard>,
}

#[derive(Debug)]
pub struct Broker {
    logs: BTreeMap<String, RoomLog>,
    /// What a replica has.
    replica: BTreeMap<String, RoomLog>,
    incarnation: u64,
    drawn: u64,
    pub now_ms: u64,
    wires: BTreeMap<(usize, Link), Wire>,
    subscribed: BTreeSet<(usize, String)>,
    /// Everything that was ever stored.
    pub lives: Lives,
}

impl Broker {
    pub fn new(instances: usize) -> Broker {
        let links = (0..instances).flat_map(|instance| Link::ALL.map(|link| (instance, link)));
        Broker {
            logs: BTreeMap::new(),
            replica: BTreeMap::new(),
            incarnation: 1,
            drawn: 0,
            now_ms: 0,
            wires: links.map(|link| (link, Wire::default())).collect(),
            subscribed: BTreeSet::new(),
            lives: Lives::default(),
        }
    }

    fn wire(&mut self, instance: usize, link: Link) -> &mut Wire {
        self.wires.get_mut(&(instance, link)).expect("every instance has two")
    }

    pub fn ask(&mut self, instance: usize, ask: Ask<'_>) {
        let (link, asked) = match ask {
            Ask::Subscribe { room } => (Link::Subscriber, Asked::Subscribe(room.to_owned())),
            Ask::Unsubscribe { room } => (Link::Subscriber, Asked::Unsubscribe(room.to_owned())),
            Ask::Publish { room, payload, store, id, .. } => {
                let store = store.expect("all rooms keep history");
                (Link::Publisher, Asked::Store(room.to_owned(), payload.to_vec(), *store.retention, id))
            }
            Ask::Read { room, query, retention, id } => {
                (Link::Publisher, Asked::Read(room.to_owned(), query, retention, id))
            }
            Ask::Present { .. } | Ask::Roster { .. } => panic!("no room has presence"),
            Ask::Fence { .. } => panic!("nobody has to go"),
        };
        self.wire(instance, link).asked.push_back(asked);
    }

    /// Carries out what was asked longest ago.
    pub fn act(&mut self, instance: usize, link: Link) {
        let Some(asked) = self.wire(instance, link).asked.pop_front() else { return };
        self.drawn += 1;
        let incarnation = self.incarnation.to_string();
        let moment = Moment { now_ms: self.now_ms, incarnation: &incarnation, drawn: self.drawn };
        let heard = match asked {
            Asked::Subscribe(room) => {
                self.subscribed.insert((instance, room.clone()));
                Some(Heard::Subscribed(room))
            }
            Asked::Unsubscribe(room) => {
                self.subscribed.remove(&(instance, room.clone()));
                Some(Heard::Unsubscribed(room))
            }
            Asked::Store(room, payload, retention, id) => {
                let log = self.logs.entry(room.clone()).or_default();
                let before = log.clone();
                let stored = log.store(&moment, &retention, None, &payload).expect("there is no key");
                self.lives.stored(&room, &before, stored.position, &payload);
                let mut published = Vec::new();
                write_stored_header(&mut published, stored.position);
                published.extend_from_slice(&payload);
                self.publish(&room, &published);
                id.map(|id| Heard::Published(id, stored.position))
            }
            Asked::Read(room, query, retention, id) => {
                let log = self.logs.entry(room.clone()).or_default();
                let before = log.clone();
                let page = log.read(&moment, &retention, &query);
                self.lives.began(&room, &before, page.last);
                Some(Heard::Read(id, page))
            }
        };
        self.wire(instance, link).heard.extend(heard);
    }

    fn publish(&mut self, room: &str, payload: &[u8]) {
        let instances: Vec<usize> =
            self.subscribed.iter().filter(|(_, of)| of == room).map(|(instance, _)| *instance).collect();
        for instance in instances {
            self.wire(instance, Link::Subscriber).heard.push_back(Heard::Message(room.to_owned(), payload.to_vec()));
        }
    }

    /// Somebody publishes who knows nothing of histories.
    pub fn publish_foreign(&mut self, room: &str) {
        self.publish(room, b"foreign");
    }

    pub fn hear(&mut self, instance: usize, link: Link) -> Option<Heard> {
        self.wire(instance, link).heard.pop_front()
    }

    /// All that is on the link is lost. What the instance is told of it.
    pub fn break_link(&mut self, instance: usize, link: Link) -> Vec<Heard> {
        let wire = std::mem::take(self.wire(instance, link));
        if link == Link::Subscriber {
            self.subscribed.retain(|(of, _)| *of != instance);
        }
        let asked = wire.asked.into_iter().filter_map(|asked| match asked {
            Asked::Store(.., id) => id,
            _ => None,
        });
        let answered = wire.heard.into_iter().filter_map(|heard| match heard {
            Heard::Published(id, _) => Some(id),
            _ => None,
        });
        answered.chain(asked).map(Heard::Unconfirmed).collect()
    }

    /// The replica has all until now.
    pub fn replicate(&mut self) {
        self.replica = self.logs.clone();
    }

    /// It takes the place of its master.
    pub fn fail_over(&mut self) {
        self.logs = self.replica.clone();
        self.incarnation += 1;
    }

    /// All data are lost.
    pub fn forget_all(&mut self) {
        self.logs.clear();
    }

    /// One of the messages on their way is lost.
    pub fn skip(&mut self, instance: usize, which: usize) {
        let heard = &mut self.wire(instance, Link::Subscriber).heard;
        let messages = (0..heard.len()).filter(|index| matches!(heard[*index], Heard::Message(..)));
        if let Some(index) = messages.clone().nth(which % messages.count().max(1)) {
            heard.remove(index);
        }
    }

    /// One of them comes again.
    pub fn repeat(&mut self, instance: usize, which: usize) {
        let heard = &mut self.wire(instance, Link::Subscriber).heard;
        if let Some(message @ Heard::Message(..)) = heard.get(which).cloned() {
            heard.push_back(message);
        }
    }

    /// The room's last message; `None` where nothing was ever stored or read.
    pub fn last(&self, room: &str) -> Option<Position> {
        self.logs.get(room)?.position()
    }
}
