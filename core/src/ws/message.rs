//! Messages: what frames are about. An adapter that has bytes gets them from the decoder. An adapter whose framework reads and
//! writes frames speaks in messages itself.

use super::encode;
use crate::error::Violation;
use tungstenite::protocol::frame::coding::CloseCode;

/// A close code that IANA has registered and tungstenite's table lacks.
const BAD_GATEWAY: u16 = 1014;
/// RFC 6455 §5.5.
pub(super) const CONTROL_BYTES_MAX: usize = 125;

/// A whole message or control frame: all that there is in RFC 6455, so it is not `#[non_exhaustive]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A text message, all fragments joined.
    Text(&'a str),
    /// A binary message, all fragments joined.
    Binary(&'a [u8]),
    /// A ping and its payload.
    Ping(&'a [u8]),
    /// A pong and its payload.
    Pong(&'a [u8]),
    /// A close frame, with its code and reason if it has a body.
    Close(Option<(u16, &'a str)>),
}

impl Message<'_> {
    /// Bytes of its payload, a close code's two included.
    pub fn payload_bytes(&self) -> usize {
        match self {
            Message::Text(text) => text.len(),
            Message::Binary(bytes) | Message::Ping(bytes) | Message::Pong(bytes) => bytes.len(),
            Message::Close(body) => body.map_or(0, |(_, reason)| 2 + reason.len()),
        }
    }

    /// Checks of a message that was decoded elsewhere what a decoder here would have refused.
    ///
    /// # Errors
    /// The first breach of RFC 6455, or of the limit.
    pub(crate) fn check(&self, message_bytes_max: usize) -> Result<(), Violation> {
        match self {
            Message::Text(_) | Message::Binary(_) if self.payload_bytes() > message_bytes_max => Err(Violation::TooBig),
            Message::Text(_) | Message::Binary(_) => Ok(()),
            _ if self.payload_bytes() > CONTROL_BYTES_MAX => Err(Violation::ControlTooLong),
            Message::Close(Some((code, _))) if !is_close_code(*code) => Err(Violation::CloseCode),
            _ => Ok(()),
        }
    }
}

/// Whether a peer may send this close code (RFC 6455 §7.4).
pub(super) fn is_close_code(code: u16) -> bool {
    CloseCode::from(code).is_allowed() || code == BAD_GATEWAY
}

/// The messages in a run of frames that a server sends: see [`Delivery::messages`](crate::Delivery::messages).
///
/// It ends early at what is not such a frame: a compressed one, or an HTTP response.
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    run: &'a [u8],
}

impl<'a> Messages<'a> {
    /// Those of a run of whole frames that were made by [`encode`].
    pub fn new(run: &'a [u8]) -> Messages<'a> {
        Messages { run }
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let (first, frame, payload) = encode::split_frame(self.run)?;
        let message = match first {
            0x81 => Message::Text(std::str::from_utf8(payload).ok()?),
            0x82 => Message::Binary(payload),
            0x88 => Message::Close(match payload {
                [high, low, reason @ ..] => {
                    Some((u16::from_be_bytes([*high, *low]), std::str::from_utf8(reason).ok()?))
                }
                _ => None,
            }),
            0x89 => Message::Ping(payload),
            0x8a => Message::Pong(payload),
            _ => return None,
        };
        self.run = &self.run[frame..];
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ws::deflate::{Compression, Deflater, Window};
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Owned {
        Text(String),
        Binary(Vec<u8>),
        Ping,
        Pong(Vec<u8>),
        Close(Option<(u16, String)>),
    }

    fn message() -> impl Strategy<Value = Owned> {
        let payload = |bytes_max| prop::collection::vec(any::<u8>(), 0..=bytes_max);
        prop_oneof![
            ".{0,200}".prop_map(Owned::Text),
            prop::sample::select(vec![125, 126, 65_535, 65_536]).prop_map(|length| Owned::Text("x".repeat(length))),
            payload(300).prop_map(Owned::Binary),
            Just(Owned::Ping),
            payload(CONTROL_BYTES_MAX).prop_map(Owned::Pong),
            prop::option::of((1000u16..5000, "[a-z]{0,20}")).prop_map(Owned::Close),
        ]
    }

    #[test]
    fn close_codes_are_those_that_a_peer_may_send() {
        for code in [1000, 1003, 1007, 1014, 3000, 4000, 4999] {
            assert!(is_close_code(code), "{code}");
        }
        for code in [0, 999, 1004, 1005, 1006, 1015, 2999, 5000, u16::MAX] {
            assert!(!is_close_code(code), "{code}");
        }
    }

    #[test]
    fn each_message_holds_as_much_as_its_kind_may() {
        let long = [b'x'; CONTROL_BYTES_MAX + 1];
        let most = &long[1..];
        for fits in
            [Message::Ping(most), Message::Pong(most), Message::Binary(&long[..10]), Message::Text("ten bytes!")]
        {
            assert_eq!(fits.check(10), Ok(()), "{fits:?}");
        }
        for control in [Message::Ping(&long), Message::Pong(&long)] {
            assert_eq!(control.check(1_000), Err(Violation::ControlTooLong), "{control:?}");
        }
        for data in [Message::Binary(&long[..11]), Message::Text("eleven more")] {
            assert_eq!(data.check(10), Err(Violation::TooBig), "{data:?}");
        }
        assert_eq!(Message::Close(Some((1005, ""))).check(10), Err(Violation::CloseCode));
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_found_again(messages in prop::collection::vec(message(), 0..8)) {
            let (mut run, mut expected) = (Vec::new(), Vec::new());
            for message in &messages {
                match message {
                    Owned::Text(text) => encode::text(&mut run, text.as_bytes()),
                    Owned::Binary(bytes) => encode::binary(&mut run, bytes),
                    Owned::Ping => encode::ping(&mut run),
                    Owned::Pong(payload) => encode::pong(&mut run, payload),
                    Owned::Close(None) => encode::close(&mut run, None, ""),
                    Owned::Close(Some((code, reason))) => encode::close(&mut run, Some(*code), reason),
                }
                expected.push(match message {
                    Owned::Text(text) => Message::Text(text),
                    Owned::Binary(bytes) => Message::Binary(bytes),
                    Owned::Ping => Message::Ping(b""),
                    Owned::Pong(payload) => Message::Pong(payload),
                    Owned::Close(body) => {
                        Message::Close(body.as_ref().map(|(code, reason)| (*code, reason.as_str())))
                    }
                });
            }
            prop_assert_eq!(Messages::new(&run).collect::<Vec<_>>(), expected);
        }

        #[test]
        fn any_bytes_are_borne(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let messages = Messages::new(&bytes).collect::<Vec<_>>();
            prop_assert!(messages.iter().map(|message| 2 + message.payload_bytes()).sum::<usize>() <= bytes.len());
        }
    }

    #[test]
    fn what_is_no_message_ends_them() {
        let mut run = Vec::new();
        encode::text(&mut run, b"before");
        Deflater::new(Compression::default()).text(&mut run, Some(Window::Wide), &[b'x'; 1_000]);
        encode::text(&mut run, b"behind");
        assert_eq!(Messages::new(&run).collect::<Vec<_>>(), [Message::Text("before")]);
        assert_eq!(Messages::new(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").next(), None);
    }
}
