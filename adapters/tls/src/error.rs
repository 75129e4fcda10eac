//! What is wrong with files, and why sessions fail. Nothing here shows a byte of a key.

use rustls::{Error, InvalidMessage};
use std::fmt;
use std::io;
use std::path::PathBuf;
use time::OffsetDateTime;

/// A certificate or a key that cannot be used. It names the file.
#[derive(Debug)]
pub enum LoadError {
    /// The file cannot be read.
    Unreadable(PathBuf, io::Error),
    /// It is no PEM, or damaged.
    Malformed(PathBuf),
    /// It has no certificate.
    NoCertificate(PathBuf),
    /// Its first certificate cannot be understood, for this reason.
    BadCertificate(PathBuf, String),
    /// Its first certificate was good until then, in seconds since 1970.
    Expired(PathBuf, u64),
    /// Its first certificate is good from then on, in seconds since 1970.
    NotYetValid(PathBuf, u64),
    /// It has no private key.
    NoKey(PathBuf),
    /// Its private key needs a passphrase.
    EncryptedKey(PathBuf),
    /// Its private key is damaged, or of a kind that is not supported.
    BadKey(PathBuf),
    /// This machine has none in the places where systems keep them.
    NoAuthorities,
    /// The key is not that of the certificate.
    Mismatch {
        /// Of the certificate.
        cert_file: PathBuf,
        /// Of the key.
        key_file: PathBuf,
    },
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::Unreadable(file, error) => write!(f, "{} cannot be read: {error}", file.display()),
            LoadError::Malformed(file) => write!(f, "{} is not PEM, or damaged", file.display()),
            LoadError::NoCertificate(file) => write!(f, "{} has no certificate", file.display()),
            LoadError::BadCertificate(file, why) => {
                write!(f, "{} has a certificate that cannot be used: {why}", file.display())
            }
            LoadError::Expired(file, until) => {
                write!(f, "{} has a certificate that expired on {}", file.display(), day(*until))
            }
            LoadError::NotYetValid(file, from) => {
                write!(f, "{} has a certificate that is not valid before {}", file.display(), day(*from))
            }
            LoadError::NoKey(file) => write!(f, "{} has no private key", file.display()),
            LoadError::EncryptedKey(file) => {
                write!(f, "{} has a private key under a passphrase, which nobody could type in", file.display())
            }
            LoadError::BadKey(file) => {
                write!(
                    f,
                    "{} has a private key that is damaged, or neither RSA, nor ECDSA, nor Ed25519",
                    file.display()
                )
            }
            LoadError::NoAuthorities => f.write_str("this machine has no certificates of authorities that it trusts"),
            LoadError::Mismatch { cert_file, key_file } => {
                write!(
                    f,
                    "the private key in {} is not that of the certificate in {}",
                    key_file.display(),
                    cert_file.display()
                )
            }
        }
    }
}

impl std::error::Error for LoadError {}

fn day(unix_seconds: u64) -> String {
    let moment = i64::try_from(unix_seconds).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    moment.map_or_else(|| "a day that no calendar has".to_owned(), |moment| moment.date().to_string())
}

/// Why a session failed.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    /// The peer speaks HTTP without TLS. It has been answered so, in clear text.
    PlainHttp,
    /// The peer says what is no TLS, or breaks its rules.
    Malformed(Error),
    /// There is no version, cipher suite or protocol that both sides speak.
    Incompatible(Error),
    /// The peer has told why it gives up: often it does not trust the certificate.
    Refused(Error),
    /// Its certificate is not trusted, or not that of the name.
    Untrusted(Error),
}

impl Failure {
    pub(crate) fn of(error: Error) -> Failure {
        match error {
            Error::PeerIncompatible(_) | Error::NoApplicationProtocol => Failure::Incompatible(error),
            Error::AlertReceived(_) => Failure::Refused(error),
            Error::InvalidCertificate(_) | Error::NoCertificatesPresented => Failure::Untrusted(error),
            _ => Failure::Malformed(error),
        }
    }

    pub(crate) fn too_large() -> Failure {
        Failure::Malformed(Error::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::PlainHttp => f.write_str("HTTP without TLS"),
            Failure::Malformed(error)
            | Failure::Incompatible(error)
            | Failure::Refused(error)
            | Failure::Untrusted(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Failure {}
