//! How much one connection sends: debts against the rates of [`Config`](crate::Config). They are kept only for connections that
//! send faster than in passing. For all others the record's `last_seen` is enough.

use super::rate::Rate;
use crate::time::Time;

/// Spare meters that are kept: as many as a busy turn makes, 12 KB.
const SPARES_MAX: usize = 256;

/// What a connection is limited in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Frames of text and binary messages.
    Messages,
    /// Bytes of frames.
    Bytes,
    /// Pings and pongs.
    Pings,
    /// What the members of rooms are given of its messages, in units of [`DELIVERY_BYTES`] for each of them.
    Deliveries,
}

/// How many kinds of limits there are.
pub(crate) const LIMITS: usize = 4;

/// The bytes of a message that count as one delivery; a longer message counts as several. The kernel takes about as long to copy
/// this much as to be called.
pub(crate) const DELIVERY_BYTES: usize = 1_024;

impl Limit {
    /// The reason of the close.
    pub fn reason(self) -> &'static str {
        match self {
            Limit::Messages => "too fast",
            Limit::Bytes => "too many bytes a second",
            Limit::Pings => "too many pings a second",
            Limit::Deliveries => "too many deliveries a second",
        }
    }
}

/// The rates of every connection, by [`Limit`].
pub(crate) type Rates = [Rate; LIMITS];

/// A silence makes good for at most this much of what comes after it. Without a meter nobody knows what came before the
/// silence, so a longer one could be used to double the burst.
pub(crate) const SILENCE_US_MAX: u64 = 1_000_000;

/// What one event of a connection has used so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct EventUsage {
    /// Before the event, at most [`SILENCE_US_MAX`].
    silence_us: u64,
    used: [u64; LIMITS],
}

impl EventUsage {
    /// An event after this silence, in microseconds.
    pub fn after(silence_us: u64) -> EventUsage {
        EventUsage { silence_us: silence_us.min(SILENCE_US_MAX), used: [0; LIMITS] }
    }
}

/// Debts of one connection.
#[derive(Debug)]
pub(crate) struct Meter {
    at: Time,
    debts: [u64; LIMITS],
}

/// Meters of connections that owe nothing any more, kept for the next that do. A client that sends a few messages a second, some of
/// them close together, needs one again and again, and a message shall allocate nothing.
#[derive(Debug, Default)]
pub(crate) struct MeterPool {
    #[expect(clippy::vec_box, reason = "they come from one connection and go to another as they are")]
    meters: Vec<Box<Meter>>,
}

impl MeterPool {
    fn filled(&mut self, meter: Meter) -> Box<Meter> {
        match self.meters.pop() {
            Some(mut spare) => {
                *spare = meter;
                spare
            }
            None => Box::new(meter),
        }
    }

    /// Takes what a connection needs no more.
    pub fn keep(&mut self, meter: Box<Meter>) {
        if self.meters.len() < SPARES_MAX {
            self.meters.push(meter);
        }
    }
}

impl Meter {
    /// Charges `things` to a connection. A meter is created only if the silence before this event does not pay for what the event
    /// has used so far. Returns `false`, and charges nothing, where they are too many.
    ///
    /// Within any span of time a connection is never allowed more than rate × (span + 1 s) + burst. The second is there because
    /// what a silence made good for is not remembered, and because a WebSocket begins as if after one.
    pub fn charge(
        meter: &mut Option<Box<Meter>>,
        spares: &mut MeterPool,
        usage: &mut EventUsage,
        rates: &Rates,
        limit: Limit,
        things: u64,
        now: Time,
    ) -> bool {
        let (at, rate) = (limit as usize, rates[limit as usize]);
        if !rate.is_limited() {
            return true;
        }
        let meter = match meter {
            Some(meter) => meter,
            None => {
                let used = usage.used[at].saturating_add(things);
                if rate.makes_good(used, usage.silence_us) {
                    usage.used[at] = used;
                    return true;
                }
                meter.insert(spares.filled(Meter::new(usage, rates, now)))
            }
        };
        meter.drain(rates, now);
        match rate.charged(meter.debts[at], things) {
            Some(debt) => meter.debts[at] = debt,
            None => return false,
        }
        true
    }

    /// What the event has used becomes debts, although the silence has made good for it: the stricter way.
    fn new(usage: &EventUsage, rates: &Rates, at: Time) -> Meter {
        Meter { at, debts: std::array::from_fn(|index| rates[index].charged(0, usage.used[index]).unwrap_or(0)) }
    }

    fn drain(&mut self, rates: &Rates, now: Time) {
        let micros = now.since(self.at).as_micros() as u64;
        if micros > 0 {
            for (debt, rate) in self.debts.iter_mut().zip(rates) {
                *debt = rate.drained(*debt, micros);
            }
            self.at = now;
        }
    }

    /// Whether nothing is owed any more, so that the connection needs no meter.
    pub fn is_settled(&mut self, rates: &Rates, now: Time) -> bool {
        self.drain(rates, now);
        self.debts == [0; LIMITS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn no_more_meters_are_kept_than_a_bound() {
        let mut spares = MeterPool::default();
        for _ in 0..SPARES_MAX + 1 {
            spares.keep(Box::new(Meter::new(&EventUsage::default(), &[Rate::NONE; LIMITS], Time::ZERO)));
        }
        assert_eq!(spares.meters.len(), SPARES_MAX);
    }

    const MESSAGES: Limit = Limit::Messages;

    /// One connection as the core drives its meter: `last_seen` is the time of the event before.
    struct Connection {
        meter: Option<Box<Meter>>,
        spares: MeterPool,
        rates: Rates,
        seen: u64,
    }

    impl Connection {
        fn new(per_second: u64, burst: u64) -> Connection {
            Connection {
                meter: None,
                spares: MeterPool::default(),
                rates: [Rate { per_second, burst }; LIMITS],
                seen: 0,
            }
        }

        /// How many of an event's things are allowed, one after the other.
        fn event(&mut self, now: u64, things: u64) -> u64 {
            let mut usage = EventUsage::after(now - self.seen);
            self.seen = now;
            let mut allowed = 0;
            for _ in 0..things {
                let now = Time::from_micros(now);
                let Connection { meter, spares, rates, .. } = self;
                allowed += u64::from(Meter::charge(meter, spares, &mut usage, rates, MESSAGES, 1, now));
            }
            allowed
        }

        /// As the heartbeat does.
        fn settle(&mut self, now: u64) {
            let settled = self.meter.take_if(|meter| meter.is_settled(&self.rates, Time::from_micros(now)));
            settled.into_iter().for_each(|meter| self.spares.keep(meter));
        }
    }

    /// Events as (pause before it in µs, things, whether the heartbeat comes after it).
    fn events() -> impl Strategy<Value = Vec<(u64, u64, bool)>> {
        let pause = prop_oneof![Just(0), 0..2_000u64, 0..200_000u64, 0..5_000_000u64];
        prop::collection::vec((pause, prop_oneof![Just(1), 0..5u64, 0..60u64], any::<bool>()), 1..80)
    }

    proptest! {
        #[test]
        fn never_more_is_allowed_than_rate_and_burst(
            events in events(), per_second in 1..400u64, burst in 1..50u64
        ) {
            let mut connection = Connection::new(per_second, burst);
            let (mut now, mut admitted) = (0, Vec::new());
            for (pause, things, heartbeat) in events {
                now += pause;
                admitted.push((now, connection.event(now, things)));
                if heartbeat {
                    connection.settle(now);
                }
                // Since its beginning, exactly; since any event, a second's worth more.
                let mut sum = 0;
                for (since, allowed) in admitted.iter().rev() {
                    sum += *allowed;
                    let bound = (now - since + SILENCE_US_MAX) * per_second / MILLION + burst;
                    prop_assert!(sum <= bound, "{sum} within {} µs", now - since);
                }
                prop_assert!(sum <= now * per_second / MILLION + burst, "{sum} in {now} µs");
            }
        }

        #[test]
        fn who_stays_within_rate_and_burst_is_never_refused(
            events in events(), per_second in 1..400u64, burst in 1..50u64
        ) {
            let mut connection = Connection::new(per_second, burst);
            // The textbook's bucket, in millionths.
            let (mut now, mut tokens) = (0, burst * MILLION);
            for (pause, things, heartbeat) in events {
                now += pause;
                tokens = (tokens + pause * per_second).min(burst * MILLION);
                let things = things.min(tokens / MILLION);
                tokens -= things * MILLION;
                prop_assert_eq!(connection.event(now, things), things);
                if heartbeat {
                    connection.settle(now);
                }
            }
        }

        #[test]
        fn sums_at_the_ends_of_numbers_do_not_overflow(
            per_second in prop_oneof![Just(u64::MAX), 1..9u64], burst in prop_oneof![Just(u64::MAX), 1..9u64],
            things in prop_oneof![Just(u64::MAX), 0..9u64], now in prop_oneof![Just(u64::MAX), 0..9u64],
        ) {
            let mut connection = Connection::new(per_second, burst);
            let (mut usage, now) = (EventUsage::after(now), Time::from_micros(now));
            for _ in 0..3 {
                let Connection { meter, spares, rates, .. } = &mut connection;
                let allowed = Meter::charge(meter, spares, &mut usage, rates, MESSAGES, things, now);
                prop_assert!(allowed || things > 0);
            }
        }
    }

    const MILLION: u64 = 1_000_000;

    #[test]
    fn below_the_rate_there_is_no_meter() {
        let mut connection = Connection::new(10, 5);
        for event in 1..100 {
            assert_eq!(connection.event(event * 100_000, 1), 1);
            assert!(connection.meter.is_none());
        }
        assert_eq!(connection.event(9_900_001, 1), 1);
        assert!(connection.meter.is_some());
        connection.settle(9_900_002);
        assert!(connection.meter.is_some(), "something is owed");
        connection.settle(10_100_000);
        assert!(connection.meter.is_none());
    }

    #[test]
    fn the_burst_is_exact_and_comes_back_at_the_rate() {
        let mut connection = Connection::new(10, 5);
        assert_eq!(connection.event(0, 20), 5);
        assert_eq!(connection.event(99_999, 20), 0);
        assert_eq!(connection.event(100_000, 20), 1);
        assert_eq!(connection.event(10_000_000, 20), 5);
    }

    #[test]
    fn limits_do_not_share_their_debts() {
        let rates = [Rate { per_second: 1, burst: 2 }, Rate { per_second: 1, burst: 3 }, Rate::NONE, Rate::NONE];
        let (mut meter, mut spares, mut usage) = (None, MeterPool::default(), EventUsage::default());
        let mut charge =
            |limit, things| Meter::charge(&mut meter, &mut spares, &mut usage, &rates, limit, things, Time::ZERO);
        assert!(charge(Limit::Bytes, 3));
        assert!(!charge(Limit::Bytes, 1));
        assert!(charge(Limit::Messages, 2));
        assert!(!charge(Limit::Messages, 1));
        assert!(charge(Limit::Pings, 1_000_000));
    }
}
