//! The shell of a server: what it needs around its work, whatever that is.
//!
//! | module | takes | gives |
//! |---|---|---|
//! | [`config`] | a table of keys ([`config::Schema`]), arguments, environment, a file | a configuration, or all that is wrong with it |
//! | [`logging`] | events of `tracing` | lines on stderr, which nobody waits for |
//! | [`ops`] | what the server says of itself ([`ops::Status`]) | metrics and health over HTTP, on a thread of its own |
//! | [`listen`] | an address | a listening socket |
//! | [`signals`] | SIGTERM and SIGINT | bytes on pipes |
//! | [`program`] | all of these | a `main` |
//!
//! **Boundary.** Nothing here knows what the server does: no room, no client, no broker, and not `fanfare-core`. What differs from server
//! to server is a table or a trait that the server fills. Only the names of three keys are taken for granted, because messages name
//! them: `listen`, `ops_listen` and `ops_hosts`. What has to wait for somebody has a thread of its own, so that no server's loop ever
//! waits here.

pub mod config;
pub mod host;
pub mod listen;
pub mod logging;
pub mod ops;
pub mod program;
pub mod signals;
