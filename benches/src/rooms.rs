//! Which rooms idle clients are in: what a subscriber costs depends on whether it shares its rooms.

use std::fmt;

use clap::ValueEnum;

/// The room of every measurement that needs only one.
pub const ROOM: &str = "bench";

/// How many rooms a client of [`Rooms::Ten`] is in.
const TEN: usize = 10;

/// Which rooms the clients join.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Rooms {
    /// All of them the same.
    One,
    /// Each its own.
    Each,
    /// Each ten of its own.
    Ten,
}

impl Rooms {
    /// The three of them.
    pub const ALL: [Rooms; 3] = [Rooms::One, Rooms::Each, Rooms::Ten];

    /// How many a client is in.
    pub fn of_each(self) -> usize {
        match self {
            Rooms::One | Rooms::Each => 1,
            Rooms::Ten => TEN,
        }
    }

    /// The names of those that client `index` is in. They need no escaping in JSON.
    pub fn names_of(self, index: usize) -> Vec<String> {
        match self {
            Rooms::One => vec![ROOM.to_owned()],
            Rooms::Each => vec![format!("{ROOM}-{index:06}")],
            Rooms::Ten => (0..TEN).map(|nth| format!("{ROOM}-{index:06}-{nth}")).collect(),
        }
    }
}

impl fmt::Display for Rooms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Rooms::One => "one room",
            Rooms::Each => "a room each",
            Rooms::Ten => "ten rooms each",
        })
    }
}
