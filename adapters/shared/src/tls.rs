//! TLS on clients' connections: what a server needs of `fanfare-tls`, the PROXY protocol in front of it, and certificates that
//! change. The core hears plaintext alone.

use crate::config::Config;
use crate::ops::Snapshot;
use fanfare_core::{Proxies, ProxyHeader};
use fanfare_shell::listen::make_room;
use fanfare_shell::program::StartError;
use fanfare_tls::{Acceptor, Look, ServerConfig, Session, Watch};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

pub use fanfare_tls::Progress;

/// How often files are looked at. A renewal is weeks early, and reading some small files takes microseconds.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Where connections of clients get their sessions, where the configuration has certificates.
#[derive(Clone, Debug)]
pub struct Tls {
    acceptor: Acceptor,
    proxies: Arc<Proxies>,
    header_bytes_max: usize,
}

impl Tls {
    /// With the certificates of the configuration; `None` if it has none.
    ///
    /// # Errors
    /// What is wrong with which file.
    pub fn load(config: &Config) -> Result<Option<Tls>, StartError> {
        let pairs = config.tls.pairs();
        if pairs.is_empty() {
            return Ok(None);
        }
        let acceptor = Acceptor::load(&pairs, config.tls.version_min).map_err(StartError::of("cannot speak TLS"))?;
        Ok(Some(Tls {
            acceptor,
            proxies: Arc::new(config.core.admission.proxies.clone()),
            header_bytes_max: config.core.limits.request_head_bytes_max,
        }))
    }

    /// The same for one of several workers, which counts by itself.
    pub fn of_worker(&self) -> Tls {
        Tls { acceptor: self.acceptor.counting_apart(), ..self.clone() }
    }

    /// How others than clients are served with the same certificates.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        self.acceptor.config()
    }

    /// For a connection that comes from this address.
    pub fn link(&self, peer: IpAddr) -> Link {
        let begins_with_header = self.proxies.protocol && self.proxies.trusts(peer);
        Link {
            session: self.acceptor.session(),
            preface: if begins_with_header { Preface::Expected(Vec::new()) } else { Preface::None },
            header_bytes_max: self.header_bytes_max,
        }
    }

    /// Adds what became of handshakes to a snapshot.
    pub fn describe(&self, snapshot: &mut Snapshot) {
        snapshot.tls = self.acceptor.counts().tally();
        snapshot.certificates_good_until = self.acceptor.good_until();
    }

    /// Starts the thread that looks whether files have changed. The function has it look at once, and load them in any case.
    ///
    /// # Errors
    /// If the thread cannot be made.
    pub fn keep_fresh(&self) -> io::Result<impl Fn() + Send + 'static> {
        let mut watch = Watch::new(self.acceptor.clone());
        let (ask, asked): (Sender<()>, _) = channel();
        thread::Builder::new().name("fanfare-tls".to_owned()).spawn(move || {
            loop {
                let is_asked = match asked.recv_timeout(LOOK_EVERY) {
                    Ok(()) => true,
                    Err(RecvTimeoutError::Timeout) => false,
                    // The signals are nobody's any more: the process ends.
                    Err(RecvTimeoutError::Disconnected) => return,
                };
                match watch.look(is_asked) {
                    Look::Same => {}
                    Look::Reloaded => tracing::info!("certificates reloaded"),
                    Look::Refused(error) => {
                        tracing::error!(%error, "certificates not reloaded: those from before stay")
                    }
                }
            }
        })?;
        Ok(move || {
            // Fails only where the thread has panicked, which was told.
            let _ = ask.send(());
        })
    }
}

/// What stands between a client's socket and the core: its session, and before that the header of a proxy, in clear text.
#[derive(Debug)]
pub struct Link {
    session: Session,
    preface: Preface,
    header_bytes_max: usize,
}

#[derive(Debug)]
enum Preface {
    /// There is none, or it has passed.
    None,
    /// The connection may begin with a header, of which this much has come.
    Expected(Vec<u8>),
    /// It began like a header and was none. What the core answers is for the proxy, which speaks no TLS.
    Malformed,
}

impl Link {
    /// Whether nothing can be written yet.
    pub fn is_handshaking(&self) -> bool {
        !matches!(self.preface, Preface::Malformed) && self.session.is_handshaking()
    }

    /// Whether nothing more comes of the peer.
    pub fn is_closed(&self) -> bool {
        self.session.is_closed()
    }

    /// Whether the socket has taken everything.
    pub fn is_flushed(&self) -> bool {
        self.session.is_flushed()
    }

    /// Whether a FIN may follow: see [`Session::is_shut`].
    pub fn is_shut(&self) -> bool {
        self.session.is_shut()
    }

    /// Takes all of what a socket gave. What is for the core goes behind `plaintext`: see [`Session::read`].
    pub fn read(&mut self, incoming: &mut [u8], plaintext: &mut Vec<u8>) -> Progress {
        match &mut self.preface {
            Preface::None => self.read_session(incoming, plaintext),
            Preface::Malformed => {
                plaintext.extend_from_slice(incoming);
                Progress::Open
            }
            Preface::Expected(held) => {
                held.extend_from_slice(incoming);
                let header_bytes = match ProxyHeader::find(held, self.header_bytes_max) {
                    ProxyHeader::Unfinished => return Progress::Open,
                    ProxyHeader::None => 0,
                    ProxyHeader::Whole(bytes) => bytes,
                    ProxyHeader::Malformed => {
                        plaintext.append(held);
                        self.preface = Preface::Malformed;
                        return Progress::Open;
                    }
                };
                let mut held = std::mem::take(held);
                self.preface = Preface::None;
                plaintext.extend_from_slice(&held[..header_bytes]);
                self.read_session(&mut held[header_bytes..], plaintext)
            }
        }
    }

    fn read_session(&mut self, incoming: &mut [u8], plaintext: &mut Vec<u8>) -> Progress {
        let progress = self.session.read(incoming, plaintext);
        if let Progress::Failed(failure) = &progress {
            tracing::debug!(%failure, "TLS failed");
        }
        progress
    }

    /// Writes as much as the socket takes: see [`Session::write`].
    ///
    /// # Errors
    /// Those of `put`. `NotConnected` before the handshake is done: whoever is refused by then is closed without a word, because a
    /// word would cost a signature.
    pub fn write(
        &mut self,
        plaintext: &[u8],
        record: &mut Vec<u8>,
        mut put: impl FnMut(&[u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        match self.preface {
            Preface::Malformed => match put(plaintext) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
                written => written,
            },
            _ => self.session.write(plaintext, record, put),
        }
    }

    /// Puts to the socket what it has not taken: see [`Session::flush`].
    ///
    /// # Errors
    /// Those of `put`.
    pub fn flush(&mut self, put: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<bool> {
        self.session.flush(put)
    }

    /// Nothing more will be written: see [`Session::shut`].
    pub fn shut(&mut self) {
        self.session.shut();
    }

    /// The same for a socket that is about to be closed. What it has not taken is no more than a record, and nobody will ask for
    /// room any more: so the kernel is asked to take it all the same, and sends it as it does the rest.
    pub fn say_goodbye(&mut self, socket: &impl AsFd, mut put: impl FnMut(&[u8]) -> io::Result<usize>) {
        self.session.shut();
        // Where an attempt fails, the peer has gone, or does not read, and is not waited for.
        if self.session.flush(&mut put).unwrap_or(true) {
            return;
        }
        make_room(socket);
        let _ = self.session.flush(put);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanfare_tls::{Connector, Pair, Trust, Version};
    use std::fs;
    use std::io::Write;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    /// A link and what a client says first to it.
    fn link_and_hello(protocol: bool) -> (Link, Vec<u8>) {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["a".to_owned()]).unwrap().self_signed(&key).unwrap();
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("fanfare-link-{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        let pair = Pair { cert_file: folder.join("cert.pem"), key_file: folder.join("key.pem") };
        fs::write(&pair.cert_file, certificate.pem()).unwrap();
        fs::write(&pair.key_file, key.serialize_pem()).unwrap();
        let acceptor = Acceptor::load(&[pair], Version::Tls12).unwrap();
        fs::remove_dir_all(folder).unwrap();
        let mut proxies = Proxies::default();
        (proxies.trusted, proxies.protocol) = (vec!["10.0.0.0/8".parse().unwrap()], protocol);
        let tls = Tls { acceptor, proxies: Arc::new(proxies), header_bytes_max: 1_000 };
        let mut client = Connector::new(&Trust::Nobody).unwrap().session("a".try_into().unwrap()).unwrap();
        let mut hello = Vec::new();
        client.flush(|bytes| hello.write_all(bytes).map(|()| bytes.len())).unwrap();
        (tls.link("10.1.1.1".parse().unwrap()), hello)
    }

    /// What the link says in answer to this, in pieces of so many bytes, and what the core hears.
    fn answer(link: &mut Link, said: &[u8], piece: usize) -> (Vec<u8>, Vec<u8>) {
        let (mut answer, mut heard) = (Vec::new(), Vec::new());
        for piece in said.chunks(piece) {
            link.read(&mut piece.to_vec(), &mut heard);
        }
        link.flush(|bytes| answer.write_all(bytes).map(|()| bytes.len())).unwrap();
        (answer, heard)
    }

    #[test]
    fn a_header_goes_to_the_core_and_what_follows_is_encrypted() {
        let header = b"PROXY TCP4 192.0.2.1 10.0.0.1 4711 443\r\n";
        for piece in [1, 7, 10_000] {
            let (mut link, hello) = link_and_hello(true);
            let (said, heard) = answer(&mut link, &[header, &hello[..]].concat(), piece);
            assert_eq!((heard, said[0]), (header.to_vec(), 22), "a record of the handshake");
            // A proxy may speak without one, as for its health checks.
            let (mut link, hello) = link_and_hello(true);
            let (said, heard) = answer(&mut link, &hello, piece);
            assert_eq!((heard, said[0]), (Vec::new(), 22));
        }
    }

    #[test]
    fn what_only_looks_like_a_header_is_answered_in_clear_text() {
        let (mut link, _) = link_and_hello(true);
        let (_, heard) = answer(&mut link, b"PROXY nonsense\r\n", 100);
        assert_eq!((heard, link.is_handshaking()), (b"PROXY nonsense\r\n".to_vec(), false));
        let mut said = Vec::new();
        let put = |bytes: &[u8]| said.write_all(bytes).map(|()| bytes.len());
        assert_eq!(link.write(b"400", &mut Vec::new(), put).unwrap(), 3);
        assert_eq!(said, b"400");
    }

    #[test]
    fn nobody_else_gets_a_header_through() {
        let (mut link, _) = link_and_hello(false);
        let (said, heard) = answer(&mut link, b"PROXY TCP4 192.0.2.1 10.0.0.1 4711 443\r\n", 100);
        assert!(heard.is_empty() && said.starts_with(b"HTTP/1.1 400 "));
    }
}
