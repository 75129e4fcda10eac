//! No `Debug` and no `Display` shows any part of a secret, and a refusal says nothing of the credential.

use crate::material::*;
use fanfare_auth::{Credential, Issuer, Key, MintingKey, Secret, Sessions, Source, cookie};

const CANARY: &str = "canary0canary1canary2canary3canary4";

#[track_caller]
fn expect_nothing_of(canary: &[u8], shown: &str) {
    let lists = format!("{:?}", &canary[..4]);
    let hex: String = canary[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    let plain = String::from_utf8_lossy(&canary[..4]).into_owned();
    for part in [lists.trim_matches(['[', ']']), &hex, &plain] {
        assert!(!shown.to_lowercase().contains(&part.to_lowercase()), "{shown}");
    }
}

#[test]
fn secrets_keys_and_what_holds_them_show_nothing() {
    let secret = Secret::new(CANARY);
    let key = Key::secret(&secret).unwrap();
    let minting = MintingKey::secret(&secret).unwrap();
    let verifier = verifier_of(vec![Issuer::named(ISSUER, key.clone())]);
    let sessions = Sessions::new(vec![secret.clone()]).unwrap();
    let credential = Credential::new(secret.clone(), Source::Query);
    let found = cookie(format!("sid={CANARY}").as_bytes(), "sid");
    for shown in [
        format!("{secret:?} {secret:#?}"),
        format!("{key:?} {key:#?}"),
        format!("{minting:?}"),
        format!("{verifier:?} {verifier:#?}"),
        format!("{sessions:?} {sessions:#?}"),
        format!("{credential:?}"),
        format!("{found:?}"),
    ] {
        expect_nothing_of(CANARY.as_bytes(), &shown);
    }
    assert_eq!(format!("{secret:?}"), "Secret");
}

#[test]
fn private_keys_show_nothing() {
    for name in ["p256-a", "ed25519-a"] {
        let pem = file(&format!("keys/{name}.private.pem"));
        let body = pem.lines().nth(1).unwrap();
        let key = MintingKey::pem(&Secret::new(pem.as_str())).unwrap();
        expect_nothing_of(&body.as_bytes()[8..], &format!("{key:?} {key:#?}"));
    }
}

#[test]
fn a_session_key_is_a_secret_too() {
    let vectors = vectors("sessions");
    let sessions = Sessions::new(vec![Secret::new("the new secret")]).unwrap();
    let field = vectors["passport"]["cookie"].as_str().unwrap();
    let key = sessions.key(&cookie(field.as_bytes(), "connect.sid").unwrap()).unwrap();
    assert_eq!(format!("{key:?}"), "Secret");
}
