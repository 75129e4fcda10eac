//! What is wrong with keys and issuers as they were configured. It is the operator's fault, and is found at the start.
//! What is wrong with a credential is a refusal, in `refusal.rs`.

use std::fmt;

/// Why a verifier, or a key of it, cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SetupError {
    /// A secret of fewer than 32 bytes.
    ShortSecret,
    /// No secret to check cookies by, or an empty one, by which anybody can sign.
    NoSecret,
    /// A PEM text where a secret belongs.
    PemAsSecret,
    /// A private key, a certificate, or no PEM at all.
    NotPublicPem,
    /// A key that cannot be read, or whose point is not on its curve.
    Broken,
    /// A kind of key, or a curve, for which there is no algorithm here.
    Unsupported,
    /// An RSA key of fewer than 2,048 bits or more than 4,096.
    RsaSize,
    /// None of the algorithms that are wanted is one of the key's.
    NoAlgorithm,
    /// No key set (RFC 7517 §5).
    NoKeySet,
    /// No `https` URL, nor an `http` one of this machine, or one with a user in it.
    BadUrl,
    /// No `redis`, `valkey` or `unix` URL.
    BadRedisUrl,
    /// No certificate in PEM.
    NoCertificate,
    /// A user whose name no token can have.
    BadUser,
    /// An info that is no JSON, null, or longer than one may be.
    BadInfo,
    /// A header that is none, or none that may be forwarded.
    BadHeader,
    /// Two issuers of one name, or no issuer.
    Issuers,
    /// A key to mint with that is neither a secret nor a PKCS#8 key of P-256, P-384 or Ed25519.
    NotForMinting,
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ShortSecret => "the secret has fewer than 32 bytes",
            Self::NoSecret => "expected one or more secrets, none of them empty",
            Self::PemAsSecret => "the secret is a PEM text: a public key is no secret",
            Self::NotPublicPem => "expected a PEM text with PUBLIC KEY",
            Self::Broken => "the key cannot be read, or is no point of its curve",
            Self::Unsupported => "the key is none of RSA, P-256, P-384, Ed25519",
            Self::RsaSize => "the RSA key has fewer than 2048 bits or more than 4096",
            Self::NoAlgorithm => "the key is for none of these algorithms",
            Self::NoKeySet => "expected a JSON Web Key Set",
            Self::BadUrl => "expected an https URL (http is for this machine alone), without user and password",
            Self::BadRedisUrl => "expected a redis://, valkey:// or unix:// URL",
            Self::NoCertificate => "expected a PEM text with CERTIFICATE",
            Self::BadUser => "expected a user of 1 to 255 bytes",
            Self::BadInfo => "expected an info of at most 1024 bytes of JSON, other than null",
            Self::BadHeader => {
                "expected the name of a header that belongs to the client, not to its connection or content"
            }
            Self::Issuers => "expected one or more issuers, each of another name",
            Self::NotForMinting => "expected a secret, or a PKCS#8 PEM of a P-256, P-384 or Ed25519 key",
        })
    }
}

impl std::error::Error for SetupError {}
