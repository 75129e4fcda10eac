//! One instance: who gets what, and in which order.

use fanfare_tests::{Client, Server, assert_one_order};

#[test]
fn every_member_gets_every_message_of_its_rooms_and_no_other() {
    let server = Server::start();
    let mut red = Client::member(&server, "red");
    let mut blue = Client::member(&server, "blue");
    let mut both = Client::member(&server, "red");
    both.subscribe("blue");
    let mut sender = Client::connect(&server);
    for number in 0..20 {
        sender.publish("red", &number.to_string());
        sender.publish("blue", &(number + 100).to_string());
        sender.publish("green", "0");
    }
    for number in 0..20 {
        red.expect_message("red", &number.to_string());
        blue.expect_message("blue", &(number + 100).to_string());
    }
    let mut in_red = 0;
    let mut in_blue = 100;
    for _ in 0..40 {
        let message = both.recv_json();
        let next = if message["room"] == "red" { &mut in_red } else { &mut in_blue };
        assert_eq!(message["message"], *next);
        *next += 1;
    }
    for client in [&mut red, &mut blue, &mut both, &mut sender] {
        client.fence();
    }
}

#[test]
fn several_senders_at_once_are_seen_in_one_order_by_all() {
    let server = Server::start();
    let mut members: Vec<Client> = (0..8).map(|_| Client::member(&server, "r")).collect();
    assert_one_order(&server, "r", &mut members, 4, 250);
}

#[test]
fn a_late_member_gets_only_what_follows() {
    let server = Server::start();
    let mut early = Client::member(&server, "r");
    early.publish("r", "1");
    early.expect_message("r", "1");
    let mut late = Client::member(&server, "r");
    early.publish("r", "2");
    late.expect_message("r", "2");
    early.expect_message("r", "2");
}

#[test]
fn joining_sending_and_leaving_in_one_go_stays_in_order() {
    let server = Server::start();
    let mut witness = Client::member(&server, "r");
    let mut client = Client::connect(&server);
    client.publish("r", "0");
    client.send(r#"{"type":"SUBSCRIBE","room":"r"}"#);
    client.publish("r", "1");
    client.publish("r", "2");
    client.send(r#"{"type":"UNSUBSCRIBE","room":"r"}"#);
    client.publish("r", "3");
    client.send(r#"{"type":"SUBSCRIBE","room":"r"}"#);
    client.publish("r", "4");
    // What the broker has not yet brought back when it leaves is not its own; all else is settled.
    let mut inside = false;
    let mut messages = Vec::new();
    while messages.last() != Some(&4) {
        let text = client.recv_json();
        match text["type"].as_str() {
            Some("SUBSCRIBED") => inside = true,
            Some("UNSUBSCRIBED") => inside = false,
            Some("MESSAGE") if inside => messages.push(text["message"].as_u64().expect("a number")),
            _ => panic!("not between SUBSCRIBED and UNSUBSCRIBED: {text}"),
        }
    }
    assert!(messages.is_sorted_by(|a, b| a < b), "{messages:?}");
    client.fence();
    for raw in ["0", "1", "2", "3", "4"] {
        witness.expect_message("r", raw);
    }
}

#[test]
fn who_has_left_gets_nothing_more() {
    let server = Server::start();
    let mut stays = Client::member(&server, "r");
    let mut leaves = Client::member(&server, "r");
    leaves.unsubscribe("r");
    stays.publish("r", "1");
    stays.expect_message("r", "1");
    leaves.fence();
    leaves.subscribe("r");
    stays.publish("r", "2");
    leaves.expect_message("r", "2");
}

#[test]
fn members_that_come_and_go_do_not_disturb_those_that_stay() {
    let server = Server::start();
    let mut stays = Client::member(&server, "r");
    let mut sender = Client::connect(&server);
    for number in 0..60 {
        let passing = Client::member(&server, "r");
        sender.publish("r", &number.to_string());
        if number % 2 == 0 {
            passing.leave();
        } else {
            drop(passing);
        }
    }
    for number in 0..60 {
        stays.expect_message("r", &number.to_string());
    }
}
