//! The core's compression against miniz_oxide: what it sends can be inflated with the agreed window and no more, what it is
//! sent comes out whole, and no message shows in the next one.

use fanfare_core::ws::deflate::{Deflater, Inflater, Window};
use fanfare_tests::{COMPRESSED, Frame, compression};
use miniz_oxide::deflate::compress_to_vec;
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};
use proptest::prelude::*;

/// What a client makes of a compressed payload that remembers no more than its window: a reference further back fails.
fn inflated_in_window(payload: &[u8], window_bits: u8) -> Result<Vec<u8>, TINFLStatus> {
    let input = [payload, &[0, 0, 0xff, 0xff]].concat();
    let (mut machine, mut window) = (Box::new(DecompressorOxide::new()), vec![0; 1 << window_bits]);
    let (mut taken, mut at, mut out) = (0, 0, Vec::new());
    loop {
        let (status, consumed, produced) =
            decompress(&mut machine, &input[taken..], &mut window, at, TINFL_FLAG_HAS_MORE_INPUT);
        out.extend_from_slice(&window[at..at + produced]);
        (taken, at) = (taken + consumed, (at + produced) % window.len());
        match status {
            TINFLStatus::HasMoreOutput => {}
            TINFLStatus::NeedsMoreInput if taken == input.len() => return Ok(out),
            failed => return Err(failed),
        }
    }
}

fn compressed(deflater: &mut Deflater, window: Window, payload: &[u8]) -> Frame {
    let mut bytes = Vec::new();
    deflater.binary(&mut bytes, Some(window), payload);
    let (frame, length) = Frame::parse(&bytes).expect("a whole frame");
    assert_eq!(length, bytes.len());
    frame
}

/// Random, of few letters, and repeated at a distance: the last are what a window matters for.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..3000),
        prop::collection::vec(144..=255_u8, 0..3000),
        prop::collection::vec(0..4_u8, 0..3000),
        (prop::collection::vec(any::<u8>(), 1..40_000), 0..60_000_usize).prop_map(|(unit, length)| unit
            .iter()
            .copied()
            .cycle()
            .take(length)
            .collect()),
        (prop::collection::vec(any::<u8>(), 200..1100), 0..9000_usize).prop_map(|(unit, length)| unit
            .iter()
            .copied()
            .cycle()
            .take(length)
            .collect()),
    ]
}

fn window() -> impl Strategy<Value = Window> {
    prop::sample::select(vec![Window::Narrow, Window::Wide])
}

#[test]
fn a_window_that_is_too_small_is_noticed() {
    let unit: Vec<u8> = (0..2000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let payload = compressed(&mut Deflater::new(compression(0, 6)), Window::Wide, &unit.repeat(2)).payload;
    assert!(payload.len() < 3000, "the second half refers to the first");
    assert_eq!(inflated_in_window(&payload, 11), Ok(unit.repeat(2)));
    assert_eq!(inflated_in_window(&payload, 10), Err(TINFLStatus::Failed));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn messages_go_both_ways_and_leave_nothing_behind(
        messages in prop::collection::vec((payload(), window(), 0..=10_u8, 0..9_usize), 1..12),
        level in 1..=9_u8,
    ) {
        let settings = compression(0, level);
        let (mut deflater, mut inflater) = (Deflater::new(settings), Inflater::default());
        for (payload, window, client_level, cut) in messages {
            let frame = compressed(&mut deflater, window, &payload);
            prop_assert_eq!(&frame, &compressed(&mut Deflater::new(settings), window, &payload));
            if frame.rsv == COMPRESSED {
                let inflated = inflated_in_window(&frame.payload, window.bits());
                prop_assert_eq!(inflated.as_deref(), Ok(&payload[..]));
            } else {
                prop_assert_eq!(&frame.payload, &payload);
            }
            let mut sent = compress_to_vec(&payload, client_level);
            sent.push(0);
            prop_assert_eq!(inflater.inflate(&sent, payload.len()), Ok(&payload[..]));
            // What is cut off is refused or not, but not by what came before it.
            sent.truncate(sent.len().saturating_sub(cut));
            for bytes_max in [payload.len(), 60_000] {
                let mut fresh = Inflater::default();
                prop_assert_eq!(inflater.inflate(&sent, bytes_max), fresh.inflate(&sent, bytes_max));
            }
        }
    }
}
