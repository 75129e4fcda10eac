//! Limits against abuse: what is counted of a connection and of an address, and how those who go beyond are told. The figures
//! are in [`Config`](crate::Config); the counting lives in this folder's other files.

pub(crate) mod meter;
mod origin;
pub(crate) mod pending;
mod proxy;
mod rate;
pub(crate) mod sources;
pub(crate) mod unfinished;
pub(crate) mod unread;

pub use origin::{Origin, Origins};
pub use proxy::{Network, Proxies};
pub use rate::Rate;

use crate::config::Config;
use crate::conn::{Ending, NONE, Phase, coarse, fine, mark};
use crate::core::Core;
use crate::event::ConnId;
use crate::time::Time;
use crate::ws::encode;
use crate::ws::handshake::Response;
use core::net::IpAddr;
use meter::{DELIVERY_BYTES, Limit, Meter, Pace, Rates, SILENCE_US_MAX};
use proxy::{Client, Start};
use std::time::Duration;

/// Close code for a client that sends too fast: in the range that means "reconnect with backoff".
const TOO_FAST: u16 = 4029;

/// Meters looked at with every one that is made, and in every turn: two for one keep up, and a turn hardly notices.
const METERS_SWEPT: usize = 2;

/// In the place of a source: a trusted proxy's connection, which may begin with a PROXY protocol header.
const PROXIED: u32 = NONE - 1;
/// In the place of a source: a trusted proxy's connection, whose `X-Forwarded-For` will tell the client.
const FORWARDED: u32 = NONE - 2;

/// Whether this is a source of [`sources::Sources`].
pub(crate) fn is_source(source: u32) -> bool {
    source < FORWARDED
}

/// Whether a trusted proxy has still to say whose connection it is.
pub(crate) fn awaits_introduction(source: u32) -> bool {
    matches!(source, PROXIED | FORWARDED)
}

/// The rates of every connection, where [`Meter`] looks for them.
pub(crate) fn rates(config: &Config) -> Rates {
    let mut rates = Rates::default();
    rates[Limit::Messages as usize] = config.messages;
    rates[Limit::Bytes as usize] = config.bytes;
    rates[Limit::Pings as usize] = config.pings;
    rates[Limit::Deliveries as usize] = config.deliveries;
    rates
}

/// What one connection sends.
impl Core {
    /// An event of this connection begins; its `last_seen` still is that of the one before.
    pub(crate) fn begin_pace(&mut self, slot: u32) {
        // `last_seen` is coarse: the next unit after it is the latest that it can mean.
        let seen = fine(self.conns.get(slot).last_seen, self.now) + Duration::from_micros(1 << 15);
        self.pace = Pace::after(self.now.since(seen).as_micros() as u64);
    }

    /// A WebSocket begins: what it sends first counts as if it came after a silence. Nearly every client subscribes at once, and
    /// of thousands that come together none should need a meter for that.
    pub(crate) fn begin_rested(&mut self, slot: u32) {
        let micros = self.now.as_micros().saturating_sub(SILENCE_US_MAX);
        self.conns.get_mut(slot).last_seen = coarse(Time::from_micros(micros));
    }

    /// Charges the connection. Returns `false` where it is over its limit.
    pub(crate) fn charge(&mut self, slot: u32, limit: Limit, things: usize) -> bool {
        let meter = &mut self.conns.get_mut(slot).meter;
        let was_metered = meter.is_some();
        let allowed =
            Meter::charge(meter, &mut self.spare_meters, &mut self.pace, &self.rates, limit, things as u64, self.now);
        if !was_metered && meter.is_some() {
            self.sweep_meters();
            self.metered.push_back(self.conns.id(slot));
        }
        if !allowed {
            match limit {
                Limit::Messages => self.metrics.limited_messages += 1,
                Limit::Bytes => self.metrics.limited_bytes += 1,
                Limit::Pings => self.metrics.limited_pings += 1,
                Limit::Deliveries => self.metrics.limited_deliveries += 1,
            }
        }
        allowed
    }

    /// Charges the connection what the members of a room on this instance are given of a message. One message may always be sent
    /// after a pause, however many they are: it costs no more than the whole burst.
    pub(crate) fn charge_deliveries(&mut self, slot: u32, room: &str, message_bytes: usize) -> bool {
        if !self.config.deliveries.is_limited() {
            return true;
        }
        let members = self.rooms.find(room).map_or(0, |room| self.rooms.get(room).members());
        let deliveries = members.saturating_mul(message_bytes.div_ceil(DELIVERY_BYTES));
        members == 0 || self.charge(slot, Limit::Deliveries, deliveries.min(self.config.deliveries.burst as usize))
    }

    /// Takes their meters from connections that owe nothing any more, a few at a time.
    pub(crate) fn sweep_meters(&mut self) {
        for _ in 0..METERS_SWEPT.min(self.metered.len()) {
            let Some(conn) = self.metered.pop_front() else { return };
            let Some(slot) = self.conns.slot(conn) else { continue };
            let meter = &mut self.conns.get_mut(slot).meter;
            match meter.take_if(|meter| meter.is_settled(&self.rates, self.now)) {
                Some(settled) => self.spare_meters.keep(settled),
                None if meter.is_some() => self.metered.push_back(conn),
                None => {}
            }
        }
    }

    /// Ends a WebSocket whose client sends too fast. What it sends meanwhile is not even read as frames.
    pub(crate) fn close_too_fast(&mut self, slot: u32, limit: Limit) {
        self.metrics.rate_closes += 1;
        self.journal.ends(slot, Some(TOO_FAST), limit.reason());
        self.depart(slot, true);
        encode::close(self.stream(slot), Some(TOO_FAST), limit.reason());
        self.discard(slot);
    }
}

/// Connections that are no WebSocket.
impl Core {
    /// Puts a connection that comes to this phase into its queue, if it has one.
    pub(crate) fn enter_pending(&mut self, conn: ConnId, phase: Phase) {
        let conns = &self.conns;
        self.pending.enter(conn, phase, |conn| conns.slot(conn).map(|slot| conns.get(slot).phase));
    }

    /// Ends pending connections where there are too many, or where they take the last places. At the end of a turn, so that
    /// nobody is ended whose request is here already.
    pub(crate) fn make_room(&mut self) {
        let Config { connections_max, surplus_connections_max, pending_upgrades_max, .. } = self.config;
        // Half the surplus: an adapter that stops accepting when all of it is taken begins again below that.
        let places = connections_max.saturating_add(surplus_connections_max / 2);
        let crowded = self.conns.live().saturating_add(self.elsewhere.connections).saturating_sub(places);
        // There is always room for one.
        let aim = pending_upgrades_max.min(self.pending.count().saturating_sub(crowded)).max(1);
        while self.pending.count() > aim {
            let Some(oldest) = self.pending.pop() else { return };
            if let Some(slot) = self.conns.slot(oldest) {
                self.evict(slot);
            }
        }
    }

    fn evict(&mut self, slot: u32) {
        match self.conns.get(slot).phase {
            Phase::Head => {
                self.metrics.upgrades_evicted += 1;
                self.respond(slot, Response::EVICTED, false);
            }
            Phase::Refused => {}
            _ => return,
        }
        self.enter_phase(slot, Phase::Discarding);
        if self.conns.is_marked(slot, mark::LAGGING) {
            self.end_now(slot);
        } else {
            // What it is told in this turn still goes out; it is not waited for.
            self.end_when_written(slot, Ending::Close);
        }
    }
}

/// Who a connection comes from.
impl Core {
    /// Counts the connection for this address, or refuses it; a trusted proxy's waits for what that tells.
    pub(crate) fn introduce(&mut self, slot: u32, address: IpAddr) {
        let address = address.to_canonical();
        let proxies = &self.config.proxies;
        if !proxies.trusts(address) {
            return self.count(slot, address);
        }
        let source = if proxies.protocol { PROXIED } else { FORWARDED };
        self.conns.get_mut(slot).source = source;
        // Who it is matters only where somebody has to be counted.
        if self.sources.is_limited() {
            self.introducers.insert(slot, address);
        }
    }

    /// The client of a trusted proxy is known, or will not be. It is not asked for again, and cannot send a second PROXY
    /// header, but may be a proxy that is trusted in its turn.
    fn introduce_client(&mut self, slot: u32, client: Client) {
        self.conns.get_mut(slot).source = NONE;
        let introducer = self.introducers.remove(&slot);
        match (client, introducer) {
            (Client::Named(client), _) => self.introduce(slot, client),
            // Whoever is not told counts with all others of this proxy who are not, lest it be a way around the limits.
            (Client::Untold, Some(proxy)) => self.count(slot, proxy),
            (Client::Untold, None) | (Client::Own, _) => {}
        }
    }

    /// Counts the connection for this address, or refuses it.
    fn count(&mut self, slot: u32, address: IpAddr) {
        match self.sources.arrive(address, self.now) {
            Ok(source) => self.conns.get_mut(slot).source = source,
            Err(over) => {
                self.metrics.upgrades_refused_address += 1;
                self.respond(slot, Response::too_many(over.reason), false);
            }
        }
    }

    /// Takes a PROXY header off the front of a trusted proxy's first bytes, and gives the rest on as a request head.
    pub(crate) fn proxied_head(&mut self, slot: u32, data: &mut [u8]) {
        match self.heads.remove(&slot) {
            None => self.proxied_start(slot, data),
            Some(mut held) => {
                held.extend_from_slice(data);
                self.proxied_start(slot, &mut held);
            }
        }
    }

    fn proxied_start(&mut self, slot: u32, data: &mut [u8]) {
        let (bytes, client) = match proxy::start(data, self.config.request_head_bytes_max) {
            Start::Unfinished => {
                self.heads.insert(slot, data.to_vec());
                return;
            }
            Start::Malformed => {
                self.metrics.upgrades_invalid += 1;
                return self.respond(slot, Response::bad_request("a malformed PROXY protocol header"), false);
            }
            Start::Other => (0, Client::Own),
            Start::Header(bytes, client) => (bytes, client),
        };
        if client != Client::Own {
            self.introduce_client(slot, client);
        }
        let conn = self.conns.get_mut(slot);
        if conn.source == PROXIED {
            conn.source = FORWARDED;
        }
        if conn.phase == Phase::Head && bytes < data.len() {
            self.head(slot, &mut data[bytes..]);
        }
    }

    /// Whether the first bytes of the connection may be a PROXY header.
    pub(crate) fn is_proxied(&self, slot: u32) -> bool {
        self.conns.get(slot).source == PROXIED
    }

    /// Takes a trusted proxy's word for who asks. Returns `false` where the client has been refused.
    pub(crate) fn admits_forwarded(&mut self, slot: u32, forwarded_for: &[&[u8]]) -> bool {
        if self.conns.get(slot).source != FORWARDED {
            return true;
        }
        let proxies = &self.config.proxies;
        let client = if proxies.forwarded_for { proxies.client(forwarded_for) } else { Client::Own };
        self.introduce_client(slot, client);
        self.conns.get(slot).phase == Phase::Head
    }

    /// Whether what the request says of `X-Forwarded-Host` is a trusted proxy's word.
    pub(crate) fn is_forwarded(&self, slot: u32) -> bool {
        self.config.proxies.forwarded_for && self.conns.get(slot).source == FORWARDED
    }

    /// The connection has gone.
    pub(crate) fn leave_source(&mut self, slot: u32) {
        self.introducers.remove(&slot);
        let source = std::mem::replace(&mut self.conns.get_mut(slot).source, NONE);
        if is_source(source) {
            self.sources.leave(source, self.now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Event;

    #[test]
    fn a_newcomer_that_subscribes_at_once_needs_no_meter() {
        let mut core = Core::new(Config::default());
        let head = "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        let command = r#"{"type":"SUBSCRIBE","room":"room1"}"#;
        let mut frame = [&[0x81, 0x80 | command.len() as u8, 0, 0, 0, 0], command.as_bytes()].concat();
        let now = Time::from_millis(60_000);
        let mut turn = core.turn(now);
        let conn = turn.open().unwrap();
        turn.feed(Event::Bytes { conn, data: &mut head.to_owned().into_bytes() });
        drop(turn.finish());
        for commands in 1..=3 {
            let mut turn = core.turn(now);
            turn.feed(Event::Bytes { conn, data: &mut frame });
            drop(turn.finish());
            let metered = core.conns.get(conn.slot() as u32).meter.is_some();
            assert_eq!(metered, commands > 1, "{commands} at once");
        }
        let mut turn = core.turn(now + Duration::from_secs(20));
        turn.feed(Event::Timeout);
        drop(turn.finish());
        assert!(core.conns.get(conn.slot() as u32).meter.is_none(), "it owes nothing any more");
    }
}
