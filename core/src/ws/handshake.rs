//! The HTTP/1.1 request head: upgrade (RFC 6455 §4.2) or a plain request, and the bytes of each answer.
//! What lives at which path is told by the caller.

use super::deflate::{self, Agreed};
use super::fields::{Fields, Name, has_token, is_token, tokens};
use httparse::{EMPTY_HEADER, Request, Status};
use std::fmt;
use std::io::Write;
use std::mem::MaybeUninit;
use tungstenite::handshake::derive_accept_key;

pub use super::response::Response;

/// Header fields that are read without an allocation: all that there may be, by default.
const FEW_HEADERS: usize = 100;

const PROXY_OF_STRANGER: &str =
    "not an HTTP request; a PROXY protocol header is taken from trusted proxies only, with proxy.protocol = on";

/// The subprotocol of the dialect [`Fanfare`](crate::Dialect::Fanfare); selected there when a client offers it.
pub const SUBPROTOCOL: &str = "fanfare.v1";
/// How the names of all subprotocols begin that have a meaning here.
const OWN_SUBPROTOCOLS: &[u8] = b"fanfare.";
/// How the one begins that holds a secret.
const TOKEN_SUBPROTOCOL: &[u8] = b"fanfare.token.";

const NO_UPGRADE: &str = "a WebSocket is here, and no Upgrade header arrived; does a proxy drop it? (nginx: \
                          `proxy_set_header Upgrade $http_upgrade` and `proxy_set_header Connection \"upgrade\"`)";
const NO_UPGRADE_HTTP_1_0: &str = "a WebSocket is here, and HTTP/1.0 arrived, without an Upgrade header; is a proxy not told to \
                                   pass it on? (nginx: `proxy_http_version 1.1`, and `proxy_set_header` for Upgrade and \
                                   Connection)";
const OTHER_UPGRADE: &str = "a WebSocket is here, and the Upgrade header names another protocol than websocket, such as h2c, \
                             which is not spoken here";
const UPGRADE_BY_HEAD: &str = "a WebSocket is here, and is asked for by GET";

/// Where the request head ends in `data`, given that it does not end in the first `searched` bytes.
///
/// The end is looked for before anything is parsed, so that however the head arrives it is parsed once.
pub fn head_end(data: &[u8], searched: usize) -> Option<usize> {
    let from = searched.saturating_sub(3);
    let mut at = from;
    while let Some(line_feed) = data[at..].iter().position(|byte| *byte == b'\n') {
        at += line_feed + 1;
        match data[at..] {
            [b'\n', ..] => return Some(at + 1),
            [b'\r', b'\n', ..] => return Some(at + 2),
            _ => {}
        }
    }
    None
}

/// A request that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Parsed<'a> {
    /// The path, without the query.
    pub path: &'a str,
    /// The query, without its question mark; empty where there is none.
    pub query: &'a str,
    /// The page that asks, as browsers tell; empty if that is told twice, or is not text.
    pub origin: Option<&'a str>,
    /// What the client calls this server: the value of `Host`, unless that is missing, as in HTTP/1.0, or no text.
    pub host: Option<&'a str>,
    /// All values of `X-Forwarded-Host`, in their order.
    pub forwarded_host: Vec<&'a [u8]>,
    /// All values of `X-Forwarded-For`, in their order.
    pub forwarded_for: Vec<&'a [u8]>,
    /// All values of `Authorization`; a request has one.
    pub authorization: Vec<&'a [u8]>,
    /// All values of `Cookie`, in their order.
    pub cookies: Vec<&'a [u8]>,
    /// What the client saw last of an event stream: the value of `Last-Event-ID`, unless it is empty or no text.
    pub last_event_id: Option<&'a str>,
    /// A browser says that a page of another site asks, by `Sec-Fetch-Site`. None says so of a client that is no browser.
    pub is_cross_site: bool,
    /// What is asked for.
    pub kind: Kind<'a>,
}

/// What a request asks for. Not `#[non_exhaustive]`: each has to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind<'a> {
    /// A WebSocket, by a correct request.
    Upgrade {
        /// The value of `Sec-WebSocket-Key`.
        key: &'a str,
        /// The subprotocols that the client offers.
        subprotocols: Offered<'a>,
        /// The client offers compression, in a form that can be agreed upon.
        compression: Option<Agreed>,
    },
    /// A document.
    Get {
        /// The method is HEAD: the headers without the body.
        head_only: bool,
        /// Other header fields are those of a client that wants a WebSocket.
        wants_websocket: bool,
        /// For people: why the request is not an upgrade, if a WebSocket lives at the path.
        no_upgrade: &'static str,
    },
    /// What may be asked for: the method is OPTIONS.
    Options,
}

/// The subprotocols that a client offers (RFC 6455 §4.1): as much of them as a choice needs.
///
/// Names that begin with `fanfare.` are this server's own: [`SUBPROTOCOL`], and `fanfare.token.` with a secret. The secret is for
/// the server only, and is never sent back.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Offered<'a> {
    /// [`SUBPROTOCOL`] is among them.
    pub own: bool,
    /// The first that is not this server's own.
    pub first: Option<&'a str>,
    /// The secret of the first `fanfare.token.` among them.
    pub token: Option<&'a [u8]>,
}

impl fmt::Debug for Offered<'_> {
    /// Without what is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offered").field("own", &self.own).field("first", &self.first).finish_non_exhaustive()
    }
}

impl<'a> Offered<'a> {
    /// Reads the values of all `Sec-WebSocket-Protocol` header fields, in their order. What is no name is passed over.
    pub fn read(values: impl IntoIterator<Item = &'a [u8]>) -> Offered<'a> {
        let mut offered = Offered::default();
        for token in values.into_iter().flat_map(tokens) {
            if token == SUBPROTOCOL.as_bytes() {
                offered.own = true;
            } else if let Some(secret) = token.strip_prefix(TOKEN_SUBPROTOCOL) {
                offered.token = offered.token.or(Some(secret));
            } else if offered.first.is_none() && is_token(token) && !token.starts_with(OWN_SUBPROTOCOLS) {
                offered.first = std::str::from_utf8(token).ok();
            }
        }
        offered
    }
}

/// Parses a whole request head, as [`head_end`] found it, with at most `headers_max` header fields.
///
/// # Errors
/// The response that tells the client what is wrong.
pub fn parse(head: &[u8], headers_max: usize) -> Result<Parsed<'_>, Response<'static>> {
    let mut few = [const { MaybeUninit::uninit() }; FEW_HEADERS];
    let mut request = Request::new(&mut []);
    match request.parse_with_uninit_headers(head, &mut few[..headers_max.min(FEW_HEADERS)]) {
        Err(httparse::Error::TooManyHeaders) if headers_max > FEW_HEADERS => {
            // The shortest line of a header field has four bytes.
            let mut many = vec![EMPTY_HEADER; headers_max.min(head.len() / 4)];
            let mut request = Request::new(&mut many);
            let status = request.parse(head);
            understand(head, status, &request)
        }
        status => understand(head, status, &request),
    }
}

fn understand<'a>(
    head: &'a [u8],
    status: httparse::Result<usize>,
    request: &Request<'_, 'a>,
) -> Result<Parsed<'a>, Response<'static>> {
    match status {
        Ok(Status::Complete(_)) => {}
        // So does the signature of version 2 begin.
        Ok(Status::Partial) if head == b"\r\n\r\n" => return Err(Response::bad_request(PROXY_OF_STRANGER)),
        Ok(Status::Partial) => return Err(Response::bad_request("the request head ends too early")),
        Err(httparse::Error::TooManyHeaders) => return Err(Response::TOO_MANY_HEADERS),
        // Its first line has the shape of a request of another version.
        Err(httparse::Error::Version) if head.starts_with(b"PROXY ") => {
            return Err(Response::bad_request(PROXY_OF_STRANGER));
        }
        Err(httparse::Error::Version) => return Err(Response::VERSION),
        Err(httparse::Error::HeaderName | httparse::Error::HeaderValue) => {
            return Err(Response::bad_request("a header field is malformed"));
        }
        Err(_) => return Err(Response::bad_request("not an HTTP request")),
    }
    let (method, target, version) =
        (request.method.unwrap_or(""), request.path.unwrap_or(""), request.version.unwrap_or(0));
    let fields = &Fields::of(request.headers);
    let asks_for_websocket = || fields.values(Name::Upgrade).any(|value| has_token(value, "websocket"));
    if !matches!(method, "GET" | "HEAD" | "OPTIONS") {
        return Err(Response::not_allowed(match method {
            "CONNECT" => "CONNECT is for proxies, and this server is none",
            _ if asks_for_websocket() => {
                "a WebSocket is asked for by GET; does a proxy or a redirect change the method?"
            }
            _ => "only GET, HEAD and OPTIONS are served here",
        }));
    }
    // RFC 9112 §3.2: one Host header, and without exception in HTTP/1.1.
    let host = fields.single(Name::Host);
    if fields.count(Name::Host) > 1 {
        return Err(Response::bad_request("more than one Host header arrived; does a proxy add one?"));
    }
    if host.is_none() && version >= 1 {
        return Err(Response::bad_request("no Host header arrived, which HTTP/1.1 requires; does a proxy drop it?"));
    }
    let (path, query) = path_and_query(target);
    let origin = (fields.count(Name::Origin) > 0)
        .then(|| fields.single(Name::Origin).and_then(|origin| std::str::from_utf8(origin).ok()).unwrap_or(""));
    let parsed = |kind| Parsed {
        path,
        query,
        origin,
        host: host.and_then(|host| std::str::from_utf8(host).ok()),
        forwarded_host: fields.all(Name::ForwardedHost),
        forwarded_for: fields.all(Name::ForwardedFor),
        authorization: fields.all(Name::Authorization),
        cookies: fields.all(Name::Cookie),
        last_event_id: fields
            .single(Name::LastEventId)
            .and_then(|id| std::str::from_utf8(id).ok())
            .filter(|id| !id.is_empty()),
        is_cross_site: fields.values(Name::FetchSite).any(|site| !matches!(site, b"same-origin" | b"none")),
        kind,
    };
    match method {
        "OPTIONS" => Ok(parsed(Kind::Options)),
        "GET" if asks_for_websocket() => upgrade(fields, version).map(parsed),
        _ => Ok(parsed(Kind::Get {
            head_only: method == "HEAD",
            wants_websocket: fields.count(Name::Key) > 0,
            no_upgrade: match fields.count(Name::Upgrade) {
                0 if version < 1 => NO_UPGRADE_HTTP_1_0,
                0 => NO_UPGRADE,
                _ if asks_for_websocket() => UPGRADE_BY_HEAD,
                _ => OTHER_UPGRADE,
            },
        })),
    }
}

/// The checks of RFC 6455 §4.2.1, of a request that names `websocket` in its Upgrade header.
fn upgrade<'a>(fields: &Fields<'_, 'a>, version: u8) -> Result<Kind<'a>, Response<'static>> {
    if version < 1 {
        return Err(Response::bad_request(
            "a WebSocket needs HTTP/1.1, and HTTP/1.0 arrived; is a proxy not told? (nginx: `proxy_http_version 1.1`)",
        ));
    }
    if !fields.values(Name::Connection).any(|value| has_token(value, "upgrade")) {
        return Err(Response::bad_request(
            "the Connection header does not name Upgrade; does a proxy replace it? (nginx: \
             `proxy_set_header Connection \"upgrade\"`)",
        ));
    }
    // Its bytes would be read as frames (RFC 9110 §7.8 wants the body first, then the new protocol).
    let mut lengths = fields.values(Name::ContentLength);
    if lengths.any(|length| length.trim_ascii() != b"0") || fields.count(Name::TransferEncoding) > 0 {
        return Err(Response::bad_request("a request for a WebSocket has no body; does a proxy add one?"));
    }
    if fields.single(Name::Version) != Some(b"13") {
        return Err(Response::upgrade_required(
            "WebSocket version 13 is spoken here, named by one Sec-WebSocket-Version",
        ));
    }
    let key = fields.single(Name::Key).and_then(|key| std::str::from_utf8(key).ok()).filter(|key| is_key(key)).ok_or(
        Response::bad_request("one Sec-WebSocket-Key of 16 bytes in base64 is needed; does a proxy drop or change it?"),
    )?;
    let subprotocols = Offered::read(fields.values(Name::Protocol));
    let compression = deflate::negotiate(fields.values(Name::Extensions))?;
    Ok(Kind::Upgrade { key, subprotocols, compression })
}

/// 16 bytes in base64: 22 characters and two of padding.
fn is_key(key: &str) -> bool {
    let (digits, padding) = key.as_bytes().split_at(key.len().min(22));
    padding == b"==" && digits.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}

/// Path and query of an origin-form or absolute-form target (RFC 9112 §3.2).
fn path_and_query(target: &str) -> (&str, &str) {
    let absolute = if target.starts_with('/') { None } else { target.split_once("://") };
    let whole = match absolute {
        Some((_, rest)) => rest.find(['/', '?']).map_or("/", |at| &rest[at..]),
        None => target,
    };
    let whole = whole.split('#').next().unwrap_or(whole);
    let (path, query) = whole.split_once('?').unwrap_or((whole, ""));
    (if path.is_empty() { "/" } else { path }, query)
}

/// Appends the 101 that opens a WebSocket.
///
/// `subprotocol` is the one that is selected, if any: see [`Dialect::subprotocol`](crate::Dialect::subprotocol).
pub fn write_accept(out: &mut Vec<u8>, key: &str, subprotocol: Option<&str>, compression: Option<Agreed>) {
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
    );
    out.extend_from_slice(derive_accept_key(key.as_bytes()).as_bytes());
    if let Some(subprotocol) = subprotocol {
        out.extend_from_slice(b"\r\nSec-WebSocket-Protocol: ");
        out.extend_from_slice(subprotocol.as_bytes());
    }
    if let Some(agreed) = compression {
        write!(out, "\r\nSec-WebSocket-Extensions: {agreed}").expect("a Vec takes every write");
    }
    out.extend_from_slice(b"\r\n\r\n");
}

/// How many of these bytes are the head of a response; 0 where they begin with a frame, as all others do.
pub fn response_bytes(sent: &[u8]) -> usize {
    // No frame of a server begins with `H`: that would be a fragment with reserved bits.
    if sent.first() == Some(&b'H') { head_end(sent, 0).unwrap_or(sent.len()) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn request(line: &str, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut out = format!("{line}\r\n");
        for (name, value) in headers {
            out += &format!("{name}: {value}\r\n");
        }
        (out + "\r\n").into_bytes()
    }

    const GOOD: [(&str, &str); 5] = [
        ("Host", "h"),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", KEY),
    ];

    /// The status of the refusal of a good upgrade with one header changed, taken away (empty) or added.
    fn outcome(name: &str, value: &str, keep: bool) -> String {
        let mut headers: Vec<_> = GOOD.into_iter().filter(|header| keep || header.0 != name).collect();
        if !value.is_empty() {
            headers.push((name, value));
        }
        let head = request("GET /ws HTTP/1.1", &headers);
        match parse(&head, 20) {
            Ok(parsed) => format!("{:?}", parsed.kind),
            Err(response) => format!("{} {}", &response.status[..3], std::str::from_utf8(response.body).unwrap()),
        }
    }

    /// Its status alone, or the word for what was understood.
    fn refusal(name: &str, value: &str, keep: bool) -> String {
        outcome(name, value, keep).split(' ').next().unwrap().to_owned()
    }

    #[test]
    fn the_rfc_example_is_accepted() {
        let head = request("GET /ws?token=1 HTTP/1.1", &GOOD);
        let expected = Parsed {
            path: "/ws",
            query: "token=1",
            origin: None,
            host: Some("h"),
            forwarded_host: Vec::new(),
            authorization: vec![],
            cookies: vec![],
            last_event_id: None,
            is_cross_site: false,
            forwarded_for: Vec::new(),
            kind: Kind::Upgrade { key: KEY, subprotocols: Offered::default(), compression: None },
        };
        assert_eq!(parse(&head, 5).unwrap(), expected);
        let mut out = Vec::new();
        write_accept(&mut out, KEY, Some(SUBPROTOCOL), None);
        let out = String::from_utf8(out).unwrap();
        assert!(out.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
        assert!(out.ends_with("Sec-WebSocket-Protocol: fanfare.v1\r\n\r\n"));
    }

    #[test]
    fn a_head_ends_behind_its_empty_line_however_lines_end() {
        for head in
            ["GET / HTTP/1.1\r\nHost: h\r\n\r\n", "GET / HTTP/1.1\nHost: h\n\n", "GET / HTTP/1.1\r\nHost: h\n\r\n"]
        {
            let stream = format!("{head}\n\nwhat follows");
            for searched in 0..head.len() {
                assert_eq!(head_end(stream.as_bytes(), searched), Some(head.len()), "{head:?} from {searched}");
                assert_eq!(head_end(&stream.as_bytes()[..searched], 0), None, "{head:?} to {searched}");
            }
        }
    }

    #[test]
    fn whoever_asks_by_another_method_is_told_which_one_it_takes() {
        let told = |line: &str, headers: &[(&str, &str)]| {
            let head = request(line, headers);
            let response = parse(&head, 20).unwrap_err();
            assert_eq!(response.status, "405 Method Not Allowed");
            String::from_utf8(response.body.to_vec()).unwrap()
        };
        assert!(told("POST / HTTP/1.1", &GOOD).contains("a WebSocket is asked for by GET"));
        assert!(told("POST / HTTP/1.1", &GOOD[..1]).contains("only GET, HEAD and OPTIONS"));
        assert!(told("CONNECT h:80 HTTP/1.1", &GOOD[..1]).contains("CONNECT is for proxies"));
    }

    #[test]
    fn each_missing_or_wrong_header_has_its_answer() {
        assert_eq!(refusal("Host", "", false), "400");
        assert_eq!(refusal("Host", "other", true), "400");
        assert_eq!(refusal("Connection", "", false), "400");
        assert_eq!(refusal("Connection", "keep-alive", false), "400");
        assert!(refusal("Connection", "keep-alive, upgrade", false).starts_with("Upgrade"));
        assert!(refusal("Upgrade", "h2c, WebSocket", false).starts_with("Upgrade"));
        assert!(refusal("Upgrade", "", false).starts_with("Get"));
        assert_eq!(refusal("Sec-WebSocket-Version", "", false), "426");
        assert_eq!(refusal("Sec-WebSocket-Version", "8", false), "426");
        assert_eq!(refusal("Sec-WebSocket-Key", "", false), "400");
        assert_eq!(refusal("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZ", false), "400");
        assert_eq!(refusal("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ====", false), "400");
        assert_eq!(refusal("Sec-WebSocket-Key", KEY, true), "400");
        assert!(
            outcome("Sec-WebSocket-Protocol", "chat, fanfare.v1", true).contains("own: true, first: Some(\"chat\")")
        );
        assert_eq!(refusal("Sec-WebSocket-Extensions", "permessage-deflate;", true), "400");
        assert!(outcome("Sec-WebSocket-Extensions", "permessage-deflate", true).contains("window: Wide"));
        assert_eq!(refusal("Content-Length", "0", true), "Upgrade");
        for body in [("Content-Length", "1"), ("Content-Length", "x"), ("Transfer-Encoding", "chunked")] {
            assert!(outcome(body.0, body.1, true).starts_with("400 a request for a WebSocket has no body"));
        }
    }

    #[test]
    fn a_missing_upgrade_is_told_from_another_one() {
        let get =
            |line: &str, upgrade: &[(&str, &str)]| match parse(&request(line, &[&GOOD[..1], upgrade].concat()), 20)
                .unwrap()
                .kind
            {
                Kind::Get { no_upgrade, wants_websocket, .. } => (no_upgrade, wants_websocket),
                other => panic!("{other:?}"),
            };
        assert_eq!(get("GET /ws HTTP/1.1", &[]), (NO_UPGRADE, false));
        assert_eq!(get("GET /ws HTTP/1.1", &GOOD[3..]), (NO_UPGRADE, true));
        assert_eq!(get("GET /ws HTTP/1.0", &GOOD[2..]), (NO_UPGRADE_HTTP_1_0, true));
        assert_eq!(get("GET /ws HTTP/1.1", &[("Upgrade", "h2c")]), (OTHER_UPGRADE, false));
        assert_eq!(get("HEAD /ws HTTP/1.1", &GOOD[1..]), (UPGRADE_BY_HEAD, true));
    }

    #[test]
    fn header_fields_are_counted_by_a_limit_of_their_own() {
        let with = |count: usize| {
            request(
                "GET / HTTP/1.1",
                &vec![("Host", "h"); 1].into_iter().chain(vec![("a", ""); count - 1]).collect::<Vec<_>>(),
            )
        };
        for max in [1, 99, 100, 101, 500] {
            assert_eq!(parse(&with(max), max).map(|parsed| parsed.path), Ok("/"), "{max}");
            assert_eq!(parse(&with(max + 1), max), Err(Response::TOO_MANY_HEADERS), "{max}");
        }
    }

    #[test]
    fn other_requests() {
        let get = |line: &str| {
            parse(&request(line, &[("Host", "h")]), 1)
                .map_err(|response| response.status[..3].to_owned())
                .map(|parsed| format!("{parsed:?}"))
        };
        assert!(get("GET http://h:1/healthz?x HTTP/1.1").unwrap().contains("/healthz"));
        assert!(get("HEAD / HTTP/1.0").unwrap().contains("head_only: true"));
        assert!(get("GET http://h?room=/x HTTP/1.1").unwrap().contains(r#"path: "/", query: "room=/x""#));
        assert!(get("OPTIONS * HTTP/1.1").unwrap().contains("kind: Options"));
        assert_eq!(get("POST / HTTP/1.1").unwrap_err(), "405");
        assert_eq!(get("CONNECT h:443 HTTP/1.1").unwrap_err(), "405");
        assert_eq!(get("PRI * HTTP/2.0").unwrap_err(), "505");
        assert_eq!(get("GET / HTTP/2.0").unwrap_err(), "505");
        assert_eq!(get("nonsense").unwrap_err(), "400");
        assert!(get("\r\nGET / HTTP/1.1").is_ok());
        assert_eq!(parse(&request("GET / HTTP/1.1", &[]), 9).unwrap_err().status, "400 Bad Request");
        assert_eq!(
            parse(&request("GET / HTTP/1.0", &[("Host", "a"), ("Host", "b")]), 9).unwrap_err().status,
            "400 Bad Request"
        );
        assert!(parse(&request("GET / HTTP/1.0", &[]), 9).is_ok());
    }

    #[test]
    fn origin_and_forwarded_addresses_are_told() {
        let told = |headers: &[(&str, &str)]| {
            let head = request("GET / HTTP/1.1", &[&[("Host", "h")], headers].concat());
            let parsed = parse(&head, 9).unwrap();
            (parsed.origin.map(str::to_owned), parsed.forwarded_for.concat())
        };
        assert_eq!(told(&[("origin", "https://a")]), (Some("https://a".to_owned()), Vec::new()));
        assert_eq!(told(&[("Origin", "https://a"), ("Origin", "https://b")]).0, Some(String::new()));
        assert_eq!(told(&[("X-Forwarded-For", "1, 2"), ("x-forwarded-for", ",3")]), (None, b"1, 2,3".to_vec()));
    }

    #[test]
    fn the_end_of_the_head_is_found_from_every_starting_point() {
        let head = request("GET / HTTP/1.1", &GOOD);
        for searched in 0..head.len() {
            assert_eq!(head_end(&head[..searched], 0), None);
            assert_eq!(head_end(&head, searched), Some(head.len()));
        }
    }
}
