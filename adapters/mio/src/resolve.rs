//! Host names to addresses, on a thread of its own, because the system's resolver blocks.

use mio::Waker;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// The answer to one question: addresses in the order to try them.
pub type Answer<K> = (K, io::Result<Vec<SocketAddr>>);

/// A thread that resolves one name at a time.
#[derive(Debug)]
pub struct Resolver<K> {
    questions: Sender<(K, String, u16)>,
    answers: Receiver<Answer<K>>,
}

impl<K: Send + 'static> Resolver<K> {
    /// Starts the thread, which ends when the resolver is dropped. The waker is woken at each answer.
    ///
    /// # Errors
    /// If the thread cannot be made.
    pub fn start(waker: Arc<Waker>) -> io::Result<Resolver<K>> {
        let (questions, asked) = channel::<(K, String, u16)>();
        let (answer, answers) = channel();
        thread::Builder::new().name("fanfare-resolve".to_owned()).spawn(move || {
            for (key, host, port) in asked {
                let found = (host.as_str(), port).to_socket_addrs().map(Iterator::collect);
                if answer.send((key, found)).is_err() || waker.wake().is_err() {
                    return;
                }
            }
        })?;
        Ok(Resolver { questions, answers })
    }

    /// Asks for a host's addresses; the key comes back with the answer.
    pub fn ask(&self, key: K, host: &str, port: u16) {
        // The thread ends only after this sender is gone.
        let _ = self.questions.send((key, host.to_owned(), port));
    }

    /// The next answer that is there.
    pub fn poll(&self) -> Option<Answer<K>> {
        self.answers.try_recv().ok()
    }
}
