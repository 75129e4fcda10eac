//! What Redis is asked for: exactly the rooms with members; and SUBSCRIBED is said only when Redis has said so.

use fanfare_tests::{Client, Redis, Server, eventually};

#[test]
fn what_is_published_after_subscribed_is_received() {
    let redis = Redis::start();
    let server = Server::launch().redis(&redis).start();
    let mut client = Client::connect(&server);
    let mut publisher = redis.connect();
    for number in 0..100 {
        let room = format!("room {number}");
        client.subscribe(&room);
        let channel = format!("fanfare:{room}");
        publisher.command(&[b"PUBLISH", channel.as_bytes(), b"at once"]);
        client.expect_message(&room, r#""at once""#);
    }
}

#[test]
fn redis_cli_hears_of_the_channel_as_soon_as_the_client_does() {
    let redis = Redis::start();
    let server = Server::launch().redis(&redis).start();
    let mut client = Client::member(&server, "r");
    assert_eq!(redis.cli(&["PUBSUB", "NUMSUB", "fanfare:r"]), "fanfare:r\n1");
    assert_eq!(redis.cli(&["PUBLISH", "fanfare:r", "hello"]), "1");
    client.expect_message("r", r#""hello""#);
}

#[test]
fn an_instance_subscribes_once_however_many_members_there_are() {
    let redis = Redis::start();
    // Each worker with members subscribes by itself.
    let server = Server::launch().workers(1).redis(&redis).start();
    let _members: Vec<Client> = (0..5).map(|_| Client::member(&server, "r")).collect();
    assert_eq!(redis.subscribers("fanfare:r"), 1);
}

#[test]
fn the_last_member_to_leave_ends_the_subscription() {
    let redis = Redis::start();
    // Each worker with members subscribes by itself.
    let server = Server::launch().workers(1).redis(&redis).flag("--timeouts-room-linger-ms", 100).start();
    let mut one = Client::member(&server, "r");
    let mut two = Client::member(&server, "r");
    one.unsubscribe("r");
    assert_eq!(redis.subscribers("fanfare:r"), 1);
    two.unsubscribe("r");
    eventually("nobody is subscribed", || (redis.subscribers("fanfare:r") == 0).then_some(()));

    one.subscribe("r");
    assert_eq!(redis.subscribers("fanfare:r"), 1);
    drop(one);
    eventually("nobody is subscribed", || (redis.subscribers("fanfare:r") == 0).then_some(()));
    assert_eq!(redis.channels(), 0);
}

#[test]
fn a_room_entered_again_within_the_linger_is_never_given_up() {
    let redis = Redis::start();
    let server = Server::launch().redis(&redis).flag("--timeouts-room-linger-ms", 60_000).start();
    let mut client = Client::member(&server, "r");
    for number in 0..20 {
        client.unsubscribe("r");
        assert_eq!(redis.publish("fanfare:r", "lost on nobody"), 1);
        client.subscribe("r");
        redis.publish("fanfare:r", number.to_string());
        loop {
            // What was published while it was away may or may not be on its way still.
            let message = client.recv_message("r");
            if message != "lost on nobody" {
                assert_eq!(message, number.to_string());
                break;
            }
        }
    }
}

#[test]
fn subscribed_is_not_said_before_redis_confirms() {
    let redis = Redis::start();
    let server = Server::launch().redis(&redis).start();
    let mut client = Client::connect(&server);
    redis.pause();
    client.send(r#"{"type":"SUBSCRIBE","room":"r","id":1}"#);
    client.fence();
    redis.resume();
    client.expect(r#"{"type":"SUBSCRIBED","room":"r","id":1}"#);
    redis.publish("fanfare:r", "hello");
    client.expect_message("r", r#""hello""#);
}

#[test]
fn later_members_of_a_confirmed_room_need_no_redis() {
    let redis = Redis::start();
    // Each worker with members subscribes by itself.
    let server = Server::launch().workers(1).redis(&redis).start();
    let mut first = Client::member(&server, "r");
    redis.pause();
    let mut second = Client::member(&server, "r");
    second.fence();
    redis.resume();
    redis.publish("fanfare:r", "hello");
    first.expect_message("r", r#""hello""#);
    second.expect_message("r", r#""hello""#);
}

#[test]
fn all_that_wait_for_one_room_are_confirmed_together() {
    let redis = Redis::start();
    let server = Server::launch().redis(&redis).start();
    let mut clients: Vec<Client> = (0..5).map(|_| Client::connect(&server)).collect();
    redis.pause();
    for client in &mut clients {
        client.send(r#"{"type":"SUBSCRIBE","room":"r"}"#);
        client.fence();
    }
    redis.resume();
    for client in &mut clients {
        client.expect(r#"{"type":"SUBSCRIBED","room":"r"}"#);
    }
    redis.publish("fanfare:r", "hello");
    for client in &mut clients {
        client.expect_message("r", r#""hello""#);
    }
}

#[test]
fn a_second_subscribe_while_the_first_one_waits_is_pending() {
    let redis = Redis::start();
    let server = Server::launch().redis(&redis).start();
    let mut client = Client::connect(&server);
    redis.pause();
    client.send(r#"{"type":"SUBSCRIBE","room":"r","id":1}"#);
    client.send(r#"{"type":"SUBSCRIBE","room":"r","id":2}"#);
    let error = client.expect_error("pending");
    assert_eq!(error["id"], 2);
    client.fence();
    redis.resume();
    client.expect(r#"{"type":"SUBSCRIBED","room":"r","id":1}"#);
    client.subscribe("r");
}

#[test]
fn a_waiting_subscribe_undone_by_an_unsubscribe_is_cancelled() {
    let redis = Redis::start();
    let server = Server::launch().redis(&redis).flag("--timeouts-room-linger-ms", 100).start();
    let mut client = Client::connect(&server);
    redis.pause();
    client.send(r#"{"type":"SUBSCRIBE","room":"r","id":1}"#);
    client.send(r#"{"type":"UNSUBSCRIBE","room":"r","id":2}"#);
    let mut replies = [client.recv_json(), client.recv_json()];
    replies.sort_by_key(|reply| reply["id"].as_u64());
    assert_eq!((&replies[0]["code"], &replies[0]["id"]), (&"cancelled".into(), &1.into()), "{replies:?}");
    assert_eq!(replies[1], serde_json::json!({"type": "UNSUBSCRIBED", "room": "r", "id": 2}));
    client.fence();
    redis.resume();
    eventually("nobody is subscribed", || (redis.subscribers("fanfare:r") == 0).then_some(()));
    client.fence();
    client.subscribe("r");
    assert_eq!(redis.subscribers("fanfare:r"), 1);
}

#[test]
fn a_client_that_leaves_while_it_waits_leaves_no_subscription() {
    let redis = Redis::start();
    let server = Server::launch().redis(&redis).flag("--timeouts-room-linger-ms", 100).start();
    let mut client = Client::connect(&server);
    redis.pause();
    client.send(r#"{"type":"SUBSCRIBE","room":"r"}"#);
    client.fence();
    client.leave();
    redis.resume();
    let mut other = Client::member(&server, "other");
    eventually("only the other's room is subscribed", || (redis.channels() == 1).then_some(()));
    redis.publish("fanfare:other", "hello");
    other.expect_message("other", r#""hello""#);
}

#[test]
fn joining_and_leaving_in_every_rhythm_ends_right() {
    let redis = Redis::start();
    let server = Server::launch().redis(&redis).flag("--timeouts-room-linger-ms", 1).start();
    let mut client = Client::connect(&server);
    for _ in 0..200 {
        client.subscribe("r");
        client.unsubscribe("r");
    }
    eventually("nobody is subscribed", || (redis.subscribers("fanfare:r") == 0).then_some(()));
    client.subscribe("r");
    assert_eq!(redis.publish("fanfare:r", "hello"), 1);
    client.expect_message("r", r#""hello""#);
}
