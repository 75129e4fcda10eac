//! A connection to Redis for bytes that `redis-cli` cannot carry, and for listening to a channel as an outsider.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use crate::DEADLINE;

/// What Redis replied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A status such as `OK`.
    Status(String),
    /// An error, with its prefix.
    Error(String),
    /// An integer.
    Integer(i64),
    /// A string of bytes, or none.
    Bytes(Option<Vec<u8>>),
    /// An array.
    Array(Vec<Reply>),
}

/// One connection, in RESP2.
pub struct RespConnection {
    reader: BufReader<TcpStream>,
}

impl RespConnection {
    /// Connects to Redis on this port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// If nobody listens.
    pub fn connect(port: u16) -> std::io::Result<RespConnection> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        stream.set_nodelay(true)?;
        Ok(RespConnection { reader: BufReader::new(stream) })
    }

    /// Sends a command and waits for its reply.
    ///
    /// # Panics
    ///
    /// If the connection fails.
    pub fn command(&mut self, parts: &[&[u8]]) -> Reply {
        self.try_command(parts).unwrap_or_else(|error| panic!("redis does not reply: {error}"))
    }

    /// Sends a command and waits for its reply.
    ///
    /// # Errors
    ///
    /// If the connection fails.
    pub fn try_command(&mut self, parts: &[&[u8]]) -> std::io::Result<Reply> {
        let mut bytes = format!("*{}\r\n", parts.len()).into_bytes();
        for part in parts {
            bytes.extend(format!("${}\r\n", part.len()).into_bytes());
            bytes.extend_from_slice(part);
            bytes.extend(b"\r\n");
        }
        self.reader.get_mut().write_all(&bytes)?;
        self.reply()
    }

    /// Subscribes this connection to a channel; from then on [`RespConnection::next_message`] is its only use.
    ///
    /// # Panics
    ///
    /// If Redis does not confirm.
    pub fn subscribe(mut self, channel: &str) -> RespConnection {
        let confirmed = self.command(&[b"SUBSCRIBE", channel.as_bytes()]);
        assert!(matches!(&confirmed, Reply::Array(parts) if parts.len() == 3), "not subscribed: {confirmed:?}");
        self
    }

    /// The payload of the next message of the channel subscribed to.
    ///
    /// # Panics
    ///
    /// If none comes.
    pub fn next_message(&mut self) -> Vec<u8> {
        match self.reply().expect("a message within the deadline") {
            Reply::Array(parts) => match parts.into_iter().nth(2) {
                Some(Reply::Bytes(Some(payload))) => payload,
                other => panic!("not a message: {other:?}"),
            },
            other => panic!("not a message: {other:?}"),
        }
    }

    fn reply(&mut self) -> std::io::Result<Reply> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let (kind, rest) = line.trim_end().split_at(1);
        let number = || rest.parse::<i64>().unwrap_or_else(|_| panic!("not RESP: {line:?}"));
        Ok(match kind {
            "+" => Reply::Status(rest.to_owned()),
            "-" => Reply::Error(rest.to_owned()),
            ":" => Reply::Integer(number()),
            "$" => match usize::try_from(number()) {
                Ok(length) => {
                    let mut bytes = vec![0; length + 2];
                    self.reader.read_exact(&mut bytes)?;
                    bytes.truncate(length);
                    Reply::Bytes(Some(bytes))
                }
                Err(_) => Reply::Bytes(None),
            },
            "*" => Reply::Array((0..number()).map(|_| self.reply()).collect::<Result<_, _>>()?),
            _ => panic!("not RESP: {line:?}"),
        })
    }
}
