//! Bytes to messages and back (RFC 6455). Nothing here knows of rooms, of commands, or of who the peer is.

pub mod decoder;
pub mod deflate;
pub mod encode;
mod fields;
pub mod handshake;
mod mask;
mod message;
mod response;
mod utf8;

pub use message::{Message, Messages};
