//! From a URL to whom clients connect to.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use fanfare_tls::{Connector, ServerName, Trust};

use super::clients::{Kind, Target};
use crate::{Context, Error, Result};

/// How long an address that does not answer is waited for where there are others.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Reads `ws://host:port/path`, or `wss://…` with what to trust, and looks the name up; of several addresses, the first is taken at
/// which somebody listens.
pub fn resolve(url: &str, trust: Option<Trust>) -> Result<Target> {
    let (is_secure, host, path) = parts(url)?;
    let tls = match (is_secure, trust) {
        (true, Some(trust)) => {
            let connector = Connector::new(&trust).map_err(|error| Error::new(error.to_string()))?;
            Some((connector, name_of(host)?))
        }
        (true, None) => {
            return Err(Error::new(format!("{url}: --tls-ca FILE says whom to trust, or --insecure anybody")));
        }
        (false, Some(_)) => return Err(Error::new(format!("{url}: --tls-ca and --insecure are for wss://"))),
        (false, None) => None,
    };
    let named = if has_port(host) { host.to_owned() } else { format!("{host}:{}", if is_secure { 443 } else { 80 }) };
    let addresses: Vec<SocketAddr> = named.to_socket_addrs().context(format!("cannot look up {named}"))?.collect();
    let address = answering(&addresses).ok_or_else(|| Error::new(format!("{named} has no address")))?;
    Ok(Target { address, kind: Kind::Server { host: host.to_owned(), path, tls } })
}

/// The first at which somebody listens. The first of all if there is nobody, for the clients to say so, or if there is no
/// choice, for a server need not see a connection that asks for nothing.
fn answering(addresses: &[SocketAddr]) -> Option<SocketAddr> {
    let listens = |address: &&SocketAddr| TcpStream::connect_timeout(address, CONNECT_WITHIN).is_ok();
    let found = if addresses.len() > 1 { addresses.iter().find(listens) } else { None };
    found.or(addresses.first()).copied()
}

/// Whether TLS is spoken, the host, with the port if one is given, and path with query.
fn parts(url: &str) -> Result<(bool, &str, String)> {
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let is_secure = scheme.eq_ignore_ascii_case("wss");
    if !is_secure && !scheme.eq_ignore_ascii_case("ws") {
        return Err(Error::new(format!("{url}: not of the form ws://host:port/path")));
    }
    let rest = rest.split('#').next().unwrap_or_default();
    let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if host.is_empty() || host.contains('@') || rest.contains(|c: char| c.is_ascii_control() || c == ' ') {
        return Err(Error::new(format!("{url}: not of the form ws://host:port/path")));
    }
    Ok((is_secure, host, if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }))
}

/// The name by which a server of TLS is asked for: the host without port and brackets.
fn name_of(host: &str) -> Result<ServerName<'static>> {
    let name = if has_port(host) { host.rsplit_once(':').unwrap_or_default().0 } else { host };
    let name = name.trim_start_matches('[').trim_end_matches(']').to_owned();
    ServerName::try_from(name).map_err(|_| Error::new(format!("{host}: no certificate has such a name")))
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
            ("wss://example.com", "example.com", "/"),
        ] {
            assert_eq!(parts(url).unwrap(), (url.starts_with("wss"), host, path.to_owned()));
        }
        for url in ["localhost:8080", "http://localhost", "ws:///path", "ws://me@host", "ws://host/a b"] {
            let error = parts(url).unwrap_err().to_string();
            assert_eq!(error, format!("{url}: not of the form ws://host:port/path"));
        }
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
    fn tls_needs_somebody_to_trust_and_a_name() {
        assert_eq!(resolve("WSS://127.0.0.1", Some(Trust::Nobody)).unwrap().address.port(), 443);
        for (url, trust, wrong) in [
            ("wss://127.0.0.1", None, "--tls-ca FILE says whom to trust"),
            ("ws://127.0.0.1", Some(Trust::Nobody), "are for wss://"),
            ("wss://127.0.0.1", Some(Trust::CaFile("/none.pem".into())), "/none.pem cannot be read"),
            ("wss://a b", Some(Trust::Nobody), "not of the form"),
            ("wss://a..b", Some(Trust::Nobody), "no certificate has such a name"),
        ] {
            let error = resolve(url, trust).unwrap_err().to_string();
            assert!(error.contains(wrong), "{error}");
        }
        for (host, name) in [("localhost:8443", "localhost"), ("[::1]:8443", "::1"), ("127.0.0.1", "127.0.0.1")] {
            assert_eq!(name_of(host).unwrap().to_str(), name);
        }
    }

    #[test]
    fn a_host_without_a_port_gets_the_port_of_http() {
        assert_eq!(resolve("ws://127.0.0.1/x", None).unwrap().address, "127.0.0.1:80".parse().unwrap());
        assert_eq!(resolve("ws://[::1]", None).unwrap().address, "[::1]:80".parse().unwrap());
        assert_eq!(resolve("ws://[::1]:81", None).unwrap().address.port(), 81);
    }
}
