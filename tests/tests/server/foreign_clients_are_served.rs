//! Clients that nobody here wrote, run by node: the npm packages `ws` and `ioredis`, and the exact frames of the room
//! programs in JavaScript that this server replaces.

use fanfare_tests::{Client, Redis, Server, run_node};

#[test]
fn ws_subscribes_sends_and_receives_across_two_instances() {
    let redis = Redis::start();
    let servers: [Server; 2] = std::array::from_fn(|_| Server::launch().redis(&redis).start());
    let urls = servers.each_ref().map(Server::url);
    let printed = run_node("tests/node/two_instances.mjs", &[&urls[0], &urls[1]], &[]);
    assert!(printed.contains("all is well"), "{printed}");
}

#[test]
fn the_classic_programs_frames_mean_what_they_meant() {
    let redis = Redis::start();
    let servers: [Server; 2] = std::array::from_fn(|_| Server::launch().redis(&redis).start());
    let urls = servers.each_ref().map(Server::url);
    let printed = run_node("tests/node/seed_frames.mjs", &[&urls[0], &urls[1]], &[]);
    assert!(printed.contains("all is well"), "{printed}");
}

#[test]
fn a_node_server_shares_its_rooms_while_it_is_phased_out() {
    let redis = Redis::start();
    let server = Server::launch().redis(&redis).args(["--redis-format", "classic", "--redis-prefix", ""]).start();
    let printed = run_node("tests/node/classic_server.mjs", &[&server.url(), &redis.url()], &[]);
    assert!(printed.contains("all is well"), "{printed}");
}

#[test]
fn ws_is_given_the_subprotocols_that_a_node_server_selects() {
    let server = Server::start();
    let urls = ["classic", "broadcast"].map(|dialect| format!("{}/{dialect}", server.url()));
    let printed = run_node("tests/node/subprotocols.mjs", &[&urls[0], &urls[1]], &[]);
    assert!(printed.contains("all is well"), "{printed}");
}

/// The same frames byte for byte, without a library in between.
#[test]
fn the_classic_frames_are_understood_as_they_are() {
    let server = Server::start();
    let mut client = Client::connect_to(server.address(), "/");
    client.send(r#"{"type":"SUBSCRIBE","room":"room1"}"#);
    client.expect(r#"{"type":"SUBSCRIBED","room":"room1"}"#);
    client.send(r#"{"type":"SEND_MESSAGE","roomId":"room1","message":"Hello"}"#);
    client.expect(r#"{"type":"MESSAGE","room":"room1","message":"Hello"}"#);
    client.send(r#"{"type":"UNSUBSCRIBE","room":"room1"}"#);
    client.expect(r#"{"type":"UNSUBSCRIBED","room":"room1"}"#);
}
