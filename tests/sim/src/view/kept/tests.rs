//! The judge can say no: each rule of rooms with history broken once.

use super::super::{Ask, Dialect, View};
use super::{Gap, Start};
use crate::lives::Entry;
use crate::network::{Network, WireId};
use crate::options::{Narrowed, Options, rng};
use crate::reference::{Key, Reference, Sent, Told};
use fanfare_core::history::{Epoch, Position, Retention};
use std::time::Duration;

const ROOM: usize = 0;
const FIRST: Epoch = Epoch { ordinal: 1, random: 1 };
const SECOND: Epoch = Epoch { ordinal: 2, random: 2 };
const OTHER: Epoch = Epoch { ordinal: 1, random: 3 };
/// The connection on which the instance has read everything that Redis has said.
const LINK: WireId = 1;
/// What is kept.
const MESSAGES_MAX: u32 = 3;

const fn at(epoch: Epoch, offset: u64) -> Position {
    Position { epoch, offset }
}

/// One room and one client.
struct Scene {
    reference: Reference,
    network: Network,
    view: View,
    sent: u64,
}

impl Scene {
    /// So many messages are stored in the first epoch.
    fn new(messages: u64) -> Scene {
        let (bytes_max, age_max) = (u64::MAX, Duration::from_secs(60));
        let kept = [Some(Retention { messages_max: MESSAGES_MAX, bytes_max, age_max })];
        let mut options = Options::draw(0, &Narrowed::default());
        options.rooms = 1;
        let mut view = View::new(1, 0, 0, Dialect::Fanfare, &options);
        (view.incarnation, view.holds_all) = (Some(1), true);
        let network = Network::new(options.wires.clone(), rng(0, "network"));
        let mut scene = Scene { reference: Reference::new(&kept, &[false; 1]), network, view, sent: 0 };
        scene.reference.link_opened(LINK, 1);
        scene.reference.lives.ran(ROOM, (0, None), at(FIRST, 0), 0).unwrap();
        for offset in 1..=messages {
            scene.store(at(FIRST, offset), (9, true));
        }
        scene
    }

    /// A member that is there.
    fn member(messages: u64, offset: u64) -> Scene {
        let mut scene = Scene::new(messages);
        scene.begins(Start::Live, at(FIRST, offset), None).unwrap();
        scene
    }

    fn store(&mut self, place: Position, (session, echo): (u64, bool)) -> Key {
        self.sent += 1;
        let key = (Some(1), self.sent);
        let text = Reference::text(key, ROOM, 0);
        let mut sent = Sent::new(ROOM, text.clone(), (session, echo), None, 0);
        sent.stores = true;
        self.reference.send(key, sent);
        self.reference.published((None, 0), "tea", format!("F2 {text}").as_bytes(), &[], &self.network).unwrap();
        self.reference.lives.stored(ROOM, place, Entry { key: Some(key), removes: None, bytes: 1, time_ms: 0 });
        key
    }

    /// The second epoch begins at this place of another.
    fn fail_over(&mut self, parent: Option<Position>) {
        self.reference.lives.ran(ROOM, (0, parent), at(SECOND, parent.map_or(0, |parent| parent.offset)), 0).unwrap();
    }

    fn begins(&mut self, start: Start, place: Position, recovered: Option<bool>) -> Result<(), String> {
        self.view.begins(ROOM, start, (Some(place), recovered), &self.reference)?;
        self.view.seats[ROOM].is_member = true;
        Ok(())
    }

    fn hears(&mut self, number: u64, offset: u64) -> Result<(), String> {
        let key = (Some(1), number);
        self.view.kept_message((ROOM, key, 0), Some(offset), &self.reference, &self.network)
    }

    /// Others than instances publish as many messages.
    fn foreign(&mut self, messages: u64) {
        for number in 1..=messages {
            let (key, now) = ((None, number), 0);
            let text = Reference::text(key, ROOM, 0);
            self.reference.send(key, Sent::new(ROOM, text.clone(), (0, true), None, now));
            self.reference.published((None, 0), "tea", text.as_bytes(), &[(LINK, 0)], &self.network).unwrap();
        }
    }

    fn hears_foreign(&mut self, number: u64, offset: Option<u64>) -> Result<(), String> {
        let index = number as usize - 1;
        self.view.kept_message((ROOM, (None, number), index), offset, &self.reference, &self.network)
    }

    fn has_all_unstored(&self) -> Result<(), String> {
        self.view.check_unstored(ROOM, (None, self.reference.len(ROOM)), &self.reference, &self.network)
    }

    fn gap(&mut self, gap: Gap) -> Result<(), String> {
        self.view.gap(ROOM, gap, &self.reference)
    }

    fn has_all(&mut self) -> Result<(), String> {
        self.view.check_caught_up(ROOM, &self.reference)
    }
}

#[test]
fn each_message_comes_in_its_place() {
    let mut scene = Scene::member(3, 0);
    assert!(scene.hears(2, 2).is_err(), "the first is missing");
    let mut scene = Scene::member(3, 0);
    assert!(scene.hears(2, 1).is_err(), "another stands there");
    let mut scene = Scene::member(3, 0);
    scene.hears(1, 1).unwrap();
    assert!(scene.has_all().is_err());
    assert!(scene.hears(1, 1).is_err(), "twice");
    scene.hears(2, 2).unwrap();
    scene.hears(3, 3).unwrap();
    scene.has_all().unwrap();
}

#[test]
fn what_a_client_sent_and_did_not_want_back_may_be_missing_and_must_not_come() {
    let mut scene = Scene::member(0, 0);
    scene.store(at(FIRST, 1), (1, false));
    scene.has_all().unwrap();
    assert!(scene.hears(1, 1).is_err());
    scene.store(at(FIRST, 2), (9, true));
    scene.hears(2, 2).unwrap();
    scene.has_all().unwrap();
}

#[test]
fn only_what_is_kept_no_more_is_trimmed() {
    let trimmed = |from, to| Gap::Trimmed { epoch: FIRST, from, to };
    assert!(Scene::member(5, 0).gap(trimmed(1, 3)).is_err(), "the third is kept");
    assert!(Scene::member(5, 0).gap(trimmed(2, 2)).is_err(), "nobody tells of the first");
    let mut scene = Scene::member(5, 0);
    scene.gap(trimmed(1, 2)).unwrap();
    scene.hears(3, 3).unwrap();
}

#[test]
fn a_new_epoch_begins_at_its_fence() {
    let epoch = |fence, lost| Gap::Epoch { epoch: SECOND, previous: FIRST, fence, lost };
    let failed_over = |offset| {
        let mut scene = Scene::member(3, offset);
        scene.fail_over(Some(at(FIRST, 2)));
        scene
    };
    assert!(Scene::member(3, 3).gap(epoch(2, true)).is_err(), "no epoch has begun");
    assert!(failed_over(3).gap(epoch(3, false)).is_err());
    assert!(failed_over(3).gap(epoch(1, true)).is_err());
    assert!(failed_over(3).gap(epoch(2, false)).is_err(), "it has seen more");
    assert!(failed_over(1).gap(epoch(1, true)).is_err(), "it has seen nothing that is lost");
    failed_over(1).gap(epoch(1, false)).unwrap();
    let mut scene = failed_over(3);
    scene.store(at(SECOND, 3), (9, true));
    assert!(scene.has_all().is_err());
    scene.gap(epoch(2, true)).unwrap();
    scene.hears(4, 3).unwrap();
    scene.has_all().unwrap();
}

#[test]
fn of_data_that_are_lost_nothing_is_known() {
    let epoch = |fence| Gap::Epoch { epoch: SECOND, previous: FIRST, fence, lost: true };
    let mut scene = Scene::member(3, 3);
    scene.fail_over(None);
    assert!(scene.gap(epoch(3)).is_err());
    let mut scene = Scene::member(3, 3);
    scene.fail_over(None);
    scene.gap(epoch(0)).unwrap();
    scene.has_all().unwrap();
}

#[test]
fn who_comes_back_goes_on_where_it_was_or_is_told_what_it_has_missed() {
    let since = |offset| Start::Since(at(FIRST, offset));
    assert!(Scene::new(5).begins(since(3), at(FIRST, 4), Some(true)).is_err(), "not where it was");
    assert!(Scene::new(5).begins(since(3), at(FIRST, 3), Some(false)).is_err(), "nothing is missing");
    assert!(Scene::new(5).begins(since(3), at(FIRST, 3), None).is_err(), "it wants to know");
    Scene::new(5).begins(since(3), at(FIRST, 3), Some(true)).unwrap();
    let mut scene = Scene::new(3);
    scene.fail_over(Some(at(FIRST, 2)));
    assert!(scene.begins(since(3), at(SECOND, 2), Some(true)).is_err(), "it has seen what is lost");
    let mut scene = Scene::new(5);
    scene.begins(Start::Since(at(OTHER, 9)), at(FIRST, 2), Some(false)).unwrap();
    assert!(scene.hears(3, 3).is_err(), "nobody has told of the first two");
    let mut scene = Scene::new(5);
    scene.begins(Start::Since(at(OTHER, 9)), at(FIRST, 2), Some(false)).unwrap();
    scene.gap(Gap::Epoch { epoch: FIRST, previous: OTHER, fence: 0, lost: true }).unwrap();
    assert!(scene.has_all().is_err(), "nor of these");
    let mut scene = Scene::new(5);
    scene.begins(Start::Since(at(OTHER, 9)), at(FIRST, 2), Some(false)).unwrap();
    scene.gap(Gap::Epoch { epoch: FIRST, previous: OTHER, fence: 0, lost: true }).unwrap();
    scene.gap(Gap::Trimmed { epoch: FIRST, from: 1, to: 2 }).unwrap();
    (3..=5).for_each(|number| scene.hears(number, number).unwrap());
    scene.has_all().unwrap();
}

#[test]
fn what_others_publish_comes_live_without_a_place_and_to_members_alone() {
    let heard = |numbers: &[u64]| {
        let mut scene = Scene::member(0, 0);
        scene.foreign(4);
        numbers.iter().try_for_each(|number| scene.hears_foreign(*number, None))?;
        scene.has_all_unstored()
    };
    heard(&[2, 3, 4]).unwrap();
    heard(&[]).unwrap();
    for (wrong, why) in
        [(&[2, 2][..], "twice"), (&[2, 1], "out of order"), (&[2, 4], "one is missing"), (&[2, 3], "the last is")]
    {
        assert!(heard(wrong).is_err(), "{why}");
    }
    let mut scene = Scene::member(0, 0);
    scene.foreign(1);
    assert!(scene.hears_foreign(1, Some(1)).is_err(), "it is not stored");
    // Whoever may have been behind when they came is not given them later.
    let mut scene = Scene::new(0);
    scene.foreign(4);
    scene.begins(Start::Since(at(FIRST, 0)), at(FIRST, 0), Some(true)).unwrap();
    scene.hears_foreign(1, None).unwrap();
    scene.hears_foreign(4, None).unwrap();
}

#[test]
fn who_wants_the_newest_gets_as_many_as_there_are() {
    assert!(Scene::new(5).begins(Start::Newest(2), at(FIRST, 4), None).is_err(), "two are kept");
    Scene::new(5).begins(Start::Newest(2), at(FIRST, 3), None).unwrap();
    Scene::new(5).begins(Start::Newest(9), at(FIRST, 2), None).unwrap();
    assert!(Scene::new(5).begins(Start::Newest(2), at(FIRST, 6), None).is_err(), "there are five");
}

#[test]
fn an_acknowledgement_names_the_place() {
    let acknowledged = |place| {
        let mut scene = Scene::member(0, 0);
        let key = scene.store(at(FIRST, 1), (1, true));
        scene.view.ask(Some(1), Ask::Send(key), (1, 0), 0);
        scene.view.acked(1, place, &mut scene.reference).map(|()| scene.reference.sent(key).map(|sent| sent.told))
    };
    assert!(acknowledged(None).is_err() && acknowledged(Some(at(FIRST, 2))).is_err());
    assert_eq!(acknowledged(Some(at(FIRST, 1))), Ok(Some(Told::Acked)));
}
