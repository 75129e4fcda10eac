//! Plain HTTP by hand: requests as bytes, responses taken apart.

use std::net::SocketAddr;

use crate::RawClient;

/// A response to a plain request or to an upgrade.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The head as it came, status line and fields, without the empty line.
    pub head: String,
    /// The field lines in order, names in lower case.
    pub fields: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// Takes a head apart, without its empty line.
    pub(crate) fn parse(head: &str) -> Response {
        let mut lines = head.split("\r\n");
        let status_line = lines.next().unwrap_or_default();
        let status = status_line.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok());
        let status = status.unwrap_or_else(|| panic!("not a status line: {status_line:?}"));
        let fields = lines.map(|line| {
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("not a field line: {line:?}"));
            (name.to_ascii_lowercase(), value.trim().to_owned())
        });
        Response { status, fields: fields.collect(), head: head.to_owned(), body: Vec::new() }
    }

    /// The value of the field named so (in lower case), if there is exactly one.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(field, _)| field == name).map(|(_, value)| value.as_str());
        let value = values.next();
        assert!(values.next().is_none(), "more than one {name}: {}", self.head);
        value
    }

    /// The body as text.
    ///
    /// # Panics
    ///
    /// If it is not UTF-8.
    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("a body in UTF-8")
    }
}

/// Sends the bytes of one request over a connection of its own, and reads the response.
///
/// The body ends where `Content-Length` says, or with the connection. A response to HEAD has none.
///
/// # Panics
///
/// If no response comes.
pub fn http(address: SocketAddr, request: impl AsRef<[u8]>) -> Response {
    let request = request.as_ref();
    let mut client = RawClient::connect(address);
    client.write(request);
    if request.starts_with(b"HEAD ") { client.read_head() } else { client.read_response() }
}

/// GET over a connection of its own.
///
/// # Panics
///
/// If no response comes.
pub fn get(address: SocketAddr, path: &str) -> Response {
    http(address, format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"))
}
