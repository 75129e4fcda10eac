//! The web pages that may connect, by the `Origin` that browsers send. Not a protection against programs: they send what they
//! like.

use core::net::Ipv6Addr;
use std::fmt;
use std::str::FromStr;

/// The pages that may open a WebSocket. Made of texts: none is [`Origins::SameHost`], `*` is [`Origins::Any`], others are a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origins {
    /// Those that come from where the WebSocket is: the host and port of `Origin` are those of `Host`. A page that has its own
    /// name lead to this server's address (DNS rebinding) passes for one of them; only a list keeps it out.
    #[default]
    SameHost,
    /// All of them, `null` included: whatever page a visitor has open can speak for this visitor.
    Any,
    /// These alone, the server's own page as well.
    List(Vec<Origin>),
}

impl Origins {
    /// Whether a page of this origin may connect; a request without one is no page's. `hosts` is what the client calls the server:
    /// the value of `Host`, and of the `X-Forwarded-Host` of a trusted proxy.
    pub fn allow<'a>(&self, origin: Option<&str>, hosts: impl IntoIterator<Item = &'a str>) -> bool {
        let Some(origin) = origin else { return true };
        match self {
            Origins::SameHost => hosts.into_iter().any(|host| is_same_host(origin, host)),
            Origins::Any => true,
            Origins::List(list) => list.iter().any(|allowed| allowed.allows(origin)),
        }
    }
}

/// Whether the two name one host and port. Browsers leave the scheme's own port out of both; which scheme `Host` is meant for, it
/// does not say, for a proxy may have ended TLS.
fn is_same_host(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let own_port = match scheme {
        _ if scheme.eq_ignore_ascii_case("http") => ":80",
        _ if scheme.eq_ignore_ascii_case("https") => ":443",
        _ => return false,
    };
    let [authority, host] = [authority, host].map(|text| text.strip_suffix(own_port).unwrap_or(text));
    !host.is_empty() && authority.eq_ignore_ascii_case(host)
}

/// One allowed origin: `https://example.com`, with a port where it is not the scheme's own, or `https://*.example.com` for all
/// hosts below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Up to and with `://`.
    scheme: String,
    /// The host is any below `host`.
    any_below: bool,
    host: String,
    /// Empty, or with its colon.
    port: String,
}

impl Origin {
    /// Whether this origin, as a browser sends it, is allowed. Letters of either case are the same.
    pub fn allows(&self, origin: &str) -> bool {
        let Some(rest) = strip_prefix(origin, &self.scheme) else { return false };
        let Some(host) = strip_suffix(rest, &self.port) else { return false };
        if !self.any_below {
            return host.eq_ignore_ascii_case(&self.host);
        }
        strip_suffix(host, &self.host).and_then(|below| below.strip_suffix('.')).is_some_and(is_name)
    }
}

/// Whole labels, none of them empty.
fn is_name(text: &str) -> bool {
    let is_of_a_label = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    text.split('.').all(|label| !label.is_empty() && label.bytes().all(is_of_a_label))
}

/// An IPv6 address as browsers write it (WHATWG URL §3.5): the shortest form, and never with an IPv4 address at its end.
fn ipv6_host(address: Ipv6Addr) -> String {
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] => format!("[::ffff:{high:x}:{low:x}]"),
        _ => format!("[{address}]"),
    }
}

fn strip_prefix<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    text.get(..prefix.len()).filter(|start| start.eq_ignore_ascii_case(prefix))?;
    text.get(prefix.len()..)
}

fn strip_suffix<'a>(text: &'a str, suffix: &str) -> Option<&'a str> {
    let at = text.len().checked_sub(suffix.len())?;
    text.get(at..).filter(|end| end.eq_ignore_ascii_case(suffix))?;
    text.get(..at)
}

impl FromStr for Origin {
    type Err = &'static str;

    /// # Errors
    /// What is wrong, for people.
    fn from_str(text: &str) -> Result<Origin, &'static str> {
        let text = text.to_ascii_lowercase();
        if matches!(&*text, "*" | "null" | "file://") {
            return Err("no list can have it: files and sandboxed frames may connect where every page may, by * alone");
        }
        let (scheme, rest) = text.split_once("://").ok_or("an origin begins with its scheme, such as https://")?;
        if scheme.is_empty() || !scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)) {
            return Err("an origin begins with its scheme, such as https://");
        }
        if rest.contains(['/', '?', '#', '@']) {
            return Err("an origin has no path and no user: scheme, host and port are all");
        }
        let after_brackets = rest.rfind(']').map_or(0, |at| at + 1);
        let (host, port) = match rest[after_brackets..].find(':') {
            Some(colon) => rest.split_at(after_brackets + colon),
            None => (rest, ""),
        };
        let port = match port.strip_prefix(':') {
            None => String::new(),
            Some(digits) => match digits.parse::<u16>() {
                Ok(port @ 1..) if digits.bytes().all(|byte| byte.is_ascii_digit()) => format!(":{port}"),
                _ => return Err("a port is a number from 1 to 65535"),
            },
        };
        let (any_below, host) = match host.strip_prefix("*.") {
            Some(host) => (true, host),
            None => (false, host),
        };
        let ipv6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).and_then(|host| host.parse().ok());
        let host = match ipv6 {
            Some(address) if !any_below => ipv6_host(address),
            _ if is_name(host) => host.to_owned(),
            _ => {
                return Err(
                    "a host is a name (in ASCII, as browsers send it) or an address; only a whole first label can be *",
                );
            }
        };
        // Browsers leave the scheme's own port out.
        let port = match (scheme, &*port) {
            ("https", ":443") | ("http", ":80") => String::new(),
            _ => port,
        };
        Ok(Origin { scheme: format!("{scheme}://"), any_below, host, port })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let below = if self.any_below { "*." } else { "" };
        write!(f, "{}{below}{}{}", self.scheme, self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Origin {
        text.parse().unwrap()
    }

    #[test]
    fn an_origin_is_compared_whole() {
        let exact = origin("https://Example.com:8443");
        assert!(exact.allows("https://example.com:8443") && exact.allows("HTTPS://EXAMPLE.com:8443"));
        for other in [
            "https://example.com",
            "http://example.com:8443",
            "https://a.example.com:8443",
            "https://example.com:84433",
            "https://example.com:8443/",
            "https://example.com.evil.org:8443",
            "null",
            "",
            "https://é",
        ] {
            assert!(!exact.allows(other), "{other}");
        }
        assert!(origin("https://example.com:443").allows("https://example.com"));
        assert!(origin("http://[::1]:8080").allows("http://[::1]:8080"));
        assert!(origin("http://[::1]").allows("http://[::1]"));
    }

    #[test]
    fn a_star_stands_for_hosts_below() {
        let below = origin("https://*.example.com");
        assert!(below.allows("https://a.example.com") && below.allows("https://b.a.Example.com"));
        for other in [
            "https://example.com",
            "https://.example.com",
            "https://evilexample.com",
            "https://a.example.com:8443",
            "https://evil.org/.example.com",
            "https://evil.org?.example.com",
            "https://evil.org:80.example.com",
            "https://user@.example.com",
            "https://..example.com",
            "https://a..example.com",
            "https://.a.example.com",
            "https://a/b.example.com",
        ] {
            assert!(!below.allows(other), "{other}");
        }
        assert!(origin("https://*.example.com:8443").allows("https://a.example.com:8443"));
    }

    #[test]
    fn addresses_and_ports_are_compared_as_browsers_write_them() {
        for (written, sent) in [
            ("http://[0:0:0:0:0:0:0:1]:080", "http://[::1]"),
            ("http://[::ffff:192.0.2.1]:8080", "http://[::ffff:c000:201]:8080"),
            ("https://[2001:DB8::0:1]", "https://[2001:db8::1]"),
            ("http://[::]:8080", "http://[::]:8080"),
            ("http://[2001:db8::]:8080", "http://[2001:db8::]:8080"),
            ("https://a.example:08443", "https://a.example:8443"),
        ] {
            assert!(origin(written).allows(sent), "{written}");
        }
    }

    #[test]
    fn the_same_host_is_that_of_the_request_whatever_the_scheme() {
        let allow = |origin: &str, host: &str| Origins::SameHost.allow(Some(origin), [host]);
        for (origin, host) in [
            ("http://localhost:8080", "localhost:8080"),
            ("http://Example.com", "example.COM"),
            ("http://example.com", "example.com:80"),
            ("https://example.com", "example.com"),
            ("https://example.com", "example.com:443"),
            ("HTTP://[::1]:8080", "[::1]:8080"),
            ("http://[::1]", "[::1]:80"),
        ] {
            assert!(allow(origin, host), "{origin} at {host}");
        }
        for (origin, host) in [
            ("http://localhost:3000", "localhost:8080"),
            ("http://localhost", "localhost:8080"),
            ("http://localhost:8080", "localhost"),
            ("http://localhost:8080", "127.0.0.1:8080"),
            ("https://example.com", "example.com:80"),
            ("https://evil.example", "example.com"),
            ("https://a.example.com", "example.com"),
            ("http://example.com.evil.example", "example.com"),
            ("http://user@example.com", "example.com"),
            ("null", "null"),
            ("file://", ""),
            ("http://", ""),
            ("http://:80", ""),
            ("chrome-extension://example", "example"),
            ("", ""),
        ] {
            assert!(!allow(origin, host), "{origin} at {host}");
        }
        assert!(Origins::SameHost.allow(None, []) && Origins::List(Vec::new()).allow(None, []));
        assert!(Origins::Any.allow(Some("null"), []) && !Origins::SameHost.allow(Some("http://a"), []));
        assert!(Origins::SameHost.allow(Some("https://a"), ["backend:8080", "a"]));
        let list = Origins::List(vec![origin("chrome-extension://abc")]);
        assert!(list.allow(Some("chrome-extension://abc"), []) && !list.allow(Some("http://a"), ["a"]));
    }

    #[test]
    fn what_is_no_origin_is_refused_and_the_rest_shown_as_read() {
        for text in [
            "https://example.com",
            "http://localhost:3000",
            "https://*.example.com:1",
            "capacitor://localhost",
            "http://[::1]:1",
        ] {
            assert_eq!(origin(text).to_string(), text);
        }
        for wrong in [
            "",
            "*",
            "example.com",
            "https://",
            "https://a/",
            "https://a:x",
            "https://a:",
            "https://*",
            "https://a.*.b",
            "://a",
            "https://*.[::1]",
            "https://*..b",
            "https://a..b",
            "https://.b",
            "https://[b]",
            "https://a:+8",
            "https://a:0",
            "https://b\u{fc}cher.example",
            "null",
            "file://",
        ] {
            assert!(wrong.parse::<Origin>().is_err(), "{wrong}");
        }
    }
}
