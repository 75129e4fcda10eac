//! What every Fanfare server needs around the core, whichever way it drives its sockets: the configuration, the log, the
//! operations port, the page, the signals, and how a program starts and ends. No event loop, no threads for clients.

pub mod config;
pub mod cost;
pub mod descriptors;
pub mod drive;
pub mod journal;
pub mod listen;
pub mod logging;
pub mod ops;
pub mod page;
pub mod program;
pub mod readiness;
pub mod settings;
pub mod signals;
