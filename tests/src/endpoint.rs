//! A web server of somebody else's, which the server under test asks: it answers as the test says, and remembers what it was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// One request.
#[derive(Clone, Debug)]
pub struct Asked {
    lines: Vec<String>,
    body: String,
}

impl Asked {
    /// The value of the field named so, in lower case; of the first, if there are several.
    pub fn field(&self, name: &str) -> Option<&str> {
        let fields = self.lines.iter().skip(1).filter_map(|line| line.split_once(':'));
        fields.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    }

    /// Its body, which is text; empty if it has none.
    pub fn body(&self) -> &str {
        &self.body
    }

    /// What it shows as `Authorization: Bearer`.
    pub fn token(&self) -> Option<&str> {
        self.field("authorization")?.strip_prefix("Bearer ")
    }
}

/// It answers each request on a thread of its own, until it is dropped.
pub struct Endpoint {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Endpoint {
    /// An endpoint whose answers, status and body, `answer` makes. It may take its time: others are answered meanwhile.
    ///
    /// # Panics
    ///
    /// If there is no free port.
    pub fn start(answer: impl Fn(&Asked) -> (u16, String) + Send + Sync + 'static) -> Endpoint {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (asked, stop): (Arc<Mutex<Vec<Asked>>>, Arc<AtomicBool>) = Default::default();
        let thread = {
            let (asked, stop, answer) = (Arc::clone(&asked), Arc::clone(&stop), Arc::new(answer));
            thread::spawn(move || {
                for socket in listener.incoming() {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    let (asked, answer) = (Arc::clone(&asked), Arc::clone(&answer));
                    let socket = socket.expect("a connection");
                    thread::spawn(move || serve(socket, &asked, &*answer));
                }
            })
        };
        Endpoint { address, asked, stop, thread: Some(thread) }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://{}/asked", self.address)
    }

    /// What it was asked so far.
    ///
    /// # Panics
    ///
    /// If one of its threads has panicked.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no thread panics under the lock").clone()
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes it.
        drop(TcpStream::connect(self.address));
        self.thread.take().map(JoinHandle::join);
    }
}

fn serve(mut socket: TcpStream, all: &Mutex<Vec<Asked>>, answer: &dyn Fn(&Asked) -> (u16, String)) {
    let mut reader = BufReader::new(&socket);
    let lines = reader.by_ref().lines().map_while(Result::ok);
    let mut asked = Asked { lines: lines.take_while(|line| !line.is_empty()).collect(), body: String::new() };
    if asked.lines.is_empty() {
        return;
    }
    let length = asked.field("content-length").map_or(0, |length| length.parse().expect("a length"));
    if reader.take(length).read_to_string(&mut asked.body).is_err() {
        return;
    }
    all.lock().expect("no thread panics under the lock").push(asked.clone());
    let (status, body) = answer(&asked);
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    // Whoever has waited enough may be gone.
    let _ = socket.write_all(&[head.as_bytes(), body.as_bytes()].concat());
}
