//! The HTTP API: what backends ask of a server, without a connection of their own.
//!
//! It knows neither room nor core. Whatever a request means is a command of the written protocol, which a [`Link`] takes to a core, and what
//! that answers becomes a response. Requests wait here and never in a core's loop.
//!
//! Errors are those of RFC 9457. The OpenAPI document, which is served, is made from the handlers themselves.

mod cluster;
mod keys;
mod link;
mod problem;
mod routes;
mod server;

pub use keys::{Keys, KeysError};
pub use link::{End, Link, Order};
pub use routes::{Ban, BanFault, Bans, Whom};
pub use server::{Api, Here, StartError};
