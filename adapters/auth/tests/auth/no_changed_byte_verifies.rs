//! Of a valid token, no byte can be another one. That all of it is signed, and that its Base64 has one spelling, is what this needs.

use crate::material::*;
use fanfare_auth::{Issuer, Key, Secret, Verifier};
use proptest::prelude::*;
use std::sync::LazyLock;

static VALID: LazyLock<(Verifier, Vec<Vec<u8>>)> = LazyLock::new(|| {
    let vectors = vectors("tokens");
    let mut keys = fanfare_auth::key_set(vectors["jwks"].to_string().as_bytes()).unwrap();
    keys.push(Key::secret(&secret()).unwrap().named("secret"));
    let verifier = verifier_of(vec![Issuer::named(ISSUER, keys).audience(AUDIENCE)]);
    let tokens = vectors["tokens"].as_object().unwrap().values();
    (verifier, tokens.map(|token| token.as_str().unwrap().as_bytes().to_vec()).collect())
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_token_with_another_byte_is_refused(which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte: u8) {
        let (verifier, tokens) = &*VALID;
        let mut token = tokens[which.index(tokens.len())].clone();
        prop_assert!(verify(verifier, &Secret::new(token.as_slice())).is_ok());
        let at = at.index(token.len());
        prop_assume!(token[at] != byte);
        token[at] = byte;
        prop_assert!(verify(verifier, &Secret::new(token)).is_err());
    }

    #[test]
    fn whatever_comes_is_answered(bytes in prop::collection::vec(any::<u8>(), 0..400), parts in "[A-Za-z0-9_.-]{0,400}") {
        let (verifier, _) = &*VALID;
        prop_assert!(verify(verifier, &Secret::new(bytes)).is_err());
        prop_assert!(verify(verifier, &Secret::new(parts)).is_err());
    }
}

#[test]
fn the_last_characters_of_a_signature_have_one_spelling() {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=.";
    let (verifier, tokens) = &*VALID;
    for token in tokens {
        let (last, rest) = token.split_last().unwrap();
        for other in ALPHABET.iter().filter(|one| *one != last) {
            assert!(verify(verifier, &Secret::new([rest, &[*other]].concat())).is_err());
        }
    }
}
