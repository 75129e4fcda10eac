//! From a URL to whom clients connect to.

use std::net::{SocketAddr, ToSocketAddrs};

use super::clients::{Kind, Target};
use crate::{Context, Error, Result};

/// Reads `ws://host:port/path` and looks the name up; of several addresses the first is taken.
pub fn resolve(url: &str) -> Result<Target> {
    let (host, path) = parts(url)?;
    let named = if has_port(host) { host.to_owned() } else { format!("{host}:80") };
    let address: Option<SocketAddr> = named.to_socket_addrs().context(format!("cannot look up {named}"))?.next();
    let address = address.ok_or_else(|| Error::new(format!("{named} has no address")))?;
    Ok(Target { address, kind: Kind::Server { host: host.to_owned(), path } })
}

/// Host, with the port if one is given, and path with query.
fn parts(url: &str) -> Result<(&str, String)> {
    let Some(rest) = url.strip_prefix("ws://") else {
        let why =
            if url.starts_with("wss://") { "TLS is not spoken here; take the port behind it" } else { "no ws://" };
        return Err(Error::new(format!("{url}: {why}")));
    };
    let rest = rest.split('#').next().unwrap_or_default();
    let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if host.is_empty() || host.contains('@') || rest.contains(|c: char| c.is_ascii_control() || c == ' ') {
        return Err(Error::new(format!("{url}: not of the form ws://host:port/path")));
    }
    Ok((host, if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }))
}

fn has_port(host: &str) -> bool {
    // The colons of an IPv6 address stand in brackets.
    host.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_falls_into_host_and_path() {
        for (url, host, path) in [
            ("ws://localhost:8080", "localhost:8080", "/"),
            ("ws://localhost:8080/classic?a=b#c", "localhost:8080", "/classic?a=b"),
            ("ws://[::1]:8080?token=1", "[::1]:8080", "/?token=1"),
            ("ws://example.com", "example.com", "/"),
        ] {
            assert_eq!(parts(url).unwrap(), (host, path.to_owned()));
        }
        for url in ["localhost:8080", "wss://localhost", "ws:///path", "ws://me@host", "ws://host/a b"] {
            assert!(parts(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_host_without_a_port_gets_the_port_of_http() {
        assert_eq!(resolve("ws://127.0.0.1/x").unwrap().address, "127.0.0.1:80".parse().unwrap());
        assert_eq!(resolve("ws://[::1]").unwrap().address, "[::1]:80".parse().unwrap());
        assert_eq!(resolve("ws://[::1]:81").unwrap().address.port(), 81);
    }
}
