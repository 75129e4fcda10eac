//! What the load generator is made of, and benchmarks of the real server use as well: the server and its floors as child
//! processes, what a process costs, the report; and in [`load`] the load itself.
//!
//! `README.md` says how to run it and what each figure means. Everything here reads `/proc`, so it exists on Linux only.
#![cfg(target_os = "linux")]

pub mod child;
pub mod command;
pub mod common;
pub mod comparison;
pub mod connection;
pub mod error;
pub mod floor;
pub mod joining;
pub mod latency;
pub mod load;
pub mod machine;
pub mod process;
pub mod redis;
pub mod report;
pub mod server;

pub use error::{Context, Error, Result};
