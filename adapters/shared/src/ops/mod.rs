//! The operations port: metrics and health for operators, served on a thread of its own from a [`Board`].
//! The event loop writes to the board and never waits for a reader.

mod board;
mod exposition;
mod families;
mod guard;
mod process;
mod server;
mod snapshot;
mod text;

pub use board::{Board, Figures};
pub use server::{Ops, StartError};
pub use snapshot::Snapshot;
