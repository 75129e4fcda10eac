//! permessage-deflate (RFC 7692): what is agreed in the handshake, and the two machines that all connections share.
//!
//! Neither side keeps its context from one message to the next. So a message is compressed once for everyone who is sent the
//! same bytes, and an idle connection holds neither a compressor nor a decompressor.

use super::encode;
use super::fields::{is_token, tokens};
use super::response::Response;
use crate::error::Violation;
use flate2::{Compress, Compression as Level, Decompress, FlushCompress, FlushDecompress, Status};
use std::fmt;

const NAME: &str = "permessage-deflate";

/// What a flush leaves at the end of a message; it is not sent (RFC 7692 §7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// An empty block that is marked as the last: what is whole before it comes to an end with it.
const END: [u8; 2] = [0x03, 0x00];

/// What is kept of the memory that a big message took. Most messages are smaller.
const KEPT_BYTES_MAX: usize = 256 * 1024;

/// The first room for what is inflated; it doubles as long as it does not do.
const STEP_BYTES: usize = 16 * 1024;

/// How messages to clients are compressed. Made like [`Config`](crate::Config): the default, and what shall be otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Compression {
    /// Shorter messages, in bytes of their payload, are sent as they are.
    pub threshold_bytes: usize,
    /// 1 (fast) to 9 (small), as zlib counts. A chat message of 500 bytes takes about 3 µs at 1, and 10 µs at
    /// 6, where it becomes a fifth smaller than at 1 (AMD EPYC).
    pub level: u8,
}

impl Default for Compression {
    fn default() -> Compression {
        Compression { threshold_bytes: 256, level: 1 }
    }
}

/// How far back a compressed message may refer. There are two, so that a message to a room of many minds is compressed twice
/// at most: clients that ask for anything between get the narrow one, as RFC 7692 §7.1.2.1 allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Window {
    /// 2^9 bytes, zlib's smallest.
    Narrow,
    /// 2^15 bytes, the largest there is: for everyone who asks for nothing else.
    Wide,
}

impl Window {
    /// The base-2 logarithm of its size in bytes.
    pub const fn bits(self) -> u8 {
        match self {
            Window::Narrow => 9,
            Window::Wide => 15,
        }
    }

    /// The largest one within this many bits. zlib makes no raw deflate for 8.
    fn within(bits: u8) -> Option<Window> {
        [Window::Wide, Window::Narrow].into_iter().find(|window| window.bits() <= bits)
    }
}

/// What server and client have agreed upon: no context is kept in either direction, and the server's window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// The server's window.
    pub window: Window,
    /// The client asked for a window, and is told of the one it gets.
    asked: bool,
}

impl fmt::Display for Agreed {
    /// The value of the response's `Sec-WebSocket-Extensions`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{NAME}; server_no_context_takeover; client_no_context_takeover")?;
        if self.asked {
            write!(f, "; server_max_window_bits={}", self.window.bits())?;
        }
        Ok(())
    }
}

/// Takes the first offer of permessage-deflate that can be kept to the letter. `values` are those of all
/// `Sec-WebSocket-Extensions` headers, in their order.
///
/// # Errors
/// The response to a header that is not one: RFC 6455 §9.1 makes the handshake fail then.
pub fn negotiate<'a>(values: impl Iterator<Item = &'a [u8]>) -> Result<Option<Agreed>, Response<'static>> {
    let mut agreed = None;
    for offer in values.flat_map(tokens).filter(|offer| !offer.is_empty()) {
        let taken = read_offer(offer).ok_or(Response::bad_request("Sec-WebSocket-Extensions is malformed"))?;
        agreed = agreed.or(taken);
    }
    Ok(agreed)
}

/// What nearly every client offers: Chrome, Firefox and npm's `ws`.
const USUAL_OFFER: &[u8] = b"permessage-deflate; client_max_window_bits";

/// One offer: `None` where it is malformed, `Some(None)` where it is declined.
fn read_offer(offer: &[u8]) -> Option<Option<Agreed>> {
    if offer == USUAL_OFFER {
        return Some(Some(Agreed { window: Window::Wide, asked: false }));
    }
    let mut parts = offer.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let name = parts.next().filter(|name| is_token(name))?;
    let mut offer = Some(Offer::default()).filter(|_| name.eq_ignore_ascii_case(NAME.as_bytes()));
    for part in parts {
        let (name, value) = match part.iter().position(|byte| *byte == b'=') {
            Some(at) => (part[..at].trim_ascii(), Some(unquoted(part[at + 1..].trim_ascii()))),
            None => (part, None),
        };
        if !is_token(name) || !value.is_none_or(is_token) {
            return None;
        }
        offer = offer.and_then(|offer| offer.with(name, value));
    }
    Some(offer.map(|offer| Agreed {
        window: offer.server_window.unwrap_or(Window::Wide),
        asked: offer.server_window.is_some(),
    }))
}

/// The parameters of one offer that have been read.
#[derive(Default)]
struct Offer {
    server_takeover: bool,
    client_takeover: bool,
    server_window: Option<Window>,
    client_window: bool,
}

impl Offer {
    /// `None` where the offer has to be declined (RFC 7692 §7.1): a parameter that is unknown, comes twice, has a value it must
    /// not have, or asks for what cannot be kept.
    fn with(mut self, name: &[u8], value: Option<&[u8]>) -> Option<Offer> {
        let first = match (&name.to_ascii_lowercase()[..], value) {
            (b"server_no_context_takeover", None) => !std::mem::replace(&mut self.server_takeover, true),
            (b"client_no_context_takeover", None) => !std::mem::replace(&mut self.client_takeover, true),
            (b"client_max_window_bits", value) => {
                // A hint that the client would narrow its window; whatever it sends can be inflated.
                value.is_none_or(|value| window_bits(value).is_some())
                    && !std::mem::replace(&mut self.client_window, true)
            }
            (b"server_max_window_bits", Some(value)) => {
                self.server_window.replace(Window::within(window_bits(value)?)?).is_none()
            }
            _ => false,
        };
        first.then_some(self)
    }
}

/// A decimal from 8 to 15 without leading zeros.
fn window_bits(value: &[u8]) -> Option<u8> {
    match value {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

/// The inside of a quoted string, which must be a token itself (RFC 6455 §9.1).
fn unquoted(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value)
}

/// Compresses messages to clients, with one machine for each window in use.
#[derive(Debug)]
pub struct Deflater {
    config: Compression,
    /// By [`Window`].
    machines: [Option<Box<Compress>>; 2],
    out: Vec<u8>,
    bytes_in: u64,
    bytes_out: u64,
}

impl Deflater {
    /// No memory is taken before something is compressed; then 250 KB for the narrow window and 380 KB for the wide one, for
    /// good.
    pub fn new(config: Compression) -> Deflater {
        Deflater { config, machines: [None, None], out: Vec::new(), bytes_in: 0, bytes_out: 0 }
    }

    /// Bytes of everything compressed so far, before and behind it.
    pub fn bytes(&self) -> (u64, u64) {
        (self.bytes_in, self.bytes_out)
    }

    /// Appends a text frame for clients with this window; uncompressed if there is none.
    #[inline]
    pub fn text(&mut self, out: &mut Vec<u8>, window: Option<Window>, payload: &[u8]) {
        match self.shrunk(window, payload) {
            Some(shrunk) => encode::compressed_text(out, shrunk),
            None => encode::text(out, payload),
        }
    }

    /// Appends a binary frame for clients with this window; uncompressed if there is none.
    pub fn binary(&mut self, out: &mut Vec<u8>, window: Option<Window>, payload: &[u8]) {
        match self.shrunk(window, payload) {
            Some(shrunk) => encode::compressed_binary(out, shrunk),
            None => encode::binary(out, payload),
        }
    }

    /// Gives back what a big message took. To be called when what is at hand is compressed.
    pub fn settle(&mut self) {
        self.out.clear();
        self.out.shrink_to(KEPT_BYTES_MAX);
    }

    /// The compressed payload, where that is asked for and pays.
    fn shrunk(&mut self, window: Option<Window>, payload: &[u8]) -> Option<&[u8]> {
        let window = window.filter(|_| payload.len() >= self.config.threshold_bytes)?;
        let place = &mut self.machines[window as usize];
        let machine = place.get_or_insert_with(|| {
            Box::new(Compress::new_with_window_bits(Level::new(self.config.level.into()), false, window.bits()))
        });
        machine.reset();
        self.out.clear();
        self.out.reserve(deflated_bytes_max(payload.len()));
        let outcome = machine.compress_vec(payload, &mut self.out, FlushCompress::Sync);
        // zlib is done with a flush when it leaves room behind it; it takes no more than 4 GiB at once.
        let done = machine.total_in() == payload.len() as u64 && self.out.len() < self.out.capacity();
        if outcome.is_err() || !done {
            debug_assert!(payload.len() > u32::MAX as usize, "there was room enough: {outcome:?}");
            // At level 1, zlib-rs 0.6.8 does not recover from an interruption: what follows a reset is wrong, or panics.
            *place = None;
            return None;
        }
        let shrunk = self.out.strip_suffix(&TAIL).filter(|shrunk| shrunk.len() < payload.len());
        self.bytes_in += payload.len() as u64;
        self.bytes_out += shrunk.unwrap_or(payload).len() as u64;
        shrunk
    }
}

/// More than any level of zlib makes of this many bytes. The worst is level 1, which spends nine bits on every byte from 144 on;
/// beyond that, a few bytes of block headers and flushes.
pub(super) fn deflated_bytes_max(payload_bytes: usize) -> usize {
    payload_bytes.saturating_add(payload_bytes / 8 + payload_bytes / 256 + 64)
}

/// Inflates messages of clients. Nothing is kept between them.
#[derive(Debug, Default)]
pub struct Inflater {
    machine: Option<Box<Decompress>>,
    out: Vec<u8>,
    /// Since it was last taken.
    surplus_bytes: usize,
}

impl Inflater {
    /// Gives back what a big message took. To be called when the bytes at hand are used up.
    pub fn settle(&mut self) {
        self.out.clear();
        self.out.shrink_to(KEPT_BYTES_MAX);
    }

    /// How many bytes more than went in have come out since the last call.
    pub fn take_surplus(&mut self) -> usize {
        std::mem::take(&mut self.surplus_bytes)
    }

    /// The message in these bytes, all of its fragments joined.
    ///
    /// # Errors
    /// [`Violation::TooBig`] as soon as more than `bytes_max` bytes come out; [`Violation::Deflate`] where the bytes are not
    /// what RFC 7692 §7.2.2 describes, or end within a block.
    pub fn inflate(&mut self, compressed: &[u8], bytes_max: usize) -> Result<&[u8], Violation> {
        self.out.clear();
        // What others sent before must not show in how far this one gets.
        self.out.shrink_to(bytes_max.saturating_add(1));
        let machine = self.machine.get_or_insert_with(|| Box::new(Decompress::new(false)));
        machine.reset(false);
        let ended = self.push_whole(compressed, bytes_max);
        // What was inflated in vain has been as much work.
        self.surplus_bytes += self.out.len().saturating_sub(compressed.len());
        if ended? { Ok(&self.out) } else { Err(Violation::Deflate) }
    }

    /// Inflates a message; returns whether it came to an end.
    fn push_whole(&mut self, compressed: &[u8], bytes_max: usize) -> Result<bool, Violation> {
        // An empty message is one byte (RFC 7692 §7.2.3.6), and some send none. Behind a block marked as the last one there
        // should be a byte, too (§7.2.3.4), and it is not missed.
        if compressed.is_empty() || self.push(compressed, bytes_max)? {
            return Ok(true);
        }
        self.push(&TAIL, bytes_max)?;
        self.push(&END, bytes_max)
    }

    /// Inflates a part of a message; returns whether it ended with a block marked as the last one.
    fn push(&mut self, mut input: &[u8], bytes_max: usize) -> Result<bool, Violation> {
        let Inflater { machine: Some(machine), out, .. } = self else { unreachable!("made for this message") };
        loop {
            if out.len() == out.capacity() {
                let room = bytes_max.saturating_add(1).saturating_sub(out.len());
                out.reserve_exact(room.clamp(1, STEP_BYTES.max(out.len())));
            }
            let consumed = machine.total_in();
            let status = machine.decompress_vec(input, out, FlushDecompress::Sync).map_err(|_| Violation::Deflate)?;
            if out.len() > bytes_max {
                return Err(Violation::TooBig);
            }
            let consumed = (machine.total_in() - consumed) as usize;
            input = &input[consumed..];
            match status {
                // Others may follow it in the same message.
                Status::StreamEnd => {
                    machine.reset(false);
                    if input.is_empty() {
                        return Ok(true);
                    }
                }
                // More may come out of what has been taken in.
                _ if out.len() == out.capacity() => {}
                _ if input.is_empty() => return Ok(false),
                _ if consumed == 0 => return Err(Violation::Deflate),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ws::Message;
    use crate::ws::decoder::{Decoded, Decoder, Limits};
    use proptest::prelude::*;

    fn answer(offers: &[&str]) -> String {
        match negotiate(offers.iter().map(|offer| offer.as_bytes())) {
            Ok(Some(agreed)) => {
                agreed.to_string().replace("_no_context_takeover", "").replace("permessage-deflate", "p")
            }
            Ok(None) => "declined".to_owned(),
            Err(response) => response.status.to_owned(),
        }
    }

    #[test]
    fn offers_are_taken_in_order_and_only_to_the_letter() {
        for (offers, expected) in [
            (&["permessage-deflate"][..], "p; server; client"),
            (&["permessage-deflate; client_max_window_bits"], "p; server; client"),
            (&["Permessage-Deflate;client_max_window_bits=8; server_no_context_takeover"], "p; server; client"),
            (&["permessage-deflate; SERVER_MAX_WINDOW_BITS=14"], "p; server; client; server_max_window_bits=9"),
            (&["permessage-deflate; server_max_window_bits=\"15\""], "p; server; client; server_max_window_bits=15"),
            (&["permessage-deflate; server_max_window_bits=8"], "declined"),
            (&["permessage-deflate; server_max_window_bits"], "declined"),
            (&["permessage-deflate; server_max_window_bits=16"], "declined"),
            (&["permessage-deflate; server_max_window_bits=010"], "declined"),
            (&["permessage-deflate; client_max_window_bits=7"], "declined"),
            (&["permessage-deflate; client_max_window_bits; client_max_window_bits"], "declined"),
            (&["permessage-deflate; server_max_window_bits=10; server_max_window_bits=10"], "declined"),
            (&["permessage-deflate; client_no_context_takeover=1"], "declined"),
            (&["permessage-deflate; server_no_context_takeover; server_no_context_takeover"], "declined"),
            (&["permessage-deflate; mux"], "declined"),
            (&["x-webkit-deflate-frame"], "declined"),
            (&["permessage-deflate; mux, foo; a=b , permessage-deflate"], "p; server; client"),
            (
                &["permessage-deflate; server_max_window_bits=9", "permessage-deflate"],
                "p; server; client; server_max_window_bits=9",
            ),
            (&["permessage-deflate; server_max_window_bits=8", "", " , permessage-deflate"], "p; server; client"),
            (&["permessage-deflate; "], "400 Bad Request"),
            (&["permessage-deflate; a="], "400 Bad Request"),
            (&["permessage deflate"], "400 Bad Request"),
            (&["permessage-deflate, a; b=\"c"], "400 Bad Request"),
        ] {
            assert_eq!(answer(offers), expected, "{offers:?}");
        }
    }

    fn hex(text: &str) -> Vec<u8> {
        text.split(' ').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
    }

    #[test]
    fn the_examples_of_rfc_7692_are_read() {
        let mut inflater = Inflater::default();
        for example in [
            "f2 48 cd c9 c9 07 00",                   // §7.2.3.1: one block
            "f3 48 cd c9 c9 07 00 00",                // §7.2.3.4: the last block is marked as such
            "00 05 00 fa ff 48 65 6c 6c 6f 00",       // §7.2.3.3: without compression
            "f2 48 05 00 00 00 ff ff ca c9 c9 07 00", // §7.2.3.5: two blocks
        ] {
            assert_eq!(inflater.inflate(&hex(example), 5), Ok(&b"Hello"[..]), "{example}");
            assert_eq!(inflater.inflate(&hex(example), 4), Err(Violation::TooBig), "{example}");
        }
        assert_eq!(inflater.inflate(&hex("00"), 0), Ok(&b""[..]));
        assert_eq!(inflater.inflate(b"", 0), Ok(&b""[..]));
        assert_eq!(inflater.inflate(&hex("07"), 100), Err(Violation::Deflate));
    }

    #[test]
    fn a_message_that_ends_within_a_block_is_refused_wherever_that_is() {
        let text =
            br#"{"type":"SEND_MESSAGE","roomId":"room1","message":"which nobody should get the half of, nobody"}"#;
        let mut machine = Compress::new(Level::new(6), false);
        let mut whole = Vec::with_capacity(200);
        machine.compress_vec(text, &mut whole, FlushCompress::Sync).unwrap();
        whole.truncate(whole.len() - TAIL.len());
        let mut inflater = Inflater::default();
        assert_eq!(inflater.inflate(&whole, 200), Ok(&text[..]));
        for cut in 1..whole.len() {
            assert_eq!(inflater.inflate(&whole[..cut], 200), Err(Violation::Deflate), "{cut}");
        }
    }

    /// A block that ends in a run which does not fit into the first room: neither what comes out nor its limit may depend on
    /// the room that other messages left behind.
    #[test]
    fn what_is_inflated_does_not_depend_on_the_messages_before() {
        let cut_off = "ed d0 01 09 00 00 08 c0 b0 42 46 b0 7f 2e 63 08 67 3c c1 b7 23 02 04 08 10 20 40 80 00 01 02 04 \
            08 10 20 40 a0 2e e0 8f 00 01 02 04 08 10 20 40 80 00 01 02 04 08 10 e8 0b 38 24 40 80 00 01 02 \
            04 08 10 20 40 80 00 01 02 04 fa 02 0e 09 10 20 40 80 00 01 02 04 08 10 20 a4 80 00";
        let mut machine = Compress::new(Level::best(), false);
        let mut big = Vec::with_capacity(1000);
        machine.compress_vec(&[b'x'; 60_000], &mut big, FlushCompress::Sync).unwrap();
        for (bytes_max, expected) in
            [(16_384, Violation::TooBig), (16_482, Violation::TooBig), (60_000, Violation::Deflate)]
        {
            let (mut fresh, mut used) = (Inflater::default(), Inflater::default());
            assert_eq!(used.inflate(&big[..big.len() - 4], 60_000).map(<[u8]>::len), Ok(60_000));
            for inflater in [&mut fresh, &mut used] {
                assert_eq!(inflater.inflate(&hex(cut_off), bytes_max), Err(expected), "{bytes_max}");
            }
        }
    }

    #[test]
    fn a_bomb_costs_no_more_than_the_limit() {
        let mut machine = Compress::new(Level::best(), false);
        let mut bomb = Vec::with_capacity(100_000);
        machine.compress_vec(&vec![0; 10_000_000], &mut bomb, FlushCompress::Sync).unwrap();
        assert!(bomb.len() < 20_000);
        let mut inflater = Inflater::default();
        assert_eq!(inflater.inflate(&bomb, 65_536), Err(Violation::TooBig));
        assert!(inflater.out.capacity() <= 65_537, "{}", inflater.out.capacity());
    }

    #[test]
    fn what_a_big_message_took_is_given_back() {
        let (mut deflater, mut inflater) = (Deflater::new(Compression::default()), Inflater::default());
        let mut frame = Vec::new();
        deflater.text(&mut frame, Some(Window::Wide), &[b'a'; 4 << 20]);
        assert_eq!(frame[1], 126, "it shrinks to less than 64 KiB");
        assert_eq!(inflater.inflate(&frame[4..], 4 << 20).map(<[u8]>::len), Ok(4 << 20));
        for capacity in [deflater.out.capacity(), inflater.out.capacity()] {
            assert!(capacity > KEPT_BYTES_MAX, "{capacity}");
        }
        deflater.settle();
        inflater.settle();
        for capacity in [deflater.out.capacity(), inflater.out.capacity()] {
            assert!(capacity <= KEPT_BYTES_MAX, "{capacity}");
        }
    }

    #[test]
    fn what_most_messages_take_is_kept_for_the_next() {
        let (mut deflater, mut inflater) = (Deflater::new(Compression::default()), Inflater::default());
        let mut frame = Vec::new();
        deflater.text(&mut frame, Some(Window::Wide), &[b'a'; 64 << 10]);
        inflater.inflate(&frame[4..], 64 << 10).unwrap();
        let taken = [deflater.out.capacity(), inflater.out.capacity()];
        deflater.settle();
        inflater.settle();
        assert_eq!([deflater.out.capacity(), inflater.out.capacity()], taken);
    }

    /// Bytes from 144 on cost nine bits each at level 1, so these are the worst there are.
    #[test]
    fn no_level_makes_more_of_a_payload_than_is_reckoned_with_and_that_is_not_much_more() {
        let mut random = 1_u32;
        let payload: Vec<u8> = std::iter::repeat_with(|| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            144 + (random >> 24) as u8 % 112
        })
        .take(300_000)
        .collect();
        for bytes in [0, 1, 64, 1_000, 65_536, 300_000] {
            let bound = deflated_bytes_max(bytes);
            assert!(bound <= bytes + bytes / 7 + 64, "{bound} for {bytes}");
            for level in 1..=9 {
                let mut machine = Compress::new(Level::new(level), false);
                let mut out = Vec::with_capacity(2 * bytes + 1_000);
                machine.compress_vec(&payload[..bytes], &mut out, FlushCompress::Sync).unwrap();
                assert!(out.len() < bound, "{} of {bytes} at level {level}, more than {bound}", out.len());
            }
        }
    }

    #[test]
    #[should_panic = "compression has the levels 1 to 9"]
    fn a_level_that_there_is_not_is_told_before_anything_is_compressed() {
        let compression = Some(Compression { level: 10, ..Compression::default() });
        crate::Core::new(crate::Config { compression, ..crate::Config::default() });
    }

    #[test]
    fn what_does_not_shrink_or_is_short_is_sent_plain() {
        let mut deflater = Deflater::new(Compression { threshold_bytes: 10, level: 1 });
        let (mut out, mut plain) = (Vec::new(), Vec::new());
        for (payload, window) in
            [(&b"aaaaaaaaa"[..], Some(Window::Wide)), (b"0123456789abcdef", Some(Window::Wide)), (&[b'a'; 100], None)]
        {
            out.clear();
            plain.clear();
            deflater.text(&mut out, window, payload);
            encode::text(&mut plain, payload);
            assert_eq!(out, plain);
        }
        assert_eq!(deflater.bytes(), (16, 16), "what was compressed in vain counts as it was sent");
        deflater.text(&mut out, Some(Window::Wide), &[b'a'; 100]);
        let (frame, header_bytes) = (&out[plain.len()..], 2);
        assert_eq!(frame[0], 0xc1, "final, compressed, text");
        assert_eq!(deflater.bytes(), (16 + 100, 16 + (frame.len() - header_bytes) as u64));
    }

    /// A server's frame as a client would have to send it.
    fn masked(frame: &[u8]) -> Vec<u8> {
        let header = match frame[1] {
            126 => 4,
            127 => 10,
            _ => 2,
        };
        let mut out = frame[..header].to_vec();
        out[1] |= 0x80;
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&frame[header..]);
        out
    }

    proptest! {
        #[test]
        fn what_is_compressed_comes_out_whole(
            payload in prop_oneof![
                "[a-c]{0,3000}".prop_map(String::into_bytes),
                prop::collection::vec(any::<u8>(), 0..3000),
                (1usize..200_000).prop_map(|length| (0..length).map(|at| (at * at / 128) as u8).collect()),
            ],
            window in prop::sample::select(vec![Window::Narrow, Window::Wide]),
            level in 1u8..=9,
        ) {
            let mut deflater = Deflater::new(Compression { threshold_bytes: 0, level });
            let limits = Limits { message_bytes_max: payload.len(), ..Limits::default() };
            let mut inflater = Inflater::default();
            let mut decoder = Decoder::default();
            for _ in 0..2 {
                let mut out = Vec::new();
                deflater.binary(&mut out, Some(window), &payload);
                prop_assert!(out.len() <= payload.len() + encode::HEADER_BYTES_MAX);
                let mut frame = masked(&out);
                let (taken, message) = decoder.next(&mut frame, limits.with_compression(true), &mut inflater).unwrap();
                prop_assert_eq!(taken, out.len() + 4);
                prop_assert_eq!(message, Some(Decoded::Message(Message::Binary(&payload))));
            }
        }

        #[test]
        fn any_bytes_are_inflated_or_refused_within_the_limit(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            bytes_max in 0usize..2000,
        ) {
            if let Ok(out) = Inflater::default().inflate(&bytes, bytes_max) {
                prop_assert!(out.len() <= bytes_max);
            }
        }
    }

    #[test]
    fn what_is_inflated_in_vain_is_surplus_too() {
        let (mut deflater, mut inflater) = (Deflater::new(Compression::default()), Inflater::default());
        let whole = deflater.shrunk(Some(Window::Wide), &[b'x'; 10_000]).expect("it pays").to_vec();
        assert_eq!(inflater.inflate(&whole, 5_000), Err(Violation::TooBig));
        assert!((5_000..=5_001).contains(&(inflater.take_surplus() + whole.len())));
        let broken = [&whole[..], &[0xff; 4]].concat();
        assert_eq!(inflater.inflate(&broken, 10_000), Err(Violation::Deflate));
        assert_eq!(inflater.take_surplus() + broken.len(), 10_000);
    }
}
