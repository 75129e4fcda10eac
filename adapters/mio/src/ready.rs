//! The ready list: connections that may have bytes, and in which order a turn reads them. It knows no socket and no clock.

use fanfare_adapter::cost::CLASSES;
use fanfare_core::ConnId;
use std::collections::VecDeque;

/// The class from which a turn reads first among those that make much work, turn by turn. All connections of a class have their turns;
/// the dearer the class, the more seldom.
const ROTA: [usize; 7] = [1, 2, 1, 3, 1, 2, 1];
const _: () = assert!(CLASSES == 4, "each class has its turns");

/// Connections that are ready to be read, by what they cost. Those that make little work come first. Of the others one is read in
/// every turn, whatever time is left, and more while there is time. Within a class, it is first come, first served.
#[derive(Debug, Default)]
pub struct Ready {
    classes: [VecDeque<ConnId>; CLASSES],
    /// Where the rota stands.
    turn: usize,
}

/// One turn's way through the list. No connection is read twice, and one that is put on the list meanwhile waits for the next turn.
#[derive(Debug)]
pub struct Round {
    left: [usize; CLASSES],
    /// The class whose turn it is among those who make much work; none once one of them has been read.
    rota: Option<usize>,
    /// How many of those who make much work may still be read.
    heavy_max: usize,
}

impl Round {
    /// The connection that was taken last makes much work, and has not been read after all: another one may be.
    pub fn passed_over(&mut self) {
        self.heavy_max = self.heavy_max.saturating_add(1);
    }

    /// How many of those who make much work may still be read.
    pub fn heavy_left(&self) -> usize {
        self.heavy_max
    }
}

impl Ready {
    /// Puts a connection at the end of its class, below [`CLASSES`]. It must not be on the list.
    pub fn push(&mut self, conn: ConnId, class: usize) {
        self.classes[class].push_back(conn);
    }

    /// How many are on the list, some of which may have gone.
    pub fn waiting(&self) -> usize {
        self.classes.iter().map(VecDeque::len).sum()
    }

    /// How many of them make little work.
    pub fn waiting_light(&self) -> usize {
        self.classes[0].len()
    }

    /// Begins a turn that has time for at most `heavy_max` connections that make much work.
    pub fn round(&mut self, heavy_max: usize) -> Round {
        let left = self.classes.each_ref().map(VecDeque::len);
        let is_there = |class: &usize| left[*class] > 0;
        let rota = Some(ROTA[self.turn % ROTA.len()]).filter(is_there).or_else(|| (1..CLASSES).find(is_there));
        if rota.is_some() {
            self.turn += 1;
        }
        Round { left, rota, heavy_max }
    }

    /// Takes the next connection of this turn off the list. Once the time is up, that is at most one that makes much work, and only
    /// if none has been read yet. So the others cannot keep these waiting for ever, however many they are.
    pub fn next(&mut self, round: &mut Round, time_is_up: bool) -> Option<ConnId> {
        let class = match time_is_up {
            false if round.left[0] > 0 => 0,
            _ if round.heavy_max == 0 => return None,
            false => round.rota.take().or_else(|| (1..CLASSES).find(|class| round.left[*class] > 0))?,
            true => round.rota.take()?,
        };
        round.left[class] -= 1;
        if class > 0 {
            round.heavy_max -= 1;
        }
        self.classes[class].pop_front()
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
        light.into_iter().for_each(|slot| ready.push(conn(slot), 0));
        heavy.into_iter().for_each(|slot| ready.push(conn(slot), 1));
        ready
    }

    /// A turn with time for so many reads; everybody has more to be read afterwards, and is as heavy as before.
    fn turn(ready: &mut Ready, reads: usize, is_heavy: impl Fn(usize) -> bool) -> Vec<usize> {
        turn_of_classes(ready, reads, |slot| usize::from(is_heavy(slot)))
    }

    fn turn_of_classes(ready: &mut Ready, reads: usize, class: impl Fn(usize) -> usize) -> Vec<usize> {
        let (mut round, mut read) = (ready.round(usize::MAX), Vec::new());
        while let Some(conn) = ready.next(&mut round, read.len() >= reads) {
            read.push(conn.slot());
            ready.push(conn, class(conn.slot()));
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
    fn who_costs_more_is_read_more_seldom_and_still_is() {
        let mut ready = Ready::default();
        (1..4).for_each(|class| ready.push(conn(class), class as usize));
        let turns = [(); 7].map(|()| turn_of_classes(&mut ready, 0, |slot| slot)[0]);
        assert_eq!(turns, [1, 2, 1, 3, 1, 2, 1]);
        assert_eq!(turn_of_classes(&mut ready, 2, |slot| slot), [1, 2]);
        assert_eq!(turn_of_classes(&mut ready, 2, |slot| slot), [2, 1]);
    }

    #[test]
    fn a_class_without_anybody_leaves_its_turn_to_another() {
        let mut ready = Ready::default();
        ready.push(conn(3), 3);
        for _ in 0..7 {
            assert_eq!(turn_of_classes(&mut ready, 0, |slot| slot), [3]);
        }
    }

    #[test]
    fn a_turn_under_pressure_reads_those_who_make_little_work() {
        let mut ready = ready([1, 2], [11]);
        let mut round = ready.round(0);
        let read: Vec<usize> = std::iter::from_fn(|| ready.next(&mut round, false)).map(ConnId::slot).collect();
        assert_eq!(read, [1, 2]);
        assert_eq!(ready.waiting(), 1);
    }

    #[test]
    fn of_those_who_make_much_work_one_is_read_under_pressure_and_not_one_that_has_to_wait_anyway() {
        let mut ready = ready([1], 11..15);
        let mut round = ready.round(1);
        let mut read = Vec::new();
        while let Some(conn) = ready.next(&mut round, false) {
            // What was read of these two before has not been looked at yet.
            if matches!(conn.slot(), 11 | 12) {
                round.passed_over();
                ready.push(conn, 1);
            } else {
                read.push(conn.slot());
            }
        }
        assert_eq!((read, round.heavy_left(), ready.waiting()), (vec![1, 13], 0, 3));
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
