//! What cannot be used is refused with the file's name and what is wrong, and without a byte of a key.

use crate::material::{Authority, Folder};
use fanfare_tls::{Acceptor, Pair, Version};
use rcgen::date_time_ymd;
use std::path::PathBuf;

fn refusal(pair: &Pair) -> String {
    Acceptor::load(std::slice::from_ref(pair), Version::Tls12).unwrap_err().to_string()
}

#[test]
fn each_fault_is_told_by_its_file() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let (certificate, key) = authority.signs(&["localhost"]);
    let body = key.lines().nth(1).unwrap();
    let cert = |name: &str, text: &str| folder.file(name, text);
    let (good, good_key) = (cert("good.pem", &certificate), cert("good.key", &key));
    let damaged_key = key.replace(body, &format!("!{body}"));
    let foreign_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let sealed = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let old =
        format!("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\n{body}\n-----END RSA PRIVATE KEY-----\n");
    let expired = authority.signs_with(&["localhost"], |params| params.not_after = date_time_ymd(2020, 2, 29));
    let early = authority.signs_with(&["localhost"], |params| params.not_before = date_time_ymd(3000, 1, 1));
    let no_der = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (cert_file, key_file, named, wrong) in [
        (folder.path().join("none.pem"), good_key.clone(), "none.pem", "cannot be read: No such file"),
        (good.clone(), folder.path().join("none.key"), "none.key", "cannot be read: No such file"),
        (cert("text.pem", "hello"), good_key.clone(), "text.pem", "has no certificate"),
        (cert("cut.pem", &certificate[..200]), good_key.clone(), "cut.pem", "is not PEM, or damaged"),
        (cert("der.pem", no_der), good_key.clone(), "der.pem", "has a certificate that cannot be used"),
        (good_key.clone(), good_key.clone(), "good.key", "has no certificate"),
        (good.clone(), good.clone(), "good.pem", "has no private key"),
        (good.clone(), cert("cut.key", &damaged_key), "cut.key", "is not PEM, or damaged"),
        (good.clone(), cert("odd.key", foreign_key), "odd.key", "neither RSA, nor ECDSA, nor Ed25519"),
        (good.clone(), cert("sealed.key", sealed), "sealed.key", "under a passphrase"),
        (good.clone(), cert("old.key", &old), "old.key", "under a passphrase"),
        (good.clone(), cert("other.key", &authority.signs(&["a"]).1), "other.key", "is not that of the certificate in"),
        (cert("expired.pem", &expired.0), cert("expired.key", &expired.1), "expired.pem", "expired on 2020-02-29"),
        (cert("early.pem", &early.0), cert("early.key", &early.1), "early.pem", "is not valid before 3000-01-01"),
    ] {
        let said = refusal(&Pair { cert_file, key_file });
        assert!(said.contains(named) && said.contains(wrong), "{named}, {wrong}: {said}");
        assert!(!said.contains(body) && !said.contains(&body[..16]), "it shows the key: {said}");
    }
    assert!(Acceptor::load(&[Pair { cert_file: good, key_file: good_key }], Version::Tls13).is_ok());
}

#[test]
fn keys_may_be_of_any_usual_form() {
    let folder = Folder::new();
    // By the program that most keys are made with: each form with a certificate of its own.
    let openssl = |arguments: &str| {
        let done = std::process::Command::new("openssl").args(arguments.split(' ')).current_dir(folder.path()).output();
        let done = done.expect("openssl is there: apt-get install openssl");
        assert!(done.status.success(), "{arguments}: {done:?}");
    };
    openssl("genrsa -traditional -out pkcs1.key 2048");
    openssl("ecparam -name prime256v1 -genkey -noout -out sec1.key");
    openssl("genpkey -algorithm ed25519 -out pkcs8.key");
    for (stem, begins) in [("pkcs1", "BEGIN RSA PRIVATE"), ("sec1", "BEGIN EC PRIVATE"), ("pkcs8", "BEGIN PRIVATE")] {
        openssl(&format!("req -x509 -new -key {stem}.key -subj /CN=localhost -days 2 -out {stem}.pem"));
        let file = |ending: &str| -> PathBuf { folder.path().join(format!("{stem}.{ending}")) };
        assert!(std::fs::read_to_string(file("key")).unwrap().contains(begins), "{stem}");
        let pair = Pair { cert_file: file("pem"), key_file: file("key") };
        let acceptor = Acceptor::load(&[pair], Version::Tls12).unwrap();
        let left = acceptor.good_until() - std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        assert!((86_400..=2 * 86_400).contains(&left), "{left}");
    }
}
