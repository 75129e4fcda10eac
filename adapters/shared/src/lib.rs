//! What every Fanfare server needs around the core, whichever way it drives its sockets: the configuration, the figures, the page,
//! the readiness, and how a program starts. What any server needs is in the shell (`fanfare-shell`). Here stand the tables that it
//! goes by, and what knows the core. No event loop, no threads for clients.

pub mod api;
pub mod authentication;
mod commands;
pub mod config;
pub mod cost;
pub mod descriptors;
pub mod drive;
pub mod hooks;
pub mod journal;
pub mod ops;
pub mod page;
pub mod program;
pub mod readiness;
pub mod redis_tls;
pub mod settings;
pub mod sign_in;
pub mod stopping;
pub mod time;
pub mod tls;
mod told;

pub use fanfare_shell::{listen, signals};
