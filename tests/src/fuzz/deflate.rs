//! Compression: any bytes come out as miniz_oxide inflates them, or are refused; what is compressed comes out whole, whatever
//! was inflated before it.
//!
//! miniz_oxide takes some tables of codes that zlib refuses (incomplete ones with a single code), so what ours refuses is
//! not asked of theirs.

use super::decoder::LIMITS;
use crate::{COMPRESSED, Frame, compression};
use fanfare_core::Violation;
use fanfare_core::ws::deflate::{Deflater, Inflater, Window};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF};
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

/// The first byte chooses the limit, the second how it is compressed; the bytes follow.
pub fn deflate(data: &[u8]) {
    let [limit, settings, bytes @ ..] = data else { return };
    let bytes_max = LIMITS[usize::from(limit % 8)];
    let mut inflater = Inflater::default();
    match (inflater.inflate(bytes, bytes_max), theirs(bytes, bytes_max)) {
        (Ok(ours), theirs) => assert_eq!(theirs.as_deref(), Ok(ours)),
        (Err(Violation::TooBig), theirs) => assert_eq!(theirs, Err(Violation::TooBig)),
        (Err(violation), _) => assert_eq!(violation, Violation::Deflate),
    }
    let window = if settings & 0x80 == 0 { Window::Wide } else { Window::Narrow };
    let mut deflater = Deflater::new(compression(0, 1 + settings % 9));
    for _ in 0..2 {
        let mut out = Vec::new();
        deflater.binary(&mut out, Some(window), bytes);
        let (frame, length) = Frame::parse(&out).expect("a whole frame");
        assert_eq!(length, out.len());
        if frame.rsv == COMPRESSED {
            assert!(frame.payload.len() < bytes.len(), "it pays");
            assert_eq!(theirs(&frame.payload, bytes.len()).as_deref(), Ok(bytes));
            assert_eq!(inflater.inflate(&frame.payload, bytes.len()), Ok(bytes));
            assert_eq!(inflater.inflate(&frame.payload, bytes.len() - 1), Err(Violation::TooBig));
        } else {
            assert_eq!((frame.rsv, &frame.payload[..]), (0, bytes));
        }
    }
}

/// A message as RFC 7692 §7.2.2 has it inflated; an empty last block at its end finds out whether it ends within another.
fn theirs(bytes: &[u8], bytes_max: usize) -> Result<Vec<u8>, Violation> {
    let mut out = vec![0; bytes_max + 1];
    let mut stream = Stream { machine: Box::new(DecompressorOxide::new()), start: 0, length: 0 };
    let ended = bytes.is_empty() || stream.push(bytes, &mut out)? || {
        stream.push(&[0, 0, 0xff, 0xff], &mut out)?;
        stream.push(&[0x03, 0x00], &mut out)?
    };
    out.truncate(stream.start + stream.length);
    if ended { Ok(out) } else { Err(Violation::Deflate) }
}

/// Blocks up to one that is marked as the last; none refers to what lies before `start`.
struct Stream {
    machine: Box<DecompressorOxide>,
    start: usize,
    length: usize,
}

impl Stream {
    /// Whether the last block ended with the last byte.
    fn push(&mut self, mut input: &[u8], out: &mut [u8]) -> Result<bool, Violation> {
        const FLAGS: u32 = TINFL_FLAG_HAS_MORE_INPUT | TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
        loop {
            let (status, consumed, produced) =
                decompress(&mut self.machine, input, &mut out[self.start..], self.length, FLAGS);
            input = &input[consumed..];
            self.length += produced;
            if self.start + self.length == out.len() {
                return Err(Violation::TooBig);
            }
            match status {
                TINFLStatus::Done => {
                    *self.machine = DecompressorOxide::new();
                    (self.start, self.length) = (self.start + self.length, 0);
                    if input.is_empty() {
                        return Ok(true);
                    }
                }
                TINFLStatus::NeedsMoreInput => return Ok(false),
                _ => return Err(Violation::Deflate),
            }
        }
    }
}
