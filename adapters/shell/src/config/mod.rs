//! The configuration: from a table of keys to flags, environment variables, a TOML file, a help text and `check-config`.
//!
//! A server has a type for its configuration, and a [`Schema`] of it: the one definition of every key. Nothing here opens a socket or
//! reads anything but the named file.

mod command_line;
mod file;
mod key;
mod load;
mod problem;
mod rule;
mod schema;
mod show;
mod subcommand;
mod tables;
#[cfg(test)]
mod tests;

pub use command_line::Command;
pub use key::{
    Address, Choice, Field, Given, Key, Kind, List, Milliseconds, Number, OptionalAddress, Text, Unit, items, quoted,
    read_items, read_text,
};
pub use load::{Loaded, Stop, load};
pub use problem::{ConfigError, Problem, Source};
pub use rule::Rule;
pub use schema::{Help, PortVariable, Program, Question, Schema, Sources};
pub use subcommand::{Asked, Failed, Flag, Said, Subcommand, Times};
pub use tables::{ArrayOfTables, Fault, Tables};
