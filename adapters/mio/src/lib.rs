//! The parts of the `fanfare` binary: configuration, logs, the operations port, and the event loop that drives the core
//! over non-blocking sockets.
//!
//! They are a library so that they can be tested and read one by one; the binary is their only intended user.

pub mod accept;
pub mod broker;
pub mod config;
pub mod descriptors;
pub mod event_loop;
pub mod logging;
pub mod ops;
pub mod ready;
pub mod redis_link;
pub mod resolve;
pub mod signals;
pub mod sockets;
