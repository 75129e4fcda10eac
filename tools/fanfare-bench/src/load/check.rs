//! Whether every member got every message once and in the order of its publisher: one number for each stream that it
//! listens to, and a note of what is missing where something is. The order of a room's publishers is `in_flight`'s.

use std::collections::HashMap;
use std::ops::Range;

/// What was wrong with what has arrived, in messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Did not come.
    pub lost: u64,
    /// Came again.
    pub duplicated: u64,
    /// Came behind a later one of the same publisher.
    pub out_of_order: u64,
    /// Came in another order than to other members of the room.
    pub against_room_order: u64,
}

impl Faults {
    /// Whether there were none.
    pub fn none(&self) -> bool {
        *self == Faults::default()
    }
}

/// The streams of all members. A stream of a member is a *place*, numbered by whoever uses this.
#[derive(Clone, Debug)]
pub struct Checker {
    /// What comes next, in each place.
    next: Vec<u32>,
    /// What was skipped and has not come since, in each place where that is anything.
    missing: HashMap<usize, Vec<Range<u32>>>,
    faults: Faults,
}

impl Checker {
    /// For so many places, in each of which the first message is number 0.
    pub fn new(places: usize) -> Checker {
        Checker { next: vec![0; places], missing: HashMap::new(), faults: Faults::default() }
    }

    /// Takes note that message `sequence` has come to `place`, and says whether it is the first time.
    #[inline]
    pub fn take(&mut self, place: usize, sequence: u32) -> bool {
        let next = &mut self.next[place];
        if *next == sequence {
            *next += 1;
            return true;
        }
        self.take_unexpected(place, sequence)
    }

    #[cold]
    fn take_unexpected(&mut self, place: usize, sequence: u32) -> bool {
        let next = &mut self.next[place];
        if sequence > *next {
            self.faults.lost += u64::from(sequence - *next);
            self.missing.entry(place).or_default().push(*next..sequence);
            *next = sequence.saturating_add(1);
            return true;
        }
        let missing = self.missing.get_mut(&place);
        let found =
            missing.and_then(|ranges| Some((ranges.iter().position(|range| range.contains(&sequence))?, ranges)));
        let Some((index, ranges)) = found else {
            self.faults.duplicated += 1;
            return false;
        };
        let range = ranges.swap_remove(index);
        ranges.extend([range.start..sequence, sequence + 1..range.end].into_iter().filter(|part| !part.is_empty()));
        self.faults.lost -= 1;
        self.faults.out_of_order += 1;
        true
    }

    /// What is wrong if nothing comes any more: `sent` says how many messages went to the stream of a place. Where it says
    /// none, what may still come behind the last that came to a place is not counted.
    pub fn faults(&self, sent: impl Fn(usize) -> u32) -> Faults {
        let tail = |(place, &next): (usize, &u32)| u64::from(sent(place).saturating_sub(next));
        let never_came: u64 = self.next.iter().enumerate().map(tail).sum();
        Faults { lost: self.faults.lost + never_came, ..self.faults }
    }

    /// Whether one of `sent` messages has not come to `place`.
    pub fn has_lost(&self, place: usize, sent: u32) -> bool {
        self.next[place] < sent || self.missing.get(&place).is_some_and(|ranges| !ranges.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The faults of one place that these come to, of `sent` messages.
    fn faults(sequences: &[u32], sent: u32) -> Faults {
        let mut checker = Checker::new(1);
        let fresh = sequences.iter().filter(|&&sequence| checker.take(0, sequence)).count() as u64;
        let faults = checker.faults(|_| sent);
        assert_eq!(fresh + faults.lost, u64::from(sent), "{sequences:?}");
        faults
    }

    #[test]
    fn a_message_that_never_comes_is_lost_also_at_either_end() {
        assert!(faults(&[0, 1, 2], 3).none());
        for sequences in [&[0, 1], &[0, 2], &[1, 2]] {
            assert_eq!(faults(sequences, 3), Faults { lost: 1, ..Faults::default() });
        }
    }

    #[test]
    fn a_message_that_comes_again_is_a_duplicate() {
        assert_eq!(faults(&[0, 1, 1, 2, 0], 3), Faults { duplicated: 2, ..Faults::default() });
        // Late is late once, and the second time a duplicate.
        assert_eq!(faults(&[1, 0, 0, 2], 3), Faults { duplicated: 1, out_of_order: 1, ..Faults::default() });
    }

    #[test]
    fn a_message_behind_a_later_one_is_out_of_order_and_not_lost() {
        assert_eq!(faults(&[0, 2, 1, 3], 4), Faults { out_of_order: 1, ..Faults::default() });
        assert_eq!(faults(&[5, 2, 4, 0], 6), Faults { out_of_order: 3, lost: 2, ..Faults::default() });
    }

    #[test]
    fn places_do_not_disturb_one_another() {
        let mut checker = Checker::new(2);
        assert!(checker.take(0, 0) && checker.take(1, 0) && checker.take(1, 2));
        assert_eq!(checker.faults(|_| 0), Faults { lost: 1, ..Faults::default() });
        assert_eq!(checker.faults(|place| [1, 3][place]), checker.faults(|_| 0));
        assert_eq!([0, 1].map(|place| checker.has_lost(place, 1)), [false, true]);
        assert!(checker.take(1, 1) && !checker.has_lost(1, 3) && checker.has_lost(1, 4));
    }
}
