//! Bans as backends ask for them, in the store that the servers look at.

use crate::config::{Config, bans_store};
use crate::time::unix_ms;
use fanfare_api::{Ban, BanFault, Bans, Whom};
use fanfare_auth::{BanError, BanStore, Banned};
use fanfare_shell::program::StartError;
use std::sync::Arc;

/// A hundred years.
const FOR_S_MAX: u64 = 3_155_760_000;

struct Store(Box<dyn BanStore>);

/// Where the configuration has bans kept.
///
/// # Errors
/// What is wrong with it.
pub(super) fn open(config: &Config) -> Result<Option<Arc<dyn Bans>>, StartError> {
    Ok(bans_store(config)?.map(|store| Arc::new(Store(store)) as Arc<dyn Bans>))
}

impl Bans for Store {
    fn ban(&self, whom: &Whom, for_s: u64) -> Result<Ban, BanFault> {
        if !(1..=FOR_S_MAX).contains(&for_s) {
            return Err(BanFault::Wrong(format!("for_s is from 1 to {FOR_S_MAX}")));
        }
        let (what, now_ms) = (banned(whom)?, unix_ms());
        let until_ms = now_ms.saturating_add(for_s.saturating_mul(1_000));
        self.0.ban(&fanfare_auth::Ban { what, until_ms }, now_ms).map_err(fault)?;
        Ok(Ban::new(whom.clone(), until_ms))
    }

    fn unban(&self, whom: &Whom) -> Result<bool, BanFault> {
        self.0.unban(&banned(whom)?, unix_ms()).map_err(fault)
    }

    fn list(&self) -> Result<Vec<Ban>, BanFault> {
        let list = self.0.list(unix_ms()).map_err(fault)?;
        Ok(list.bans.into_iter().map(|ban| Ban::new(whom(ban.what), ban.until_ms)).collect())
    }
}

fn banned(Whom { user, token, issued_before_ms }: &Whom) -> Result<Banned, BanFault> {
    match (user.clone(), token.clone(), *issued_before_ms) {
        (Some(user), None, None) => Ok(Banned::User(user)),
        (None, Some(token), None) => Ok(Banned::Token(token)),
        (user, None, Some(ms)) => Ok(Banned::IssuedBefore { ms, user }),
        _ => Err(BanFault::Wrong("say user, or token, or issued_before_ms, which may have a user".to_owned())),
    }
}

fn whom(banned: Banned) -> Whom {
    let (user, token, issued_before_ms) = match banned {
        Banned::User(user) => (Some(user), None, None),
        Banned::Token(token) => (None, Some(token), None),
        Banned::IssuedBefore { ms, user } => (user, None, Some(ms)),
    };
    Whom { user, token, issued_before_ms }
}

fn fault(error: BanError) -> BanFault {
    match error {
        BanError::BadName => BanFault::Wrong(error.to_string()),
        error => BanFault::Away(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_a_ban_names_is_told_as_it_was_said() {
        let bob = || Some("bob".to_owned());
        for said in [
            Whom { user: bob(), token: None, issued_before_ms: None },
            Whom { user: None, token: bob(), issued_before_ms: None },
            Whom { user: bob(), token: None, issued_before_ms: Some(5) },
            Whom { user: None, token: None, issued_before_ms: Some(5) },
        ] {
            assert_eq!(whom(banned(&said).unwrap()), said);
        }
        for wrong in [
            Whom { user: None, token: None, issued_before_ms: None },
            Whom { user: bob(), token: bob(), issued_before_ms: None },
        ] {
            assert!(matches!(banned(&wrong), Err(BanFault::Wrong(_))));
        }
    }
}
