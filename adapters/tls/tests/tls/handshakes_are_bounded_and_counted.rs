//! Handshakes that come to nothing hold little, and are counted by why.

use crate::both_sides::{BothSides, hear, said};
use fanfare_tls::{Failure, Progress, Tally, Version};

#[test]
fn a_client_that_comes_back_resumes() {
    for version in [Version::Tls12, Version::Tls13] {
        let mut sides = BothSides::open(version);
        assert_eq!(sides.acceptor.counts().tally(), Tally { full: 1, ..Tally::default() });
        // As after another process's accept: what is known is in the ticket.
        sides.acceptor = sides.acceptor.counting_apart();
        sides.reconnect();
        sides.settle();
        assert_eq!(sides.acceptor.counts().tally(), Tally { resumed: 1, ..Tally::default() });
    }
}

#[test]
fn http_without_tls_is_answered_in_clear_text() {
    let mut sides = BothSides::new(Version::Tls12);
    let mut heard = Vec::new();
    let progress = hear(&mut sides.server, b"GET / HTTP/1.1\r\n\r\n".to_vec(), &mut heard);
    assert_eq!((progress, heard), (Progress::Failed(Failure::PlainHttp), Vec::new()));
    let answer = String::from_utf8(said(&mut sides.server)).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(
        head.starts_with("HTTP/1.1 400 ") && head.contains(&format!("content-length: {}\r\n", body.len())),
        "{answer}"
    );
    assert!(sides.server.is_shut());
    assert_eq!(sides.acceptor.counts().tally(), Tally { plain_http: 1, ..Tally::default() });
}

#[test]
fn what_is_no_tls_is_told_by_an_alert() {
    let mut sides = BothSides::new(Version::Tls12);
    let progress = hear(&mut sides.server, b"\x16\x03\x01\x00\x04\x01\x00\x00\x00".to_vec(), &mut Vec::new());
    assert!(matches!(progress, Progress::Failed(Failure::Malformed(_))), "{progress:?}");
    assert_eq!(said(&mut sides.server)[0], 21, "an alert");
    assert_eq!(sides.acceptor.counts().tally(), Tally { malformed: 1, ..Tally::default() });
}

#[test]
fn a_client_of_too_old_a_version_is_told() {
    let mut sides = BothSides::new(Version::Tls13);
    // A client that offers TLS 1.3 names it in an extension (43); another number stands for none that is known.
    let mut hello = said(&mut sides.client);
    let at = hello.windows(4).position(|bytes| bytes[..2] == [0, 43] && bytes[3] < 8).unwrap();
    hello[at + 1] = 99;
    let progress = hear(&mut sides.server, hello, &mut Vec::new());
    assert!(matches!(progress, Progress::Failed(Failure::Incompatible(_))), "{progress:?}");
    let mut heard = Vec::new();
    assert!(matches!(
        hear(&mut sides.client, said(&mut sides.server), &mut heard),
        Progress::Failed(Failure::Refused(_))
    ));
    assert_eq!(sides.acceptor.counts().tally(), Tally { incompatible: 1, ..Tally::default() });
}

#[test]
fn who_leaves_in_the_middle_is_counted_and_who_says_nothing_is_not() {
    let mut sides = BothSides::new(Version::Tls12);
    drop(sides.acceptor.session());
    let hello = said(&mut sides.client);
    assert_eq!(hear(&mut sides.server, hello[..hello.len() / 2].to_vec(), &mut Vec::new()), Progress::Open);
    assert_eq!(sides.acceptor.counts().tally(), Tally::default());
    sides.server = sides.acceptor.session();
    assert_eq!(sides.acceptor.counts().tally(), Tally { unfinished: 1, ..Tally::default() });
}

#[test]
fn a_hello_without_an_end_is_not_kept_for_ever() {
    let mut sides = BothSides::new(Version::Tls12);
    // A record of the greatest length, that holds the start of a message which is longer still.
    let mut hello = b"\x16\x03\x01\x40\x00\x01\x00\xff\xff".to_vec();
    hello.resize(16_000, 3);
    let (mut held, mut pieces) = (0, hello.chunks(1_000));
    let failure = loop {
        match hear(&mut sides.server, pieces.next().unwrap().to_vec(), &mut Vec::new()) {
            Progress::Open => held += 1_000,
            other => break other,
        }
    };
    assert!(matches!(failure, Progress::Failed(Failure::Malformed(_))) && held <= 8 * 1024, "{failure:?} {held}");
}
