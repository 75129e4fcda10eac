//! What a client says to a room.

use crate::id::ConnId;
use siphasher::sip::SipHasher13;
use std::hash::Hasher;

/// What a client says to a room.
#[derive(Debug)]
pub(crate) struct Publication<'a> {
    /// JSON.
    pub message: &'a str,
    /// Who shall not get it.
    pub except: Option<ConnId>,
    /// Whether it is stored where the room keeps history.
    pub store: bool,
    /// What tells a repetition of it.
    pub key: Option<&'a str>,
    /// The user who says it, if it is one, and when it was taken (Unix, ms), where clients are asked who they are.
    pub signed: Option<(Option<&'a str>, Option<u64>)>,
}

impl Publication<'_> {
    /// Tells this message from others with the same key, the same at every instance.
    pub fn digest(&self) -> u64 {
        let mut hasher = SipHasher13::new();
        hasher.write(self.message.as_bytes());
        hasher.finish()
    }
}
