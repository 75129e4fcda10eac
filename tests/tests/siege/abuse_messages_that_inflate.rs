//! Compressed messages that are some 150 bytes on the wire and 64 KiB when they are inflated: what comes out counts, so that whoever
//! sends many of them is thrown out, and the others do not notice.

use std::io::{ErrorKind, Read, Write};
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use fanfare_tests::abuse::{
    Hogs, INFLATED_BYTES, INFLATING_PER_READ, Siege, compressing, inflating_messages, inflating_pings,
    members_in_four_forms,
};
use fanfare_tests::{
    Adapter, COMPRESSED, Client, DEADLINE, Frame, RawClient, Redis, Server, code, deflated, eventually, opcode,
};

/// Waves of a client that must be thrown out before all are answered: 14 MiB inflated, and a second's worth is one.
const WAVES: usize = 4;
/// Messages a second of a hog, a little below what counts as too many.
const HOG_MESSAGES: usize = 950;
/// What a siege may take: the messages of a turn inflated, and what is said to members.
const BYTES_MAX: u64 = 32 << 20;

const TINY: &[u8] = br#"{"type":"PING"}"#;

/// Sends `WAVES` waves of commands, each with its number as `id`: so many of them were answered before the connection was
/// closed with the code.
fn answered_before_the_close(server: &Server, commands: impl Fn(Range<usize>) -> Vec<u8>) -> (usize, Option<u16>) {
    let mut client = compressing(server.address(), "/fanfare", 15);
    // Nothing that came before makes what follows look small.
    client.send_text(&String::from_utf8_lossy(TINY));
    assert_eq!(client.recv_text(), r#"{"type":"PONG"}"#);
    for number in 0..WAVES {
        client.write_or_gone(commands(number * INFLATING_PER_READ..(number + 1) * INFLATING_PER_READ));
    }
    let mut answered = 0;
    while answered < WAVES * INFLATING_PER_READ {
        match client.recv_or_end() {
            Some(frame) if frame.opcode == opcode::CLOSE => {
                let code = frame.payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                return (answered, code);
            }
            Some(frame) => answered += usize::from(frame.opcode == opcode::TEXT),
            None => return (answered, None),
        }
    }
    (answered, None)
}

#[track_caller]
fn expect_thrown_out(commands: impl Fn(Range<usize>) -> Vec<u8>) {
    let server = Server::launch().ops().start();
    let _members = members_in_four_forms(&server, "r");
    let (answered, code) = answered_before_the_close(&server, commands);
    assert!(answered < WAVES * INFLATING_PER_READ, "all {answered} commands were answered");
    assert_eq!(code, Some(code::TOO_FAST), "after {answered} answers");
    server.wait_for_metrics("it is counted", |metrics| {
        metrics.value(r#"fanfare_rate_limited_total{limit="bytes"}"#) >= 1.0
            && metrics.value("fanfare_rate_closes_total") >= 1.0
    });
}

#[test]
fn commands_of_unknown_keys_count_as_what_they_inflate_to() {
    expect_thrown_out(inflating_pings);
}

#[test]
fn texts_for_a_room_count_as_what_they_inflate_to() {
    expect_thrown_out(|ids| inflating_messages("r", ids, "x"));
}

#[test]
fn texts_of_quotation_marks_count_as_what_they_inflate_to() {
    expect_thrown_out(|ids| inflating_messages("r", ids, r#"\""#));
}

#[test]
fn fragments_count_as_what_their_message_inflates_to() {
    let payload = deflated(format!(r#"{{"type":"PING","padding":"{}"}}"#, "x".repeat(INFLATED_BYTES - 50)));
    let (begin, end) = payload.split_at(payload.len() / 2);
    let begin = Frame::text(begin).with_rsv(COMPRESSED).unfinished().masked();
    let message = [begin, Frame::new(opcode::CONTINUATION, end).masked()].concat();
    expect_thrown_out(|ids| message.repeat(ids.len()));
}

/// The crowd makes half a minute's work for all clients together, all of it within its limits, and goes on being there.
#[test]
fn who_makes_much_work_and_keeps_the_rules_is_answered_beside_those_who_do_not() {
    const CROWD: usize = 256;
    let server = Server::launch().ops().start();
    let mut client = compressing(server.address(), "/fanfare", 15);
    let ask = |client: &mut RawClient, id: usize| {
        client.write(inflating_pings(id..id + 1));
        assert_eq!(client.recv_text(), format!(r#"{{"type":"PONG","id":{id}}}"#));
    };
    (0..5).for_each(|id| ask(&mut client, id));
    let bombs = inflating_pings(0..31);
    let crowd: Vec<RawClient> = (0..CROWD)
        .map(|_| {
            let mut hog = compressing(server.address(), "/fanfare", 15);
            hog.write(&bombs);
            hog
        })
        .collect();
    (5..15).for_each(|id| ask(&mut client, id));
    drop(crowd);
}

#[test]
fn a_few_large_compressed_messages_are_in_order() {
    let server = Server::start();
    let mut client = compressing(server.address(), "/fanfare", 15);
    // Half of what may come at once by default.
    for id in 0..16 {
        client.write(inflating_pings(id..id + 1));
        assert_eq!(client.recv_text(), format!(r#"{{"type":"PONG","id":{id}}}"#));
    }
}

/// A wave that one read takes, each time after a command that is as small as commands are.
fn pings() -> (Vec<u8>, Vec<u8>) {
    (Frame::text(TINY).masked(), inflating_pings(0..INFLATING_PER_READ))
}

#[test]
fn a_pair_loses_nothing_to_those_who_send_them() {
    let server = Server::launch().flag("--timeouts-close-ms", 300).ops().start();
    let (tiny, wave) = pings();
    Siege::lay(&server, BYTES_MAX, |siege| {
        let hogs = Hogs::start(server.address(), 4, &tiny, &wave);
        eventually("twelve waves are sent", || (hogs.waves() >= 12).then_some(()));
        siege.last();
        let closes = server.metrics().value("fanfare_rate_closes_total");
        assert!(closes >= 4.0, "{closes} of those who send twelve waves were thrown out");
    });
}

/// Clients that answer pings and do nothing else.
struct Idlers {
    clients: Vec<Idler>,
}

struct Idler {
    client: RawClient,
    received: Vec<u8>,
    pings: usize,
}

impl Idlers {
    const COUNT: usize = 30;

    fn new(server: &Server) -> Idlers {
        let idler = |_| {
            let client = RawClient::upgraded(server.address());
            client.stream().set_nonblocking(true).expect("an open socket takes options");
            Idler { client, received: Vec::new(), pings: 0 }
        };
        Idlers { clients: (0..Idlers::COUNT).map(idler).collect() }
    }

    /// Answers until each has been pinged `pings` times and `is_over` holds; how those ended that did.
    fn answer(&mut self, pings: usize, is_over: impl Fn() -> bool) -> Vec<String> {
        let deadline = Instant::now() + 6 * DEADLINE;
        let mut ended = Vec::new();
        while ended.is_empty() && !(is_over() && self.clients.iter().all(|idler| idler.pings >= pings)) {
            assert!(Instant::now() < deadline, "the idle were not pinged {pings} times");
            ended = self.clients.iter_mut().filter_map(Idler::answer).collect();
            thread::sleep(Duration::from_millis(5));
        }
        ended
    }
}

impl Idler {
    /// Answers what has come; how the connection has ended, if it has.
    fn answer(&mut self) -> Option<String> {
        let mut buffer = [0; 4_096];
        match self.client.stream().read(&mut buffer) {
            Ok(0) => return Some("without a word".to_owned()),
            Ok(count) => self.received.extend_from_slice(&buffer[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return None,
            Err(error) => return Some(error.to_string()),
        }
        while let Some((frame, length)) = Frame::parse(&self.received) {
            self.received.drain(..length);
            match frame.opcode {
                opcode::PING => {
                    let pong = Frame::new(opcode::PONG, frame.payload).masked();
                    self.client.stream().write_all(&pong).expect("a pong fits any socket");
                    self.pings += 1;
                }
                _ => return Some(format!("{frame:?}")),
            }
        }
        None
    }
}

#[test]
fn who_answers_pings_stays_and_newcomers_get_in_whatever_a_hundred_of_them_send() {
    const HOGS: usize = 100;
    const NEWCOMERS: usize = 30;
    let server = Server::launch()
        .flag("--timeouts-ping-interval-ms", 500)
        .flag("--timeouts-pong-timeout-ms", 2_000)
        .flag("--timeouts-handshake-ms", 2_000)
        .start();
    let mut idlers = Idlers::new(&server);
    let (tiny, wave) = pings();
    let hogs = Hogs::start(server.address(), HOGS, &tiny, &wave);
    eventually("all of them are at work", || (hogs.waves() >= HOGS as u64).then_some(()));
    thread::scope(|scope| {
        let newcomers = scope.spawn(|| {
            for number in 0..NEWCOMERS {
                let refused = |response: fanfare_tests::Response| panic!("newcomer {number}: {}", response.head);
                let mut newcomer = RawClient::try_upgrade(server.address()).unwrap_or_else(refused);
                newcomer.send_text(&format!(r#"{{"type":"SUBSCRIBE","room":"newcomer {number}"}}"#));
                while !newcomer.recv().payload.starts_with(br#"{"type":"SUBSCRIBED""#) {}
            }
        });
        let ended = idlers.answer(6, || newcomers.is_finished() && hogs.waves() >= 5 * HOGS as u64);
        assert!(ended.is_empty(), "{} of {} that answer every ping: {ended:?}", ended.len(), Idlers::COUNT);
    });
}

/// Texts for the attacked room, as many a second as one may send.
fn texts() -> Vec<u8> {
    inflating_messages("attacked", 0..HOG_MESSAGES, "x")
}

#[test]
fn another_instance_keeps_its_redis_and_gets_every_acknowledged_message() {
    let redis = Redis::start();
    let [attacked, other] = [(); 2].map(|()| Server::launch().redis(&redis).ops().start());
    let _members = members_in_four_forms(&other, "attacked");
    let (mut sender, mut receiver) = (Client::connect(&attacked), Client::member(&other, "unrelated"));
    let hogs = Hogs::start(attacked.address(), 4, b"", &texts());
    let mut number = 0;
    // Five seconds' worth, in which that used to happen several times.
    while hogs.waves() < 20 {
        sender.publish_acknowledged("unrelated", &number.to_string());
        receiver.expect_message("unrelated", &number.to_string());
        number += 1;
        thread::sleep(Duration::from_millis(10));
    }
    drop(hogs);
    let reconnects = other.metrics().value("fanfare_broker_reconnects_total");
    assert_eq!(reconnects, 0.0, "after {number} messages");
}

#[test]
fn a_room_of_others_finds_the_embedded_broker_free() {
    // The other server has one loop, so nothing between two of them.
    let workers = if Adapter::under_test() == Adapter::Mio { 2 } else { 1 };
    let server = Server::launch().embedded().workers(workers).ops().start();
    let _members = members_in_four_forms(&server, "attacked");
    // With two workers, at least one is not where the receivers are, for they are two as well.
    let mut receivers: Vec<Client> = (0..2).map(|_| Client::member(&server, "unrelated")).collect();
    let mut senders: Vec<Client> = (0..4).map(|_| Client::connect(&server)).collect();
    let hogs = Hogs::start(server.address(), 6, b"", &texts());
    let mut number = 0;
    while hogs.waves() < 30 {
        for sender in &mut senders {
            // An ERROR in place of the ACK, such as `broker_busy`, is what fails here.
            sender.publish_acknowledged("unrelated", &number.to_string());
            receivers.iter_mut().for_each(|receiver| receiver.expect_message("unrelated", &number.to_string()));
            number += 1;
        }
        thread::sleep(Duration::from_millis(10));
    }
}
