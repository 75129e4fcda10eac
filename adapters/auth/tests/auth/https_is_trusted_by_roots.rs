//! Endpoints of `https`, whose certificates an operator's own authority has signed.

use crate::endpoint::{Answer, Endpoint};
use crate::material::*;
use fanfare_auth::{Callback, CallbackOptions, Issuer, Refusal, RemoteKeys, SetupError, Verifier};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::json;
use std::sync::Arc;

/// An authority of nobody but a test.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    /// A server that shows a certificate for this name.
    fn server(&self, name: &str, answer: Answer) -> Endpoint {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let settings = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key);
        Endpoint::with_tls(answer, settings.unwrap())
    }
}

fn keys() -> Answer {
    Answer::of(200, json!({ "keys": [jwk("p256-a", "1")] }))
}

fn verifier_by(keys: RemoteKeys) -> Verifier {
    verifier_of(vec![Issuer::named(ISSUER, keys).audience(AUDIENCE)])
}

#[test]
fn keys_come_from_a_server_that_the_roots_vouch_for() {
    let authority = Authority::new();
    let server = authority.server("localhost", keys());
    let others = format!("{}{}", Authority::new().pem(), authority.pem());
    for roots in [authority.pem(), others] {
        let verifier = verifier_by(RemoteKeys::new(&server.url()).unwrap().roots(&roots).unwrap());
        assert_eq!(user(&verifier, &token_by("p256-a", "1")).as_deref(), Ok("alice"));
        assert_eq!(verifier.troubles().count(), 0);
    }
    assert_eq!(server.requests(), 2);
}

#[test]
fn keys_of_a_server_that_nobody_vouches_for_are_not_taken() {
    let authority = Authority::new();
    let (right, misnamed) = (authority.server("localhost", keys()), authority.server("id.example", keys()));
    let by = |server: &Endpoint, roots: Option<String>| {
        let keys = RemoteKeys::new(&server.url()).unwrap();
        verifier_by(match roots {
            Some(roots) => keys.roots(&roots).unwrap(),
            None => keys,
        })
    };
    for (verifier, why) in [
        (by(&right, None), "UnknownIssuer"),
        // Another authority of the same name.
        (by(&right, Some(Authority::new().pem())), "BadSignature"),
        (by(&misnamed, Some(authority.pem())), "not valid for name"),
    ] {
        assert_eq!(verify(&verifier, &token_by("p256-a", "1")), Err(Refusal::Unavailable), "{why}");
        let troubles: Vec<_> = verifier.troubles().collect();
        assert!(troubles[0].1.contains(why), "{troubles:?}");
    }
    assert_eq!((right.requests(), misnamed.requests()), (0, 0), "something was asked");
}

#[test]
fn the_operators_endpoint_is_trusted_by_roots_too() {
    let authority = Authority::new();
    let server = authority.server("localhost", Answer::of(200, json!({ "user": "carol" })));
    let ask = |roots: Option<String>| {
        let options = CallbackOptions { roots, ..CallbackOptions::default() };
        Callback::new(&server.url(), options).unwrap().verify(&[], None, NOW).map(|identity| identity.user)
    };
    assert_eq!(ask(Some(authority.pem())).as_deref(), Ok("carol"));
    assert_eq!(ask(None), Err(Refusal::Unavailable));
    assert_eq!(server.requests(), 1);
}

#[test]
fn roots_are_certificates_in_pem() {
    let key = file("keys/p256-a.private.pem");
    let broken = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
    for pem in ["", "no PEM", &key, &format!("{}{key}", Authority::new().pem()), broken] {
        let keys = RemoteKeys::new("https://id.example/keys").unwrap();
        assert_eq!(keys.roots(pem).err(), Some(SetupError::NoCertificate), "{pem}");
        let options = CallbackOptions { roots: Some(pem.to_owned()), ..CallbackOptions::default() };
        assert_eq!(Callback::new("https://id.example/ask", options).err(), Some(SetupError::NoCertificate));
    }
}
