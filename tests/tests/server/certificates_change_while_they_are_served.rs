//! Certificates are renewed while a server runs, by a signal or by themselves. What cannot be served is told, and changes nothing.

use std::fs;
use std::io::{Read, Write};

use fanfare_tests::{Authority, Client, Server, Signal, connect_tls, eventually};

/// The bytes of the certificate that a new client is shown.
fn shown(server: &Server, authority: &Authority) -> Vec<u8> {
    let stream = connect_tls(server.tls_address(), &authority.client(), "localhost");
    stream.conn.peer_certificates().expect("the handshake is done")[0].to_vec()
}

#[test]
fn a_renewal_is_served_by_itself_and_old_connections_stay() {
    let authority = Authority::new();
    let server = Server::launch().tls(&authority).ops().start();
    let (before, mut old) = (shown(&server, &authority), Client::member(&server, "r"));
    let expiry = "fanfare_tls_certificate_expiry_timestamp_seconds";
    let expired_before = server.metrics().value(expiry);

    let after = authority.write_with("server", &["localhost", "127.0.0.1"], |params| {
        params.not_after = rcgen::date_time_ymd(2090, 1, 1);
    });
    assert_ne!(before, after.to_vec());
    eventually("the new one is served", || (shown(&server, &authority) == after.to_vec()).then_some(()));
    server.wait_for_log("certificates reloaded");
    assert_ne!(server.metrics().value(expiry), expired_before);
    old.publish("r", "1");
    old.expect_message("r", "1");
}

#[test]
fn a_signal_has_it_reload_at_once() {
    let authority = Authority::new();
    let server = Server::launch().tls(&authority).start();
    server.signal(Signal::HUP);
    // Nothing has changed, and it is said all the same.
    server.wait_for_log("certificates reloaded");
    let after = authority.write("server", &["localhost", "127.0.0.1"]);
    server.signal(Signal::HUP);
    eventually("the new one is served", || (shown(&server, &authority) == after.to_vec()).then_some(()));
}

#[test]
fn what_cannot_be_served_is_told_and_what_was_there_stays() {
    let authority = Authority::new();
    let server = Server::launch().tls(&authority).start();
    let before = shown(&server, &authority);
    fs::write(authority.file("server.key"), "no key").expect("a file");
    let line = server.wait_for_log("certificates not reloaded: those from before stay");
    assert!(line["error"].as_str().is_some_and(|error| error.contains("server.key has no private key")), "{line}");
    assert_eq!(shown(&server, &authority), before);
    let after = authority.write("server", &["localhost", "127.0.0.1"]);
    eventually("the next one is served", || (shown(&server, &authority) == after.to_vec()).then_some(()));
    let told = server.log().text().matches("certificates not reloaded").count();
    assert_eq!(told, 1, "it is said once");
}

#[test]
fn nothing_starts_with_a_certificate_that_nobody_would_take() {
    let authority = Authority::new();
    authority.write("good", &["localhost"]);
    authority.write("other", &["localhost"]);
    authority.write_with("expired", &["localhost"], |params| params.not_after = rcgen::date_time_ymd(2020, 2, 29));
    let path = |name: &str| authority.file(name).display().to_string();
    for (cert, key, wrong) in [
        ("good.pem", "other.key", "other.key is not that of the certificate in"),
        ("expired.pem", "expired.key", "expired.pem has a certificate that expired on 2020-02-29"),
        ("good.pem", "none.key", "none.key cannot be read"),
        ("good.key", "good.key", "good.key has no certificate"),
    ] {
        let launch = Server::launch().flag("--tls-cert-file", path(cert)).flag("--tls-key-file", path(key));
        let output = launch.run();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(wrong), "{said}");
    }
}

/// A proxy that passes TLS on says in clear text who the client is.
#[test]
fn a_proxy_names_its_client_before_the_handshake() {
    let authority = Authority::new();
    let server = Server::launch()
        .tls(&authority)
        .args(["--proxy-trusted", "127.0.0.1", "--proxy-protocol", "on"])
        .flag("--limits-connections-per-address-max", 1)
        // Each worker counts by itself.
        .workers(1)
        .start();
    let status = |source: &str| {
        let stream = std::net::TcpStream::connect(server.tls_address()).expect("it listens");
        stream.set_read_timeout(Some(fanfare_tests::DEADLINE)).expect("a timeout above zero");
        (&stream).write_all(format!("PROXY TCP4 {source} 10.0.0.1 4711 443\r\n").as_bytes()).expect("it is taken");
        let client = rustls::ClientConnection::new(authority.client(), "localhost".try_into().expect("a name"));
        let mut stream = rustls::StreamOwned::new(client.expect("a client"), stream);
        stream.write_all(fanfare_tests::upgrade_request("/ws", "").as_bytes()).ok()?;
        let mut head = [0; 12];
        stream.read_exact(&mut head).ok()?;
        Some((String::from_utf8_lossy(&head).into_owned(), stream))
    };
    let first = status("192.0.2.1").expect("a WebSocket");
    assert_eq!(first.0, "HTTP/1.1 101");
    // Whoever has too many connections is closed, with a word if the handshake was done by then.
    let refused = status("192.0.2.1").map(|(head, _)| head);
    assert!(matches!(refused.as_deref(), None | Some("HTTP/1.1 429")), "{refused:?}");
    assert_eq!(status("192.0.2.2").expect("a WebSocket").0, "HTTP/1.1 101");
}
