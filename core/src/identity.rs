//! Who somebody is: what the core asks about, and what it is told. How a credential is verified is not known here.

use crate::id::ConnId;
use crate::rules::Grants;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

/// A credential that is shown by `AUTH` has at most this many bytes, which is as much as proxies let pass in a header. It is refused
/// before anybody is asked.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// A credential that has to be verified. [`Event::Authenticated`](crate::Event::Authenticated) with the connection must come back,
/// unless that ends before.
#[derive(Clone, Copy)]
pub struct Authenticate<'a> {
    /// Whose it is.
    pub conn: ConnId,
    /// Where it was found.
    pub source: Source,
    /// The credential as it was found: a token, the value of a cookie, or [`Identity::renewal`].
    pub credential: &'a [u8],
    /// The request head in which it was found, if [`Auth::forwards_head`](crate::Auth::forwards_head) asks for it; else empty.
    pub head: &'a [u8],
    /// Whether the head's `Origin` is there and passed: only then do cookies count.
    pub has_origin: bool,
    /// Whether the connection is somebody's already, who should not have to wait for strangers.
    pub is_known: bool,
    /// Where it comes from, as far as that is known: an address, or the first one of an IPv6 network of 64 bits, as limits count them.
    pub from: Option<IpAddr>,
}

impl fmt::Debug for Authenticate<'_> {
    /// Without what is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Authenticate { conn, source, .. } = self;
        f.debug_struct("Authenticate").field("conn", conn).field("source", source).finish_non_exhaustive()
    }
}

/// Where a credential was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// `Authorization: Bearer` (RFC 6750 §2.1).
    Header,
    /// A field of the query, as it stands there: percent-encoded.
    Query,
    /// An entry `fanfare.token.…` of `Sec-WebSocket-Protocol`.
    Subprotocol,
    /// A cookie, as it stands there. It counts only if the `Origin` is there and passed, because browsers send it unasked.
    Cookie,
    /// The command `AUTH`.
    Command,
    /// There is none: whoever verifies looks at the request.
    Request,
    /// [`Identity::renewal`]: is it still good?
    Renewal,
}

/// Who somebody is, until when, and what the issuer lets them do.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Identity {
    /// The user's name: any text that is not empty.
    pub user: Box<str>,
    /// For rules that ask for a grant.
    pub grants: Grants,
    /// Rooms that the connection joins by itself: names, not patterns. Rules hold for them as for a `SUBSCRIBE`.
    pub join: Vec<Box<str>>,
    /// From when on (Unix, ms) the credential is good no more.
    pub expires_ms: Option<u64>,
    /// When it was issued (Unix, ms). Without, it counts as older than any ban.
    pub issued_ms: Option<u64>,
    /// The credential's own name (`jti`), to ban it by.
    pub token_id: Option<Box<str>>,
    /// What others are told of the user where it is kept who is in a room: a JSON value.
    pub info: Option<Box<str>>,
    /// If it has to be asked again whether the credential is good: what is to be asked then. The core asks every
    /// [`Auth::recheck`](crate::Auth::recheck), and when the credential expires.
    pub renewal: Option<Box<[u8]>>,
}

impl Identity {
    /// This user, without anything else.
    pub fn new(user: impl Into<Box<str>>) -> Identity {
        Identity {
            user: user.into(),
            grants: Grants::default(),
            join: Vec::new(),
            expires_ms: None,
            issued_ms: None,
            token_id: None,
            info: None,
            renewal: None,
        }
    }

    /// What bans look at. Of the time of issue that is the second, because that is what tokens tell, and what is kept of a connection.
    pub(crate) fn facts(&self) -> Facts<'_> {
        let issued_ms = self.issued_ms.map(|ms| ms / 1_000 * 1_000);
        Facts { user: &self.user, token_id: self.token_id.as_deref(), issued_ms }
    }
}

impl fmt::Debug for Identity {
    /// Without what is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Identity { user, expires_ms, issued_ms, token_id, .. } = self;
        let mut out = f.debug_struct("Identity");
        out.field("user", user).field("expires_ms", expires_ms).field("issued_ms", issued_ms);
        out.field("token_id", token_id).finish_non_exhaustive()
    }
}

/// Why a credential is refused. What exactly is wrong with it is for the log of who verified it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Denied {
    /// It is no good.
    Unauthorised,
    /// It was good until some time ago.
    Expired,
    /// It is good, and whoever has it may not come in.
    Forbidden,
    /// It could not be found out.
    Unavailable,
}

/// Credentials that count no more although they have not expired.
///
/// ```
/// use fanfare_core::{Ban, Banned, Bans, Identity};
///
/// let ban = Ban { banned: Banned::User("eve".into()), until_ms: 2_000 };
/// let bans = Bans::new([ban]);
/// assert!(bans.refuse(&Identity::new("eve"), 1_999) && !bans.refuse(&Identity::new("eve"), 2_000));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bans {
    users: BTreeMap<Box<str>, u64>,
    tokens: BTreeMap<Box<str>, u64>,
    /// Of everybody: before when, and until when.
    issued_before: Vec<(u64, u64)>,
    /// Of single users.
    issued_before_of: BTreeMap<Box<str>, Vec<(u64, u64)>>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ban {
    /// Which credentials.
    pub banned: Banned,
    /// Until when (Unix, ms): best, until those credentials would have expired.
    pub until_ms: u64,
}

/// Which credentials count no more.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Banned {
    /// All of this user.
    User(Box<str>),
    /// The one of this name ([`Identity::token_id`]).
    Token(Box<str>),
    /// Those that were issued before this time, or do not say when they were.
    IssuedBefore {
        /// Unix, ms. A credential of the same second counts as issued before.
        ms: u64,
        /// Of this user alone.
        user: Option<Box<str>>,
    },
}

/// What of a credential bans look at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    pub user: &'a str,
    pub token_id: Option<&'a str>,
    pub issued_ms: Option<u64>,
}

impl Bans {
    /// These.
    pub fn new(bans: impl IntoIterator<Item = Ban>) -> Bans {
        let mut all = Bans::default();
        for Ban { banned, until_ms } in bans {
            match banned {
                Banned::User(user) => longest(&mut all.users, user, until_ms),
                Banned::Token(token) => longest(&mut all.tokens, token, until_ms),
                Banned::IssuedBefore { ms, user: None } => add(&mut all.issued_before, (ms, until_ms)),
                Banned::IssuedBefore { ms, user: Some(user) } => {
                    add(all.issued_before_of.entry(user).or_default(), (ms, until_ms));
                }
            }
        }
        all
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        let are_none = self.users.is_empty() && self.tokens.is_empty();
        are_none && self.issued_before.is_empty() && self.issued_before_of.is_empty()
    }

    /// Whether the credential of this identity counts no more.
    pub fn refuse(&self, identity: &Identity, now_ms: u64) -> bool {
        self.verdict(identity.facts(), now_ms).is_err()
    }

    /// # Errors
    /// [`Denied::Forbidden`] where it is the user who is banned, [`Denied::Expired`] where another credential would do.
    pub(crate) fn verdict(&self, facts: Facts<'_>, now_ms: u64) -> Result<(), Denied> {
        let Facts { user, token_id, issued_ms } = facts;
        let is_in = |until_ms: &u64| now_ms < *until_ms;
        if self.users.get(user).is_some_and(is_in) {
            return Err(Denied::Forbidden);
        }
        let is_banned = token_id.is_some_and(|token| self.tokens.get(token).is_some_and(is_in))
            || self
                .issued_before_of
                .get(user)
                .into_iter()
                .chain([&self.issued_before])
                .flatten()
                .any(|(ms, until_ms)| is_in(until_ms) && issued_ms.is_none_or(|issued| issued < *ms));
        if is_banned { Err(Denied::Expired) } else { Ok(()) }
    }
}

/// Adds such a ban, unless one is there that says more. Those of which it says more go.
fn add(of: &mut Vec<(u64, u64)>, (ms, until_ms): (u64, u64)) {
    if !of.iter().any(|(before, until)| *before >= ms && *until >= until_ms) {
        of.retain(|(before, until)| *before > ms || *until > until_ms);
        of.push((ms, until_ms));
    }
}

fn longest(of: &mut BTreeMap<Box<str>, u64>, name: Box<str>, until_ms: u64) {
    let until = of.entry(name).or_default();
    *until = until_ms.max(*until);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn banned() -> impl Strategy<Value = Banned> {
        let seconds = (0..4_u64).prop_map(|second| second * 1_000);
        prop_oneof![
            "[ab]".prop_map(|user| Banned::User(user.into())),
            "[ab]".prop_map(|token| Banned::Token(token.into())),
            (seconds, prop::option::of("[ab]"))
                .prop_map(|(ms, user)| Banned::IssuedBefore { ms, user: user.map(Into::into) }),
        ]
    }

    proptest! {
        /// All bans together refuse whom any one of them refuses.
        #[test]
        fn several_refuse_as_each_alone(
            bans in prop::collection::vec((banned(), 0..4_u64), 0..8),
            user in "[abc]", token in prop::option::of("[abc]"), issued in prop::option::of(0..5_000_u64), now in 0..4_u64,
        ) {
            let bans: Vec<Ban> = bans.into_iter().map(|(banned, until_ms)| Ban { banned, until_ms }).collect();
            let mut who = Identity::new(&*user);
            (who.token_id, who.issued_ms) = (token.as_deref().map(Into::into), issued);
            let by_any = bans.iter().any(|ban| ban.until_ms > now && match &ban.banned {
                Banned::User(banned) => **banned == *user,
                Banned::Token(banned) => Some(&**banned) == token.as_deref(),
                Banned::IssuedBefore { ms, user: whose } => {
                    whose.as_deref().is_none_or(|whose| whose == user) && issued.is_none_or(|at| at / 1_000 * 1_000 < *ms)
                }
            });
            prop_assert_eq!(Bans::new(bans).refuse(&who, now), by_any);
        }
    }

    #[test]
    fn a_users_ban_is_that_users_and_nobody_elses() {
        let bans = Bans::new([Ban { banned: Banned::User("alice".into()), until_ms: 2 }]);
        assert!(bans.refuse(&Identity::new("alice"), 1));
        for other in ["Alice", "alice ", "alic", "*", "a\u{0}", ""] {
            let mut identity = Identity::new(other);
            identity.token_id = Some("alice".into());
            assert!(!bans.refuse(&identity, 1), "{other:?}");
        }
    }

    #[test]
    fn a_ban_concerns_those_that_it_names_until_its_end() {
        let mut bob = Identity::new("bob");
        (bob.token_id, bob.issued_ms) = (Some("t1".into()), Some(500));
        let unknown_age = Identity::new("bob");
        let refuse = |banned: Banned, identity: &Identity| {
            let bans = Bans::new([Ban { banned, until_ms: 1_000 }]);
            assert!(!bans.refuse(identity, 1_000), "it has ended");
            bans.refuse(identity, 999)
        };
        assert!(refuse(Banned::User("bob".into()), &bob) && !refuse(Banned::User("bo".into()), &bob));
        assert!(refuse(Banned::Token("t1".into()), &bob) && !refuse(Banned::Token("t1".into()), &unknown_age));
        let before = |ms, user: Option<&str>| Banned::IssuedBefore { ms, user: user.map(Into::into) };
        assert!(refuse(before(501, None), &bob) && refuse(before(1, None), &bob), "of its time the second counts");
        assert!(!refuse(before(0, None), &bob));
        assert!(refuse(before(1, None), &unknown_age), "without a time of issue it is older than any");
        assert!(refuse(before(501, Some("bob")), &bob) && !refuse(before(501, Some("eve")), &bob));
    }

    #[test]
    fn of_two_bans_the_longer_one_counts() {
        let ban = |until_ms| Ban { banned: Banned::User("bob".into()), until_ms };
        for bans in [[ban(5), ban(9)], [ban(9), ban(5)]] {
            assert!(Bans::new(bans).refuse(&Identity::new("bob"), 8));
        }
    }

    #[test]
    fn what_another_ban_says_as_well_is_not_kept() {
        let before = |ms, until_ms| Ban { banned: Banned::IssuedBefore { ms, user: None }, until_ms };
        let bans = Bans::new([before(10, 50), before(20, 60), before(5, 90), before(15, 55), before(30, 60)]);
        assert_eq!(bans.issued_before, [(5, 90), (30, 60)]);
    }

    #[test]
    fn what_is_secret_is_not_shown() {
        let mut identity = Identity::new("bob");
        identity.renewal = Some(b"secret"[..].into());
        let asked = Authenticate {
            conn: ConnId::new(0, 0),
            source: Source::Header,
            credential: b"secret",
            head: b"secret",
            has_origin: false,
            is_known: false,
            from: None,
        };
        let shown = format!("{identity:?} {asked:?}");
        assert!(!shown.contains("secret") && !shown.contains("115"), "{shown}");
    }
}
