//! Whatever Redis, or what calls itself so, sends: to the scanner in any part, to a session in any split, and to a session in
//! the midst of its life.

use super::pieces::splits;
use super::session::{History, links_of, written};
use crate::redis_config;
use fanfare_core::broker::PublishId;
use fanfare_core::broker::redis::resp::{Limits, Malformed, Reply, Scan, scan};
use fanfare_core::broker::redis::{ConnectionRequest, RedisBroker};
use fanfare_core::time::Time;

/// What is cut at every place, which takes the square of the length.
const CUT_BYTES_MAX: usize = 300;

/// The first byte chooses among the three; what the rest means is theirs.
pub fn resp(data: &[u8]) {
    match data {
        [choice, rest @ ..] if choice % 3 == 0 => scanner(rest),
        [choice, rest @ ..] if choice % 3 == 1 => session_in_any_split(rest),
        [_, rest @ ..] => History::run(rest),
        [] => {}
    }
}

/// The first two bytes are the limits; the stream follows.
fn scanner(data: &[u8]) {
    let [message_bytes_max, reply_bytes_max, stream @ ..] = data else { return };
    let limits = Limits {
        message_bytes_max: usize::from(*message_bytes_max),
        reply_bytes_max: usize::from(*reply_bytes_max) * 4,
    };
    let whole = scan(stream, &limits);
    let reach = match whole {
        Ok(Scan::Reply { reply, len }) => {
            assert!(len <= stream.len() && len <= limits.reply_bytes_max);
            count(reply);
            len
        }
        Ok(Scan::Message { payload, len, .. }) => {
            assert!(len <= stream.len() && payload.len() <= limits.message_bytes_max);
            len
        }
        Ok(Scan::Oversized { header_len, payload_len }) => {
            assert!(header_len <= stream.len().min(limits.reply_bytes_max));
            assert!(payload_len > limits.message_bytes_max as u64);
            header_len
        }
        Ok(Scan::Incomplete { need }) => {
            assert!(need > stream.len());
            // What is needed at the least may become less: the short way for messages counts on less to follow.
            usize::MAX
        }
        Err(_) => usize::MAX,
    };
    // As text, for not-a-number does not equal itself. Which of two errors it is may depend on how much is there.
    let known = |answer: Result<Scan<'_>, Malformed>| answer.map_or("error".to_owned(), |found| format!("{found:?}"));
    let whole = known(whole);
    for cut in 0..stream.len().min(CUT_BYTES_MAX) {
        match scan(&stream[..cut], &limits) {
            Ok(Scan::Incomplete { need }) => assert!(need > cut && need <= reach, "{cut} bytes need {need} of {reach}"),
            early => assert_eq!(known(early), whole, "known early is known for good"),
        }
    }
}

/// Reads everything that a reply holds; each aggregate has as many elements as it says.
fn count(reply: Reply<'_>) {
    if let Reply::Array(items) | Reply::Set(items) | Reply::Map(items) | Reply::Push(items) = reply {
        let left = items.left();
        assert_eq!(items.map(count).count() as u64, left);
    }
}

/// The first byte chooses how the stream is cut, the second the circumstances; the stream follows.
fn session_in_any_split(data: &[u8]) {
    let [seed, circumstances, stream @ ..] = data else { return };
    let publisher = circumstances & 1 != 0;
    let [whole, splits @ ..] = splits(stream, *seed);
    let whole = hear(publisher, circumstances & 2 == 0, &whole);
    for split in splits {
        assert_eq!(hear(publisher, circumstances & 2 == 0, &split), whole);
    }
}

const ROOMS: u64 = 6;

/// Everything that a session reports which has some requests outstanding, hears these pieces, and is disconnected.
fn hear(publisher: bool, set_up: bool, pieces: &[&[u8]]) -> (Vec<String>, [u64; 2]) {
    let now = Time::from_millis(1_000);
    let mut session = RedisBroker::new(redis_config(|config| config.message_bytes_max = 40));
    while let Some((link, request)) = session.poll_connection(now) {
        assert_ne!(request, ConnectionRequest::Drop);
        session.connected(link, now);
        if set_up {
            session.input(link, SET_UP_REPLIES, now, |_| {});
        }
    }
    for number in 0..ROOMS {
        session.subscribe(&number.to_string());
        session.publish("r", b"payload", Some(PublishId::new(number)));
    }
    for link in session.links() {
        let bytes = session.output(link).len();
        session.written(link, bytes);
    }
    let link = links_of(&session)[usize::from(publisher)];
    let mut events = Vec::new();
    for piece in pieces {
        session.input(link, piece, now, |event| events.push(written(event)));
    }
    // Broken bytes end the connection when they are looked at, which may be when more of them are there; so every
    // connection ends here, and why is not compared.
    session.disconnected(link, "", now);
    session.poll_events(|event| events.push(written(event)));
    for event in &mut events {
        if event.starts_with("down") || event.starts_with("publisher down") {
            event.truncate("down".len());
        }
    }
    (events, [session.stats().oversized, session.stats().ignored])
}

pub(super) const HELLO_REPLY: &[u8] = b"%1\r\n$5\r\nproto\r\n:3\r\n";
/// The shortest that end a set-up: to `HELLO`, `ROLE` and `PING`.
const SET_UP_REPLIES: &[u8] = b"%1\r\n$5\r\nproto\r\n:3\r\n*1\r\n$6\r\nmaster\r\n+PONG\r\n";
