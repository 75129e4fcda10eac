//! Where a server's sessions begin.

use crate::certificates::{Certificates, Pair, Served};
use crate::counts::Counts;
use crate::error::LoadError;
use crate::session::Session;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::version::{TLS12, TLS13};
use std::sync::Arc;

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// RFC 5246.
    #[default]
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// Begins the sessions of a server. Its clones have the same certificates, and clients resume with one what they had with another.
#[derive(Clone, Debug)]
pub struct Acceptor {
    config: Arc<ServerConfig>,
    served: Arc<Served>,
    pairs: Arc<[Pair]>,
    counts: Arc<Counts>,
}

impl Acceptor {
    /// With these certificates, at least one, of which the first is for clients that ask for none of the others.
    ///
    /// # Errors
    /// What is wrong with which file.
    ///
    /// # Panics
    /// If the system has no randomness for the keys of session tickets.
    pub fn load(pairs: &[Pair], version_min: Version) -> Result<Acceptor, LoadError> {
        let provider = Arc::new(ring::default_provider());
        let served = Arc::new(Served::new(Certificates::load(pairs, &provider)?));
        let versions = match version_min {
            Version::Tls12 => &[&TLS13, &TLS12][..],
            Version::Tls13 => &[&TLS13],
        };
        let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(versions);
        let builder = builder.expect("the provider has cipher suites for both versions").with_no_client_auth();
        let mut config = builder.with_cert_resolver(Arc::clone(&served) as _);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Tickets hold their sessions by themselves, so that no client costs memory after it has gone.
        config.ticketer = ring::Ticketer::new().expect("the system has randomness");
        Ok(Acceptor { config: Arc::new(config), served, pairs: pairs.into(), counts: Arc::default() })
    }

    /// The same with counts of its own.
    pub fn counting_apart(&self) -> Acceptor {
        Acceptor { counts: Arc::default(), ..self.clone() }
    }

    /// The session of a connection that has been accepted.
    pub fn session(&self) -> Session {
        Session::of_server(Arc::clone(&self.config), Arc::clone(&self.counts))
    }

    /// The same for who drives rustls by itself; its handshakes are not counted.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// What became of handshakes.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The files.
    pub fn pairs(&self) -> &[Pair] {
        &self.pairs
    }

    /// When the first of the certificates expires, in seconds since 1970.
    pub fn good_until(&self) -> u64 {
        self.served.good_until()
    }

    /// Reads the files anew. Handshakes that begin from here on have what is there now.
    ///
    /// # Errors
    /// What is wrong with which file. All certificates stay as they were.
    pub fn reload(&self) -> Result<(), LoadError> {
        self.served.replace(Certificates::load(&self.pairs, self.config.crypto_provider())?);
        Ok(())
    }
}
