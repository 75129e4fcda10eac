//! Whether Redis does what it is asked on a connection that is up. While it refuses for a while, this says why, and when it is
//! asked again: at growing pauses, whoever asks for what meanwhile.

use super::RedisConfig;
use super::backoff::Backoff;
use crate::time::Time;

/// One connection's. It begins when something is refused with [`Refusal::Passing`](super::Refusal::Passing). When it is time
/// ([`Trouble::again_at`]), all that was refused is asked again, and behind that a probe, whose answer is told by
/// [`Trouble::answered`].
#[derive(Debug)]
pub(super) struct Trouble {
    /// Why, while there is any.
    reason: Option<String>,
    /// When it is asked again; none while there is no trouble, and while the answer is awaited.
    again_at: Option<Time>,
    backoff: Backoff,
    /// When the last one was over.
    over_at: Time,
}

impl Trouble {
    /// None. The seed is that of the pauses.
    pub(super) fn new(seed: u64) -> Trouble {
        Trouble { reason: None, again_at: None, backoff: Backoff::new(seed), over_at: Time::ZERO }
    }

    /// Why Redis refuses, while it does. For people.
    pub(super) fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// When it is to be asked again; none while there is no trouble, and while the answer is awaited.
    pub(super) fn again_at(&self) -> Option<Time> {
        self.again_at
    }

    /// Something was refused. What is refused besides, until it is asked again, is the same trouble.
    pub(super) fn begin(&mut self, reason: String, now: Time, config: &RedisConfig) {
        if self.reason.is_none() {
            // Shorter, and a server that refuses every other thing would be asked again and again at the shortest pause.
            if now.since(self.over_at) >= config.backoff_max {
                self.backoff.reset();
            }
            self.reason = Some(reason);
            self.put_off(now, config);
        }
    }

    /// It is asked again now: the answer decides.
    pub(super) fn asked_again(&mut self) {
        self.again_at = None;
    }

    /// What was asked again was answered: it is over, or there is still a reason.
    pub(super) fn answered(&mut self, reason: Option<String>, now: Time, config: &RedisConfig) {
        self.reason = reason;
        match self.reason {
            Some(_) => self.put_off(now, config),
            None => (self.again_at, self.over_at) = (None, now),
        }
    }

    /// The connection is no more: what comes of it is told otherwise.
    pub(super) fn forget(&mut self) {
        (self.reason, self.again_at) = (None, None);
    }

    fn put_off(&mut self, now: Time, config: &RedisConfig) {
        self.again_at = Some(now + self.backoff.next(config.backoff_min, config.backoff_max));
    }
}
