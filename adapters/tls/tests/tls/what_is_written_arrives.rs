//! Plaintext goes through whole and in order, however the socket between takes it.

use crate::both_sides::{BothSides, Pipe, hear, said};
use fanfare_tls::{Progress, Version};
use proptest::prelude::*;
use std::io::ErrorKind;

#[test]
fn a_message_goes_each_way_in_both_versions() {
    for version in [Version::Tls12, Version::Tls13] {
        let mut sides = BothSides::open(version);
        let (mut record, mut pipe) = (Vec::new(), Pipe { room: usize::MAX, ..Pipe::default() });
        assert_eq!(sides.client.write(b"up", &mut record, |piece| pipe.put(piece)).unwrap(), 2);
        let mut heard = Vec::new();
        assert_eq!(hear(&mut sides.server, std::mem::take(&mut pipe.bytes), &mut heard), Progress::Open);
        assert_eq!(heard, b"up");
        assert_eq!(sides.server.write(b"down", &mut record, |piece| pipe.put(piece)).unwrap(), 4);
        let mut heard = Vec::new();
        assert_eq!(hear(&mut sides.client, pipe.bytes, &mut heard), Progress::Open);
        assert_eq!(heard, b"down");
    }
}

#[test]
fn nothing_is_written_before_the_handshake_is_done() {
    let mut sides = BothSides::new(Version::Tls12);
    for session in [&mut sides.client, &mut sides.server] {
        let error = session.write(b"too early", &mut Vec::new(), |piece| Ok(piece.len())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotConnected);
    }
    assert_eq!(sides.settle(), ("".into(), "".into()));
}

#[test]
fn of_what_a_socket_does_not_take_no_more_than_a_record_is_kept() {
    let mut sides = BothSides::open(Version::Tls13);
    let (text, mut record, mut pipe) = (vec![7; 50_000], Vec::new(), Pipe::default());
    pipe.room = 20_000;
    let taken = sides.server.write(&text, &mut record, |piece| pipe.put(piece)).unwrap();
    assert_eq!((taken, sides.server.is_flushed()), (2 * 16_384, false));
    for _ in 0..2 {
        assert_eq!(sides.server.write(&text[taken..], &mut record, |piece| pipe.put(piece)).unwrap(), 0);
    }
    pipe.room = usize::MAX;
    assert!(sides.server.flush(|piece| pipe.put(piece)).unwrap() && sides.server.is_flushed());
    let rest = text.len() - taken;
    assert_eq!(sides.server.write(&text[taken..], &mut record, |piece| pipe.put(piece)).unwrap(), rest);
    let mut heard = Vec::new();
    hear(&mut sides.client, pipe.bytes, &mut heard);
    assert_eq!(heard, text);
}

#[test]
fn an_end_is_told_after_all_that_was_written() {
    for version in [Version::Tls12, Version::Tls13] {
        let mut sides = BothSides::open(version);
        let (mut record, mut pipe) = (Vec::new(), Pipe { room: 10, ..Pipe::default() });
        assert_eq!(sides.server.write(b"bye", &mut record, |piece| pipe.put(piece)).unwrap(), 3);
        sides.server.shut();
        assert!(!sides.server.is_shut());
        pipe.room = usize::MAX;
        assert!(sides.server.flush(|piece| pipe.put(piece)).unwrap() && sides.server.is_shut());
        let mut heard = Vec::new();
        assert_eq!(hear(&mut sides.client, pipe.bytes, &mut heard), Progress::Closed);
        assert_eq!(heard, b"bye");
        assert!(sides.client.is_closed());
        let error = sides.server.write(b"more", &mut record, |piece| Ok(piece.len())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotConnected);
    }
}

#[test]
fn who_has_heard_the_end_may_go_on_to_speak_and_is_not_listened_to() {
    let mut sides = BothSides::open(Version::Tls13);
    sides.client.shut();
    let mut heard = Vec::new();
    assert_eq!(hear(&mut sides.server, said(&mut sides.client), &mut heard), Progress::Closed);
    let mut pipe = Pipe { room: usize::MAX, ..Pipe::default() };
    assert_eq!(sides.server.write(b"last", &mut Vec::new(), |piece| pipe.put(piece)).unwrap(), 4);
    for bytes in [pipe.bytes, b"garbage".to_vec()] {
        assert_eq!((hear(&mut sides.client, bytes, &mut heard), &heard[..]), (Progress::Open, &b""[..]));
    }
}

#[test]
fn a_changed_byte_ends_the_session_and_gives_nothing_away() {
    let mut sides = BothSides::open(Version::Tls13);
    let mut pipe = Pipe { room: usize::MAX, ..Pipe::default() };
    sides.client.write(b"secret", &mut Vec::new(), |piece| pipe.put(piece)).unwrap();
    *pipe.bytes.last_mut().unwrap() ^= 1;
    let mut heard = Vec::new();
    assert!(matches!(hear(&mut sides.server, pipe.bytes, &mut heard), Progress::Failed(_)));
    assert_eq!(heard, b"");
    // The client is told by an alert.
    assert!(matches!(hear(&mut sides.client, said(&mut sides.server), &mut heard), Progress::Failed(_)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// As an adapter does it: what is not taken is written again, from the first byte that was not.
    #[test]
    fn any_socket_gets_everything_in_order(
        messages in prop::collection::vec(1..40_000usize, 1..6),
        rooms in prop::collection::vec(1..30_000usize, 1..8),
        cuts in prop::collection::vec(1..20_000usize, 1..8),
        tls13 in any::<bool>(),
    ) {
        let mut sides = BothSides::open(if tls13 { Version::Tls13 } else { Version::Tls12 });
        let (mut record, mut pipe, mut rooms) = (Vec::new(), Pipe::default(), rooms.into_iter().cycle());
        let (mut sent, mut heard) = (Vec::new(), Vec::new());
        let mut cuts = cuts.into_iter().cycle();
        for (number, length) in messages.into_iter().enumerate() {
            let message: Vec<u8> = (0..length).map(|at| (at * 7 + number) as u8).collect();
            let mut rest = &message[..];
            while !rest.is_empty() || !sides.server.is_flushed() {
                pipe.room = rooms.next().unwrap();
                let taken = sides.server.write(rest, &mut record, |piece| pipe.put(piece)).unwrap();
                rest = &rest[taken..];
                sides.server.flush(|piece| pipe.put(piece)).unwrap();
                let mut bytes = std::mem::take(&mut pipe.bytes);
                while !bytes.is_empty() {
                    let piece: Vec<u8> = bytes.drain(..bytes.len().min(cuts.next().unwrap())).collect();
                    prop_assert_eq!(hear(&mut sides.client, piece, &mut heard), Progress::Open);
                }
            }
            sent.extend(message);
            prop_assert!(heard == sent);
        }
    }
}
