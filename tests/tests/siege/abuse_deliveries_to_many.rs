//! Few messages to many members: what one connection makes the server deliver in a second is bounded, by bytes times members, and
//! those in the attacked room who read at once stay.

use std::fmt;
use std::net::TcpStream;
use std::thread;
use std::time::Instant;

use fanfare_tests::abuse::{compressing, inflating_messages};
use fanfare_tests::{Client, Frame, Metrics, RawClient, Server, code, opcode};
use serde_json::Value;

/// What a burst may be, by `limits.messages_burst`.
const MESSAGES: usize = 2_000;
/// The defaults of `limits.deliveries_per_second` and `limits.deliveries_burst`: deliveries of up to 1 KiB each.
const DELIVERIES_PER_SECOND: f64 = 50_000.0;
const DELIVERIES_BURST: f64 = 100_000.0;

const LIMITED: &str = r#"fanfare_rate_limited_total{limit="deliveries"}"#;

/// Members of a room that never read. Their sockets take little, for what the kernel holds is not what this is about.
fn deaf(server: &Server, room: &str, count: usize) -> Vec<RawClient> {
    let join = |_| {
        let mut client = RawClient::upgraded(server.address());
        rustix::net::sockopt::set_socket_recv_buffer_size(client.stream(), 4 << 10)
            .expect("an open socket takes options");
        client.send_text(&format!(r#"{{"type":"SUBSCRIBE","room":"{room}"}}"#));
        assert!(client.recv_text().contains("SUBSCRIBED"));
        client
    };
    (0..count).map(join).collect()
}

/// Bytes addressed to clients so far, by whichever name the metric has.
fn bytes_sent(metrics: &Metrics) -> f64 {
    let names = ["fanfare_bytes_out_total", "fanfare_sent_bytes_total"];
    metrics.samples().find(|(name, _)| names.contains(name)).expect("a metric of bytes sent").1
}

/// What became of a burst.
struct Burst {
    /// The `id` of each message that was acknowledged.
    acknowledged: Vec<u64>,
    /// The code of each `ERROR`.
    errors: Vec<String>,
    closed: Option<u16>,
}

impl fmt::Debug for Burst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (acknowledged, errors) = (self.acknowledged.len(), self.errors.len());
        write!(f, "{acknowledged} acknowledged, {errors} refused ({:?}), closed {:?}", self.errors.last(), self.closed)
    }
}

/// Sends everything at once, and reads until each message has its answer or the connection is closed.
fn burst(mut sender: RawClient, bytes: &[u8]) -> Burst {
    let mut outcome = Burst { acknowledged: Vec::new(), errors: Vec::new(), closed: None };
    let mut writer = sender.stream().try_clone().expect("descriptors enough");
    thread::scope(|scope| {
        // While answers are read, for nobody holds them all; and until it is thrown out.
        scope.spawn(move || std::io::Write::write_all(&mut writer, bytes));
        while outcome.acknowledged.len() + outcome.errors.len() < MESSAGES {
            let Some(frame) = sender.recv_or_end() else { break };
            match frame.opcode {
                opcode::TEXT => {
                    let text: Value = serde_json::from_slice(&frame.payload).expect("JSON");
                    match text["type"].as_str() {
                        Some("ACK") => outcome.acknowledged.push(text["id"].as_u64().expect("an id")),
                        _ => outcome.errors.push(text["code"].as_str().expect("a code").to_owned()),
                    }
                }
                opcode::CLOSE => {
                    outcome.closed = frame.payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                    break;
                }
                _ => {}
            }
        }
    });
    outcome
}

/// Each is sixty-four deliveries to every member.
fn large_messages(room: &str) -> Vec<u8> {
    inflating_messages(room, 0..MESSAGES, "x")
}

#[test]
fn a_burst_to_members_that_do_not_read_makes_the_server_say_no_more_than_a_bound() {
    const MEMBERS: usize = 800;
    let server = Server::launch().ops().start();
    let _deaf = deaf(&server, "r", MEMBERS);
    let bytes = large_messages("r");
    let sender = compressing(server.address(), "/fanfare", 15);
    let (before, began) = (bytes_sent(&server.metrics()), Instant::now());
    let outcome = burst(sender, &bytes);
    let metrics = server.metrics();
    let (sent, seconds) = (bytes_sent(&metrics) - before, began.elapsed().as_secs_f64());
    // And one message, for the one that goes over the limit may be taken whole.
    let deliveries_max = DELIVERIES_BURST + DELIVERIES_PER_SECOND * seconds + (64 * MEMBERS) as f64;
    let bytes_max = deliveries_max * 1_024.0;
    assert!(sent <= bytes_max, "{sent} bytes in {seconds} s, {bytes_max} would be in order: {outcome:?}");
    assert_eq!(outcome.closed, Some(code::TOO_FAST), "{outcome:?}");
    assert!(outcome.errors.iter().all(|code| code == "too_fast"), "{outcome:?}");
}

/// A member that reads as fast as it can, on a machine whose sockets hold less than some do.
fn fast_member(server: &Server, room: &str) -> Client {
    let stream = TcpStream::connect(server.address()).expect("it listens");
    rustix::net::sockopt::set_socket_recv_buffer_size(&stream, 128 << 10).expect("an open socket takes options");
    let mut client = Client::upgrade(stream, "/ws");
    client.subscribe(room);
    client
}

#[test]
fn who_reads_at_once_stays_in_an_attacked_room_and_misses_nothing() {
    const MEMBERS: usize = 400;
    let server = Server::launch().ops().start();
    let _deaf = deaf(&server, "r", MEMBERS);
    let mut members: Vec<Client> = (0..2).map(|_| fast_member(&server, "r")).collect();
    let sender = compressing(server.address(), "/fanfare", 15);
    let bytes = large_messages("r");
    thread::scope(|scope| {
        let reading = members.iter_mut().map(|member| {
            scope.spawn(|| {
                let mut heard = Vec::new();
                loop {
                    // Whoever is closed fails here.
                    let message = member.recv_message("r");
                    let message = message.as_str().expect("a text");
                    if message == "the end" {
                        return heard;
                    }
                    let number = message.split(' ').next().expect("a number in front");
                    heard.push(number.parse::<u64>().expect("a number"));
                }
            })
        });
        let reading: Vec<_> = reading.collect();
        let outcome = burst(sender, &bytes);
        // By somebody else, who is not charged for what others have sent.
        Client::connect(&server).publish_acknowledged("r", r#""the end""#);
        for member in reading {
            let heard = member.join().expect("a fast member is not closed");
            let missing = outcome.acknowledged.iter().filter(|id| !heard.contains(id)).count();
            assert_eq!(missing, 0, "of {} acknowledged messages", outcome.acknowledged.len());
        }
    });
    for member in members {
        member.leave();
    }
}

#[test]
fn small_messages_to_many_members_are_bounded_by_their_deliveries() {
    const MEMBERS: usize = 500;
    let server = Server::launch().ops().start();
    // Two thousand messages of fifty bytes fit the sockets of members that do not read, made small or not.
    let _deaf = deaf(&server, "r", MEMBERS);
    let message = |id| Frame::text(format!(r#"{{"type":"SEND_MESSAGE","roomId":"r","message":1,"id":{id}}}"#)).masked();
    let bytes: Vec<u8> = (0..MESSAGES).flat_map(message).collect();
    let began = Instant::now();
    let outcome = burst(RawClient::upgraded(server.address()), &bytes);
    let deliveries = (outcome.acknowledged.len() * MEMBERS) as f64;
    let deliveries_max = DELIVERIES_BURST + DELIVERIES_PER_SECOND * (began.elapsed().as_secs_f64() + 1.0);
    assert!(deliveries <= deliveries_max, "{deliveries} deliveries, {deliveries_max} would be in order");
    // Whether it is closed in the end or not.
    assert!(outcome.errors.iter().all(|code| code == "too_fast"), "{outcome:?}");
    server.wait_for_metrics("it is counted", |metrics| metrics.value(LIMITED) >= 100.0);
}

/// A server that lets each connection have eight deliveries, and one more a second.
fn sparing() -> Server {
    Server::launch().flag("--limits-deliveries-per-second", 1).flag("--limits-deliveries-burst", 8).ops().start()
}

#[test]
fn a_message_beyond_the_rate_is_refused_with_its_id_and_others_are_not_charged() {
    let server = sparing();
    let mut members: Vec<Client> = (0..8).map(|_| Client::member(&server, "r")).collect();
    let mut sender = Client::connect(&server);
    sender.publish_acknowledged("r", "1");
    sender.send(r#"{"type":"SEND_MESSAGE","roomId":"r","message":2,"id":"b"}"#);
    let error = sender.expect_error("too_fast");
    assert_eq!((&error["id"], &error["room"]), (&Value::from("b"), &Value::from("r")));
    // Commands that deliver nothing are free, and so is everybody else.
    sender.fence();
    Client::connect(&server).publish_acknowledged("r", "3");
    for member in &mut members {
        member.expect_message("r", "1");
        member.expect_message("r", "3");
    }
    server.wait_for_metrics("it is counted", |metrics| metrics.value(LIMITED) == 1.0);
}

#[test]
fn a_message_costs_a_delivery_for_every_kib_and_member() {
    let server = sparing();
    let mut members: Vec<Client> = (0..4).map(|_| Client::member(&server, "r")).collect();
    // Two KiB, as it is delivered, to four.
    let raw = format!("{:?}", "x".repeat(1_500));
    let mut sender = Client::connect(&server);
    sender.publish_acknowledged("r", &raw);
    members.iter_mut().for_each(|member| member.expect_message("r", &raw));
    sender.send(r#"{"type":"SEND_MESSAGE","roomId":"r","message":2,"id":1}"#);
    sender.expect_error("too_fast");
}

#[test]
fn whoever_cannot_be_told_is_closed() {
    let server = sparing();
    let mut members: Vec<Client> = (0..8).map(|_| Client::member(&server, "r")).collect();
    let mut sender = Client::connect_to(server.address(), "/classic");
    sender.publish("r", "1");
    sender.publish("r", "2");
    assert_eq!(sender.recv_close(), code::TOO_FAST);
    members.iter_mut().for_each(|member| member.expect_message("r", "1"));
}
