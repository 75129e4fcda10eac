//! The field `Cookie` of a request (RFC 6265 §4.2), read as npm's `cookie` reads it, so that both find the same value.

use percent_encoding::percent_decode;

use crate::secret::Secret;

/// The value of the first cookie of this name: without quotes, percent-decoded.
///
/// A page on a neighbouring domain can add a second cookie of the name, and which one comes first is the browser's choice. So a
/// cookie is trusted for what is signed in it, not for its place.
pub fn cookie(field: &[u8], name: &str) -> Option<Secret> {
    field.split(|byte| *byte == b';').find_map(|pair| {
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        if pair[..equals].trim_ascii() != name.as_bytes() {
            return None;
        }
        Some(cookie_value(&pair[equals + 1..]))
    })
}

/// What the value of a cookie means: without quotes, percent-decoded.
pub fn cookie_value(written: &[u8]) -> Secret {
    let value = written.trim_ascii();
    let value = value.strip_prefix(b"\"").and_then(|inner| inner.strip_suffix(b"\"")).unwrap_or(value);
    Secret::new(percent_decode(value).collect::<Vec<u8>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn expect(field: &str, value: Option<&str>) {
        let found = cookie(field.as_bytes(), "sid");
        assert_eq!(found.as_ref().map(Secret::expose), value.map(str::as_bytes), "{field:?}");
    }

    #[test]
    fn the_first_of_the_name_is_taken_and_no_other_name() {
        expect("a=1; sid=x; sid=y", Some("x"));
        expect("xsid=1;sidx=2; SID=3;sid", None);
        expect("", None);
        expect("sid=", Some(""));
        expect(" sid = x=y ;", Some("x=y"));
    }

    #[test]
    fn quotes_and_percent_signs_are_undone_once() {
        expect("sid=\"x y\"", Some("x y"));
        expect("sid=s%3Aa%2Fb%2525", Some("s:a/b%25"));
        expect("sid=%zz%4", Some("%zz%4"));
        expect("sid=\"", Some("\""));
    }
}
