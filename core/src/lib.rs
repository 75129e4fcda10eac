//! The sans-IO protocol core of Fanfare.

pub mod broker;
mod metrics;
pub mod time;

pub use metrics::Metrics;
