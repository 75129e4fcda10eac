//! Counting against abuse. [`Limits`] hears what a connection has done and says whether that is too much. It ends no connection and
//! tells no client. The figures are in [`Config`].

mod errors;
pub(crate) mod meter;
pub(crate) mod origin;
pub(crate) mod proxy;
mod quota;
pub(crate) mod rate;
pub(crate) mod sources;
pub(crate) mod strain;

pub use origin::{Origin, Origins};
pub use proxy::{Network, Proxies, ProxyHeader};
pub use rate::Rate;

use crate::config::Config;
use crate::id::ConnId;
use crate::metrics::Metrics;
use crate::slots::{Conn, Phase, Slots, coarse, fine};
use crate::time::Time;
use errors::Errors;
use meter::{DELIVERY_BYTES, EventUsage, LIMITS, Limit, Meter, MeterPool, Rates, SILENCE_US_MAX};
use quota::Quotas;
use std::collections::VecDeque;
use std::time::Duration;
use strain::Strain;

/// Meters looked at with every one that is made, and in every turn: two for one keep up, and a turn hardly notices.
const METERS_SWEPT: usize = 2;

/// Whose limit a message is beyond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    Connection,
    User,
}

/// What connections have done lately, each by itself and all together.
#[derive(Debug)]
pub(crate) struct Limits {
    rates: Rates,
    /// Connections with a meter, each once, and some that have gone.
    metered: VecDeque<ConnId>,
    spares: MeterPool,
    strain: Strain,
    errors: Errors,
    quotas: Quotas,
    /// How often each limit was exceeded.
    exceeded: [u64; LIMITS],

    // What follows is of the connection whose bytes are being read.
    usage: EventUsage,
    /// Bytes of work that it has made beyond those that were read, and has not been charged for yet.
    surplus_bytes: usize,
}

impl Limits {
    pub fn new(config: &Config) -> Limits {
        let mut rates = Rates::default();
        rates[Limit::Messages as usize] = config.limits.messages;
        rates[Limit::Bytes as usize] = config.limits.bytes;
        rates[Limit::Pings as usize] = config.limits.pings;
        rates[Limit::Deliveries as usize] = config.limits.deliveries;
        Limits {
            rates,
            metered: VecDeque::new(),
            spares: MeterPool::default(),
            strain: Strain::new(config.limits.surplus),
            errors: Errors::new(config),
            quotas: Quotas::new(config.limits.rooms_per_user_max, config.limits.user_messages, config.seed),
            exceeded: [0; LIMITS],
            usage: EventUsage::default(),
            surplus_bytes: 0,
        }
    }

    /// An event of this connection begins; its `last_seen` still is that of the one before.
    pub fn begin_event(&mut self, slots: &Slots, slot: u32, now: Time) {
        // `last_seen` is coarse: the next unit after it is the latest that it can mean.
        let seen = fine(slots.get(slot).last_seen, now) + Duration::from_micros(1 << 15);
        self.usage = EventUsage::after(now.since(seen).as_micros() as u64);
    }

    /// What is looked at now was kept from an event before. The silence before that has made good for what came first.
    pub fn resume_event(&mut self) {
        self.usage = EventUsage::default();
    }

    /// A WebSocket begins: what it sends first counts as if it came after a silence. Nearly every client subscribes at once, and
    /// of thousands that come together none should need a meter for that.
    pub fn begin_rested(&self, slots: &mut Slots, slot: u32, now: Time) {
        let micros = now.as_micros().saturating_sub(SILENCE_US_MAX);
        slots.get_mut(slot).last_seen = coarse(Time::from_micros(micros));
    }

    /// Charges the connection. Returns `false` where it is over its limit.
    pub fn charge(&mut self, slots: &mut Slots, slot: u32, limit: Limit, things: usize, now: Time) -> bool {
        let Conn { phase, meter, .. } = slots.get_mut(slot);
        if *phase == Phase::Backend {
            return true;
        }
        let was_metered = meter.is_some();
        let allowed = Meter::charge(meter, &mut self.spares, &mut self.usage, &self.rates, limit, things as u64, now);
        if !was_metered && meter.is_some() {
            self.sweep(slots, now);
            self.metered.push_back(slots.id(slot));
        }
        self.exceeded[limit as usize] += u64::from(!allowed);
        allowed
    }

    /// Charges the connection and its user for a message, or for a frame of one.
    ///
    /// # Errors
    /// Whose limit it is beyond. Neither is charged then.
    pub fn charge_message(&mut self, slots: &mut Slots, slot: u32, now: Time) -> Result<(), Whose> {
        if !self.quotas.admits_message(slot, now) {
            return Err(Whose::User);
        }
        if !self.charge(slots, slot, Limit::Messages, 1, now) {
            return Err(Whose::Connection);
        }
        self.quotas.charge_message(slot);
        Ok(())
    }

    /// Whether deliveries are limited.
    pub fn has_deliveries(&self) -> bool {
        self.rates[Limit::Deliveries as usize].is_limited()
    }

    /// Charges the connection for what `members` on this instance are given of a message. One message may always be sent after a
    /// pause, however many members there are: it costs no more than the whole burst.
    pub fn charge_deliveries(
        &mut self,
        slots: &mut Slots,
        slot: u32,
        (members, message_bytes): (usize, usize),
        now: Time,
    ) -> bool {
        let deliveries = members.saturating_mul(message_bytes.div_ceil(DELIVERY_BYTES));
        let burst = self.rates[Limit::Deliveries as usize].burst as usize;
        members == 0 || self.charge(slots, slot, Limit::Deliveries, deliveries.min(burst), now)
    }

    /// The connection whose bytes are being read has made this many bytes of work beyond them.
    pub fn owe(&mut self, bytes: usize) {
        self.surplus_bytes += bytes;
    }

    /// How many such bytes it has not been charged for yet.
    pub fn owed(&self) -> usize {
        self.surplus_bytes
    }

    /// The next connection's bytes are read.
    pub fn forget_owed(&mut self) {
        self.surplus_bytes = 0;
    }

    /// Takes those bytes, to charge the connection for them, and counts them for all.
    pub fn take_owed(&mut self, now: Time) -> usize {
        let bytes = std::mem::take(&mut self.surplus_bytes);
        if bytes > 0 {
            self.strain.add(bytes, now);
        }
        bytes
    }

    /// How all connections strain the server.
    pub fn strain(&self) -> &Strain {
        &self.strain
    }

    /// What connections have done wrong.
    pub fn errors(&mut self) -> &mut Errors {
        &mut self.errors
    }

    /// What users have.
    pub fn quotas(&self) -> &Quotas {
        &self.quotas
    }

    /// The same, to be told of it.
    pub fn quotas_mut(&mut self) -> &mut Quotas {
        &mut self.quotas
    }

    /// The connection is no open WebSocket any more.
    pub fn forget_errors(&mut self, slots: &mut Slots, slot: u32) {
        self.errors.forget(slots, slot);
    }

    /// The connection sends nothing that counts any more.
    pub fn forget_meter(&mut self, slots: &mut Slots, slot: u32) {
        slots.get_mut(slot).meter = None;
    }

    /// Takes their meters from connections that owe nothing any more, a few at a time.
    pub fn sweep(&mut self, slots: &mut Slots, now: Time) {
        for _ in 0..METERS_SWEPT.min(self.metered.len()) {
            let Some(conn) = self.metered.pop_front() else { return };
            let Some(slot) = slots.slot(conn) else { continue };
            let meter = &mut slots.get_mut(slot).meter;
            match meter.take_if(|meter| meter.is_settled(&self.rates, now)) {
                Some(settled) => self.spares.keep(settled),
                None if meter.is_some() => self.metered.push_back(conn),
                None => {}
            }
        }
    }

    /// Fills in the figures that are its own.
    pub fn describe(&self, metrics: &mut Metrics) {
        metrics.limited_messages = self.exceeded[Limit::Messages as usize];
        metrics.quota_messages_refused = self.quotas.exceeded();
        metrics.limited_bytes = self.exceeded[Limit::Bytes as usize];
        metrics.limited_pings = self.exceeded[Limit::Pings as usize];
        metrics.limited_deliveries = self.exceeded[Limit::Deliveries as usize];
    }

    /// Panics unless every meter is looked at in its turn, errors are forgiven in theirs, and users have what their connections have;
    /// `user_of` tells whose each is.
    pub fn check_invariants(
        &self,
        slots: &Slots,
        user_of: impl Fn(u32) -> Option<u32>,
        rooms_of: impl Fn(u32) -> Vec<u32>,
    ) {
        let is_metered = |slot: &u32| slots.get(*slot).meter.is_some();
        let metered: Vec<u32> = slots.slots().filter(is_metered).collect();
        let mut queued: Vec<u32> =
            self.metered.iter().filter_map(|conn| slots.slot(*conn)).filter(is_metered).collect();
        queued.sort_unstable();
        assert_eq!(queued, metered, "a meter is looked at in its turn");
        self.errors.check_invariants(slots);
        self.quotas.check_invariants(slots, user_of, rooms_of);
    }

    /// Panics if anything is left of a connection.
    pub fn check_idle(&self) {
        self.errors.check_idle();
        self.quotas.check_idle();
    }
}
