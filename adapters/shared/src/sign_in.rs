//! Passwords of Redis and of Sentinels that stand in files. They are read for each connection, because secrets are rotated while the server
//! runs. Reading may block, so that each server does it where it looks up hosts.

use crate::config::Config;
use fanfare_core::broker::redis::{LinkId, RedisBroker};

pub use fanfare_auth::{Secret, SignIn};

/// How to sign in on the links of a broker.
#[derive(Debug, Default)]
pub struct SignIns {
    redis: SignIn,
    sentinels: SignIn,
}

impl SignIns {
    /// As it is configured.
    pub fn new(config: &Config) -> SignIns {
        SignIns { redis: config.redis.sign_in(), sentinels: config.redis.sentinel_sign_in() }
    }

    /// What is to be read with [`password`] before a connection is opened on a link; none where no file is.
    pub fn to_read(&self, broker: &RedisBroker, link: LinkId) -> Option<SignIn> {
        Some(self.of(broker, link)).filter(|sign_in| sign_in.password_file.is_some()).cloned()
    }

    /// Has the broker sign in with what has been read, from the next connection on.
    pub fn tell(&self, broker: &mut RedisBroker, link: LinkId, password: &Secret) {
        let (username, password) = (self.of(broker, link).username.clone(), text(password));
        if broker.leads_to_sentinel(link) {
            broker.sign_in_at_sentinels_with(username, password);
        } else {
            broker.sign_in_with(username, password);
        }
    }

    fn of(&self, broker: &RedisBroker, link: LinkId) -> &SignIn {
        if broker.leads_to_sentinel(link) { &self.sentinels } else { &self.redis }
    }
}

/// The password of a link, where it stands in a file. The error is why an attempt to connect fails, for people.
///
/// # Errors
/// If the file cannot be read, or holds no password.
pub fn password(sign_in: &Option<SignIn>) -> Result<Option<Secret>, String> {
    let read = sign_in.as_ref().map_or(Ok(None), SignIn::password);
    read.map_err(|why| format!("no password to sign in with: {why}"))
}

/// Passwords are read as UTF-8.
pub(crate) fn text(password: &Secret) -> Option<String> {
    String::from_utf8(password.expose().to_vec()).ok()
}
