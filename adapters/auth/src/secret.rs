//! Bytes that no log, metric or error text may show: tokens, keys, session ids.
//! What is secret is wrapped as soon as it is known to be, and `expose` is the one way back.

use std::fmt;

use subtle::ConstantTimeEq;

/// Secret bytes. `Debug` tells that there is a secret, and not even its length.
///
/// Comparing two takes as long for all of a length, because `==` on bytes takes longer the more of them agree.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// These bytes as they are. Whoever reads a file removes the line end.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes, to compute with or to send where they belong, never to show.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_of_the_same_bytes_alone_are_equal() {
        let equals = |one: &str, other: &str| Secret::new(one) == Secret::new(other);
        assert!(equals("", "") && equals("abc", "abc"));
        assert!(!equals("abc", "abd") && !equals("abc", "bbc") && !equals("abc", "ab") && !equals("abc", ""));
    }
}
