//! The embedded broker of several workers: which of them is subscribed to a room, and an inbox for each. A lock is held no
//! longer than it takes to copy a message, and nobody waits for a reader.

use fanfare_adapter::drive::MEMORY_BYTES_PER_TURN;
use fanfare_adapter::time::unix_ms;
use fanfare_core::broker::memory::{Inbox, Logs, Rosters};
use fanfare_core::broker::{Ask, BrokerEvent, PresenceId, PublishError, PublishId, Store, envelope};
use fanfare_core::history::StoredAt;
use fanfare_core::presence::name_of;
use mio::Waker;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// So many that workers busy with different rooms seldom meet.
const SHARDS: usize = 64;
/// What may wait for a worker; while more does, publishes to rooms with members there are refused. At 100 MB a second it is a
/// sixth of a second behind by then. What it is reading may be as much again, and as others look before they add, each of
/// them may go beyond by one message.
const INBOX_BYTES_MAX: usize = 16 * 1024 * 1024;

/// From so much on, workers read no clients that make much work, so that others find room.
const INBOX_BYTES_PRESSING: usize = INBOX_BYTES_MAX / 4;

/// A bit for each worker that is subscribed.
type Subscribers = u64;

/// Rooms to which any worker is subscribed.
type Rooms = HashMap<Box<str>, Subscribers>;

/// What the workers share. Locks are taken in this order: a shard of the rooms, the histories or the rosters, then one inbox at a time. So
/// all workers get the messages of one room in one order, and those that are stored in the order of their offsets.
#[derive(Debug)]
pub struct Exchange {
    shards: Box<[Mutex<Rooms>]>,
    /// One budget for all rooms, so one lock; only messages that are stored need it.
    histories: Mutex<Logs>,
    rosters: Mutex<Rosters>,
    hasher: RandomState,
    mailboxes: Box<[Mailbox]>,
}

/// Where a worker is told what it has to hear.
#[derive(Debug, Default)]
struct Mailbox {
    mail: Mutex<Mail>,
    /// [`Inbox::size_bytes`], for looking at it without the lock.
    size_bytes: AtomicUsize,
    waker: OnceLock<Arc<Waker>>,
}

#[derive(Debug, Default)]
struct Mail {
    inbox: Inbox,
    /// Its worker has ended.
    closed: bool,
}

/// A worker's end of the exchange.
#[derive(Debug)]
pub struct ExchangeLink {
    exchange: Arc<Exchange>,
    worker: usize,
    /// What was in the inbox when it was last looked at, and is being reported.
    reading: Inbox,
    started: bool,
    publishes_dropped: u64,
    /// For one payload that is made here.
    payload: Vec<u8>,
}

impl Exchange {
    /// An exchange for this number of workers, at most 64.
    pub fn new(workers: usize, histories: Logs, rosters: Rosters) -> Exchange {
        assert!(workers <= Subscribers::BITS as usize, "a bit for each worker");
        Exchange {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            histories: Mutex::new(histories),
            rosters: Mutex::new(rosters),
            hasher: RandomState::new(),
            mailboxes: (0..workers).map(|_| Mailbox::default()).collect(),
        }
    }

    fn rooms(&self, room: &str) -> MutexGuard<'_, Rooms> {
        locked(&self.shards[self.hasher.hash_one(room) as usize % SHARDS])
    }

    fn is_any_full(&self, subscribers: Subscribers) -> bool {
        workers(subscribers).any(|worker| self.mailboxes[worker].is_full())
    }

    /// Adds an event to the inboxes of these. Returns which of them may be asleep.
    fn tell(&self, subscribers: Subscribers, event: BrokerEvent<'_>) -> Subscribers {
        let is_woken = |worker: &usize| self.mailboxes[*worker].add(|inbox| inbox.push(event));
        workers(subscribers).filter(is_woken).fold(0, |asleep, worker| asleep | 1 << worker)
    }

    fn wake(&self, asleep: Subscribers) {
        for worker in workers(asleep) {
            if let Some(waker) = self.mailboxes[worker].waker.get()
                && let Err(error) = waker.wake()
            {
                // It hears of the message in its next turn, whatever that is for.
                tracing::error!(%error, worker, "cannot wake a worker");
            }
        }
    }
}

impl Mailbox {
    /// Adds what is pushed. Returns whether the worker may be asleep, and has to be woken.
    fn add(&self, push: impl FnOnce(&mut Inbox)) -> bool {
        let mut mail = locked(&self.mail);
        if mail.closed {
            return false;
        }
        let was_empty = mail.inbox.is_empty();
        push(&mut mail.inbox);
        self.size_bytes.store(mail.inbox.size_bytes(), Release);
        was_empty
    }

    fn is_full(&self) -> bool {
        self.size_bytes.load(Acquire) >= INBOX_BYTES_MAX
    }
}

impl ExchangeLink {
    /// The end of this worker, which is woken when others have something for it. Each worker has one.
    pub fn new(exchange: Arc<Exchange>, worker: usize, waker: Arc<Waker>) -> ExchangeLink {
        let before = exchange.mailboxes[worker].waker.set(waker);
        assert!(before.is_ok(), "a worker has one end");
        ExchangeLink {
            exchange,
            worker,
            reading: Inbox::default(),
            started: false,
            publishes_dropped: 0,
            payload: Vec::new(),
        }
    }

    /// Takes an `Action::Ask`.
    pub fn ask(&mut self, ask: Ask<'_>) {
        match ask {
            Ask::Subscribe { room } => self.subscribe(room),
            Ask::Unsubscribe { room } => self.unsubscribe(room),
            Ask::Publish { room, payload, store, id, .. } => self.publish(room, payload, store, id),
            Ask::Read { room, query, retention, id } => {
                // What is stored after this is reported after it: the page goes into the inbox under the room's lock.
                let rooms = self.exchange.rooms(room);
                let page = locked(&self.exchange.histories).read(unix_ms(), room, &retention, &query);
                self.own().add(|inbox| inbox.push(BrokerEvent::Read { id, page: &page }));
                drop(rooms);
            }
            Ask::Present { room, user, info, connections, id } => self.present(room, (user, info), connections, id),
            Ask::Roster { room, id, .. } => {
                // What changes after this is reported after it, as for a read.
                let rooms = self.exchange.rooms(&name_of(room));
                let page = locked(&self.exchange.rosters).read(room);
                self.own().add(|inbox| inbox.push(BrokerEvent::Roster { id, page: &page }));
                drop(rooms);
            }
            // Whatever any worker has published by now to a room that is subscribed to here is in this inbox already.
            Ask::Fence { id } => drop(self.own().add(|inbox| inbox.push(BrokerEvent::Fenced { id }))),
        }
    }

    /// What changes is told to all workers that want to know, or nothing is done.
    fn present(&mut self, room: &str, of: (&str, &str), connections: u32, id: PresenceId) {
        let (exchange, name) = (&*self.exchange, name_of(room));
        let rooms = exchange.rooms(&name);
        let subscribers = rooms.get(&*name).copied().unwrap_or(0);
        if exchange.is_any_full(subscribers) {
            drop(rooms);
            self.own().add(|inbox| inbox.push(BrokerEvent::PresenceFailed { id, passes: true }));
            return;
        }
        self.payload.clear();
        let connections = locked(&exchange.rosters).set(self.worker as u16, room, of, connections, &mut self.payload);
        let hearers = if self.payload.is_empty() { 0 } else { subscribers };
        let asleep = exchange.tell(hearers, BrokerEvent::Message { room: &name, payload: &self.payload });
        self.own().add(|inbox| inbox.push(BrokerEvent::PresenceKept { id, connections }));
        drop(rooms);
        exchange.wake(asleep & !(1 << self.worker));
    }

    fn subscribe(&mut self, room: &str) {
        let mut rooms = self.exchange.rooms(room);
        match rooms.get_mut(room) {
            Some(subscribers) => *subscribers |= 1 << self.worker,
            None => drop(rooms.insert(room.into(), 1 << self.worker)),
        }
        self.own().add(|inbox| inbox.push(BrokerEvent::Subscribed { room }));
    }

    fn unsubscribe(&mut self, room: &str) {
        let mut rooms = self.exchange.rooms(room);
        if let Some(subscribers) = rooms.get_mut(room) {
            *subscribers &= !(1 << self.worker);
            if *subscribers == 0 {
                rooms.remove(room);
            }
        }
        self.own().add(|inbox| inbox.push(BrokerEvent::Unsubscribed { room }));
    }

    /// The message goes to all who are subscribed, or to none.
    fn publish(&mut self, room: &str, payload: &[u8], store: Option<Store<'_>>, id: Option<PublishId>) {
        let exchange = &*self.exchange;
        let rooms = exchange.rooms(room);
        let subscribers = rooms.get(room).copied().unwrap_or(0);
        if exchange.is_any_full(subscribers) {
            drop(rooms);
            match id {
                Some(id) => {
                    let error = PublishError::Busy;
                    self.own().add(|inbox| inbox.push(BrokerEvent::PublishFailed { id, error }));
                }
                None => self.publishes_dropped += 1,
            }
            return;
        }
        let (mut payload, mut outcome) = (payload, Ok(None));
        if let Some(store) = store {
            outcome = locked(&exchange.histories).store(unix_ms(), room, payload, &store).map(Some);
            if let Ok(Some(StoredAt { position, is_new: true })) = outcome {
                self.payload.clear();
                envelope::write_stored_header(&mut self.payload, position);
                self.payload.extend_from_slice(payload);
                payload = &self.payload;
            }
        }
        let is_said = matches!(outcome, Ok(None | Some(StoredAt { is_new: true, .. })));
        let hearers = if is_said { subscribers } else { 0 };
        let asleep = exchange.tell(hearers, BrokerEvent::Message { room, payload });
        if let Some(id) = id {
            // Behind the message, where that is this worker's as well, and before the room's next one.
            self.own().add(|inbox| {
                inbox.push(match outcome {
                    Ok(stored) => {
                        BrokerEvent::Published { id, position: stored.map(|stored| stored.position), receivers: None }
                    }
                    Err(why) => BrokerEvent::PublishFailed { id, error: why.into() },
                });
            });
        }
        drop(rooms);
        exchange.wake(asleep & !(1 << self.worker));
    }

    /// Whether there is something to report.
    pub fn is_ready(&self) -> bool {
        !self.started || !self.reading.is_empty() || self.own().size_bytes.load(Acquire) > 0
    }

    /// Reports what there is, as much as a turn takes.
    pub fn read(&mut self, mut report: impl FnMut(BrokerEvent<'_>)) {
        if !self.started {
            self.started = true;
            report(BrokerEvent::Up);
            report(BrokerEvent::PublisherUp);
        }
        let own = &self.exchange.mailboxes[self.worker];
        if self.reading.is_empty() && own.size_bytes.load(Acquire) > 0 {
            let mut mail = locked(&own.mail);
            std::mem::swap(&mut mail.inbox, &mut self.reading);
            own.size_bytes.store(0, Release);
        }
        self.reading.poll_events(MEMORY_BYTES_PER_TURN, report);
    }

    /// Whether any worker is behind with its reading.
    pub fn is_pressed(&self) -> bool {
        let is_behind = |mailbox: &Mailbox| mailbox.size_bytes.load(Acquire) >= INBOX_BYTES_PRESSING;
        self.exchange.mailboxes.iter().any(is_behind)
    }

    /// Publishes without an id that were refused.
    pub fn publishes_dropped(&self) -> u64 {
        self.publishes_dropped
    }

    fn own(&self) -> &Mailbox {
        &self.exchange.mailboxes[self.worker]
    }
}

/// Others may be at work still: nothing must fill up that nobody reads.
impl Drop for ExchangeLink {
    fn drop(&mut self) {
        let own = self.own();
        let mut mail = locked(&own.mail);
        *mail = Mail { inbox: Inbox::default(), closed: true };
        own.size_bytes.store(0, Release);
    }
}

fn workers(mut bits: Subscribers) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let worker = bits.trailing_zeros();
        bits &= bits.wrapping_sub(1);
        (worker < Subscribers::BITS).then_some(worker as usize)
    })
}

/// A worker that panics ends the process; until then the others may go on.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mio::{Events, Poll, Token};
    use std::thread;
    use std::time::Duration;

    /// One link per worker, and the polls that they wake.
    fn links(workers: usize) -> (Vec<ExchangeLink>, Vec<Poll>) {
        let exchange = Arc::new(Exchange::new(workers, Logs::new(1 << 20, 7), Rosters::new(100, 7)));
        let polls: Vec<Poll> = (0..workers).map(|_| Poll::new().unwrap()).collect();
        let link = |(worker, poll): (usize, &Poll)| {
            let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
            let mut link = ExchangeLink::new(Arc::clone(&exchange), worker, waker);
            link.read(|event| assert!(matches!(event, BrokerEvent::Up | BrokerEvent::PublisherUp)));
            link
        };
        (polls.iter().enumerate().map(link).collect(), polls)
    }

    fn read(link: &mut ExchangeLink) -> Vec<String> {
        let mut events = Vec::new();
        link.read(|event| {
            events.push(match event {
                BrokerEvent::Message { room, payload } => format!("{room}: {}", std::str::from_utf8(payload).unwrap()),
                BrokerEvent::Subscribed { room } => format!("+{room}"),
                BrokerEvent::Unsubscribed { room } => format!("-{room}"),
                BrokerEvent::Published { id, .. } => format!("published {}", id.number()),
                BrokerEvent::PublishFailed { id, error } => format!("failed {}: {error:?}", id.number()),
                other => panic!("{other:?}"),
            });
        });
        events
    }

    fn is_woken(poll: &mut Poll) -> bool {
        let mut events = Events::with_capacity(1);
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        !events.is_empty()
    }

    #[test]
    fn confirmations_and_messages_come_in_the_order_of_asking() {
        let (mut links, _polls) = links(2);
        links[0].subscribe("a");
        links[0].publish("a", b"1", None, Some(PublishId::new(1)));
        links[1].publish("a", b"2", None, Some(PublishId::new(7)));
        links[1].subscribe("a");
        links[0].publish("a", b"3", None, None);
        links[0].unsubscribe("a");
        links[1].publish("a", b"4", None, Some(PublishId::new(8)));
        assert_eq!(read(&mut links[0]), ["+a", "a: 1", "published 1", "a: 2", "a: 3", "-a"]);
        assert_eq!(read(&mut links[1]), ["published 7", "+a", "a: 3", "a: 4", "published 8"]);
        links[1].unsubscribe("a");
        assert!(links[0].exchange.shards.iter().all(|rooms| locked(rooms).is_empty()), "rooms without subscribers go");
    }

    #[test]
    fn others_are_woken_when_something_comes_and_only_then() {
        let (mut links, mut polls) = links(3);
        links[0].subscribe("a");
        links[1].subscribe("a");
        assert!(!is_woken(&mut polls[0]) && !is_woken(&mut polls[1]), "nobody wakes itself");
        for link in &mut links[..2] {
            read(link);
        }
        links[0].publish("a", b"1", None, None);
        assert!(is_woken(&mut polls[1]) && links[1].is_ready());
        links[0].publish("a", b"2", None, None);
        assert!(!is_woken(&mut polls[1]), "it has not read the first yet");
        assert_eq!(read(&mut links[1]), ["a: 1", "a: 2"]);
        links[0].publish("a", b"3", None, None);
        assert!(is_woken(&mut polls[1]));
        assert!(!is_woken(&mut polls[0]) && !is_woken(&mut polls[2]));
        assert!(!links[2].is_ready());
    }

    #[test]
    fn a_worker_that_does_not_read_is_sent_no_more_than_a_bound() {
        let (mut links, _polls) = links(3);
        for link in &mut links[..2] {
            link.subscribe("a");
            link.subscribe("b");
            read(link);
        }
        links[1].unsubscribe("b");
        let payload = vec![b'x'; 1024 * 1024];
        for id in 0..16 {
            links[2].publish("a", &payload, None, Some(PublishId::new(id)));
            read(&mut links[0]);
        }
        assert_eq!(read(&mut links[2]).len(), 16);
        links[2].publish("a", b"1", None, Some(PublishId::new(16)));
        links[2].publish("a", b"1", None, None);
        links[2].publish("b", b"2", None, Some(PublishId::new(17)));
        assert_eq!(read(&mut links[2]), ["failed 16: Busy", "published 17"]);
        assert_eq!(links[2].publishes_dropped(), 1);
        // To all or to nobody; and other rooms have nothing to do with it.
        while links[0].is_ready() {
            assert_ne!(read(&mut links[0]), ["a: 1"]);
        }
        while links[1].is_ready() {
            read(&mut links[1]);
        }
        links[2].publish("a", b"3", None, None);
        assert_eq!((read(&mut links[0]), read(&mut links[1])), (vec!["a: 3".to_owned()], vec!["a: 3".to_owned()]));
    }

    #[test]
    fn a_worker_that_has_ended_is_in_nobodys_way() {
        let (mut links, _polls) = links(2);
        links[0].subscribe("a");
        drop(links.remove(0));
        let payload = vec![b'x'; 1024 * 1024];
        for id in 0..32 {
            links[0].publish("a", &payload, None, Some(PublishId::new(id)));
            assert_eq!(read(&mut links[0]), [format!("published {id}")]);
        }
        assert_eq!(links[0].exchange.mailboxes[0].size_bytes.load(Acquire), 0);
    }

    #[test]
    fn all_workers_see_one_order_whoever_publishes_at_the_same_time() {
        const WORKERS: usize = 4;
        const EACH: usize = 2_000;
        const ROOMS: [&str; 3] = ["a", "b", "c"];
        let (mut links, polls) = links(WORKERS);
        for link in &mut links {
            ROOMS.iter().for_each(|room| link.subscribe(room));
            assert_eq!(read(link).len(), ROOMS.len());
        }
        let run = |(worker, (mut link, mut poll)): (usize, (ExchangeLink, Poll))| {
            move || {
                let (mut events, mut seen, mut published) = (Events::with_capacity(1), Vec::new(), 0);
                while seen.len() < WORKERS * EACH + EACH {
                    if published < EACH {
                        let text = format!("{worker} {published}");
                        link.publish(
                            ROOMS[published % 3],
                            text.as_bytes(),
                            None,
                            Some(PublishId::new(published as u64)),
                        );
                        published += 1;
                    } else if !link.is_ready() {
                        poll.poll(&mut events, Some(Duration::from_secs(10))).unwrap();
                        assert!(!events.is_empty() || link.is_ready(), "{worker} was not woken");
                    }
                    if published % 7 == 0 || published == EACH {
                        seen.extend(read(&mut link));
                    }
                }
                seen
            }
        };
        let threads: Vec<_> = links.into_iter().zip(polls).enumerate().map(|each| thread::spawn(run(each))).collect();
        let seen: Vec<Vec<String>> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        for room in ROOMS {
            let of_room = |events: &Vec<String>| -> Vec<String> {
                events.iter().filter(|event| event.starts_with(room)).cloned().collect()
            };
            let first = of_room(&seen[0]);
            for events in &seen[1..] {
                assert_eq!(of_room(events), first);
            }
        }
        for (worker, events) in seen.iter().enumerate() {
            for publisher in 0..WORKERS {
                let own = |event: &&String| event[1..].starts_with(&format!(": {publisher} "));
                assert_eq!(events.iter().filter(own).count(), EACH, "of {publisher} at {worker}");
            }
            let confirmed: Vec<_> = events.iter().filter(|event| event.starts_with("published")).collect();
            assert!(confirmed.iter().enumerate().all(|(id, event)| **event == format!("published {id}")));
        }
    }
}
