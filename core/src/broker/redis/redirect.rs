//! Where a node of a Cluster sends whoever asks it for what another one has.

use super::Address;

/// A node, as another one calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NodeName {
    /// Empty where it is at the host of whoever says so, and `?` where nobody knows it yet.
    host: String,
    port: u16,
}

impl NodeName {
    /// The node of this host and port.
    pub(super) fn new(host: &[u8], port: u16) -> Option<NodeName> {
        let host = std::str::from_utf8(host).ok()?;
        (port != 0).then(|| NodeName { host: host.to_owned(), port })
    }

    /// Where it is, as told by the server at this address. None where that server does not know it.
    pub(super) fn seen_from(&self, teller: &Address) -> Option<Address> {
        let host = match (self.host.as_str(), teller) {
            ("?", _) | ("", Address::Unix { .. }) => return None,
            ("", Address::Tcp { host, .. }) => host.clone(),
            (host, _) => host.to_owned(),
        };
        Some(Address::Tcp { host, port: self.port })
    }
}

/// What the error of a node says about where else to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Redirect {
    /// `MOVED`: from now on, for this slot.
    Moved { slot: u16, to: NodeName },
    /// `ASK`: this once.
    Ask { to: NodeName },
    /// `TRYAGAIN`: nowhere, because the keys of the command are at two nodes.
    TryAgain,
    /// `CLUSTERDOWN`: nowhere, because too many masters are away.
    Down,
}

impl Redirect {
    /// Of this error text, if it is one.
    pub(super) fn of(error: &[u8]) -> Option<Redirect> {
        let mut words = error.split(|byte| *byte == b' ');
        let code = words.next()?;
        match code {
            b"TRYAGAIN" => return Some(Redirect::TryAgain),
            b"CLUSTERDOWN" => return Some(Redirect::Down),
            _ => {}
        }
        if !matches!(code, b"MOVED" | b"ASK") {
            return None;
        }
        let slot = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
        let place = words.next()?;
        let colon = place.iter().rposition(|byte| *byte == b':')?;
        let port = std::str::from_utf8(&place[colon + 1..]).ok()?.parse().ok()?;
        let to = NodeName::new(&place[..colon], port)?;
        Some(if code == b"MOVED" { Redirect::Moved { slot, to } } else { Redirect::Ask { to } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp { host: host.to_owned(), port }
    }

    #[test]
    fn redirects_name_a_slot_and_a_node() {
        let teller = tcp("teller", 1);
        for (error, place) in [
            ("MOVED 3999 127.0.0.1:6381", tcp("127.0.0.1", 6381)),
            ("MOVED 3999 ::1:6381", tcp("::1", 6381)),
            ("MOVED 3999 node.example:6381", tcp("node.example", 6381)),
            ("MOVED 3999 :6381", tcp("teller", 6381)),
        ] {
            let Some(Redirect::Moved { slot: 3999, to }) = Redirect::of(error.as_bytes()) else { panic!("{error}") };
            assert_eq!(to.seen_from(&teller), Some(place));
        }
        let Some(Redirect::Moved { to, .. }) = Redirect::of(b"MOVED 3999 ?:6381") else { panic!("it is one") };
        assert_eq!(to.seen_from(&teller), None);
        assert!(matches!(Redirect::of(b"ASK 1 h:2"), Some(Redirect::Ask { .. })));
        assert_eq!(Redirect::of(b"TRYAGAIN Multiple keys request"), Some(Redirect::TryAgain));
        assert_eq!(Redirect::of(b"CLUSTERDOWN The cluster is down"), Some(Redirect::Down));
    }

    #[test]
    fn other_errors_are_none() {
        for error in [
            "",
            "MOVED",
            "MOVED x h:1",
            "MOVED 1",
            "MOVED 1 h",
            "MOVED 1 h:x",
            "ASK 1 h:0",
            "MOVEDX 1 h:1",
            "ERR MOVED 1 h:1",
        ] {
            assert_eq!(Redirect::of(error.as_bytes()), None, "{error}");
        }
    }
}
