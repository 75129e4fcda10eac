//! One timer per connection slot in a hashed wheel: setting, moving and cancelling are O(1), and a timer costs 12 bytes.
//!
//! A timer never fires early, and at most one tick late. Deadlines further away than one turn of the wheel stay in their
//! bucket for another round. (Varghese and Lauck, "Hashed and hierarchical timing wheels", 1987, scheme 6.)

use crate::time::Time;

/// 2^15 µs = 33 ms: connection timeouts are seconds, so a coarser clock changes nothing a person sees.
const TICK_SHIFT: u32 = 15;
/// 2,048 ticks are 67 s: every default timeout fits into one round.
const BUCKETS: usize = 2_048;
/// Two years: a timer further away fires then, and its owner sets it again.
const HORIZON_TICKS: u64 = u32::MAX as u64 / 2;
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Node {
    /// `VACANT` where no timer is set.
    prev: u32,
    next: u32,
    /// The low half of the tick that it fires at, which is within [`HORIZON_TICKS`] after `Wheel::passed`.
    tick: u32,
}

const VACANT: u32 = NONE - 1;
const UNSET: Node = Node { prev: VACANT, next: NONE, tick: 0 };

/// Timers by slot number.
#[derive(Debug)]
pub struct Wheel {
    heads: Box<[u32]>,
    /// One bit per bucket that holds a timer, so that an empty stretch is skipped 64 buckets at a time.
    occupied: [u64; BUCKETS / 64],
    nodes: Vec<Node>,
    /// All ticks up to and including this one have fired.
    passed: u64,
    set: usize,
}

impl Default for Wheel {
    fn default() -> Wheel {
        Wheel { heads: vec![NONE; BUCKETS].into(), occupied: [0; BUCKETS / 64], nodes: Vec::new(), passed: 0, set: 0 }
    }
}

impl Wheel {
    /// Sets the slot's timer, in place of the one it had. A deadline that has passed fires with the next tick, 33 ms later at most;
    /// one that is more than two years away fires then.
    pub fn set(&mut self, slot: u32, deadline: Time) {
        self.cancel(slot);
        if self.nodes.len() <= slot as usize {
            self.nodes.resize(slot as usize + 1, UNSET);
        }
        let tick = deadline.as_micros().div_ceil(1 << TICK_SHIFT);
        let tick = tick.clamp(self.passed + 1, self.passed + HORIZON_TICKS) as u32;
        let bucket = tick as usize % BUCKETS;
        let next = self.heads[bucket];
        if next != NONE {
            self.nodes[next as usize].prev = slot;
        }
        self.nodes[slot as usize] = Node { prev: NONE, next, tick };
        self.heads[bucket] = slot;
        self.occupied[bucket / 64] |= 1 << (bucket % 64);
        self.set += 1;
    }

    /// Sets the slot's timer, unless the one it has fires sooner.
    pub fn set_at_latest(&mut self, slot: u32, deadline: Time) {
        let tick = deadline.as_micros().div_ceil(1 << TICK_SHIFT);
        let node = self.nodes.get(slot as usize).filter(|node| node.prev != VACANT);
        let fires_sooner = |node: &Node| self.passed + u64::from(node.tick.wrapping_sub(self.passed as u32)) <= tick;
        if !node.is_some_and(fires_sooner) {
            self.set(slot, deadline);
        }
    }

    /// Clears the slot's timer, if it has one.
    pub fn cancel(&mut self, slot: u32) {
        let Some(&Node { prev, next, tick }) = self.nodes.get(slot as usize) else { return };
        if prev == VACANT {
            return;
        }
        if next != NONE {
            self.nodes[next as usize].prev = prev;
        }
        if prev != NONE {
            self.nodes[prev as usize].next = next;
        } else {
            let bucket = tick as usize % BUCKETS;
            self.heads[bucket] = next;
            if next == NONE {
                self.occupied[bucket / 64] &= !(1 << (bucket % 64));
            }
        }
        self.nodes[slot as usize] = UNSET;
        self.set -= 1;
    }

    /// Clears timers whose deadline has come and appends their slots to `fired`, earlier ticks first, until that holds `fired_max`. The
    /// others fire with the next calls, and [`Wheel::next`] is in the past until they have.
    pub fn expire(&mut self, now: Time, fired: &mut Vec<u32>, fired_max: usize) {
        let until = now.as_micros() >> TICK_SHIFT;
        if until <= self.passed {
            return;
        }
        if self.set > 0 {
            // A jump of more than a round visits each bucket once, which is enough.
            for offset in 1..=(until - self.passed).min(BUCKETS as u64) {
                if !self.expire_bucket((self.passed + offset) as usize % BUCKETS, until, fired, fired_max) {
                    self.passed += offset - 1;
                    return;
                }
            }
        }
        self.passed = until;
    }

    /// Whether all in the bucket have fired whose deadline has come.
    fn expire_bucket(&mut self, bucket: usize, until: u64, fired: &mut Vec<u32>, fired_max: usize) -> bool {
        let mut slot = self.heads[bucket];
        while slot != NONE {
            let Node { next, tick, .. } = self.nodes[slot as usize];
            let ahead = tick.wrapping_sub(self.passed as u32);
            if u64::from(ahead) <= until - self.passed {
                if fired.len() >= fired_max {
                    return false;
                }
                self.cancel(slot);
                fired.push(slot);
            }
            slot = next;
        }
        true
    }

    /// A time not after the next deadline's tick; `None` where no timer is set.
    pub fn next(&self) -> Option<Time> {
        if self.set == 0 {
            return None;
        }
        let start = (self.passed + 1) as usize % BUCKETS;
        for step in 0..=BUCKETS / 64 {
            let word = (start / 64 + step) % (BUCKETS / 64);
            let mut bits = self.occupied[word];
            if step == 0 {
                bits &= u64::MAX << (start % 64);
            }
            if bits != 0 {
                let bucket = word * 64 + bits.trailing_zeros() as usize;
                let ahead = (bucket + BUCKETS - start) % BUCKETS;
                return Some(Time::from_micros((self.passed + 1 + ahead as u64) << TICK_SHIFT));
            }
        }
        unreachable!("{} timers are set and no bucket is occupied", self.set)
    }

    /// How many timers are set.
    pub fn len(&self) -> usize {
        self.set
    }

    /// Whether no timer is set.
    pub fn is_empty(&self) -> bool {
        self.set == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const TICK: u64 = 1 << TICK_SHIFT;

    #[derive(Clone, Debug)]
    enum Step {
        /// Microseconds from now, or before.
        Set(u32, i64),
        SetAtLatest(u32, i64),
        Cancel(u32),
        Advance(u64),
    }

    fn after() -> impl Strategy<Value = i64> {
        prop_oneof![4 => 0..200_000_000i64, 1 => -200_000_000..100_000i64]
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..8u32, after()).prop_map(|(slot, after)| Step::Set(slot, after)),
            (0..8u32, after()).prop_map(|(slot, after)| Step::SetAtLatest(slot, after)),
            (0..8u32).prop_map(Step::Cancel),
            (0..100_000_000u64).prop_map(Step::Advance),
        ]
    }

    /// A clock may have begun long ago: at the Unix epoch, or so that the low half of the tick is about to overflow.
    fn origin() -> impl Strategy<Value = u64> {
        prop_oneof![Just(0), Just(1_760_000_000_000_000), Just((u64::from(u32::MAX) - 1_000) << TICK_SHIFT)]
    }

    proptest! {
        #[test]
        fn fires_like_a_sorted_list(steps in prop::collection::vec(step(), 0..200), origin in origin()) {
            let (mut wheel, mut model, mut now) = (Wheel::default(), BTreeMap::new(), origin);
            wheel.expire(Time::from_micros(now), &mut Vec::new(), 0);
            for step in steps {
                match step {
                    Step::Set(slot, after) => {
                        let deadline = now.saturating_add_signed(after);
                        wheel.set(slot, Time::from_micros(deadline));
                        // Never early, and at the latest with the tick that follows.
                        model.insert(slot, deadline.div_ceil(TICK).max(now / TICK + 1));
                    }
                    Step::SetAtLatest(slot, after) => {
                        let deadline = now.saturating_add_signed(after);
                        wheel.set_at_latest(slot, Time::from_micros(deadline));
                        let tick = deadline.div_ceil(TICK).max(now / TICK + 1);
                        model.entry(slot).and_modify(|set| *set = tick.min(*set)).or_insert(tick);
                    }
                    Step::Cancel(slot) => {
                        wheel.cancel(slot);
                        model.remove(&slot);
                    }
                    Step::Advance(by) => {
                        now += by;
                        let mut fired = Vec::new();
                        while wheel.next().is_some_and(|next| next.as_micros() <= now) {
                            let mut some = Vec::new();
                            wheel.expire(Time::from_micros(now), &mut some, 3);
                            prop_assert!(some.len() <= 3);
                            fired.append(&mut some);
                        }
                        wheel.expire(Time::from_micros(now), &mut Vec::new(), 0);
                        fired.sort_unstable();
                        let due: Vec<u32> = model.iter().filter(|(_, tick)| **tick <= now / TICK).map(|(slot, _)| *slot).collect();
                        prop_assert_eq!(&fired, &due);
                        model.retain(|_, tick| *tick > now / TICK);
                    }
                }
                prop_assert_eq!(wheel.len(), model.len());
                match (wheel.next(), model.values().min()) {
                    (None, None) => {}
                    (Some(next), Some(first)) => {
                        prop_assert!(next.as_micros() <= first * TICK);
                        prop_assert!(next.as_micros() > now);
                    }
                    other => prop_assert!(false, "{:?}", other),
                }
            }
        }
    }
}
