//! The limit of malformed commands is exact at both ends of its range.

use fanfare_core::Rate;
use fanfare_tests::lone_core::{LoneCore, text_to};
use fanfare_tests::{Frame, config};

/// Whether the connection is closed by the last of `errors` malformed commands, and by none before.
fn closes_with(errors: usize, errors_max: u16) -> bool {
    let mut lone = LoneCore::new(config(|config| {
        config.errors_max = errors_max;
        config.messages = Rate::NONE;
        config.bytes = Rate::NONE;
    }));
    let conn = lone.client();
    let said = lone.bytes(conn, Frame::text("x").masked().repeat(errors - 1));
    assert!(!text_to(&said, conn).contains("too many malformed commands"));
    text_to(&lone.command(conn, "x"), conn).contains("too many malformed commands")
}

#[test]
fn none_is_allowed() {
    assert!(closes_with(1, 0));
}

#[test]
fn as_many_as_a_number_of_16_bits_holds_are_allowed() {
    assert!(!closes_with(65_535, u16::MAX));
    assert!(closes_with(65_536, u16::MAX));
}
