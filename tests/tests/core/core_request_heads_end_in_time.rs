//! A request head that is not finished in time is answered and forgotten.

use fanfare_core::{Config, Event};
use fanfare_tests::lone_core::{LoneCore, Said, text_to};
use std::time::Duration;

#[test]
fn an_unfinished_head_is_answered_408_and_holds_no_memory_while_the_peer_is_waited_for() {
    let mut lone = LoneCore::new(Config::default());
    let conn = lone.connect();
    assert_eq!(lone.bytes(conn, "GET / HTTP/1.1\r\nHost"), []);
    // The harness checks after every turn that only those who still send their head have one kept.
    let said = lone.wait(Duration::from_secs(11));
    assert!(text_to(&said, conn).starts_with("HTTP/1.1 408 "), "{said:?}");
    assert_eq!(said.last(), Some(&Said::Shutdown(conn)));
    assert_eq!(lone.bytes(conn, ": h\r\n\r\n"), []);
    assert_eq!(lone.turn(|turn| turn.feed(Event::Closed { conn })), [Said::Close(conn)]);
}
