//! `/ws?room=a&room=b` is a member of both rooms as soon as it is a WebSocket.

use fanfare_core::Config;
use fanfare_core::broker::BrokerEvent;
use fanfare_tests::lone_core::{LoneCore, Said, text_to};
use fanfare_tests::stored::store;
use fanfare_tests::{Client, RawClient, Redis, Server, config, upgrade_request};
use serde_json::json;

fn upgrade(lone: &mut LoneCore, path: &str) -> Vec<Said> {
    let conn = lone.connect();
    lone.bytes(conn, upgrade_request(path, ""))
}

#[test]
fn the_response_and_subscribed_are_one_write_where_the_broker_holds_the_room() {
    let mut lone = LoneCore::new(Config::default());
    lone.member("a");
    let said = upgrade(&mut lone, "/ws?room=a");
    let [Said::Sent(conn, _)] = said[..] else { panic!("{said:?}") };
    let text = text_to(&said, conn);
    assert!(text.starts_with("HTTP/1.1 101 ") && text.ends_with(r#"{"type":"SUBSCRIBED","room":"a"}"#), "{text}");
}

#[test]
fn each_room_is_answered_once_the_broker_holds_it() {
    let mut lone = LoneCore::new(Config::default());
    let said = upgrade(&mut lone, "/?room=a&room=b&room=a");
    let asked: Vec<_> = said.iter().filter(|said| matches!(said, Said::Subscribe(_))).collect();
    assert_eq!(asked, [&Said::Subscribe("a".into()), &Said::Subscribe("b".into())]);
    for room in ["b", "a"] {
        let said = lone.broker(BrokerEvent::Subscribed { room });
        let [Said::Sent(conn, _)] = said[..] else { panic!("{said:?}") };
        assert!(text_to(&said, conn).ends_with(&format!(r#"{{"type":"SUBSCRIBED","room":"{room}"}}"#)));
    }
}

#[test]
fn more_rooms_than_allowed_and_names_that_no_room_can_have_are_refused_with_the_upgrade() {
    let mut lone = LoneCore::new(config(|config| config.limits.rooms_per_connection_max = 2));
    for path in ["/?room=a&room=b&room=c", "/?room=%00", "/?room="] {
        let said = upgrade(&mut lone, path);
        let Some(Said::Sent(conn, _)) = said.first() else { panic!("{said:?}") };
        assert!(text_to(&said, *conn).starts_with("HTTP/1.1 400 "), "{path}: {said:?}");
    }
    assert_eq!(lone.core.metrics().connections_now, 0);
    upgrade(&mut lone, "/?room=a&room=b");
    assert_eq!(lone.core.metrics().connections_now, 1);
}

#[test]
fn a_client_hears_its_rooms_without_a_command() {
    let redis = Redis::start();
    for server in [Server::start(), Server::launch().redis(&redis).start()] {
        let mut client = Client::connect_to(server.address(), "/ws?room=caf%C3%A9&room=a+b");
        client
            .expect_in_any_order(&[r#"{"type":"SUBSCRIBED","room":"café"}"#, r#"{"type":"SUBSCRIBED","room":"a b"}"#]);
        Client::connect(&server).publish("café", r#""au lait""#);
        client.expect_message("café", r#""au lait""#);
    }
}

#[test]
fn a_classic_client_gets_the_last_messages_of_its_rooms_without_a_word() {
    let redis = Redis::start();
    let launch = || Server::launch().file("[[rooms]]\nmatch = \"chat:*\"\nhistory_messages = 100");
    for server in [launch().embedded().start(), launch().redis(&redis).start()] {
        let mut sender = Client::connect(&server);
        for message in [json!("one"), json!("two"), json!({"three": 3})] {
            store(&mut sender, "chat:a", message.clone());
            store(&mut sender, "chat:b", message);
        }
        let mut client = classic(&server, "/classic?room=chat:a&history=2");
        assert_eq!([client.recv_text(), client.recv_text()], ["two", r#"{"three":3}"#]);
        let mut by_command = classic(&server, "/classic");
        by_command.send_text(r#"{"type":"SUBSCRIBE","room":"chat:a","history":2}"#);
        assert_eq!([by_command.recv_text(), by_command.recv_text()], ["two", r#"{"three":3}"#]);
        for client in [&mut client, &mut by_command] {
            client.send_text(r#"{"type":"SEND_MESSAGE","room":"chat:a","message":"live"}"#);
        }
        for client in [&mut client, &mut by_command] {
            assert_eq!([client.recv_text(), client.recv_text()], ["live", "live"]);
        }
        // A room without `history` begins with what comes.
        let mut client = classic(&server, "/classic?room=chat:a&room=chat:b&history=1");
        assert_eq!(client.recv_text(), r#"{"three":3}"#);
        client.send_text(r#"{"type":"SEND_MESSAGE","room":"chat:a","message":"after that"}"#);
        assert_eq!(client.recv_text(), "after that");
    }
}

fn classic(server: &Server, path: &str) -> RawClient {
    RawClient::upgraded_at(server.address(), path).expect("the path has a dialect")
}
