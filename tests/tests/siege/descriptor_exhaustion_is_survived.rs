//! Too few file descriptors for those who come: who is in keeps working, who is not is told so, and nothing spins.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::Duration;

use fanfare_tests::{RawClient, Server, eventually, upgrade_request};

/// An attempt to upgrade whose answer may never come.
struct Attempt {
    stream: TcpStream,
    received: Vec<u8>,
    ended: bool,
}

impl Attempt {
    fn new(server: &Server) -> Attempt {
        let client = RawClient::connect(server.address());
        let mut stream = client.stream().try_clone().expect("this process has descriptors enough");
        // Taken by the kernel even if the server never accepts.
        stream.write_all(upgrade_request("/ws", "").as_bytes()).expect("a small request");
        stream.set_nonblocking(true).expect("an open socket takes options");
        Attempt { stream, received: Vec::new(), ended: false }
    }

    /// The status of the answer, once its head is whole.
    fn status(&mut self) -> Option<u16> {
        let mut buffer = [0; 4096];
        while !self.ended {
            match self.stream.read(&mut buffer) {
                Ok(0) => self.ended = true,
                Ok(length) => self.received.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.ended = true,
            }
        }
        let text = String::from_utf8_lossy(&self.received);
        text.contains("\r\n\r\n").then(|| text[9..12].parse().expect("a status"))
    }

    fn has_field(&self, name: &str) -> bool {
        String::from_utf8_lossy(&self.received).to_ascii_lowercase().contains(&format!("\r\n{name}:"))
    }
}

fn expect_pong(client: &mut RawClient) {
    client.send_text(r#"{"type":"PING"}"#);
    assert_eq!(client.recv_text(), r#"{"type":"PONG"}"#);
}

/// Over a second of the clock, an idle server uses almost none of the processor. A window of time is what "does not
/// spin" means; nothing else waits for it.
fn expect_no_spinning(server: &Server) {
    let before = server.cpu_ticks();
    thread::sleep(Duration::from_secs(1));
    let used = server.cpu_ticks() - before;
    assert!(used < 30, "{used} of 100 ticks used while nothing happens");
}

#[test]
fn two_hundred_attempts_under_a_limit_of_128() {
    let server = Server::launch().descriptors_max(128).ops().start();
    let mut members: Vec<RawClient> = (0..10).map(|_| RawClient::upgraded(server.address())).collect();
    let mut attempts: Vec<Attempt> = (0..200).map(|_| Attempt::new(&server)).collect();

    // Everyone is answered, or the server says that it lets the rest wait.
    eventually("each attempt is accepted, refused, or known to wait", || {
        let open = attempts.iter_mut().map(|attempt| attempt.status().is_none() && !attempt.ended);
        let open = open.filter(|open| *open).count();
        (open == 0 || server.log().count("accepting paused") > 0).then_some(())
    });
    // It may pause before it has read those whom it has let in.
    let accepted = eventually("some are accepted", || {
        let accepted = attempts.iter_mut().filter_map(Attempt::status).filter(|status| *status == 101).count();
        (accepted >= 20).then_some(accepted)
    });
    assert!(accepted < 128, "{accepted} of 200 got in");
    for attempt in &mut attempts {
        match attempt.status() {
            Some(101) | None => {}
            Some(503) => assert!(attempt.has_field("retry-after"), "a refusal without Retry-After"),
            Some(other) => panic!("answered {other}"),
        }
        assert!(!attempt.ended || attempt.status().is_some(), "an attempt was dropped without an answer");
    }

    expect_no_spinning(&server);
    for member in &mut members {
        expect_pong(member);
    }

    // Room again: whoever comes next gets in.
    drop(attempts);
    server.wait_for_metrics("the gate is open", |metrics| metrics.value("fanfare_accepts_paused") == 0.0);
    let mut newcomer = eventually("a newcomer gets in", || RawClient::try_upgrade(server.address()).ok());
    expect_pong(&mut newcomer);
    for member in &mut members {
        expect_pong(member);
    }
}

#[test]
fn refusals_come_with_the_time_to_come_back() {
    let server = Server::launch().descriptors_max(128).start();
    let mut members = Vec::new();
    let refusal = loop {
        match RawClient::try_upgrade(server.address()) {
            Ok(client) => members.push(client),
            Err(refusal) => break refusal,
        }
        assert!(members.len() < 128, "more connections than descriptors");
    };
    assert_eq!(refusal.status, 503, "{}", refusal.head);
    let after = refusal.field("retry-after").expect("a Retry-After");
    assert!(after.parse::<u32>().is_ok(), "{after}");
}

#[test]
fn a_limit_lowered_under_its_feet_is_survived() {
    // One worker, for several have more descriptors of their own than are left here.
    let server = Server::launch().workers(1).descriptors_max(256).ops().start();
    let mut members: Vec<RawClient> = (0..20).map(|_| RawClient::upgraded(server.address())).collect();
    // The server still believes in 256; the kernel says EMFILE from now on.
    let limit = ["--pid", &server.id().to_string(), "--nofile=30:256"].map(str::to_owned);
    assert!(
        Command::new("prlimit").args(limit).status().expect("prlimit is there: apt-get install util-linux").success()
    );
    let attempts: Vec<Attempt> = (0..40).map(|_| Attempt::new(&server)).collect();
    server.wait_for_log("accepting paused");

    expect_no_spinning(&server);
    for member in &mut members {
        expect_pong(member);
    }
    // It has tried again and again meanwhile, which is one fact, not many.
    assert_eq!((server.log().count("accepting paused"), server.log().count("accepting resumed")), (1, 0));

    drop(attempts);
    members.truncate(5);
    server.wait_for_log("accepting resumed");
    let mut newcomer = eventually("a newcomer gets in", || RawClient::try_upgrade(server.address()).ok());
    expect_pong(&mut newcomer);
    for member in &mut members {
        expect_pong(member);
    }
    server.wait_for_metrics("the errors are counted", |metrics| {
        metrics.value("fanfare_accept_errors_total") >= 3.0 && metrics.value("fanfare_accepts_paused") == 0.0
    });
}
