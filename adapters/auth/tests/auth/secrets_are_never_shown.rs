//! No `Debug` and no `Display` shows any part of a secret, and a refusal says nothing of the credential.

use crate::endpoint::{Answer, Endpoint};
use crate::material::*;
use fanfare_auth::{
    Callback, CallbackOptions, Credential, Issuer, Key, MintingKey, RedisBans, RedisPlace, RedisSessions, RemoteKeys,
    Request, Secret, Sessions, Source, StoredSession, cookie,
};
use std::net::TcpListener;

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
fn urls_with_secrets_and_what_is_stored_show_nothing() {
    let redis = RedisPlace::server(&Secret::new(format!("redis://:{CANARY}@127.0.0.1:1/"))).unwrap();
    let url = format!("https://id.example/keys?code={CANARY}");
    let request = Request {
        tag: 7,
        source: Source::Query,
        credential: Secret::new(CANARY),
        is_known: false,
        from: None,
        headers: vec![("cookie".to_owned(), CANARY.into())],
    };
    let session = StoredSession { text: CANARY.into(), left_ms: None };
    for shown in [
        format!("{:?}", RedisSessions::new(redis.clone())),
        format!("{:#?}", RedisBans::new(redis, "")),
        format!("{:?}", RemoteKeys::new(&url).unwrap()),
        format!("{:?}", Callback::new(&url, CallbackOptions::default()).unwrap()),
        format!("{request:?} {request:#?}"),
        format!("{session:?}"),
    ] {
        expect_nothing_of(CANARY.as_bytes(), &shown);
    }
}

#[test]
fn what_goes_wrong_with_an_endpoint_shows_nothing_of_what_it_was_asked() {
    let options = || CallbackOptions { forward_headers: vec!["cookie".to_owned()], ..CallbackOptions::default() };
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let endpoint = Endpoint::new(Answer::of(500, CANARY));
    for address in [endpoint.address, free] {
        let callback = Callback::new(&format!("http://{address}/?code={CANARY}"), options()).unwrap();
        let headers = [("cookie".to_owned(), format!("sid={CANARY}").into_bytes())];
        assert!(callback.verify(&headers, Some(&Secret::new(CANARY)), NOW).is_err());
        expect_nothing_of(CANARY.as_bytes(), &callback.trouble().expect("it failed"));
    }
    // What an endpoint says is not repeated either, because it may repeat what it was asked.
    endpoint.say(Answer::of(200, CANARY));
    let callback = Callback::new(&endpoint.url(), options()).unwrap();
    assert!(callback.verify(&[], Some(&Secret::new(CANARY)), NOW).is_err());
    expect_nothing_of(CANARY.as_bytes(), &callback.trouble().expect("it failed"));
}

#[test]
fn a_renewal_is_a_secret() {
    let endpoint = Endpoint::new(Answer::of(200, r#"{"user":"alice"}"#));
    let callback = Callback::new(&endpoint.url(), CallbackOptions::default()).unwrap();
    let identity = callback.verify(&[], Some(&Secret::new(CANARY)), NOW).unwrap();
    assert!(
        identity.renewal.as_ref().is_some_and(|renewal| renewal.expose().ends_with(format!("{CANARY}\n").as_bytes()))
    );
    expect_nothing_of(CANARY.as_bytes(), &format!("{identity:?} {identity:#?}"));
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
