//! What a server shows of itself on the operations port: its figures and readiness. The event loop writes them to a [`Board`],
//! without ever waiting for a reader.

mod board;
mod exposition;
mod families;
mod instances;
mod snapshot;

pub use board::{Board, Figures};
pub use instances::Instances;
pub use snapshot::Snapshot;
