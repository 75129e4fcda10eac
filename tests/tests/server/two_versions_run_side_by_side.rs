//! While instances are upgraded one by one, or taken back, older ones and those of this version are on one Redis.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use fanfare_tests::stored::{Place, ask, hear, join, launch, store};
use fanfare_tests::{Client, Redis, Server, Signal, previous_binaries};
use serde_json::{Value, json};

const ROOM: &str = "other";
/// It has a history at instances of this version.
const KEPT: &str = "chat:a";

/// An instance of this version, or of an older one.
fn instance(redis: &Redis, older: Option<&Path>) -> Server {
    match older {
        None => launch(&redis.url()).start(),
        Some(binary) => Server::launch().binary(binary).redis(redis).ops().start(),
    }
}

#[test]
fn rooms_without_history_work_with_an_instance_that_knows_no_versions() {
    replace_one_by_one(&previous_binaries().without_versions);
}

#[test]
fn rooms_without_history_work_with_an_instance_that_knows_no_histories() {
    replace_one_by_one(&previous_binaries().without_histories);
}

/// Two older instances are replaced by new ones, one after the other, and these by older ones again.
fn replace_one_by_one(older: &Path) {
    let redis = Redis::start();
    let mut instances: VecDeque<Server> = [Some(older); 2].map(|binary| instance(&redis, binary)).into();
    for binary in [None, None, Some(older), Some(older)] {
        meet(&instances[0], &instances[1]);
        let mut replaced = instances.pop_front().expect("the one");
        let staying = &instances[0];
        while_messages_flow(staying, || {
            replaced.signal(Signal::TERM);
            assert_eq!(replaced.wait_for_exit().code(), Some(0));
            let next = instance(&redis, binary);
            let mut client = Client::connect(&next);
            client.publish_acknowledged(ROOM, r#""from the next""#);
            replaced = next;
        });
        instances.push_back(replaced);
        meet(&instances[0], &instances[1]);
    }
}

/// Members of both hear what is sent at either, in one order and to the letter.
fn meet(one: &Server, two: &Server) {
    const EACH: u64 = 50;
    let mut members = [one, two, one, two].map(|server| Client::member(server, ROOM));
    let raw = r#"{"a" : [1.0, "\u00e9", null]}"#;
    for sender in 0..2 {
        members[sender].publish(ROOM, raw);
        members.iter_mut().for_each(|member| member.expect_message(ROOM, raw));
    }
    let [first, second, readers @ ..] = members;
    let heard = thread::scope(|scope| {
        let sending = [first, second].map(|mut client| {
            scope.spawn(move || {
                (0..EACH).for_each(|number| client.publish(ROOM, &number.to_string()));
                client
            })
        });
        let members = sending.map(|thread| thread.join().expect("it is sent")).into_iter().chain(readers);
        let hearing = members.map(|mut client| {
            scope.spawn(move || (0..2 * EACH).map(|_| client.recv_message(ROOM)).collect::<Vec<Value>>())
        });
        let hearing: Vec<_> = hearing.collect();
        hearing.into_iter().map(|thread| thread.join().expect("all is heard")).collect::<Vec<_>>()
    });
    assert!(heard.iter().all(|messages| *messages == heard[0]), "each has an order of its own");
    // Who does not want to hear itself is known at the other instance as well.
    let [mut sender, mut member] = [one, two].map(|server| Client::member(server, ROOM));
    sender.send(format!(r#"{{"type":"SEND_MESSAGE","room":"{ROOM}","message":"quiet","echo":false}}"#));
    member.expect_message(ROOM, r#""quiet""#);
    member.publish(ROOM, r#""loud""#);
    sender.expect_message(ROOM, r#""loud""#);
}

/// Whoever is connected to the instance that stays hears everything, whatever is done meanwhile.
fn while_messages_flow(staying: &Server, act: impl FnOnce()) {
    let mut member = Client::member(staying, ROOM);
    let is_done = &AtomicBool::new(false);
    let (sent, heard) = thread::scope(|scope| {
        let sending = scope.spawn(move || {
            let mut sender = Client::connect(staying);
            let mut sent = 0_u64;
            while !is_done.load(Ordering::Relaxed) {
                sender.publish_acknowledged(ROOM, &sent.to_string());
                sent += 1;
            }
            sender.publish_acknowledged(ROOM, r#""end""#);
            sent
        });
        let hearing = scope.spawn(move || {
            let next = || Some(member.recv_message(ROOM)).filter(|message| message != "end");
            std::iter::from_fn(next).collect::<Vec<Value>>()
        });
        act();
        is_done.store(true, Ordering::Relaxed);
        (sending.join().expect("all is sent"), hearing.join().expect("all is heard"))
    });
    let numbers: Vec<u64> = heard.iter().filter_map(Value::as_u64).collect();
    assert_eq!(numbers, (0..sent).collect::<Vec<_>>());
    assert_eq!(heard.iter().filter(|message| *message == "from the next").count(), 1);
}

/// Both members are in a room with history, of which the older instance knows nothing.
struct Mixed {
    redis: Redis,
    new: Server,
    older: Server,
    at_new: Client,
    at_older: Client,
}

impl Mixed {
    fn with(older: &Path) -> Mixed {
        let redis = Redis::start();
        let (new, older) = (instance(&redis, None), instance(&redis, Some(older)));
        let (at_new, place) = join(&new, KEPT);
        assert_eq!(place.offset, 0);
        let at_older = Client::member(&older, KEPT);
        Mixed { redis, new, older, at_new, at_older }
    }

    /// What is stored is heard at the new instance; what an older one publishes is heard at both and not stored.
    fn goes_on_after(mut self, offset: u64) {
        assert_eq!(hear(&mut self.at_new, KEPT), (offset, json!("stored")));
        Client::connect(&self.older).publish_acknowledged(KEPT, r#""not stored""#);
        for member in [&mut self.at_new, &mut self.at_older] {
            member.expect_json(&json!({"type": "MESSAGE", "room": KEPT, "message": "not stored"}));
        }
        let mut sender = Client::connect(&self.new);
        assert_eq!(store(&mut sender, KEPT, "stored").offset, offset + 1);
        assert_eq!(hear(&mut self.at_new, KEPT), (offset + 1, json!("stored")));
        // Once it is upgraded, its members read what they did not hear.
        self.older.signal(Signal::TERM);
        let upgraded = instance(&self.redis, None);
        let mut client = Client::connect(&upgraded);
        let subscribe = json!({"type": "SUBSCRIBE", "room": KEPT, "history": 10});
        assert_eq!(Place::of(&ask(&mut client, subscribe, "SUBSCRIBED")).offset, 0);
        (1..=offset + 1).for_each(|offset| assert_eq!(hear(&mut client, KEPT), (offset, json!("stored"))));
    }
}

#[test]
fn an_instance_that_knows_no_histories_drops_what_is_stored_and_counts_it() {
    let mixed = Mixed::with(&previous_binaries().without_histories);
    assert_eq!(store(&mut Client::connect(&mixed.new), KEPT, "stored").offset, 1);
    mixed.older.wait_for_metrics("it is dropped and counted", |metrics| {
        metrics.value(r#"fanfare_messages_dropped_total{reason="version"}"#) == 1.0
    });
    mixed.goes_on_after(1);
}

#[test]
fn an_instance_that_knows_no_versions_gives_its_members_what_is_stored_as_text() {
    let mut mixed = Mixed::with(&previous_binaries().without_versions);
    let place = store(&mut Client::connect(&mixed.new), KEPT, "stored");
    let text = mixed.at_older.recv_message(KEPT);
    let text = text.as_str().expect("a text");
    assert!(text.starts_with(&format!("F2 {} {} ", place.epoch, place.offset)), "{text}");
    assert!(
        text.ends_with(&format!("\n{{\"type\":\"MESSAGE\",\"room\":\"{KEPT}\",\"message\":\"stored\"}}")),
        "{text}"
    );
    mixed.goes_on_after(1);
}
