//! Whoever reads the log stops reading: a terminal after Ctrl-S, a collector that hangs.

use std::io::{Read, Write, pipe};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::{str, thread};

use fanfare_tests::{RawClient, eventually, fanfare_binary, free_port};

/// What a pipe holds on Linux unless told otherwise: pipe(7).
const PIPE_BYTES: usize = 64 * 1024;

/// Killed on drop.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn clients_are_served_while_nobody_reads_the_log() {
    let (mut reader, mut writer) = pipe().expect("a pipe");
    writer.write_all(&[b'\n'; PIPE_BYTES]).expect("a pipe takes what it holds");
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let server = Command::new(fanfare_binary())
        .args(["--listen", &address.to_string()])
        .stdin(Stdio::null())
        .stderr(writer)
        .spawn()
        .expect("the server starts");
    let server = Running(server);

    let mut client = eventually("the server answers", || {
        std::net::TcpStream::connect(address).ok()?;
        RawClient::try_upgrade(address).ok()
    });
    client.send_text(r#"{"type":"PING"}"#);
    assert_eq!(client.recv_text(), r#"{"type":"PONG"}"#);

    // What was said meanwhile is there when somebody reads again.
    let log = thread::spawn(move || {
        let mut text = Vec::new();
        while !str::from_utf8(&text).is_ok_and(|text| text.contains("listening")) {
            let mut buffer = [0; 4096];
            let length = reader.read(&mut buffer).expect("an open pipe");
            assert!(length > 0, "the log ended without the line");
            text.extend_from_slice(&buffer[..length]);
        }
    });
    eventually("the log says that the server listens", || log.is_finished().then_some(()));
    log.join().expect("the line is there");
    drop(server);
}
