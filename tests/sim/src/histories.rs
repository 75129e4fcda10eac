//! What a seed draws so that some of its rooms have a history.

use crate::options::{Fault, Options, Span, pick, rng};
use crate::reference::ROOMS;
use crate::slotted::is_slotted;
use fanfare_core::PublishFormat;
use fanfare_core::history::Retention;
use fanfare_core::rules::{Rule, Rules};
use std::time::Duration;

/// Of so many seeds one draws this. The others do what they would have done without.
const KEPT_ONE_IN: u64 = 3;
const KEPT_REMAINDER: u64 = 2;

/// Bytes that a wire to Redis holds at least: the scripts have to come through before the session gives its connection up.
const LINK_CAPACITY_MIN: u64 = 16_000;

/// How rooms are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histories {
    /// How much each room keeps, where it keeps anything.
    pub kept: Vec<Option<Retention>>,
    /// Of a thousand messages to such rooms, how many are not to be stored.
    pub unstored: u32,
    /// Of a thousand things that a client does, how many read a history.
    pub reads: u32,
    /// Whether a message of the room is acknowledged only when the replica has it.
    pub waits: Vec<bool>,
    /// Of so many stores one brings the replica up to date.
    pub replica_lag: u64,
}

impl Histories {
    /// Draws what this seed has of it, and changes what else the seed has drawn where that is needed.
    pub fn draw(options: &mut Options) -> Histories {
        let seed = options.seed;
        // With a Cluster two of three.
        let is_more = is_slotted(seed) && seed % KEPT_ONE_IN == 1;
        if seed % KEPT_ONE_IN != KEPT_REMAINDER && !is_more {
            let (kept, waits) = (vec![None; options.rooms], vec![false; options.rooms]);
            return Histories { kept, waits, ..Histories::default() };
        }
        let r = &mut rng(seed, "histories");
        let messages_max = pick(r, &[3, 20, 200]);
        let bytes_max = pick(r, &[1_000, 5_000, 1_000_000]);
        let age_max = Duration::from_millis(pick(r, &[3_000, 60_000, 86_400_000]));
        let retention = Retention { messages_max, bytes_max, age_max };
        let kept_of_ten = pick(r, &[4, 10]);
        let mut kept: Vec<_> = (0..options.rooms).map(|_| (r.u32(0..10) < kept_of_ten).then_some(retention)).collect();
        kept[0] = Some(retention);
        // Of a generator of its own: with it and without, a seed does the same otherwise.
        let replicas = &mut rng(seed, "rooms that wait for the replica");
        let waits_of_four = pick(replicas, &[0, 1, 4]);
        let waits: Vec<_> = kept.iter().map(|kept| kept.is_some() && replicas.u32(0..4) < waits_of_four).collect();
        let rules = kept.iter().zip(&waits).zip(ROOMS).filter_map(|((retention, waits), name)| {
            let mut rule = Rule::new(name.parse().expect("the name of a room is a pattern"));
            (rule.history, rule.replicas_min) = (Some((*retention)?), u16::from(*waits));
            Some(rule)
        });
        options.core.rules = Rules::new(rules.collect()).expect("each keeps something");
        options.core.history.memory_bytes_max = pick(r, &[0, 400, 3_000, 1 << 20]);
        options.core.history.page_messages_max = pick(r, &[1, 3, 20, 1_000]);
        options.core.history.reads_in_flight_max = pick(r, &[1, 2, 64]);
        // The classic form has no place for a position: no server takes both.
        options.core.publish_format = PublishFormat::Fanfare;
        options.session.keeps_history = true;
        options.session.waits_for_replicas = waits.contains(&true);
        options.session.replicas_timeout = Duration::from_millis(pick(replicas, &[20, 300]));
        let Span { min, max } = options.wires.link_capacity;
        options.wires.link_capacity = Span { min: min.max(LINK_CAPACITY_MIN), max: max.max(2 * LINK_CAPACITY_MIN) };
        let (pause, count) = (options.clients.pause.max / 2, options.clients.count as u64);
        for fault in Fault::ALL.into_iter().filter(|fault| fault.is_of_histories()) {
            let (on, mean) = (r.u32(0..3) == 0, pick(r, &[100, 500, 2_000]) * pause / count);
            if on && !options.is_quiet() {
                options.faults.push((fault, mean));
            }
        }
        // So does what removes.
        let removals = &mut rng(seed, "removals");
        let mean = pick(removals, &[5, 50, 500]) * pause / count;
        let removes = removals.u32(0..2) == 0 && !options.is_quiet();
        if removes {
            options.faults.push((Fault::Removal, mean.max(1)));
        }
        // Many read while something is removed.
        let reads_min = if removes { pick(removals, &[0, 300]) } else { 0 };
        Histories {
            kept,
            waits,
            unstored: pick(r, &[0, 100]),
            reads: pick(r, &[0, 50, 200]).max(reads_min),
            replica_lag: pick(r, &[1, 5, 30]),
        }
    }

    /// Whether the room has a history.
    pub fn keeps(&self, room: usize) -> bool {
        self.kept[room].is_some()
    }

    /// Whether any room has one.
    pub fn keeps_any(&self) -> bool {
        self.kept.iter().any(Option::is_some)
    }
}
