//! What the benchmarks of the real server share: the server and its rival as child processes, a swarm of WebSocket
//! clients in one thread, what a process costs, and the report; and in [`load`] the load generator for any server.
//! Nothing here measures the core by itself; that is criterion's work in `benches/`.
//!
//! `benches/README.md` says how to run it and what each figure means. Everything here reads `/proc`, so it exists on
//! Linux only.
#![cfg(target_os = "linux")]

pub mod abuse;
pub mod chat;
pub mod child;
pub mod command;
pub mod compression;
pub mod error;
pub mod fan_out;
pub mod floor;
pub mod idle;
pub mod joining;
pub mod latency;
pub mod load;
pub mod machine;
pub mod options;
pub mod process;
pub mod redis;
pub mod report;
pub mod rooms;
pub mod server;
pub mod subject;
pub mod swarm;

pub use error::{Context, Error, Result};
