//! Certificates and keys from files, and which of them a client gets by the name that it asks for.

use crate::error::LoadError;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use webpki::{EndEntityCert, KeyUsage};

/// Later than any certificate is good. It is what certificates without an end have there (RFC 5280 §4.1.2.5), and a second.
const FAR_FUTURE: Duration = Duration::from_secs(253_402_300_800);

/// The files of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The certificate, with those that lead to its authority behind it, as PEM.
    pub cert_file: PathBuf,
    /// Its private key, as PEM: PKCS #8, PKCS #1 or SEC 1.
    pub key_file: PathBuf,
}

/// Looks whether all pairs can be used.
///
/// # Errors
/// What is wrong with the first that cannot.
pub fn check(pairs: &[Pair]) -> Result<(), LoadError> {
    Certificates::load(pairs, &rustls::crypto::ring::default_provider()).map(drop)
}

/// Certificates as they were loaded. The first is for clients that ask for no name, or for none that is here.
#[derive(Debug)]
pub(crate) struct Certificates {
    first: Arc<CertifiedKey>,
    /// By the names of the certificates, in lower case; a name that begins with `*.` stands for any one label.
    by_name: HashMap<String, Arc<CertifiedKey>>,
    /// When the first of them expires, in seconds since 1970.
    good_until: u64,
}

impl Certificates {
    /// From these files. Of pairs that have a name in common the first is for it.
    pub(crate) fn load(pairs: &[Pair], provider: &CryptoProvider) -> Result<Certificates, LoadError> {
        let (mut first, mut by_name, mut good_until) = (None, HashMap::new(), u64::MAX);
        for pair in pairs {
            let loaded = load(pair, provider)?;
            let key = Arc::new(loaded.key);
            for name in loaded.names {
                by_name.entry(name).or_insert_with(|| Arc::clone(&key));
            }
            good_until = good_until.min(loaded.good_until);
            first.get_or_insert(key);
        }
        Ok(Certificates { first: first.expect("there is one pair at least"), by_name, good_until })
    }

    fn for_name(&self, name: Option<&str>) -> Arc<CertifiedKey> {
        let name = name.map(str::to_ascii_lowercase);
        let exact = |name: &String| self.by_name.get(name);
        let wildcard = |name: &String| self.by_name.get(&format!("*.{}", name.split_once('.')?.1));
        let found = name.as_ref().and_then(|name| exact(name).or_else(|| wildcard(name)));
        Arc::clone(found.unwrap_or(&self.first))
    }
}

/// The certificates that are served. Handshakes that have begun keep theirs.
#[derive(Debug)]
pub(crate) struct Served {
    now: RwLock<Arc<Certificates>>,
    good_until: AtomicU64,
}

impl Served {
    pub(crate) fn new(certificates: Certificates) -> Served {
        let good_until = AtomicU64::new(certificates.good_until);
        Served { now: RwLock::new(Arc::new(certificates)), good_until }
    }

    pub(crate) fn replace(&self, certificates: Certificates) {
        self.good_until.store(certificates.good_until, Relaxed);
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(certificates);
    }

    pub(crate) fn good_until(&self) -> u64 {
        self.good_until.load(Relaxed)
    }
}

impl ResolvesServerCert for Served {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let now = Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner));
        Some(now.for_name(hello.server_name()))
    }
}

struct Loaded {
    key: CertifiedKey,
    names: Vec<String>,
    good_until: u64,
}

fn load(pair: &Pair, provider: &CryptoProvider) -> Result<Loaded, LoadError> {
    let chain = certificates_in(&pair.cert_file)?;
    let (names, good_until) = examine(&chain[0], &pair.cert_file)?;
    let key = key_in(&pair.key_file)?;
    let signer = provider.key_provider.load_private_key(key);
    let key = CertifiedKey::new(chain, signer.map_err(|_| LoadError::BadKey(pair.key_file.clone()))?);
    match key.keys_match() {
        Ok(()) => Ok(Loaded { key, names, good_until }),
        Err(_) => Err(LoadError::Mismatch { cert_file: pair.cert_file.clone(), key_file: pair.key_file.clone() }),
    }
}

fn read(file: &Path) -> Result<Vec<u8>, LoadError> {
    fs::read(file).map_err(|error| LoadError::Unreadable(file.to_owned(), error))
}

/// All certificates of a file, at least one.
pub(crate) fn certificates_in(file: &Path) -> Result<Vec<CertificateDer<'static>>, LoadError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(file)?).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(LoadError::NoCertificate(file.to_owned())),
        Ok(certificates) => Ok(certificates),
        Err(_) => Err(LoadError::Malformed(file.to_owned())),
    }
}

/// The first private key of a file. What the parser says of a damaged one is not told, because it quotes lines of the file.
pub(crate) fn key_in(file: &Path) -> Result<PrivateKeyDer<'static>, LoadError> {
    let text = read(file)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        pem::Error::NoItemsFound if is_encrypted(&text) => LoadError::EncryptedKey(file.to_owned()),
        pem::Error::NoItemsFound => LoadError::NoKey(file.to_owned()),
        // The older form says in its first lines that it is encrypted, which the parser takes for damage.
        _ if is_encrypted(&text) => LoadError::EncryptedKey(file.to_owned()),
        _ => LoadError::Malformed(file.to_owned()),
    })
}

fn is_encrypted(text: &[u8]) -> bool {
    String::from_utf8_lossy(text).contains("ENCRYPTED")
}

/// The names of a certificate that is good now, and until when it is.
fn examine(certificate: &CertificateDer<'_>, file: &Path) -> Result<(Vec<String>, u64), LoadError> {
    let bad = |error: webpki::Error| LoadError::BadCertificate(file.to_owned(), format!("{error:?}"));
    let parsed = EndEntityCert::try_from(certificate).map_err(bad)?;
    // No authority is given, so none is found. Whether its time is right is looked at before.
    let verdict_at = |time| {
        let usage = KeyUsage::server_auth();
        parsed.verify_for_usage(&[], &[], &[], time, usage, None, None).err()
    };
    match verdict_at(UnixTime::now()) {
        Some(webpki::Error::CertExpired { not_after, .. }) => {
            return Err(LoadError::Expired(file.to_owned(), not_after.as_secs()));
        }
        Some(webpki::Error::CertNotValidYet { not_before, .. }) => {
            return Err(LoadError::NotYetValid(file.to_owned(), not_before.as_secs()));
        }
        _ => {}
    }
    let good_until = match verdict_at(UnixTime::since_unix_epoch(FAR_FUTURE)) {
        Some(webpki::Error::CertExpired { not_after, .. }) => not_after.as_secs(),
        Some(error @ webpki::Error::InvalidCertValidity) => return Err(bad(error)),
        _ => u64::MAX,
    };
    Ok((parsed.valid_dns_names().map(str::to_ascii_lowercase).collect(), good_until))
}
