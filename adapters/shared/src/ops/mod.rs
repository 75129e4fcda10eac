//! The operations port: metrics and health for operators, served on a thread of its own from a [`Board`].
//! The event loop writes to the board and never waits for a reader.

mod board;
mod exposition;
mod families;
mod guard;
mod process;
mod server;

pub use board::{Board, Figures, Snapshot};
pub use server::{Ops, StartError};
