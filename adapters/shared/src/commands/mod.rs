//! The commands beside `check-config`: tokens for trying, and bans. What is asked of the store or of the key is done elsewhere.

mod bans;
mod span;
#[cfg(test)]
mod tests;
mod token;

pub(crate) use bans::{BAN, BANS, UNBAN};
pub(crate) use token::TOKEN;
