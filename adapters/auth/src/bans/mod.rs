//! Bans: who is refused although the credential is valid, until it would have expired anyway.
//! Which bans there are is kept in a store, of which there are several. Whom they refuse is decided by whoever is handed them.

mod file;
mod redis;
mod text;
mod watch;

use std::fmt;

pub use file::FileBans;
pub use redis::RedisBans;
pub use watch::BanWatch;

use crate::credential::USER_BYTES_MAX;
use crate::verifier::TOKEN_BYTES_MAX;

/// So many bans are kept at most, because every server holds all of them.
pub const BANS_MAX: usize = 100_000;

/// The largest whole number up to which a Redis score is exact: some 285,000 years.
const UNTIL_MS_MAX: u64 = (1 << 53) - 1;

/// Who is refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Banned {
    /// A user, whatever they show.
    User(String),
    /// A token, by its `jti`.
    Token(String),
    /// What was issued before this time (Unix, ms), of this user or of all.
    IssuedBefore {
        /// From when on credentials are taken again. Tokens tell whole seconds, so one of the same second counts as older.
        ms: u64,
        /// Whose.
        user: Option<String>,
    },
}

/// A ban.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ban {
    /// Who is refused.
    pub what: Banned,
    /// Until when (Unix, ms). When the last credential has expired that it is meant for, it has nothing left to refuse.
    pub until_ms: u64,
}

/// Where bans are kept. All of it may block.
pub trait BanStore: Send + Sync {
    /// Which changes there have been: another one after each.
    fn version(&self) -> Result<BanVersion, BanError>;

    /// The bans in force at this time.
    fn list(&self, now_ms: u64) -> Result<BanList, BanError>;

    /// Adds a ban, or moves the end of one that is there. Those that are over are removed.
    fn ban(&self, ban: &Ban, now_ms: u64) -> Result<(), BanError>;

    /// Lifts a ban, and tells whether there was one. Those that are over are removed.
    fn unban(&self, what: &Banned, now_ms: u64) -> Result<bool, BanError>;
}

/// How far the changes of a store have come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BanVersion {
    /// Nothing was ever written there. What has been written once does not become that again, unless it is lost.
    Unwritten,
    /// It counts its changes.
    Counted {
        /// Each of them lifts one ban at most.
        changes: u64,
        /// Entries, those that are over among them. Without a change it stays the same.
        entries: u64,
    },
    /// Another text after each change.
    Text(String),
}

/// What a store holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BanList {
    /// The bans in force.
    pub bans: Vec<Ban>,
    /// Entries that this version cannot read, and so does not enforce: somebody wrote them by hand, or a later version did.
    pub unreadable: usize,
}

/// Why a store did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BanError {
    /// It cannot be reached, read or written, and why.
    Unavailable(String),
    /// It holds more than [`BANS_MAX`], or would.
    TooMany,
    /// It holds entries that cannot be read and would be lost by writing.
    Unreadable,
    /// A user's name, or a token's, that no credential can have.
    BadName,
}

impl fmt::Display for BanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(why) => write!(f, "the bans cannot be reached: {why}"),
            Self::TooMany => write!(f, "there are more than {BANS_MAX} bans"),
            Self::Unreadable => f.write_str("some entries cannot be read: mend or remove them first"),
            Self::BadName => f.write_str("no credential has such a name"),
        }
    }
}

impl std::error::Error for BanError {}

/// Whether a credential can have this name at all.
fn check_name(what: &Banned) -> Result<(), BanError> {
    let is_user = |user: &str| (1..=USER_BYTES_MAX).contains(&user.len());
    let is_name = match what {
        Banned::User(user) => is_user(user),
        Banned::Token(id) => id.len() <= TOKEN_BYTES_MAX,
        Banned::IssuedBefore { user, .. } => user.as_deref().is_none_or(is_user),
    };
    if is_name { Ok(()) } else { Err(BanError::BadName) }
}
