//! The parts of the `fanfare-threaded` binary: blocking threads around the core.
//!
//! - One thread owns the core. It sleeps until somebody has something for it ([`inbox`]), takes what there is as one turn,
//!   and carries out what the core says ([`server`]).
//! - Each connection has a thread that reads it ([`connections`]). Nobody waits to write: the core's thread gives the kernel
//!   what it takes at once, and the core keeps the rest, once for all who lag, within the limits of the configuration. It *is*
//!   the bounded write queue. While a connection lags, a second thread waits until its socket takes more.
//! - One thread accepts ([`accept`]) while the [`gate`] has places, one connects and reads for each link to Redis ([`redis`]), two wait for
//!   signals.
//!
//! What it costs: a thread per connection, and a change of threads for each read. `docs/performance.md` has the figures.
//! Linux allows a process 65,530 mappings of memory (`vm.max_map_count`), whatever its memory; a thread takes four of them. So
//! 12,543 connections are taken at most, and 1,791 more threads begun for those that lag ([`connections::Threads`]).
//!
//! It is a library so that it can be read and tested; the binary is its only intended user.

pub mod accept;
pub mod broker;
pub mod client;
pub mod connections;
pub mod gate;
pub mod inbox;
pub mod redis;
pub mod server;
mod steps;
