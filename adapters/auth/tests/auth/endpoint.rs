//! A web server of somebody else's, that remembers what it was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

#[derive(Clone)]
pub enum Answer {
    /// Status, fields of the head, body.
    Whole(u16, String, String),
    /// Such an answer with this status and this body, after a while.
    Slow(Duration, u16, String),
    Silence,
}

impl Answer {
    pub fn of(status: u16, body: impl ToString) -> Self {
        Self::Whole(status, String::new(), body.to_string())
    }
}

/// It answers until it is dropped.
pub struct Endpoint {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    /// The head of each request, without the line's ends.
    heads: Mutex<Vec<Vec<String>>>,
    answer: Mutex<Answer>,
    open: Mutex<Vec<TcpStream>>,
    tls: Option<Arc<ServerConfig>>,
    stop: AtomicBool,
}

impl Endpoint {
    pub fn new(answer: Answer) -> Self {
        Self::start(answer, None)
    }

    pub fn with_tls(answer: Answer, tls: ServerConfig) -> Self {
        Self::start(answer, Some(Arc::new(tls)))
    }

    fn start(answer: Answer, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answer = Mutex::new(answer);
        let shared = Shared { heads: Mutex::default(), answer, open: Mutex::default(), tls, stop: false.into() };
        let shared = Arc::new(shared);
        let of_thread = shared.clone();
        let thread = thread::spawn(move || {
            thread::scope(|scope| {
                for socket in listener.incoming() {
                    if of_thread.stop.load(Ordering::SeqCst) {
                        return;
                    }
                    let (socket, shared) = (socket.unwrap(), &of_thread);
                    shared.open.lock().unwrap().push(socket.try_clone().unwrap());
                    scope.spawn(move || shared.serve(socket));
                }
            });
        });
        Self { address, shared, thread: Some(thread) }
    }

    pub fn say(&self, answer: Answer) {
        *self.shared.answer.lock().unwrap() = answer;
    }

    pub fn heads(&self) -> Vec<Vec<String>> {
        self.shared.heads.lock().unwrap().clone()
    }

    pub fn requests(&self) -> usize {
        self.shared.heads.lock().unwrap().len()
    }

    pub fn url(&self) -> String {
        let scheme = if self.shared.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://localhost:{}/asked", self.address.port())
    }

    /// Ends all connections.
    pub fn hang_up(&self) {
        for socket in self.shared.open.lock().unwrap().drain(..) {
            // It may have ended by itself.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        self.hang_up();
        self.thread.take().map(JoinHandle::join);
    }
}

impl Shared {
    fn serve(&self, socket: TcpStream) {
        match &self.tls {
            None => self.answer(socket),
            // A client that does not trust the certificate goes.
            Some(tls) => self.answer(StreamOwned::new(ServerConnection::new(tls.clone()).unwrap(), socket)),
        }
    }

    fn answer(&self, mut socket: impl Read + Write) {
        let lines = BufReader::new(&mut socket).lines().map_while(Result::ok);
        let head: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
        if head.is_empty() {
            return;
        }
        self.heads.lock().unwrap().push(head);
        let answer = match self.answer.lock().unwrap().clone() {
            Answer::Slow(after, status, body) => {
                thread::sleep(after);
                Answer::of(status, body)
            }
            answer => answer,
        };
        // Whoever has read enough may be gone.
        let _ = match answer {
            Answer::Whole(status, fields, body) => {
                let length = body.len();
                let head =
                    format!("HTTP/1.1 {status} X\r\n{fields}Content-Length: {length}\r\nConnection: close\r\n\r\n");
                socket.write_all(&[head.as_bytes(), body.as_bytes()].concat()).and_then(|()| socket.flush())
            }
            // Until the other one has had enough.
            Answer::Slow(..) | Answer::Silence => socket.read(&mut [0]).map(drop),
        };
    }
}
