//! The judge can say no: each rule broken once, and the one loss that is allowed.

use super::*;
use crate::network::{Read, Side, WireId};
use crate::options::{Narrowed, rng};
use crate::reference::{ROOMS, Sent};
use crate::timeline::Timeline;

const ROOM: usize = 0;
const INCARNATION: Incarnation = 1;

/// One instance, one room, and one client that asked to be a member.
struct Scene {
    reference: Reference,
    network: Network,
    timeline: Timeline,
    view: View,
    wire: WireId,
    link: WireId,
    /// Bytes that Redis has written to the link.
    said: u64,
    sent: u64,
}

impl Scene {
    /// The instance has read what the client asked, and Redis has said nothing yet.
    fn new() -> Scene {
        let mut scene = Scene::unheard();
        scene.hear();
        scene
    }

    /// What the client asked is on its way.
    fn unheard() -> Scene {
        let mut options = Options::draw(0, &Narrowed::default());
        (options.rooms, options.wires.link_capacity.min) = (1, options.wires.link_capacity.max);
        options.faults.clear();
        let (mut network, mut timeline) = (Network::new(options.wires.clone(), rng(0, "network")), Timeline::default());
        let wire = network.open(false);
        assert_eq!(network.write(wire, Side::Near, b"?", &mut timeline), Ok(1));
        let mut scene = Scene {
            reference: Reference::new(&[None], &[false]),
            network,
            timeline,
            view: View::new(1, wire, 0, Dialect::Fanfare, &options),
            wire,
            link: 0,
            said: 0,
            sent: 0,
        };
        scene.view.incarnation = Some(INCARNATION);
        scene.view.ask(Some(1), Ask::Subscribe(ROOM, false, Start::Live), (1, 0), 0);
        scene.connect();
        scene
    }

    /// A member, and as many messages as given, published and read by its instance.
    fn with_messages(count: usize) -> Scene {
        let mut scene = Scene::new();
        scene.subscribe();
        scene.read();
        scene.subscribed().unwrap();
        (0..count).for_each(|_| scene.publish());
        scene.read();
        scene
    }

    fn connect(&mut self) {
        (self.link, self.said) = (self.network.open(true), 0);
        self.reference.link_opened(self.link, INCARNATION);
    }

    fn disconnect(&mut self) {
        self.reference.link_ended_at_redis(self.link);
        self.reference.link_ended_at_instance(self.link, self.timeline.now);
    }

    /// Redis says something of one byte.
    fn say(&mut self) {
        self.said += 1;
        assert_eq!(self.network.write(self.link, Side::Far, b".", &mut self.timeline), Ok(1));
    }

    /// The instance reads everything.
    fn read(&mut self) {
        while self.timeline.next(u64::MAX).is_some() {}
        assert!(matches!(self.network.read(self.link, Side::Near, 1_000, &mut self.timeline), Read::Bytes(_)));
    }

    /// The instance reads what the client asked.
    fn hear(&mut self) {
        while self.timeline.next(u64::MAX).is_some() {}
        assert_eq!(self.network.read(self.wire, Side::Far, 1_000, &mut self.timeline), Read::Bytes(b"?".to_vec()));
        self.reference.client_read(self.wire, INCARNATION, &self.network);
    }

    fn subscribe(&mut self) {
        self.say();
        self.reference.subscribed(self.link, ROOMS[ROOM], self.said).unwrap();
    }

    fn subscribed(&mut self) -> Result<(), String> {
        self.view.subscribed(ROOM, Some(1), (None, None, None), &self.reference, &self.network)
    }

    fn text(number: u64) -> String {
        Reference::text((Some(1), number), ROOM, 0)
    }

    fn publish_to(&mut self, to: &[(WireId, u64)]) {
        self.sent += 1;
        let (key, text) = ((Some(1), self.sent), Scene::text(self.sent));
        let sent = Sent::new(ROOM, text.clone(), (9, true), None, 0);
        self.reference.send(key, sent);
        self.reference.published((None, 0), ROOMS[ROOM], text.as_bytes(), to, &self.network).unwrap();
    }

    fn publish(&mut self) {
        self.say();
        self.publish_to(&[(self.link, self.said)]);
    }

    fn message(&mut self, number: u64) -> Result<(), String> {
        self.view.message(ROOM, (&Scene::text(number), None), &self.reference, &self.network)
    }
}

#[test]
fn messages_in_order_are_fine_and_everything_has_come() {
    let mut scene = Scene::with_messages(2);
    scene.message(1).unwrap();
    assert!(scene.view.check_all(&scene.reference, &scene.network).is_err(), "the second has not come");
    scene.message(2).unwrap();
    scene.view.check_all(&scene.reference, &scene.network).unwrap();
}

#[test]
fn another_order_a_second_copy_and_a_gap_are_not() {
    let mut scene = Scene::with_messages(3);
    assert!(scene.message(2).is_err(), "the first is owed");
    scene.message(1).unwrap();
    assert!(scene.message(1).is_err(), "twice");
    assert!(scene.message(3).is_err(), "the second is owed");
    scene.message(2).unwrap();
    scene.message(3).unwrap();
    assert!(scene.message(2).is_err(), "backwards");
}

#[test]
fn only_members_get_messages() {
    let mut scene = Scene::new();
    scene.subscribe();
    scene.publish();
    scene.read();
    assert!(scene.message(1).is_err(), "before SUBSCRIBED");
    scene.subscribed().unwrap();
    scene.publish();
    scene.read();
    scene.view.ask(Some(2), Ask::Unsubscribe(ROOM, None, 0), (2, 0), 0);
    scene.view.unsubscribed(ROOM, Some(2), None, &scene.reference, &scene.network).unwrap();
    assert!(scene.message(2).is_err(), "after UNSUBSCRIBED");
}

#[test]
fn who_leaves_gets_what_its_instance_had_read_when_it_asked_to() {
    let mut scene = Scene::with_messages(1);
    let place = scene.reference.place(INCARNATION, &scene.network);
    scene.view.ask(Some(2), Ask::Unsubscribe(ROOM, place, scene.reference.len(ROOM)), (2, 0), 0);
    assert!(scene.view.unsubscribed(ROOM, Some(2), None, &scene.reference, &scene.network).is_err());
}

#[test]
fn subscribed_needs_the_brokers_word() {
    let mut scene = Scene::new();
    assert!(scene.subscribed().is_err(), "nobody has asked Redis");
    let mut scene = Scene::new();
    scene.subscribe();
    assert!(scene.subscribed().is_err(), "the confirmation has not been read");
}

#[test]
fn subscribed_needs_the_request_to_have_been_read() {
    let mut scene = Scene::unheard();
    scene.subscribe();
    scene.read();
    assert!(scene.subscribed().is_err());
}

#[test]
fn what_is_read_behind_the_confirmation_is_owed() {
    let mut scene = Scene::new();
    scene.subscribe();
    scene.publish();
    scene.publish();
    scene.read();
    scene.subscribed().unwrap();
    assert!(scene.view.check_all(&scene.reference, &scene.network).is_err(), "nothing has come");
    assert!(scene.message(2).is_err(), "the first is owed");
    scene.message(1).unwrap();
    scene.message(2).unwrap();
    scene.view.check_all(&scene.reference, &scene.network).unwrap();
}

#[test]
fn what_is_read_before_the_request_is_not_owed_and_what_is_read_behind_it_is() {
    let mut scene = Scene::unheard();
    scene.subscribe();
    scene.publish();
    scene.read();
    // Published before the instance reads the request, and read after it.
    scene.publish();
    scene.hear();
    scene.publish();
    scene.read();
    scene.subscribed().unwrap();
    assert!(scene.message(3).is_err(), "the second is owed");
    scene.message(2).unwrap();
    scene.message(3).unwrap();
}

#[test]
fn what_comes_on_a_new_connection_is_owed_from_its_confirmation() {
    let mut scene = Scene::new();
    scene.disconnect();
    scene.connect();
    scene.publish_to(&[]);
    scene.subscribe();
    scene.publish();
    scene.publish();
    scene.read();
    scene.subscribed().unwrap();
    assert!(scene.message(3).is_err(), "the second is owed");
    scene.message(2).unwrap();
}

#[test]
fn what_is_published_in_an_outage_is_lost_and_nothing_else() {
    let mut scene = Scene::with_messages(1);
    scene.message(1).unwrap();
    // On its way when the connection ends, and then while there is none.
    scene.publish();
    scene.disconnect();
    scene.publish_to(&[]);
    scene.connect();
    scene.publish_to(&[]);
    scene.subscribe();
    scene.publish();
    scene.publish();
    scene.read();
    assert!(scene.message(6).is_err(), "the outage is over");
    scene.message(5).unwrap();
    scene.message(6).unwrap();
}

#[test]
fn a_room_with_members_is_not_given_up() {
    let mut scene = Scene::with_messages(1);
    scene.message(1).unwrap();
    scene.reference.unsubscribed(scene.link, ROOMS[ROOM], 0).unwrap();
    scene.publish_to(&[]);
    assert!(scene.view.check_all(&scene.reference, &scene.network).is_err());
}

#[test]
fn what_a_sender_is_told_is_true() {
    let mut scene = Scene::with_messages(1);
    let published = (Some(1), 1);
    assert!(scene.reference.told(published, Told::Refused).is_err());
    scene.reference.told(published, Told::Acked).unwrap();
    let sent = Sent::new(ROOM, Scene::text(2), (9, true), None, 0);
    scene.reference.send((Some(1), 2), sent);
    assert!(scene.reference.told((Some(1), 2), Told::Acked).is_err());
    assert!(scene.view.acked(77, None, &mut scene.reference).is_err(), "nobody asked");
}

#[test]
fn what_a_client_without_replies_sends_must_not_overtake_what_has_made_it_a_member() {
    let mut scene = Scene::unheard();
    scene.view.dialect = Dialect::Classic;
    let (key, text) = ((Some(0), 1), Reference::text((Some(0), 1), ROOM, 0));
    scene.reference.send(key, Sent::new(ROOM, text.clone(), (1, false), Some(0), 0));
    scene.view.sent(ROOM, key);
    scene.reference.handed_on(text.as_bytes(), INCARNATION, true, 0, &scene.network).unwrap();
    scene.subscribe();
    scene.publish();
    scene.read();
    scene.message(1).expect("it was a member before it has asked");
    scene.hear();
    scene.publish();
    scene.read();
    assert!(scene.message(2).unwrap_err().contains("before the SUBSCRIBE before it was confirmed"));
}
