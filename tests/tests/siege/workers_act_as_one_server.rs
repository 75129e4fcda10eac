//! Several workers in one process: to clients they are one server, whichever worker a connection came to. The kernel spreads
//! them by a hash, so of enough connections every worker has some.

use std::fs;
use std::thread;

use fanfare_tests::{
    Client, Launch, RawClient, Redis, Server, Signal, assert_one_order, code, eventually, free_port, get,
    upgrade_request,
};
use serde_json::json;

const WORKERS: usize = 3;
/// That all of so many come to one of three workers happens once in 10^11 runs, that one has none once in 5,000; then what is
/// tested here holds as well.
const CLIENTS: usize = 24;

/// With the embedded broker, and with Redis.
fn with_each_broker(test: impl Fn(Launch)) {
    test(Server::launch().workers(WORKERS));
    let redis = Redis::start();
    test(Server::launch().workers(WORKERS).redis(&redis));
}

fn members(server: &Server, room: &str) -> Vec<Client> {
    (0..CLIENTS).map(|_| Client::member(server, room)).collect()
}

/// The names of the process's threads.
fn threads(server: &Server) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.id())).expect("the process is running");
    let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).expect("no thread has ended");
    tasks.map(|task| name(task.expect("a thread")).trim_end().to_owned()).collect()
}

#[test]
fn each_worker_is_a_thread_and_one_alone_is_none() {
    let loops = |server: &Server| threads(server).iter().filter(|name| name.starts_with("fanfare-loop")).count();
    let server = Server::launch().workers(WORKERS).ops().start();
    eventually("the threads are there", || (loops(&server) == WORKERS).then_some(()));
    assert_eq!(server.metrics().value("fanfare_workers"), WORKERS as f64);
    let alone = Server::launch().workers(1).ops().start();
    assert_eq!(loops(&alone), 0);
    assert_eq!(alone.metrics().value("fanfare_workers"), 1.0);
}

#[test]
fn all_members_see_one_order_and_nothing_is_lost() {
    with_each_broker(|launch| {
        let server = launch.start();
        let mut members = members(&server, "r");
        assert_one_order(&server, "r", &mut members, 6, 200);
        members.iter_mut().for_each(Client::fence);
    });
}

#[test]
fn a_sender_is_spared_its_own_message_and_nobody_else_is() {
    with_each_broker(|launch| {
        let server = launch.start();
        let mut members = members(&server, "r");
        for sender in 0..CLIENTS {
            let text = json!({"type": "SEND_MESSAGE", "room": "r", "message": sender, "echo": false, "id": "x"});
            members[sender].send_json(&text);
            members[sender].expect_json(&json!({"type": "ACK", "id": "x"}));
            for (number, member) in members.iter_mut().enumerate() {
                if number == sender {
                    member.fence();
                } else {
                    member.expect_message("r", &sender.to_string());
                }
            }
        }
    });
}

#[test]
fn publishes_are_acknowledged_whoever_is_in_the_room() {
    with_each_broker(|launch| {
        let server = launch.start();
        let mut member = Client::member(&server, "r");
        let mut senders: Vec<Client> = (0..CLIENTS).map(|_| Client::connect(&server)).collect();
        for (number, sender) in senders.iter_mut().enumerate() {
            sender.publish_acknowledged("nobody is here", "0");
            sender.publish_acknowledged("r", &number.to_string());
            member.expect_message("r", &number.to_string());
        }
    });
}

#[test]
fn who_has_left_gets_nothing_until_it_is_back() {
    with_each_broker(|launch| {
        // Without lingering, a worker whose last member leaves a room gives up its subscription at once.
        let server = launch.flag("--timeouts-room-linger-ms", 0).start();
        let mut sender = Client::member(&server, "r");
        let mut members = members(&server, "r");
        for round in 0..4 {
            for (number, member) in members.iter_mut().enumerate() {
                if (number + round) % 2 == 0 {
                    member.unsubscribe("r");
                }
            }
            sender.publish("r", "\"half\"");
            sender.expect_message("r", "\"half\"");
            for (number, member) in members.iter_mut().enumerate() {
                if (number + round) % 2 != 0 {
                    member.expect_message("r", "\"half\"");
                } else {
                    member.fence();
                    member.subscribe("r");
                }
            }
            members.iter_mut().for_each(|member| member.unsubscribe("r"));
            sender.publish("r", "\"nobody\"");
            sender.expect_message("r", "\"nobody\"");
            members.iter_mut().for_each(|member| member.subscribe("r"));
            sender.publish("r", &round.to_string());
            sender.expect_message("r", &round.to_string());
            members.iter_mut().for_each(|member| member.expect_message("r", &round.to_string()));
        }
    });
}

#[test]
fn the_limit_of_connections_is_that_of_all_workers() {
    const LIMIT: usize = 10;
    let server = Server::launch().workers(WORKERS).flag("--limits-connections-max", LIMIT).ops().start();
    let mut open: Vec<RawClient> = thread::scope(|scope| {
        let attempts: Vec<_> =
            (0..4 * LIMIT).map(|_| scope.spawn(|| RawClient::try_upgrade(server.address()).ok())).collect();
        attempts.into_iter().filter_map(|attempt| attempt.join().expect("every attempt is answered")).collect()
    });
    assert!(open.len() <= LIMIT, "{} got in", open.len());
    // Whoever was turned away while another worker kept a place gets in now.
    while open.len() < LIMIT {
        open.push(eventually("there are places", || RawClient::try_upgrade(server.address()).ok()));
    }
    for _ in 0..CLIENTS {
        let refusal = RawClient::try_upgrade(server.address()).err().expect("all places are taken");
        assert_eq!(refusal.status, 503, "{}", refusal.head);
    }
    for _ in 0..CLIENTS {
        open.pop();
        open.push(eventually("the free place is taken", || RawClient::try_upgrade(server.address()).ok()));
    }
    server.wait_for_metrics("all are counted", |metrics| metrics.value("fanfare_connections") == LIMIT as f64);
}

#[test]
fn the_descriptors_are_those_of_all_workers() {
    // In reserve are 64, and 16 for each worker beyond the first; and a sixteenth of the rest is for those who are refused.
    let mut server = Server::launch().workers(WORKERS).descriptors_max(160).ops().start();
    let places = 60;
    // Nobody hangs up who is refused.
    let attempts: Vec<RawClient> = (0..200)
        .map(|_| {
            let mut client = RawClient::connect(server.address());
            client.write_or_gone(upgrade_request("/ws", ""));
            client
        })
        .collect();
    server
        .wait_for_metrics("all places are taken", |metrics| metrics.value("fanfare_connections") == f64::from(places));
    assert_eq!(server.metrics().value("fanfare_accept_errors_total"), 0.0);
    drop(attempts);
    let clients: Vec<RawClient> = (0..places)
        .map(|_| eventually("there are places again", || RawClient::try_upgrade(server.address()).ok()))
        .collect();
    let all = clients.len() as f64;
    server.wait_for_metrics("all are counted", |metrics| metrics.value("fanfare_connections") == all);
    drop(clients);
    let log = server.log_to_its_end();
    let [paused, resumed] = ["accepting paused", "accepting resumed"].map(|message| log.count(message));
    assert!(paused == resumed || paused == resumed + 1, "{paused} and {resumed}");
}

#[test]
fn a_signal_ends_all_of_them() {
    with_each_broker(|launch| {
        let mut server = launch.flag("--drain-spread-ms", 0).start();
        let mut clients = members(&server, "r");
        server.signal(Signal::TERM);
        for client in &mut clients {
            assert_eq!(client.recv_close(), code::RESTART);
        }
        drop(clients);
        assert_eq!(server.wait_for_exit().code(), Some(0));
        assert!(server.log().wait_for_end());
        for (message, field) in [("draining", "connections"), ("stopped", "connections_left")] {
            let expected = if field == "connections" { CLIENTS } else { 0 };
            assert_eq!(server.log().count(message), 1, "{message}");
            assert_eq!(server.wait_for_log(message)[field], expected, "{message}");
        }
    });
}

#[test]
fn those_that_are_cut_off_are_counted_once() {
    let mut server = Server::launch().workers(WORKERS).flag("--timeouts-shutdown-ms", 100).start();
    let _holding: Vec<RawClient> = (0..CLIENTS).map(|_| RawClient::upgraded(server.address())).collect();
    server.signal(Signal::INT);
    assert_eq!(server.wait_for_exit().code(), Some(0));
    assert_eq!(server.wait_for_log("stopped")["connections_left"], CLIENTS);
}

#[test]
fn a_second_signal_ends_all_at_once() {
    let mut server = Server::launch().workers(WORKERS).flag("--timeouts-shutdown-ms", 600_000).start();
    let mut holding = RawClient::upgraded(server.address());
    server.signal(Signal::INT);
    assert_eq!(holding.recv_close(), Some(code::RESTART));
    server.wait_for_log("shutting down");
    server.signal(Signal::TERM);
    server.wait_for_exit();
    holding.expect_end();
}

#[test]
fn a_port_that_somebody_has_is_an_error() {
    for (first, second) in [(1, WORKERS), (WORKERS, 1), (WORKERS, WORKERS)] {
        let address = format!("127.0.0.1:{}", free_port());
        let listening =
            |workers| Server::launch().workers(workers).listening_as_configured().flag("--listen", &address);
        let _server = listening(first).start();
        let output = listening(second).run();
        assert_eq!(output.status.code(), Some(1), "{first} and {second}");
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(log.contains(&format!("cannot listen on {address}")), "{log}");
    }
}

#[test]
fn figures_are_sums() {
    let server = Server::launch().workers(WORKERS).ops().start();
    let mut members = members(&server, "r");
    for (number, member) in members.iter_mut().enumerate() {
        member.publish("r", &number.to_string());
    }
    let all = CLIENTS as f64;
    let metrics = server.wait_for_metrics("all is counted", |metrics| {
        metrics.value("fanfare_deliveries_total") == all * all && metrics.value("fanfare_commands_total") == 2.0 * all
    });
    for (name, value) in [
        ("fanfare_connections", all),
        ("fanfare_memberships", all),
        ("fanfare_messages_in_total", all),
        (r#"fanfare_upgrades_total{outcome="accepted"}"#, all),
        (r#"fanfare_broker_up{link="subscriber"}"#, 1.0),
        ("fanfare_accepts_paused", 0.0),
    ] {
        assert_eq!(metrics.value(name), value, "{name}");
    }
    // Each worker that has members counts the room, and each message that comes to it.
    let rooms = metrics.value("fanfare_rooms");
    assert!((2.0..=WORKERS as f64).contains(&rooms), "{rooms}");
    assert_eq!(metrics.value("fanfare_messages_out_total"), rooms * all);
    let turns = metrics.value("fanfare_loop_turn_seconds_count");
    assert_eq!(metrics.value(r#"fanfare_loop_turn_seconds_bucket{le="+Inf"}"#), turns);
}

#[test]
fn all_are_ready_or_none_and_the_log_tells_it_once() {
    let mut redis = Redis::start();
    let mut server = Server::launch().workers(WORKERS).redis(&redis).flag("--redis-backoff-ms-max", 200).ops().start();
    let answers = |status| (0..CLIENTS).all(|_| get(server.address(), "/readyz").status == status);
    // The first that is ready says so of all.
    assert!(answers(200));
    redis.kill();
    eventually("every worker knows", || answers(503).then_some(()));
    assert_eq!(get(server.ops_address(), "/readyz").status, 503);
    redis.start_again();
    server.log().wait_for("redis connected", 2);
    assert!(answers(200));
    assert_eq!(get(server.ops_address(), "/readyz").status, 200);
    let log = server.log_to_its_end();
    for (message, lines) in [("listening", 1), ("redis connecting", 1), ("redis connected", 2), ("redis lost", 1)] {
        assert_eq!(log.count(message), lines, "{message}");
    }
}

#[test]
fn none_is_ready_while_one_is_not() {
    let redis = Redis::start();
    // Whoever loses a connection is away for as long as the test lasts.
    let backoff = ["--redis-backoff-ms-min", "600000", "--redis-backoff-ms-max", "600000"];
    let mut server = Server::launch().workers(WORKERS).redis(&redis).args(backoff).ops().start();
    let clients = redis.clients();
    let link = clients.iter().find(|client| client.contains(" name=fanfare-")).expect("the workers' connections");
    let id = link.split(' ').find_map(|field| field.strip_prefix("id=")).expect("an id");
    assert_eq!(redis.cli(&["CLIENT", "KILL", "ID", id]), "1");
    eventually("every worker says so", || {
        (0..CLIENTS).all(|_| get(server.address(), "/readyz").status == 503).then_some(())
    });
    assert_eq!(get(server.ops_address(), "/readyz").status, 503);
    assert_eq!(server.log_to_its_end().count("redis lost"), 1);
}
