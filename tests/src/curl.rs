//! curl as a client that asks for upgrades: what it is answered, and the texts that come after a 101. The frames that it sends stand
//! behind the head of its request, because curl has no WebSocket of its own here.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::{ChildStdout, Stdio};

use crate::event_stream::EventStream;
use crate::process::Process;
use crate::{DEADLINE, Frame, Response, SAMPLE_KEY, head_bytes, opcode};

/// A running curl, and what it was answered. It is ended on drop.
pub struct Curl {
    /// Of a refusal with its body.
    pub response: Response,
    received: Vec<u8>,
    stdout: ChildStdout,
    _process: Process,
}

impl Curl {
    /// Asks for an upgrade at this path, with further arguments of curl's, and sends these texts behind the request.
    ///
    /// # Panics
    ///
    /// If there is no curl, or no answer comes.
    pub fn upgrade(address: SocketAddr, path: &str, args: &[String], texts: &[String]) -> Curl {
        let mut command = Process::command("curl", None);
        // Neither a file of somebody's settings nor a proxy of the environment counts.
        command.args(["--disable", "--noproxy", "*", "--silent", "--show-error"]);
        // The head as soon as it is there; with `--include` it would wait for what follows.
        command.args(["--no-buffer", "--dump-header", "-"]);
        command.args(["--max-time", &DEADLINE.as_secs().to_string()]);
        let key = format!("Sec-WebSocket-Key: {SAMPLE_KEY}");
        for field in ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", &key] {
            command.args(["--header", field]);
        }
        command.args(args);
        if !texts.is_empty() {
            // The frames are not announced as a body, so that they are not one.
            command.args(["--request", "GET", "--data-binary", "@-"]);
            command.args(["--header", "Content-Length:", "--header", "Content-Type:", "--header", "Expect:"]);
        }
        command.arg(format!("http://{address}{path}"));
        let mut process = Process::spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
        let frames: Vec<u8> = texts.iter().flat_map(|text| Frame::text(text).masked()).collect();
        process.take_stdin().write_all(&frames).expect("curl reads what it sends (tests/run installs it)");
        let (mut stdout, mut received) = (process.take_stdout(), Vec::new());
        let end = read_until(&mut stdout, &mut received, "a response", head_bytes);
        let rest = received.split_off(end);
        let mut response = Response::parse(&String::from_utf8(received).expect("a head in UTF-8")[..end - 4]);
        let mut received = rest;
        if response.status != 101 {
            stdout.read_to_end(&mut received).expect("the output of curl can be read");
            response.body = std::mem::take(&mut received);
        }
        Curl { response, received, stdout, _process: process }
    }

    /// The next text that comes after the 101.
    ///
    /// # Panics
    ///
    /// If none comes.
    pub fn recv_text(&mut self) -> String {
        let (frame, taken) = read_until(&mut self.stdout, &mut self.received, "a frame", Frame::parse);
        self.received.drain(..taken);
        assert_eq!(frame.opcode, opcode::TEXT, "{frame:?}");
        String::from_utf8(frame.payload).expect("a text in UTF-8")
    }
}

/// `curl -N` at an event stream, and what it has printed. It is ended on drop.
pub struct CurlStream {
    received: Vec<u8>,
    stdout: ChildStdout,
    _process: Process,
}

impl CurlStream {
    /// Asks for what is at this path, with further arguments of curl's.
    ///
    /// # Panics
    ///
    /// If there is no curl.
    pub fn open(address: SocketAddr, path: &str, args: &[&str]) -> CurlStream {
        let mut command = Process::command("curl", None);
        command.args(["--disable", "--noproxy", "*", "--silent", "--show-error", "-N"]);
        command.args(["--max-time", &DEADLINE.as_secs().to_string()]);
        command.args(args).arg(format!("http://{address}{path}"));
        let mut process = Process::spawn(command.stdout(Stdio::piped()));
        CurlStream { received: Vec::new(), stdout: process.take_stdout(), _process: process }
    }

    /// What was printed, once it has so many messages.
    ///
    /// # Panics
    ///
    /// If they do not come.
    pub fn wait_for_messages(&mut self, count: usize) -> EventStream {
        read_until(&mut self.stdout, &mut self.received, "its messages", |received| {
            let stream = EventStream::read(received);
            (stream.of_kind("MESSAGE").len() >= count).then_some(stream)
        })
    }

    /// The same of events of any type.
    ///
    /// # Panics
    ///
    /// If they do not come.
    pub fn wait_for(&mut self, kind: &str) -> EventStream {
        read_until(&mut self.stdout, &mut self.received, "its event", |received| {
            let stream = EventStream::read(received);
            (!stream.of_kind(kind).is_empty()).then_some(stream)
        })
    }
}

/// Reads until `find` finds what is looked for. curl ends by itself after [`DEADLINE`].
fn read_until<T>(stdout: &mut ChildStdout, received: &mut Vec<u8>, what: &str, find: impl Fn(&[u8]) -> Option<T>) -> T {
    loop {
        if let Some(found) = find(received) {
            return found;
        }
        let mut bytes = [0; 4096];
        let count = stdout.read(&mut bytes).expect("the output of curl can be read");
        assert!(count > 0, "curl ended before {what}: {}", String::from_utf8_lossy(received));
        received.extend(&bytes[..count]);
    }
}
