//! What proxies tell of their clients: the PROXY protocol's header before the first request, and `X-Forwarded-For` in it. Only
//! proxies in a list of networks are believed.

use core::net::{IpAddr, SocketAddr};
use ipnet::{IpNet, Ipv4Net};
use ppp::{v1, v2};
use std::fmt;
use std::str::FromStr;

/// Whom to believe about a client's address. Made like [`Config`](crate::Config): the default, and what shall be otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Proxies {
    /// Proxies of one's own: their word is taken. They are not limited themselves.
    pub trusted: Vec<Network>,
    /// Whether their connections may begin with a PROXY protocol header, version 1 or 2.
    pub protocol: bool,
    /// Whether their `X-Forwarded-For` is read: of its addresses the last that is not trusted is the client's. With it goes
    /// `X-Forwarded-Host`, as another name by which clients know this server.
    pub forwarded_for: bool,
}

impl Default for Proxies {
    fn default() -> Proxies {
        Proxies { trusted: Vec::new(), protocol: false, forwarded_for: true }
    }
}

impl Proxies {
    /// Whether this address is that of a proxy of one's own.
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }

    /// The client of a trusted proxy, by all values of `X-Forwarded-For` in their order.
    pub(crate) fn client(&self, forwarded_for: &[&[u8]]) -> Client {
        let entries = forwarded_for.iter().rev().flat_map(|value| value.rsplit(|byte| *byte == b','));
        // An empty header is one that tells nothing, and not none.
        let mut told = if forwarded_for.is_empty() { Client::Own } else { Client::Untold };
        for entry in entries.map(<[u8]>::trim_ascii).filter(|entry| !entry.is_empty()) {
            match parse_address(entry) {
                Some(address) if self.trusts(address) => told = Client::Own,
                Some(address) => return Client::Named(address),
                None => return Client::Untold,
            }
        }
        told
    }
}

/// What the first bytes of a connection are to an adapter that has to tell a PROXY protocol header from what follows it, because
/// that is encrypted. The core reads the header all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    /// No header begins like this.
    None,
    /// The beginning of one.
    Unfinished,
    /// A header of this many bytes.
    Whole(usize),
    /// It begins like one, and is none. The core says so to whoever has sent it.
    Malformed,
}

impl ProxyHeader {
    /// Looks at the first bytes of a connection, for a header of at most `bytes_max` bytes.
    pub fn find(data: &[u8], bytes_max: usize) -> ProxyHeader {
        match start(data, bytes_max) {
            Start::Other => ProxyHeader::None,
            Start::Unfinished => ProxyHeader::Unfinished,
            Start::Header(bytes, _) => ProxyHeader::Whole(bytes),
            Start::Malformed => ProxyHeader::Malformed,
        }
    }
}

/// Who is behind a trusted proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    /// This address.
    Named(IpAddr),
    /// A client whose address it does not say: `unknown`, a pseudonym, or what only looks like one.
    Untold,
    /// Nobody but itself and other trusted ones, as with health checks.
    Own,
}

/// An address as proxies write it: some add the port, and some then put IPv6 in brackets.
fn parse_address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))?;
    Some(address.to_canonical())
}

/// An address or a network in CIDR notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(IpNet);

impl Network {
    /// Whether the address is one of the network's. An IPv4 address mapped into IPv6 is that IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl FromStr for Network {
    type Err = &'static str;

    /// # Errors
    /// What is wrong, for people.
    fn from_str(text: &str) -> Result<Network, &'static str> {
        let network = match text.parse::<IpAddr>() {
            Ok(address) => IpNet::from(address),
            Err(_) => text.parse::<IpNet>().map_err(|_| "not an IP address, nor a network such as 10.0.0.0/8")?,
        };
        let network = match network {
            IpNet::V6(mapped) if mapped.prefix_len() >= 96 => match mapped.addr().to_ipv4_mapped() {
                Some(address) => IpNet::V4(Ipv4Net::new_assert(address, mapped.prefix_len() - 96)),
                None => network,
            },
            _ => network,
        };
        if network.trunc() != network {
            return Err("an address within the network, where the network's first one belongs");
        }
        Ok(Network(network))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() { self.0.addr().fmt(f) } else { self.0.fmt(f) }
    }
}

/// What the first bytes of a trusted proxy's connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// Anything else.
    Other,
    /// The beginning of a PROXY protocol header.
    Unfinished,
    /// A header of this many bytes, and whom it names. Version 1 has one word, `UNKNOWN`, for the proxy's own connections and for
    /// clients of other kinds: it counts as the former, which is what balancers send it for.
    Header(usize, Client),
    /// A header that is none.
    Malformed,
}

/// The specification's longest line, with its end.
const V1_BYTES_MAX: usize = 107;
const V1_START: &[u8] = b"PROXY ";
/// Signature, command, family and length.
const V2_FIXED_BYTES: usize = 16;

/// Looks at the first bytes of a connection, for a header of at most `bytes_max` bytes.
pub(crate) fn start(data: &[u8], bytes_max: usize) -> Start {
    let begins = |with: &[u8]| data.starts_with(with) || with.starts_with(data);
    if begins(v2::PROTOCOL_PREFIX) {
        start_v2(data, bytes_max)
    } else if begins(V1_START) {
        start_v1(data)
    } else {
        Start::Other
    }
}

fn start_v1(data: &[u8]) -> Start {
    let window = &data[..data.len().min(V1_BYTES_MAX)];
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        return if window.len() < V1_BYTES_MAX { Start::Unfinished } else { Start::Malformed };
    };
    // Only the line, for what follows need not be text.
    let line = &window[..end + 2];
    match v1::Header::try_from(line) {
        Ok(header) if header.header.len() == line.len() => Start::Header(
            line.len(),
            match header.addresses {
                v1::Addresses::Tcp4(addresses) => Client::Named(addresses.source_address.into()),
                v1::Addresses::Tcp6(addresses) => Client::Named(addresses.source_address.into()),
                v1::Addresses::Unknown => Client::Own,
            },
        ),
        _ => Start::Malformed,
    }
}

fn start_v2(data: &[u8], bytes_max: usize) -> Start {
    if let Some(&[high, low]) = data.get(V2_FIXED_BYTES - 2..V2_FIXED_BYTES)
        && V2_FIXED_BYTES + usize::from(u16::from_be_bytes([high, low])) > bytes_max
    {
        return Start::Malformed;
    }
    match v2::Header::try_from(data) {
        Ok(header) => Start::Header(
            header.header.len(),
            match (header.command, header.addresses) {
                (v2::Command::Local, _) => Client::Own,
                (_, v2::Addresses::IPv4(addresses)) => Client::Named(addresses.source_address.into()),
                (_, v2::Addresses::IPv6(addresses)) => Client::Named(addresses.source_address.into()),
                // Of a Unix socket, or of a kind that the specification does not have.
                (_, v2::Addresses::Unix(_) | v2::Addresses::Unspecified) => Client::Untold,
            },
        ),
        Err(v2::ParseError::Incomplete(..) | v2::ParseError::Partial(..)) => Start::Unfinished,
        Err(_) => Start::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn proxies(trusted: &[&str]) -> Proxies {
        let trusted = trusted.iter().map(|network| network.parse().unwrap()).collect();
        Proxies { trusted, ..Proxies::default() }
    }

    /// A header of version 2; `command` is the byte with the version.
    fn v2_header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut header = v2::PROTOCOL_PREFIX.to_vec();
        header.extend([command, family]);
        header.extend((rest.len() as u16).to_be_bytes());
        header.extend(rest);
        header
    }

    #[test]
    fn networks_are_read_and_shown() {
        for text in ["10.0.0.0/8", "127.0.0.1", "::1", "2001:db8::/32", "0.0.0.0/0"] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
        }
        assert_eq!("::ffff:10.0.0.0/104".parse::<Network>().unwrap().to_string(), "10.0.0.0/8");
        for wrong in ["", "10.0.0.1/8", "10.0.0.0/33", "localhost", "10.0.0", "10.0.0.1:80"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
        let network: Network = "10.0.0.0/8".parse().unwrap();
        assert!(network.contains(ip("10.1.2.3")) && network.contains(ip("::ffff:10.1.2.3")));
        assert!(!network.contains(ip("11.0.0.0")) && !network.contains(ip("::10.1.2.3")));
    }

    #[test]
    fn the_client_is_the_last_address_that_is_not_trusted() {
        let proxies = proxies(&["10.0.0.0/8", "::1"]);
        let client = |values: &[&str]| {
            let values: Vec<&[u8]> = values.iter().map(|value| value.as_bytes()).collect();
            match proxies.client(&values) {
                Client::Named(address) => address.to_string(),
                Client::Untold => "?".to_owned(),
                Client::Own => String::new(),
            }
        };
        assert_eq!(client(&["192.0.2.1"]), "192.0.2.1");
        assert_eq!(client(&["1.1.1.1, 192.0.2.1, 10.0.0.7"]), "192.0.2.1");
        assert_eq!(client(&["1.1.1.1", "192.0.2.1,10.0.0.7", "::1, "]), "192.0.2.1");
        assert_eq!(client(&["192.0.2.1:4711"]), "192.0.2.1");
        assert_eq!(client(&["[2001:db8::1]:4711,10.1.1.1"]), "2001:db8::1");
        assert_eq!(client(&["[2001:db8::1]"]), "2001:db8::1");
        assert_eq!(client(&["::ffff:192.0.2.1"]), "192.0.2.1");
        // Somebody is there, and what stands further left may be anybody's invention.
        for untold in [
            "",
            " , ",
            "unknown",
            "1.1.1.1, unknown",
            "1.1.1.1, \u{e9}",
            "_hidden, 10.0.0.1",
            "fe80::1%eth0",
            "1.1.1.1:x",
        ] {
            assert_eq!(client(&[untold]), "?", "{untold}");
        }
        // The proxies' own.
        for own in [&[][..], &["10.0.0.1"], &["::1, 10.0.0.1", ""]] {
            assert_eq!(client(own), "", "{own:?}");
        }
    }

    #[test]
    fn headers_of_both_versions_name_the_client() {
        let v4 = [&[192, 0, 2, 1, 10, 0, 0, 1][..], &[0, 80, 1, 187]].concat();
        let v6 = [&[0x20, 1, 13, 184, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1][..], &[0; 20]].concat();
        let with_tlv = [&v4[..], &[4, 0, 1, 42]].concat();
        for (header, client) in [
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 4711 443\r\n".to_vec(), Some("192.0.2.1")),
            (b"PROXY TCP6 2001:db8::1 ::1 4711 443\r\n".to_vec(), Some("2001:db8::1")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff:: ffff:: 1 2\r\n".to_vec(), None),
            (v2_header(0x21, 0x11, &v4), Some("192.0.2.1")),
            (v2_header(0x21, 0x11, &with_tlv), Some("192.0.2.1")),
            (v2_header(0x21, 0x21, &v6), Some("2001:db8::1")),
            (v2_header(0x20, 0x11, &v4), None),
            (v2_header(0x20, 0, &[]), None),
            (v2_header(0x21, 0x31, &[0; 216]), Some("?")),
            (v2_header(0x21, 0, &[]), Some("?")),
        ] {
            let shown = String::from_utf8_lossy(&header).into_owned();
            let client = match client {
                Some("?") => Client::Untold,
                Some(address) => Client::Named(ip(address)),
                None => Client::Own,
            };
            let expected = Start::Header(header.len(), client);
            assert_eq!(start(&header, 1_024), expected, "{shown:?}");
            // What follows need not be text, and a part of it is not enough.
            assert_eq!(start(&[&header[..], b"GET / \xff\r\n"].concat(), 1_024), expected, "{shown:?}");
            for length in 0..header.len() {
                assert_eq!(start(&header[..length], 1_024), Start::Unfinished, "{length} of {shown:?}");
            }
        }
    }

    #[test]
    fn what_is_no_header_is_told() {
        for other in ["GET / HTTP/1.1\r\n", "\r\nGET /", "P0", "PROXYGET", "\n"] {
            assert_eq!(start(other.as_bytes(), 1_024), Start::Other, "{other}");
        }
        for malformed in [
            "PROXY TCP4 x y 1 2\r\n".to_owned(),
            "PROXY TCP4 ::1 ::1 1 2\r\n".to_owned(),
            "PROXY TCP4 192.0.2.1 10.0.0.1 4711 443 \r\n".to_owned(),
            "PROXY \r\n".to_owned(),
            "PROXY TCP4 192.0.2.1 10.0.0.1 4711 99999\r\n".to_owned(),
            format!("PROXY {}", "x".repeat(200)),
        ] {
            assert_eq!(start(malformed.as_bytes(), 1_024), Start::Malformed, "{malformed}");
        }
        for malformed in
            [v2_header(0x11, 0x11, &[0; 12]), v2_header(0x22, 0x11, &[0; 12]), v2_header(0x21, 0x11, &[0; 11])]
        {
            assert_eq!(start(&malformed, 1_024), Start::Malformed);
        }
        // Too long is known from the length alone.
        assert_eq!(start(&v2_header(0x21, 0x11, &[0; 2_000])[..16], 1_024), Start::Malformed);
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_odd(
            which in 0..3usize, rest in prop::collection::vec(any::<u8>(), 0..300), cut in 0..32usize
        ) {
            let mut data = [v2::PROTOCOL_PREFIX, V1_START, b""][which].to_vec();
            data.extend(&rest);
            data.drain(..cut.min(data.len()) * usize::from(which == 2));
            if let Start::Header(bytes, _) = start(&data, 200) {
                prop_assert!(bytes <= data.len() && bytes <= 200.max(V1_BYTES_MAX));
            }
        }
    }
}
