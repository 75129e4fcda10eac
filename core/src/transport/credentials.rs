//! Where in a request its credential is.

use crate::config::Auth;
use crate::identity::Source;
use crate::limits::origin::Origins;
use crate::ws::handshake::{Offered, Parsed};
use std::fmt;

/// A credential in a request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found<'a> {
    pub source: Source,
    pub credential: &'a [u8],
    /// The `Origin` is there, and passed.
    pub has_origin: bool,
}

impl fmt::Debug for Found<'_> {
    /// Without what is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Found").field("source", &self.source).finish_non_exhaustive()
    }
}

/// The credential of a request whose `Origin` has passed, where it has one. A page that sends none with a request for a document is of this
/// server, if a browser does not say otherwise; with one for a WebSocket there is always one.
pub(super) fn find<'a>(
    auth: &Auth,
    origins: &Origins,
    parsed: &Parsed<'a>,
    offered: Offered<'a>,
    is_document: bool,
) -> Option<Found<'a>> {
    // Where every page passes, that says nothing.
    let has_origin = parsed.origin.is_some() && *origins != Origins::Any;
    let is_of_own_page = is_document && parsed.origin.is_none() && !parsed.is_cross_site;
    let header = || match parsed.authorization[..] {
        [] => None,
        [one] => bearer(one),
        // Which one is meant is nobody's guess: none is good.
        _ => Some(&[][..]),
    };
    let query = |name: &str| {
        let values = parsed.query.split('&').filter_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        values.map(str::as_bytes).next()
    };
    let found = [
        (Source::Header, auth.header.then(header).flatten()),
        (Source::Query, auth.query.as_deref().and_then(query)),
        (Source::Subprotocol, offered.token.filter(|_| auth.subprotocol)),
        (
            Source::Cookie,
            auth.cookie
                .as_deref()
                .filter(|_| has_origin || is_of_own_page)
                .and_then(|name| cookie(&parsed.cookies, name)),
        ),
        (Source::Request, auth.requests.then_some(&[][..])),
    ];
    let (source, credential) = found.into_iter().find_map(|(source, found)| Some((source, found?)))?;
    Some(Found { source, credential, has_origin })
}

/// The token of `Authorization: Bearer` (RFC 6750 §2.1); the scheme may be written in any case (RFC 9110 §11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let value = value.trim_ascii();
    let end = value.iter().position(|byte| *byte == b' ').unwrap_or(value.len());
    let (scheme, token) = value.split_at(end);
    scheme.eq_ignore_ascii_case(b"Bearer").then(|| token.trim_ascii_start())
}

/// The value of the first cookie of this name (RFC 6265 §4.2.1).
fn cookie<'a>(fields: &[&'a [u8]], name: &str) -> Option<&'a [u8]> {
    let cookies = fields.iter().flat_map(|field| field.split(|byte| *byte == b';')).map(<[u8]>::trim_ascii);
    cookies.filter_map(|cookie| cookie.strip_prefix(name.as_bytes())?.strip_prefix(b"=")).next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ws::handshake::{self, Kind};

    /// What is found in a request with these header lines.
    fn found(auth: &Auth, target: &str, lines: &str) -> Option<(Source, String)> {
        let head = format!(
            "GET {target} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n"
        );
        let parsed = handshake::parse(head.as_bytes(), 100).unwrap();
        let Kind::Upgrade { subprotocols, .. } = parsed.kind else { panic!("it is an upgrade") };
        find(auth, &Origins::SameHost, &parsed, subprotocols, false)
            .map(|found| (found.source, String::from_utf8(found.credential.to_vec()).unwrap()))
    }

    #[test]
    fn the_first_place_that_has_a_credential_counts() {
        let mut auth = Auth { cookie: Some("sid".into()), ..Auth::default() };
        let header = "Authorization: bearer  h\r\n";
        let protocol = "Sec-WebSocket-Protocol: fanfare.token.s, fanfare.token.t\r\n";
        let cookie = "Origin: http://h\r\nCookie: asid=x; sid=c; sid=d\r\n";
        let all = [header, protocol, cookie].concat();
        let is = |source, text: &str| Some((source, text.to_owned()));
        assert_eq!(found(&auth, "/?token=q", &all), is(Source::Header, "h"));
        auth.header = false;
        assert_eq!(found(&auth, "/?atoken=x&token=q&token=r", &all), is(Source::Query, "q"));
        auth.query = None;
        assert_eq!(found(&auth, "/?token=q", &all), is(Source::Subprotocol, "s"));
        auth.subprotocol = false;
        assert_eq!(found(&auth, "/?token=q", &all), is(Source::Cookie, "c"));
        auth.cookie = None;
        assert_eq!(found(&auth, "/?token=q", &all), None);
        auth.requests = true;
        assert_eq!(found(&auth, "/?token=q", &all), is(Source::Request, ""));
    }

    #[test]
    fn a_cookie_without_an_origin_is_none() {
        let auth = Auth { cookie: Some("sid".into()), ..Auth::default() };
        assert_eq!(found(&auth, "/", "Cookie: sid=c\r\n"), None);
        assert_eq!(found(&auth, "/", "Cookie: asid=c; sid2=d\r\nOrigin: http://h\r\n"), None);
    }

    #[test]
    fn of_two_headers_none_is_good_and_other_schemes_are_none() {
        let auth = Auth::default();
        let twice = "Authorization: Bearer a\r\nAuthorization: Bearer b\r\n";
        assert_eq!(found(&auth, "/?token=q", twice), Some((Source::Header, String::new())));
        assert_eq!(found(&auth, "/?token=q", "Authorization: Basic a\r\n"), Some((Source::Query, "q".to_owned())));
        assert_eq!(found(&auth, "/?token=q", "Authorization: Bearer\r\n"), Some((Source::Header, String::new())));
    }
}
