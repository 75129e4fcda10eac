//! A client of the dialect `classic` is given what its room has kept, by its URL or by its SUBSCRIBE, without a word around it.

use fanfare_core::ConnId;
use fanfare_core::history::Retention;
use fanfare_core::rules::{Rule, Rules};
use fanfare_tests::embedded::Embedded;
use fanfare_tests::lone_core::Said;
use fanfare_tests::{Frame, config, head_bytes};
use std::time::Duration;

/// Rooms keep their last three messages, and two of them have five behind them.
fn with_messages() -> Embedded {
    let mut embedded = Embedded::new(config(|config| {
        let mut rule = Rule::new("**".parse().expect("a pattern"));
        rule.history = Some(Retention { messages_max: 3, bytes_max: 100_000, age_max: Duration::from_secs(60) });
        config.rules = Rules::new(vec![rule]).expect("a rule");
    }));
    let sender = embedded.client("/");
    for room in ["a", "b"] {
        embedded.publish(sender, room, 1..6, 0);
    }
    embedded
}

/// The texts behind the response of the upgrade.
fn texts(embedded: &Embedded, conn: ConnId) -> Vec<String> {
    let sent = embedded.said.iter().fold(Vec::new(), |mut sent, said| {
        if let Said::Sent(to, bytes) = said
            && *to == conn
        {
            sent.extend_from_slice(bytes);
        }
        sent
    });
    let mut rest = &sent[head_bytes(&sent).expect("a response")..];
    let mut texts = Vec::new();
    while let Some((frame, bytes)) = Frame::parse(rest) {
        texts.push(String::from_utf8(frame.payload).expect("a text"));
        rest = &rest[bytes..];
    }
    texts
}

/// By URL and by command.
fn both_ways(embedded: &mut Embedded, by_url: &str, by_command: &str) -> [ConnId; 2] {
    let clients = [embedded.client(&format!("/classic?room=a&{by_url}")), embedded.client("/classic")];
    embedded.command(clients[1], &format!(r#"{{"type":"SUBSCRIBE","room":"a",{by_command},"id":1}}"#));
    clients
}

#[test]
fn it_gets_the_last_messages_and_then_what_comes() {
    let mut embedded = with_messages();
    let clients = both_ways(&mut embedded, "history=2", r#""history":2"#);
    let sender = embedded.client("/classic");
    embedded.publish(sender, "a", 6..7, 0);
    for conn in clients {
        assert_eq!(texts(&embedded, conn), ["<4>", "<5>", "<6>"]);
    }
}

#[test]
fn it_gets_what_there_is_behind_its_position() {
    let mut embedded = with_messages();
    let member = embedded.client("/?room=a");
    let subscribed = texts(&embedded, member).remove(0);
    let epoch = subscribed.split(r#""epoch":""#).nth(1).and_then(|rest| rest.split('"').next()).expect("an epoch");
    for (offset, expected) in [(3, &["<4>", "<5>"][..]), (5, &[]), (0, &["<3>", "<4>", "<5>"])] {
        let position = format!(r#""since":{{"epoch":"{epoch}","offset":{offset}}}"#);
        for conn in both_ways(&mut embedded, &format!("since={epoch}:{offset}"), &position) {
            assert_eq!(texts(&embedded, conn), expected, "behind {offset}");
        }
    }
}

#[test]
fn each_room_of_its_url_has_a_beginning_of_its_own() {
    let mut embedded = with_messages();
    let conn = embedded.client("/classic?room=a&history=1&room=b&room=c&history=9");
    let sender = embedded.client("/classic");
    for (room, number) in [("b", 7), ("c", 8)] {
        embedded.publish(sender, room, number..number + 1, 0);
    }
    assert_eq!(texts(&embedded, conn), ["<5>", "<7>", "<8>"]);
}

/// Nobody would hear the answer.
#[test]
fn nothing_is_read_for_its_history_command() {
    let mut embedded = with_messages();
    let conn = embedded.client("/classic");
    let said = embedded.lone.command(conn, r#"{"type":"HISTORY","room":"a","id":1}"#);
    assert_eq!(said, []);
    assert_eq!(embedded.lone.core.metrics().command_errors, 1);
    let asked = embedded.client("/");
    let said = embedded.lone.command(asked, r#"{"type":"HISTORY","room":"a","id":1}"#);
    assert!(matches!(said[..], [Said::Read(..)]), "{said:?}");
}
