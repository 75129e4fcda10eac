//! Tokens for trying, and bans to read.

use crate::material::*;
use fanfare_auth::cli::{self, TokenRequest};
use fanfare_auth::{Ban, BanList, Banned, ClaimNames, Grants, Info, Issuer, Key, Refusal, Secret, SetupError};

fn request() -> TokenRequest {
    TokenRequest {
        user: "alice".to_owned(),
        grants: Grants { subscribe: vec!["a:*".to_owned()], presence: vec!["b".to_owned()], ..Grants::default() },
        join: vec!["c".to_owned()],
        info: Some(r#"{ "name": "Alice" }"#.to_owned()),
        lifetime_s: 60,
        issuer: Some(ISSUER.to_owned()),
        audience: Some(AUDIENCE.to_owned()),
        id: Some("t-1".to_owned()),
        names: ClaimNames::default(),
    }
}

#[test]
fn a_token_for_trying_says_what_was_asked_for() {
    let key = cli::minting_key(&secret()).unwrap();
    let token = cli::token(&request(), &key, NOW).unwrap();
    let identity = verify(&verifier(), &token).unwrap();
    assert_eq!(
        (identity.user.as_str(), &identity.grants, &identity.join[..]),
        ("alice", &request().grants, &["c".to_owned()][..])
    );
    assert_eq!((identity.issued_ms, identity.expires_ms), (Some(NOW - 30_000), Some(NOW + 60_000 + 30_000)));
    assert_eq!(identity.token_id.as_deref(), Some("t-1"));
    assert_eq!(identity.info, Some(Info::Told(r#"{"name":"Alice"}"#.to_owned())));
    assert_eq!(verify_at(&verifier(), &token, NOW + 90_000), Err(Refusal::Expired));
}

#[test]
fn a_key_in_a_file_is_a_private_key_or_a_secret_and_its_name_is_the_kid() {
    for name in ["p256-a", "p384-a", "ed25519-a"] {
        let key = cli::minting_key(&Secret::new(file(&format!("keys/{name}.private.pem")))).unwrap().named("k");
        let token = cli::token(&request(), &key, NOW).unwrap();
        let named = Issuer::named(ISSUER, vec![public("ed25519-b").named("other"), public(name).named("k")]);
        assert_eq!(user(&verifier_of(vec![named.audience(AUDIENCE)]), &token).as_deref(), Ok("alice"), "{name}");
    }
    for (text, error) in [
        ("short".to_owned(), SetupError::ShortSecret),
        (file("keys/rsa-a.private.pem"), SetupError::NotForMinting),
        (file("keys/p256-a.public.pem"), SetupError::NotForMinting),
    ] {
        assert_eq!(cli::minting_key(&Secret::new(text)).err(), Some(error));
    }
}

#[test]
fn what_is_not_asked_for_is_not_said() {
    let plain = TokenRequest { user: "x".repeat(255), lifetime_s: u64::MAX, ..TokenRequest::default() };
    let key = cli::minting_key(&secret()).unwrap();
    let unnamed = verifier_of(vec![Issuer::unnamed(Key::secret(&secret()).unwrap())]);
    let identity = verify(&unnamed, &cli::token(&plain, &key, NOW).unwrap()).unwrap();
    assert_eq!(
        (identity.grants, identity.join, identity.token_id, identity.info),
        (Grants::default(), vec![], None, None)
    );
    for user in [String::new(), "x".repeat(256)] {
        assert_eq!(cli::token(&TokenRequest { user, ..plain.clone() }, &key, NOW).err(), Some(SetupError::BadUser));
    }
    for info in ["", "{", "null", "1 2", &format!("\"{}\"", "x".repeat(1023))] {
        let request = TokenRequest { info: Some(info.to_owned()), ..plain.clone() };
        assert_eq!(cli::token(&request, &key, NOW).err(), Some(SetupError::BadInfo), "{info}");
    }
    let names = ClaimNames { user: "uid".to_owned(), grants: "may".to_owned(), info: "profile".to_owned() };
    let token = cli::token(&TokenRequest { names: names.clone(), ..request() }, &key, NOW).unwrap();
    assert_eq!(verify(&verifier(), &token), Err(Refusal::NoUser));
    let identity = verify(&verifier().claim_names(names), &token).unwrap();
    assert_eq!(identity.grants, request().grants);
    assert_eq!(identity.info, Some(Info::Told(r#"{"name":"Alice"}"#.to_owned())));
}

#[test]
fn bans_are_listed_by_their_ends_and_do_nothing_to_a_terminal() {
    let ban = |what, until_ms| Ban { what, until_ms };
    let bans = vec![
        ban(Banned::User("\u{1b}[2J\n\"bob\"".to_owned()), (1 << 53) - 1),
        ban(Banned::IssuedBefore { ms: NOW, user: None }, NOW + 2_000),
        ban(Banned::IssuedBefore { ms: NOW + 7, user: Some("alice".to_owned()) }, NOW + 3_000),
        ban(Banned::Token("t-1".to_owned()), NOW + 1_000),
    ];
    let expected = r#"until 2023-11-14T22:13:21Z  --token t-1
until 2023-11-14T22:13:22Z  --issued-before 2023-11-14T22:13:20Z
until 2023-11-14T22:13:23Z  --issued-before 2023-11-14T22:13:20.007Z --user alice
until for ever              --user $'\033[2J\012"bob"'
2 more cannot be read, and are not enforced
"#;
    assert_eq!(cli::bans(&BanList { bans, unreadable: 2 }), expected);
    assert_eq!(cli::bans(&BanList::default()), "nobody is banned\n");
}
