//! Responses other than 101. Each says what to change, for the person who reads it. When they are sent is said elsewhere.

use std::io::Write;

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
    pub const HEAD_TOO_LARGE: Response<'static> = Response::text(
        "431 Request Header Fields Too Large",
        "the request head has more bytes than limits.request_head_bytes_max allows; are there many cookies?",
    );
    /// The request head has more header fields than allowed.
    pub const TOO_MANY_HEADERS: Response<'static> = Response::text(
        "431 Request Header Fields Too Large",
        "the request has more header fields than limits.request_headers_max allows",
    );
    /// Another version of HTTP, such as the preface of HTTP/2.
    pub const VERSION: Response<'static> = Response::text(
        "505 HTTP Version Not Supported",
        "HTTP/1.1 and 1.0 are spoken here; a client or proxy that begins with HTTP/2 has to be told so",
    );
    /// What may be asked for: the answer to OPTIONS, which load balancers take for a sign of health.
    pub const OPTIONS: Response<'static> =
        Response { headers: "Allow: GET, HEAD, OPTIONS\r\n", ..Response::text("204 No Content", "") };
    /// The request head did not come in time.
    pub const TIMED_OUT: Response<'static> =
        Response::text("408 Request Timeout", "the request head did not come in time");
    /// Too many connections wait, and this is the one that has waited longest.
    pub const EVICTED: Response<'static> =
        Response::unavailable("too many others are waiting, and the request head has not come");
    /// The page that asks is not one of those that may.
    pub const ORIGIN: Response<'static> = Response::text(
        "403 Forbidden",
        "pages of this Origin may not connect here: it is not in `origins`, or, where that is not set, is not what the Host \
         header names; does a proxy replace Host? (nginx: `proxy_set_header Host $http_host`)",
    );
    /// No credential came, or none that is good.
    pub const UNAUTHORISED: Response<'static> = Response {
        headers: "WWW-Authenticate: Bearer\r\n",
        ..Response::json(
            "401 Unauthorized",
            r#"{"error":"unauthorised","reason":"a credential is needed, and none that is good has come"}"#,
        )
    };
    /// The credential has expired.
    pub const EXPIRED: Response<'static> = Response {
        // RFC 6750 §3.1.
        headers: "WWW-Authenticate: Bearer error=\"invalid_token\"\r\n",
        ..Response::json(
            "401 Unauthorized",
            r#"{"error":"token_expired","reason":"the credential has expired: come back with a new one"}"#,
        )
    };
    /// The credential is good, and whoever has it may not come in.
    pub const FORBIDDEN: Response<'static> =
        Response::json("403 Forbidden", r#"{"error":"forbidden","reason":"this user may not come in"}"#);
    /// Whether the credential is good could not be found out.
    pub const UNVERIFIED: Response<'static> = Response {
        headers: "Retry-After: 1\r\n",
        ..Response::json(
            "503 Service Unavailable",
            r#"{"error":"unavailable","reason":"the credential cannot be verified at the moment"}"#,
        )
    };
    /// Nothing lives at this path.
    pub const NOT_FOUND: Response<'static> =
        Response::text("404 Not Found", "nothing here; a WebSocket is at / and /ws, and at the paths of its dialects");

    /// A response for people and scripts, in plain text.
    pub const fn text(status: &'static str, body: &'a str) -> Response<'a> {
        Response { status, headers: "", content_type: "text/plain; charset=utf-8", body: body.as_bytes() }
    }

    /// A response for programs, in JSON.
    pub(crate) const fn json(status: &'static str, body: &'a str) -> Response<'a> {
        Response { status, headers: "", content_type: "application/json", body: body.as_bytes() }
    }

    /// 400, with what is wrong.
    pub const fn bad_request(body: &'a str) -> Response<'a> {
        Response::text("400 Bad Request", body)
    }

    /// 400 to bytes that begin no request.
    pub const fn not_http(first: u8) -> Response<'static> {
        // RFC 8446 §5.1: the first record of a TLS client is a handshake.
        const TLS_HANDSHAKE: u8 = 22;
        Response::bad_request(match first {
            TLS_HANDSHAKE => {
                "TLS arrived, and this port has none: connect with ws:// or http://, or by a proxy that ends TLS"
            }
            _ => "not an HTTP request",
        })
    }

    /// 405, with why.
    pub const fn not_allowed(body: &'a str) -> Response<'a> {
        Response { headers: "Allow: GET, HEAD, OPTIONS\r\n", ..Response::text("405 Method Not Allowed", body) }
    }

    /// 426, with what is missing.
    pub const fn upgrade_required(body: &'a str) -> Response<'a> {
        Response {
            // RFC 6455 §4.4 asks for the first, RFC 9110 §15.5.22 and §7.8 for the others.
            headers: "Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
            ..Response::text("426 Upgrade Required", body)
        }
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
        write!(out, "HTTP/1.1 {}\r\n", self.status).expect("a Vec takes every write");
        // RFC 9110 §8.6: no length where there can be no body.
        if !self.status.starts_with("204") {
            let (content_type, length) = (self.content_type, self.body.len());
            write!(out, "Content-Type: {content_type}\r\nContent-Length: {length}\r\n")
                .expect("a Vec takes every write");
        }
        out.extend_from_slice(self.headers.as_bytes());
        out.extend_from_slice(
            b"Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n",
        );
        if !head_only {
            out.extend_from_slice(self.body);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(response: Response<'_>, head_only: bool) -> String {
        let mut out = Vec::new();
        response.write(&mut out, head_only);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_length_is_told_wherever_there_could_be_a_body() {
        let response = written(Response::text("200 OK", "body"), false);
        assert!(response.contains("\r\nContent-Length: 4\r\n") && response.ends_with("\r\n\r\nbody"), "{response}");
        let head = written(Response::text("200 OK", "body"), true);
        assert!(head.contains("\r\nContent-Length: 4\r\n") && head.ends_with("\r\n\r\n"), "{head}");
        let options = written(Response::OPTIONS, false);
        assert!(options.starts_with("HTTP/1.1 204 ") && !options.contains("Content-Length"), "{options}");
    }
}
