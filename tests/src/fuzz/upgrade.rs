//! Request heads: however they are cut, the core gives the same answer, and it is well-formed HTTP.

use super::pieces::splits;
use crate::http::Response;
use crate::lone_core::{LoneCore, Said};
use crate::{Frame, config, head_bytes};
use fanfare_core::broker::BrokerEvent;
use fanfare_core::ws::handshake::{self, Kind, Parsed};
use fanfare_core::{ConnId, Dialect, Event, Subprotocols};
use tungstenite::handshake::derive_accept_key;

/// Few, so that the limit is met.
const HEADERS_MAX: usize = 12;

/// What is searched for the end of a head from every place, which takes the square of the length.
const SEARCHED_BYTES_MAX: usize = 400;

/// The first byte chooses the circumstances, the second how the stream is cut; the stream follows.
pub fn upgrade(data: &[u8]) {
    let [circumstances, seed, stream @ ..] = data else { return };
    the_end_is_found_from_everywhere(stream);
    let [whole, splits @ ..] = splits(stream, *seed);
    let (conn, whole) = in_one_turn(*circumstances, &whole);
    let answer = sent(&whole, conn);
    check(stream, &answer, &whole);
    for pieces in splits {
        assert_eq!(in_one_turn(*circumstances, &pieces), (conn, whole.clone()));
        let (said, ends) = turn_by_turn(*circumstances, &pieces);
        assert_eq!((said, ends), (answer.clone(), whole.iter().filter(|said| is_end(said)).cloned().collect()));
    }
}

fn the_end_is_found_from_everywhere(stream: &[u8]) {
    let stream = &stream[..stream.len().min(SEARCHED_BYTES_MAX)];
    let end = handshake::head_end(stream, 0);
    for length in 0..end.unwrap_or(stream.len()) {
        assert_eq!(handshake::head_end(&stream[..length], 0), None);
        assert_eq!(handshake::head_end(stream, length), end, "from {length}");
    }
}

fn circumstances(choice: u8) -> LoneCore {
    let dialects = [Dialect::Fanfare, Dialect::Classic, Dialect::Broadcast, Dialect::Echo];
    let mut lone = LoneCore::new(config(|config| {
        config.limits.request_headers_max = HEADERS_MAX;
        config.subprotocols = if choice & 0x40 == 0 { Subprotocols::Own } else { Subprotocols::First };
        config.limits.request_head_bytes_max = [8 * 1024, 512, 200, 64][usize::from(choice & 3)];
        config.default_dialect = dialects[usize::from(choice >> 2 & 3)];
        config.echo = choice & 0x10 != 0;
        config.admission.connections_max = usize::from(choice & 0x20 == 0);
        config.limits.message_bytes_max = 1_000;
        config.limits.room_name_bytes_max = 16;
        config.limits.errors_max = 2;
    }));
    if choice & 0x40 != 0 {
        lone.broker(BrokerEvent::Down { reason: "down" });
    }
    if choice & 0x80 != 0 {
        lone.turn(|turn| turn.feed(Event::Shutdown));
    }
    lone
}

fn in_one_turn(choice: u8, pieces: &[&[u8]]) -> (ConnId, Vec<Said>) {
    let mut lone = circumstances(choice);
    let conn = lone.connect();
    let said = lone.turn(|turn| {
        for piece in pieces {
            turn.feed(Event::Bytes { conn, data: &mut piece.to_vec() });
        }
    });
    (conn, said)
}

/// What the client is sent, and how the connection ends.
fn turn_by_turn(choice: u8, pieces: &[&[u8]]) -> (Vec<u8>, Vec<Said>) {
    let mut lone = circumstances(choice);
    let conn = lone.connect();
    let said: Vec<Said> = pieces.iter().flat_map(|piece| lone.bytes(conn, piece)).collect();
    (sent(&said, conn), said.into_iter().filter(is_end).collect())
}

fn is_end(said: &Said) -> bool {
    matches!(said, Said::Shutdown(_) | Said::Close(_))
}

fn sent(said: &[Said], conn: ConnId) -> Vec<u8> {
    said.iter().fold(Vec::new(), |mut sent, said| {
        if let Said::Sent(to, bytes) = said {
            assert_eq!(*to, conn, "there is nobody else");
            sent.extend_from_slice(bytes);
        }
        sent
    })
}

/// The answer is a response, and the one that the request asks for.
fn check(stream: &[u8], answer: &[u8], said: &[Said]) {
    if answer.is_empty() {
        assert!(!said.iter().any(is_end), "no connection ends without a word: {said:?}");
        return;
    }
    let end = head_bytes(answer).expect("a whole head");
    let (head, body) = (&answer[..end - 4], &answer[end..]);
    assert!(head.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\r' | b'\n')), "{}", head.escape_ascii());
    let response = Response::parse(std::str::from_utf8(head).expect("ASCII"));
    let request = handshake::head_end(stream, 0).map(|end| &stream[..end]);
    let parsed = request.map(|head| handshake::parse(head, HEADERS_MAX));
    if response.status == 101 {
        let Some(Ok(Parsed { kind: Kind::Upgrade { key, .. }, origin, host, .. })) = parsed else {
            panic!("{parsed:?}")
        };
        if let Some(origin) = origin {
            // Without ports, which is less than what is asked of it: a host is what stands before the last colon, or all.
            let [origin, host] = [origin.split_once("://").map(|(_, host)| host), host].map(|host| {
                let host = host.expect("a page of this host").to_ascii_lowercase();
                host.trim_end_matches(|of_port: char| of_port.is_ascii_digit()).trim_end_matches(':').to_owned()
            });
            assert_eq!(origin, host);
        }
        if let Some(selected) = response.field("sec-websocket-protocol") {
            assert!(selected == handshake::SUBPROTOCOL || !selected.starts_with("fanfare."), "{selected}");
            let stream = String::from_utf8_lossy(stream);
            assert!(stream.contains(selected), "{selected} was offered");
        }
        assert_eq!(response.field("sec-websocket-accept"), Some(&*derive_accept_key(key.as_bytes())));
        assert_eq!(response.field("upgrade"), Some("websocket"));
        assert_eq!(response.field("connection"), Some("Upgrade"));
        let mut rest = body;
        while let Some((_, bytes)) = Frame::parse(rest) {
            rest = &rest[bytes..];
        }
        assert!(rest.is_empty(), "only whole frames follow");
        return;
    }
    assert!((200..=599).contains(&response.status), "{}", response.head);
    assert!(said.iter().any(is_end), "the connection ends with the response");
    assert!(response.fields.contains(&("connection".to_owned(), "close".to_owned())), "{}", response.head);
    if response.status == 204 {
        assert!(body.is_empty() && response.field("content-length").is_none(), "{}", response.head);
        return;
    }
    let length: usize = response.field("content-length").expect("a length").parse().expect("a number");
    let bodiless = matches!(parsed, Some(Ok(Parsed { kind: Kind::Get { head_only: true, .. }, .. })));
    assert_eq!(body.len(), if bodiless && body.is_empty() { 0 } else { length });
}
