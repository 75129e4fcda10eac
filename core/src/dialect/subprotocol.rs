//! Which of the subprotocols that a client offers is selected.

use super::Dialect;
use crate::ws::handshake::{Offered, SUBPROTOCOL};

/// Which subprotocols are selected in [`Dialect::Fanfare`], where a client offers some. Browsers, and many libraries, fail a
/// connection for which they have offered some and the server has selected none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Subprotocols {
    /// [`SUBPROTOCOL`] alone.
    #[default]
    Own,
    /// [`SUBPROTOCOL`], or else the first that is offered and does not begin with `fanfare.`: clients need no change that offer
    /// names of their own.
    First,
}

impl Dialect {
    /// Which of the offered subprotocols the response of an upgrade names, if any. Clients of the dialects that replace Node
    /// servers get the first, as those servers select it. None whose name begins with `fanfare.` is selected but
    /// [`SUBPROTOCOL`], and that in [`Dialect::Fanfare`] only, which it names.
    ///
    /// For frameworks that answer upgrades by themselves:
    ///
    /// ```
    /// use fanfare_core::ws::handshake::Offered;
    /// use fanfare_core::{Dialect, Subprotocols};
    ///
    /// let offered = Offered::read([&b"fanfare.token.secret, chat"[..], b"json"]);
    /// assert_eq!(Dialect::Classic.subprotocol(offered, Subprotocols::Own), Some("chat"));
    /// assert_eq!(Dialect::Fanfare.subprotocol(offered, Subprotocols::Own), None);
    /// assert_eq!(Dialect::Fanfare.subprotocol(offered, Subprotocols::First), Some("chat"));
    /// ```
    pub fn subprotocol<'a>(self, offered: Offered<'a>, fanfare: Subprotocols) -> Option<&'a str> {
        match (self, fanfare) {
            (Dialect::Fanfare, _) if offered.own => Some(SUBPROTOCOL),
            (Dialect::Fanfare, Subprotocols::Own) => None,
            (Dialect::Fanfare, Subprotocols::First) | (Dialect::Classic | Dialect::Broadcast | Dialect::Echo, _) => {
                offered.first
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_dialect_selects_what_it_may() {
        let select = |dialect: Dialect, values: &str, fanfare| {
            let subprotocol = dialect.subprotocol(Offered::read(values.split(';').map(str::as_bytes)), fanfare);
            subprotocol.map(str::to_owned)
        };
        let all = [Dialect::Fanfare, Dialect::Classic, Dialect::Broadcast, Dialect::Echo];
        for (values, own, first, other) in [
            ("", None, None, None),
            ("fanfare.v1", Some("fanfare.v1"), Some("fanfare.v1"), None),
            ("chat, fanfare.v1", Some("fanfare.v1"), Some("fanfare.v1"), Some("chat")),
            ("chat;fanfare.v1,json", Some("fanfare.v1"), Some("fanfare.v1"), Some("chat")),
            (" bearer , abc.def", None, Some("bearer"), Some("bearer")),
            ("fanfare.token.s3cret,chat", None, Some("chat"), Some("chat")),
            ("fanfare.token.s3cret", None, None, None),
            ("fanfare.v2", None, None, None),
            ("a b,,\"c\",d/e,\u{e9},f", None, Some("f"), Some("f")),
        ] {
            for dialect in all {
                let is_fanfare = dialect == Dialect::Fanfare;
                let expected = |fanfare: Option<&str>| if is_fanfare { fanfare } else { other }.map(str::to_owned);
                assert_eq!(select(dialect, values, Subprotocols::Own), expected(own), "{dialect:?} {values}");
                assert_eq!(select(dialect, values, Subprotocols::First), expected(first), "{dialect:?} {values}");
            }
        }
    }
}
