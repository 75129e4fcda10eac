//! Text is UTF-8, and refused with 1007 as soon as it cannot become so (RFC 6455 §8.1).

use fanfare_tests::{Frame, Length, RawClient, Server, code, head, mask, opcode};

fn server() -> Server {
    Server::launch().flag("--timeouts-close-ms", 300).start()
}

/// Beginnings that no following byte can make valid.
const HOPELESS: [&[u8]; 12] = [
    b"\xff",
    b"\xfe",
    b"\x80",
    b"\xbf",
    b"\xc0",
    b"\xc1",
    b"\xf5",
    b"\xe0\x80",
    b"\xed\xa0",
    b"\xf0\x80",
    b"\xf4\x90",
    b"\xc3(",
];

#[test]
fn a_whole_frame_that_is_not_utf8_is_refused() {
    let server = server();
    for bytes in HOPELESS {
        let mut client = RawClient::upgraded(server.address());
        client.send(&Frame::text([b"\"ok ", bytes, b"\""].concat()));
        assert_eq!(client.recv_close(), Some(code::NOT_UTF8), "{bytes:02x?}");
        client.expect_end();
    }
}

#[test]
fn a_hopeless_beginning_is_refused_before_the_rest_of_the_frame_comes() {
    let server = server();
    for bytes in HOPELESS {
        let mut client = RawClient::upgraded(server.address());
        let so_far = [b"\"ok ", bytes].concat();
        client.write(head(0x80 | opcode::TEXT, Length::Short(100)));
        client.write(mask(so_far));
        assert_eq!(client.recv_close(), Some(code::NOT_UTF8), "{bytes:02x?}");
        client.expect_end();
    }
}

#[test]
fn a_hopeless_beginning_is_refused_before_the_next_fragment_comes() {
    let server = server();
    for bytes in HOPELESS {
        let mut client = RawClient::upgraded(server.address());
        client.send(&Frame::text("\"ok ").unfinished());
        client.send(&Frame::new(opcode::CONTINUATION, bytes).unfinished());
        assert_eq!(client.recv_close(), Some(code::NOT_UTF8), "{bytes:02x?}");
        client.expect_end();
    }
}

#[test]
fn a_code_point_split_wrongly_over_fragments_is_refused() {
    let server = server();
    let mut client = RawClient::upgraded(server.address());
    client.send(&Frame::text(b"\"\xe2\x82").unfinished());
    client.send(&Frame::new(opcode::CONTINUATION, b"\x28").unfinished());
    assert_eq!(client.recv_close(), Some(code::NOT_UTF8));
}

#[test]
fn a_message_that_ends_within_a_code_point_is_refused() {
    let server = server();
    for bytes in [b"\xc3".as_slice(), b"\xe2\x82", b"\xf0\x9f\x98"] {
        let mut client = RawClient::upgraded(server.address());
        client.send(&Frame::text(bytes));
        assert_eq!(client.recv_close(), Some(code::NOT_UTF8), "{bytes:02x?} in one frame");

        let mut client = RawClient::upgraded(server.address());
        client.send(&Frame::text(bytes).unfinished());
        client.send(&Frame::new(opcode::CONTINUATION, ""));
        assert_eq!(client.recv_close(), Some(code::NOT_UTF8), "{bytes:02x?} in two");
    }
}

#[test]
fn code_points_split_over_fragments_and_segments_are_whole() {
    let server = server();
    let mut client = RawClient::upgraded(server.address());
    client.send_text(r#"{"type":"SUBSCRIBE","room":"r"}"#);
    assert_eq!(client.recv_text(), r#"{"type":"SUBSCRIBED","room":"r"}"#);

    let command = r#"{"type":"SEND_MESSAGE","roomId":"r","message":"é € 😀 \u0000"}"#;
    let delivered = r#"{"type":"MESSAGE","room":"r","message":"é € 😀 \u0000"}"#;
    let (last, others) = command.as_bytes().split_last().expect("a text");
    for (index, byte) in others.iter().enumerate() {
        let opcode = if index == 0 { opcode::TEXT } else { opcode::CONTINUATION };
        client.send(&Frame::new(opcode, [*byte]).unfinished());
    }
    client.send(&Frame::new(opcode::CONTINUATION, [*last]));
    assert_eq!(client.recv_text(), delivered);

    for byte in Frame::text(command).masked() {
        client.write([byte]);
    }
    assert_eq!(client.recv_text(), delivered);
}

#[test]
fn a_control_frame_within_a_split_code_point_does_not_disturb_it() {
    let server = server();
    let mut client = RawClient::upgraded(server.address());
    let text = r#"{"type":"PING","id":"é"}"#.as_bytes();
    let cut = text.iter().position(|&byte| byte == 0xc3).expect("an é") + 1;
    client.send(&Frame::text(&text[..cut]).unfinished());
    client.send(&Frame::new(opcode::PING, b"\xff\xfe"));
    assert_eq!(client.recv(), Frame::new(opcode::PONG, b"\xff\xfe"));
    client.send(&Frame::new(opcode::CONTINUATION, &text[cut..]));
    assert_eq!(client.recv_text(), r#"{"type":"PONG","id":"é"}"#);
}

#[test]
fn binary_need_not_be_utf8() {
    let server = server();
    let mut client = RawClient::upgraded(server.address());
    client.send(&Frame::new(opcode::BINARY, b"\xff\xfe\x00").unfinished());
    client.send(&Frame::new(opcode::CONTINUATION, b"\xc0"));
    assert!(client.recv_text().contains(r#""code":"binary_not_supported""#));
    client.send_text(r#"{"type":"PING"}"#);
    assert_eq!(client.recv_text(), r#"{"type":"PONG"}"#);
}
