//! From a URL to whom clients connect to.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use super::clients::{Kind, Target};
use crate::{Context, Error, Result};

/// How long an address that does not answer is waited for where there are others.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Reads `ws://host:port/path` and looks the name up; of several addresses, the first is taken at which somebody listens.
pub fn resolve(url: &str) -> Result<Target> {
    let (host, path) = parts(url)?;
    let named = if has_port(host) { host.to_owned() } else { format!("{host}:80") };
    let addresses: Vec<SocketAddr> = named.to_socket_addrs().context(format!("cannot look up {named}"))?.collect();
    let address = answering(&addresses).ok_or_else(|| Error::new(format!("{named} has no address")))?;
    Ok(Target { address, kind: Kind::Server { host: host.to_owned(), path } })
}

/// The first at which somebody listens. The first of all if there is nobody, for the clients to say so, or if there is no
/// choice, for a server need not see a connection that asks for nothing.
fn answering(addresses: &[SocketAddr]) -> Option<SocketAddr> {
    let listens = |address: &&SocketAddr| TcpStream::connect_timeout(address, CONNECT_WITHIN).is_ok();
    let found = if addresses.len() > 1 { addresses.iter().find(listens) } else { None };
    found.or(addresses.first()).copied()
}

/// Host, with the port if one is given, and path with query.
fn parts(url: &str) -> Result<(&str, String)> {
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    if scheme.eq_ignore_ascii_case("wss") {
        return Err(Error::new(format!("{url}: TLS is not spoken here; take the port behind it, with ws://")));
    }
    if !scheme.eq_ignore_ascii_case("ws") {
        return Err(Error::new(format!("{url}: not of the form ws://host:port/path")));
    }
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
            ("WS://example.com", "example.com", "/"),
        ] {
            assert_eq!(parts(url).unwrap(), (host, path.to_owned()));
        }
        for url in ["localhost:8080", "http://localhost", "ws:///path", "ws://me@host", "ws://host/a b"] {
            let error = parts(url).unwrap_err().to_string();
            assert_eq!(error, format!("{url}: not of the form ws://host:port/path"));
        }
        assert!(parts("WSS://localhost").unwrap_err().to_string().contains("TLS"));
    }

    #[test]
    fn of_several_addresses_one_is_taken_at_which_somebody_listens() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let open = listener.local_addr().unwrap();
        // Nobody can listen at port 0.
        let closed: SocketAddr = "127.0.0.1:0".parse().unwrap();
        assert_eq!(answering(&[closed, open]), Some(open));
        assert_eq!(answering(&[closed, closed]), Some(closed));
        assert_eq!((answering(&[closed]), answering(&[])), (Some(closed), None));
    }

    #[test]
    fn a_host_without_a_port_gets_the_port_of_http() {
        assert_eq!(resolve("ws://127.0.0.1/x").unwrap().address, "127.0.0.1:80".parse().unwrap());
        assert_eq!(resolve("ws://[::1]").unwrap().address, "[::1]:80".parse().unwrap());
        assert_eq!(resolve("ws://[::1]:81").unwrap().address.port(), 81);
    }
}
