//! Counted by an allocator: once its buffers are warm, a message on its way through the core allocates nothing, whatever the
//! number of members.

use allocation_counter::{AllocationInfo, measure};
use fanfare_core::broker::memory::MemoryBroker;
use fanfare_core::time::Time;
use fanfare_core::{Config, ConnId, Core, Event};
use fanfare_tests::lone_core::{Does, carry_out, take_all};
use fanfare_tests::{Frame, config, upgrade_request};
use std::time::Duration;

struct Server {
    core: Core,
    broker: MemoryBroker,
    now: Time,
    delivered: usize,
}

impl Server {
    fn turn(&mut self, read: Option<(ConnId, &mut [u8])>) {
        let Server { core, broker, now, delivered } = self;
        let mut turn = core.turn(*now);
        broker.poll_events(|event| turn.feed(Event::Broker(event)));
        if let Some((conn, data)) = read {
            turn.feed(Event::Bytes { conn, data });
        }
        turn.feed(Event::Timeout);
        carry_out(turn, take_all, |does| match does {
            Does::Send(..) => *delivered += 1,
            Does::Ask(ask) => broker.ask(ask),
            other => panic!("nobody leaves here: {other:?}"),
        });
    }

    /// A turn for what the broker has to say, and then as many as the core asks for at once.
    fn turns(&mut self) {
        self.turn(None);
        while self.core.next_timeout().is_some_and(|timeout| timeout <= self.now) {
            self.turn(None);
        }
    }

    fn join(&mut self) -> ConnId {
        let mut turn = self.core.turn(self.now);
        let conn = turn.open().expect("there is a place");
        carry_out(turn, take_all, |does| panic!("nothing has been said yet: {does:?}"));
        self.turn(Some((conn, &mut upgrade_request("/", "").into_bytes())));
        self.turn(Some((conn, &mut Frame::text(r#"{"type":"SUBSCRIBE","room":"r"}"#).masked())));
        self.turn(None);
        // What the core keeps of a client that has just been busy goes with the turns that follow.
        self.now = self.now + Duration::from_millis(2);
        self.turn(None);
        conn
    }

    /// What is allocated while a message goes to all of them, after two that warm the buffers.
    fn allocations_of(&mut self, sender: ConnId, text: &str) -> AllocationInfo {
        let mut frames = [(); 3].map(|()| Frame::text(text).masked());
        let [warm, warmer, counted] = &mut frames;
        for frame in [warm, warmer] {
            self.turn(Some((sender, frame)));
            self.turns();
        }

        self.delivered = 0;
        measure(|| {
            self.turn(Some((sender, counted)));
            self.turns();
        })
    }
}

#[test]
fn a_message_from_one_client_to_ten_thousand_allocates_nothing() {
    let config = config(|config| config.admission.connections_max = 10_000);
    let mut server = Server { core: Core::new(config), broker: MemoryBroker::default(), now: Time::ZERO, delivered: 0 };
    let members: Vec<ConnId> = (0..10_000).map(|_| server.join()).collect();
    let text = r#"{"type":"SEND_MESSAGE","roomId":"r","message":{"text":"hello"},"id":"0a1b2c"}"#;
    let allocations = server.allocations_of(members[7], text);
    assert_eq!(server.delivered, 10_000, "every member once: the sender gets its ACK with the message");
    assert_eq!(allocations.count_total, 0, "{allocations:?}");
}

#[test]
fn a_long_message_allocates_nothing_either() {
    let mut server =
        Server { core: Core::new(Config::default()), broker: MemoryBroker::default(), now: Time::ZERO, delivered: 0 };
    let members: Vec<ConnId> = (0..10).map(|_| server.join()).collect();
    let text = format!(r#"{{"type":"SEND_MESSAGE","roomId":"r","message":"{}"}}"#, "x".repeat(50_000));
    let allocations = server.allocations_of(members[7], &text);
    assert_eq!(server.delivered, 10);
    assert_eq!(allocations.count_total, 0, "{allocations:?}");
}

#[test]
fn an_idle_member_holds_no_buffer() {
    let config = config(|config| config.admission.connections_max = 10_000);
    let mut server = Server { core: Core::new(config), broker: MemoryBroker::default(), now: Time::ZERO, delivered: 0 };
    for _ in 0..100 {
        server.join();
    }
    // Every vector that grows by doubling has room for one more.
    let allocations = measure(|| {
        server.join();
    });
    assert!(allocations.bytes_current.abs() < 64, "{allocations:?}");
}
