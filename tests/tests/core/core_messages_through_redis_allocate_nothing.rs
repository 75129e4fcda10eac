//! Counted by an allocator: once buffers are warm, a message allocates nothing on its whole way from a client's bytes to the bytes for
//! Redis, and from the bytes of Redis to those of all members; nor does the answer to a publish.

use allocation_counter::measure;
use fanfare_core::broker::redis::{ConnectionRequest, RedisBroker};
use fanfare_core::time::Time;
use fanfare_core::{ConnId, Core, Event};
use fanfare_tests::lone_core::{Does, carry_out, take_all};
use fanfare_tests::{Frame, config, redis_config, upgrade_request};
use std::time::Duration;

/// What every `PUBLISH` and every message of RESP3 begin with. Behind it, both have the channel and the payload, byte for byte alike.
const PUBLISH: &[u8] = b"*3\r\n$7\r\nPUBLISH\r\n";
const MESSAGE: &[u8] = b">3\r\n$7\r\nmessage\r\n";

/// What Redis would send, of which the server has read nothing yet.
#[derive(Default)]
struct Redis {
    to_subscriber: Vec<u8>,
    to_publisher: Vec<u8>,
}

impl Redis {
    /// Takes whole commands, as the session writes them.
    fn execute(&mut self, subscribes: bool, mut commands: &[u8]) {
        while !commands.is_empty() {
            let len = command_len(commands);
            let (command, rest) = commands.split_at(len);
            commands = rest;
            if let Some(message) = command.strip_prefix(PUBLISH) {
                self.to_subscriber.extend_from_slice(MESSAGE);
                self.to_subscriber.extend_from_slice(message);
                self.to_publisher.extend_from_slice(b":1\r\n");
            } else if command.starts_with(b"*2\r\n$9\r\nSUBSCRIBE\r\n") {
                let channel = &command[b"*2\r\n$9\r\nSUBSCRIBE\r\n".len()..];
                self.to_subscriber.extend_from_slice(b">3\r\n$9\r\nsubscribe\r\n");
                self.to_subscriber.extend_from_slice(channel);
                self.to_subscriber.extend_from_slice(b":1\r\n");
            } else if command.windows(5).any(|part| part == b"HELLO") {
                let answer = if subscribes { &mut self.to_subscriber } else { &mut self.to_publisher };
                answer.extend_from_slice(b"%1\r\n$5\r\nproto\r\n:3\r\n");
            } else if command == b"*1\r\n$4\r\nROLE\r\n" || command == b"*1\r\n$4\r\nPING\r\n" {
                let answer = if subscribes { &mut self.to_subscriber } else { &mut self.to_publisher };
                answer.extend_from_slice(b"+OK\r\n");
            } else {
                panic!("not asked for here: {:?}", String::from_utf8_lossy(command));
            }
        }
    }
}

/// The length of the array of bulk strings that these bytes begin with.
fn command_len(bytes: &[u8]) -> usize {
    let number = |at: usize| {
        let digits = bytes[at + 1..].iter().take_while(|byte| byte.is_ascii_digit());
        let (value, len) = digits.fold((0, 0), |(value, len), digit| (value * 10 + usize::from(digit - b'0'), len + 1));
        (value, at + 1 + len + 2)
    };
    let (arguments, mut at) = number(0);
    for _ in 0..arguments {
        let (len, start) = number(at);
        at = start + len + 2;
    }
    at
}

struct Server {
    core: Core,
    session: RedisBroker,
    redis: Redis,
    now: Time,
    /// What comes from Redis in one turn at most.
    read_bytes_max: usize,
    delivered: usize,
    delivered_bytes: usize,
}

impl Server {
    fn new(connections_max: usize) -> Server {
        let mut server = Server {
            core: Core::new(config(|config| config.admission.connections_max = connections_max)),
            session: RedisBroker::new(redis_config(|_| {})),
            redis: Redis::default(),
            now: Time::ZERO,
            read_bytes_max: usize::MAX,
            delivered: 0,
            delivered_bytes: 0,
        };
        server.settle();
        assert_eq!(server.core.readiness(), Ok(()));
        server
    }

    /// One turn, in the order in which the mio adapter does it: Redis, then clients, then what is to be written.
    fn turn(&mut self, reads: &mut [(ConnId, Vec<u8>)]) {
        let Server { core, session, redis, now, .. } = self;
        let mut turn = core.turn(*now);
        for link in session.links() {
            let waiting = if session.receives(link) { &mut redis.to_subscriber } else { &mut redis.to_publisher };
            let taken = waiting.len().min(self.read_bytes_max);
            session.input(link, &waiting[..taken], *now, |event| turn.feed(Event::Broker(event)));
            waiting.drain(..taken);
        }
        session.poll_events(|event| turn.feed(Event::Broker(event)));
        for (conn, data) in reads {
            turn.feed(Event::Bytes { conn: *conn, data });
        }
        turn.feed(Event::Timeout);
        carry_out(turn, take_all, |does| match does {
            Does::Send(_, bytes) => {
                self.delivered += 1;
                self.delivered_bytes += bytes.len();
            }
            Does::Ask(ask) => session.ask(ask),
            other => panic!("nobody leaves here: {other:?}"),
        });
        while let Some((link, request)) = session.poll_connection(*now) {
            assert_ne!(request, ConnectionRequest::Drop);
            session.connected(link, *now);
        }
        for link in session.links() {
            let subscribes = session.receives(link);
            let output = session.output(link);
            let written = output.len();
            redis.execute(subscribes, output);
            session.written(link, written);
        }
    }

    /// Turns until nothing is left to be said.
    fn settle(&mut self) {
        loop {
            self.turn(&mut []);
            let due = self.core.next_timeout().is_some_and(|timeout| timeout <= self.now);
            if !due && self.redis.to_subscriber.is_empty() && self.redis.to_publisher.is_empty() {
                return;
            }
        }
    }

    fn join(&mut self, room: &str) -> ConnId {
        let mut turn = self.core.turn(self.now);
        let conn = turn.open().expect("there is a place");
        drop(turn.finish());
        self.turn(&mut [(conn, upgrade_request("/", "").into_bytes())]);
        let command = format!(r#"{{"type":"SUBSCRIBE","room":"{room}"}}"#);
        self.turn(&mut [(conn, Frame::text(command).masked())]);
        self.settle();
        // What the core keeps of a client that has just been busy goes with the turns that follow.
        self.now = self.now + Duration::from_millis(2);
        self.turn(&mut []);
        conn
    }

    fn is_quiet(&self) -> bool {
        self.session.stats().publishes_in_flight == 0 && self.redis.to_subscriber.is_empty()
    }
}

/// A message to a room, for which an answer is asked, or none.
fn message(room: &str, text: &str, id: &str) -> Vec<u8> {
    Frame::text(format!(r#"{{"type":"SEND_MESSAGE","roomId":"{room}","message":{{"text":"{text}"}}{id}}}"#)).masked()
}

#[test]
fn a_message_from_one_client_through_redis_to_ten_thousand() {
    let mut server = Server::new(10_000);
    let members: Vec<ConnId> = (0..10_000).map(|_| server.join("r")).collect();
    let mut reads = [(); 3].map(|()| [(members[7], message("r", "hello", r#","id":"0a1b2c""#))]);
    let [warm, warmer, counted] = &mut reads;
    for read in [warm, warmer] {
        server.turn(read);
        server.settle();
    }

    server.delivered = 0;
    let allocations = measure(|| {
        server.turn(counted);
        server.settle();
    });
    // The answer comes on the connection that publishes, in the turn of the message or in one of its own.
    assert!((10_000..=10_001).contains(&server.delivered), "{}", server.delivered);
    assert!(server.is_quiet());
    assert_eq!(allocations.count_total, 0, "{allocations:?}");
}

/// What members of all rooms send, round by round: none, one or several of them, with and without asking for an answer, some two
/// messages in one read. Nobody is silent for long enough between two messages to need no meter.
fn steady(rounds: std::ops::Range<usize>, members: &[Vec<ConnId>]) -> Vec<Vec<(ConnId, Vec<u8>)>> {
    let read = |round: usize, sender: usize| {
        let room = (round * 7 + sender * 3) % members.len();
        let conn = members[room][(round + sender) % members[room].len()];
        let id = if sender.is_multiple_of(2) { r#","id":7"# } else { "" };
        let one = || message(&format!("room {room}"), &"x".repeat(round % 200), id);
        (conn, if round.is_multiple_of(3) { [one(), one()].concat() } else { one() })
    };
    rounds.map(|round| (0..round % 5).map(|sender| read(round, sender)).collect()).collect()
}

#[test]
fn a_steady_stream_through_redis() {
    const ROOMS: usize = 20;
    const MEMBERS: usize = 10;
    let mut server = Server::new(ROOMS * MEMBERS);
    let members: Vec<Vec<ConnId>> =
        (0..ROOMS).map(|room| (0..MEMBERS).map(|_| server.join(&format!("room {room}"))).collect()).collect();
    let run = |server: &mut Server, rounds: &mut Vec<Vec<(ConnId, Vec<u8>)>>| {
        for (round, reads) in rounds.iter_mut().enumerate() {
            // What Redis says comes in pieces of every length.
            server.read_bytes_max = 1 + round * 37 % 4_000;
            server.turn(reads);
            server.now = server.now + Duration::from_micros(50 + (round * 613 % 2_000) as u64);
        }
        server.read_bytes_max = usize::MAX;
        server.settle();
    };
    // Buffers give back what only a burst needed after each 1,024 uses: so often, and more often, that has to be for nothing.
    const ROUNDS: usize = 6_000;
    let mut warm = steady(0..ROUNDS, &members);
    run(&mut server, &mut warm);

    let mut counted = steady(0..ROUNDS, &members);
    server.delivered_bytes = 0;
    let allocations = measure(|| run(&mut server, &mut counted));
    assert!(server.is_quiet());
    assert!(server.delivered_bytes > 10 * ROUNDS * 100, "{}", server.delivered_bytes);
    assert_eq!(allocations.count_total, 0, "{allocations:?}");
}
