//! What must be known before a connection is begun, on a thread of its own, because the system's resolver and files block.

use fanfare_adapter::redis_tls::{Dialer, RedisTls};
use fanfare_core::broker::redis::Address;
use mio::Waker;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// What is known of a host.
#[derive(Debug)]
pub struct Found {
    /// Its addresses in the order to try them.
    pub addresses: Vec<SocketAddr>,
    /// Begins the sessions of TLS, if it is spoken there.
    pub dialer: Option<Dialer>,
}

/// The answer to one question, or why there is none, for people.
pub type Answer<K> = (K, Result<Found, String>);

/// A thread that looks up one host at a time.
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
    pub fn start(tls: Option<RedisTls>, waker: Arc<Waker>) -> io::Result<Resolver<K>> {
        let (questions, asked) = channel::<(K, String, u16)>();
        let (answer, answers) = channel();
        thread::Builder::new().name("fanfare-resolve".to_owned()).spawn(move || {
            for (key, host, port) in asked {
                let found = look_up(host, port, tls.as_ref());
                if answer.send((key, found)).is_err() || waker.wake().is_err() {
                    return;
                }
            }
        })?;
        Ok(Resolver { questions, answers })
    }

    /// Asks about a host; the key comes back with the answer.
    pub fn ask(&self, key: K, host: &str, port: u16) {
        // The thread ends only after this sender is gone.
        let _ = self.questions.send((key, host.to_owned(), port));
    }

    /// The next answer that is there.
    pub fn poll(&self) -> Option<Answer<K>> {
        self.answers.try_recv().ok()
    }
}

fn look_up(host: String, port: u16, tls: Option<&RedisTls>) -> Result<Found, String> {
    let addresses = (host.as_str(), port).to_socket_addrs().map(Iterator::collect);
    let addresses = addresses.map_err(|error| format!("cannot resolve its host: {error}"))?;
    let dialer = tls.map(|tls| tls.dialer(&Address::Tcp { host, port })).transpose()?;
    Ok(Found { addresses, dialer })
}
