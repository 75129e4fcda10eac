//! What is stored and acknowledged only when replicas have it: who waits for the answer to `WAIT`, and when it is worth asking.
//!
//! `WAIT` holds up its connection, so such stores have one of their own, and only one `WAIT` is unanswered at a time: the next one stands
//! behind all that has been stored meanwhile. Once too few replicas have answered, senders are told so at once. With each probe another
//! `WAIT` is written, with a short timeout, and decides whether it goes on.

use std::collections::VecDeque;
use std::time::Duration;

/// A probing `WAIT` holds up its connection only for this part of the time that others may take.
const PROBE_PART: u32 = 10;

/// A `WAIT` that had too few.
#[derive(Clone, Copy, Debug)]
struct Miss {
    wanted: u16,
    /// How many replicas have answered.
    reached: u16,
}

/// What a `WAIT` asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wait {
    /// For how many replicas.
    pub(super) replicas: u16,
    /// For how long; at least a millisecond, because Redis takes 0 for no end at all.
    pub(super) timeout: Duration,
}

/// The stores of one connection that wait for replicas.
#[derive(Debug)]
pub(super) struct Replication<T> {
    /// How many replicas the stores want that were written behind the last `WAIT`, each number once.
    wanted: Vec<u16>,
    /// One was written and is not answered.
    is_waiting: bool,
    /// What is stored, and how many replicas must have it.
    stored: VecDeque<(T, u16)>,
    miss: Option<Miss>,
    /// The next `WAIT` is written although the last one has failed.
    is_probing: bool,
}

impl<T> Default for Replication<T> {
    fn default() -> Replication<T> {
        Replication { wanted: Vec::new(), is_waiting: false, stored: VecDeque::new(), miss: None, is_probing: false }
    }
}

impl<T> Replication<T> {
    /// A store is written that is to be acknowledged when so many replicas have it.
    pub(super) fn wrote(&mut self, replicas_min: u16) {
        if replicas_min > 0 && !self.is_missed(replicas_min) && !self.wanted.contains(&replicas_min) {
            self.wanted.push(replicas_min);
        }
    }

    /// Whether so many replicas are known not to be there.
    fn is_missed(&self, replicas: u16) -> bool {
        self.miss.is_some_and(|miss| replicas > miss.reached)
    }

    /// Some time has passed since the last probe. Says whether another `WAIT` is worth it although the last one has failed.
    pub(super) fn probe(&mut self) -> bool {
        self.is_probing = self.miss.is_some() && !self.is_waiting;
        self.is_probing
    }

    /// What `WAIT` has to be written now, if one has. `timeout` is for one that is expected to succeed.
    pub(super) fn next_wait(&mut self, timeout: Duration) -> Option<Wait> {
        if self.is_waiting {
            return None;
        }
        let probed = self.miss.filter(|_| std::mem::take(&mut self.is_probing)).map(|miss| miss.wanted);
        let replicas = self.wanted.drain(..).chain(probed).max()?;
        self.is_waiting = true;
        let timeout = if probed.is_some() { timeout / PROBE_PART } else { timeout };
        Some(Wait { replicas, timeout: timeout.max(Duration::from_millis(1)) })
    }

    /// A message is stored: keeps it until the `WAIT` behind it is answered, which may have yet to be written. It comes back where there will
    /// be none, because replicas are known to be too few.
    pub(super) fn keep(&mut self, stored: T, replicas_min: u16) -> Option<T> {
        // A WAIT without an answer stands behind every store that is answered before it, and so will the next one.
        if !self.is_waiting && (self.wanted.is_empty() || self.is_missed(replicas_min)) {
            return Some(stored);
        }
        self.stored.push_back((stored, replicas_min));
        None
    }

    /// So many replicas have what was written before this `WAIT`; none where it was refused. Hands out what waited for that, oldest first, and
    /// whether enough replicas have each.
    pub(super) fn waited(&mut self, wait: Wait, replicas: u16) -> impl Iterator<Item = (T, bool)> + use<T> {
        self.is_waiting = false;
        match self.miss {
            miss if replicas < wait.replicas => {
                let wanted = miss.map_or(wait.replicas, |miss| miss.wanted.max(wait.replicas));
                self.miss = Some(Miss { wanted, reached: replicas });
                self.wanted.retain(|wanted| *wanted <= replicas);
            }
            Some(miss) if replicas >= miss.wanted => self.miss = None,
            _ => {}
        }
        let stored = std::mem::take(&mut self.stored).into_iter();
        stored.map(move |(stored, replicas_min)| (stored, replicas >= replicas_min))
    }

    /// The connection is lost, and with it the answers. Hands out what waited for them.
    pub(super) fn lose(&mut self) -> impl Iterator<Item = T> + use<T> {
        std::mem::take(self).stored.into_iter().map(|(stored, _)| stored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(1);

    fn wait(replicas: u16) -> Wait {
        Wait { replicas, timeout: TIMEOUT }
    }

    fn next(replication: &mut Replication<char>) -> Option<Wait> {
        replication.next_wait(TIMEOUT)
    }

    fn answered(replication: &mut Replication<char>, wait: Wait, replicas: u16) -> Vec<(char, bool)> {
        replication.waited(wait, replicas).collect()
    }

    #[test]
    fn one_wait_stands_behind_all_stores_of_a_turn_and_is_for_the_most_replicas() {
        let mut replication = Replication::default();
        assert_eq!(next(&mut replication), None);
        [1, 2, 1].into_iter().for_each(|wanted| replication.wrote(wanted));
        assert_eq!((next(&mut replication), next(&mut replication)), (Some(wait(2)), None));
        assert_eq!((replication.keep('a', 1), replication.keep('b', 2)), (None, None));
        assert_eq!(answered(&mut replication, wait(2), 2), [('a', true), ('b', true)]);
    }

    #[test]
    fn the_next_wait_is_written_when_the_last_one_is_answered_and_is_for_all_meanwhile() {
        let mut replication = Replication::default();
        replication.wrote(1);
        assert_eq!(next(&mut replication), Some(wait(1)));
        for _ in 0..3 {
            replication.wrote(1);
            assert_eq!(next(&mut replication), None);
        }
        assert_eq!(replication.keep('a', 1), None);
        assert_eq!(answered(&mut replication, wait(1), 1), [('a', true)]);
        // Answered in one read with that, so before the next one is written.
        assert_eq!(replication.keep('b', 1), None);
        assert_eq!(next(&mut replication), Some(wait(1)));
        assert_eq!(replication.keep('c', 1), None);
        assert_eq!(answered(&mut replication, wait(1), 1), [('b', true), ('c', true)]);
    }

    #[test]
    fn after_a_miss_nobody_waits_until_a_probe_succeeds() {
        let mut replication = Replication::default();
        replication.wrote(2);
        next(&mut replication);
        assert_eq!((replication.keep('a', 1), replication.keep('b', 2)), (None, None));
        // Written while it was not known yet.
        [1, 2].into_iter().for_each(|wanted| replication.wrote(wanted));
        assert_eq!(answered(&mut replication, wait(2), 1), [('a', true), ('b', false)]);
        assert_eq!((replication.keep('c', 2), replication.keep('d', 1)), (Some('c'), None));
        // What one replica is enough for goes on.
        assert_eq!(next(&mut replication), Some(wait(1)));
        assert_eq!(answered(&mut replication, wait(1), 1), [('d', true)]);
        replication.wrote(2);
        assert_eq!((next(&mut replication), replication.keep('e', 2)), (None, Some('e')), "one is no word of two");
        assert!(replication.probe());
        let probing = Wait { replicas: 2, timeout: TIMEOUT / PROBE_PART };
        assert_eq!(next(&mut replication), Some(probing));
        assert!(!replication.probe(), "one is on its way");
        assert_eq!(answered(&mut replication, probing, 2), []);
        replication.wrote(2);
        assert_eq!(next(&mut replication), Some(wait(2)));
        assert!(!replication.probe());
    }

    #[test]
    fn what_waits_comes_back_when_the_connection_is_lost() {
        let mut replication = Replication::default();
        replication.wrote(1);
        next(&mut replication);
        assert_eq!(replication.keep('a', 1), None);
        assert_eq!(replication.lose().collect::<Vec<_>>(), ['a']);
        assert_eq!((next(&mut replication), replication.keep('b', 1)), (None, Some('b')));
    }
}
