//! Which partitions have to be looked at, and who has users there without a lease.
//!
//! Who has one is known in partition 0 only, and who has users in each partition. Either may lose some of it, as Redis does in a failover: then
//! an incarnation that is dead may have users that nobody clears up after. So after such a loss partitions are looked at, and whoever has no
//! lease is named to Redis. At rest nothing is looked at.

use super::commands::Incarnation;
use crate::time::Time;
use std::collections::BTreeSet;
use std::time::Duration;

/// Incarnations that one renewal names. More have to wait for another look.
const SUSPECTS_MAX: usize = 64;
/// Those that were named are remembered, so that they do not hurry the next renewal.
const NAMED_MAX: usize = 1_024;

#[derive(Debug)]
pub(super) struct Looks {
    partitions: u16,
    /// To be looked at now, with the next renewal, and with the one at this time.
    due: BTreeSet<u16>,
    next: BTreeSet<u16>,
    later: BTreeSet<u16>,
    later_at: Time,
    /// Leases may have been lost: for one more, all partitions are looked at with each renewal, because an incarnation that does not know yet
    /// that it has none may go on for so long.
    all_until: Option<Time>,
    suspects: BTreeSet<Incarnation>,
    named: BTreeSet<Incarnation>,
}

impl Looks {
    pub(super) fn new(partitions: u16) -> Looks {
        Looks {
            partitions,
            due: BTreeSet::new(),
            next: BTreeSet::new(),
            later: BTreeSet::new(),
            later_at: Time::ZERO,
            all_until: None,
            suspects: BTreeSet::new(),
            named: BTreeSet::new(),
        }
    }

    /// This partition is to be looked at.
    pub(super) fn look(&mut self, partition: u16) {
        self.due.insert(partition);
    }

    /// All are, because leases may have been lost.
    pub(super) fn look_at_all(&mut self, now: Time, lease: Duration) {
        self.due.extend(0..self.partitions);
        self.all_until = Some(now + lease);
    }

    /// This one could not be looked at, or that came to nothing.
    pub(super) fn has_failed(&mut self, partition: u16) {
        self.next.insert(partition);
    }

    /// The next partition to be looked at.
    pub(super) fn pop(&mut self) -> Option<u16> {
        self.due.pop_first()
    }

    /// These have users in a partition, and no lease that is known. It is looked at again until there is none, because a lease is a long time
    /// in which whoever clears up may be lost as well. Says whether any is not known yet.
    pub(super) fn found(
        &mut self,
        partition: u16,
        strangers: impl Iterator<Item = Incarnation>,
        now: Time,
        lease: Duration,
    ) -> bool {
        let mut is_news = false;
        for incarnation in strangers.take(SUSPECTS_MAX) {
            if self.later.is_empty() {
                self.later_at = now + lease;
            }
            self.later.insert(partition);
            if self.suspects.len() < SUSPECTS_MAX {
                self.suspects.insert(incarnation);
                is_news |= self.named.insert(incarnation);
            }
        }
        is_news
    }

    /// The lease is renewed now: says whom to name.
    pub(super) fn renewing(&mut self, now: Time) -> Vec<Incarnation> {
        self.due.append(&mut self.next);
        if self.later_at <= now {
            self.due.append(&mut self.later);
        }
        if let Some(until) = self.all_until {
            self.due.extend(0..self.partitions);
            self.all_until = Some(until).filter(|until| *until > now);
        }
        if self.named.len() > NAMED_MAX {
            self.named.clear();
        }
        std::mem::take(&mut self.suspects).into_iter().collect()
    }

    /// It was not renewed, and nobody was named.
    pub(super) fn not_renewed(&mut self, suspects: Vec<Incarnation>) {
        self.suspects.extend(suspects);
    }

    /// Whether there is anybody to be named.
    pub(super) fn has_suspects(&self) -> bool {
        !self.suspects.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Time {
        Time::from_millis(seconds * 1_000)
    }

    fn due(looks: &mut Looks) -> Vec<u16> {
        std::iter::from_fn(|| looks.pop()).collect()
    }

    #[test]
    fn all_are_looked_at_for_a_lease_after_leases_may_be_lost_and_then_none() {
        let mut looks = Looks::new(3);
        looks.look_at_all(at(100), LEASE);
        assert_eq!(due(&mut looks), [0, 1, 2]);
        for seconds in [104, 108, 112] {
            assert_eq!(looks.renewing(at(seconds)), []);
            assert_eq!(due(&mut looks), [0, 1, 2], "{seconds}");
        }
        looks.renewing(at(116));
        assert!(due(&mut looks).is_empty());
    }

    #[test]
    fn where_strangers_are_is_looked_at_until_there_are_none_and_they_are_news_once() {
        let mut looks = Looks::new(3);
        let stranger = Incarnation(7);
        let found = |looks: &mut Looks, seconds| looks.found(1, [stranger].into_iter(), at(seconds), LEASE);
        assert!(found(&mut looks, 100));
        assert!(looks.has_suspects());
        assert_eq!(looks.renewing(at(101)), [stranger]);
        assert!(!looks.has_suspects() && due(&mut looks).is_empty());
        assert_eq!(looks.renewing(at(110)), []);
        assert_eq!(due(&mut looks), [1]);
        assert!(!found(&mut looks, 110), "it was named before");
        let suspects = looks.renewing(at(114));
        assert_eq!(suspects, [stranger]);
        looks.not_renewed(suspects);
        assert_eq!(looks.renewing(at(120)), [stranger]);
        assert_eq!(due(&mut looks), [1]);
        looks.has_failed(1);
        assert!(due(&mut looks).is_empty());
        looks.renewing(at(124));
        assert_eq!(due(&mut looks), [1]);
        assert!(!looks.found(1, std::iter::empty(), at(124), LEASE));
        looks.renewing(at(140));
        assert!(due(&mut looks).is_empty());
    }
}
