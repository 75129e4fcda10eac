//! What a session that says nothing holds on the heap, beside the same with the buffers that rustls would keep for it.

use crate::both_sides::BothSides;
use allocation_counter::measure;
use fanfare_tls::Version;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use std::io::{Read, Write};
use std::sync::Arc;

/// As much as the issue allows a connection in all, its socket's record and its room included.
const IDLE_BYTES_MAX: i64 = 8 * 1024;

#[test]
fn an_idle_session_fits_its_bound_and_one_with_buffers_takes_more() {
    for version in [Version::Tls12, Version::Tls13] {
        let mut kept = None;
        let sides = BothSides::open(version);
        let BothSides { acceptor, connector, .. } = &sides;
        let server = measure(|| kept = Some(Box::new(acceptor.session()))).bytes_current;
        drop(kept);
        let mut client = connector.session("localhost".try_into().unwrap()).unwrap();
        let mut server_side = Box::new(acceptor.session());
        let mut heard = Vec::with_capacity(1 << 16);
        let idle = server + shake(&mut client, &mut server_side, &mut heard);
        assert!(!server_side.is_handshaking() && heard.is_empty());
        println!("{version:?}: {server} bytes before the handshake, {idle} bytes idle");
        assert!(idle <= IDLE_BYTES_MAX, "{idle}");
        let buffered = buffered();
        println!("with buffers of rustls: {buffered} bytes idle");
        assert!(idle < buffered);
    }
}

fn shake(client: &mut fanfare_tls::Session, server: &mut fanfare_tls::Session, heard: &mut Vec<u8>) -> i64 {
    let mut held = 0;
    loop {
        let mut up = crate::both_sides::said(client);
        let mut down = Vec::with_capacity(1 << 16);
        held += measure(|| {
            if !up.is_empty() {
                server.read(&mut up, heard);
            }
            server
                .flush(|piece| {
                    down.extend_from_slice(piece);
                    Ok(piece.len())
                })
                .unwrap();
        })
        .bytes_current;
        if up.is_empty() && down.is_empty() {
            return held;
        }
        crate::both_sides::hear(client, down, &mut Vec::new());
    }
}

/// The same by `rustls::ServerConnection`, after it has said and heard a byte.
fn buffered() -> i64 {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.serialize_der().try_into().unwrap())
        .unwrap();
    config.ticketer = rustls::crypto::ring::Ticketer::new().unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let of_client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let of_client = of_client.with_root_certificates(roots).with_no_client_auth();
    let mut client = ClientConnection::new(Arc::new(of_client), "localhost".try_into().unwrap()).unwrap();
    let config = Arc::new(config);
    let mut server = None;
    let mut held =
        measure(|| server = Some(Box::new(ServerConnection::new(Arc::clone(&config)).unwrap()))).bytes_current;
    let mut server = server.unwrap();
    let mut said = false;
    loop {
        let mut up = Vec::with_capacity(1 << 16);
        while client.wants_write() {
            client.write_tls(&mut up).unwrap();
        }
        let mut down = Vec::with_capacity(1 << 16);
        held += measure(|| {
            if !up.is_empty() {
                server.read_tls(&mut &up[..]).unwrap();
                server.process_new_packets().unwrap();
                let _ = server.reader().read(&mut [0; 64]);
            }
            if !server.is_handshaking() && !std::mem::replace(&mut said, true) {
                server.writer().write_all(b"?").unwrap();
            }
            while server.wants_write() {
                server.write_tls(&mut down).unwrap();
            }
        })
        .bytes_current;
        if up.is_empty() && down.is_empty() {
            return held;
        }
        client.read_tls(&mut &down[..]).unwrap();
        client.process_new_packets().unwrap();
    }
}
