//! The sans-IO protocol core of Fanfare.

pub mod broker;
pub mod time;
