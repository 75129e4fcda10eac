//! A whole cluster of Fanfare in one thread, from one seed: real cores with the real hub and the real Redis session, a model of
//! redis-server, clients, and a network between them all that delays, splits, fills up, breaks and goes silent.
//!
//! A run has two phases. In the first, faults strike, and after every step what clients and Redis see is checked against a
//! reference. Then everything heals, and the cluster must come to rest, work, and leave nothing behind. The same seed always
//! gives the same run. `docs/simulator.md` says what is checked, and how to repeat a failure.

mod client;
mod cluster;
mod costs;
mod draining;
mod group;
mod guard;
mod histories;
mod hooks;
mod identity;
mod incoming;
mod instance;
mod issuer;
mod lives;
mod named;
mod network;
mod options;
mod pages;
mod presence;
mod redis;
mod reference;
mod report;
mod resp;
mod sentinel;
mod shrink;
mod slotted;
mod steps;
mod timeline;
mod trace;
mod view;

pub use cluster::{Outcome, run};
pub use options::{Fault, Narrowed, Options};
pub use report::Report;
pub use shrink::{Failure, attempt, examine};
pub use trace::Trace;
