//! Redis is killed, absent, frozen: clients stay, are told the truth, and everything flows again afterwards.

use fanfare_tests::{Client, Launch, Redis, Server, Signal, eventually, get};

/// A server that comes back to Redis quickly.
fn launch(redis: &Redis) -> Launch {
    Server::launch().redis(redis).args(["--redis-backoff-ms-max", "200"]).ops()
}

#[test]
fn a_killed_redis_is_told_and_survived() {
    let mut redis = Redis::start();
    let server = launch(&redis).start();
    let mut member = Client::member(&server, "r");
    let mut sender = Client::connect(&server);
    redis.kill();

    let lost = server.wait_for_log("redis lost");
    assert!(lost["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{lost}");
    wait_until_readyz_says(&server, "onnection refused");
    wait_until_both_links_are(&server, 0.0);

    // With an id the sender is told, without one it is counted.
    sender.send(r#"{"type":"SEND_MESSAGE","roomId":"r","message":"m","id":1}"#);
    assert_eq!(sender.expect_error("broker_unavailable")["id"], 1);
    sender.publish("r", r#""nobody gets this""#);
    sender.fence();
    server.wait_for_metrics("the drop is counted", |metrics| {
        metrics.value("fanfare_broker_publishes_dropped_total") == 1.0
    });

    // Clients stay, new ones come, and who subscribes waits.
    member.fence();
    let mut late = Client::connect(&server);
    late.send(r#"{"type":"SUBSCRIBE","room":"late","id":9}"#);
    late.fence();

    redis.start_again();
    late.expect(r#"{"type":"SUBSCRIBED","room":"late","id":9}"#);
    server.wait_until_ready();
    server.log().wait_for("redis connected", 2);
    eventually("the old room is subscribed again", || (redis.subscribers("fanfare:r") == 1).then_some(()));
    sender.publish_acknowledged("r", "1");
    member.expect_interruption("r");
    member.expect_message("r", "1");
    redis.publish("fanfare:late", "2");
    late.expect_message("late", r#""2""#);
    wait_until_both_links_are(&server, 1.0);
    assert!(server.metrics().value("fanfare_broker_reconnects_total") >= 1.0);
}

#[test]
fn fifteen_hundred_rooms_come_back() {
    const CLIENTS: usize = 15;
    const ROOMS_EACH: usize = 100;
    let mut redis = Redis::start();
    let server = launch(&redis).start();
    let room = |client: usize, number: usize| format!("room {client}.{number}");
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::connect(&server)).collect();
    for (index, client) in clients.iter_mut().enumerate() {
        for number in 0..ROOMS_EACH {
            client.send(format!(r#"{{"type":"SUBSCRIBE","room":"{}"}}"#, room(index, number)));
        }
        for _ in 0..ROOMS_EACH {
            assert_eq!(client.recv_json()["type"], "SUBSCRIBED");
        }
    }
    assert_eq!(redis.channels(), CLIENTS * ROOMS_EACH);

    redis.kill();
    server.wait_for_log("redis lost");
    redis.start_again();
    eventually("every room is subscribed again", || (redis.channels() == CLIENTS * ROOMS_EACH).then_some(()));

    let mut publisher = redis.connect();
    for index in 0..CLIENTS {
        for number in 0..ROOMS_EACH {
            let channel = format!("fanfare:{}", room(index, number));
            publisher.command(&[b"PUBLISH", channel.as_bytes(), b"again"]);
        }
    }
    for (index, client) in clients.iter_mut().enumerate() {
        let mut told: Vec<String> = (0..2 * ROOMS_EACH).map(|_| client.recv()).collect();
        let gap = |room: &str| format!(r#"{{"type":"GAP","room":"{room}","reason":"interrupted"}}"#);
        let message = |room: &str| format!(r#"{{"type":"MESSAGE","room":"{room}","message":"again"}}"#);
        let rooms = (0..ROOMS_EACH).map(|number| room(index, number));
        let mut expected: Vec<String> = rooms.flat_map(|room| [gap(&room), message(&room)]).collect();
        told.sort();
        expected.sort();
        assert_eq!(told, expected);
        client.fence();
    }
}

#[test]
fn instances_find_each_other_again() {
    let mut redis = Redis::start();
    let servers: [Server; 2] = std::array::from_fn(|_| launch(&redis).start());
    let mut members = servers.each_ref().map(|server| Client::member(server, "r"));
    for round in 1..=3 {
        redis.kill();
        for server in &servers {
            server.log().wait_for("redis lost", round);
        }
        redis.start_again();
        eventually("both are subscribed again", || (redis.subscribers("fanfare:r") == 2).then_some(()));
        for server in &servers {
            server.wait_until_ready();
        }
        for member in &mut members {
            member.expect_interruption("r");
        }
        for sender in 0..2 {
            let raw = format!("[{round},{sender}]");
            members[sender].publish("r", &raw);
            for member in &mut members {
                member.expect_message("r", &raw);
            }
        }
    }
}

#[test]
fn rooms_left_during_the_outage_are_not_subscribed_again() {
    let mut redis = Redis::start();
    let server = launch(&redis).flag("--timeouts-room-linger-ms", 50).start();
    let mut client = Client::member(&server, "left");
    client.subscribe("kept");
    redis.kill();
    server.wait_for_log("redis lost");
    client.unsubscribe("left");
    redis.start_again();
    eventually("the room kept is subscribed", || (redis.subscribers("fanfare:kept") == 1).then_some(()));
    eventually("the room left is not", || (redis.channels() == 1).then_some(()));
}

#[test]
fn a_connection_that_redis_drops_is_made_again() {
    let redis = Redis::start();
    let server = launch(&redis).start();
    let mut client = Client::member(&server, "r");
    for (round, kind) in ["normal", "pubsub", "pubsub", "normal"].into_iter().enumerate() {
        // The connection that runs this command is spared by SKIPME.
        assert_ne!(redis.cli(&["CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"]), "0", "round {round}");
        server.log().wait_for("redis connected", round + 2);
        eventually("the room is subscribed", || (redis.subscribers("fanfare:r") == 1).then_some(()));
        server.wait_until_ready();
        if kind == "pubsub" {
            client.expect_interruption("r");
        }
        client.publish("r", &round.to_string());
        client.expect_message("r", &round.to_string());
    }
}

#[test]
fn a_redis_absent_at_the_start_is_joined_when_it_comes() {
    let mut redis = Redis::launch().absent();
    let mut server = launch(&redis).not_ready().start();
    let told = server.wait_for_log("redis not reached yet, trying again");
    assert!(told["reason"].as_str().is_some_and(|reason| reason.contains("onnection refused")), "{told}");
    wait_until_readyz_says(&server, "onnection refused");
    let mut client = Client::connect(&server);
    client.send(r#"{"type":"SUBSCRIBE","room":"r","id":1}"#);
    client.send(r#"{"type":"SEND_MESSAGE","roomId":"r","message":"m","id":2}"#);
    assert_eq!(client.expect_error("broker_unavailable")["id"], 2);
    client.fence();

    redis.start_again();
    client.expect(r#"{"type":"SUBSCRIBED","room":"r","id":1}"#);
    server.wait_until_ready();
    client.publish("r", "1");
    client.expect_message("r", "1");
    drop(client);
    // However many attempts there were.
    let log = server.log_to_its_end();
    for (message, lines) in [("redis not reached yet, trying again", 1), ("redis connected", 1), ("redis lost", 0)] {
        assert_eq!(log.count(message), lines, "{message}");
    }
}

#[test]
fn a_frozen_redis_is_noticed_and_joined_again_when_it_thaws() {
    let redis = Redis::start();
    let server = launch(&redis)
        .args([
            "--redis-probe-interval-ms",
            "200",
            "--redis-probe-timeout-ms",
            "300",
            "--redis-connect-timeout-ms",
            "300",
        ])
        .start();
    let mut client = Client::member(&server, "r");
    redis.pause();
    server.wait_for_log("redis lost");
    server.wait_until_readyz_is(503);
    wait_until_both_links_are(&server, 0.0);
    // Another worker than the client's may have noticed first; what is not confirmed until then may reach its room after all.
    eventually("its worker knows as well", || {
        client.send(r#"{"type":"SEND_MESSAGE","roomId":"elsewhere","message":"m","id":1}"#);
        (client.recv_json()["code"] == "broker_unavailable").then_some(())
    });
    redis.resume();
    server.wait_until_ready();
    eventually("the room is subscribed", || (redis.subscribers("fanfare:r") == 1).then_some(()));
    client.expect_interruption("r");
    client.publish("r", "1");
    client.expect_message("r", "1");
}

#[test]
fn an_idle_redis_that_answers_probes_is_kept() {
    let redis = Redis::start();
    let mut server = launch(&redis).args(["--redis-probe-interval-ms", "50"]).start();
    let mut client = Client::member(&server, "r");
    // Redis itself counts the probes of the connection that publishes. The other one hears the canary, and need not be asked.
    let probes = || -> u64 {
        let stats = redis.cli(&["INFO", "commandstats"]);
        let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_role:calls="));
        line.and_then(|rest| rest.split(',').next()?.parse().ok()).unwrap_or(0)
    };
    eventually("redis was probed ten times", || (probes() >= 12).then_some(()));
    redis.publish("fanfare:r", "hello");
    client.expect_message("r", r#""hello""#);
    drop(client);
    assert_eq!(server.log_to_its_end().count("redis lost"), 0);
}

#[test]
fn a_server_that_was_stopped_and_goes_on_keeps_its_connections() {
    let redis = Redis::start();
    let mut server = launch(&redis).start();
    let mut client = Client::member(&server, "r");
    for round in 0..3 {
        server.pause();
        server.signal(Signal::CONT);
        client.publish("r", &round.to_string());
        client.expect_message("r", &round.to_string());
    }
    drop(client);
    assert_eq!(server.log_to_its_end().count("redis lost"), 0);
}

#[test]
fn a_publish_whose_answer_is_no_number_is_not_acknowledged() {
    // Answers OK to everything, as a proxy or a transaction might.
    let redis =
        Redis::launch().directive("rename-command PUBLISH X-PUBLISH").directive("rename-command SET PUBLISH").start();
    let server = launch(&redis).start();
    let mut client = Client::connect(&server);
    client.send(r#"{"type":"SEND_MESSAGE","roomId":"r","message":"m","id":1}"#);
    assert_eq!(client.expect_error("unconfirmed")["id"], 1);
}

#[test]
fn a_redis_without_a_place_is_told_as_such() {
    let redis = Redis::start();
    let mut only = redis.connect();
    only.command(&[b"CONFIG", b"SET", b"maxclients", b"1"]);
    let server = launch(&redis).not_ready().start();
    let reason = server.wait_for_log("redis not reached yet, trying again")["reason"].to_string();
    assert!(reason.contains("max number of clients reached"), "{reason}");
    wait_until_readyz_says(&server, "max number of clients reached");
    only.command(&[b"CONFIG", b"SET", b"maxclients", b"100"]);
    server.wait_until_ready();
}

#[test]
fn what_was_sent_before_the_end_and_not_confirmed_is_called_so() {
    let mut redis = Redis::start();
    let server = launch(&redis).start();
    let mut client = Client::connect(&server);
    redis.pause();
    let before = redis.unread_bytes();
    client.send(r#"{"type":"SEND_MESSAGE","roomId":"r","message":"m","id":"maybe"}"#);
    eventually("it has been sent", || (redis.unread_bytes() > before).then_some(()));
    redis.kill();
    assert_eq!(client.expect_error("unconfirmed")["id"], "maybe");
    server.wait_for_metrics("the failure is counted", |metrics| {
        metrics.value(r#"fanfare_publishes_total{outcome="failed"}"#) == 1.0
    });
}

#[test]
fn rooms_that_redis_does_not_answer_for_hold_up_nobody() {
    const CLIENTS: usize = 40;
    const ROOMS_EACH: usize = 100;
    let redis = Redis::start();
    let server = launch(&redis).start();
    let mut idle = Client::connect(&server);
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::connect(&server)).collect();
    redis.pause();
    for (index, client) in clients.iter_mut().enumerate() {
        for number in 0..ROOMS_EACH {
            client.send(format!(r#"{{"type":"SUBSCRIBE","room":"room {index}.{number}"}}"#));
        }
        // What redis does not answer is answered later, everything else now.
        client.fence();
        idle.fence();
    }
    redis.resume();
    for client in &mut clients {
        for _ in 0..ROOMS_EACH {
            assert_eq!(client.recv_json()["type"], "SUBSCRIBED");
        }
    }
    assert_eq!(redis.channels(), CLIENTS * ROOMS_EACH);
}

#[test]
fn thousands_of_publishes_that_wait_for_redis_are_all_answered() {
    const CLIENTS: usize = 40;
    const MESSAGES_EACH: u64 = 100;
    for comes_back in [true, false] {
        let mut redis = Redis::start();
        let server = launch(&redis).start();
        let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::connect(&server)).collect();
        redis.pause();
        for client in &mut clients {
            for id in 0..MESSAGES_EACH {
                client.send(format!(r#"{{"type":"SEND_MESSAGE","roomId":"r","message":{id},"id":{id}}}"#));
            }
            client.fence();
        }
        match comes_back {
            true => redis.resume(),
            false => redis.kill(),
        }
        for client in &mut clients {
            for id in 0..MESSAGES_EACH {
                let answer = client.recv_json();
                let is_due = if comes_back {
                    answer["type"] == "ACK"
                } else {
                    // Those that had not even been sent are known not to have been published.
                    answer["code"] == "unconfirmed" || answer["code"] == "broker_unavailable"
                };
                assert!(is_due && answer["id"] == id, "{answer}");
            }
        }
    }
}

#[test]
fn what_a_socket_does_not_take_is_written_once_redis_reads_again() {
    const CLIENTS: usize = 16;
    const MESSAGES_EACH: u64 = 10;
    const MESSAGE_BYTES: usize = 60_000;
    let redis = Redis::start();
    let server = launch(&redis).start();
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::connect(&server)).collect();
    redis.pause();
    let message = "x".repeat(MESSAGE_BYTES);
    for client in &mut clients {
        for id in 0..MESSAGES_EACH {
            client.send(format!(r#"{{"type":"SEND_MESSAGE","roomId":"r","message":"{message}","id":{id}}}"#));
        }
        // Nobody else waits for it.
        client.fence();
    }
    let asked = (CLIENTS * MESSAGE_BYTES) as u64 * MESSAGES_EACH;
    assert!(redis.unread_bytes() < asked / 2, "the kernel has taken {} of {asked} bytes", redis.unread_bytes());
    redis.resume();
    for client in &mut clients {
        for id in 0..MESSAGES_EACH {
            client.expect(&format!(r#"{{"type":"ACK","id":{id}}}"#));
        }
    }
}

#[test]
fn more_publishes_than_may_be_in_flight_are_answered_busy() {
    let redis = Redis::start();
    let server = launch(&redis).flag("--redis-publishes-in-flight-max", 3).start();
    let mut client = Client::connect(&server);
    redis.pause();
    for id in 1..=5 {
        client.send(format!(r#"{{"type":"SEND_MESSAGE","roomId":"r","message":{id},"id":{id}}}"#));
    }
    for id in 4..=5 {
        assert_eq!(client.expect_error("broker_busy")["id"], id);
    }
    client.fence();
    redis.resume();
    for id in 1..=3 {
        client.expect(&format!(r#"{{"type":"ACK","id":{id}}}"#));
    }
    client.publish_acknowledged("r", "6");
}

#[test]
fn bytes_waiting_for_redis_are_limited() {
    let redis = Redis::start();
    let server = launch(&redis).flag("--redis-buffer-bytes-max", 100_000).start();
    let mut client = Client::connect(&server);
    redis.pause();
    let message = "x".repeat(40_000);
    for id in 1..=4 {
        client.send(format!(r#"{{"type":"SEND_MESSAGE","roomId":"r","message":"{message}","id":{id}}}"#));
    }
    // Two fit beside each other, three do not.
    for id in 3..=4 {
        assert_eq!(client.expect_error("broker_busy")["id"], id);
    }
    client.fence();
    redis.resume();
    for id in 1..=2 {
        client.expect(&format!(r#"{{"type":"ACK","id":{id}}}"#));
    }
}

#[test]
fn order_and_wholeness_hold_across_an_outage() {
    let mut redis = Redis::start();
    let server = launch(&redis).start();
    let mut members: Vec<Client> = (0..3).map(|_| Client::member(&server, "r")).collect();
    let mut sender = Client::connect(&server);
    for number in 0..150 {
        sender.publish("r", &number.to_string());
    }
    for member in &mut members {
        for number in 0..150 {
            member.expect_message("r", &number.to_string());
        }
    }
    // Each worker with members subscribes by itself.
    let subscribers = redis.subscribers("fanfare:r");
    redis.kill();
    wait_until_both_links_are(&server, 0.0);
    for number in 150..300 {
        sender.publish("r", &number.to_string());
    }
    sender.fence();
    server.wait_for_metrics("every message sent meanwhile is counted", |metrics| {
        metrics.value("fanfare_broker_publishes_dropped_total") == 150.0
    });
    redis.start_again();
    server.wait_until_ready();
    eventually("the room is subscribed", || (redis.subscribers("fanfare:r") == subscribers).then_some(()));
    sender.publish_acknowledged("r", r#""end""#);
    // Nothing old comes late or twice.
    for member in &mut members {
        member.expect_interruption("r");
        member.expect_message("r", r#""end""#);
    }
}

/// Says why Redis is away now, not only how it was lost; but not to strangers.
fn wait_until_readyz_says(server: &Server, reason: &str) {
    assert!(!server.wait_until_readyz_is(503).contains(reason), "the main port says {reason:?}");
    eventually(&format!("the operations port says {reason:?}"), || {
        let response = get(server.ops_address(), "/readyz");
        (response.status == 503 && response.text().contains(reason)).then_some(())
    });
}

fn wait_until_both_links_are(server: &Server, up: f64) {
    server.wait_for_metrics("both links are told to be up or down", |metrics| {
        metrics.value(r#"fanfare_broker_up{link="subscriber"}"#) == up
            && metrics.value(r#"fanfare_broker_up{link="publisher"}"#) == up
    });
}

#[test]
fn what_is_sent_in_an_outage_may_wait_for_its_end() {
    let mut redis = Redis::start();
    let server = Server::launch()
        .redis(&redis)
        .args([
            "--redis-publish-wait-ms",
            "30000",
            "--redis-publishes-in-flight-max",
            "20",
            "--redis-backoff-ms-max",
            "200",
        ])
        .ops()
        .start();
    let mut sender = Client::connect(&server);
    redis.kill();
    server.wait_for_log("redis lost");
    for id in 1..=21 {
        sender.send(format!(r#"{{"type":"SEND_MESSAGE","roomId":"r","message":{id},"id":{id}}}"#));
    }
    assert_eq!(sender.expect_error("broker_busy")["id"], 21);
    sender.fence();
    redis.start_again();
    for id in 1..=20 {
        sender.expect(&format!(r#"{{"type":"ACK","id":{id}}}"#));
    }
}

#[test]
fn what_waits_in_an_outage_is_refused_when_it_has_waited_long_enough() {
    let mut redis = Redis::start();
    let server = Server::launch().redis(&redis).args(["--redis-publish-wait-ms", "300"]).ops().start();
    let mut sender = Client::connect(&server);
    redis.kill();
    server.wait_for_log("redis lost");
    for id in 1..=2 {
        sender.send(format!(r#"{{"type":"SEND_MESSAGE","roomId":"r","message":1,"id":{id}}}"#));
        sender.fence();
    }
    for id in 1..=2 {
        assert_eq!(sender.expect_error("broker_unavailable")["id"], id);
    }
}
