//! SIGTERM and SIGINT: everyone is told 1012, the flush is bounded, the exit code is 0; one more does not wait. Nobody is given time to go
//! by itself here, as `clients_are_let_go_in_time` has it.

use std::net::TcpStream;

use fanfare_tests::{
    Adapter, Client, Frame, Launch, RawClient, Redis, Server, Signal, code, eventually, free_port, get,
};

fn launch() -> Launch {
    Server::launch().flag("--drain-spread-ms", 0)
}

/// A port that nobody takes over when it is left: these tests look for nobody there.
fn on_a_port_of_its_own() -> Launch {
    launch().listening_as_configured().flag("--listen", format!("127.0.0.1:{}", free_port()))
}

#[test]
fn everyone_is_told_to_come_back_and_the_exit_is_clean() {
    for (signal, name, message) in [(Signal::TERM, "TERM", "draining"), (Signal::INT, "INT", "shutting down")] {
        let mut server = on_a_port_of_its_own().start();
        let mut clients: Vec<Client> = (0..5).map(|_| Client::member(&server, "r")).collect();
        server.signal(signal);
        for client in &mut clients {
            assert_eq!(client.recv_close(), code::RESTART);
        }
        drop(clients);
        assert_eq!(server.wait_for_exit().code(), Some(0));
        let line = server.wait_for_log(message);
        assert!(line["signal"].as_str().is_some_and(|value| value.contains(name)), "{line}");
        server.wait_for_log("stopped");
        assert!(TcpStream::connect(server.address()).is_err(), "somebody still listens");
    }
}

#[test]
fn signals_without_a_meaning_are_ignored_and_said() {
    let server = Server::start();
    let mut client = Client::member(&server, "r");
    for (signal, name) in [(Signal::HUP, "SIGHUP"), (Signal::USR1, "SIGUSR1"), (Signal::USR2, "SIGUSR2")] {
        server.signal(signal);
        eventually("a line says so", || server.log().text().contains(&format!("\"signal\":\"{name}\"")).then_some(()));
    }
    server.signal(Signal::PIPE);
    client.publish_acknowledged("elsewhere", "1");
}

#[test]
fn with_redis_it_ends_as_cleanly() {
    let redis = Redis::start();
    let mut server = launch().redis(&redis).start();
    let mut client = Client::member(&server, "r");
    server.signal(Signal::TERM);
    assert_eq!(client.recv_close(), code::RESTART);
    drop(client);
    assert_eq!(server.wait_for_exit().code(), Some(0));
    eventually("nobody is subscribed", || (redis.channels() == 0).then_some(()));
}

#[test]
fn without_clients_it_ends_at_once() {
    let mut server = launch().flag("--timeouts-shutdown-ms", 600_000).start();
    server.signal(Signal::TERM);
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

#[test]
fn with_redis_away_it_still_ends() {
    let mut redis = Redis::start();
    let mut server = launch().redis(&redis).start();
    let mut client = Client::member(&server, "r");
    redis.kill();
    server.wait_for_log("redis lost");
    server.signal(Signal::TERM);
    assert_eq!(client.recv_close(), code::RESTART);
    drop(client);
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

#[test]
fn what_redis_has_yet_to_take_is_waited_for_and_no_longer() {
    let redis = Redis::start();
    let mut server = launch().redis(&redis).ops().flag("--timeouts-shutdown-ms", 600_000).start();
    let mut member = redis.listen("fanfare:r");
    let mut client = Client::connect(&server);
    redis.pause();
    // Nobody waits for its acknowledgement.
    client.publish("r", "1");
    client.fence();
    server.signal(Signal::INT);
    assert_eq!(client.recv_close(), code::RESTART);
    drop(client);
    server.wait_for_metrics("the client has left", |metrics| metrics.value("fanfare_connections") == 0.0);
    redis.resume();
    assert_eq!(server.wait_for_exit().code(), Some(0));
    assert!(!member.next_message().is_empty());
}

#[test]
fn what_was_acknowledged_is_delivered_before_the_end() {
    let server = launch().start();
    let mut member = Client::member(&server, "r");
    let mut sender = Client::connect(&server);
    for number in 0..200 {
        sender.publish("r", &number.to_string());
    }
    sender.publish_acknowledged("r", "200");
    server.signal(Signal::TERM);
    for number in 0..=200 {
        member.expect_message("r", &number.to_string());
    }
    assert_eq!(member.recv_close(), code::RESTART);
}

#[test]
fn clients_that_never_answer_are_not_waited_for() {
    let mut server = launch().flag("--timeouts-shutdown-ms", 300).ops().start();
    let mut clients: Vec<RawClient> = (0..3).map(|_| RawClient::upgraded(server.address())).collect();
    let mut unfinished = RawClient::connect(server.address());
    unfinished.write("GET /");
    server.wait_for_metrics("its request is waited for", |metrics| metrics.value("fanfare_pending_upgrades") == 1.0);
    server.signal(Signal::TERM);
    for client in &mut clients {
        assert_eq!(client.recv_close(), Some(code::RESTART));
    }
    assert_eq!(server.wait_for_exit().code(), Some(0));
    for client in &mut clients {
        client.expect_end();
    }
}

#[test]
fn while_it_ends_it_is_not_ready_and_takes_nobody() {
    let mut server = launch().args(["--timeouts-shutdown-ms", "600000", "--timeouts-close-ms", "600000"]).ops().start();
    // It never answers the close frame, and so holds the server in its last phase.
    let mut holding = RawClient::upgraded(server.address());
    server.signal(Signal::TERM);
    assert_eq!(holding.recv_close(), Some(code::RESTART));
    // It was told before the clients.
    assert_eq!(get(server.ops_address(), "/readyz").status, 503);
    assert_eq!(get(server.ops_address(), "/healthz").status, 200);
    eventually("nobody gets in", || TcpStream::connect(server.address()).is_err().then_some(()));
    assert!(server.is_running());

    // Its answer is all that was missing.
    holding.send(&Frame::close(code::RESTART, ""));
    holding.expect_end();
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

#[test]
fn one_more_signal_ends_it_at_once() {
    const TERM: Signal = Signal::TERM;
    const INT: Signal = Signal::INT;
    for (drain, stop, end) in [(None, INT, TERM), (None, INT, INT), (Some(TERM), TERM, TERM), (Some(TERM), INT, TERM)] {
        let flags = ["--timeouts-shutdown-ms", "--timeouts-close-ms", "--drain-spread-ms"];
        let mut server = Server::launch().args(flags.into_iter().flat_map(|flag| [flag, "600000"])).start();
        let mut holding = RawClient::upgraded(server.address());
        if let Some(signal) = drain {
            server.signal(signal);
            assert!(holding.recv_text().starts_with(r#"{"type":"DRAIN","#));
            server.wait_for_log("draining");
        }
        server.signal(stop);
        assert_eq!(holding.recv_close(), Some(code::RESTART));
        server.wait_for_log("shutting down");
        eventually("it ends", || {
            let is_running = server.is_running();
            // That it has to stop at once is noted by a thread.
            is_running.then(|| server.signal(end));
            (!is_running).then_some(())
        });
        assert_ne!(server.wait_for_exit().code(), Some(0), "{drain:?} {stop:?} {end:?}");
        holding.expect_end();
    }
}

#[test]
fn what_was_sent_before_the_signal_is_answered_before_the_close() {
    const MESSAGES: u64 = 200;
    for workers in [1, 2] {
        let redis = Redis::start();
        let server = launch();
        let server = if Adapter::under_test() == Adapter::Mio { server.workers(workers) } else { server };
        let server = server.redis(&redis).start();
        let mut clients: Vec<RawClient> = (0..4).map(|_| RawClient::upgraded(server.address())).collect();
        // Nobody answers a publish before the signal has come.
        redis.pause();
        for client in &mut clients {
            let message = |id| Frame::text(format!(r#"{{"type":"SEND_MESSAGE","room":"r","message":1,"id":{id}}}"#));
            let messages: Vec<u8> = (0..MESSAGES).flat_map(|id| message(id).masked()).collect();
            client.write(messages);
        }
        server.signal(Signal::TERM);
        server.wait_for_log("draining");
        redis.resume();
        for client in &mut clients {
            for id in 0..MESSAGES {
                assert_eq!(client.recv_text(), format!(r#"{{"type":"ACK","id":{id}}}"#));
            }
            assert_eq!(client.recv_close(), Some(code::RESTART));
        }
    }
}

#[test]
fn with_the_embedded_broker_it_is_answered_as_well() {
    for _ in 0..10 {
        let server = launch().embedded().start();
        let mut client = RawClient::upgraded(server.address());
        let message = |id| Frame::text(format!(r#"{{"type":"SEND_MESSAGE","room":"r","message":1,"id":{id}}}"#));
        client.write((0..500).flat_map(|id| message(id).masked()).collect::<Vec<u8>>());
        server.signal(Signal::TERM);
        for id in 0..500 {
            assert_eq!(client.recv_text(), format!(r#"{{"type":"ACK","id":{id}}}"#));
        }
        assert_eq!(client.recv_close(), Some(code::RESTART));
    }
}

#[test]
fn answers_that_do_not_come_are_not_waited_for_longer_than_half_the_time() {
    let redis = Redis::start();
    let mut server = launch().redis(&redis).flag("--timeouts-shutdown-ms", 1_000).start();
    let mut client = RawClient::upgraded(server.address());
    redis.pause();
    client.send(&Frame::text(r#"{"type":"SEND_MESSAGE","room":"r","message":1,"id":1}"#));
    server.signal(Signal::TERM);
    assert_eq!(client.recv_close(), Some(code::RESTART));
    assert_eq!(server.wait_for_exit().code(), Some(0));
}
