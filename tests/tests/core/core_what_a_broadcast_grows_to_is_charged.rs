//! A client that broadcasts sends a bare text. What is published of it is longer, and that is work of its own.

use fanfare_core::Rate;
use fanfare_core::broker::BrokerEvent;
use fanfare_tests::lone_core::{LoneCore, Said};
use fanfare_tests::{Frame, config, upgrade_request};

/// What a text grows to where it is published: the room's name, as it is written there, and what the text's own escapes take.
fn growth(payload: &[u8], text: &str) -> u64 {
    let payload = std::str::from_utf8(payload).expect("texts are published");
    let object: serde_json::Value = serde_json::from_str(&payload[payload.find('{').expect("JSON")..]).expect("JSON");
    assert_eq!(object["message"], text);
    // Both in JSON; the marks around the name are the server's.
    (object["room"].to_string().len() - 2 + object["message"].to_string().len() - text.len()) as u64
}

fn is_strained_after(path: &str, text: &str, burst: u64) -> (bool, u64) {
    let mut lone = LoneCore::new(config(|config| config.limits.surplus = Rate { per_second: 1, burst }));
    let conn = lone.connect();
    for said in lone.bytes(conn, upgrade_request(path, "")) {
        if let Said::Subscribe(room) = said {
            lone.broker(BrokerEvent::Subscribed { room: &room });
        }
    }
    assert!(!lone.core.is_strained());
    let said = lone.bytes(conn, Frame::text(text).masked());
    let payload = said.iter().find_map(|said| match said {
        Said::Publish(_, payload, _) => Some(payload),
        _ => None,
    });
    (lone.core.is_strained(), growth(payload.expect("it is published"), text))
}

#[test]
fn to_the_byte() {
    let names = ["/broadcast/a", "/broadcast/a%20longer%20name", "/broadcast/%22marked%22%5C"];
    let texts = ["", "plain", "\"said\"", "\u{1}\u{2}\n\\ and umlauts: äöü", &"\u{7f}x\t".repeat(500)];
    for name in names {
        for text in texts {
            let (_, growth) = is_strained_after(name, text, 0);
            assert_eq!(is_strained_after(name, text, growth), (false, growth), "{name} {text:?}");
            assert_eq!(is_strained_after(name, text, growth - 1), (true, growth), "{name} {text:?}");
        }
    }
}
