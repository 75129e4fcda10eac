//! `wss://` and `https://`, by clients of others: openssl, npm's `ws`, rustls. What is said over it is what is said without.

use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use fanfare_tests::{
    Authority, Client, Frame, RawClient, Redis, Server, Signal, code, connect_tls, http, opcode, run_node,
    upgrade_request,
};

/// Asks for `/healthz` by `openssl s_client`, which reads to the end.
fn s_client(server: &Server, authority: &Authority, more: &[&str]) -> Output {
    let address = server.tls_address().to_string();
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &address, "-CAfile"]).arg(authority.ca_file()).arg("-ign_eof").args(more);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("openssl is there: apt-get install openssl");
    let mut stdin = child.stdin.take().expect("it is piped");
    // One whose handshake fails may have gone.
    let _ = stdin.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    child.wait_with_output().expect("its output")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn openssl_speaks_both_versions_and_resumes() {
    let authority = Authority::new();
    let server = Server::launch().tls(&authority).ops().start();
    let handshakes =
        |outcome: &str| server.metrics().value(&format!("fanfare_tls_handshakes_total{{outcome=\"{outcome}\"}}"));
    for (version, name) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let session = authority.file(name).display().to_string();
        let (full, resumed) = (handshakes("full"), handshakes("resumed"));
        let alpn = ["-alpn", "h2,http/1.1", "-verify_return_error", "-verify_hostname", "localhost"];
        let first = text(&s_client(&server, &authority, &[&[version, "-sess_out", &session][..], &alpn].concat()));
        for expected in
            [&format!("New, {name}")[..], "ALPN protocol: http/1.1", "Verify return code: 0 (ok)", "HTTP/1.1 200"]
        {
            assert!(first.contains(expected), "no {expected:?}: {first}");
        }
        let again = text(&s_client(&server, &authority, &[version, "-sess_in", &session]));
        assert!(again.contains(&format!("Reused, {name}")) && again.contains("HTTP/1.1 200"), "{again}");
        // What the harness looked at before may be counted by now as well.
        server.wait_for_metrics("both are counted", |_| handshakes("full") > full && handshakes("resumed") > resumed);
    }
}

#[test]
fn who_has_nothing_in_common_with_it_is_refused_and_counted() {
    let authority = Authority::new();
    let server = Server::launch().tls(&authority).flag("--tls-min-version", "1.3").ops().start();
    for (flags, alert) in
        [(&["-tls1_2"][..], "alert protocol version"), (&["-alpn", "h2"], "alert no application protocol")]
    {
        let said = text(&s_client(&server, &authority, flags));
        assert!(said.contains(alert) && !said.contains("HTTP/1.1 200"), "{said}");
    }
    server.wait_for_metrics("both are counted", |metrics| {
        metrics.value(r#"fanfare_tls_handshakes_total{outcome="incompatible"}"#) == 2.0
    });
    // A client that does not trust the certificate says so.
    let stranger = connect_tls(server.tls_address(), &Authority::new().client(), "localhost").read(&mut [0]);
    assert!(stranger.is_err(), "{stranger:?}");
    server.wait_for_metrics("it is counted", |metrics| {
        metrics.value(r#"fanfare_tls_handshakes_total{outcome="refused"}"#) == 1.0
    });
    assert!(s_client(&server, &authority, &["-tls1_3"]).stdout.windows(12).any(|part| part == b"HTTP/1.1 200"));
}

#[test]
fn a_client_gets_the_certificate_of_the_name_that_it_asks_for() {
    let authority = Authority::new();
    let other = authority.write("other", &["other.example", "*.rooms.example"]);
    let path = |name: &str| authority.file(name).display().to_string();
    let file = format!("[[certificates]]\ncert_file = '{}'\nkey_file = '{}'\n", path("other.pem"), path("other.key"));
    let server = Server::launch().tls(&authority).file(&file).start();
    for (name, is_other) in [("other.example", true), ("a.rooms.example", true), ("localhost", false)] {
        let stream = connect_tls(server.tls_address(), &authority.client(), name);
        let shown = stream.conn.peer_certificates().expect("the handshake is done");
        assert_eq!(shown[0] == other, is_other, "{name}");
    }
}

#[test]
fn http_without_tls_is_told_so() {
    let authority = Authority::new();
    let server = Server::launch().tls(&authority).start();
    let response = http(server.tls_address(), "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(response.status, 400, "{}", response.head);
    assert!(response.text().contains("https://"), "{}", response.text());
}

#[test]
fn ws_of_npm_talks_over_it_across_two_instances() {
    let (redis, authority) = (Redis::start(), Authority::new());
    let servers: [Server; 2] = std::array::from_fn(|_| Server::launch().redis(&redis).tls(&authority).start());
    let urls = servers.each_ref().map(|server| format!("wss://{}", server.tls_address()));
    let ca_file = authority.ca_file();
    let trust: [(&str, &Path); 1] = [("NODE_EXTRA_CA_CERTS", &ca_file)];
    let printed = run_node("tests/node/two_instances.mjs", &[&urls[0], &urls[1]], &trust);
    assert!(printed.contains("all is well"), "{printed}");
}

#[test]
fn messages_of_any_size_go_both_ways() {
    let authority = Authority::new();
    let server = Server::launch().tls(&authority).flag("--limits-message-bytes-max", 900_000).start();
    let (mut reader, mut sender) = (Client::member(&server, "r"), Client::connect(&server));
    // Around the length of a record, and many of them.
    for length in [1, 16_300, 16_384, 16_385, 70_000, 800_000] {
        let raw = format!("\"{}\"", "x".repeat(length));
        sender.publish("r", &raw);
        reader.expect_message("r", &raw);
    }
    reader.leave();
}

/// A member of `r` that has read nothing since it joined.
fn idler(server: &Server) -> RawClient {
    let mut client = RawClient::upgraded(server.address());
    client.send_text(r#"{"type":"SUBSCRIBE","room":"r"}"#);
    assert_eq!(client.recv_text(), r#"{"type":"SUBSCRIBED","room":"r"}"#);
    client
}

fn numbered(number: usize) -> String {
    format!("[{number},\"{}\"]", "x".repeat(30_000))
}

fn send_until(server: &Server, enough: impl Fn(&fanfare_tests::Metrics) -> bool) -> usize {
    let (mut reader, mut sender) = (Client::member(server, "r"), Client::connect(server));
    for number in 0..4_000 {
        sender.publish("r", &numbered(number));
        reader.expect_message("r", &numbered(number));
        if number % 10 == 9 && enough(&server.metrics()) {
            return number + 1;
        }
    }
    panic!("4,000 messages were not enough");
}

#[test]
fn a_slow_reader_gets_everything_or_is_closed_after_whole_frames() {
    for (outbox_bytes, is_closed) in [(64 << 20, false), (256 * 1024, true)] {
        let authority = Authority::new();
        let server = Server::launch()
            .tls(&authority)
            .args(["--limits-messages-per-second", "0", "--limits-bytes-per-second", "0"])
            .flag("--limits-outbox-bytes-max", outbox_bytes)
            .flag("--timeouts-close-ms", 60_000)
            .ops()
            .start();
        let mut slow = idler(&server);
        let sent = send_until(&server, |metrics| match is_closed {
            true => metrics.value("fanfare_slow_closes_total") == 1.0,
            false => metrics.value("fanfare_unsent_bytes") > 500_000.0,
        });
        let mut received = 0;
        while received < sent {
            let frame = slow.recv();
            if frame.opcode == opcode::CLOSE {
                assert_eq!(frame.payload[..2], code::TOO_SLOW.to_be_bytes());
                break;
            }
            let text = format!(r#"{{"type":"MESSAGE","room":"r","message":{}}}"#, numbered(received));
            assert_eq!(frame, Frame::text(text), "message {received}");
            received += 1;
        }
        assert_eq!(received < sent, is_closed);
        server.wait_for_metrics("nothing is kept", |metrics| metrics.value("fanfare_unsent_bytes") == 0.0);
    }
}

#[test]
fn at_the_end_the_frame_that_says_so_is_followed_by_that_of_tls() {
    let authority = Authority::new();
    let mut server = Server::launch().tls(&authority).start();
    let mut client = connect_tls(server.tls_address(), &authority.client(), "localhost");
    client.write_all(upgrade_request("/ws", "").as_bytes()).expect("the server takes it");
    let mut heard = vec![0; 4096];
    let bytes = client.read(&mut heard).expect("an answer");
    assert!(heard[..bytes].starts_with(b"HTTP/1.1 101 "));
    server.signal(Signal::INT);
    let bytes = client.read(&mut heard).expect("a close frame");
    assert_eq!((heard[0], &heard[2..4]), (0x88, &code::RESTART.to_be_bytes()[..]), "{:?}", &heard[..bytes]);
    client.write_all(&Frame::close(code::RESTART, "").masked()).expect("the server takes it");
    // An end without that frame is an error, and this is none.
    assert_eq!(client.read(&mut heard).map_err(|error| error.kind()), Ok::<usize, ErrorKind>(0));
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

/// The server waits for the client's end, and does not keep its own to itself meanwhile.
#[test]
fn whoever_has_its_answer_is_told_that_nothing_follows_while_it_stays() {
    let authority = Authority::new();
    let server = Server::launch().tls(&authority).args(["--timeouts-close-ms", "60000"]).start();
    let mut client = connect_tls(server.tls_address(), &authority.client(), "localhost");
    client
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .expect("the server takes it");
    let mut heard = String::new();
    client.read_to_string(&mut heard).expect("an end by the rules of TLS");
    assert!(heard.starts_with("HTTP/1.1 200 "), "{heard}");
}
