//! Who may connect: places, source addresses, and what trusted proxies tell of their clients.

use super::Transport;
use super::pending::Pending;
use super::source::{FORWARDED, PROXIED, is_source};
use crate::config::Admission;
use crate::context::Context;
use crate::dialect::Dialect;
use crate::error::Refused;
use crate::event::Elsewhere;
use crate::hash::take_of;
use crate::id::ConnId;
use crate::limits::proxy::{self, Client, Start};
use crate::protocol::command::check_room_name;
use crate::slots::{Ending, NONE, Phase, mark};
use crate::ws::handshake::Response;
use core::net::IpAddr;

/// Places.
impl Transport {
    /// A new connection, on which a request head is expected.
    pub fn open(&mut self, cx: &mut Context, peer: Option<IpAddr>) -> Result<ConnId, Refused> {
        if cx.slots.live()
            >= cx.config.admission.connections_max.saturating_add(cx.config.admission.surplus_connections_max)
        {
            return Err(Refused::Full);
        }
        let conn = cx.slots.insert(Phase::Head, cx.now);
        let slot = conn.slot() as u32;
        cx.metrics.pending_upgrades_now += 1;
        self.wheel.set(slot, cx.now + cx.config.timeouts.handshake);
        self.enter_pending(cx, slot, Phase::Head);
        if let Some(peer) = peer {
            self.introduce(cx, slot, peer);
        }
        Ok(conn)
    }

    /// A WebSocket that someone else has upgraded. These rooms are to be joined next.
    pub fn open_websocket(
        &mut self,
        cx: &mut Context,
        dialect: Dialect,
        rooms: &[&str],
        peer: Option<IpAddr>,
    ) -> Result<ConnId, Refused> {
        let are_names = rooms.iter().all(|room| check_room_name(room, cx.config.limits.room_name_bytes_max).is_ok());
        if !are_names || rooms.len() > usize::from(cx.config.limits.rooms_per_connection_max) {
            cx.metrics.upgrades_invalid += 1;
            return Err(Refused::Rooms);
        }
        let source = self.take_place_of(cx, peer)?;
        cx.metrics.connections_now += 1;
        let id = cx.slots.insert(Phase::Open, cx.now);
        let slot = id.slot() as u32;
        let conn = cx.slots.get_mut(slot);
        (conn.dialect, conn.by_message, conn.source) = (dialect, true, source);
        self.begin_open(cx, slot);
        Ok(id)
    }

    /// A place for one more WebSocket, whose connection this core does not know yet. Returns its source.
    fn take_place_of(&mut self, cx: &mut Context, peer: Option<IpAddr>) -> Result<u32, Refused> {
        let Admission { connections_max, surplus_connections_max, .. } = cx.config.admission;
        if !self.is_draining && cx.slots.live() >= connections_max.saturating_add(surplus_connections_max) {
            cx.metrics.upgrades_refused_full += 1;
            return Err(Refused::Full);
        }
        self.check_places(cx)?;
        let source = match peer.map(|peer| self.sources.arrive(peer, cx.now)) {
            None => NONE,
            Some(Ok(source)) => source,
            Some(Err(_)) => {
                cx.metrics.upgrades_refused_address += 1;
                return Err(Refused::Address);
            }
        };
        cx.metrics.upgrades_accepted += 1;
        Ok(source)
    }

    /// A place for one more WebSocket.
    pub(super) fn take_place(&mut self, cx: &mut Context) -> Result<(), Refused> {
        self.check_places(cx)?;
        cx.metrics.upgrades_accepted += 1;
        Ok(())
    }

    fn check_places(&self, cx: &mut Context) -> Result<(), Refused> {
        if self.is_draining {
            cx.metrics.upgrades_refused_draining += 1;
            return Err(Refused::ShuttingDown);
        }
        let open = (cx.metrics.connections_now as usize).saturating_add(self.elsewhere.websockets);
        if open >= cx.config.admission.connections_max {
            cx.metrics.upgrades_refused_full += 1;
            return Err(Refused::Full);
        }
        Ok(())
    }

    /// Other cores have this many connections.
    pub fn hear_elsewhere(&mut self, elsewhere: Elsewhere) {
        self.elsewhere = elsewhere;
    }

    /// Puts a connection that comes to this phase into its queue, if it has one.
    pub(super) fn enter_pending(&mut self, cx: &Context, slot: u32, phase: Phase) {
        let slots = &cx.slots;
        self.pending.enter(slots.id(slot), phase, |conn| slots.slot(conn).map(|slot| slots.get(slot).phase));
    }

    /// Ends pending connections if there are too many, or if they take the last places. It runs at the end of a turn, so that no
    /// connection is ended whose request is here already.
    pub fn make_room(&mut self, cx: &mut Context) {
        let Admission { connections_max, surplus_connections_max, pending_upgrades_max, .. } = cx.config.admission;
        // Half the surplus: an adapter that stops accepting when all of it is taken begins again below that.
        let places = connections_max.saturating_add(surplus_connections_max / 2);
        let crowded = cx.slots.live().saturating_add(self.elsewhere.connections).saturating_sub(places);
        // There is always room for one.
        let aim = pending_upgrades_max.min(self.pending.count().saturating_sub(crowded)).max(1);
        while self.pending.count() > aim {
            let Some(oldest) = self.pending.pop() else { return };
            if let Some(slot) = cx.slots.slot(oldest) {
                self.evict(cx, slot);
            }
        }
    }

    fn evict(&mut self, cx: &mut Context, slot: u32) {
        match cx.slots.get(slot).phase {
            Phase::Head => {
                cx.metrics.upgrades_evicted += 1;
                self.respond(cx, slot, Response::EVICTED, false);
            }
            Phase::Refused => {}
            _ => return,
        }
        debug_assert!(Pending::includes(cx.slots.get(slot).phase));
        self.enter_phase(cx, slot, Phase::Discarding);
        if cx.slots.is_marked(slot, mark::LAGGING) {
            self.end_now(cx, slot);
        } else {
            // What it is told in this turn still goes out; it is not waited for.
            self.end_when_written(cx, slot, Ending::Close);
        }
    }
}

/// Who a connection comes from.
impl Transport {
    /// Counts the connection for this address, or refuses it; a trusted proxy's waits for what that tells.
    fn introduce(&mut self, cx: &mut Context, slot: u32, address: IpAddr) {
        let address = address.to_canonical();
        if !cx.config.admission.proxies.trusts(address) {
            return self.count(cx, slot, address);
        }
        let source = if cx.config.admission.proxies.protocol { PROXIED } else { FORWARDED };
        cx.slots.get_mut(slot).source = source;
        if self.sources.are_kept() {
            self.introducers.insert(slot, address);
        }
    }

    /// The client of a trusted proxy is known, or will not be. It is not asked for again, and cannot send a second PROXY
    /// header, but may be a proxy that is trusted in its turn.
    fn introduce_client(&mut self, cx: &mut Context, slot: u32, client: Client) {
        cx.slots.get_mut(slot).source = NONE;
        let introducer = take_of(&mut self.introducers, slot);
        match (client, introducer) {
            (Client::Named(client), _) => self.introduce(cx, slot, client),
            // A client that its proxy does not name counts with all others that it does not name, because this would be a way
            // around the limits.
            (Client::Untold, Some(proxy)) => self.count(cx, slot, proxy),
            (Client::Untold, None) | (Client::Own, _) => {}
        }
    }

    /// Counts the connection for this address, or refuses it.
    fn count(&mut self, cx: &mut Context, slot: u32, address: IpAddr) {
        match self.sources.arrive(address, cx.now) {
            Ok(source) => cx.slots.get_mut(slot).source = source,
            Err(over) => {
                cx.metrics.upgrades_refused_address += 1;
                self.respond(cx, slot, Response::too_many(over.reason), false);
            }
        }
    }

    /// Reads the first bytes of a trusted proxy's connection. Returns how many of them a PROXY header takes, if a request head is to
    /// be looked for behind them.
    pub(super) fn proxy_header(&mut self, cx: &mut Context, slot: u32, data: &[u8]) -> Option<usize> {
        let (bytes, client) = match proxy::start(data, cx.config.limits.request_head_bytes_max) {
            Start::Unfinished => {
                self.hold_proxied(slot, data);
                return None;
            }
            Start::Malformed => {
                cx.metrics.upgrades_invalid += 1;
                self.respond(cx, slot, Response::bad_request("a malformed PROXY protocol header"), false);
                return None;
            }
            Start::Other => (0, Client::Own),
            Start::Header(bytes, client) => (bytes, client),
        };
        if client != Client::Own {
            self.introduce_client(cx, slot, client);
        }
        let conn = cx.slots.get_mut(slot);
        if conn.source == PROXIED {
            conn.source = FORWARDED;
        }
        (conn.phase == Phase::Head && bytes < data.len()).then_some(bytes)
    }

    /// Whether the first bytes of the connection may be a PROXY header.
    pub(super) fn is_proxied(&self, cx: &Context, slot: u32) -> bool {
        cx.slots.get(slot).source == PROXIED
    }

    /// Takes a trusted proxy's word for who asks. Returns `false` where the client has been refused.
    pub(super) fn admits_forwarded(&mut self, cx: &mut Context, slot: u32, forwarded_for: &[&[u8]]) -> bool {
        if cx.slots.get(slot).source != FORWARDED {
            return true;
        }
        let proxies = &cx.config.admission.proxies;
        let client = if proxies.forwarded_for { proxies.client(forwarded_for) } else { Client::Own };
        self.introduce_client(cx, slot, client);
        cx.slots.get(slot).phase == Phase::Head
    }

    /// Whether what the request says of `X-Forwarded-Host` is a trusted proxy's word.
    pub(super) fn is_forwarded(&self, cx: &Context, slot: u32) -> bool {
        cx.config.admission.proxies.forwarded_for && cx.slots.get(slot).source == FORWARDED
    }

    /// Where the connection comes from, if that is kept.
    pub fn address(&self, cx: &Context, slot: u32) -> Option<IpAddr> {
        let source = cx.slots.get(slot).source;
        is_source(source).then(|| self.sources.address(source))
    }

    /// The connection has gone.
    pub(super) fn leave_source(&mut self, cx: &mut Context, slot: u32) {
        take_of(&mut self.introducers, slot);
        let source = std::mem::replace(&mut cx.slots.get_mut(slot).source, NONE);
        if is_source(source) {
            self.sources.leave(source, cx.now);
        }
    }
}
