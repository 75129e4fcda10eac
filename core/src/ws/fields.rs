//! The header fields of a request that are read here, found by one pass over all of them; and lists in them.

use httparse::Header;

/// The name of such a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Authorization,
    Connection,
    ContentLength,
    Cookie,
    Extensions,
    FetchSite,
    ForwardedFor,
    ForwardedHost,
    Host,
    Key,
    LastEventId,
    Origin,
    Protocol,
    TransferEncoding,
    Upgrade,
    Version,
}

/// How they are written, in the order of [`Name`].
const NAMES: [&str; 16] = [
    "Authorization",
    "Connection",
    "Content-Length",
    "Cookie",
    "Sec-WebSocket-Extensions",
    "Sec-Fetch-Site",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "Host",
    "Sec-WebSocket-Key",
    "Last-Event-ID",
    "Origin",
    "Sec-WebSocket-Protocol",
    "Transfer-Encoding",
    "Upgrade",
    "Sec-WebSocket-Version",
];

impl Name {
    /// The only name that it can be, by its length and, where two have the same, its first letter.
    fn of(text: &str) -> Option<Name> {
        let name = match (text.len(), text.as_bytes()) {
            (4, _) => Name::Host,
            (6, [b'C' | b'c', ..]) => Name::Cookie,
            (6, _) => Name::Origin,
            (7, _) => Name::Upgrade,
            (10, _) => Name::Connection,
            (13, [b'A' | b'a', ..]) => Name::Authorization,
            (13, _) => Name::LastEventId,
            (14, [b'C' | b'c', ..]) => Name::ContentLength,
            (14, _) => Name::FetchSite,
            (15, _) => Name::ForwardedFor,
            (16, _) => Name::ForwardedHost,
            (17, [b'S' | b's', ..]) => Name::Key,
            (17, _) => Name::TransferEncoding,
            (21, _) => Name::Version,
            (22, _) => Name::Protocol,
            (24, _) => Name::Extensions,
            _ => return None,
        };
        text.eq_ignore_ascii_case(NAMES[name as usize]).then_some(name)
    }
}

/// Where the fields of one name are: the index of the first, and how many there are.
#[derive(Clone, Copy, Default)]
struct Place {
    first: usize,
    count: usize,
}

/// All header fields, and where those of each [`Name`] are.
pub(super) struct Fields<'h, 'a> {
    headers: &'h [Header<'a>],
    places: [Place; NAMES.len()],
}

impl<'h, 'a: 'h> Fields<'h, 'a> {
    /// Looks through all of them.
    pub fn of(all: &'h [Header<'a>]) -> Fields<'h, 'a> {
        let mut places = [Place::default(); NAMES.len()];
        for (index, header) in all.iter().enumerate() {
            if let Some(name) = Name::of(header.name) {
                let place = &mut places[name as usize];
                if place.count == 0 {
                    place.first = index;
                }
                place.count += 1;
            }
        }
        Fields { headers: all, places }
    }

    /// How many fields have this name.
    pub fn count(&self, name: Name) -> usize {
        self.places[name as usize].count
    }

    /// Their values, in their order.
    pub fn values(&self, name: Name) -> impl Iterator<Item = &'a [u8]> + use<'h, 'a> {
        let Place { first, count } = self.places[name as usize];
        let text = NAMES[name as usize];
        let is_first = move |index: usize| index == 0;
        let found = self.headers[first..].iter().enumerate();
        found
            .filter(move |(index, header)| is_first(*index) || header.name.eq_ignore_ascii_case(text))
            .map(|(_, header)| header.value)
            .take(count)
    }

    /// The same in a list.
    #[inline]
    pub fn all(&self, name: Name) -> Vec<&'a [u8]> {
        // Most requests have none of those that are wanted so.
        if self.count(name) == 0 { Vec::new() } else { self.values(name).collect() }
    }

    /// The value of a field that must occur exactly once.
    pub fn single(&self, name: Name) -> Option<&'a [u8]> {
        let Place { first, count } = self.places[name as usize];
        (count == 1).then(|| self.headers[first].value.trim_ascii())
    }
}

/// The elements of a list in a header (RFC 9110 §5.6.1).
pub(super) fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// Whether the list has this token, in any case.
pub(super) fn has_token(value: &[u8], token: &str) -> bool {
    tokens(value).any(|found| found.eq_ignore_ascii_case(token.as_bytes()))
}

/// A token of RFC 9110 §5.6.2: what a subprotocol's name is.
pub(super) fn is_token(text: &[u8]) -> bool {
    let is_of_a_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(is_of_a_token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_in_any_case_and_number() {
        for (index, text) in NAMES.iter().enumerate() {
            for text in [(*text).to_owned(), text.to_lowercase(), text.to_uppercase()] {
                assert_eq!(Name::of(&text).map(|name| name as usize), Some(index), "{text}");
                assert_eq!(Name::of(&format!("{}x", &text[1..])), None);
            }
        }
        let header = |name, value: &'static [u8]| Header { name, value };
        let all = [
            header("accept", b"*/*"),
            header("host", b" h "),
            header("Upgrade", b"a"),
            header("origin-", b"x"),
            header("UPGRADE", b"b"),
            header("upgrade", b"c"),
        ];
        let fields = Fields::of(&all);
        assert_eq!(fields.values(Name::Upgrade).collect::<Vec<_>>(), [b"a", b"b", b"c"]);
        assert_eq!((fields.single(Name::Upgrade), fields.count(Name::Upgrade)), (None, 3));
        assert_eq!((fields.single(Name::Host), fields.values(Name::Host).next()), (Some(&b"h"[..]), Some(&b" h "[..])));
        assert_eq!((fields.single(Name::Origin), fields.values(Name::Origin).next()), (None, None));
    }
}
