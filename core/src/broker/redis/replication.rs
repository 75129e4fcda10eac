//! What is stored and acknowledged only when replicas have it: who waits for the answer to `WAIT`, and when it is worth asking.
//!
//! `WAIT` holds up its connection, so such stores have one of their own, and one `WAIT` stands behind all of a turn. Once too few replicas
//! have answered, senders are told so at once: another `WAIT` is written with the next probe, and decides whether it goes on.

use std::collections::VecDeque;

/// A `WAIT` that had too few.
#[derive(Clone, Copy, Debug)]
struct Miss {
    wanted: u16,
    /// How many replicas have answered.
    reached: u16,
}

/// The stores of one connection that wait for replicas.
#[derive(Debug)]
pub struct Replication<T> {
    /// The most replicas that a store wants behind which no `WAIT` stands yet; 0: there is none.
    wanted: u16,
    /// Written and not answered.
    waits: usize,
    /// What is stored, and how many replicas must have it.
    stored: VecDeque<(T, u16)>,
    miss: Option<Miss>,
    /// The next `WAIT` is written although the last one has failed.
    is_probing: bool,
}

impl<T> Default for Replication<T> {
    fn default() -> Replication<T> {
        Replication { wanted: 0, waits: 0, stored: VecDeque::new(), miss: None, is_probing: false }
    }
}

impl<T> Replication<T> {
    /// A store is written that is to be acknowledged when so many replicas have it.
    pub fn wrote(&mut self, replicas_min: u16) {
        self.wanted = self.wanted.max(match self.miss {
            Some(Miss { reached, .. }) if replicas_min > reached => 0,
            _ => replicas_min,
        });
    }

    /// Some time has passed since the last probe. Says whether another `WAIT` is worth it although the last one has failed.
    pub fn probe(&mut self) -> bool {
        self.is_probing = self.miss.is_some();
        self.is_probing
    }

    /// For how many replicas a `WAIT` has to be written now, if for any. It has to be.
    pub fn next_wait(&mut self) -> Option<u16> {
        if std::mem::take(&mut self.is_probing)
            && let Some(Miss { wanted, .. }) = self.miss
        {
            self.wanted = self.wanted.max(wanted);
        }
        let wanted = std::mem::take(&mut self.wanted);
        self.waits += usize::from(wanted > 0);
        (wanted > 0).then_some(wanted)
    }

    /// A message is stored: keeps it until the `WAIT` behind it is answered. It comes back where there is none, because replicas are known to
    /// be too few.
    pub fn keep(&mut self, stored: T, replicas_min: u16) -> Option<T> {
        // A WAIT without an answer stands behind every store that is answered before it.
        if self.waits == 0 {
            return Some(stored);
        }
        self.stored.push_back((stored, replicas_min));
        None
    }

    /// So many replicas have what was written before a `WAIT` for `wanted` of them; none where it was refused. Hands out what waited for
    /// that, oldest first, and whether enough replicas have each.
    pub fn waited(&mut self, wanted: u16, replicas: u16) -> impl Iterator<Item = (T, bool)> + use<T> {
        self.waits -= 1;
        match self.miss {
            miss if replicas < wanted => {
                let wanted = miss.map_or(wanted, |miss| miss.wanted.max(wanted));
                self.miss = Some(Miss { wanted, reached: replicas });
            }
            Some(miss) if replicas >= miss.wanted => self.miss = None,
            _ => {}
        }
        let stored = std::mem::take(&mut self.stored).into_iter();
        stored.map(move |(stored, replicas_min)| (stored, replicas >= replicas_min))
    }

    /// The connection is lost, and with it the answers. Hands out what waited for them.
    pub fn lose(&mut self) -> impl Iterator<Item = T> + use<T> {
        std::mem::take(self).stored.into_iter().map(|(stored, _)| stored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(replication: &mut Replication<char>, wanted: u16, replicas: u16) -> Vec<(char, bool)> {
        replication.waited(wanted, replicas).collect()
    }

    #[test]
    fn one_wait_stands_behind_all_stores_of_a_turn_and_is_for_the_most_replicas() {
        let mut replication = Replication::default();
        assert_eq!(replication.next_wait(), None);
        [1, 2, 1].into_iter().for_each(|wanted| replication.wrote(wanted));
        assert_eq!((replication.next_wait(), replication.next_wait()), (Some(2), None));
        assert_eq!((replication.keep('a', 1), replication.keep('b', 2)), (None, None));
        assert_eq!(answered(&mut replication, 2, 2), [('a', true), ('b', true)]);
    }

    #[test]
    fn after_a_miss_nobody_waits_until_a_probe_succeeds() {
        let mut replication = Replication::default();
        replication.wrote(2);
        replication.next_wait();
        assert_eq!((replication.keep('a', 1), replication.keep('b', 2)), (None, None));
        assert_eq!(answered(&mut replication, 2, 1), [('a', true), ('b', false)]);
        replication.wrote(2);
        assert_eq!((replication.next_wait(), replication.keep('c', 2)), (None, Some('c')));
        // What one replica is enough for goes on.
        replication.wrote(1);
        assert_eq!((replication.next_wait(), replication.keep('d', 1)), (Some(1), None));
        assert_eq!(answered(&mut replication, 1, 1), [('d', true)]);
        replication.wrote(2);
        assert_eq!(replication.next_wait(), None, "one replica is no word of two");
        replication.probe();
        assert_eq!(replication.next_wait(), Some(2));
        assert_eq!(answered(&mut replication, 2, 2), []);
        replication.wrote(2);
        assert_eq!(replication.next_wait(), Some(2));
    }

    #[test]
    fn what_waits_comes_back_when_the_connection_is_lost() {
        let mut replication = Replication::default();
        replication.wrote(1);
        replication.next_wait();
        assert_eq!(replication.keep('a', 1), None);
        assert_eq!(replication.lose().collect::<Vec<_>>(), ['a']);
        assert_eq!((replication.next_wait(), replication.keep('b', 1)), (None, Some('b')));
    }
}
