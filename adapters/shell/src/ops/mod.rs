//! The operations port: metrics and health for operators, served on a thread of its own from what a server says of itself. The
//! server never waits for a reader.

pub mod exposition;
mod guard;
mod process;
mod server;

pub use server::{Ops, StartError, Status};
