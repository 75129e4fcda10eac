//! What every Fanfare server needs around the core, whichever way it drives its sockets: the configuration, the figures, the page, the
//! readiness, and how a program starts. What no server of any kind could do without is the shell's (`fanfare-shell`): here stand the
//! tables that it goes by, and what knows the core. No event loop, no threads for clients.

pub mod config;
pub mod cost;
pub mod descriptors;
pub mod drive;
pub mod journal;
pub mod ops;
pub mod page;
pub mod program;
pub mod readiness;
pub mod settings;
pub mod time;

pub use fanfare_shell::{listen, signals};
