//! The HTTP/1.1 request head: upgrade (RFC 6455 §4.2) or a plain request, and the bytes of each answer.
//! What lives at which path is told by the caller.

use super::deflate::{self, Agreed};
use httparse::{EMPTY_HEADER, Header, Request, Status};
use std::io::Write;
use tungstenite::handshake::derive_accept_key;

/// Browsers send about 20; 64 leaves room for proxies.
const HEADERS_MAX: usize = 64;

const PROXY_OF_STRANGER: &str =
    "not an HTTP request; a PROXY protocol header is taken from trusted proxies only, with proxy.protocol = on";

/// The subprotocol that is this server's own; selected when a client offers it.
pub const SUBPROTOCOL: &str = "fanfare.v1";

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
    /// The page that asks, as browsers tell; empty where that is told twice, or is no text.
    pub origin: Option<&'a str>,
    /// All values of `X-Forwarded-For`, in their order.
    pub forwarded_for: Vec<&'a [u8]>,
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
        /// The client offers [`SUBPROTOCOL`].
        subprotocol: bool,
        /// The client offers compression, in a form that can be agreed upon.
        compression: Option<Agreed>,
    },
    /// A document.
    Get {
        /// The method is HEAD: the headers without the body.
        head_only: bool,
    },
}

/// Parses a whole request head, as [`head_end`] found it.
///
/// # Errors
/// The response that tells the client what is wrong.
pub fn parse(head: &[u8]) -> Result<Parsed<'_>, Response<'static>> {
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let mut request = Request::new(&mut headers);
    match request.parse(head) {
        Ok(Status::Complete(_)) => {}
        // So does the signature of version 2 begin.
        Ok(Status::Partial) if head == b"\r\n\r\n" => return Err(Response::bad_request(PROXY_OF_STRANGER)),
        Ok(Status::Partial) => return Err(Response::bad_request("the request head ends too early")),
        Err(httparse::Error::TooManyHeaders) => return Err(Response::HEAD_TOO_LARGE),
        // Its first line has the shape of a request of another version.
        Err(httparse::Error::Version) if head.starts_with(b"PROXY ") => {
            return Err(Response::bad_request(PROXY_OF_STRANGER));
        }
        Err(httparse::Error::Version) => {
            return Err(Response::text("505 HTTP Version Not Supported", "HTTP/1.1 is spoken here"));
        }
        Err(_) => return Err(Response::bad_request("not an HTTP request")),
    }
    let (method, target, version) =
        (request.method.unwrap_or(""), request.path.unwrap_or(""), request.version.unwrap_or(0));
    let headers = &*request.headers;
    if !matches!(method, "GET" | "HEAD") {
        return Err(Response {
            headers: "Allow: GET, HEAD\r\n",
            ..Response::text("405 Method Not Allowed", "only GET and HEAD are served here")
        });
    }
    // RFC 9112 §3.2: one Host header, and without exception in HTTP/1.1.
    let hosts = values(headers, "Host").count();
    if hosts > 1 || hosts == 0 && version >= 1 {
        return Err(Response::bad_request("one Host header is needed"));
    }
    let (path, query) = path_and_query(target);
    let origin = values(headers, "Origin")
        .next()
        .map(|_| single(headers, "Origin").and_then(|origin| std::str::from_utf8(origin).ok()).unwrap_or(""));
    let forwarded_for = values(headers, "X-Forwarded-For").collect();
    let parsed = |kind| Parsed { path, query, origin, forwarded_for, kind };
    if method == "HEAD" || !values(headers, "Upgrade").any(|value| has_token(value, "websocket")) {
        return Ok(parsed(Kind::Get { head_only: method == "HEAD" }));
    }
    if version < 1 {
        return Err(Response::bad_request(
            "a WebSocket needs HTTP/1.1 (a proxy in between may have to be told: nginx by `proxy_http_version 1.1`)",
        ));
    }
    upgrade(headers).map(parsed)
}

/// The checks of RFC 6455 §4.2.1.
fn upgrade<'a>(headers: &[Header<'a>]) -> Result<Kind<'a>, Response<'static>> {
    if !values(headers, "Connection").any(|value| has_token(value, "upgrade")) {
        return Err(Response::bad_request("the Connection header must name Upgrade"));
    }
    if single(headers, "Sec-WebSocket-Version") != Some(b"13") {
        return Err(Response {
            // RFC 6455 §4.4 asks for the first, RFC 9110 §15.5.22 and §7.8 for the others.
            headers: "Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
            ..Response::text("426 Upgrade Required", "WebSocket version 13 is spoken here")
        });
    }
    let key = single(headers, "Sec-WebSocket-Key")
        .and_then(|key| std::str::from_utf8(key).ok())
        .filter(|key| is_key(key))
        .ok_or(Response::bad_request("one Sec-WebSocket-Key of 16 bytes in base64 is needed"))?;
    let subprotocol = values(headers, "Sec-WebSocket-Protocol")
        .any(|value| tokens(value).any(|token| token == SUBPROTOCOL.as_bytes()));
    let compression = deflate::negotiate(values(headers, "Sec-WebSocket-Extensions"))?;
    Ok(Kind::Upgrade { key, subprotocol, compression })
}

fn values<'h, 'a: 'h>(headers: &'h [Header<'a>], name: &'h str) -> impl Iterator<Item = &'a [u8]> + 'h {
    headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
}

/// The value of a header that must occur exactly once.
fn single<'a>(headers: &[Header<'a>], name: &str) -> Option<&'a [u8]> {
    let mut values = values(headers, name);
    let value = values.next()?.trim_ascii();
    values.next().is_none().then_some(value)
}

/// The elements of a list in a header (RFC 9110 §5.6.1).
pub(super) fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

fn has_token(value: &[u8], token: &str) -> bool {
    tokens(value).any(|found| found.eq_ignore_ascii_case(token.as_bytes()))
}

/// 16 bytes in base64: 22 characters and two of padding.
fn is_key(key: &str) -> bool {
    let (digits, padding) = key.as_bytes().split_at(key.len().min(22));
    padding == b"==" && digits.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}

/// Path and query of an origin-form or absolute-form target (RFC 9112 §3.2).
fn path_and_query(target: &str) -> (&str, &str) {
    let whole = match target.split_once("://") {
        Some((_, rest)) if !target.starts_with('/') => rest.find('/').map_or("/", |slash| &rest[slash..]),
        _ => target,
    };
    let whole = whole.split('#').next().unwrap_or(whole);
    whole.split_once('?').unwrap_or((whole, ""))
}

/// Appends the 101 that opens a WebSocket.
pub fn write_accept(out: &mut Vec<u8>, key: &str, subprotocol: bool, compression: Option<Agreed>) {
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
    );
    out.extend_from_slice(derive_accept_key(key.as_bytes()).as_bytes());
    if subprotocol {
        out.extend_from_slice(b"\r\nSec-WebSocket-Protocol: ");
        out.extend_from_slice(SUBPROTOCOL.as_bytes());
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

/// A response other than 101, to be made by hand or by its functions. The connection ends with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response<'a> {
    /// Code and reason phrase.
    pub status: &'static str,
    /// Further header lines, each ended.
    pub headers: &'static str,
    /// The media type of the body.
    pub content_type: &'static str,
    /// The body.
    pub body: &'a [u8],
}

impl<'a> Response<'a> {
    /// The request head is larger than allowed.
    pub const HEAD_TOO_LARGE: Response<'static> =
        Response::text("431 Request Header Fields Too Large", "the request head is too large");
    /// The request head did not come in time.
    pub const TIMED_OUT: Response<'static> =
        Response::text("408 Request Timeout", "the request head did not come in time");
    /// Too many connections wait, and this is the one that has waited longest.
    pub const EVICTED: Response<'static> =
        Response::unavailable("too many others are waiting, and the request head has not come");
    /// The page that asks is not one of those that may.
    pub const ORIGIN: Response<'static> = Response::text("403 Forbidden", "pages of this origin may not connect here");
    /// Nothing lives at this path.
    pub const NOT_FOUND: Response<'static> =
        Response::text("404 Not Found", "nothing here; a WebSocket is at / and /ws, and at the paths of its dialects");

    /// A response for people and scripts, in plain text.
    pub const fn text(status: &'static str, body: &'a str) -> Response<'a> {
        Response { status, headers: "", content_type: "text/plain; charset=utf-8", body: body.as_bytes() }
    }

    /// 400, with what is wrong.
    pub const fn bad_request(body: &'a str) -> Response<'a> {
        Response::text("400 Bad Request", body)
    }

    /// 503, with the advice to come back in a second: long enough for a place to become free, short for a person.
    pub const fn unavailable(body: &'a str) -> Response<'a> {
        Response { headers: "Retry-After: 1\r\n", ..Response::text("503 Service Unavailable", body) }
    }

    /// 429, with the advice to come back in a second.
    pub const fn too_many(body: &'a str) -> Response<'a> {
        Response { headers: "Retry-After: 1\r\n", ..Response::text("429 Too Many Requests", body) }
    }

    /// Appends the response; with `head_only` its headers alone.
    pub fn write(&self, out: &mut Vec<u8>, head_only: bool) {
        write!(
            out,
            "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n{}Cache-Control: no-store\r\n\
             X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n",
            self.status,
            self.content_type,
            self.body.len(),
            self.headers
        )
        .expect("a Vec takes every write");
        if !head_only {
            out.extend_from_slice(self.body);
        }
    }
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
    fn refusal(name: &str, value: &str, keep: bool) -> String {
        let mut headers: Vec<_> = GOOD.into_iter().filter(|header| keep || header.0 != name).collect();
        if !value.is_empty() {
            headers.push((name, value));
        }
        let head = request("GET /ws HTTP/1.1", &headers);
        match parse(&head) {
            Ok(parsed) => format!("{:?}", parsed.kind),
            Err(response) => response.status[..3].to_owned(),
        }
    }

    #[test]
    fn the_rfc_example_is_accepted() {
        let head = request("GET /ws?token=1 HTTP/1.1", &GOOD);
        let kind = Kind::Upgrade { key: KEY, subprotocol: false, compression: None };
        let expected = Parsed { path: "/ws", query: "token=1", origin: None, forwarded_for: Vec::new(), kind };
        assert_eq!(parse(&head).unwrap(), expected);
        let mut out = Vec::new();
        write_accept(&mut out, KEY, true, None);
        let out = String::from_utf8(out).unwrap();
        assert!(out.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
        assert!(out.ends_with("Sec-WebSocket-Protocol: fanfare.v1\r\n\r\n"));
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
        assert!(refusal("Sec-WebSocket-Protocol", "chat, fanfare.v1", true).contains("subprotocol: true"));
        assert_eq!(refusal("Sec-WebSocket-Extensions", "permessage-deflate;", true), "400");
        assert!(refusal("Sec-WebSocket-Extensions", "permessage-deflate", true).contains("window: Wide"));
    }

    #[test]
    fn other_requests() {
        let get = |line: &str| {
            parse(&request(line, &[("Host", "h")]))
                .map_err(|response| response.status[..3].to_owned())
                .map(|parsed| format!("{parsed:?}"))
        };
        assert!(get("GET http://h:1/healthz?x HTTP/1.1").unwrap().contains("/healthz"));
        assert!(get("HEAD / HTTP/1.0").unwrap().contains("head_only: true"));
        assert_eq!(get("POST / HTTP/1.1").unwrap_err(), "405");
        assert_eq!(get("GET / HTTP/2.0").unwrap_err(), "505");
        assert_eq!(get("nonsense").unwrap_err(), "400");
        assert!(get("\r\nGET / HTTP/1.1").is_ok());
        assert_eq!(parse(&request("GET / HTTP/1.1", &[])).unwrap_err().status, "400 Bad Request");
        assert_eq!(
            parse(&request("GET / HTTP/1.0", &[("Host", "a"), ("Host", "b")])).unwrap_err().status,
            "400 Bad Request"
        );
        assert!(parse(&request("GET / HTTP/1.0", &[])).is_ok());
    }

    #[test]
    fn origin_and_forwarded_addresses_are_told() {
        let told = |headers: &[(&str, &str)]| {
            let head = request("GET / HTTP/1.1", &[&[("Host", "h")], headers].concat());
            let parsed = parse(&head).unwrap();
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
