//! The parts of the `fanfare` binary: the event loops that drive the core over non-blocking sockets.
//!
//! They are a library so that they can be tested and read one by one; the binary is their only intended user.

pub mod admission;
pub mod broker;
pub mod event_loop;
pub mod exchange;
pub mod ready;
pub mod redis_link;
pub mod resolve;
pub mod secure;
pub mod sockets;
mod steps;
pub mod worker;
pub mod workers;
