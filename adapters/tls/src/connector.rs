//! Where a client's sessions begin.

use crate::certificates::{Pair, certificates_in, key_in};
use crate::error::LoadError;
use crate::session::Session;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::path::PathBuf;
use std::sync::Arc;

/// By what a client knows its server.
#[derive(Clone, Debug)]
pub enum Trust {
    /// By a certificate of one of the authorities that this machine trusts.
    System,
    /// By a certificate of one of the authorities in this file.
    CaFile(PathBuf),
    /// By nothing: whoever is on the way can be the server.
    Nobody,
}

/// Begins the sessions of a client.
#[derive(Clone, Debug)]
pub struct Connector(Arc<ClientConfig>);

impl Connector {
    /// To servers that are known by this.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn new(trust: &Trust) -> Result<Connector, LoadError> {
        Connector::with_certificate(trust, None)
    }

    /// The same, with a certificate of the client's own for servers that ask for one.
    ///
    /// # Errors
    /// What is wrong with which file.
    pub fn with_certificate(trust: &Trust, own: Option<&Pair>) -> Result<Connector, LoadError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let builder = builder.expect("the provider has cipher suites for all versions");
        let builder = match trust {
            Trust::System => {
                let mut roots = RootCertStore::empty();
                let (trusted, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if trusted == 0 {
                    return Err(LoadError::NoAuthorities);
                }
                builder.with_root_certificates(roots)
            }
            Trust::CaFile(file) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates_in(file)? {
                    let added = roots.add(certificate);
                    added.map_err(|error| LoadError::BadCertificate(file.clone(), error.to_string()))?;
                }
                builder.with_root_certificates(roots)
            }
            Trust::Nobody => builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider))),
        };
        let config = match own {
            None => builder.with_no_client_auth(),
            Some(Pair { cert_file, key_file }) => {
                let own = builder.with_client_auth_cert(certificates_in(cert_file)?, key_in(key_file)?);
                own.map_err(|error| match error {
                    Error::InconsistentKeys(_) => {
                        LoadError::Mismatch { cert_file: cert_file.clone(), key_file: key_file.clone() }
                    }
                    _ => LoadError::BadKey(key_file.clone()),
                })?
            }
        };
        Ok(Connector(Arc::new(config)))
    }

    /// The session of a connection to the server of this name. Its first words are there to be [flushed](Session::flush).
    ///
    /// # Errors
    /// If rustls cannot begin.
    pub fn session(&self, name: ServerName<'static>) -> Result<Session, Error> {
        Session::of_client(Arc::clone(&self.0), name)
    }
}

/// Takes any certificate.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
