//! What becomes of connections, in the log: at `debug` a line for each, at `info` how many were refused and why. What clients
//! have chosen is escaped, and was cut by the core.

use fanfare_core::broker::redis::RedisBroker;
use fanfare_core::{ConnId, Core, Entry, Metrics};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The first refusal of a kind is told at once, those that follow within this time in one line.
const TOLD_EVERY: Duration = Duration::from_secs(10);
/// The same of what may go on for ever without anything being broken: the line is to be seen, and not to fill the log.
const FOREIGN_TOLD_EVERY: Duration = Duration::from_secs(60);

/// A connection was accepted: the line that tells whose the others of the same `conn` are.
pub fn accepted(worker: usize, conn: ConnId, peer: SocketAddr) {
    tracing::debug!(worker, ?conn, %peer, "connection accepted");
}

/// Writes what has become of connections in a turn.
pub fn write(worker: usize, core: &mut Core) {
    for entry in core.journal() {
        line(worker, entry);
    }
}

/// Writes what is wrong with Redis that is no outage.
pub fn redis(redis: &mut RedisBroker) {
    if let Some(notice) = redis.take_notice() {
        if redis.links().any(|link| redis.leads_to_sentinel(link)) {
            tracing::warn!(notice, "redis and its sentinels");
        } else {
            tracing::warn!(notice, "redis and its nodes");
        }
    }
    if let Some(reason) = redis.take_complaint() {
        tracing::warn!(
            reason,
            address = redis.address().map(tracing::field::display),
            "redis and the histories of rooms"
        );
    }
    if let Some(reason) = redis.take_presence_complaint() {
        tracing::warn!(reason, address = redis.address().map(tracing::field::display), "redis and who is in rooms");
    }
    if let Some(reason) = redis.take_canary_refusal() {
        tracing::warn!(reason, address = redis.address().map(tracing::field::display), "redis refuses the canary");
    }
}

fn line(worker: usize, entry: Entry) {
    match entry {
        Entry::Opened { conn, dialect } => tracing::debug!(worker, ?conn, ?dialect, "connection opened"),
        Entry::Answered { conn, status, text, origin } => {
            let answer = if status < 400 { "request answered" } else { "request refused" };
            let origin = origin.as_deref().map(escaped);
            tracing::debug!(worker, ?conn, status, reason = escaped(&text), origin, "{answer}");
        }
        Entry::Identified { conn, user } => {
            tracing::debug!(worker, ?conn, user = escaped(&user), "credential accepted");
        }
        Entry::Joined { conn, room } => tracing::debug!(worker, ?conn, room = escaped(&room), "room joined"),
        Entry::Left { conn, room } => tracing::debug!(worker, ?conn, room = escaped(&room), "room left"),
        Entry::Refused { conn, code, room } => {
            let room = room.as_deref().map(escaped);
            tracing::debug!(worker, ?conn, code, room, "command refused");
        }
        Entry::Closed { conn, code, reason, age, messages } => {
            let (reason, age_ms) = (escaped(&reason), age.as_millis() as u64);
            tracing::debug!(worker, ?conn, code, reason, age_ms, messages, "connection closed");
        }
        _ => {}
    }
}

fn escaped(text: &str) -> String {
    text.escape_debug().to_string()
}

/// Why upgrades and other requests are refused, as in the metrics, and how many were.
type RefusalKind = (&'static str, fn(&Metrics) -> u64);

/// Pages.
const ORIGIN: &str = "refused_origin";
/// No requests, but rooms, by Redis.
const SUBSCRIPTION: &str = "subscription";
/// Messages of other programs, by histories.
const FOREIGN: &str = "foreign";

const KINDS: [RefusalKind; 11] = [
    ("refused_full", |metrics| metrics.upgrades_refused_full),
    ("refused_draining", |metrics| metrics.upgrades_refused_draining),
    (ORIGIN, |metrics| metrics.upgrades_refused_origin),
    ("refused_address", |metrics| metrics.upgrades_refused_address),
    ("refused_user", |metrics| metrics.upgrades_refused_user),
    ("refused_auth", |metrics| metrics.upgrades_refused_auth),
    ("evicted", |metrics| metrics.upgrades_evicted),
    ("timed_out", |metrics| metrics.upgrades_timed_out),
    ("invalid", |metrics| metrics.upgrades_invalid),
    (SUBSCRIPTION, |metrics| metrics.subscriptions_refused),
    (FOREIGN, |metrics| metrics.history_foreign),
];

/// How often one of a kind is told at most.
fn told_every(kind: &str) -> Duration {
    if kind == FOREIGN { FOREIGN_TOLD_EVERY } else { TOLD_EVERY }
}

/// Refusals of one worker, and what was told of them.
#[derive(Debug, Default)]
pub struct Refusals {
    seen: u64,
    kinds: [Told; KINDS.len()],
    next: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Told {
    count: u64,
    /// Until then nothing more is told.
    quiet_until: Option<Instant>,
}

impl Refusals {
    /// To be called at the end of every turn: a comparison, as long as nobody is refused.
    #[inline]
    pub fn look(&mut self, worker: usize, core: &Core, now: impl FnOnce() -> Instant) {
        let seen = core.refusals() + core.foreign_in_histories().0;
        if seen != self.seen || self.next.is_some() {
            self.seen = seen;
            let metrics = core.metrics();
            self.tell(&metrics, now(), |kind, count| match kind {
                ORIGIN => {
                    let origin = core.refused_origin().map(escaped);
                    tracing::info!(worker, outcome = kind, count, origin, "requests refused");
                }
                SUBSCRIPTION => {
                    let (room, reason) = core.refused_room().unwrap_or_default();
                    let (room, reason) = (escaped(room), escaped(reason));
                    tracing::warn!(worker, count, room, reason, "redis refused to subscribe");
                }
                FOREIGN => {
                    let room = escaped(core.foreign_in_histories().1);
                    tracing::warn!(worker, count, room, "messages of other programs are delivered and not stored");
                }
                _ => tracing::info!(worker, outcome = kind, count, "requests refused"),
            });
        }
    }

    /// When there will be something to tell, if nobody is refused before.
    pub fn next_look(&self) -> Option<Instant> {
        self.next
    }

    fn tell(&mut self, metrics: &Metrics, now: Instant, mut line: impl FnMut(&'static str, u64)) {
        self.next = None;
        for (told, (outcome, count)) in self.kinds.iter_mut().zip(KINDS) {
            let new = count(metrics) - told.count;
            if new == 0 {
                continue;
            }
            match told.quiet_until.filter(|until| now < *until) {
                Some(until) => self.next = Some(self.next.map_or(until, |next| next.min(until))),
                None => {
                    line(outcome, new);
                    *told = Told { count: told.count + new, quiet_until: Some(now + told_every(outcome)) };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_a_kind_is_told_at_once_and_others_together() {
        let (mut refusals, mut metrics, start) = (Refusals::default(), Metrics::default(), Instant::now());
        let after = |refusals: &mut Refusals, metrics: &Metrics, seconds| {
            let mut lines = Vec::new();
            refusals.tell(metrics, start + Duration::from_secs(seconds), |outcome, count| lines.push((outcome, count)));
            lines
        };
        assert_eq!(after(&mut refusals, &metrics, 0), []);
        metrics.upgrades_refused_origin = 1;
        assert_eq!(after(&mut refusals, &metrics, 0), [(ORIGIN, 1)]);
        assert_eq!(refusals.next_look(), None, "there is nothing to tell");
        (metrics.upgrades_refused_origin, metrics.upgrades_refused_full) = (8, 2);
        assert_eq!(after(&mut refusals, &metrics, 4), [("refused_full", 2)]);
        assert_eq!(refusals.next_look(), Some(start + TOLD_EVERY));
        assert_eq!(after(&mut refusals, &metrics, 10), [(ORIGIN, 7)]);
        assert_eq!(refusals.next_look(), None);
        metrics.upgrades_refused_full = 3;
        assert_eq!(after(&mut refusals, &metrics, 30), [("refused_full", 1)]);
    }

    #[test]
    fn what_goes_on_for_ever_is_told_once_a_minute() {
        let (mut refusals, mut metrics, start) = (Refusals::default(), Metrics::default(), Instant::now());
        let mut lines = Vec::new();
        for second in 0..180 {
            metrics.history_foreign += 1;
            refusals.tell(&metrics, start + Duration::from_secs(second), |outcome, count| {
                lines.push((second, outcome, count));
            });
        }
        assert_eq!(lines, [(0, FOREIGN, 1), (60, FOREIGN, 60), (120, FOREIGN, 60)]);
        assert_eq!(refusals.next_look(), Some(start + Duration::from_secs(180)));
    }
}
