//! From HTTP to WebSocket: the request of a client and the response to it (RFC 6455 §4).

use std::fmt::Write as _;

use crate::{Error, Result};

/// The key of RFC 6455 §1.3, which every request here carries: there are no caches to hide it from.
pub const SAMPLE_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// What RFC 6455 §1.3 says the server answers to [`SAMPLE_KEY`].
pub const SAMPLE_ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A field line that offers compression and asks that neither side keep what came before.
pub const COMPRESSION_OFFER: &str =
    "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n";

/// The head of a valid upgrade request, with further field lines (each ended by CRLF).
pub fn upgrade_request(path: &str, further_fields: &str) -> String {
    upgrade_request_to("localhost", path, further_fields)
}

/// The same to a server that is called `host`.
pub fn upgrade_request_to(host: &str, path: &str, further_fields: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {SAMPLE_KEY}\r\n{further_fields}\r\n"
    )
}

/// `path`, which may have a query already, with one that names `rooms` to join.
pub fn path_joining<'a>(path: &str, rooms: impl IntoIterator<Item = &'a str>) -> String {
    let mut path = path.to_owned();
    for room in rooms {
        path.push(if path.contains('?') { '&' } else { '?' });
        path.push_str("room=");
        write_query_value(room, &mut path);
    }
    path
}

/// Encodes as `URLSearchParams` does it.
fn write_query_value(value: &str, out: &mut String) {
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'*' | b'-' | b'.' | b'_' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            _ => {
                // Writing to a string cannot fail.
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
}

/// The length of the head at the start of `bytes`, the empty line included, once it is there.
pub fn head_bytes(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

/// The end of the response head at the start of `bytes`, once it is there and says that the connection is upgraded.
///
/// # Errors
///
/// If it says something else.
pub fn upgraded(bytes: &[u8]) -> Result<Option<usize>> {
    let Some(end) = head_bytes(bytes) else { return Ok(None) };
    let head = String::from_utf8_lossy(&bytes[..end]);
    if !head.starts_with("HTTP/1.1 101 ") || !head.contains(SAMPLE_ACCEPT) {
        return Err(Error::Refused(head.trim_end().to_owned()));
    }
    Ok(Some(end))
}

/// Appends the response of a server that accepts the upgrade.
pub fn write_upgraded(out: &mut Vec<u8>) {
    let head =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ";
    out.extend_from_slice(format!("{head}{SAMPLE_ACCEPT}\r\n\r\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_stand_in_a_query_behind_what_is_in_it() {
        assert_eq!(path_joining("/ws", ["r0", "caf\u{e9} & co"]), "/ws?room=r0&room=caf%C3%A9+%26+co");
        assert_eq!(path_joining("/?token=1", ["r0"]), "/?token=1&room=r0");
        assert_eq!(path_joining("/ws", []), "/ws");
    }

    #[test]
    fn further_fields_stand_in_the_request() {
        let request = upgrade_request_to("h:80", "/ws", "X: y\r\n");
        assert!(request.starts_with("GET /ws HTTP/1.1\r\nHost: h:80\r\n") && request.ends_with("==\r\nX: y\r\n\r\n"));
        assert_eq!(upgrade_request("/ws", "X: y\r\n"), request.replace("h:80", "localhost"));
    }

    #[test]
    fn an_upgrade_counts_only_with_status_and_key_right() {
        let mut good = Vec::new();
        write_upgraded(&mut good);
        assert_eq!(upgraded(&good), Ok(Some(good.len())));
        assert_eq!(upgraded(&good[..good.len() - 1]), Ok(None));
        assert!(upgraded(b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\n\r\n").is_err());
        let refusal = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5";
        assert_eq!(upgraded(format!("{refusal}\r\n\r\n").as_bytes()), Err(Error::Refused(refusal.to_owned())));
    }
}
