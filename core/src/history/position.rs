//! Places in a room's history.

use std::fmt;
use std::str::FromStr;

/// Bytes of the longest text of an epoch: ten digits, a hyphen, sixteen digits.
const EPOCH_BYTES_MAX: usize = 27;

/// One uninterrupted life of a room's history. A new one begins when the broker may have lost messages that have an offset: its
/// data are gone, or a replica was promoted. Written `<ordinal>-<16 hexadecimal digits>`.
///
/// Epochs of a room are ordered by the ordinal; the random part tells two of them apart that began at the same one, because neither knew of
/// the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch {
    /// From 1 on.
    pub ordinal: u32,
    /// Drawn when it began.
    pub random: u64,
}

impl Epoch {
    /// The epoch with this text. A text that is not an epoch gives one that no room has.
    pub(crate) fn of_text(text: &str) -> Epoch {
        text.parse().unwrap_or(Epoch { ordinal: 0, random: 0 })
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}-{:016x}", self.ordinal, self.random)
    }
}

/// A place in a room's history: of a message, or between two of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The epoch in which the message was stored.
    pub epoch: Epoch,
    /// Messages count from 1 on, without a hole, and go on counting when the epoch changes. 0 is the place before the first.
    pub offset: u64,
}

impl Position {
    /// Bytes of the longest text of a position.
    pub(crate) const TEXT_BYTES_MAX: usize = EPOCH_BYTES_MAX + ":18446744073709551615".len();

    /// The position with this text. An epoch that is none gives a position that no room has had.
    pub(crate) fn of_text(text: &str) -> Option<Position> {
        let (epoch, offset) = text.rsplit_once(':')?;
        Some(Position { epoch: Epoch::of_text(epoch), offset: offset.parse().ok()? })
    }
}

impl fmt::Display for Position {
    /// `<epoch>:<offset>`, as in `?since=`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.epoch, self.offset)
    }
}

/// A text is no epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParsePositionError;

impl fmt::Display for ParsePositionError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "an epoch is a number, a hyphen and 16 hexadecimal digits")
    }
}

impl std::error::Error for ParsePositionError {}

impl FromStr for Epoch {
    type Err = ParsePositionError;

    fn from_str(text: &str) -> Result<Epoch, ParsePositionError> {
        if text.len() > EPOCH_BYTES_MAX {
            return Err(ParsePositionError);
        }
        let (ordinal, random) = text.split_once('-').ok_or(ParsePositionError)?;
        let is_number = !ordinal.is_empty() && ordinal.bytes().all(|byte| byte.is_ascii_digit());
        let is_random = random.len() == 16 && random.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !is_number || !is_random {
            return Err(ParsePositionError);
        }
        let ordinal = ordinal.parse().ok().filter(|ordinal| *ordinal > 0).ok_or(ParsePositionError)?;
        Ok(Epoch { ordinal, random: u64::from_str_radix(random, 16).map_err(|_| ParsePositionError)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_read_as_it_is_written_and_nothing_else_is_one() {
        for epoch in [Epoch { ordinal: 1, random: 0 }, Epoch { ordinal: u32::MAX, random: u64::MAX }] {
            assert_eq!(epoch.to_string().parse(), Ok(epoch));
            assert!(epoch.to_string().len() <= EPOCH_BYTES_MAX);
        }
        for text in
            ["", "1", "-", "1-", "-0123456789abcdef", "0-0123456789abcdef", "1-0123456789ABCDEF", "1-0123456789abcde"]
        {
            assert_eq!(text.parse::<Epoch>(), Err(ParsePositionError), "{text}");
        }
        for text in ["+1-0123456789abcdef", "4294967296-0123456789abcdef", "1-0123456789abcdef0", "1-+123456789abcdef"]
        {
            assert_eq!(text.parse::<Epoch>(), Err(ParsePositionError), "{text}");
        }
    }

    #[test]
    fn the_epoch_counts_before_the_offset() {
        let at = |ordinal, offset| Position { epoch: Epoch { ordinal, random: 9 }, offset };
        assert!(at(1, 9) < at(2, 3) && at(2, 3) < at(2, 4));
    }
}
