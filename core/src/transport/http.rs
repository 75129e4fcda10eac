//! Requests of HTTP, and what they are answered.

use super::Transport;
use super::credentials::{self, Found};
use super::route::{self, Route};
use crate::context::Context;
use crate::dialect::Dialect;
use crate::error::Refused;
use crate::framing::Framing;
use crate::hash::take_of;
use crate::identity::{Denied, Identity};
use crate::limits::origin::Origins;
use crate::protocol::ErrorCode;
use crate::protocol::command::Start;
use crate::rules::{own_room, user_segment};
use crate::slots::Phase;
use crate::sse::{self, Reader};
use crate::ws::deflate::Agreed;
use crate::ws::handshake::{self, Kind, Offered, Parsed, Response};
use std::borrow::Cow;

/// After how many milliseconds a browser comes back that has lost an event stream, and how much longer some wait than others, so that
/// they do not all come back at once.
const RETRY_MS_MIN: u64 = 500;
const RETRY_MS_SPREAD: u64 = 2_000;

/// The page is one file: whatever is not in it is not loaded, nor is it framed.
const PAGE_HEADERS: &str = "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                            connect-src 'self' ws: wss:; img-src data:; base-uri 'none'; form-action 'none'; \
                            frame-ancestors 'none'\r\nReferrer-Policy: no-referrer\r\n";

/// What `GET /readyz` answers. Strangers read it: why the broker is away is for those who run the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    Ready,
    /// Newcomers may be taken for a moment.
    Draining,
    Stopping,
    /// The broker cannot be reached.
    BrokerAway,
    /// Others that make up the server with this core are not ready.
    OthersAway,
}

/// What is known of who asks for a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Nothing: where clients are asked who they are, the request's credential has to be looked at.
    Unknown,
    /// There is no credential to look at.
    Nobody,
    /// Its credential is good.
    Known,
    /// Its credential is not good.
    Denied(Denied),
}

/// What has become of a request.
#[derive(Debug)]
pub(crate) enum Answered<'a> {
    /// It has its answer, and is over.
    Over,
    /// This has to be looked at first. The head has to be held until then.
    Asks(Found<'a>),
    /// It has opened a WebSocket or an event stream.
    Opened(Opened<'a>),
}

/// What a connection that has just opened is to get.
#[derive(Debug)]
pub(crate) struct Opened<'a> {
    /// These rooms have to be joined next; then what the client sent after the head has to be read.
    pub rooms: Vec<(Cow<'a, str>, Start)>,
    /// Whether it is told who is in them.
    pub presence: bool,
    /// What the client of an event stream says it has seen.
    pub last_event_id: Option<&'a str>,
}

/// What a request opens.
#[derive(Clone, Copy, Debug)]
enum Wanted<'a> {
    WebSocket { key: &'a str, subprotocols: Offered<'a>, compression: Option<Agreed> },
    Events { reader: Option<Reader<'a>>, last_event_id: Option<&'a str> },
}

/// A request head that has come to its end, and what the client sent after it.
#[derive(Debug)]
pub(crate) struct Head<'a> {
    bytes: Bytes<'a>,
    end: usize,
}

#[derive(Debug)]
enum Bytes<'a> {
    /// As they were read.
    Read(&'a mut [u8]),
    /// They came in pieces.
    Held(Vec<u8>),
}

impl Head<'_> {
    /// The head, and what follows it.
    pub fn split(&mut self) -> (&[u8], &mut [u8]) {
        let bytes = match &mut self.bytes {
            Bytes::Read(bytes) => &mut **bytes,
            Bytes::Held(bytes) => bytes,
        };
        let (head, rest) = bytes.split_at_mut(self.end);
        (head, rest)
    }
}

impl Transport {
    /// Takes bytes of a request head; gives it back when it has ended.
    pub fn head<'a>(&mut self, cx: &mut Context, slot: u32, data: &'a mut [u8]) -> Option<Head<'a>> {
        if !self.held.is_empty() && self.held.contains_key(&slot) {
            self.hold_more(cx, slot, data);
            return None;
        }
        if self.is_proxied(cx, slot) {
            return self.proxied_head(cx, slot, data);
        }
        self.plain_head(cx, slot, data)
    }

    /// The same of a connection that begins with no PROXY header.
    fn plain_head<'a>(&mut self, cx: &mut Context, slot: u32, data: &'a mut [u8]) -> Option<Head<'a>> {
        let bytes_max = cx.config.limits.request_head_bytes_max;
        let Some(mut held) = take_of(&mut self.heads, slot) else {
            // An empty line may precede the request line (RFC 9112 §2.2).
            if data.first().is_some_and(|byte| !matches!(byte, b'A'..=b'Z' | b'\r' | b'\n')) {
                cx.metrics.upgrades_invalid += 1;
                self.respond(cx, slot, Response::not_http(data[0]), false);
                return None;
            }
            let Some(end) = handshake::head_end(&data[..data.len().min(bytes_max)], 0) else {
                self.hold_head(cx, slot, data.to_vec());
                return None;
            };
            return Some(Head { bytes: Bytes::Read(data), end });
        };
        let searched = held.len();
        let window = data.len().min(bytes_max - searched);
        held.extend_from_slice(&data[..window]);
        let Some(end) = handshake::head_end(&held, searched) else {
            self.hold_head(cx, slot, held);
            return None;
        };
        held.extend_from_slice(&data[window..]);
        Some(Head { bytes: Bytes::Held(held), end })
    }

    fn hold_head(&mut self, cx: &mut Context, slot: u32, held: Vec<u8>) {
        if held.len() >= cx.config.limits.request_head_bytes_max {
            cx.metrics.upgrades_invalid += 1;
            return self.respond(cx, slot, Response::HEAD_TOO_LARGE, false);
        }
        self.heads.insert(slot, held);
    }

    /// The first bytes of a trusted proxy's connection: the head follows a PROXY header.
    fn proxied_head<'a>(&mut self, cx: &mut Context, slot: u32, data: &'a mut [u8]) -> Option<Head<'a>> {
        let Some(mut held) = take_of(&mut self.heads, slot) else {
            let taken = self.proxy_header(cx, slot, data)?;
            return self.head(cx, slot, &mut data[taken..]);
        };
        held.extend_from_slice(data);
        let taken = self.proxy_header(cx, slot, &held)?;
        held.drain(..taken);
        let end = self.head(cx, slot, &mut held)?.end;
        // A head that has just begun to come is in one piece.
        Some(Head { bytes: Bytes::Held(held), end })
    }

    /// Keeps the first bytes of a trusted proxy's connection until they are more.
    pub(super) fn hold_proxied(&mut self, slot: u32, held: &[u8]) {
        self.heads.insert(slot, held.to_vec());
    }

    /// Keeps a whole head, because its credential is looked at.
    pub fn hold(&mut self, slot: u32, head: Head<'_>) {
        let Head { bytes, end } = head;
        let bytes = match bytes {
            Bytes::Read(bytes) => bytes.to_vec(),
            Bytes::Held(bytes) => bytes,
        };
        self.held.insert(slot, (bytes, end));
    }

    /// Keeps what a client says before its upgrade is answered, as long as that is little: RFC 6455 §4.1 lets it say nothing.
    fn hold_more(&mut self, cx: &mut Context, slot: u32, data: &[u8]) {
        let (bytes, end) = self.held.get_mut(&slot).expect("looked for before");
        if bytes.len() - *end + data.len() > cx.config.limits.request_head_bytes_max {
            cx.metrics.upgrades_invalid += 1;
            let reason = "too much was sent before the upgrade has been answered";
            return self.respond(cx, slot, Response::bad_request(reason), false);
        }
        bytes.extend_from_slice(data);
    }

    /// Takes a head that was held.
    pub fn take_held(&mut self, slot: u32) -> Option<Head<'static>> {
        let (bytes, end) = take_of(&mut self.held, slot)?;
        Some(Head { bytes: Bytes::Held(bytes), end })
    }

    /// Answers a whole request head.
    pub fn answer<'a>(
        &mut self,
        cx: &mut Context,
        slot: u32,
        head: &'a [u8],
        readiness: Readiness,
        (caller, identity): (Caller, Option<&Identity>),
    ) -> Answered<'a> {
        let parsed = match handshake::parse(head, cx.config.limits.request_headers_max) {
            Ok(parsed) => parsed,
            Err(response) => {
                cx.metrics.upgrades_invalid += 1;
                self.respond(cx, slot, response, false);
                return Answered::Over;
            }
        };
        let is_forwarded = self.is_forwarded(cx, slot);
        if !self.admits_forwarded(cx, slot, &parsed.forwarded_for) {
            return Answered::Over;
        }
        let wanted = match parsed.kind {
            Kind::Get { head_only: false, .. } if route::is_of_events(parsed.path) => {
                Wanted::Events { reader: reader(cx, &parsed), last_event_id: parsed.last_event_id }
            }
            Kind::Get { head_only, no_upgrade, wants_websocket } => {
                if is_of_a_websocket(cx, &parsed, wants_websocket) {
                    cx.metrics.upgrades_invalid += 1;
                    self.respond(cx, slot, Response::upgrade_required(no_upgrade), head_only);
                } else {
                    cx.metrics.http_requests += 1;
                    self.get(cx, slot, (parsed.path, head_only), readiness);
                }
                return Answered::Over;
            }
            Kind::Options => {
                cx.metrics.http_requests += 1;
                self.respond(cx, slot, Response::OPTIONS, false);
                return Answered::Over;
            }
            Kind::Upgrade { key, subprotocols, compression } => {
                let compression = compression.filter(|_| cx.config.compression.is_some());
                Wanted::WebSocket { key, subprotocols, compression }
            }
        };
        // Whose credential has been looked at is a caller whose Origin has passed before.
        if caller == Caller::Unknown && !allows(cx, &parsed, is_forwarded) {
            cx.metrics.upgrades_refused_origin += 1;
            cx.journal.refused_page(cx.slots.id(slot), &Response::ORIGIN, parsed.origin.unwrap_or_default());
            self.write_response(cx, slot, Response::ORIGIN, false);
            return Answered::Over;
        }
        let found = cx.config.auth.as_ref().filter(|_| caller == Caller::Unknown).and_then(|auth| {
            let (subprotocols, is_document) = match wanted {
                Wanted::WebSocket { subprotocols, .. } => (subprotocols, false),
                Wanted::Events { .. } => (Offered::default(), true),
            };
            credentials::find(auth, &cx.config.admission.origins, &parsed, subprotocols, is_document)
        });
        self.begin(cx, slot, (parsed.path, parsed.query, wanted), (caller, identity), found)
    }

    /// Opens a WebSocket or an event stream, unless something speaks against it.
    fn begin<'a>(
        &mut self,
        cx: &mut Context,
        slot: u32,
        (path, query, wanted): (&'a str, &'a str, Wanted<'a>),
        (caller, identity): (Caller, Option<&Identity>),
        found: Option<Found<'a>>,
    ) -> Answered<'a> {
        let route = match wanted {
            Wanted::WebSocket { .. } => route::route(path, query, &cx.config),
            Wanted::Events { .. } => route::events(query, &cx.config).map_err(Some),
        };
        let Route { dialect, mut rooms, presence } = match route {
            Ok(route) => route,
            // Before it is told to come back later: there will be nothing for it then either.
            Err(reason) => {
                cx.metrics.upgrades_invalid += 1;
                let response = match &reason {
                    Some(reason) => Response::bad_request(reason),
                    None => Response::NOT_FOUND,
                };
                self.respond(cx, slot, response, false);
                return Answered::Over;
            }
        };
        if let Some(found) = found {
            return Answered::Asks(found);
        }
        let is_events = matches!(wanted, Wanted::Events { .. });
        if let Some(denied) = self.denied(cx, (dialect, is_events), caller)
            && cx.config.auth.as_ref().is_some_and(|auth| !auth.refuses_by_close || is_events)
        {
            self.refuse(cx, slot, denied);
            return Answered::Over;
        }
        let identity = identity.filter(|_| is_events && caller == Caller::Known);
        let own_rooms = identity.map_or_else(Vec::new, |identity| rooms_of(cx, identity));
        if is_events && let Err(reason) = route::check_events(&rooms, &own_rooms, &cx.config) {
            cx.metrics.upgrades_invalid += 1;
            self.respond(cx, slot, Response::bad_request(&reason), false);
            return Answered::Over;
        }
        if let Err(refused) = self.take_place(cx) {
            let why = match refused {
                Refused::ShuttingDown => "shutting down",
                _ => "as many connections as allowed are open",
            };
            self.respond(cx, slot, Response::unavailable(why), false);
            return Answered::Over;
        }
        let (framing, last_event_id) = match wanted {
            Wanted::WebSocket { key, subprotocols, compression } => {
                let subprotocol = dialect.subprotocol(subprotocols, cx.config.subprotocols);
                handshake::write_accept(cx.stream(slot), key, subprotocol, compression);
                (compression.map_or(Framing::Frames, |agreed| Framing::Deflated(agreed.window)), None)
            }
            Wanted::Events { reader, last_event_id } => {
                let retry_ms = RETRY_MS_MIN + self.random.up_to(RETRY_MS_SPREAD);
                sse::write_accept(cx.stream(slot), reader, retry_ms);
                let is_of_several = rooms.len() + own_rooms.len() > 1;
                for (room, start) in &mut rooms {
                    let seen = last_event_id.and_then(|id| sse::position_in(id, room, is_of_several));
                    *start = seen.map_or(*start, Start::Since);
                }
                (if is_of_several { Framing::EventsOfSeveral } else { Framing::Events }, last_event_id)
            }
        };
        let conn = cx.slots.get_mut(slot);
        (conn.dialect, conn.framing) = (dialect, framing);
        self.enter_phase(cx, slot, Phase::Open);
        self.begin_open(cx, slot);
        Answered::Opened(Opened { rooms, presence, last_event_id })
    }

    /// Why the caller may not come in: also for want of a credential, where its dialect has no word in which one could follow.
    fn denied(&self, cx: &Context, (dialect, is_events): (Dialect, bool), caller: Caller) -> Option<Denied> {
        match (caller, &cx.config.auth) {
            (Caller::Denied(denied), _) => Some(denied),
            (Caller::Unknown | Caller::Nobody, Some(auth))
                if auth.required && !(auth.command && dialect.has_replies() && !is_events) =>
            {
                Some(Denied::Unauthorised)
            }
            (Caller::Unknown | Caller::Nobody | Caller::Known, _) => None,
        }
    }

    fn refuse(&mut self, cx: &mut Context, slot: u32, denied: Denied) {
        cx.metrics.upgrades_refused_auth += 1;
        let response = match denied {
            Denied::Unauthorised => Response::UNAUTHORISED,
            Denied::Expired => Response::EXPIRED,
            Denied::Forbidden => Response::FORBIDDEN,
            Denied::Unavailable => Response::UNVERIFIED,
        };
        self.respond(cx, slot, response, false);
    }

    /// Answers an event stream's request otherwise than has been begun in this turn, by why its last room was refused. It is a member of
    /// none.
    pub fn refuse_stream(&mut self, cx: &mut Context, slot: u32) {
        let reason = sse::last_text(cx.stream(slot)).unwrap_or_default();
        let status = match serde_json::from_slice::<Why<'_>>(&reason).map(|why| why.code) {
            Ok(code) if code == ErrorCode::Unauthorised.as_str() => "401 Unauthorized",
            Ok(code) if code == ErrorCode::Forbidden.as_str() => "403 Forbidden",
            Ok(code) if code == ErrorCode::RoomFull.as_str() => "503 Service Unavailable",
            _ => "400 Bad Request",
        };
        cx.fanout.silence(&mut cx.slots, slot);
        self.respond(cx, slot, Response::json(status, &String::from_utf8_lossy(&reason)), false);
    }

    /// Refuses an upgrade that waits for its credential, because its user has as many connections as allowed.
    pub fn refuse_crowded(&mut self, cx: &mut Context, slot: u32) {
        cx.metrics.upgrades_refused_user += 1;
        self.respond(cx, slot, Response::too_many("too many connections of this user"), false);
    }

    /// What is the same for every connection that opens.
    pub(super) fn begin_open(&mut self, cx: &mut Context, slot: u32) {
        cx.limits.begin_rested(&mut cx.slots, slot, cx.now);
        let dialect: Dialect = cx.slots.get(slot).dialect;
        cx.journal.opened(cx.slots.id(slot), dialect, cx.now);
        let conn = cx.slots.id(slot);
        let address = self.address(cx, slot);
        cx.notices.opened(conn, dialect, address);
        self.wheel.set(slot, cx.now + cx.config.timeouts.ping_interval);
    }

    fn get(&mut self, cx: &mut Context, slot: u32, (path, head_only): (&str, bool), readiness: Readiness) {
        let response = match (route::without_trailing_slash(path), readiness) {
            // Its body would not end.
            (_, _) if route::is_of_events(path) => {
                Response { content_type: "text/event-stream", ..Response::text("200 OK", "") }
            }
            ("", _) => Response {
                headers: PAGE_HEADERS,
                content_type: "text/html; charset=utf-8",
                body: cx.config.page,
                ..Response::text("200 OK", "")
            },
            ("/healthz", _) => Response::text("200 OK", "ok\n"),
            ("/readyz", Readiness::Ready) => Response::text("200 OK", "ready\n"),
            ("/readyz", Readiness::Draining) => Response::unavailable("draining\n"),
            ("/readyz", Readiness::Stopping) => Response::unavailable("shutting down\n"),
            ("/readyz", Readiness::BrokerAway) => Response::unavailable("the broker cannot be reached\n"),
            ("/readyz", Readiness::OthersAway) => Response::unavailable("another worker is not ready\n"),
            _ => Response::NOT_FOUND,
        };
        self.respond(cx, slot, response, head_only);
    }

    /// Sends a response other than 101, and ends the connection after it.
    pub fn respond(&mut self, cx: &mut Context, slot: u32, response: Response<'_>, head_only: bool) {
        cx.journal.answered(cx.slots.id(slot), &response);
        self.write_response(cx, slot, response, head_only);
    }

    fn write_response(&mut self, cx: &mut Context, slot: u32, response: Response<'_>, head_only: bool) {
        response.write(cx.stream(slot), head_only);
        self.discard(cx, slot);
    }

    /// No WebSocket is taken any more. A connection that has begun to ask is told so; one that has not is closed.
    pub fn drain(&mut self, cx: &mut Context) {
        self.is_draining = true;
        for slot in cx.slots.slots() {
            if cx.slots.get(slot).phase != Phase::Head {
                continue;
            }
            if take_of(&mut self.heads, slot).is_some() || self.held.contains_key(&slot) {
                cx.metrics.upgrades_refused_draining += 1;
                self.respond(cx, slot, Response::unavailable("shutting down"), false);
            } else {
                self.hang_up(cx, slot);
            }
        }
    }

    /// Whether that has been said.
    pub fn is_draining(&self) -> bool {
        self.is_draining
    }
}

/// Whether a request without an upgrade is for a WebSocket all the same. At `/` there is a page, too.
fn is_of_a_websocket(cx: &Context, parsed: &Parsed<'_>, wants_websocket: bool) -> bool {
    let is_one = || !matches!(route::route(parsed.path, parsed.query, &cx.config), Err(None));
    (parsed.path != "/" || wants_websocket) && is_one()
}

/// The rooms that its user joins anyway.
fn rooms_of<'a>(cx: &Context, identity: &'a Identity) -> Vec<Cow<'a, str>> {
    let joins_own = cx.config.auth.as_ref().is_some_and(|auth| auth.own_rooms);
    let own = joins_own.then(|| own_room(&user_segment(&identity.user)).into());
    own.into_iter().chain(identity.join.iter().map(|room| Cow::Borrowed(&**room))).collect()
}

/// Why a room was refused, as its client is told.
#[derive(serde::Deserialize)]
struct Why<'a> {
    #[serde(borrow)]
    code: &'a str,
}

/// The page of another origin that is to read an event stream, if one asks.
fn reader<'a>(cx: &Context, parsed: &Parsed<'a>) -> Option<Reader<'a>> {
    let with_credentials = cx.config.admission.origins != Origins::Any;
    parsed.origin.map(|origin| Reader { origin, with_credentials })
}

/// Whether the page that asks may connect. A trusted proxy may know this server by another name than the page does.
fn allows(cx: &Context, parsed: &Parsed<'_>, is_forwarded: bool) -> bool {
    let forwarded = parsed.forwarded_host.iter().filter(|_| is_forwarded);
    let forwarded = forwarded.filter_map(|hosts| std::str::from_utf8(hosts).ok()).flat_map(|hosts| hosts.split(','));
    cx.config.admission.origins.allow(parsed.origin, parsed.host.into_iter().chain(forwarded.map(str::trim)))
}
