//! What a script's refusal means for whoever wants something stored or read, and for the connection; bounds of what is asked of scripts. No
//! state.

use super::RedisConfig;
use super::history::HistoryError;
use super::refusal::{Refusal, of_command_within, takes_no_writes};
use super::replication::Wait;
use crate::broker::PublishError;
use crate::history::Query;

/// So often in a row the scripts are loaded because Redis does not know them. One that has forgotten them again by then is none, but a
/// proxy that asks now the one and now the other.
pub(super) const LOADS_IN_A_ROW_MAX: u32 = 3;

/// Why no more is loaded then, for people.
pub(super) const FORGETFUL: &str = "it does not know the scripts that it has just been given";

/// Messages and bytes of payloads that one read replies at most, whatever it asks for: as much as a hub of this crate asks for. A page may
/// end early.
const READ_MESSAGES_MAX: u32 = 1_000;
const READ_BYTES_MAX: u64 = 512 * 1024;

/// Bytes around a message in the reply to a read, at most: the framing of two bulk strings, and an id of two numbers and a hyphen.
const ENTRY_BYTES_MAX: usize = 2 * 25 + 41;

/// What a read may ask for.
pub(super) fn bounded(query: Query) -> Query {
    let Query { part, messages_max, bytes_max } = query;
    Query { part, messages_max: messages_max.min(READ_MESSAGES_MAX), bytes_max: bytes_max.min(READ_BYTES_MAX) }
}

/// No reply to a read is longer, in bytes, beside a few words in front. One message may always be had, and none is longer than what can be
/// published.
pub(super) fn page_bytes_max(config: &RedisConfig) -> usize {
    READ_MESSAGES_MAX as usize * ENTRY_BYTES_MAX + config.buffer_bytes_max.max(READ_BYTES_MAX as usize)
}

/// A script was refused, or did not say what scripts say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// What becomes of a store.
    pub(super) error: PublishError,
    /// Whether a read is worth asking again.
    pub(super) passes: bool,
    /// What it is for the connection; `Lasting` is nothing.
    pub(super) refusal: Refusal,
    /// Why, for people. None where only whoever asked has to know.
    pub(super) reason: Option<String>,
}

/// What it means. `None` where this is no reply of a script at all.
pub(super) fn refused(error: HistoryError<'_>, config: &RedisConfig) -> Option<Refused> {
    let of_this = |error, passes, reason| Refused { error, passes, refusal: Refusal::Lasting, reason };
    let text = match error {
        HistoryError::KeyReused => return Some(of_this(PublishError::KeyReused, false, None)),
        HistoryError::NoMessage => return Some(of_this(PublishError::NoMessage, false, None)),
        HistoryError::EpochUnknown => return Some(of_this(PublishError::EpochUnknown, false, None)),
        HistoryError::NoScript => return Some(of_this(PublishError::NotStored, false, None)),
        HistoryError::Unavailable(why) => {
            let why = config.printable_error(why);
            return Some(of_this(PublishError::NotStored, false, Some(format!("it keeps no histories: {why}"))));
        }
        // Of a store that was made, as far as is known, and of a room whose data are somebody else's.
        HistoryError::Malformed => {
            let reason = "a history in it holds what no instance has written".to_owned();
            return Some(of_this(PublishError::Unconfirmed, false, Some(reason)));
        }
        HistoryError::NoList => return None,
        HistoryError::Refused(text) => text,
    };
    let within = of_command_within(text);
    let reason = Some(config.explained_error(within));
    if takes_no_writes(within) {
        return Some(of_this(PublishError::Unavailable, true, reason));
    }
    Some(match Refusal::of(within) {
        Refusal::Lasting => of_this(PublishError::Refused, false, reason),
        refusal => Refused { error: PublishError::Unavailable, passes: true, refusal, reason },
    })
}

/// What the log is told of a message that was stored, where something else was refused then.
pub(super) fn incomplete(is_announced: bool, trouble: &[u8], config: &RedisConfig) -> String {
    let what = if is_announced { "stored" } else { "stored and could not be announced" };
    format!("a message was {what}: {}", config.printable_error(trouble))
}

/// What the log is told of messages that were stored, where too few replicas have confirmed them in time, or where `WAIT` was refused.
pub(super) fn unreplicated(wait: Wait, replicas: u16, refused: Option<&str>, config: &RedisConfig) -> String {
    let wanted = wait.replicas;
    let told = "senders are told `unconfirmed` until they do";
    match refused {
        Some(reason) => format!(
            "messages that {wanted} replicas must have are not known to be there, WAIT refused: {reason}; {told}"
        ),
        None => {
            let timeout = config.replicas_timeout.as_millis();
            format!("{replicas} of {wanted} replicas have confirmed the last messages within {timeout} ms; {told}")
        }
    }
}
