//! What RFC 6455 §5 forbids: 1002 for broken framing, 1009 for too much, decided as soon as it is certain.

use fanfare_tests::{Frame, Length, MASK, RawClient, Server, code, head, opcode};

const FIN_TEXT: u8 = 0x80 | opcode::TEXT;

/// A server that does not wait long for peers that will not answer its close frame.
fn server() -> Server {
    Server::launch().flag("--timeouts-close-ms", 300).start()
}

/// A fresh connection that sends these bytes is closed with the code, and then ended.
#[track_caller]
fn expect_close(server: &Server, bytes: impl AsRef<[u8]>, code: u16, what: &str) {
    let mut client = RawClient::upgraded(server.address());
    client.write(bytes);
    assert_eq!(client.recv_close(), Some(code), "{what}");
    client.expect_end();
}

#[test]
fn an_unmasked_frame_is_a_violation() {
    let server = server();
    for frame in [Frame::text("{}"), Frame::text(""), Frame::new(opcode::PING, "x"), Frame::close(1000, "")] {
        expect_close(&server, frame.unmasked(), code::PROTOCOL, &format!("{frame:?}"));
    }
}

#[test]
fn reserved_bits_are_a_violation() {
    let server = server();
    for rsv in 1..=7 {
        expect_close(&server, Frame::text("{}").with_rsv(rsv).masked(), code::PROTOCOL, &format!("rsv {rsv}"));
    }
    expect_close(&server, Frame::new(opcode::PING, "").with_rsv(4).masked(), code::PROTOCOL, "ping with rsv");
}

#[test]
fn reserved_opcodes_are_a_violation() {
    let server = server();
    for opcode in (0x3..=0x7).chain(0xB..=0xF) {
        expect_close(&server, Frame::new(opcode, "").masked(), code::PROTOCOL, &format!("opcode {opcode:#x}"));
    }
}

#[test]
fn a_control_frame_in_fragments_is_a_violation() {
    let server = server();
    for opcode in [opcode::PING, opcode::PONG, opcode::CLOSE] {
        let bytes = Frame::new(opcode, "").unfinished().masked();
        expect_close(&server, bytes, code::PROTOCOL, &format!("opcode {opcode:#x}"));
    }
}

#[test]
fn a_control_frame_above_125_bytes_is_a_violation_from_its_header_on() {
    let server = server();
    for opcode in [opcode::PING, opcode::PONG, opcode::CLOSE] {
        for length in [Length::Medium(126), Length::Long(65_536)] {
            let what = format!("opcode {opcode:#x}, {length:?}");
            expect_close(&server, head(0x80 | opcode, length), code::PROTOCOL, &what);
        }
    }
}

#[test]
fn a_length_in_a_longer_form_than_needed_is_a_violation() {
    let server = server();
    for length in [
        Length::Medium(0),
        Length::Medium(125),
        Length::Long(0),
        Length::Long(125),
        Length::Long(126),
        Length::Long(65_535),
    ] {
        expect_close(&server, head(FIN_TEXT, length), code::PROTOCOL, &format!("{length:?}"));
    }
}

#[test]
fn a_length_of_64_bits_with_the_highest_one_set_is_refused() {
    let server = server();
    let mut client = RawClient::upgraded(server.address());
    client.write(head(FIN_TEXT, Length::Long(1 << 63)));
    // A violation and too big at once.
    assert!(matches!(client.recv_close(), Some(code::PROTOCOL | code::TOO_BIG)));
    client.expect_end();
}

#[test]
fn a_continuation_of_nothing_is_a_violation() {
    let server = server();
    expect_close(&server, Frame::new(opcode::CONTINUATION, "x").masked(), code::PROTOCOL, "at the start");
    let after_whole =
        [Frame::new(opcode::PONG, "").masked(), Frame::new(opcode::CONTINUATION, "x").unfinished().masked()];
    expect_close(&server, after_whole.concat(), code::PROTOCOL, "after a control frame");
}

#[test]
fn a_new_message_within_an_unfinished_one_is_a_violation() {
    let server = server();
    for opcode in [opcode::TEXT, opcode::BINARY] {
        let bytes = [Frame::text("{").unfinished().masked(), Frame::new(opcode, "}").masked()];
        expect_close(&server, bytes.concat(), code::PROTOCOL, &format!("opcode {opcode:#x}"));
    }
}

#[test]
fn a_message_above_the_limit_is_refused_from_its_header_alone() {
    let server = server();
    for length in [65_537, 1 << 20, u64::from(u32::MAX) + 1, i64::MAX as u64] {
        expect_close(&server, head(FIN_TEXT, Length::Long(length)), code::TOO_BIG, &format!("text of {length}"));
        let binary = head(0x80 | opcode::BINARY, Length::Long(length));
        expect_close(&server, binary, code::TOO_BIG, &format!("binary of {length}"));
    }
}

#[test]
fn fragments_above_the_limit_in_all_are_refused_from_the_header_that_exceeds_it() {
    let server = server();
    let mut bytes = Frame::text("x".repeat(65_536)).unfinished().masked();
    bytes.extend(head(opcode::CONTINUATION, Length::Short(1)));
    expect_close(&server, bytes, code::TOO_BIG, "one byte more");
}

#[test]
fn the_limit_is_configured() {
    let server = Server::launch().flag("--limits-message-bytes-max", 2000).flag("--timeouts-close-ms", 300).start();
    expect_close(&server, head(FIN_TEXT, Length::Medium(2001)), code::TOO_BIG, "2001 bytes");
    let mut client = RawClient::upgraded(server.address());
    client.send_text(&"x".repeat(2000));
    assert!(client.recv_text().contains("bad_json"));
}

#[test]
fn nothing_after_a_violation_is_obeyed() {
    let server = server();
    let mut member = RawClient::upgraded(server.address());
    member.send_text(r#"{"type":"SUBSCRIBE","room":"r"}"#);
    assert_eq!(member.recv_text(), r#"{"type":"SUBSCRIBED","room":"r"}"#);

    let mut violator = RawClient::upgraded(server.address());
    let bytes = [
        Frame::new(0x3, "").masked(),
        Frame::text(r#"{"type":"SEND_MESSAGE","roomId":"r","message":"too late"}"#).masked(),
    ];
    violator.write(bytes.concat());
    assert_eq!(violator.recv_close(), Some(code::PROTOCOL));
    violator.expect_end();

    member.send_text(r#"{"type":"SEND_MESSAGE","roomId":"r","message":"next"}"#);
    assert_eq!(member.recv_text(), r#"{"type":"MESSAGE","room":"r","message":"next"}"#);
}

#[test]
fn what_came_before_a_violation_in_the_same_segment_is_answered_first() {
    let server = server();
    let mut client = RawClient::upgraded(server.address());
    let bytes = [Frame::text(r#"{"type":"PING","id":1}"#).masked(), Frame::new(0x3, "").masked()];
    client.write(bytes.concat());
    assert_eq!(client.recv_text(), r#"{"type":"PONG","id":1}"#);
    assert_eq!(client.recv_close(), Some(code::PROTOCOL));
}

#[test]
fn a_peer_gone_within_a_frame_leaves_nothing_behind() {
    let server = Server::launch().ops().start();
    for bytes in [
        vec![FIN_TEXT],
        vec![FIN_TEXT, 0x80 | 126, 1],
        head(FIN_TEXT, Length::Short(5)),
        [vec![FIN_TEXT, 0x85], MASK.to_vec(), vec![1, 2]].concat(),
        Frame::text("{").unfinished().masked(),
    ] {
        let mut client = RawClient::upgraded(server.address());
        client.write(bytes);
    }
    server.wait_for_metrics("every connection is gone", |metrics| metrics.value("fanfare_connections") == 0.0);
}
