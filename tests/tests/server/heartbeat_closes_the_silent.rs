//! The server's own pings: who answers stays, who does not is closed.

use fanfare_tests::{Frame, RawClient, Server, code, opcode};

#[test]
fn a_silent_peer_gets_a_ping_and_is_then_closed() {
    let server = Server::launch()
        .args(["--timeouts-ping-interval-ms", "300", "--timeouts-pong-timeout-ms", "300"])
        .args(["--timeouts-close-ms", "300"])
        .ops()
        .start();
    let mut client = RawClient::upgraded(server.address());
    assert_eq!(client.recv().opcode, opcode::PING);
    assert_eq!(client.recv_close(), Some(code::NO_SIGN_OF_LIFE));
    client.expect_end();
    server.wait_for_metrics("the close is counted", |metrics| metrics.value("fanfare_heartbeat_closes_total") == 1.0);
}

#[test]
fn a_peer_that_answers_pings_stays() {
    // The time-out is generous: this test is about who stays, not about being quick on a busy machine.
    let server =
        Server::launch().args(["--timeouts-ping-interval-ms", "100", "--timeouts-pong-timeout-ms", "8000"]).start();
    let mut client = RawClient::upgraded(server.address());
    for _ in 0..5 {
        let ping = client.recv();
        assert_eq!(ping.opcode, opcode::PING);
        client.send(&Frame::new(opcode::PONG, ping.payload));
    }
    client.send_text(r#"{"type":"PING"}"#);
    while client.recv().payload != br#"{"type":"PONG"}"# {}
}

#[test]
fn any_frame_is_a_sign_of_life() {
    let server =
        Server::launch().args(["--timeouts-ping-interval-ms", "200", "--timeouts-pong-timeout-ms", "2000"]).start();
    let mut client = RawClient::upgraded(server.address());
    // Longer in all than the time-out after a first ping that nobody answers with a pong.
    for number in 0..15 {
        while client.recv().opcode != opcode::PING {}
        client.send_text(&format!(r#"{{"type":"PING","id":{number}}}"#));
        let pong = client.recv();
        assert_eq!(pong, Frame::text(format!(r#"{{"type":"PONG","id":{number}}}"#)));
    }
}

#[test]
fn pings_are_frames_a_browser_answers() {
    let server = Server::launch().args(["--timeouts-ping-interval-ms", "100"]).start();
    let mut client = RawClient::upgraded(server.address());
    let ping = client.recv();
    assert!(ping.fin && ping.rsv == 0 && ping.payload.len() <= 125, "{ping:?}");
}
