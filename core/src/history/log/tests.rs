//! Every rule of a room's history.

use std::time::Duration;

use super::*;

const KEEP_ALL: Retention = Retention { messages_max: u32::MAX, bytes_max: u64::MAX, age_max: Duration::MAX };

/// A broker with one room, which can be told everything that a call depends on.
struct Room {
    log: RoomLog,
    now_ms: u64,
    incarnation: &'static str,
    drawn: u64,
    retention: Retention,
}

impl Room {
    fn new() -> Room {
        Room { log: RoomLog::default(), now_ms: 1_000, incarnation: "one", drawn: 1, retention: KEEP_ALL }
    }

    fn moment(&self) -> Moment<'static> {
        Moment { now_ms: self.now_ms, incarnation: self.incarnation, drawn: self.drawn }
    }

    fn store(&mut self, payload: &str) -> Position {
        let stored = self.log.store(&self.moment(), &self.retention, None, payload.as_bytes());
        let StoredAt { position, is_new } = stored.expect("no key, no conflict");
        assert!(is_new);
        position
    }

    fn store_many(&mut self, count: u64) {
        for _ in 0..count {
            self.store("x");
        }
    }

    fn store_as(&mut self, text: &str, digest: u64) -> Result<StoredAt, NotStored> {
        let key = IdempotencyKey { text, digest, age_max: Duration::from_millis(100), keys_max: 10 };
        self.log.store(&self.moment(), &self.retention, Some(&key), b"keyed")
    }

    fn remove(&mut self, what: Removal) -> Result<u64, NotStored> {
        let removed = self.log.remove(&self.moment(), &self.retention, &Remove { what, epoch: None })?;
        Ok(removed.position.offset)
    }

    fn read(&mut self, part: Part) -> Page {
        self.read_some(part, u32::MAX, u64::MAX)
    }

    fn read_some(&mut self, part: Part, messages_max: u32, bytes_max: u64) -> Page {
        self.log.read(&self.moment(), &self.retention, &Query { part, messages_max, bytes_max })
    }

    fn after(&mut self, place: Position) -> (Continuity, Vec<u64>) {
        let page = self.read(Part::After(place));
        (page.continuity, offsets(&page))
    }

    /// Another Redis takes over, with everything up to here.
    fn fail_over(&mut self, incarnation: &'static str) {
        self.incarnation = incarnation;
        self.drawn += 1;
    }
}

fn offsets(page: &Page) -> Vec<u64> {
    page.entries.iter().map(|entry| entry.offset).collect()
}

fn epoch(ordinal: u32, random: u64) -> Epoch {
    Epoch { ordinal, random }
}

fn at(epoch: Epoch, offset: u64) -> Position {
    Position { epoch, offset }
}

#[test]
fn the_first_call_begins_an_epoch_and_a_room_begins_before_its_first_message() {
    let mut room = Room::new();
    let page = room.read(Part::Newest);
    let expected = Page { last: at(epoch(1, 1), 0), first: 1, continuity: Continuity::Exact, entries: Vec::new() };
    assert_eq!(page, expected);
    room.drawn = 2;
    assert_eq!(room.store("a"), at(epoch(1, 1), 1));
    room.now_ms = 1_001;
    assert_eq!(room.store("b"), at(epoch(1, 1), 2));
    let stored = |offset, time_ms, payload: &[u8]| Stored { offset, time_ms, payload: payload.into() };
    assert_eq!(room.read(Part::Newest).entries, [stored(1, 1_000, b"a"), stored(2, 1_001, b"b")]);
}

#[test]
fn offsets_go_on_when_the_epoch_changes() {
    let mut room = Room::new();
    room.store_many(3);
    room.fail_over("two");
    assert_eq!(room.store("x"), at(epoch(2, 2), 4));
    assert_eq!(offsets(&room.read(Part::Newest)), [1, 2, 3, 4]);
}

#[test]
fn a_read_fences_as_a_store_does() {
    let mut room = Room::new();
    room.store_many(3);
    room.fail_over("two");
    assert_eq!(room.read(Part::Newest).last, at(epoch(2, 2), 3));
    room.store_many(2);
    assert_eq!(room.after(at(epoch(1, 1), 5)), (Continuity::Fenced(3), vec![4, 5]));
}

#[test]
fn who_is_in_an_ended_epoch_goes_on_up_to_its_fence_and_not_beyond() {
    let mut room = Room::new();
    room.store_many(3);
    room.fail_over("two");
    room.store_many(2);
    room.fail_over("three");
    room.store_many(1);
    assert_eq!(room.after(at(epoch(1, 1), 2)), (Continuity::Exact, vec![3, 4, 5, 6]));
    assert_eq!(room.after(at(epoch(1, 1), 3)), (Continuity::Exact, vec![4, 5, 6]));
    assert_eq!(room.after(at(epoch(1, 1), 4)), (Continuity::Fenced(3), vec![4, 5, 6]));
    assert_eq!(room.after(at(epoch(2, 2), 5)), (Continuity::Exact, vec![6]));
    assert_eq!(room.after(at(epoch(2, 2), 6)), (Continuity::Fenced(5), vec![6]));
    assert_eq!(room.after(at(epoch(3, 3), 6)), (Continuity::Exact, vec![]));
}

#[test]
fn nothing_is_known_of_other_epochs_and_of_the_future() {
    let mut room = Room::new();
    room.store_many(2);
    for place in [at(epoch(1, 2), 1), at(epoch(2, 1), 1), at(epoch(1, 1), 3), at(epoch(1, 1), u64::MAX)] {
        assert_eq!(room.after(place), (Continuity::Unknown, vec![1, 2]), "{place:?}");
    }
    assert_eq!(room.after(at(epoch(1, 1), 2)), (Continuity::Exact, vec![]));
}

#[test]
fn sixteen_ended_epochs_are_known() {
    let mut room = Room::new();
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q"];
    room.store("x");
    for name in names {
        room.fail_over(name);
        room.read(Part::Newest);
    }
    assert_eq!(room.after(at(epoch(1, 1), 1)).0, Continuity::Unknown);
    assert_eq!(room.after(at(epoch(2, 2), 1)).0, Continuity::Exact);
    assert_eq!(room.after(at(epoch(18, 18), 1)).0, Continuity::Exact);
}

#[test]
fn what_is_beyond_the_count_is_forgotten_at_once() {
    let mut room = Room::new();
    room.store_many(200);
    room.retention.messages_max = 3;
    room.store_many(1);
    assert_eq!(offsets(&room.read(Part::Newest)), [199, 200, 201]);
    assert_eq!(room.after(at(epoch(1, 1), 198)), (Continuity::Exact, vec![199, 200, 201]));
    assert_eq!(room.after(at(epoch(1, 1), 197)), (Continuity::Trimmed, vec![199, 200, 201]));
}

#[test]
fn what_is_beyond_the_bytes_is_forgotten_and_the_newest_is_kept_however_long() {
    let mut room = Room::new();
    room.retention.bytes_max = 10;
    for payload in ["1234", "1234", "12"] {
        room.store(payload);
    }
    assert_eq!(offsets(&room.read(Part::Newest)), [1, 2, 3]);
    room.store("1");
    assert_eq!(offsets(&room.read(Part::Newest)), [2, 3, 4]);
    room.store("12345678901");
    assert_eq!(offsets(&room.read(Part::Newest)), [5]);
    room.store("");
    assert_eq!(offsets(&room.read(Part::Newest)), [6]);
    room.store("1234567890");
    assert_eq!(offsets(&room.read(Part::Newest)), [6, 7]);
}

#[test]
fn what_is_too_old_is_hidden_at_once_and_forgotten_64_at_a_store() {
    let mut room = Room::new();
    room.retention.age_max = Duration::from_millis(50);
    room.store_many(100);
    room.now_ms = 1_049;
    room.store_many(2);
    assert_eq!(room.read(Part::Newest).first, 1);
    room.now_ms = 1_050;
    assert_eq!(offsets(&room.read(Part::Newest)), [101, 102]);
    assert_eq!(room.log.entries.len(), 102, "a read forgets nothing");
    assert_eq!(room.after(at(epoch(1, 1), 99)), (Continuity::Trimmed, vec![101, 102]));
    assert_eq!(offsets(&room.read(Part::Before(102))), [101]);
    room.store_many(1);
    assert_eq!(room.log.entries.len(), 103 - AGED_MAX);
    room.store_many(1);
    assert_eq!(room.log.entries.len(), 4);
    room.now_ms = 9_999;
    assert_eq!((room.read(Part::Newest).first, offsets(&room.read(Part::Newest))), (105, vec![]));
    assert_eq!(room.after(at(epoch(1, 1), 104)), (Continuity::Exact, vec![]));
    assert_eq!(room.after(at(epoch(1, 1), 103)), (Continuity::Trimmed, vec![]));
}

#[test]
fn a_page_has_its_bounds_and_one_message_may_always_be_had() {
    let mut room = Room::new();
    for payload in ["12345", "1", "22", "333"] {
        room.store(payload);
    }
    let begin = at(epoch(1, 1), 0);
    let mut got = |part, messages_max, bytes_max| offsets(&room.read_some(part, messages_max, bytes_max));
    assert_eq!(got(Part::After(begin), 2, 99), [1, 2]);
    assert_eq!(got(Part::After(begin), 9, 6), [1, 2]);
    assert_eq!(got(Part::After(begin), 9, 7), [1, 2]);
    assert_eq!(got(Part::After(begin), 9, 0), [1]);
    assert!(got(Part::After(begin), 0, 99).is_empty());
    assert_eq!(got(Part::Newest, 2, 99), [3, 4]);
    assert_eq!(got(Part::Newest, 9, 5), [3, 4]);
    assert_eq!(got(Part::Newest, 9, 1), [4]);
    assert!(got(Part::Newest, 0, 99).is_empty());
    assert_eq!(got(Part::Before(3), 9, 99), [1, 2]);
    assert_eq!(got(Part::Before(3), 1, 99), [2]);
    assert_eq!(got(Part::Before(2), 1, 0), [1]);
    assert_eq!(got(Part::Before(u64::MAX), 1, 9), [4]);
    for offset in [0, 1] {
        assert!(got(Part::Before(offset), 9, 99).is_empty());
    }
}

#[test]
fn a_key_stores_once_and_belongs_to_one_message() {
    let mut room = Room::new();
    let first = room.store_as("key", 7).expect("new");
    assert_eq!(first, StoredAt { position: at(epoch(1, 1), 1), is_new: true });
    room.store("between");
    room.fail_over("two");
    assert_eq!(room.store_as("key", 7), Ok(StoredAt { is_new: false, ..first }));
    assert_eq!(room.store_as("key", 8), Err(NotStored::KeyReused));
    assert_eq!(room.read(Part::Newest).last, at(epoch(2, 2), 2));
    room.now_ms += 200;
    assert_eq!(room.store_as("key", 8), Ok(StoredAt { position: at(epoch(2, 2), 3), is_new: true }));
}

#[test]
fn messages_may_be_forgotten_and_positions_are_not() {
    let mut room = Room::new();
    let empty = room.log.bytes();
    room.store_many(5);
    assert!(room.log.bytes() >= empty + 5 * (1 + size_of::<Stored>() as u64));
    room.log.forget_messages();
    assert_eq!(room.log.bytes(), empty + "one".len() as u64);
    assert_eq!(room.after(at(epoch(1, 1), 4)), (Continuity::Trimmed, vec![]));
    assert_eq!(room.after(at(epoch(1, 1), 5)), (Continuity::Exact, vec![]));
    assert_eq!(room.store("x"), at(epoch(1, 1), 6));
    assert_eq!(room.after(at(epoch(1, 1), 5)), (Continuity::Exact, vec![6]));
}

#[test]
fn a_room_that_is_kept_within_bounds_takes_bounded_memory() {
    let mut room = Room::new();
    room.retention = Retention { messages_max: 10, ..KEEP_ALL };
    let payload = "x".repeat(100);
    for number in 0..1_000 {
        room.store(&payload);
        room.store_as(&number.to_string(), 0).expect("another key");
        assert!(room.log.bytes() < 10 * 100 + 64 * size_of::<Stored>() as u64 + 20 * 200 + 500, "{}", room.log.bytes());
    }
    room.retention = KEEP_ALL;
    room.store_many(10_000);
    let large = room.log.bytes();
    room.retention.messages_max = 10;
    room.store_many(1);
    assert!(room.log.bytes() < large / 50, "{} of {large}", room.log.bytes());
}

#[test]
fn a_clock_that_goes_back_breaks_nothing() {
    let mut room = Room::new();
    room.retention.age_max = Duration::from_millis(50);
    for now_ms in [1_000, 900, 1_100, 0, u64::MAX, 5] {
        room.now_ms = now_ms;
        room.store("x");
        let page = room.read(Part::Newest);
        assert_eq!(page.first + page.entries.len() as u64, page.last.offset + 1);
    }
}

#[test]
fn a_removal_is_an_entry_and_what_it_removes_is_none() {
    let mut room = Room::new();
    for payload in ["one", "two", "three"] {
        room.store(payload);
    }
    assert_eq!(room.remove(Removal::One(2)), Ok(4));
    assert_eq!(room.remove(Removal::One(2)), Err(NotStored::NoMessage), "it is removed");
    assert_eq!(room.remove(Removal::One(4)), Err(NotStored::NoMessage), "this is no message");
    assert_eq!(room.remove(Removal::One(5)), Err(NotStored::NoMessage), "there is none yet");
    let epoch = room.log.position().expect("there is one").epoch;
    assert_eq!(room.after(at(epoch, 1)), (Continuity::Exact, vec![3, 4]));
    assert_eq!(room.after(at(epoch, 0)), (Continuity::Exact, vec![1, 3, 4]));
    assert_eq!(*room.read(Part::Newest).entries[2].payload, *b"REMOVED 2");
    assert_eq!(offsets(&room.read(Part::Before(3))), [1]);
    assert_eq!(room.remove(Removal::All), Ok(5));
    assert_eq!(room.after(at(epoch, 0)), (Continuity::Exact, vec![5]), "nobody is told of a gap");
    assert_eq!(room.store("six").offset, 6);
    assert_eq!(room.after(at(epoch, 2)), (Continuity::Exact, vec![5, 6]));
    let wrong = Remove { what: Removal::All, epoch: Some(Epoch { ordinal: 9, ..epoch }) };
    assert_eq!(room.log.remove(&room.moment(), &room.retention, &wrong), Err(NotStored::EpochUnknown));
}

#[test]
fn a_room_full_of_removals_is_trimmed_as_any_other() {
    let mut room = Room::new();
    room.retention.messages_max = 10;
    for number in 1..=200 {
        let offset = room.store("a message of some length").offset;
        assert_eq!(room.remove(Removal::One(offset)), Ok(2 * number));
        let page = room.read(Part::Newest);
        assert_eq!(page.first, (2 * number).saturating_sub(9).max(1));
        assert!(page.entries.len() <= 5 && room.log.bytes() < 1_500, "{} bytes", room.log.bytes());
    }
    let epoch = room.log.position().expect("there is one").epoch;
    assert_eq!(room.after(at(epoch, 380)), (Continuity::Trimmed, vec![392, 394, 396, 398, 400]));
}

#[test]
fn what_is_removed_is_as_old_as_what_follows() {
    let mut room = Room::new();
    room.retention.age_max = Duration::from_millis(100);
    room.store("old");
    room.now_ms += 60;
    room.store("young");
    assert_eq!(room.remove(Removal::One(1)), Ok(3));
    room.now_ms += 60;
    assert_eq!(room.read(Part::Newest).first, 1);
    room.now_ms += 40;
    assert_eq!(room.remove(Removal::One(2)), Err(NotStored::NoMessage), "it is too old");
    assert_eq!(room.read(Part::Newest).first, 4);
}

#[test]
fn a_key_of_what_is_removed_stores_nothing_again() {
    let mut room = Room::new();
    let stored = room.store_as("key", 7).expect("it is new");
    assert_eq!(room.remove(Removal::One(stored.position.offset)), Ok(2));
    assert_eq!(room.store_as("key", 7), Ok(StoredAt { is_new: false, ..stored }));
}
