//! The name of a host, as it stands in a URL and in a `Host` header.

use std::fmt;
use std::str::FromStr;

/// A host's name, without a port. Letters of either case are the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName(String);

impl HostName {
    /// Whether it is this name.
    pub fn is(&self, name: &str) -> bool {
        self.0.eq_ignore_ascii_case(name)
    }

    /// Whether a text can be a host's name: labels of letters, digits, `-` and `_`, none of them empty.
    pub fn is_one(text: &str) -> bool {
        let is_of_a_label = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        // DNS has no longer ones.
        text.len() <= 253 && text.split('.').all(|label| !label.is_empty() && label.bytes().all(is_of_a_label))
    }
}

impl FromStr for HostName {
    type Err = &'static str;

    /// # Errors
    /// What is wrong, for people.
    fn from_str(text: &str) -> Result<HostName, &'static str> {
        match HostName::is_one(text) {
            true => Ok(HostName(text.to_ascii_lowercase())),
            false => Err("a host's name has letters, digits, hyphens and dots, no port and no *"),
        }
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
