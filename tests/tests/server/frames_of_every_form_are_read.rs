//! Frames as RFC 6455 §5 allows them: every form of the length, fragments, control frames in between.

use fanfare_tests::{Frame, RawClient, Server, opcode};

const PREFIX: &str = r#"{"type":"SEND_MESSAGE","roomId":"r","message":""#;
const SUFFIX: &str = r#""}"#;
const DELIVERED_PREFIX: &str = r#"{"type":"MESSAGE","room":"r","message":""#;

/// A member of the room `r`.
fn member(server: &Server) -> RawClient {
    let mut client = RawClient::upgraded(server.address());
    client.send_text(r#"{"type":"SUBSCRIBE","room":"r"}"#);
    assert_eq!(client.recv_text(), r#"{"type":"SUBSCRIBED","room":"r"}"#);
    client
}

/// A command of exactly this many bytes that sends so many `x` to the room.
fn command_of(length: usize) -> String {
    format!("{PREFIX}{}{SUFFIX}", "x".repeat(length - PREFIX.len() - SUFFIX.len()))
}

/// What arrives of it: a `MESSAGE` of the same text.
fn delivered(command: &str) -> String {
    command.replacen(PREFIX, DELIVERED_PREFIX, 1)
}

#[test]
fn lengths_at_the_edges_of_each_form_arrive_whole() {
    let server = Server::start();
    let mut client = member(&server);
    for length in [60, 125, 126, 127, 128, 4095, 4096, 65_534, 65_535, 65_536] {
        let command = command_of(length);
        client.send_text(&command);
        assert_eq!(client.recv_text(), delivered(&command), "{length}");
    }
}

#[test]
fn lengths_at_the_edges_of_each_form_are_sent() {
    let server = Server::launch().flag("--limits-message-bytes-max", 200_000).start();
    let mut client = member(&server);
    for length in [124, 125, 126, 127, 65_534, 65_535, 65_536, 65_537, 150_000] {
        let command = command_of(length + PREFIX.len() - DELIVERED_PREFIX.len());
        client.send_text(&command);
        let text = client.recv_text();
        assert_eq!(text.len(), length);
        assert_eq!(text, delivered(&command));
    }
}

#[test]
fn an_empty_text_is_a_message_that_is_no_json() {
    let server = Server::start();
    let mut client = member(&server);
    client.send_text("");
    assert!(client.recv_text().contains(r#""code":"bad_json""#));
}

#[test]
fn a_message_in_fragments_is_one_message() {
    let server = Server::start();
    let mut client = member(&server);
    let command = command_of(100);
    for pieces in [1, 2, 3, 7, 50] {
        let chunks: Vec<&[u8]> = command.as_bytes().chunks(command.len().div_ceil(pieces)).collect();
        let mut bytes = Vec::new();
        for (index, chunk) in chunks.iter().enumerate() {
            let opcode = if index == 0 { opcode::TEXT } else { opcode::CONTINUATION };
            let frame = Frame::new(opcode, chunk);
            bytes.extend(if index + 1 == chunks.len() { frame } else { frame.unfinished() }.masked());
        }
        client.write(bytes);
        assert_eq!(client.recv_text(), delivered(&command), "{pieces} fragments");
    }
}

#[test]
fn empty_fragments_are_fragments() {
    let server = Server::start();
    let mut client = member(&server);
    let command = command_of(80);
    client.send(&Frame::text("").unfinished());
    client.send(&Frame::new(opcode::CONTINUATION, "").unfinished());
    client.send(&Frame::new(opcode::CONTINUATION, &command).unfinished());
    client.send(&Frame::new(opcode::CONTINUATION, ""));
    assert_eq!(client.recv_text(), delivered(&command));
}

#[test]
fn fragments_up_to_the_limit_in_all_are_taken() {
    let server = Server::start();
    let mut client = member(&server);
    let command = command_of(65_536);
    let (first, second) = command.split_at(40_000);
    client.send(&Frame::text(first).unfinished());
    client.send(&Frame::new(opcode::CONTINUATION, second));
    assert_eq!(client.recv_text(), delivered(&command));
}

#[test]
fn control_frames_between_fragments_are_answered_at_once() {
    let server = Server::start();
    let mut client = member(&server);
    let command = command_of(90);
    let (first, second) = command.split_at(30);
    client.send(&Frame::text(first).unfinished());
    client.send(&Frame::new(opcode::PING, "between"));
    assert_eq!(client.recv(), Frame::new(opcode::PONG, "between"));
    client.send(&Frame::new(opcode::PONG, "unasked"));
    client.send(&Frame::new(opcode::CONTINUATION, second));
    assert_eq!(client.recv_text(), delivered(&command));
}

#[test]
fn a_ping_is_answered_with_its_own_payload() {
    let server = Server::start();
    let mut client = RawClient::upgraded(server.address());
    for payload in [b"".to_vec(), b"x".to_vec(), vec![0xff; 125], (0..125).collect()] {
        client.send(&Frame::new(opcode::PING, &payload));
        assert_eq!(client.recv(), Frame::new(opcode::PONG, &payload));
    }
}

#[test]
fn an_unasked_pong_is_ignored() {
    let server = Server::start();
    let mut client = RawClient::upgraded(server.address());
    client.send(&Frame::new(opcode::PONG, "unasked"));
    client.send_text(r#"{"type":"PING"}"#);
    assert_eq!(client.recv_text(), r#"{"type":"PONG"}"#);
}

#[test]
fn frames_split_at_every_byte_are_whole() {
    let server = Server::start();
    let mut client = member(&server);
    let command = command_of(126);
    for byte in Frame::text(&command).masked() {
        client.write([byte]);
    }
    assert_eq!(client.recv_text(), delivered(&command));
}

#[test]
fn many_frames_in_one_segment_are_all_taken_in_order() {
    let server = Server::start();
    let mut client = member(&server);
    let bytes = (0..500).flat_map(|number| {
        Frame::text(format!(r#"{{"type":"SEND_MESSAGE","roomId":"r","message":{number}}}"#)).masked()
    });
    client.write(bytes.collect::<Vec<u8>>());
    for number in 0..500 {
        assert_eq!(client.recv_text(), format!(r#"{{"type":"MESSAGE","room":"r","message":{number}}}"#));
    }
}
