//! What has to be known before a connection is opened, on a thread of its own, because it blocks: addresses of hosts, from the system's
//! resolver, and passwords and certificates, from their files.

use fanfare_adapter::redis_tls::{Dialer, RedisTls};
use fanfare_adapter::sign_in::{Secret, SignIn, password};
use fanfare_core::broker::redis::Address;
use mio::Waker;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// What a connection needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The host that is to be resolved, and the port, if it is a name.
    pub host: Option<(String, u16)>,
    /// How to sign in, if a password is to be read.
    pub sign_in: Option<SignIn>,
    /// To whom TLS is spoken, if it is.
    pub tls: Option<Address>,
}

/// What there is to one question.
#[derive(Debug)]
pub struct Found {
    /// In the order to try them; none without a host.
    pub addresses: io::Result<Vec<SocketAddr>>,
    /// The error is why it cannot be read, for people.
    pub password: Result<Option<Secret>, String>,
    /// Begins the sessions of TLS. The error is why there can be none, for people.
    pub dialer: Result<Option<Dialer>, String>,
}

/// A thread that answers one question at a time.
#[derive(Debug)]
pub struct Resolver<K> {
    questions: Sender<(K, Question)>,
    answers: Receiver<(K, Found)>,
}

impl Question {
    fn answer(&self, tls: Option<&RedisTls>) -> Found {
        let addresses = match &self.host {
            Some((host, port)) => (host.as_str(), *port).to_socket_addrs().map(Iterator::collect),
            None => Ok(Vec::new()),
        };
        let dialer = tls.zip(self.tls.as_ref()).map(|(tls, address)| tls.dialer(address)).transpose();
        Found { addresses, password: password(&self.sign_in), dialer }
    }
}

impl<K: Send + 'static> Resolver<K> {
    /// Starts the thread, which ends when the resolver is dropped. The waker is woken at each answer.
    ///
    /// # Errors
    /// If the thread cannot be made.
    pub fn start(tls: Option<RedisTls>, waker: Arc<Waker>) -> io::Result<Resolver<K>> {
        let (questions, asked) = channel::<(K, Question)>();
        let (answer, answers) = channel();
        thread::Builder::new().name("fanfare-resolve".to_owned()).spawn(move || {
            for (key, question) in asked {
                if answer.send((key, question.answer(tls.as_ref()))).is_err() || waker.wake().is_err() {
                    return;
                }
            }
        })?;
        Ok(Resolver { questions, answers })
    }

    /// Asks; the key comes back with the answer.
    pub fn ask(&self, key: K, question: Question) {
        // The thread ends only after this sender is gone.
        let _ = self.questions.send((key, question));
    }

    /// The next answer that is there.
    pub fn poll(&self) -> Option<(K, Found)> {
        self.answers.try_recv().ok()
    }
}
