//! A client gets the certificate of the name that it asks for, also after the files have changed.

use crate::both_sides::{hear, said};
use crate::material::{Authority, Folder};
use fanfare_tls::{Acceptor, Connector, Look, Pair, Progress, Session, Trust, Version, Watch};
use std::fs;

/// Whether a client that trusts this authority, and asks for this name, is content.
fn accepts(acceptor: &Acceptor, folder: &Folder, authority: &Authority, name: &'static str) -> bool {
    let connector = Connector::new(&Trust::CaFile(folder.file("ca.pem", &authority.pem()))).unwrap();
    let mut client = connector.session(name.try_into().unwrap()).unwrap();
    let mut server = acceptor.session();
    meets(&mut client, &mut server) == Progress::Open && !client.is_handshaking()
}

fn meets(client: &mut Session, server: &mut Session) -> Progress {
    loop {
        let up = said(client);
        hear(server, up, &mut Vec::new());
        let down = said(server);
        if down.is_empty() {
            return Progress::Open;
        }
        let progress = hear(client, down, &mut Vec::new());
        if progress != Progress::Open {
            hear(server, said(client), &mut Vec::new());
            return progress;
        }
    }
}

#[test]
fn each_name_has_its_certificate_and_others_the_first() {
    let (folder, one, other) = (Folder::new(), Authority::new(), Authority::new());
    let pairs = [
        folder.pair("one", one.signs(&["chat.example", "127.0.0.1"])),
        folder.pair("other", other.signs(&["*.rooms.example", "Other.Example.org"])),
    ];
    let acceptor = Acceptor::load(&pairs, Version::Tls12).unwrap();
    for (name, by_one, by_other) in [
        ("chat.example", true, false),
        ("127.0.0.1", true, false),
        ("news.rooms.example", false, true),
        ("NEWS.rooms.example", false, true),
        ("other.example.org", false, true),
        ("a.b.rooms.example", false, false),
        ("rooms.example", false, false),
    ] {
        let got = (accepts(&acceptor, &folder, &one, name), accepts(&acceptor, &folder, &other, name));
        assert_eq!(got, (by_one, by_other), "{name}");
    }
    assert!(acceptor.counts().tally().refused > 0);
}

#[test]
fn a_client_that_trusts_nobody_in_particular_is_content_with_anybody() {
    let (folder, authority) = (Folder::new(), Authority::new());
    let acceptor = Acceptor::load(&[folder.pair("one", authority.signs(&["a.example"]))], Version::Tls12).unwrap();
    let mut client = Connector::new(&Trust::Nobody).unwrap().session("b.example".try_into().unwrap()).unwrap();
    assert_eq!(meets(&mut client, &mut acceptor.session()), Progress::Open);
    assert!(!client.is_handshaking());
}

fn write(pair: &Pair, (certificate, key): (String, String)) {
    fs::write(&pair.cert_file, certificate).unwrap();
    fs::write(&pair.key_file, key).unwrap();
}

#[test]
fn what_changes_is_served_and_what_is_wrong_is_not() {
    let (folder, before, after) = (Folder::new(), Authority::new(), Authority::new());
    let pair = folder.pair("one", before.signs(&["localhost"]));
    let acceptor = Acceptor::load(std::slice::from_ref(&pair), Version::Tls12).unwrap();
    let mut watch = Watch::new(acceptor.clone());
    let is_served = |authority: &Authority| accepts(&acceptor, &folder, authority, "localhost");
    assert!(matches!(watch.look(false), Look::Same) && is_served(&before));

    // One file of two has been replaced: said at the second look, and once.
    let (certificate, key) = after.signs(&["localhost"]);
    fs::write(&pair.cert_file, certificate).unwrap();
    assert!(matches!(watch.look(false), Look::Same) && is_served(&before));
    assert!(matches!(watch.look(false), Look::Refused(error) if error.to_string().contains("one.key")));
    assert!(matches!(watch.look(false), Look::Same));
    // Somebody who asks is told again.
    assert!(matches!(watch.look(true), Look::Refused(_)) && is_served(&before));

    fs::write(&pair.key_file, key).unwrap();
    assert!(matches!(watch.look(false), Look::Reloaded));
    assert!(is_served(&after) && !is_served(&before));
    assert!(matches!(watch.look(false), Look::Same) && matches!(watch.look(true), Look::Reloaded));

    // A change that is taken back is none.
    fs::remove_file(&pair.key_file).unwrap();
    assert!(matches!(watch.look(false), Look::Same) && is_served(&after));
    write(&pair, before.signs(&["localhost"]));
    assert!(matches!(watch.look(false), Look::Reloaded) && is_served(&before));
}
