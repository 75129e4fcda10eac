//! The parts of the `fanfare` binary: configuration, logs and the operations port.
//!
//! They are a library so that they can be tested and read one by one; the binary is their only intended user.

pub mod config;
pub mod logging;
pub mod ops;
