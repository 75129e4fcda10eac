#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanfare_tests::fuzz::decoder_against_tungstenite(data));
