//! The sans-IO protocol core of Fanfare.

mod action;
pub mod broker;
mod config;
mod conn;
mod core;
mod error;
mod event;
mod hub;
mod invariants;
mod life;
mod metrics;
pub mod protocol;
pub mod time;
pub mod wheel;
pub mod ws;

pub use action::{Action, Actions, Delivery};
pub use config::{Config, PublishFormat};
pub use core::{Core, Turn};
pub use error::{Refused, Violation};
pub use event::{ConnId, Event};
pub use metrics::Metrics;
