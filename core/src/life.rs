//! A connection's life: request head, frames, heartbeat, closing, in the phases of `conn::Phase`.

use crate::config::Config;
use crate::conn::{Conn, Ending, NONE, Phase, coarse, fine, mark};
use crate::core::{Core, TOO_SLOW};
use crate::dialect::{self, Dialect};
use crate::error::{Refused, Violation};
use crate::event::ConnId;
use crate::limits::meter::{Limit, Pace};
use crate::limits::pending::Pending;
use crate::limits::unread::SURPLUS_BYTES_PER_STEP;
use crate::protocol::command::check_room_name;
use crate::ws::Message;
use crate::ws::decoder::{Decoded, Decoder, Limits};
use crate::ws::deflate::Agreed;
use crate::ws::encode;
use crate::ws::handshake::{self, Kind, Offered, Parsed, Response};
use core::net::IpAddr;
use std::time::Duration;

/// Close code for a connection that gave no sign of life: in the range that means "reconnect with backoff".
const NO_SIGN_OF_LIFE: u16 = 4000;
/// When a deadline is over and bytes of the client have yet to be read, it is judged again after so long.
const UNREAD_RECHECK: Duration = Duration::from_millis(50);
/// The page is one file: whatever is not in it is not loaded, nor is it framed.
const PAGE_HEADERS: &str = "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                            connect-src 'self' ws: wss:; img-src data:; base-uri 'none'; form-action 'none'; \
                            frame-ancestors 'none'\r\nReferrer-Policy: no-referrer\r\n";

impl Core {
    pub(crate) fn open(&mut self, peer: Option<IpAddr>) -> Result<ConnId, Refused> {
        if self.conns.live() >= self.config.connections_max.saturating_add(self.config.surplus_connections_max) {
            return Err(Refused::Full);
        }
        let conn = self.conns.insert(Phase::Head, self.now);
        self.metrics.pending_upgrades_now += 1;
        self.wheel.set(conn.slot() as u32, self.now + self.config.handshake_timeout);
        self.enter_pending(conn, Phase::Head);
        if let Some(peer) = peer {
            self.introduce(conn.slot() as u32, peer);
        }
        Ok(conn)
    }

    pub(crate) fn open_websocket(
        &mut self,
        dialect: Dialect,
        rooms: &[&str],
        peer: Option<IpAddr>,
    ) -> Result<ConnId, Refused> {
        let Config { connections_max, surplus_connections_max, room_name_bytes_max, .. } = self.config;
        let are_names = rooms.iter().all(|room| check_room_name(room, room_name_bytes_max).is_ok());
        if !are_names || rooms.len() > usize::from(self.config.rooms_per_connection_max) {
            self.metrics.upgrades_invalid += 1;
            return Err(Refused::Rooms);
        }
        if self.is_draining() {
            self.metrics.upgrades_refused_draining += 1;
            return Err(Refused::ShuttingDown);
        }
        if self.open_websockets() >= connections_max
            || self.conns.live() >= connections_max.saturating_add(surplus_connections_max)
        {
            self.metrics.upgrades_refused_full += 1;
            return Err(Refused::Full);
        }
        let source = match peer.map(|peer| self.sources.arrive(peer, self.now)) {
            None => NONE,
            Some(Ok(source)) => source,
            Some(Err(_)) => {
                self.metrics.upgrades_refused_address += 1;
                return Err(Refused::Address);
            }
        };
        self.metrics.upgrades_accepted += 1;
        self.metrics.connections_now += 1;
        let id = self.conns.insert(Phase::Open, self.now);
        let slot = id.slot() as u32;
        let conn = self.conns.get_mut(slot);
        (conn.dialect, conn.by_message, conn.source) = (dialect, true, source);
        self.begin_websocket(slot);
        for room in if rooms.is_empty() { dialect.own_rooms() } else { rooms } {
            self.subscribe(slot, room, None);
        }
        Ok(id)
    }

    fn open_websockets(&self) -> usize {
        (self.metrics.connections_now as usize).saturating_add(self.elsewhere.websockets)
    }

    /// What is the same for every WebSocket that begins.
    fn begin_websocket(&mut self, slot: u32) {
        self.begin_rested(slot);
        self.journal.opened(self.conns.id(slot), self.conns.get(slot).dialect, self.now);
        self.wheel.set(slot, self.now + self.config.ping_interval);
    }

    /// Changes the phase, and the gauges with it.
    pub(crate) fn enter_phase(&mut self, slot: u32, phase: Phase) {
        let conn = self.conns.get_mut(slot);
        let before = std::mem::replace(&mut conn.phase, phase);
        match before {
            Phase::Head => self.metrics.pending_upgrades_now -= 1,
            Phase::Open => {
                self.metrics.connections_now -= 1;
                self.metrics.compressed_connections_now -= u64::from(conn.window.is_some());
            }
            _ => {}
        }
        if phase == Phase::Open {
            self.metrics.connections_now += 1;
            self.metrics.compressed_connections_now += u64::from(conn.window.is_some());
        }
        if !matches!(phase, Phase::Open | Phase::Closing) {
            conn.meter = None;
            if matches!(before, Phase::Open | Phase::Closing) {
                self.unfinished.forget(slot);
                self.unread.take(slot);
            }
        }
        if phase != Phase::Open && std::mem::take(&mut conn.errors) > 0 {
            self.erring.remove(&slot);
        }
        if before == Phase::Open {
            self.journal.closed(self.conns.id(slot), self.now);
        }
        if before != phase {
            self.pending.leave(before);
            self.enter_pending(self.conns.id(slot), phase);
        }
    }

    pub(crate) fn bytes(&mut self, slot: u32, data: &mut [u8]) {
        if data.is_empty() {
            // No sign of life, and not the start of a head.
            return;
        }
        let conn = self.conns.get(slot);
        if conn.by_message {
            return;
        }
        let phase = conn.phase;
        self.hear(slot, data.len());
        match phase {
            Phase::Head => self.head(slot, data),
            Phase::Open | Phase::Closing => self.frames(slot, data),
            Phase::Refused | Phase::Discarding | Phase::Ended | Phase::Free => {}
        }
    }

    /// A message of a connection whose frames someone else reads.
    pub(crate) fn read_message(&mut self, slot: u32, message: Message<'_>) {
        let conn = self.conns.get(slot);
        if !conn.by_message {
            return;
        }
        let phase = conn.phase;
        let bytes = message.payload_bytes();
        self.hear(slot, bytes);
        match phase {
            Phase::Open | Phase::Closing if !self.may_read(slot, bytes) => {}
            Phase::Open | Phase::Closing => match message.check(self.config.message_bytes_max) {
                Ok(()) => {
                    self.surplus_bytes = 0;
                    self.message(slot, message);
                    self.charge_surplus(slot);
                }
                Err(violation) => self.violation(slot, violation),
            },
            // There is no end of file to wait for behind it.
            Phase::Discarding if matches!(message, Message::Close(_)) => self.end_when_written(slot, Ending::Close),
            Phase::Head | Phase::Refused | Phase::Discarding | Phase::Ended | Phase::Free => {}
        }
    }

    /// Something came from the peer: a sign of life.
    fn hear(&mut self, slot: u32, bytes: usize) {
        self.metrics.bytes_in += bytes as u64;
        self.begin_pace(slot);
        let conn = self.conns.get_mut(slot);
        conn.last_seen = coarse(self.now);
        conn.pinged = false;
    }

    pub(crate) fn head(&mut self, slot: u32, data: &mut [u8]) {
        if self.is_proxied(slot) {
            return self.proxied_head(slot, data);
        }
        let bytes_max = self.config.request_head_bytes_max;
        let Some(mut held) = self.heads.remove(&slot) else {
            // An empty line may precede the request line (RFC 9112 §2.2).
            if data.first().is_some_and(|byte| !matches!(byte, b'A'..=b'Z' | b'\r' | b'\n')) {
                self.metrics.upgrades_invalid += 1;
                return self.respond(slot, Response::not_http(data[0]), false);
            }
            return match handshake::head_end(&data[..data.len().min(bytes_max)], 0) {
                Some(end) => {
                    let (head, rest) = data.split_at_mut(end);
                    self.answer(slot, head, rest);
                }
                None => self.hold_head(slot, data.to_vec()),
            };
        };
        let searched = held.len();
        let window = data.len().min(bytes_max - searched);
        held.extend_from_slice(&data[..window]);
        match handshake::head_end(&held, searched) {
            Some(end) => self.answer(slot, &held[..end], &mut data[end - searched..]),
            None => self.hold_head(slot, held),
        }
    }

    fn hold_head(&mut self, slot: u32, held: Vec<u8>) {
        if held.len() >= self.config.request_head_bytes_max {
            self.metrics.upgrades_invalid += 1;
            return self.respond(slot, Response::HEAD_TOO_LARGE, false);
        }
        self.heads.insert(slot, held);
    }

    /// Answers a whole request head; `rest` is what the client sent after it.
    fn answer(&mut self, slot: u32, head: &[u8], rest: &mut [u8]) {
        let parsed = match handshake::parse(head, self.config.request_headers_max) {
            Ok(parsed) => parsed,
            Err(response) => {
                self.metrics.upgrades_invalid += 1;
                return self.respond(slot, response, false);
            }
        };
        let is_forwarded = self.is_forwarded(slot);
        if !self.admits_forwarded(slot, &parsed.forwarded_for) {
            return;
        }
        match parsed.kind {
            Kind::Get { head_only, no_upgrade, wants_websocket } => {
                if self.is_of_a_websocket(&parsed, wants_websocket) {
                    self.metrics.upgrades_invalid += 1;
                    return self.respond(slot, Response::upgrade_required(no_upgrade), head_only);
                }
                self.metrics.http_requests += 1;
                self.get(slot, parsed.path, head_only);
            }
            Kind::Options => {
                self.metrics.http_requests += 1;
                self.respond(slot, Response::OPTIONS, false);
            }
            Kind::Upgrade { .. } if !self.allows(&parsed, is_forwarded) => {
                self.metrics.upgrades_refused_origin += 1;
                self.respond(slot, Response::ORIGIN, false);
            }
            Kind::Upgrade { key, subprotocols, compression } => {
                let compression = compression.filter(|_| self.config.compression.is_some());
                self.upgrade(slot, (parsed.path, parsed.query), key, subprotocols, compression, rest);
            }
        }
    }

    /// Whether a request without an upgrade is for a WebSocket all the same. At `/` there is a page, too.
    fn is_of_a_websocket(&self, parsed: &Parsed<'_>, wants_websocket: bool) -> bool {
        let is_one = || !matches!(dialect::route(parsed.path, parsed.query, &self.config), Err(None));
        (parsed.path != "/" || wants_websocket) && is_one()
    }

    fn upgrade(
        &mut self,
        slot: u32,
        (path, query): (&str, &str),
        key: &str,
        subprotocols: Offered<'_>,
        compression: Option<Agreed>,
        rest: &mut [u8],
    ) {
        let route = match dialect::route(path, query, &self.config) {
            Ok(route) => route,
            // Before it is told to come back later: there will be nothing for it then either.
            Err(reason) => {
                self.metrics.upgrades_invalid += 1;
                let response = match &reason {
                    Some(reason) => Response::bad_request(reason),
                    None => Response::NOT_FOUND,
                };
                return self.respond(slot, response, false);
            }
        };
        if self.is_draining() {
            self.metrics.upgrades_refused_draining += 1;
            return self.respond(slot, Response::unavailable("shutting down"), false);
        }
        if self.open_websockets() >= self.config.connections_max {
            self.metrics.upgrades_refused_full += 1;
            return self.respond(slot, Response::unavailable("as many connections as allowed are open"), false);
        }
        self.metrics.upgrades_accepted += 1;
        let subprotocol = route.dialect.subprotocol(subprotocols, self.config.subprotocols);
        handshake::write_accept(self.stream(slot), key, subprotocol, compression);
        let conn = self.conns.get_mut(slot);
        conn.dialect = route.dialect;
        conn.window = compression.map(|agreed| agreed.window);
        self.enter_phase(slot, Phase::Open);
        self.begin_websocket(slot);
        for room in &route.rooms {
            self.subscribe(slot, room, None);
        }
        self.frames(slot, rest);
    }

    /// Whether the page that asks may connect. A trusted proxy may know this server by another name than the page does.
    fn allows(&self, parsed: &Parsed<'_>, is_forwarded: bool) -> bool {
        let forwarded = parsed.forwarded_host.iter().filter(|_| is_forwarded);
        let forwarded =
            forwarded.filter_map(|hosts| std::str::from_utf8(hosts).ok()).flat_map(|hosts| hosts.split(','));
        self.config.origins.allow(parsed.origin, parsed.host.into_iter().chain(forwarded.map(str::trim)))
    }

    fn get(&mut self, slot: u32, path: &str, head_only: bool) {
        match dialect::without_trailing_slash(path) {
            "" => {
                let page = Response {
                    headers: PAGE_HEADERS,
                    content_type: "text/html; charset=utf-8",
                    ..Response::text("200 OK", "")
                };
                self.respond(slot, Response { body: self.config.page, ..page }, head_only);
            }
            "/healthz" => self.respond(slot, Response::text("200 OK", "ok\n"), head_only),
            "/readyz" => {
                // Strangers read this: why the broker is away is for those who run the server.
                let response = match self.readiness() {
                    Err(_) if self.is_draining() => Response::unavailable("shutting down\n"),
                    Err(_) => Response::unavailable("the broker cannot be reached\n"),
                    Ok(()) if self.unready_elsewhere.is_some() => {
                        Response::unavailable("another worker is not ready\n")
                    }
                    Ok(()) => Response::text("200 OK", "ready\n"),
                };
                self.respond(slot, response, head_only);
            }
            _ => self.respond(slot, Response::NOT_FOUND, head_only),
        }
    }

    /// Sends a response other than 101, and ends the connection after it.
    pub(crate) fn respond(&mut self, slot: u32, response: Response<'_>, head_only: bool) {
        self.journal.answered(self.conns.id(slot), &response);
        response.write(self.stream(slot), head_only);
        self.discard(slot);
    }

    /// Reads no more of what the peer sends, and half-closes when everything is written.
    pub(crate) fn discard(&mut self, slot: u32) {
        let was_pending = Pending::includes(self.conns.get(slot).phase);
        self.enter_phase(slot, if was_pending { Phase::Refused } else { Phase::Discarding });
        self.heads.remove(&slot);
        self.conns.get_mut(slot).decoder = Decoder::default();
        self.wheel.set(slot, self.now + self.config.close_timeout);
        self.end_when_written(slot, Ending::Shutdown);
    }

    /// Charges a WebSocket for what it sent. Where that is too much, it ends, and what was sent is not looked at.
    fn may_read(&mut self, slot: u32, bytes: usize) -> bool {
        let may = self.charge(slot, Limit::Bytes, bytes);
        match self.conns.get(slot).phase {
            _ if may => {}
            Phase::Open => self.close_too_fast(slot, Limit::Bytes),
            // It has its close frame, and its own is not worth looking for in all that.
            _ => self.discard(slot),
        }
        may
    }

    fn frames(&mut self, slot: u32, data: &mut [u8]) {
        if !self.may_read(slot, data.len()) {
            return;
        }
        if self.unread.has(slot) {
            return self.unread.keep(self.conns.id(slot), data);
        }
        self.read_frames(slot, data);
    }

    /// Looks at the bytes of the connection whose turn it is to have those looked at that were kept.
    fn read_kept(&mut self) {
        if self.is_strained() {
            return;
        }
        let conns = &self.conns;
        if let Some(conn) = self.unread.next(|conn| conns.slot(conn).is_some()) {
            self.read_kept_of(conn.slot() as u32);
        }
    }

    fn read_kept_of(&mut self, slot: u32) {
        let Some(mut kept) = self.unread.take(slot) else { return };
        // The silence before them has made good for what came first.
        self.pace = Pace::default();
        self.read_frames(slot, &mut kept);
    }

    /// Looks at frames, until all are read or they have made so much work that it is somebody else's turn; the rest is kept.
    fn read_frames(&mut self, slot: u32, data: &mut [u8]) {
        self.surplus_bytes = 0;
        // Out of the record while its messages are acted upon, for they borrow from it.
        let conn = self.conns.get_mut(slot);
        let mut decoder = std::mem::take(&mut conn.decoder);
        let limits = Limits {
            message_bytes_max: self.config.message_bytes_max,
            frames_per_message_max: self.config.frames_per_message_max,
            compression: conn.window.is_some(),
        };
        let mut inflater = std::mem::take(&mut self.inflater);
        let (mut at, mut has_ended) = (0, false);
        while at < data.len() && self.surplus_bytes < SURPLUS_BYTES_PER_STEP && self.reads_frames(slot) {
            match decoder.next(&mut data[at..], limits, &mut inflater) {
                Ok((taken, decoded)) => {
                    at += taken;
                    match decoded {
                        Some(Decoded::Message(message)) => self.message(slot, message),
                        Some(Decoded::Fragment) => self.fragment(slot),
                        None => {}
                    }
                }
                Err(violation) => self.violation(slot, violation),
            }
            self.surplus_bytes += inflater.take_surplus();
            has_ended |= decoder.is_between_messages();
        }
        self.inflater = inflater;
        self.charge_surplus(slot);
        if self.reads_frames(slot) {
            decoder.settle();
            let held_bytes = decoder.held_bytes();
            self.conns.get_mut(slot).decoder = decoder;
            if has_ended && !self.unfinished.is_empty() {
                // What is unfinished now is another message, which has its own time.
                self.unfinished.forget(slot);
            }
            self.hold_unfinished(slot, held_bytes);
            if at < data.len() {
                self.unread.keep(self.conns.id(slot), &data[at..]);
            }
        }
    }

    /// Charges a WebSocket for the work that its messages made beyond their bytes. They have been acted upon, so nothing is lost where
    /// it is thrown out for them.
    fn charge_surplus(&mut self, slot: u32) {
        let bytes = std::mem::take(&mut self.surplus_bytes);
        if bytes > 0 {
            self.strain.add(bytes, self.now);
            if self.reads_frames(slot) {
                self.may_read(slot, bytes);
            }
        }
    }

    /// Notes that so many bytes are held of an unfinished message, none where there is none.
    fn hold_unfinished(&mut self, slot: u32, bytes: usize) {
        if bytes > 0 {
            self.unfinished.hold(self.conns.id(slot), bytes, self.now);
            while self.unfinished.bytes() > self.config.unfinished_total_bytes_max
                && let Some(oldest) = self.unfinished.pop()
            {
                self.close_unfinished(oldest, "too many messages are unfinished");
            }
        }
    }

    /// Closes those whose messages have not become whole in time.
    fn end_unfinished(&mut self, has_unread: &mut dyn FnMut(ConnId) -> bool) {
        while let Some(conn) = self.unfinished.pop_older(self.config.message_timeout, self.now) {
            if self.unread.has(conn.slot() as u32) || has_unread(conn) {
                // How it goes on is known when these have been read.
                self.unfinished.begin_again(conn, self.now);
            } else {
                self.close_unfinished(conn, "a message did not end in time");
            }
        }
    }

    fn close_unfinished(&mut self, conn: ConnId, reason: &str) {
        let Some(slot) = self.conns.slot(conn) else { return };
        if self.conns.get(slot).phase == Phase::Open {
            self.metrics.unfinished_closes += 1;
            self.depart(slot, true);
            self.journal.ends(slot, Some(TOO_SLOW), reason);
            encode::close(self.stream(slot), Some(TOO_SLOW), reason);
        }
        // In the midst of a message no close frame of its own can be looked for.
        self.discard(slot);
    }

    fn reads_frames(&self, slot: u32) -> bool {
        matches!(self.conns.get(slot).phase, Phase::Open | Phase::Closing)
    }

    fn fragment(&mut self, slot: u32) {
        // Nothing can be refused of a message that is not whole.
        if self.conns.get(slot).phase == Phase::Open && !self.charge(slot, Limit::Messages, 1) {
            self.close_too_fast(slot, Limit::Messages);
        }
    }

    fn message(&mut self, slot: u32, message: Message<'_>) {
        if self.conns.get(slot).phase == Phase::Closing {
            if let Message::Close(_) = message {
                self.enter_phase(slot, Phase::Discarding);
                self.end_when_written(slot, Ending::Close);
            }
            return;
        }
        if matches!(message, Message::Text(_) | Message::Binary(_)) {
            self.journal.heard(slot);
        }
        match message {
            // It is told to come back in a moment.
            Message::Text(_) | Message::Binary(_) if self.is_draining() => {}
            Message::Text(_) | Message::Binary(_) if !self.charge(slot, Limit::Messages, 1) => {
                self.too_fast(slot, message)
            }
            Message::Ping(_) | Message::Pong(_) if !self.charge(slot, Limit::Pings, 1) => {
                self.close_too_fast(slot, Limit::Pings);
            }
            Message::Text(text) => self.text(slot, text),
            Message::Binary(bytes) => self.binary(slot, bytes),
            Message::Ping(payload) => encode::pong(self.stream(slot), payload),
            Message::Pong(_) => {}
            Message::Close(body) => {
                self.journal.ends(slot, body.map(|(code, _)| code), "the client closed");
                self.depart(slot, true);
                encode::close(self.stream(slot), body.map(|(code, _)| code), "");
                self.discard(slot);
                // RFC 6455 §7.1.1: the server closes first, and there is nothing left to read.
                self.end_when_written(slot, Ending::Close);
            }
        }
    }

    fn violation(&mut self, slot: u32, violation: Violation) {
        if self.conns.get(slot).phase == Phase::Open {
            self.metrics.protocol_closes += 1;
            self.journal.ends(slot, Some(violation.close_code()), violation.reason());
            self.depart(slot, true);
            encode::close(self.stream(slot), Some(violation.close_code()), violation.reason());
        }
        self.discard(slot);
    }

    /// Ends a WebSocket with a close frame, behind everything that is its own so far.
    pub(crate) fn close(&mut self, slot: u32, code: u16, reason: &str) {
        self.journal.ends(slot, Some(code), reason);
        self.depart(slot, true);
        encode::close(self.stream(slot), Some(code), reason);
        self.await_close(slot);
    }

    /// A close frame is on its way: waits for the peer's, but not for ever.
    pub(crate) fn await_close(&mut self, slot: u32) {
        self.enter_phase(slot, Phase::Closing);
        self.wheel.set(slot, self.now + self.config.close_timeout);
    }

    pub(crate) fn closed(&mut self, slot: u32) {
        match self.conns.get(slot).phase {
            Phase::Ended | Phase::Free => {}
            // A client may half-close after its request and still read the answer.
            Phase::Refused | Phase::Discarding => self.end_when_written(slot, Ending::Close),
            Phase::Head | Phase::Open | Phase::Closing => {
                // What it said before it went counts.
                while self.unread.has(slot) {
                    self.read_kept_of(slot);
                }
                if matches!(self.conns.get(slot).phase, Phase::Refused | Phase::Discarding) {
                    return self.end_when_written(slot, Ending::Close);
                }
                self.depart(slot, false);
                self.discard(slot);
                self.end_now(slot);
            }
        }
    }

    pub(crate) fn timeout(&mut self, has_unread: &mut dyn FnMut(ConnId) -> bool) {
        self.read_kept();
        let mut fired = std::mem::take(&mut self.fired);
        self.wheel.expire(self.now, &mut fired);
        for slot in fired.drain(..) {
            self.timer(slot, has_unread);
        }
        self.fired = fired;
        self.end_unfinished(has_unread);
        self.end_lingering();
        self.resubscribe();
        self.end_overdue();
        self.sweep_meters();
    }

    fn timer(&mut self, slot: u32, has_unread: &mut dyn FnMut(ConnId) -> bool) {
        let Conn { phase, pinged, .. } = *self.conns.get(slot);
        let is_judged = phase == Phase::Head || phase == Phase::Open && pinged;
        if is_judged && (self.unread.has(slot) || has_unread(self.conns.id(slot))) {
            return self.wheel.set(slot, self.now + UNREAD_RECHECK);
        }
        match phase {
            Phase::Head => {
                self.metrics.upgrades_timed_out += 1;
                self.respond(slot, Response::TIMED_OUT, false);
            }
            Phase::Open => self.heartbeat(slot),
            Phase::Refused | Phase::Closing | Phase::Discarding => {
                self.enter_phase(slot, Phase::Discarding);
                self.end_now(slot);
            }
            Phase::Ended | Phase::Free => {}
        }
    }

    fn heartbeat(&mut self, slot: u32) {
        let conn = self.conns.get_mut(slot);
        let ping_at = fine(conn.last_seen, self.now) + self.config.ping_interval;
        if conn.pinged {
            self.give_up(slot);
        } else if ping_at <= self.now {
            conn.pinged = true;
            encode::ping(self.stream(slot));
            self.wheel.set(slot, self.now + self.config.pong_timeout);
        } else {
            self.wheel.set(slot, ping_at);
        }
    }

    fn give_up(&mut self, slot: u32) {
        self.metrics.heartbeat_closes += 1;
        self.journal.ends(slot, Some(NO_SIGN_OF_LIFE), "no sign of life");
        self.depart(slot, false);
        let lags = self.conns.is_marked(slot, mark::LAGGING);
        if !lags {
            encode::close(self.stream(slot), Some(NO_SIGN_OF_LIFE), "no sign of life");
        }
        self.discard(slot);
        if lags {
            self.end_now(slot);
        } else {
            self.end_when_written(slot, Ending::Close);
        }
    }
}
