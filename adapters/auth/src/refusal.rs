//! Why a credential is refused, exactly, for operators and for who maps it to a status or a close code.
//! A refusal holds nothing of the credential, so it can be logged as it is.

use std::fmt;

/// Why a credential gives no identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// No credential of its kind: bad Base64 or JSON, too deep, a member twice, a claim of a wrong type.
    Malformed,
    /// Larger than is looked at.
    TooLarge,
    /// A token for something else, by its `typ`.
    WrongType,
    /// No key of the issuer has this name.
    UnknownKey,
    /// The key is for other algorithms, or nobody's is for this one.
    WrongAlgorithm,
    /// The signature is not by the key.
    BadSignature,
    /// It was valid until some time ago.
    Expired,
    /// It will be valid, or says that it was issued, in the future.
    NotYetValid,
    /// No issuer of this name is trusted.
    WrongIssuer,
    /// It is for somebody else, or for somebody where nobody is expected.
    WrongAudience,
    /// It names no user, or by something that is no name.
    NoUser,
    /// It names a user whose name begins with the prefix of another issuer.
    ForeignUser,
    /// Its grants are not lists of texts.
    BadGrants,
    /// There is no such session, or there is none any more.
    NoSession,
    /// There is none of a kind that is taken here.
    NoCredential,
    /// The operator's endpoint does not accept it (401).
    NotAccepted,
    /// The operator's endpoint knows who it is, and does not let them in (403).
    Forbidden,
    /// It could not be found out. The client is not to blame and may come back.
    Unavailable,
}

impl Refusal {
    /// Whether we failed, not the credential: 503 in place of 401.
    pub fn is_ours(self) -> bool {
        self == Self::Unavailable
    }

    /// The status of HTTP for a request that is refused so (RFC 9110 §15).
    pub fn status(self) -> u16 {
        match self {
            Self::Unavailable => 503,
            Self::Forbidden => 403,
            _ => 401,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the credential is malformed",
            Self::TooLarge => "the credential is too large",
            Self::WrongType => "the token is of another type",
            Self::UnknownKey => "the issuer has no such key",
            Self::WrongAlgorithm => "no key of the issuer is for this algorithm",
            Self::BadSignature => "the signature is wrong",
            Self::Expired => "the credential has expired",
            Self::NotYetValid => "the credential is not valid yet",
            Self::WrongIssuer => "the issuer is not trusted",
            Self::WrongAudience => "the token is for another audience",
            Self::NoUser => "the credential names no user",
            Self::ForeignUser => "the user's name is one of another issuer",
            Self::BadGrants => "the grants are not lists of room patterns",
            Self::NoSession => "there is no such session",
            Self::NoCredential => "there is no credential of a kind that is taken here",
            Self::NotAccepted => "the credential is not accepted",
            Self::Forbidden => "the user is not let in",
            Self::Unavailable => "the credential cannot be verified at the moment",
        })
    }
}

impl std::error::Error for Refusal {}
