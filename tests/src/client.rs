//! A well-behaved client on tungstenite, in the words of the protocol: rooms, messages, replies.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;
use tungstenite::protocol::frame::CloseFrame;
use tungstenite::{Error, Message, WebSocket};

use crate::{DEADLINE, Server};

/// An open WebSocket connection. Pings are answered whenever it reads.
pub struct Client {
    socket: WebSocket<TcpStream>,
    next_id: u64,
}

impl Client {
    /// Connects to the server on `/ws`.
    ///
    /// # Panics
    ///
    /// If the upgrade is not accepted.
    pub fn connect(server: &Server) -> Client {
        Client::connect_to(server.address(), "/ws")
    }

    /// Connects on a path of one's choice.
    ///
    /// # Panics
    ///
    /// If the upgrade is not accepted.
    pub fn connect_to(address: SocketAddr, path: &str) -> Client {
        let stream = TcpStream::connect_timeout(&address, DEADLINE)
            .unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"));
        Client::upgrade(stream, path)
    }

    /// Makes a WebSocket of a socket of one's own.
    ///
    /// # Panics
    ///
    /// If the upgrade is not accepted.
    pub fn upgrade(stream: TcpStream, path: &str) -> Client {
        let address = stream.peer_addr().expect("a connected socket");
        stream.set_nodelay(true).expect("a fresh socket takes options");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout above zero");
        stream.set_write_timeout(Some(DEADLINE)).expect("a timeout above zero");
        let (socket, _) = tungstenite::client(format!("ws://{address}{path}"), stream)
            .unwrap_or_else(|error| panic!("not upgraded: {error}"));
        Client { socket, next_id: 1 }
    }

    /// Connects and joins a room.
    ///
    /// # Panics
    ///
    /// If either fails.
    pub fn member(server: &Server, room: &str) -> Client {
        let mut client = Client::connect(server);
        client.subscribe(room);
        client
    }

    /// Sends one text frame.
    ///
    /// # Panics
    ///
    /// If the server does not take it.
    pub fn send(&mut self, text: impl AsRef<str>) {
        self.socket.send(Message::text(text.as_ref())).expect("the server takes the frame");
    }

    /// Sends one text frame holding this JSON.
    ///
    /// # Panics
    ///
    /// If the server does not take it.
    pub fn send_json(&mut self, value: &Value) {
        self.send(value.to_string());
    }

    /// Sends one binary frame.
    ///
    /// # Panics
    ///
    /// If the server does not take it.
    pub fn send_binary(&mut self, bytes: &[u8]) {
        self.socket.send(Message::binary(bytes.to_vec())).expect("the server takes the frame");
    }

    fn next(&mut self) -> Message {
        self.next_within(DEADLINE).unwrap_or_else(|| panic!("nothing arrived within {DEADLINE:?}"))
    }

    fn next_within(&mut self, limit: Duration) -> Option<Message> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            self.socket.get_ref().set_read_timeout(Some(left)).expect("a timeout above zero");
            match self.socket.read() {
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Ok(message) => return Some(message),
                Err(Error::Io(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => panic!("waiting for a message: {error}"),
            }
        }
    }

    /// The next text, if it comes within this time.
    ///
    /// # Panics
    ///
    /// If something else comes.
    pub fn recv_within(&mut self, limit: Duration) -> Option<String> {
        match self.next_within(limit)? {
            Message::Text(text) => Some(text.as_str().to_owned()),
            other => panic!("not a text: {other:?}"),
        }
    }

    /// The next text.
    ///
    /// # Panics
    ///
    /// If none comes, or something else does.
    pub fn recv(&mut self) -> String {
        match self.next() {
            Message::Text(text) => text.as_str().to_owned(),
            other => panic!("not a text: {other:?}"),
        }
    }

    /// The next text as JSON.
    ///
    /// # Panics
    ///
    /// If none comes, or something else does.
    pub fn recv_json(&mut self) -> Value {
        let text = self.recv();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("not JSON ({error}): {text}"))
    }

    /// The next text must be exactly this one.
    ///
    /// # Panics
    ///
    /// If it is not.
    #[track_caller]
    pub fn expect(&mut self, text: &str) {
        assert_eq!(self.recv(), text);
    }

    /// The next text must be this JSON, in any order of keys.
    ///
    /// # Panics
    ///
    /// If it is not.
    #[track_caller]
    pub fn expect_json(&mut self, value: &Value) {
        assert_eq!(&self.recv_json(), value);
    }

    /// The next texts must be these in any order.
    ///
    /// # Panics
    ///
    /// If they are not.
    #[track_caller]
    pub fn expect_in_any_order(&mut self, texts: &[&str]) {
        let mut received: Vec<String> = texts.iter().map(|_| self.recv()).collect();
        let mut expected = texts.to_vec();
        received.sort_unstable();
        expected.sort_unstable();
        assert_eq!(received, expected);
    }

    /// The next text must be an `ERROR` with this code and a reason for people; gives it.
    ///
    /// # Panics
    ///
    /// If it is not.
    #[track_caller]
    pub fn expect_error(&mut self, code: &str) -> Value {
        let error = self.recv_json();
        assert_eq!(error["type"], "ERROR", "{error}");
        assert_eq!(error["code"], code, "{error}");
        assert!(error["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "no reason: {error}");
        error
    }

    /// The next text must be the `MESSAGE` of this room whose message is this raw JSON, byte for byte.
    ///
    /// # Panics
    ///
    /// If it is not.
    #[track_caller]
    pub fn expect_message(&mut self, room: &str, raw: &str) {
        self.expect(&message(room, raw));
    }

    /// The next text must be the `GAP` that tells members of this room of an outage.
    ///
    /// # Panics
    ///
    /// If it is not.
    #[track_caller]
    pub fn expect_interruption(&mut self, room: &str) {
        self.expect(&format!(r#"{{"type":"GAP","room":"{room}","reason":"interrupted"}}"#));
    }

    /// The next text must be a `MESSAGE` of this room; gives the message.
    ///
    /// # Panics
    ///
    /// If it is not.
    #[track_caller]
    pub fn recv_message(&mut self, room: &str) -> Value {
        let mut value = self.recv_json();
        assert_eq!(value["type"], "MESSAGE", "{value}");
        assert_eq!(value["room"], room, "{value}");
        value["message"].take()
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Joins a room and waits until that is confirmed.
    ///
    /// # Panics
    ///
    /// If the next text does not confirm it.
    #[track_caller]
    pub fn subscribe(&mut self, room: &str) {
        let id = self.id();
        let room = Value::from(room);
        self.send(format!(r#"{{"type":"SUBSCRIBE","room":{room},"id":{id}}}"#));
        self.expect(&format!(r#"{{"type":"SUBSCRIBED","room":{room},"id":{id}}}"#));
    }

    /// Leaves a room and waits until that is confirmed.
    ///
    /// # Panics
    ///
    /// If the next text does not confirm it.
    #[track_caller]
    pub fn unsubscribe(&mut self, room: &str) {
        let id = self.id();
        let room = Value::from(room);
        self.send(format!(r#"{{"type":"UNSUBSCRIBE","room":{room},"id":{id}}}"#));
        self.expect(&format!(r#"{{"type":"UNSUBSCRIBED","room":{room},"id":{id}}}"#));
    }

    /// Sends a message, raw JSON, to a room, and asks for no reply.
    ///
    /// # Panics
    ///
    /// If the server does not take it.
    pub fn publish(&mut self, room: &str, raw: &str) {
        let room = Value::from(room);
        self.send(format!(r#"{{"type":"SEND_MESSAGE","roomId":{room},"message":{raw}}}"#));
    }

    /// Sends a message to a room of which this client is no member, and waits for the `ACK`.
    ///
    /// # Panics
    ///
    /// If the next text is not the `ACK`.
    #[track_caller]
    pub fn publish_acknowledged(&mut self, room: &str, raw: &str) {
        let id = self.id();
        let room = Value::from(room);
        self.send(format!(r#"{{"type":"SEND_MESSAGE","roomId":{room},"message":{raw},"id":{id}}}"#));
        self.expect(&format!(r#"{{"type":"ACK","id":{id}}}"#));
    }

    /// Sends PING; its PONG must be the next text: the server has seen all that was sent before, and what it had to say
    /// to that at once has been read.
    ///
    /// # Panics
    ///
    /// If anything else comes first.
    #[track_caller]
    pub fn fence(&mut self) {
        let id = self.id();
        self.send(format!(r#"{{"type":"PING","id":{id}}}"#));
        self.expect(&format!(r#"{{"type":"PONG","id":{id}}}"#));
    }

    /// The next thing must be the server's close frame with a code; gives the code. The frame is answered.
    ///
    /// # Panics
    ///
    /// If anything else comes first.
    #[track_caller]
    pub fn recv_close(&mut self) -> u16 {
        match self.next() {
            Message::Close(Some(CloseFrame { code, .. })) => {
                // The answer goes out with the next write; the server may be gone by then.
                let _ = self.socket.flush();
                code.into()
            }
            other => panic!("not a close frame with a code: {other:?}"),
        }
    }

    /// Reads on, past texts, to the server's close frame; gives its code.
    ///
    /// # Panics
    ///
    /// If none comes, or one without a code.
    #[track_caller]
    pub fn skip_to_close(&mut self) -> u16 {
        loop {
            match self.next() {
                Message::Text(_) => {}
                Message::Close(Some(CloseFrame { code, .. })) => return code.into(),
                other => panic!("neither a text nor a close frame with a code: {other:?}"),
            }
        }
    }

    /// Closes in order: sends the close frame and reads to the end of the connection.
    ///
    /// # Panics
    ///
    /// If the server does not end the connection.
    pub fn leave(mut self) {
        self.socket.close(None).expect("an open connection");
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            match self.socket.read() {
                Ok(_) => {}
                Err(Error::ConnectionClosed) => return,
                Err(Error::Io(error)) if error.kind() == ErrorKind::ConnectionReset => return,
                Err(Error::Io(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => panic!("waiting for the end: {error}"),
            }
        }
        panic!("the connection has not ended within {DEADLINE:?}");
    }
}

/// The text of a `MESSAGE`.
fn message(room: &str, raw: &str) -> String {
    format!(r#"{{"type":"MESSAGE","room":{},"message":{raw}}}"#, Value::from(room))
}
