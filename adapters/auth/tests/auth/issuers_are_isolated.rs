//! No issuer can name a user, or a token, of another one, nor of sessions or of the operator's endpoint.

use crate::endpoint::{Answer, Endpoint};
use crate::material::*;
use fanfare_auth::{
    Callback, CallbackOptions, CookieKind, Identity, Issuer, Key, Methods, MintingKey, Options, Refusal, Request,
    Secret, Service, SessionMethod, SessionStore, Sessions, Source, StoredSession, USER_BYTES_MAX, Unavailable,
    Verifier, cookie, mint,
};
use fanfare_tests::DEADLINE;
use serde_json::{Value, json};
use std::sync::mpsc;

const PARTNER: &str = "https://partner.example";

/// Our own issuer, whose users have no prefix, and one whose users have this.
fn with_partner(prefix: &str) -> Verifier {
    let partner = Issuer::named(PARTNER, Key::secret(&other_secret()).unwrap()).audience(AUDIENCE);
    verifier_of(vec![issuer(Key::secret(&secret()).unwrap()), partner.user_prefix(prefix)])
}

/// A token of the partner's.
fn of_partner(claim: &str, value: Value) -> Secret {
    let mut claims = claims_with("iss", PARTNER.into());
    claims[claim] = value;
    mint(&claims, &MintingKey::secret(&other_secret()).unwrap()).unwrap()
}

#[test]
fn a_user_and_a_token_of_one_name_are_others_at_another_issuer() {
    let verifier = with_partner("partner:");
    let names = |token: &Secret| {
        let Identity { user, token_id, .. } = verify(&verifier, token).unwrap();
        (user, token_id.unwrap())
    };
    let text = str::to_owned;
    assert_eq!(names(&token(&claims())), (text("alice"), text("t-1")));
    assert_eq!(names(&of_partner("sub", "alice".into())), (text("partner:alice"), text("partner:t-1")));
    assert_eq!(names(&of_partner("sub", 7.into())).0, "partner:7");
    // A prefix makes a user of nobody, and no name longer than it may be.
    assert_eq!(user(&verifier, &of_partner("sub", "".into())), Err(Refusal::NoUser));
    let longest = "x".repeat(USER_BYTES_MAX - "partner:".len());
    assert_eq!(user(&verifier, &of_partner("sub", longest.clone().into())), Ok(format!("partner:{longest}")));
    assert_eq!(user(&verifier, &of_partner("sub", (longest + "x").into())), Err(Refusal::NoUser));
}

#[test]
fn nobody_spells_out_the_users_of_a_longer_prefix() {
    let verifier = with_partner("partner:");
    for name in ["partner:alice", "partner:"] {
        assert_eq!(user(&verifier, &token(&claims_with("sub", name.into()))), Err(Refusal::ForeignUser));
    }
    assert_eq!(user(&verifier, &token(&claims_with("sub", "partner".into()))).as_deref(), Ok("partner"));
    let of_three = |prefix: &str, longer: &str| {
        let mine = issuer(Key::secret(&secret()).unwrap()).user_prefix(prefix);
        let other = Issuer::named(PARTNER, Key::secret(&other_secret()).unwrap()).user_prefix(longer);
        user(&verifier_of(vec![mine, other]), &token(&claims_with("sub", "b:x".into())))
    };
    assert_eq!(of_three("a", "ab:"), Err(Refusal::ForeignUser));
    assert_eq!(of_three("a", "ac:").as_deref(), Ok("ab:x"));
    // Two that say so have the same users.
    assert_eq!(of_three("a:", "a:").as_deref(), Ok("a:b:x"));
}

/// A store in which every key leads to one session.
struct Always(&'static str);

impl SessionStore for Always {
    fn session(&self, _: &Secret) -> Result<Option<StoredSession>, Unavailable> {
        let text = json!({ "passport": { "user": self.0 } }).to_string().into_bytes();
        Ok(Some(StoredSession { text, left_ms: Some(1_000) }))
    }
}

#[test]
fn neither_a_session_nor_the_endpoint_names_a_user_of_an_issuer() {
    for (name, is_own) in [("alice", true), ("partner:alice", false)] {
        let endpoint = Endpoint::new(Answer::of(200, json!({ "user": name })));
        let sessions = Sessions::new(vec![Secret::new("the new secret")]).unwrap();
        let methods = Methods {
            tokens: Some(with_partner("partner:")),
            sessions: Some(SessionMethod { sessions, store: Box::new(Always(name)) }),
            callback: Some(Callback::new(&endpoint.url(), CallbackOptions::default()).unwrap()),
            cookie_holds: CookieKind::Session,
        };
        let (sender, answers) = mpsc::channel();
        let deliver = move |source, outcome: Result<Identity, Refusal>| drop(sender.send((source, outcome)));
        let service = Service::start(methods, Options::default(), deliver, || NOW).unwrap();
        let field = vectors("sessions")["passport"]["cookie"].as_str().unwrap().to_owned();
        let cookie = cookie(field.as_bytes(), "connect.sid").unwrap();
        for (source, credential) in [(Source::Cookie, cookie), (Source::Request, Secret::new(""))] {
            service
                .ask(Request { tag: source, source, credential, headers: Vec::new(), from: None, is_known: false })
                .unwrap();
            let (_, outcome) = answers.recv_timeout(DEADLINE).expect("an answer");
            let expected = if is_own { Ok(name.to_owned()) } else { Err(Refusal::ForeignUser) };
            assert_eq!(outcome.map(|identity| identity.user), expected, "{source:?}");
        }
    }
}
