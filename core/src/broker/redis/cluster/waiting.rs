//! What cannot be sent to a node now: its partition has no master that is connected, or has one and is on its way to another. In the order in
//! which it was asked, which holds for each partition by itself.

use std::collections::VecDeque;
use std::time::Duration;

use super::super::link_id::Role;
use super::super::publisher::Asked;
use crate::time::Time;

/// For how long what was sent to the wrong node may wait for the right one at least. A failover takes as long as the Cluster's node timeout,
/// which is 15 s by default; whoever sent it is told sooner.
const DETOUR_MAX: Duration = Duration::from_secs(10);

/// One command. It was surely not done.
#[derive(Debug)]
pub(super) struct Waits {
    pub(super) role: Role,
    pub(super) asked: Asked,
    pub(super) partition: u16,
    pub(super) since: Time,
    pub(super) bytes: Box<[u8]>,
    /// The place of the node that is to be asked in place of the partition's, this once.
    pub(super) asking: Option<usize>,
    /// Not to be sent earlier.
    pub(super) again_at: Time,
    /// It was sent to a wrong node, or stands behind one that was.
    pub(super) was_sent: bool,
}

impl Waits {
    fn until(&self, publish_wait: Duration) -> Time {
        self.since + if self.was_sent { publish_wait.max(DETOUR_MAX) } else { publish_wait }
    }
}

/// What becomes of one that waits.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It was sent.
    Sent,
    /// It goes on waiting, and what stands behind it in its partition with it.
    Waits(Waits),
}

/// All of them.
#[derive(Debug)]
pub(super) struct Waiting {
    list: VecDeque<Waits>,
    bytes: usize,
    /// How many there are of each partition.
    of: Box<[u32]>,
}

impl Waiting {
    pub(super) fn new(partitions: u16) -> Waiting {
        Waiting { list: VecDeque::new(), bytes: 0, of: vec![0; usize::from(partitions)].into() }
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// Bytes of all.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether any is of this partition: what comes has to stand behind it.
    pub(super) fn has(&self, partition: u16) -> bool {
        self.of[usize::from(partition)] > 0
    }

    /// Whether any is to be sent to the node at this place.
    pub(super) fn is_asking(&self, place: usize) -> bool {
        self.list.iter().any(|waits| waits.asking == Some(place))
    }

    /// It stands before all of its partition that was asked later.
    pub(super) fn push(&mut self, waits: Waits) {
        self.of[usize::from(waits.partition)] += 1;
        self.bytes += waits.bytes.len();
        let is_later = |other: &Waits| other.partition == waits.partition && other.since > waits.since;
        match self.list.iter().position(is_later) {
            Some(place) => self.list.insert(place, waits),
            None => self.list.push_back(waits),
        }
    }

    /// Sends what can be sent; `send` says what becomes of each that nothing of its partition stands before.
    ///
    /// What is to be asked of another node than the partition's goes to the partition's all the same behind what goes there: that may be sent on
    /// as well, and would come last.
    pub(super) fn pump(&mut self, now: Time, mut send: impl FnMut(Waits) -> Verdict) {
        let (mut is_held, mut is_plain) = (vec![false; self.of.len()], vec![false; self.of.len()]);
        for mut waits in std::mem::take(&mut self.list) {
            let partition = usize::from(waits.partition);
            if is_plain[partition] {
                waits.asking = None;
            }
            is_plain[partition] |= waits.asking.is_none();
            if is_held[partition] || waits.again_at > now {
                is_held[partition] = true;
                self.list.push_back(waits);
                continue;
            }
            let len = waits.bytes.len();
            match send(waits) {
                Verdict::Sent => {
                    self.of[partition] -= 1;
                    self.bytes -= len;
                }
                Verdict::Waits(waits) => {
                    is_held[partition] = true;
                    self.list.push_back(waits);
                }
            }
        }
    }

    /// Takes out all.
    pub(super) fn take(&mut self) -> Vec<Waits> {
        self.of.iter_mut().for_each(|of| *of = 0);
        self.bytes = 0;
        std::mem::take(&mut self.list).into()
    }

    /// Takes out what has waited for as long as it may.
    pub(super) fn expire(&mut self, now: Time, publish_wait: Duration) -> Vec<Waits> {
        let mut expired = Vec::new();
        for waits in std::mem::take(&mut self.list) {
            if waits.until(publish_wait) <= now {
                self.of[usize::from(waits.partition)] -= 1;
                self.bytes -= waits.bytes.len();
                expired.push(waits);
            } else {
                self.list.push_back(waits);
            }
        }
        expired
    }

    /// When to look again, if nothing else happens.
    pub(super) fn next_timeout(&self, now: Time, publish_wait: Duration) -> Option<Time> {
        let again = |waits: &Waits| Some(waits.again_at).filter(|at| *at > now);
        self.list.iter().flat_map(|waits| again(waits).into_iter().chain([waits.until(publish_wait)])).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A read, which is known by its bytes.
    fn waits(name: &str, since: u64, asking: Option<usize>) -> Waits {
        let now = Time::from_millis(since);
        let (role, asked) = (Role::Publisher, Asked::Announce);
        let bytes = name.as_bytes().into();
        Waits { role, asked, partition: 0, since: now, bytes, asking, again_at: now, was_sent: true }
    }

    /// What is sent, and whether that is behind an `ASKING`.
    fn sent(waiting: &mut Waiting) -> Vec<(String, bool)> {
        let mut sent = Vec::new();
        waiting.pump(Time::from_millis(100), |waits| {
            sent.push((String::from_utf8_lossy(&waits.bytes).into_owned(), waits.asking.is_some()));
            Verdict::Sent
        });
        sent
    }

    #[test]
    fn what_was_asked_earlier_and_comes_back_later_is_sent_first() {
        let mut waiting = Waiting::new(1);
        for (name, since) in [("second", 2), ("third", 2), ("first", 1), ("fourth", 3)] {
            waiting.push(waits(name, since, None));
        }
        let names: Vec<String> = sent(&mut waiting).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["first", "second", "third", "fourth"]);
    }

    #[test]
    fn nothing_is_asked_of_another_node_behind_what_goes_to_the_partitions_own() {
        let mut waiting = Waiting::new(1);
        waiting.push(waits("asked", 1, Some(7)));
        waiting.push(waits("plain", 2, None));
        waiting.push(waits("behind", 3, Some(7)));
        let expected = [("asked", true), ("plain", false), ("behind", false)];
        assert_eq!(sent(&mut waiting), expected.map(|(name, asking)| (name.to_owned(), asking)));
    }
}
