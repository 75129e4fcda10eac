//! Two and three servers on one Redis: every member of a room, wherever it is connected, sees the same.

use std::thread;

use fanfare_tests::{Client, Redis, Server};
use serde_json::Value;

fn instances<const N: usize>(redis: &Redis) -> [Server; N] {
    std::array::from_fn(|_| Server::launch().redis(redis).start())
}

#[test]
fn a_message_sent_at_one_reaches_members_at_all() {
    let redis = Redis::start();
    let servers: [Server; 3] = instances(&redis);
    let mut members: Vec<Client> = servers.iter().map(|server| Client::member(server, "r")).collect();
    for sender in 0..3 {
        let raw = format!(r#""from {sender}""#);
        members[sender].publish("r", &raw);
        for member in &mut members {
            member.expect_message("r", &raw);
        }
    }
}

#[test]
fn a_stranger_without_a_room_reaches_members_elsewhere() {
    let redis = Redis::start();
    let [one, two]: [Server; 2] = instances(&redis);
    let mut member = Client::member(&two, "r");
    let mut stranger = Client::connect(&one);
    stranger.publish_acknowledged("r", "1");
    member.expect_message("r", "1");
}

#[test]
fn senders_at_every_instance_are_seen_in_one_order_by_all() {
    const INSTANCES: usize = 3;
    const EACH: usize = 300;
    let redis = Redis::start();
    let servers: [Server; INSTANCES] = instances(&redis);
    // Two members at each instance that only read, and one that reads what it sends as well.
    let mut readers: Vec<Client> =
        servers.iter().flat_map(|server| [(); 2].map(|()| Client::member(server, "r"))).collect();
    let senders: Vec<Client> = servers.iter().map(|server| Client::member(server, "r")).collect();
    let sequences: Vec<Vec<Value>> = thread::scope(|scope| {
        let sending = senders.into_iter().enumerate().map(|(sender, mut client)| {
            scope.spawn(move || {
                for number in 0..EACH {
                    client.publish("r", &format!("[{sender},{number}]"));
                }
                (0..INSTANCES * EACH).map(|_| client.recv_message("r")).collect::<Vec<Value>>()
            })
        });
        let sending: Vec<_> = sending.collect();
        let reading = readers.iter_mut().map(|reader| {
            scope.spawn(move || (0..INSTANCES * EACH).map(|_| reader.recv_message("r")).collect::<Vec<Value>>())
        });
        let reading: Vec<_> = reading.collect();
        sending.into_iter().chain(reading).map(|thread| thread.join().expect("all messages arrived")).collect()
    });
    assert_eq!(sequences.len(), 3 * INSTANCES);
    for sequence in &sequences {
        assert_eq!(sequence, &sequences[0]);
    }
    for sender in 0..INSTANCES {
        let own: Vec<&Value> =
            sequences[0].iter().filter(|message| message[0] == sender).map(|message| &message[1]).collect();
        assert!(own.iter().enumerate().all(|(place, number)| **number == place), "sender {sender}: {own:?}");
    }
}

#[test]
fn echo_false_spares_only_the_sender_among_all_instances() {
    let redis = Redis::start();
    let [one, two]: [Server; 2] = instances(&redis);
    let mut sender = Client::member(&one, "r");
    let mut near = Client::member(&one, "r");
    let mut far = Client::member(&two, "r");
    sender.send(r#"{"type":"SEND_MESSAGE","roomId":"r","message":1,"echo":false}"#);
    sender.publish("r", "2");
    sender.expect_message("r", "2");
    for other in [&mut near, &mut far] {
        other.expect_message("r", "1");
        other.expect_message("r", "2");
    }
}

#[test]
fn what_an_instance_publishes_is_one_header_line_and_the_final_text() {
    let redis = Redis::start();
    let [server]: [Server; 1] = instances(&redis);
    let mut outsider = redis.listen("fanfare:r");
    let mut client = Client::connect(&server);
    client.publish("r", r#"{"a" : 1}"#);
    client.send(r#"{"type":"SEND_MESSAGE","roomId":"r","message":2,"echo":false}"#);

    let hexadecimal =
        |text: &str| text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let mut expect = |text: &str| {
        let payload = String::from_utf8(outsider.next_message()).expect("UTF-8");
        let (header, body) = payload.split_once('\n').expect("a header line");
        assert_eq!(body, text);
        let fields: Vec<&str> = header.split(' ').collect();
        let ["F1", node, connection] = fields[..] else { panic!("not a header: {header}") };
        assert!(hexadecimal(node), "{header}");
        (node.to_owned(), connection.to_owned())
    };
    let (node, connection) = expect(r#"{"type":"MESSAGE","room":"r","message":{"a" : 1}}"#);
    assert_eq!(connection, "-");
    let (same_node, connection) = expect(r#"{"type":"MESSAGE","room":"r","message":2}"#);
    assert_eq!(same_node, node);
    assert!(hexadecimal(&connection), "{connection}");
}

#[test]
fn instances_with_different_prefixes_do_not_hear_each_other() {
    let redis = Redis::start();
    let one = Server::launch().redis(&redis).flag("--redis-prefix", "one:").start();
    let two = Server::launch().redis(&redis).flag("--redis-prefix", "two:").start();
    let mut in_one = Client::member(&one, "r");
    let mut in_two = Client::member(&two, "r");
    in_one.publish("r", "1");
    in_one.expect_message("r", "1");
    in_two.publish("r", "2");
    in_two.expect_message("r", "2");
}

#[test]
fn the_embedded_broker_stays_within_its_instance() {
    let one = Server::launch().embedded().start();
    let two = Server::launch().embedded().start();
    let mut in_one = Client::member(&one, "r");
    let mut in_two = Client::member(&two, "r");
    in_one.publish("r", "1");
    in_one.expect_message("r", "1");
    in_two.publish("r", "2");
    in_two.expect_message("r", "2");
}
