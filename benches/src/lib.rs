//! Benchmarks of the real server: clients in one thread, what they are attached to, and the attacks. Servers, floors and
//! their costs are those of `fanfare-bench`, the load generator. Nothing here measures the core by itself; that is
//! criterion's work in `benches/`.
//!
//! `benches/README.md` says how to run it and what each figure means. Everything here reads `/proc`, so it exists on
//! Linux only.
#![cfg(target_os = "linux")]

pub mod abuse;
pub mod chat;
pub mod compression;
pub mod fan_out;
pub mod idle;
pub mod options;
pub mod report;
pub mod rooms;
pub mod subject;
pub mod swarm;
