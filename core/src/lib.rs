//! The sans-IO protocol core of Fanfare.

pub mod broker;
mod config;
mod error;
mod event;
mod metrics;
pub mod protocol;
pub mod time;
pub mod wheel;
pub mod ws;

pub use config::{Config, PublishFormat};
pub use error::{Refused, Violation};
pub use event::{ConnId, Event};
pub use metrics::Metrics;
