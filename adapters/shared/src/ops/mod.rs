//! What a server shows of itself on the operations port: its figures and readiness on a [`Board`], which the event loop writes to
//! without ever waiting for a reader.

mod board;
mod exposition;
mod families;
mod snapshot;

pub use board::{Board, Figures};
pub use snapshot::Snapshot;
