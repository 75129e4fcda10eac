//! The ready list: connections that may have bytes, and in which order a turn reads them. It knows no socket and no clock.

use fanfare_core::ConnId;
use std::collections::VecDeque;

/// Connections that are ready to be read. Those whose last read was small come first; those who send much share what time is
/// left, and have one read in every turn whatever time is left. Within either, it is first come, first served.
#[derive(Debug, Default)]
pub struct Ready {
    light: VecDeque<ConnId>,
    heavy: VecDeque<ConnId>,
}

/// One turn's way through the list: nobody is read twice, and whoever is put on the list meanwhile waits for the next turn.
#[derive(Debug)]
pub struct Round {
    light: usize,
    heavy: usize,
    /// A heavy one has been read.
    heavy_read: bool,
}

impl Ready {
    /// Puts a connection at the end. It must not be on the list.
    pub fn push(&mut self, conn: ConnId, heavy: bool) {
        if heavy { &mut self.heavy } else { &mut self.light }.push_back(conn);
    }

    /// How many are on the list, some of which may have gone.
    pub fn waiting(&self) -> usize {
        self.light.len() + self.heavy.len()
    }

    /// Begins a turn.
    pub fn round(&self) -> Round {
        Round { light: self.light.len(), heavy: self.heavy.len(), heavy_read: false }
    }

    /// Takes the next connection of this turn off the list. Once the time is up, that is one heavy connection at most, and only
    /// if none has been read yet: however many light ones there are, they cannot keep the heavy ones waiting for ever.
    pub fn next(&mut self, round: &mut Round, time_is_up: bool) -> Option<ConnId> {
        if round.light > 0 && !time_is_up {
            round.light -= 1;
            return self.light.pop_front();
        }
        if round.heavy > 0 && !(time_is_up && round.heavy_read) {
            round.heavy -= 1;
            round.heavy_read = true;
            return self.heavy.pop_front();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conn(slot: u32) -> ConnId {
        ConnId::new(slot, 1)
    }

    fn ready(light: impl IntoIterator<Item = u32>, heavy: impl IntoIterator<Item = u32>) -> Ready {
        let mut ready = Ready::default();
        light.into_iter().for_each(|slot| ready.push(conn(slot), false));
        heavy.into_iter().for_each(|slot| ready.push(conn(slot), true));
        ready
    }

    /// A turn with time for so many reads; everybody has more to be read afterwards, and is as heavy as before.
    fn turn(ready: &mut Ready, reads: usize, is_heavy: impl Fn(usize) -> bool) -> Vec<usize> {
        let (mut round, mut read) = (ready.round(), Vec::new());
        while let Some(conn) = ready.next(&mut round, read.len() >= reads) {
            read.push(conn.slot());
            ready.push(conn, is_heavy(conn.slot()));
        }
        read
    }

    #[test]
    fn in_a_turn_everybody_is_read_once_those_who_send_little_first() {
        let mut ready = ready([1, 2], [11, 12]);
        assert_eq!(turn(&mut ready, 100, |slot| slot > 10), [1, 2, 11, 12]);
        assert_eq!(turn(&mut ready, 100, |slot| slot > 10), [1, 2, 11, 12]);
        assert_eq!(ready.waiting(), 4);
    }

    #[test]
    fn those_for_whom_there_was_no_time_come_first_in_the_next_turn() {
        let mut ready = ready([1, 2, 3, 4, 5], []);
        let turns = [(); 4].map(|()| turn(&mut ready, 2, |_| false));
        assert_eq!(turns, [[1, 2], [3, 4], [5, 1], [2, 3]]);
    }

    #[test]
    fn of_those_who_send_much_one_is_read_in_every_turn_and_each_in_its_turn() {
        let mut ready = ready(0..10, 11..14);
        let turns = [(); 4].map(|()| turn(&mut ready, 3, |slot| slot > 10));
        assert_eq!(turns, [[0, 1, 2, 11], [3, 4, 5, 12], [6, 7, 8, 13], [9, 0, 1, 11]]);
    }

    #[test]
    fn nobody_waits_longer_than_it_takes_to_read_those_before_once() {
        const LIGHT: usize = 40;
        const HEAVY: usize = 9;
        for reads in 0..60 {
            let mut ready = ready(0..LIGHT as u32, LIGHT as u32..(LIGHT + HEAVY) as u32);
            let mut read_at = vec![0; LIGHT + HEAVY];
            // Without time for a single read only the heavy ones are served: the loop looks at the clock after a read.
            for number in 1..500 {
                for slot in turn(&mut ready, reads.max(1), |slot| slot >= LIGHT) {
                    let turns = if slot < LIGHT { LIGHT.div_ceil(reads.max(1)) } else { HEAVY };
                    assert!(number - read_at[slot] <= turns, "{slot} waited from {} to {number}", read_at[slot]);
                    read_at[slot] = number;
                }
            }
            assert!(read_at.iter().all(|turn| 500 - turn <= LIGHT), "somebody starves: {read_at:?}");
        }
    }
}
