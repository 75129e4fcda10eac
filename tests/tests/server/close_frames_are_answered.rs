//! The closing handshake (RFC 6455 §5.5.1, §7): the code comes back, forbidden codes are a violation, and a peer that
//! never answers is not waited for.

use fanfare_tests::{Client, Frame, RawClient, Server, code, opcode};

fn server() -> Server {
    Server::launch().flag("--timeouts-close-ms", 300).start()
}

#[test]
fn the_code_of_a_close_frame_comes_back_and_the_connection_ends() {
    let server = server();
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999] {
        let mut client = RawClient::upgraded(server.address());
        client.send(&Frame::close(code, "see you"));
        assert_eq!(client.recv_close(), Some(code));
        client.expect_end();
    }
}

#[test]
fn an_empty_close_frame_is_answered_with_a_close_frame() {
    let server = server();
    let mut client = RawClient::upgraded(server.address());
    client.send(&Frame::new(opcode::CLOSE, ""));
    assert!(matches!(client.recv_close(), None | Some(code::NORMAL)));
    client.expect_end();
}

#[test]
fn codes_that_no_peer_may_send_are_a_violation() {
    let server = server();
    for sent in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1999, 2000, 2999, 5000, 65_535] {
        let mut client = RawClient::upgraded(server.address());
        client.send(&Frame::close(sent, ""));
        assert_eq!(client.recv_close(), Some(code::PROTOCOL), "{sent}");
        client.expect_end();
    }
}

#[test]
fn half_a_code_is_a_violation() {
    let server = server();
    let mut client = RawClient::upgraded(server.address());
    client.send(&Frame::new(opcode::CLOSE, b"\x03"));
    assert_eq!(client.recv_close(), Some(code::PROTOCOL));
    client.expect_end();
}

#[test]
fn a_reason_that_is_not_utf8_is_refused() {
    let server = server();
    for reason in [b"\xff".as_slice(), b"ok \xc3", b"\xed\xa0\x80"] {
        let mut client = RawClient::upgraded(server.address());
        client.send(&Frame::close(1000, reason));
        assert_eq!(client.recv_close(), Some(code::NOT_UTF8), "{reason:02x?}");
        client.expect_end();
    }
}

#[test]
fn the_longest_reason_is_taken() {
    let server = server();
    let mut client = RawClient::upgraded(server.address());
    client.send(&Frame::close(1000, "x".repeat(123)));
    assert_eq!(client.recv_close(), Some(code::NORMAL));
    client.expect_end();
}

#[test]
fn a_close_frame_between_fragments_closes() {
    let server = server();
    let mut client = RawClient::upgraded(server.address());
    client.send(&Frame::text("{").unfinished());
    client.send(&Frame::close(1000, ""));
    assert_eq!(client.recv_close(), Some(code::NORMAL));
    client.expect_end();
}

#[test]
fn nothing_after_a_close_frame_is_obeyed() {
    let server = server();
    let mut member = Client::member(&server, "r");
    let mut leaver = RawClient::upgraded(server.address());
    let command = r#"{"type":"SEND_MESSAGE","roomId":"r","message":"too late"}"#;
    leaver.write([Frame::close(1000, "").masked(), Frame::text(command).masked()].concat());
    assert_eq!(leaver.recv_close(), Some(code::NORMAL));
    leaver.expect_end();
    member.publish("r", "1");
    member.expect_message("r", "1");
}

#[test]
fn what_was_asked_before_a_close_frame_is_answered_first() {
    let server = server();
    let mut client = RawClient::upgraded(server.address());
    let ping = Frame::text(r#"{"type":"PING","id":1}"#);
    client.write([ping.masked(), Frame::close(1000, "").masked()].concat());
    assert_eq!(client.recv_text(), r#"{"type":"PONG","id":1}"#);
    assert_eq!(client.recv_close(), Some(code::NORMAL));
    client.expect_end();
}

#[test]
fn a_peer_that_ignores_the_close_frame_is_ended_all_the_same() {
    let server = server();
    let mut client = RawClient::upgraded(server.address());
    client.send(&Frame::new(0x3, ""));
    assert_eq!(client.recv_close(), Some(code::PROTOCOL));
    client.expect_end();
}

#[test]
fn a_library_client_leaves_in_order() {
    let server = server();
    let client = Client::member(&server, "r");
    client.leave();
}

#[test]
fn a_connection_cut_without_a_close_frame_leaves_its_rooms() {
    let server = Server::launch().ops().start();
    let client = Client::member(&server, "r");
    drop(client);
    let gone = server.wait_for_metrics("nobody is connected", |metrics| metrics.value("fanfare_connections") == 0.0);
    assert_eq!(gone.value("fanfare_memberships"), 0.0);
    assert_eq!(gone.value("fanfare_rooms"), 0.0);
}
