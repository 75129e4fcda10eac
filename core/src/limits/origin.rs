//! The web pages that may connect, by the `Origin` that browsers send. Not a protection against programs: they send what they
//! like.

use std::fmt;
use std::str::FromStr;

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
        strip_suffix(host, &self.host)
            .and_then(|below| below.strip_suffix('.'))
            .is_some_and(|below| !below.is_empty() && below.bytes().all(is_of_a_name))
    }
}

fn is_of_a_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')
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
        if !port.is_empty() && port[1..].parse::<u16>().is_err() {
            return Err("a port is a number up to 65535");
        }
        let (any_below, host) = match host.strip_prefix("*.") {
            Some(host) => (true, host),
            None => (false, host),
        };
        let is_ipv6 = !any_below && host.starts_with('[') && host.ends_with(']');
        if host.is_empty() || !(is_ipv6 || host.bytes().all(is_of_a_name)) {
            return Err("a host is a name or an address; only a whole first label can be *");
        }
        // Browsers leave the scheme's own port out.
        let port = match (scheme, port) {
            ("https", ":443") | ("http", ":80") => "",
            _ => port,
        };
        Ok(Origin { scheme: format!("{scheme}://"), any_below, host: host.to_owned(), port: port.to_owned() })
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
        ] {
            assert!(!below.allows(other), "{other}");
        }
        assert!(origin("https://*.example.com:8443").allows("https://a.example.com:8443"));
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
        ] {
            assert!(wrong.parse::<Origin>().is_err(), "{wrong}");
        }
    }
}
