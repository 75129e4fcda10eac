//! The parts of the `fanfare` binary: configuration, logs, the operations port, and the event loops that drive the core
//! over non-blocking sockets.
//!
//! They are a library so that they can be tested and read one by one; the binary is their only intended user.

pub mod accept;
pub mod broker;
pub mod config;
pub mod descriptors;
pub mod event_loop;
pub mod exchange;
pub mod logging;
pub mod ops;
pub mod readiness;
pub mod ready;
pub mod redis_link;
pub mod resolve;
pub mod share;
pub mod signals;
pub mod sockets;
pub mod workers;
