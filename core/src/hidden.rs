//! Rooms that no client can join or publish to, because no name of a client's room begins with this character: those beside rooms that are
//! observed, and those in which programs speak to each other.

const MARK: char = '\u{1}';
/// Before the name that programs give to a room of theirs.
const PROGRAMS: &str = "\u{1}program:";
/// The version of what programs say.
const VERSION: &str = "F4 ";

/// Whether a room of this name is none of the clients'.
pub(crate) fn is_hidden(name: &str) -> bool {
    name.starts_with(MARK)
}

/// The name of the room that programs call so.
pub(crate) fn of_programs(room: &str) -> String {
    format!("{PROGRAMS}{room}")
}

/// What programs call a room.
pub(crate) fn name_for_programs(name: &str) -> Option<&str> {
    name.strip_prefix(PROGRAMS)
}

/// Appends what is published for this text.
pub(crate) fn write_told(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(VERSION.as_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// The text of what was published. `None` where no program of this version has said it.
pub(crate) fn told(payload: &[u8]) -> Option<&str> {
    std::str::from_utf8(payload).ok()?.strip_prefix(VERSION)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence;

    #[test]
    fn hidden_rooms_are_told_from_each_other() {
        let room = of_programs("orders");
        assert!(is_hidden(&room) && is_hidden(&presence::name_of("a")) && !is_hidden("a"));
        assert_eq!((name_for_programs(&room), presence::room_of(&room)), (Some("orders"), None));
        assert_eq!(name_for_programs(&presence::name_of("orders")), None);
        let mut out = Vec::new();
        write_told(&mut out, "text");
        assert_eq!(told(&out), Some("text"));
        assert!(told(b"F3 text").is_none() && told(b"F4 \xff").is_none());
    }
}
