//! Certificates of nobody but a test, and a tunnel by which clients that know no TLS reach a server that wants it.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustix::event::{PollFd, PollFlags, poll};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::DEADLINE;
use crate::process::Folder;

/// Who signs certificates, with a folder for them.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: Folder,
}

impl Authority {
    /// One whose own certificate stands in [`Authority::ca_file`].
    ///
    /// # Panics
    ///
    /// If nothing can be made or written.
    pub fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("no name is a wrong one");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Whatever is signed by one of the same name passes for signed by itself.
        params.distinguished_name.push(DnType::CommonName, "an authority of a test");
        let key = KeyPair::generate().expect("the system has randomness");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        let folder = Folder::new("tls");
        fs::write(folder.path().join("ca.pem"), issuer.pem()).expect("the folder takes files");
        Authority { issuer, folder }
    }

    /// The path of a file in the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The authority's own certificate.
    pub fn ca_file(&self) -> PathBuf {
        self.file("ca.pem")
    }

    /// Writes a certificate for these names and its key, over those that were there, to `STEM.pem` and `STEM.key`. Gives the
    /// certificate's bytes.
    ///
    /// # Panics
    ///
    /// If it cannot.
    pub fn write(&self, stem: &str, names: &[&str]) -> CertificateDer<'static> {
        self.write_with(stem, names, |_| ())
    }

    /// The same, with something else in the certificate.
    ///
    /// # Panics
    ///
    /// If it cannot.
    pub fn write_with(
        &self,
        stem: &str,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> CertificateDer<'static> {
        let key = KeyPair::generate().expect("the system has randomness");
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names that may stand in a certificate");
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        // As a careful program does it: a server never reads half a file.
        for (ending, text) in [("pem", certificate.pem()), ("key", key.serialize_pem())] {
            let new = self.file(&format!("{stem}.new"));
            fs::write(&new, text).expect("the folder takes files");
            fs::rename(new, self.file(&format!("{stem}.{ending}"))).expect("a file gets another name");
        }
        certificate.der().clone()
    }

    /// A client that trusts it.
    ///
    /// # Panics
    ///
    /// If its certificate is none.
    pub fn client(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        Arc::new(builder.expect("a version").with_root_certificates(roots).with_no_client_auth())
    }
}

impl Default for Authority {
    fn default() -> Authority {
        Authority::new()
    }
}

/// A connection over TLS, to be read and written as it is.
pub type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// Connects by TLS, asks for a name, and shakes hands.
///
/// # Panics
///
/// If nobody listens. If the handshake fails, so does the first use.
pub fn connect_tls(address: SocketAddr, client: &Arc<ClientConfig>, name: &str) -> TlsStream {
    let stream = TcpStream::connect_timeout(&address, DEADLINE).expect("somebody listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout above zero");
    stream.set_write_timeout(Some(DEADLINE)).expect("a timeout above zero");
    let name = name.to_owned().try_into().expect("a name that may be asked for");
    let mut stream = StreamOwned::new(ClientConnection::new(Arc::clone(client), name).expect("a client"), stream);
    let _ = stream.flush();
    stream
}

/// A port behind which there is a server that speaks TLS. What clients send to it goes there encrypted, and back.
pub(crate) struct Tunnel {
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
}

impl Tunnel {
    pub(crate) fn to(server: SocketAddr, client: Arc<ClientConfig>) -> Tunnel {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        thread::spawn(move || {
            for near in listener.incoming() {
                if over.load(Ordering::Acquire) {
                    return;
                }
                let (near, client) = (near.expect("a connection"), Arc::clone(&client));
                thread::spawn(move || {
                    // What ends a connection is seen by the client, whose end it is as well.
                    let _ = carry(near, server, client);
                });
            }
        });
        Tunnel { address, is_over }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        let _ = TcpStream::connect(self.address);
    }
}

/// Both ways, holding no more than a record of each, until both have ended.
fn carry(mut near: TcpStream, server: SocketAddr, client: Arc<ClientConfig>) -> io::Result<()> {
    let mut far = TcpStream::connect(server)?;
    let name = rustls::pki_types::ServerName::from(server.ip());
    let mut tls = ClientConnection::new(client, name).map_err(io::Error::other)?;
    for stream in [&near, &far] {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
    }
    let (mut down, mut buffer) = (Vec::new(), vec![0; 16 * 1024]);
    let (mut near_ended, mut far_ended) = (false, false);
    loop {
        if far_ended && down.is_empty() {
            near.shutdown(Shutdown::Write)?;
            // What the client still says reaches nobody.
            return Ok(());
        }
        let mut near_flags = PollFlags::empty();
        near_flags.set(PollFlags::IN, !near_ended && !tls.wants_write() && !tls.is_handshaking());
        near_flags.set(PollFlags::OUT, !down.is_empty());
        let mut far_flags = PollFlags::empty();
        far_flags.set(PollFlags::IN, down.is_empty());
        far_flags.set(PollFlags::OUT, tls.wants_write());
        let mut sockets = [PollFd::new(&near, near_flags), PollFd::new(&far, far_flags)];
        poll(&mut sockets, None)?;
        let [near_ready, far_ready] = [&sockets[0], &sockets[1]].map(PollFd::revents);
        if near_ready.contains(PollFlags::OUT) {
            let written = later(near.write(&down))?;
            down.drain(..written.unwrap_or(0));
        }
        if near_ready.contains(PollFlags::IN) {
            match later(near.read(&mut buffer))? {
                Some(0) => {
                    near_ended = true;
                    tls.send_close_notify();
                }
                Some(bytes) => tls.writer().write_all(&buffer[..bytes])?,
                None => {}
            }
        } else if near_ready.intersects(PollFlags::ERR | PollFlags::HUP) && near_ended {
            return Ok(());
        }
        if far_ready.contains(PollFlags::OUT) {
            later(tls.write_tls(&mut far))?;
            if near_ended && !tls.wants_write() {
                far.shutdown(Shutdown::Write)?;
            }
        }
        if far_ready.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) && down.is_empty() {
            let read = later(tls.read_tls(&mut far))?;
            let state = tls.process_new_packets().map_err(io::Error::other)?;
            if state.plaintext_bytes_to_read() > 0 {
                down.resize(state.plaintext_bytes_to_read(), 0);
                tls.reader().read_exact(&mut down)?;
            }
            far_ended |= read == Some(0) || state.peer_has_closed();
        }
    }
}

/// What was done, if anything could be.
fn later(done: io::Result<usize>) -> io::Result<Option<usize>> {
    match done {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The flags by which a server gets these files.
pub(crate) fn flags(authority: &Authority, stem: &str) -> [String; 4] {
    let path = |ending: &str| authority.file(&format!("{stem}.{ending}")).display().to_string();
    ["--tls-cert-file".to_owned(), path("pem"), "--tls-key-file".to_owned(), path("key")]
}
