//! What a script's refusal means for whoever wants something stored or read, and for the connection. No state.

use super::RedisConfig;
use super::history::HistoryError;
use super::refusal::{Refusal, of_command_within, takes_no_writes};
use super::resp::Reply;
use super::verdict::{Loss, Verdict};
use crate::broker::PublishError;
use crate::history::Query;

/// Messages and bytes of payloads that one read replies at most, whatever it asks for: as much as a hub of this crate asks for. A page may
/// end early.
pub(super) const READ_MESSAGES_MAX: u32 = 1_000;
pub(super) const READ_BYTES_MAX: u64 = 512 * 1024;

/// Bytes around a message in the reply to a read, at most: the framing of two bulk strings, and an id of two numbers and a hyphen.
const ENTRY_BYTES_MAX: usize = 2 * 25 + 41;

/// What a read may ask for.
pub(super) fn bounded(query: Query) -> Query {
    let Query { part, messages_max, bytes_max } = query;
    Query { part, messages_max: messages_max.min(READ_MESSAGES_MAX), bytes_max: bytes_max.min(READ_BYTES_MAX) }
}

/// No reply to a read is longer, beside a few words in front. One message may always be had, and none is longer than what can be published.
pub(super) fn page_bytes_max(config: &RedisConfig) -> usize {
    READ_MESSAGES_MAX as usize * ENTRY_BYTES_MAX + config.buffer_bytes_max.max(READ_BYTES_MAX as usize)
}

/// A script was refused, or did not say what scripts say.
pub(super) struct Refused {
    /// What becomes of a store.
    pub(super) error: PublishError,
    /// Whether a read is worth asking again.
    pub(super) passes: bool,
    pub(super) verdict: Result<Verdict, Loss>,
    /// What the log is to be told.
    pub(super) complaint: Option<String>,
}

/// What it means. `None` where this is no reply of a script at all.
pub(super) fn refused(error: HistoryError<'_>, reply: &Reply<'_>, config: &RedisConfig) -> Option<Refused> {
    let fine = |error, passes, complaint| Refused { error, passes, verdict: Ok(Verdict::Fine), complaint };
    let text = match error {
        HistoryError::KeyReused => return Some(fine(PublishError::KeyReused, false, None)),
        HistoryError::NoScript => return Some(fine(PublishError::NotStored, false, None)),
        HistoryError::Unavailable(why) => {
            let why = config.printable_error(why);
            return Some(fine(PublishError::NotStored, false, Some(format!("it keeps no histories: {why}"))));
        }
        // Of a store that was made, as far as is known, and of a room whose data are somebody else's.
        HistoryError::Malformed if matches!(reply, Reply::Array(_)) => {
            let complaint = "a history in it holds what no instance has written".to_owned();
            return Some(fine(PublishError::Unconfirmed, false, Some(complaint)));
        }
        HistoryError::Malformed => return None,
        HistoryError::Refused(text) => text,
    };
    let within = of_command_within(text);
    let reason = config.explained_error(within);
    if takes_no_writes(within) {
        return Some(fine(PublishError::Unavailable, true, Some(reason)));
    }
    let of_link = |verdict| Refused { error: PublishError::Unavailable, passes: true, verdict, complaint: None };
    Some(match Refusal::of(within) {
        Refusal::Passing => of_link(Ok(Verdict::Refused(reason))),
        Refusal::Replica => of_link(Err(Loss::Replica)),
        Refusal::SignIn => of_link(Err(Loss::Broken(reason))),
        Refusal::Lasting => fine(PublishError::Refused, false, Some(reason)),
    })
}
