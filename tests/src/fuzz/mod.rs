//! The bodies of the fuzz targets in `fuzz/`, here so that plain `cargo test` compiles them and replays their corpora.
//!
//! Each is a function of bytes that panics where something does not hold. Bytes that mean nothing to it pass. To add one:
//! a file here, a row in [`TARGETS`], a file in `fuzz/fuzz_targets` with its `[[bin]]`, and a seed in `fuzz/corpus`.

mod cluster;
mod commands;
mod core;
mod core_against_model;
mod decoder;
mod decoder_against_tungstenite;
mod deflate;
mod envelope;
mod frames;
mod history;
mod identity;
mod json;
mod pieces;
mod presence;
mod resp;
pub mod resp_against_redis;
mod session;
mod steps;
mod upgrade;

pub use self::core::core;
pub use cluster::cluster;
pub use commands::commands;
pub use core_against_model::core_against_model;
pub use decoder::decoder;
pub use decoder_against_tungstenite::decoder_against_tungstenite;
pub use deflate::deflate;
pub use envelope::envelope;
pub use history::history;
pub use identity::identity;
pub use resp::resp;
pub use resp_against_redis::resp_against_redis;
pub use upgrade::upgrade;

/// What a target does with its bytes.
pub type Body = fn(&[u8]);

/// Every target: its name, which is that of its folders too, and its body.
pub const TARGETS: [(&str, Body); 13] = [
    ("cluster", cluster),
    ("commands", commands),
    ("core", core),
    ("core_against_model", core_against_model),
    ("decoder", decoder),
    ("decoder_against_tungstenite", decoder_against_tungstenite),
    ("deflate", deflate),
    ("envelope", envelope),
    ("history", history),
    ("identity", identity),
    ("resp", resp),
    ("resp_against_redis", resp_against_redis),
    ("upgrade", upgrade),
];
