//! Client-to-server frames to messages. A message that is whole in the bytes at hand is read in place. Only an unfinished one is
//! kept, in a buffer that goes with it. Text that cannot become UTF-8 is refused at its first wrong byte. A compressed message is
//! kept as it came, so its text is looked at when it is whole.

use super::deflate::{Inflater, deflated_bytes_max};
use super::mask::unmask;
use super::message::{CONTROL_BYTES_MAX, Message, is_close_code};
use super::utf8::Utf8;
use crate::error::Violation;
use std::io::Cursor;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// A client's longest frame header: two bytes, a 64-bit length and the mask.
const HEADER_BYTES_MAX: usize = 14;

/// What ends with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// A message, or a control frame.
    Message(Message<'a>),
    /// Nothing yet: the message comes with a later frame.
    Fragment,
}

/// What a client may send. Not `#[non_exhaustive]`, because every bound on a stranger's bytes shall have been chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one message, all its fragments together, inflated where it is compressed.
    pub message_bytes_max: usize,
    /// Frames of one message.
    pub frames_per_message_max: u32,
    /// Whether messages may be compressed: see [`deflate`](super::deflate).
    pub compression: bool,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { message_bytes_max: 64 * 1024, frames_per_message_max: 1_024, compression: false }
    }
}

impl Limits {
    /// The same with or without compression.
    #[must_use]
    pub fn with_compression(self, compression: bool) -> Limits {
        Limits { compression, ..self }
    }

    /// Bytes of the payload of a message on the wire.
    fn payload_bytes_max(&self, compressed: bool) -> usize {
        if compressed { deflated_bytes_max(self.message_bytes_max) } else { self.message_bytes_max }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DataKind {
    Text,
    Binary,
}

/// What one frame header announces, after all checks that need no payload.
#[derive(Clone, Copy, Debug)]
struct Header {
    opcode: OpCode,
    last: bool,
    /// RSV1, on the first frame of a message.
    compressed: bool,
    mask: [u8; 4],
    payload_bytes: usize,
}

/// An unfinished header, frame or message.
#[derive(Debug, Default)]
struct Partial {
    header: [u8; HEADER_BYTES_MAX],
    header_len: u8,
    /// The frame whose payload is coming in, its mask turned to the next byte's phase.
    frame: Option<Header>,
    control: Vec<u8>,
    /// The message whose fragments are coming in.
    message: Option<DataKind>,
    /// It is compressed, and inflated when it is whole.
    compressed: bool,
    /// Frames of it so far.
    frames: u32,
    body: Vec<u8>,
    utf8: Utf8,
    /// The last call gave out `body` or `control`; the next one clears it.
    given: Given,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Given {
    #[default]
    Nothing,
    Body,
    Control,
}

/// One connection's decoder: 8 bytes, and a buffer only while something is unfinished.
#[derive(Debug, Default)]
pub struct Decoder {
    partial: Option<Box<Partial>>,
}

impl Decoder {
    /// Takes bytes from the front of `data` up to the end of the next whole message or fragment, unmasking them in place.
    ///
    /// Returns how many were taken and the message, or `None` with all of them taken where the frame is not finished. A message
    /// beyond the limits is refused as soon as a header announces it, a compressed one also while it is inflated.
    ///
    /// # Errors
    /// The peer's breach of RFC 6455; the connection cannot be read any further.
    pub fn next<'a>(
        &'a mut self,
        data: &'a mut [u8],
        limits: Limits,
        inflater: &'a mut Inflater,
    ) -> Result<(usize, Option<Decoded<'a>>), Violation> {
        if data.is_empty() {
            return Ok((0, None));
        }
        self.settle();
        if self.partial.is_none() {
            let Some((header_bytes, header)) = parse_header(data, limits.compression)? else {
                return self.keep(data, limits, inflater);
            };
            check_sequence(&header, None, limits.payload_bytes_max(header.compressed), limits.frames_per_message_max)?;
            let end = header_bytes + header.payload_bytes;
            if !header.last || end > data.len() {
                return self.keep(data, limits, inflater);
            }
            let payload = &mut data[header_bytes..end];
            unmask(payload, header.mask);
            let payload =
                if header.compressed { inflater.inflate(payload, limits.message_bytes_max)? } else { payload };
            return Ok((end, Some(Decoded::Message(whole_frame(header.opcode, payload)?))));
        }
        self.keep(data, limits, inflater)
    }

    /// Frees the buffer unless something unfinished is in it. To be called when the bytes at hand are used up.
    pub fn settle(&mut self) {
        let Some(partial) = &mut self.partial else { return };
        match partial.given {
            Given::Nothing => {}
            Given::Body => partial.body = Vec::new(),
            Given::Control => partial.control = Vec::new(),
        }
        partial.given = Given::Nothing;
        if self.is_between_messages() {
            self.partial = None;
        }
    }

    /// Whether what comes next begins a message or a control frame, and nothing is unfinished.
    pub fn is_between_messages(&self) -> bool {
        let is_done = |of: &Partial| of.header_len == 0 && of.frame.is_none() && of.message.is_none();
        self.partial.as_deref().is_none_or(is_done)
    }

    /// Bytes held for something unfinished.
    pub fn held_bytes(&self) -> usize {
        self.partial
            .as_ref()
            .map_or(0, |partial| size_of::<Partial>() + partial.body.capacity() + partial.control.capacity())
    }

    /// The slow way: through the buffers of `Partial`.
    fn keep<'a>(
        &'a mut self,
        data: &mut [u8],
        limits: Limits,
        inflater: &'a mut Inflater,
    ) -> Result<(usize, Option<Decoded<'a>>), Violation> {
        let mut at = 0;
        let partial = self.partial.get_or_insert_default();
        while at < data.len() || partial.frame.is_some_and(|frame| frame.payload_bytes == 0) {
            let Some(frame) = &mut partial.frame else {
                at += partial.take_header(&data[at..], limits)?;
                continue;
            };
            let taken = frame.payload_bytes.min(data.len() - at);
            let payload = &mut data[at..at + taken];
            unmask(payload, frame.mask);
            frame.mask.rotate_left(taken % 4);
            frame.payload_bytes -= taken;
            let (opcode, done, last) = (frame.opcode, frame.payload_bytes == 0, frame.last);
            at += taken;
            partial.take_payload(opcode, payload)?;
            if !done {
                continue;
            }
            partial.frame = None;
            if matches!(opcode, OpCode::Control(_)) {
                partial.given = Given::Control;
                return Ok((at, Some(Decoded::Message(whole_frame(opcode, &partial.control)?))));
            }
            if last {
                let kind = partial.message.take().expect("a data frame belongs to a message");
                partial.given = Given::Body;
                let body = match partial.compressed {
                    true => inflater.inflate(&partial.body, limits.message_bytes_max)?,
                    false => &partial.body,
                };
                let message = match kind {
                    DataKind::Binary => Message::Binary(body),
                    DataKind::Text => {
                        partial.utf8.finish()?;
                        Message::Text(std::str::from_utf8(body).map_err(|_| Violation::NotUtf8)?)
                    }
                };
                return Ok((at, Some(Decoded::Message(message))));
            }
            return Ok((at, Some(Decoded::Fragment)));
        }
        Ok((at, None))
    }
}

impl Partial {
    /// Takes what is missing of a header; returns how many bytes that were.
    fn take_header(&mut self, data: &[u8], limits: Limits) -> Result<usize, Violation> {
        let had = usize::from(self.header_len);
        let taken = data.len().min(HEADER_BYTES_MAX - had);
        self.header[had..had + taken].copy_from_slice(&data[..taken]);
        let Some((header_bytes, header)) = parse_header(&self.header[..had + taken], limits.compression)? else {
            self.header_len = (had + taken) as u8;
            return Ok(taken);
        };
        let (compressed, frames) =
            if self.message.is_some() { (self.compressed, self.frames) } else { (header.compressed, 0) };
        let bytes_max = limits.payload_bytes_max(compressed).saturating_sub(self.body.len());
        let frames_max = limits.frames_per_message_max.saturating_sub(frames);
        check_sequence(&header, self.message, bytes_max, frames_max)?;
        match header.opcode {
            OpCode::Data(Data::Text) => self.begin(DataKind::Text, compressed),
            OpCode::Data(Data::Binary) => self.begin(DataKind::Binary, compressed),
            OpCode::Data(_) => self.frames += 1,
            OpCode::Control(_) => {}
        }
        self.header_len = 0;
        self.frame = Some(header);
        Ok(header_bytes - had)
    }

    fn begin(&mut self, kind: DataKind, compressed: bool) {
        (self.message, self.compressed, self.frames) = (Some(kind), compressed, 1);
        self.utf8 = Utf8::default();
    }

    fn take_payload(&mut self, opcode: OpCode, payload: &[u8]) -> Result<(), Violation> {
        if matches!(opcode, OpCode::Control(_)) {
            self.control.extend_from_slice(payload);
        } else {
            if self.message == Some(DataKind::Text) && !self.compressed {
                self.utf8.push(payload)?;
            }
            self.body.extend_from_slice(payload);
        }
        Ok(())
    }
}

/// Parses a header and makes the checks that tungstenite's parser leaves to its caller; `None` where bytes are missing.
fn parse_header(data: &[u8], compression: bool) -> Result<Option<(usize, Header)>, Violation> {
    let mut cursor = Cursor::new(data);
    let (header, length) = match FrameHeader::parse(&mut cursor) {
        Ok(Some(parsed)) => parsed,
        Ok(None) => return Ok(None),
        // Reading from a slice cannot fail, so the only error left is the opcode.
        Err(_) => return Err(Violation::ReservedOpcode),
    };
    let may_be_compressed = compression && matches!(header.opcode, OpCode::Data(Data::Text | Data::Binary));
    if header.rsv1 && !may_be_compressed || header.rsv2 || header.rsv3 {
        return Err(Violation::ReservedBits);
    }
    let mask = header.mask.ok_or(Violation::Unmasked)?;
    let shortest = match data[1] & 0x7f {
        126 => length > 125,
        127 => length > 0xffff && length >> 63 == 0,
        _ => true,
    };
    if !shortest {
        return Err(Violation::LengthForm);
    }
    if matches!(header.opcode, OpCode::Control(_)) {
        if !header.is_final {
            return Err(Violation::FragmentedControl);
        }
        if length > CONTROL_BYTES_MAX as u64 {
            return Err(Violation::ControlTooLong);
        }
    }
    let payload_bytes = usize::try_from(length).map_err(|_| Violation::TooBig)?;
    let header = Header { opcode: header.opcode, last: header.is_final, compressed: header.rsv1, mask, payload_bytes };
    Ok(Some((cursor.position() as usize, header)))
}

/// Checks that a frame may follow what came before it, and that it is within the bytes and frames left to its message.
fn check_sequence(
    header: &Header,
    message: Option<DataKind>,
    bytes_max: usize,
    frames_max: u32,
) -> Result<(), Violation> {
    match header.opcode {
        OpCode::Control(_) => return Ok(()),
        OpCode::Data(Data::Continue) if message.is_none() => return Err(Violation::UnexpectedContinuation),
        OpCode::Data(Data::Text | Data::Binary) if message.is_some() => return Err(Violation::UnfinishedMessage),
        OpCode::Data(_) => {}
    }
    if header.payload_bytes > bytes_max {
        return Err(Violation::TooBig);
    }
    if frames_max == 0 {
        return Err(Violation::TooManyFrames);
    }
    Ok(())
}

/// The message in an unmasked payload that needs no other frame.
fn whole_frame(opcode: OpCode, payload: &[u8]) -> Result<Message<'_>, Violation> {
    Ok(match opcode {
        OpCode::Data(Data::Text) => Message::Text(std::str::from_utf8(payload).map_err(|_| Violation::NotUtf8)?),
        OpCode::Data(_) => Message::Binary(payload),
        OpCode::Control(Control::Ping) => Message::Ping(payload),
        OpCode::Control(Control::Pong) => Message::Pong(payload),
        OpCode::Control(_) => Message::Close(close_body(payload)?),
    })
}

fn close_body(payload: &[u8]) -> Result<Option<(u16, &str)>, Violation> {
    match payload {
        [] => Ok(None),
        [_] => Err(Violation::CloseCode),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !is_close_code(code) {
                return Err(Violation::CloseCode);
            }
            let reason = std::str::from_utf8(reason).map_err(|_| Violation::NotUtf8)?;
            Ok(Some((code, reason)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ws::deflate::{Compression, Deflater, Window};
    use proptest::prelude::*;

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [1, 2, 3, 4];
        let mut out = vec![first];
        match payload.len() {
            0..=125 => out.push(0x80 | payload.len() as u8),
            126..=0xffff => {
                out.push(0xfe);
                out.extend_from_slice(&(payload.len() as u16).to_be_bytes());
            }
            _ => {
                out.push(0xff);
                out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
            }
        }
        out.extend_from_slice(&mask);
        let start = out.len();
        out.extend_from_slice(payload);
        unmask(&mut out[start..], mask);
        out
    }

    fn within(message_bytes_max: usize) -> Limits {
        Limits { message_bytes_max, ..Limits::default() }
    }

    /// Everything that a decoder makes of a stream cut into these pieces, up to the first violation.
    fn decode(pieces: &[&[u8]], message_bytes_max: usize) -> Vec<String> {
        decode_within(pieces, within(message_bytes_max))
    }

    fn decode_within(pieces: &[&[u8]], limits: Limits) -> Vec<String> {
        let (mut decoder, mut inflater, mut seen) = (Decoder::default(), Inflater::default(), Vec::new());
        for piece in pieces {
            let mut piece = piece.to_vec();
            let mut data = &mut piece[..];
            while !data.is_empty() {
                match decoder.next(data, limits, &mut inflater) {
                    Ok((taken, message)) => {
                        if let Some(Decoded::Message(message)) = message {
                            seen.push(format!("{message:?}"));
                        }
                        data = &mut data[taken..];
                    }
                    Err(violation) => {
                        seen.push(format!("{violation:?}"));
                        return seen;
                    }
                }
            }
            decoder.settle();
        }
        seen
    }

    #[test]
    fn a_control_frame_holds_as_much_as_it_may() {
        let seen = |length: usize| decode(&[&frame(0x8a, &vec![b'x'; length])], 1_000);
        assert_eq!(seen(CONTROL_BYTES_MAX), [format!("{:?}", Message::Pong(&[b'x'; CONTROL_BYTES_MAX]))]);
        assert_eq!(seen(CONTROL_BYTES_MAX + 1), ["ControlTooLong"]);
    }

    #[test]
    fn a_message_that_is_whole_leaves_nothing_behind() {
        let mut bytes = frame(0x81, b"hello");
        let mut decoder = Decoder::default();
        assert_eq!(
            decoder.next(&mut bytes, within(100), &mut Inflater::default()),
            Ok((11, Some(Decoded::Message(Message::Text("hello")))))
        );
        decoder.settle();
        assert_eq!(decoder.held_bytes(), 0);
    }

    #[test]
    fn a_split_message_leaves_nothing_behind_once_it_is_whole() {
        let mut bytes = frame(0x81, &[b'x'; 1000]);
        let mut decoder = Decoder::default();
        assert_eq!(decoder.next(&mut bytes[..500], within(1000), &mut Inflater::default()), Ok((500, None)));
        assert!(decoder.held_bytes() > 0);
        assert!(matches!(
            decoder.next(&mut bytes[500..], within(1000), &mut Inflater::default()),
            Ok((508, Some(Decoded::Message(Message::Text(_)))))
        ));
        decoder.settle();
        assert_eq!(decoder.held_bytes(), 0);
    }

    #[test]
    fn what_follows_a_split_message_is_read_in_place() {
        let mut bytes = [frame(0x81, b"split"), frame(0x81, b"whole")].concat();
        let (first, second) = bytes.split_at_mut(4);
        let mut decoder = Decoder::default();
        assert_eq!(decoder.next(first, within(100), &mut Inflater::default()), Ok((4, None)));
        assert_eq!(
            decoder.next(second, within(100), &mut Inflater::default()),
            Ok((7, Some(Decoded::Message(Message::Text("split")))))
        );
        assert_eq!(
            decoder.next(&mut second[7..], within(100), &mut Inflater::default()),
            Ok((11, Some(Decoded::Message(Message::Text("whole")))))
        );
        assert_eq!(decoder.held_bytes(), 0);
    }

    #[test]
    fn every_breach_has_its_name() {
        let cases: [(&[u8], &str); 12] = [
            (&[0xc1, 0x80, 0, 0, 0, 0], "ReservedBits"),
            (&[0x83, 0x80, 0, 0, 0, 0], "ReservedOpcode"),
            (&[0x8b, 0x80, 0, 0, 0, 0], "ReservedOpcode"),
            (&[0x81, 0x00], "Unmasked"),
            (&[0x81, 0xfe, 0, 125, 0, 0, 0, 0], "LengthForm"),
            (&[0x81, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0], "LengthForm"),
            (&[0x81, 0xff, 0x80, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0], "LengthForm"),
            (&[0x09, 0x80, 0, 0, 0, 0], "FragmentedControl"),
            (&[0x89, 0xfe, 0, 126, 0, 0, 0, 0], "ControlTooLong"),
            (&[0x80, 0x80, 0, 0, 0, 0], "UnexpectedContinuation"),
            (&[0x01, 0x80, 0, 0, 0, 0, 0x81, 0x80, 0, 0, 0, 0], "UnfinishedMessage"),
            (&[0x88, 0x81, 0, 0, 0, 0, 3], "CloseCode"),
        ];
        for (bytes, name) in cases {
            assert_eq!(decode(&[bytes], 1000), [name], "{bytes:x?}");
        }
    }

    #[test]
    fn text_is_refused_in_the_middle_of_an_unfinished_frame() {
        let bytes = frame(0x81, b"ok \xff and more to come");
        let mut start = bytes[..10].to_vec();
        assert_eq!(
            Decoder::default().next(&mut start, within(1000), &mut Inflater::default()),
            Err(Violation::NotUtf8)
        );
    }

    #[test]
    fn the_limit_holds_over_all_fragments() {
        let bytes = [frame(0x01, &[b'a'; 60]), frame(0x89, b"p"), frame(0x80, &[b'a'; 41])].concat();
        assert_eq!(decode(&[&bytes], 100), ["Ping([112])", "TooBig"]);
        assert_eq!(decode(&[&bytes], 101).len(), 2);
    }

    #[test]
    fn fragments_are_told_when_they_are_whole() {
        let stream = [frame(0x01, b"ab"), frame(0x00, b""), frame(0x89, b""), frame(0x80, b"c")].concat();
        for piece_bytes in 1..=stream.len() {
            let (mut decoder, mut inflater, mut seen) = (Decoder::default(), Inflater::default(), Vec::new());
            let mut at = 0;
            for piece in stream.chunks(piece_bytes) {
                let (mut piece, mut taken) = (piece.to_vec(), 0);
                while taken < piece.len() {
                    let (bytes, message) = decoder.next(&mut piece[taken..], within(100), &mut inflater).unwrap();
                    taken += bytes;
                    seen.extend(message.map(|message| (at + taken, format!("{message:?}"))));
                }
                at += piece.len();
            }
            let seen: Vec<_> = seen.iter().map(|(at, message)| (*at, &message[..])).collect();
            let whole = [(20, "Message(Ping([]))"), (27, "Message(Text(\"abc\"))")];
            assert_eq!(seen, [[(8, "Fragment"), (14, "Fragment")], whole].concat());
        }
    }

    #[test]
    fn a_message_in_too_many_frames_is_refused() {
        let limits = Limits { frames_per_message_max: 3, ..Limits::default() };
        let start = [frame(0x01, b"a"), frame(0x00, b""), frame(0x89, b"")].concat();
        let three = [start.clone(), frame(0x80, b"b")].concat();
        assert_eq!(decode_within(&[&three, &three], limits), ["Ping([])", "Text(\"ab\")", "Ping([])", "Text(\"ab\")"]);
        let four = [start, frame(0x00, b""), frame(0x80, b"b")].concat();
        assert_eq!(decode_within(&[&four], limits), ["Ping([])", "TooManyFrames"]);
    }

    /// As a client would compress it; RSV1 has to be set on its first frame.
    fn deflated(text: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        Deflater::new(Compression { threshold_bytes: 0, level: 6 }).text(
            &mut frame,
            Some(Window::Wide),
            &text.repeat(9),
        );
        frame.split_off(if frame[1] == 126 { 4 } else { 2 })
    }

    #[test]
    fn a_compressed_message_is_inflated_once_it_is_whole() {
        let payload = deflated(b"compressed");
        let limits = within(90).with_compression(true);
        let expected = format!("Text({:?})", "compressed".repeat(9));
        assert_eq!(decode_within(&[&frame(0xc1, &payload)], limits), [&expected[..]]);
        let fragments = [frame(0x41, &payload[..3]), frame(0x89, b""), frame(0x80, &payload[3..])].concat();
        assert_eq!(decode_within(&[&fragments], limits), ["Ping([])", &expected]);
        assert_eq!(decode_within(&[&frame(0xc1, &payload)], within(89).with_compression(true)), ["TooBig"]);
        assert_eq!(decode_within(&[&frame(0xc1, &deflated(b"\xff"))], limits), ["NotUtf8"]);
        assert_eq!(decode_within(&[&frame(0xc2, b"\x07")], limits), ["Deflate"]);
        // A frame that announces more than any setting of a compressor makes of 90 bytes.
        assert_eq!(decode_within(&[&frame(0xc2, &[0; 170])], limits), ["TooBig"]);
    }

    #[test]
    fn the_bit_of_compression_stands_on_first_frames_only() {
        let limits = within(100).with_compression(true);
        for bytes in
            [frame(0xc9, b""), frame(0xc8, b""), [frame(0x41, b""), frame(0xc0, b"")].concat(), frame(0xa1, b"")]
        {
            assert_eq!(decode_within(&[&bytes], limits), ["ReservedBits"], "{bytes:x?}");
        }
    }

    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let first = prop_oneof![
            8 => prop::sample::select(vec![0x81u8, 0x01, 0x80, 0x00, 0x82, 0x02, 0x89, 0x8a, 0x88]),
            2 => prop::sample::select(vec![0xc1u8, 0x41, 0xc2]),
            1 => any::<u8>(),
        ];
        let payload = prop_oneof![
            2 => "[a-z]{1,30}".prop_map(|text| deflated(text.as_bytes())),
            4 => "[a-zé€😀]{0,40}".prop_map(String::into_bytes),
            1 => prop::collection::vec(any::<u8>(), 0..200),
        ];
        prop::collection::vec((first, payload).prop_map(|(first, payload)| frame(first, &payload)), 0..8)
            .prop_map(|frames| frames.concat())
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_messages(bytes in stream(), mut cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12)) {
            let limits = within(300).with_compression(true);
            let whole = decode_within(&[&bytes], limits);
            cuts.sort_by_key(|cut| cut.index(bytes.len() + 1));
            let (mut pieces, mut at) = (Vec::new(), 0);
            for cut in cuts {
                let cut = cut.index(bytes.len() + 1);
                pieces.push(&bytes[at..cut]);
                at = cut;
            }
            pieces.push(&bytes[at..]);
            prop_assert_eq!(&decode_within(&pieces, limits), &whole);
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            prop_assert_eq!(&decode_within(&single, limits), &whole);
        }
    }
}
