//! What a room's rule makes of members that do not keep up: they are closed, or left behind and given later what they did not take, or
//! given the newest message alone.

use fanfare_core::broker::memory::MemoryBroker;
use fanfare_core::history::Retention;
use fanfare_core::rules::{Rule, Rules, Slow};
use fanfare_core::{Config, ConnId, Event, Turn};
use fanfare_tests::lone_core::{Does, LoneCore, Said, carry_out, text_to};
use fanfare_tests::{Frame, config, upgrade_request};
use std::time::Duration;

const FILLER_BYTES: usize = 1_000;
/// More than a member may leave unread.
const MESSAGES: usize = 200;

fn settings(slow: Slow, has_history: bool) -> Config {
    config(|config| {
        let mut rule = Rule::new("**".parse().expect("a pattern"));
        let age_max = Duration::from_secs(60);
        rule.history = has_history.then_some(Retention { messages_max: 1_000, bytes_max: 1 << 20, age_max });
        rule.slow = slow;
        config.rules = Rules::new(vec![rule]).expect("a rule");
        config.limits.outbox_bytes_max = 20 * FILLER_BYTES;
    })
}

/// A core with the embedded broker, one socket that takes nothing for a while, and what each was sent.
struct Room {
    lone: LoneCore,
    broker: MemoryBroker,
    slow: Option<ConnId>,
    said: Vec<Said>,
}

impl Room {
    fn new(config: Config) -> Room {
        let broker = MemoryBroker::new(&config);
        let mut room = Room { lone: LoneCore::new(config), broker, slow: None, said: Vec::new() };
        room.turn(|_| {});
        room
    }

    /// A turn, and all that follow from it.
    fn turn(&mut self, feed: impl FnOnce(&mut Turn<'_>)) {
        let Room { lone, broker, slow, said } = self;
        let mut feed = Some(feed);
        loop {
            let mut turn = lone.core.turn(lone.now);
            match feed.take() {
                Some(feed) => feed(&mut turn),
                None => broker.poll_events(|event| turn.feed(Event::Broker(event))),
            }
            turn.feed(Event::Timeout);
            carry_out(
                turn,
                |conn, _| (Some(conn) == *slow).then_some(0),
                |does| match does {
                    Does::Send(conn, bytes) => said.push(Said::Sent(conn, bytes.to_vec())),
                    Does::Close(conn) => said.push(Said::Close(conn)),
                    Does::Shutdown(_) => {}
                    Does::Ask(ask) => broker.ask(ask),
                },
            );
            lone.core.check_invariants();
            let is_due = lone.core.next_timeout().is_some_and(|timeout| timeout <= lone.now);
            if !broker.has_events() && !is_due {
                return;
            }
        }
    }

    fn client(&mut self, path: &str) -> ConnId {
        let mut conn = None;
        self.turn(|turn| conn = turn.open().ok());
        let conn = conn.expect("there is a place");
        let mut head = upgrade_request(path, "").into_bytes();
        self.turn(|turn| turn.feed(Event::Bytes { conn, data: &mut head }));
        conn
    }

    fn command(&mut self, conn: ConnId, text: &str) {
        let mut bytes = Frame::text(text).masked();
        self.turn(|turn| turn.feed(Event::Bytes { conn, data: &mut bytes }));
    }

    fn publish(&mut self, sender: ConnId, numbers: std::ops::Range<usize>) {
        let filler = "x".repeat(FILLER_BYTES);
        for number in numbers {
            self.command(sender, &format!(r#"{{"type":"SEND_MESSAGE","room":"r","message":"<{number}>{filler}"}}"#));
        }
    }

    /// The slow one's socket takes everything again.
    fn recover(&mut self) {
        if let Some(conn) = self.slow.take() {
            self.turn(|turn| turn.feed(Event::Writable { conn }));
        }
    }

    fn numbers(&self, conn: ConnId) -> Vec<usize> {
        let text = text_to(&self.said, conn);
        text.split('<').skip(1).filter_map(|rest| rest.split_once('>')?.0.parse().ok()).collect()
    }
}

/// A sender and a member that is slow from the tenth message on.
fn with_a_slow_member(slow: Slow, has_history: bool, path: &str) -> (Room, ConnId, ConnId) {
    let mut room = Room::new(settings(slow, has_history));
    let sender = room.client("/");
    let member = room.client(path);
    if path == "/" {
        room.command(member, r#"{"type":"SUBSCRIBE","room":"r"}"#);
    }
    room.publish(sender, 0..10);
    room.slow = Some(member);
    room.publish(sender, 10..MESSAGES);
    (room, sender, member)
}

#[test]
fn one_that_is_too_slow_is_closed() {
    let (room, _, _) = with_a_slow_member(Slow::Close, true, "/");
    assert_eq!(room.lone.core.metrics().slow_closes, 1);
}

#[test]
fn one_that_catches_up_gets_everything_in_order() {
    for path in ["/", "/broadcast/r"] {
        let (mut room, sender, member) = with_a_slow_member(Slow::CatchUp, true, path);
        let metrics = room.lone.core.metrics();
        assert_eq!((metrics.slow_closes, metrics.members_behind_now, metrics.members_fallen_behind), (0, 1, 1));
        assert!(metrics.unsent_bytes_now < 3 * FILLER_BYTES as u64, "it is a place, not a queue: {metrics:?}");
        room.recover();
        room.publish(sender, MESSAGES..MESSAGES + 5);
        assert_eq!(room.numbers(member), (0..MESSAGES + 5).collect::<Vec<_>>(), "{path}");
        assert_eq!(room.lone.core.metrics().members_behind_now, 0);
    }
}

#[test]
fn one_that_wants_the_newest_gets_that_and_what_comes() {
    for has_history in [false, true] {
        let (mut room, sender, member) = with_a_slow_member(Slow::Latest, has_history, "/");
        assert!(room.lone.core.metrics().unsent_bytes_now < 3 * FILLER_BYTES as u64);
        room.recover();
        room.publish(sender, MESSAGES..MESSAGES + 2);
        let numbers = room.numbers(member);
        // What it had been given before it became slow, what its queue had by then, the newest, and what came after.
        assert_eq!(numbers, (0..=10).chain(MESSAGES - 1..MESSAGES + 2).collect::<Vec<_>>());
        assert_eq!(room.lone.core.metrics().slow_closes, 0);
    }
}

#[test]
fn one_that_leaves_meanwhile_is_owed_nothing() {
    for slow in [Slow::CatchUp, Slow::Latest] {
        let (mut room, sender, member) = with_a_slow_member(slow, true, "/");
        room.command(member, r#"{"type":"UNSUBSCRIBE","room":"r"}"#);
        room.recover();
        room.publish(sender, MESSAGES..MESSAGES + 2);
        assert!(room.numbers(member).len() <= 12, "{:?}", room.numbers(member));
        room.turn(|turn| turn.feed(Event::Closed { conn: member }));
        let newcomer = room.client("/");
        room.publish(sender, MESSAGES..MESSAGES + 2);
        assert!(room.numbers(newcomer).is_empty());
    }
}
