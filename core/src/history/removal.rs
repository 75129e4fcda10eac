//! Taking back what a room keeps.
//!
//! A removal is an entry of the log with an offset of its own, and what it removes is gone from the log in the same step. So whoever comes
//! back to a place before it is told of it as of any other entry, it is trimmed and lost with the others, and no number is missing: where an
//! entry is gone its offset counts on, and is as old as the next one that is there. The removal is younger than what it removes, so it is
//! there for as long as anybody could be told of that, and who comes back later is told that messages are trimmed.

use super::Epoch;

/// What a removal's payload begins with. That of a message begins with 16 hexadecimal digits.
const WORD: &[u8] = b"REMOVED ";
const ALL: &[u8] = b"ALL";

/// What is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// The message with this offset.
    One(u64),
    /// All that stands before the removal.
    All,
}

impl Removal {
    /// What is stored of it: `REMOVED <offset>` or `REMOVED ALL`.
    pub fn payload(self) -> String {
        match self {
            Removal::One(offset) => format!("REMOVED {offset}"),
            Removal::All => "REMOVED ALL".to_owned(),
        }
    }

    /// The removal with this payload. Nothing where it is that of a message.
    pub fn of_payload(payload: &[u8]) -> Option<Removal> {
        let what = payload.strip_prefix(WORD)?;
        if what == ALL {
            return Some(Removal::All);
        }
        let is_number = what.iter().all(u8::is_ascii_digit) && !what.starts_with(b"0");
        let offset = std::str::from_utf8(what).ok()?.parse().ok()?;
        is_number.then_some(Removal::One(offset))
    }

    /// Whether the removal that stands at `at` removes what stands at this offset.
    pub fn covers(self, at: u64, offset: u64) -> bool {
        match self {
            Removal::One(one) => one == offset && offset < at,
            Removal::All => offset < at,
        }
    }
}

/// A removal that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remove {
    /// What.
    pub what: Removal,
    /// The epoch that the offset is of, where that is said. In another one nothing is removed.
    pub epoch: Option<Epoch>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removal_is_read_as_it_is_written_and_nothing_else_is_one() {
        for removal in [Removal::One(1), Removal::One(u64::MAX), Removal::All] {
            assert_eq!(Removal::of_payload(removal.payload().as_bytes()), Some(removal));
        }
        for text in ["", "REMOVED", "REMOVED ", "REMOVED 0", "REMOVED 01", "REMOVED +1", "REMOVED -1", "REMOVED all"] {
            assert_eq!(Removal::of_payload(text.as_bytes()), None, "{text}");
        }
        for text in ["REMOVED 18446744073709551616", "REMOVED 1 ", " REMOVED 1", "{\"type\":\"MESSAGE\"}"] {
            assert_eq!(Removal::of_payload(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_removal_covers_what_stands_before_it() {
        assert!(Removal::One(3).covers(5, 3) && !Removal::One(3).covers(5, 4) && !Removal::One(3).covers(3, 3));
        assert!(Removal::All.covers(5, 1) && Removal::All.covers(5, 4) && !Removal::All.covers(5, 5));
    }
}
