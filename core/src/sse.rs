//! Event streams: the response that begins one, its events, and the ids by which a client that comes back says what it has seen (WHATWG
//! HTML §9.2, `text/event-stream`).

use crate::history::Position;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use std::io::Write;

/// What stands behind an event, and nowhere within.
const END: &[u8] = b"\n\n";
/// What names of rooms have in common with parts of a URL.
const NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b':');

/// What is said of positions with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// It is the stream's only room: the position is the event's id.
    Id(Position),
    /// It is one of several, and ids stand by themselves. A comment says it, for the server to find it again.
    Comment(Position),
}

/// A page of another origin that may read the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reader<'a> {
    pub origin: &'a str,
    /// Cookies of this server count for it.
    pub with_credentials: bool,
}

/// Appends the response that begins an event stream, which ends with its connection. A browser that loses it comes back after
/// `retry_ms`.
pub(crate) fn write_accept(out: &mut Vec<u8>, reader: Option<Reader<'_>>, retry_ms: u64) {
    // nginx keeps what it is sent to make larger pieces of it, unless a response says otherwise.
    out.extend_from_slice(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store, no-transform\r\n\
          X-Accel-Buffering: no\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n",
    );
    if let Some(Reader { origin, with_credentials }) = reader {
        write!(out, "Access-Control-Allow-Origin: {origin}\r\nVary: Origin\r\n").expect("a Vec takes every write");
        if with_credentials {
            out.extend_from_slice(b"Access-Control-Allow-Credentials: true\r\n");
        }
    }
    write!(out, "\r\nretry: {retry_ms}\n\n").expect("a Vec takes every write");
}

/// Appends a text of the server's as an event of its type.
pub(crate) fn event(out: &mut Vec<u8>, text: &[u8], mark: Option<Mark>) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(kind_of(text));
    match mark {
        None => {}
        Some(Mark::Id(position)) => write!(out, "\nid: {position}").expect("a Vec takes every write"),
        Some(Mark::Comment(position)) => write!(out, "\n: {position}").expect("a Vec takes every write"),
    }
    // A client's JSON may have line breaks between its tokens, and those of a field end it.
    for line in text.split(|byte| matches!(byte, b'\n' | b'\r')) {
        out.extend_from_slice(b"\ndata: ");
        out.extend_from_slice(line);
    }
    out.extend_from_slice(END);
}

/// The value of `type`, with which every text of the server's begins.
fn kind_of(text: &[u8]) -> &[u8] {
    let rest = text.strip_prefix(br#"{"type":""#).unwrap_or_default();
    rest.split(|byte| *byte == b'"').next().unwrap_or_default()
}

/// Appends a comment, which tells that the server is there.
pub(crate) fn comment(out: &mut Vec<u8>) {
    out.extend_from_slice(b":\n\n");
}

/// Appends the event that says why the stream ends.
pub(crate) fn closed(out: &mut Vec<u8>, code: Option<u16>, reason: &str) {
    let mut text = br#"{"type":"CLOSED""#.to_vec();
    if let Some(code) = code {
        write!(text, ",\"code\":{code}").expect("a Vec takes every write");
    }
    text.extend_from_slice(b",\"reason\":");
    serde_json::to_writer(&mut text, reason).expect("a Vec takes every write");
    text.push(b'}');
    event(out, &text, None);
}

/// Appends the id of a stream about one room, as a block of its own, which is no event.
pub(crate) fn id(out: &mut Vec<u8>, position: Position) {
    write!(out, "id: {position}\n\n").expect("a Vec takes every write");
}

/// The same of a stream about several rooms.
pub(crate) fn ids<'a>(out: &mut Vec<u8>, positions: impl Iterator<Item = (&'a str, Position)>) {
    let before = out.len();
    for (room, position) in positions {
        out.extend_from_slice(if out.len() == before { b"id: " } else { b"&" });
        write!(out, "{}={position}", percent_encode(room.as_bytes(), NAME)).expect("a Vec takes every write");
    }
    if out.len() > before {
        out.extend_from_slice(END);
    }
}

/// The most bytes that [`ids`] makes for rooms of these names.
pub(crate) fn ids_bytes_max<'a>(rooms: impl Iterator<Item = &'a str>) -> usize {
    rooms
        .map(|room| {
            percent_encode(room.as_bytes(), NAME).map(str::len).sum::<usize>() + "=&".len() + Position::TEXT_BYTES_MAX
        })
        .sum()
}

/// What the id that a client repeats says about this room, of which there are several if `is_one_of_several`. Nothing where the id is
/// none of this server's for it.
pub(crate) fn position_in(id: &str, room: &str, is_one_of_several: bool) -> Option<Position> {
    let position = match is_one_of_several {
        false => id,
        true => id
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find_map(|(name, position)| (percent_decode_str(name).decode_utf8().ok()? == room).then_some(position))?,
    };
    Position::of_text(position).filter(|position| position.epoch.ordinal > 0)
}

/// The position that the last event of a run tells by a comment.
pub(crate) fn last_commented(run: &[u8]) -> Option<Position> {
    let mut end = run.len();
    while end > 0 {
        let event = last(&run[..end]);
        let comment = event.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b": "));
        if let Some(position) = comment.and_then(|text| Position::of_text(std::str::from_utf8(text).ok()?)) {
            return Some(position);
        }
        end -= event.len();
    }
    None
}

/// The text of the last event of a run, of one line.
pub(crate) fn last_text(run: &[u8]) -> Option<Vec<u8>> {
    last(run).split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"data: ")).map(<[u8]>::to_vec)
}

/// See [`framing`](crate::framing).
pub(crate) fn next_start(run: &[u8], at: usize) -> usize {
    // Where an event ends just before `at`, the next begins there.
    let from = at.saturating_sub(END.len());
    match at {
        0 => 0,
        _ => find(&run[from..]).map_or(run.len(), |end| from + end + END.len()),
    }
}

/// See [`framing`](crate::framing).
pub(crate) fn last_end(run: &[u8], at: usize) -> usize {
    let run = &run[..at.min(run.len())];
    run.windows(END.len()).rposition(|window| window == END).map_or(0, |end| end + END.len())
}

/// See [`framing`](crate::framing).
pub(crate) fn last(run: &[u8]) -> &[u8] {
    &run[last_end(run, run.len().saturating_sub(1))..]
}

fn find(bytes: &[u8]) -> Option<usize> {
    bytes.windows(END.len()).position(|window| window == END)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Epoch;

    fn at(random: u64, offset: u64) -> Position {
        Position { epoch: Epoch { ordinal: 1, random }, offset }
    }

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_event_has_the_type_of_its_text_and_ends_nowhere_within() {
        let text = b"{\"type\":\"MESSAGE\",\"message\":[\n\n1,\r\n2\r]}";
        let event = written(|out| event(out, text, Some(Mark::Id(at(1, 7)))));
        let data = "data: {\"type\":\"MESSAGE\",\"message\":[\ndata: \ndata: 1,\ndata: \ndata: 2\ndata: ]}";
        assert_eq!(event, format!("event: MESSAGE\nid: 1-0000000000000001:7\n{data}\n\n"));
        assert_eq!(next_start(event.as_bytes(), 1), event.len());
    }

    #[test]
    fn an_id_says_of_each_room_what_was_written_into_it() {
        let rooms = [("a b&=%", at(1, 2)), ("café", at(2, 3)), ("plain:1", at(3, u64::MAX))];
        let ids = written(|out| ids(out, rooms.into_iter()));
        assert!(ids.len() <= "id: \n\n".len() + ids_bytes_max(rooms.into_iter().map(|(room, _)| room)));
        let id = ids.strip_prefix("id: ").and_then(|ids| ids.strip_suffix("\n\n")).unwrap();
        assert!(id.contains("plain:1="), "names of the usual kind can be read: {id}");
        for (room, position) in rooms {
            assert_eq!(position_in(id, room, true), Some(position), "{room}");
        }
        assert_eq!(position_in(id, "b", true), None);
        assert_eq!(written(|out| super::ids(out, [].into_iter())), "", "no id is no block");
        let one = written(|out| super::id(out, at(1, 2)));
        assert_eq!(position_in(one.trim_start_matches("id: ").trim_end(), "a", false), Some(at(1, 2)));
        for wrong in ["", "x", ":", "=", "a=", "a=:", "%FF=1-0000000000000001:1", "&&a&"] {
            assert_eq!((position_in(wrong, "a", true), position_in(wrong, "a", false)), (None, None), "{wrong}");
        }
    }

    #[test]
    fn starts_and_ends_of_events_are_found_from_everywhere() {
        let mut run = Vec::new();
        let mut starts = vec![0];
        for text in ["{\"type\":\"A\"}", "{\"type\":\"B\",\n\n1}", "", "x"] {
            event(&mut run, text.as_bytes(), None);
            starts.push(run.len());
            comment(&mut run);
            starts.push(run.len());
        }
        for at in 0..=run.len() {
            assert_eq!(next_start(&run, at), *starts.iter().find(|start| **start >= at).unwrap(), "from {at}");
            assert_eq!(last_end(&run, at), *starts.iter().rfind(|start| **start <= at).unwrap(), "until {at}");
        }
        assert_eq!(last(&run), b":\n\n");
        assert_eq!(last(&run[..run.len() - 3]), b"event: \ndata: x\n\n");
        assert_eq!((next_start(b"", 0), last_end(b"", 0)), (0, 0));
    }

    #[test]
    fn the_position_of_a_run_is_that_of_its_last_event_with_one() {
        let mut run = Vec::new();
        event(&mut run, b"{\"type\":\"MESSAGE\"}", Some(Mark::Comment(at(1, 1))));
        event(
            &mut run,
            b"{\"type\":\"MESSAGE\",\"message\":\"\\n: 1-0000000000000009:9\"}",
            Some(Mark::Comment(at(1, 2))),
        );
        assert_eq!(last_commented(&run), Some(at(1, 2)));
        event(&mut run, b"{\"type\":\"JOINED\"}", None);
        assert_eq!(last_commented(&run), Some(at(1, 2)));
        assert_eq!(last_commented(b""), None);
    }
}
