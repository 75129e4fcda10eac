//! What holds for every connection holds in every dialect: limits, refusals, and what the broker refuses.

use fanfare_core::broker::BrokerEvent;
use fanfare_core::{Config, ConnId};
use fanfare_tests::lone_core::{LoneCore, Said, text_to};
use fanfare_tests::{Frame, config, opcode, upgrade_request};

fn client_at(lone: &mut LoneCore, path: &str) -> (ConnId, Vec<Said>) {
    let conn = lone.connect();
    let said = lone.bytes(conn, upgrade_request(path, ""));
    (conn, said)
}

#[test]
fn a_text_of_a_broadcaster_forgives_a_binary_message() {
    let mut lone = LoneCore::new(config(|config| config.limits.errors_max = 1));
    let (conn, _) = client_at(&mut lone, "/broadcast/r");
    for _ in 0..3 {
        let said = lone.bytes(conn, Frame::new(opcode::BINARY, "x").masked());
        assert_eq!(text_to(&said, conn), "");
        lone.command(conn, "a good one");
    }
    lone.bytes(conn, Frame::new(opcode::BINARY, "x").masked());
    let said = lone.bytes(conn, Frame::new(opcode::BINARY, "x").masked());
    assert!(text_to(&said, conn).contains("too many malformed commands"));
}

#[test]
fn an_upgrade_at_an_unknown_path_is_told_so_by_a_full_server_too() {
    let mut lone = LoneCore::new(config(|config| config.admission.connections_max = 1));
    lone.client();
    let (conn, said) = client_at(&mut lone, "/elsewhere");
    assert!(text_to(&said, conn).starts_with("HTTP/1.1 404 "), "{said:?}");
    let (conn, said) = client_at(&mut lone, "/broadcast/r");
    assert!(text_to(&said, conn).starts_with("HTTP/1.1 503 "), "{said:?}");
    assert_eq!((lone.core.metrics().upgrades_invalid, lone.core.metrics().upgrades_refused_full), (1, 1));
}

#[test]
fn a_refused_room_ends_whoever_gets_no_replies_and_is_told_to_the_others() {
    let mut lone = LoneCore::new(Config::default());
    let fanfare = lone.member("r");
    let broadcasters = [(); 3].map(|()| client_at(&mut lone, "/broadcast/r").0);
    let (elsewhere, _) = client_at(&mut lone, "/classic");
    lone.command(elsewhere, r#"{"type":"SUBSCRIBE","room":"s"}"#);
    let (classic, _) = client_at(&mut lone, "/classic");
    lone.command(classic, r#"{"type":"SUBSCRIBE","room":"r"}"#);
    lone.broker(BrokerEvent::Down { reason: "away" });
    lone.broker(BrokerEvent::Up);
    let said = lone.broker(BrokerEvent::SubscribeFailed { room: "r", reason: "no permission for app-user" });
    assert!(text_to(&said, fanfare).contains("UNSUBSCRIBED"));
    for conn in broadcasters.into_iter().chain([classic]) {
        let close = text_to(&said, conn);
        assert!(close.contains("the broker refused the subscription") && !close.contains("app-user"), "{close}");
    }
    assert_eq!(text_to(&said, elsewhere), "");
    assert_eq!((lone.core.metrics().memberships_now, lone.core.metrics().subscriptions_refused), (1, 1));
    assert_eq!(lone.core.refused_room(), Some(("r", "no permission for app-user")));
    lone.core.check_invariants();
}

#[test]
fn what_is_no_message_is_not_handed_to_bare_members_and_counted_once() {
    let mut lone = LoneCore::new(Config::default());
    let fanfare = lone.member("r");
    let bare = [(); 3].map(|()| client_at(&mut lone, "/broadcast/r").0);
    for message in ["x", "{1}", "\"\\x\"", "[1 2]"] {
        let text = format!(r#"{{"type":"MESSAGE","room":"r","message":{message}}}"#);
        let before = (lone.core.metrics().messages_forged, lone.core.metrics().deliveries);
        let payload = format!("F1 {:016x} -\n{text}", 0);
        let said = lone.broker(BrokerEvent::Message { room: "r", payload: payload.as_bytes() });
        assert!(text_to(&said, fanfare).ends_with(&text));
        assert!(bare.iter().all(|conn| text_to(&said, *conn).is_empty()), "{text}: {said:?}");
        let after = (lone.core.metrics().messages_forged, lone.core.metrics().deliveries);
        assert_eq!(after, (before.0 + 1, before.1 + 1), "{text}");
    }
    let odd = [
        (r#""\ud800""#, r#""\ud800""#),
        (r#""\ud83d\ude00\u0000\/""#, "😀\0/"),
        (r#" [ 1 ] "#, "[ 1 ]"),
        (r#""""#, ""),
    ];
    for (message, expected) in odd {
        let payload = format!(r#"{{"type":"SEND_MESSAGE","roomId":"r","message":{message}}}"#);
        let said = lone.broker(BrokerEvent::Message { room: "r", payload: payload.as_bytes() });
        for conn in bare {
            assert!(said.contains(&Said::Sent(conn, Frame::text(expected).unmasked())), "{message}: {said:?}");
        }
    }
}
