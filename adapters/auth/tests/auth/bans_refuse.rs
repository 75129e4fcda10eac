//! Whom a ban refuses, and until when.

use crate::material::*;
use fanfare_auth::{Ban, Banned, Bans, Grants, Identity};
use proptest::prelude::*;

fn identity(user: &str, token_id: Option<&str>, issued_ms: Option<u64>) -> Identity {
    let (user, token_id) = (user.to_owned(), token_id.map(str::to_owned));
    Identity { user, grants: Grants::default(), join: Vec::new(), expires_ms: None, issued_ms, token_id, renewal: None }
}

fn refuses(what: &Banned, identity: &Identity, now_ms: u64) -> bool {
    Bans::new(&[Ban { what: what.clone(), until_ms: NOW }]).refuses(identity, now_ms)
}

#[test]
fn a_user_is_refused_whatever_they_show_and_nobody_else() {
    let what = Banned::User("alice".to_owned());
    assert!(refuses(&what, &identity("alice", None, None), NOW - 1));
    assert!(refuses(&what, &identity("alice", Some("t"), Some(u64::MAX)), NOW - 1));
    for other in ["Alice", "alice ", "alic", "*", "a\u{0}", ""] {
        assert!(!refuses(&what, &identity(other, Some("alice"), None), NOW - 1), "{other:?}");
    }
}

#[test]
fn a_token_is_refused_by_its_id_and_no_other() {
    let what = Banned::Token("t-1".to_owned());
    assert!(refuses(&what, &identity("alice", Some("t-1"), Some(NOW)), NOW - 1));
    assert!(!refuses(&what, &identity("alice", Some("t-2"), None), NOW - 1));
    assert!(!refuses(&what, &identity("t-1", None, None), NOW - 1));
}

#[test]
fn what_was_issued_before_is_refused_and_so_is_what_tells_no_time() {
    for user in [None, Some("alice".to_owned())] {
        let what = Banned::IssuedBefore { ms: 1_000, user: user.clone() };
        assert!(refuses(&what, &identity("alice", None, Some(999)), NOW - 1));
        assert!(refuses(&what, &identity("alice", None, None), NOW - 1));
        assert!(!refuses(&what, &identity("alice", None, Some(1_000)), NOW - 1));
        assert_eq!(refuses(&what, &identity("bob", None, Some(999)), NOW - 1), user.is_none());
        assert_eq!(refuses(&what, &identity("bob", None, None), NOW - 1), user.is_none());
    }
}

#[test]
fn a_ban_ends_at_its_time() {
    let who = identity("alice", Some("t"), None);
    for what in [
        Banned::User("alice".to_owned()),
        Banned::Token("t".to_owned()),
        Banned::IssuedBefore { ms: 1, user: None },
        Banned::IssuedBefore { ms: 1, user: Some("alice".to_owned()) },
    ] {
        assert!(refuses(&what, &who, NOW - 1), "{what:?}");
        assert!(!refuses(&what, &who, NOW), "{what:?}");
    }
}

fn banned() -> impl Strategy<Value = Banned> {
    prop_oneof![
        "[ab]".prop_map(Banned::User),
        "[ab]".prop_map(Banned::Token),
        (0..4_u64, prop::option::of("[ab]")).prop_map(|(ms, user)| Banned::IssuedBefore { ms, user }),
    ]
}

proptest! {
    /// All bans together refuse whom any one of them refuses.
    #[test]
    fn several_refuse_as_each_alone(
        bans in prop::collection::vec((banned(), 0..4_u64), 0..8),
        user in "[abc]", token in prop::option::of("[abc]"), issued in prop::option::of(0..5_u64), now in 0..4_u64,
    ) {
        let bans: Vec<Ban> = bans.into_iter().map(|(what, until_ms)| Ban { what, until_ms }).collect();
        let who = identity(&user, token.as_deref(), issued);
        let by_any = bans.iter().any(|ban| ban.until_ms > now && match &ban.what {
            Banned::User(banned) => *banned == user,
            Banned::Token(banned) => Some(banned) == token.as_ref(),
            Banned::IssuedBefore { ms, user: whose } => {
                whose.as_ref().is_none_or(|whose| *whose == user) && issued.is_none_or(|issued| issued < *ms)
            }
        });
        prop_assert_eq!(Bans::new(&bans).refuses(&who, now), by_any);
    }
}
