//! Keys that an issuer publishes, against an HTTP server that counts what it is asked.

use crate::endpoint::{Answer, Endpoint};
use crate::material::*;
use fanfare_auth::{Algorithm, Issuer, Refusal, RemoteKeys, Secret, SetupError, Verifier};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

const REFRESH: u64 = 30_000;
const RETRY: u64 = 5_000;
const AGE: u64 = 600_000;

/// An issuer's web server.
struct Published(Endpoint);

impl Published {
    fn new(keys: &[Value]) -> Self {
        Self(Endpoint::new(key_set_of(keys)))
    }

    fn say(&self, answer: Answer) {
        self.0.say(answer);
    }

    fn publish(&self, keys: &[Value]) {
        self.say(key_set_of(keys));
    }

    fn break_down(&self) {
        self.say(Answer::of(503, ""));
    }

    fn requests(&self) -> usize {
        self.0.requests()
    }

    fn url(&self) -> String {
        self.0.url()
    }

    fn verifier(&self) -> Verifier {
        verifier_of(vec![Issuer::named(ISSUER, RemoteKeys::new(&self.url()).unwrap()).audience(AUDIENCE)])
    }
}

fn key_set_of(keys: &[Value]) -> Answer {
    Answer::of(200, json!({ "keys": keys }))
}

fn user_at(verifier: &Verifier, token: &Secret, now_ms: u64) -> Result<String, Refusal> {
    Ok(verify_at(verifier, token, now_ms)?.user)
}

#[test]
fn they_are_fetched_when_first_needed_and_then_known() {
    let server = Published::new(&[jwk("p256-a", "1"), jwk("ed25519-a", "2")]);
    let verifier = server.verifier();
    assert_eq!(server.requests(), 0);
    for _ in 0..20 {
        assert_eq!(user(&verifier, &token_by("p256-a", "1")).as_deref(), Ok("alice"));
        assert_eq!(user(&verifier, &token_by("ed25519-a", "2")).as_deref(), Ok("alice"));
        assert_eq!(verify(&verifier, &token_by("p256-b", "1")), Err(Refusal::BadSignature));
    }
    assert_eq!(server.requests(), 1);
}

#[test]
fn a_flood_of_unknown_names_makes_one_request_in_thirty_seconds() {
    let server = Published::new(&[jwk("p256-a", "1")]);
    let verifier = server.verifier();
    assert_eq!(user(&verifier, &token_by("p256-a", "1")).as_deref(), Ok("alice"));
    for now in (NOW..NOW + 10 * REFRESH).step_by(250) {
        let token = token_by("p256-b", &format!("unknown {now}"));
        assert_eq!(verify_at(&verifier, &token, now), Err(Refusal::UnknownKey));
    }
    assert_eq!(server.requests(), 10);
    assert_eq!(user_at(&verifier, &token_by("p256-a", "1"), NOW + 10 * REFRESH).as_deref(), Ok("alice"));
}

#[test]
fn a_flood_from_many_threads_makes_one_request_too() {
    let server = Published::new(&[jwk("p256-a", "1")]);
    let verifier = server.verifier();
    thread::scope(|scope| {
        for thread in 0..8 {
            let verifier = &verifier;
            scope.spawn(move || {
                assert_eq!(user(verifier, &token_by("p256-a", "1")).as_deref(), Ok("alice"));
                for one in 0..20 {
                    let token = token_by("p256-b", &format!("{thread} {one}"));
                    assert_eq!(verify(verifier, &token), Err(Refusal::UnknownKey));
                }
            });
        }
    });
    assert_eq!(server.requests(), 1);
}

#[test]
fn a_pause_begins_when_an_attempt_has_ended() {
    let server = Published::new(&[]);
    server.say(Answer::Slow(Duration::from_millis(1_100), 503, String::new()));
    let verifier = server.verifier();
    let token = token_by("p256-a", "1");
    for (now, requests) in [(NOW, 1), (NOW + RETRY, 1), (NOW + 10 * RETRY, 2)] {
        assert_eq!(verify_at(&verifier, &token, now), Err(Refusal::Unavailable));
        assert_eq!(server.requests(), requests);
    }
}

#[test]
fn a_new_key_is_found_by_its_name_and_the_old_one_is_gone() {
    let server = Published::new(&[jwk("p256-a", "1")]);
    let verifier = server.verifier();
    assert_eq!(user(&verifier, &token_by("p256-a", "1")).as_deref(), Ok("alice"));
    server.publish(&[jwk("ed25519-a", "2")]);
    assert_eq!(verify_at(&verifier, &token_by("ed25519-a", "2"), NOW + REFRESH - 1), Err(Refusal::UnknownKey));
    assert_eq!(user_at(&verifier, &token_by("ed25519-a", "2"), NOW + REFRESH).as_deref(), Ok("alice"));
    assert_eq!(verify_at(&verifier, &token_by("p256-a", "1"), NOW + REFRESH), Err(Refusal::UnknownKey));
    assert_eq!(server.requests(), 2);
}

#[test]
fn a_key_that_was_withdrawn_is_gone_when_the_keys_have_become_old() {
    let server = Published::new(&[jwk("p256-a", "1")]);
    let verifier = server.verifier();
    let token = token_by("p256-a", "1");
    assert_eq!(user(&verifier, &token).as_deref(), Ok("alice"));
    server.publish(&[]);
    assert_eq!(user_at(&verifier, &token, NOW + AGE - 1).as_deref(), Ok("alice"));
    assert_eq!(verify_at(&verifier, &token, NOW + AGE), Err(Refusal::UnknownKey));
    assert_eq!(server.requests(), 2);
}

#[test]
fn keys_are_kept_while_the_issuer_is_down_and_what_is_unknown_is_nobodys_fault() {
    let server = Published::new(&[jwk("p256-a", "1")]);
    let verifier = server.verifier();
    let known = token_by("p256-a", "1");
    assert_eq!(user(&verifier, &known).as_deref(), Ok("alice"));
    server.break_down();
    for now in [NOW + AGE, NOW + AGE + 1, NOW + 100 * AGE] {
        assert_eq!(user_at(&verifier, &known, now).as_deref(), Ok("alice"));
        assert_eq!(verify_at(&verifier, &token_by("ed25519-a", "2"), now), Err(Refusal::Unavailable));
    }
    assert_eq!(server.requests(), 3);
    server.publish(&[jwk("p256-a", "1"), jwk("ed25519-a", "2")]);
    let later = NOW + 100 * AGE + REFRESH;
    assert_eq!(user_at(&verifier, &token_by("ed25519-a", "2"), later).as_deref(), Ok("alice"));
}

#[test]
fn an_issuer_that_has_never_answered_is_asked_every_five_seconds_until_it_does() {
    let server = Published::new(&[]);
    server.break_down();
    let verifier = server.verifier();
    for now in (NOW..NOW + 6 * RETRY).step_by(1_000) {
        let refusal = verify_at(&verifier, &token_by("p256-a", "1"), now).unwrap_err();
        assert!(refusal.is_ours(), "{refusal}");
    }
    assert_eq!(server.requests(), 6);
    server.publish(&[jwk("p256-a", "1")]);
    assert_eq!(user_at(&verifier, &token_by("p256-a", "1"), NOW + 6 * RETRY).as_deref(), Ok("alice"));
}

#[test]
fn a_clock_that_is_set_back_far_does_not_end_the_asking() {
    let undated = json!({ "iss": ISSUER, "aud": AUDIENCE, "sub": "alice" });
    let server = Published::new(&[jwk("p256-a", "1")]);
    let verifier = server.verifier();
    assert_eq!(user(&verifier, &token_by("p256-a", "1")).as_deref(), Ok("alice"));
    server.publish(&[jwk("ed25519-a", "2")]);
    let token = token_of(r#"{"alg":"EdDSA","kid":"2"}"#, &undated.to_string(), Algorithm::EdDSA, &private("ed25519-a"));
    assert_eq!(user_at(&verifier, &token, NOW - 100 * AGE).as_deref(), Ok("alice"));
}

#[test]
fn an_answer_that_is_no_small_key_set_counts_as_none() {
    let set = json!({ "keys": [jwk("p256-a", "1")] }).to_string();
    let padded = |length: usize| format!("{set}{}", " ".repeat(length - set.len()));
    let elsewhere = Published::new(&[jwk("p256-a", "1")]);
    for (answer, is_taken) in [
        (Answer::Whole(200, String::new(), padded(64 * 1024)), true),
        (Answer::Whole(200, String::new(), padded(64 * 1024 + 1)), false),
        (Answer::Whole(200, String::new(), format!("{set}x")), false),
        (Answer::Whole(200, String::new(), set[..set.len() - 1].to_owned()), false),
        (Answer::Whole(200, String::new(), String::new()), false),
        (Answer::Whole(201, String::new(), set.clone()), false),
        (Answer::Whole(404, String::new(), set.clone()), false),
        (Answer::Whole(302, format!("Location: {}\r\n", elsewhere.url()), set.clone()), false),
    ] {
        let server = Published::new(&[]);
        server.say(answer);
        let outcome = if is_taken { Ok("alice".to_owned()) } else { Err(Refusal::Unavailable) };
        assert_eq!(user(&server.verifier(), &token_by("p256-a", "1")), outcome);
        assert_eq!(server.requests(), 1);
    }
    assert_eq!(elsewhere.requests(), 0, "it was followed");
}

#[test]
fn nobody_listening_and_silence_are_outages() {
    let silent = Published::new(&[]);
    silent.say(Answer::Silence);
    assert_eq!(verify(&silent.verifier(), &token_by("p256-a", "1")), Err(Refusal::Unavailable));

    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = RemoteKeys::new(&format!("http://{free}/")).unwrap();
    let verifier = verifier_of(vec![Issuer::named(ISSUER, nobody)]);
    assert_eq!(verifier.troubles().count(), 0);
    assert_eq!(verify(&verifier, &token_by("p256-a", "1")), Err(Refusal::Unavailable));
    let troubles: Vec<_> = verifier.troubles().collect();
    assert_eq!(troubles.len(), 1);
    assert_eq!(troubles[0].0, Some(ISSUER));
    assert!(troubles[0].1.contains("refused"), "{troubles:?}");
}

#[test]
fn published_secrets_and_keys_for_encryption_verify_nothing() {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let mut for_encryption = jwk("p256-a", "1");
    for_encryption["use"] = "enc".into();
    let published_secret = json!({ "kty": "oct", "kid": "2", "k": URL_SAFE_NO_PAD.encode(secret().expose()) });
    let server = Published::new(&[for_encryption, published_secret]);
    let verifier = server.verifier();
    assert_eq!(verify(&verifier, &token_by("p256-a", "1")), Err(Refusal::UnknownKey));
    assert_eq!(
        verify(&verifier, &signed(r#"{"alg":"HS256","kid":"2"}"#, &claims().to_string())),
        Err(Refusal::UnknownKey)
    );
}

#[test]
fn one_issuers_keys_by_url_verify_no_other_ones_tokens() {
    let (first, second) = (Published::new(&[jwk("p256-a", "1")]), Published::new(&[jwk("ed25519-a", "1")]));
    let of = |name: &str, server: &Published| {
        Issuer::named(name, RemoteKeys::new(&server.url()).unwrap()).audience(AUDIENCE)
    };
    let verifier = verifier_of(vec![of(ISSUER, &first), of("https://second.example", &second)]);
    assert_eq!(user(&verifier, &token_by("p256-a", "1")).as_deref(), Ok("alice"));
    let by_the_second = token_by("ed25519-a", "1");
    assert_eq!(verify(&verifier, &by_the_second), Err(Refusal::WrongAlgorithm));
    assert_eq!(second.requests(), 0);

    // The first one publishes a key that says of itself that it is another issuer's.
    let mut foreign = jwk("ed25519-a", "2");
    foreign["issuer"] = "https://second.example".into();
    first.publish(&[jwk("p256-a", "1"), foreign]);
    let token = token_by("ed25519-a", "2");
    assert_eq!(verify_at(&verifier, &token, NOW + REFRESH), Err(Refusal::UnknownKey));
    assert_eq!(first.requests(), 2);
}

#[test]
fn urls_are_https_or_of_this_machine() {
    for url in [
        "",
        "x",
        "/keys",
        "ftp://a/",
        "http://id.example/keys",
        "http://127.0.0.1.id.example/",
        "http://localhost@id.example/",
        "https://user:password@id.example/",
        "https:///keys",
    ] {
        assert_eq!(RemoteKeys::new(url).err(), Some(SetupError::BadUrl), "{url}");
    }
    for url in ["https://id.example/keys", "http://localhost:1/", "http://127.0.0.1/", "http://[::1]:80/"] {
        assert!(RemoteKeys::new(url).is_ok(), "{url}");
    }
}
