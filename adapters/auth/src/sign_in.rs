//! How to sign in at a Redis or a Sentinel. A password in a file is read again for each connection, because secrets are rotated while
//! servers run.

use std::path::PathBuf;

use crate::file::{read_file, shown, without_line_end};
use crate::secret::Secret;

/// A user and a password, or none. Its `Debug` form shows no password.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SignIn {
    /// The ACL user; none means Redis's `default`.
    pub username: Option<String>,
    /// The password. Without one, and without a file, nobody signs in.
    pub password: Option<Secret>,
    /// A file that holds the password alone, in place of the other.
    pub password_file: Option<PathBuf>,
}

impl SignIn {
    /// The password as it is now, which is UTF-8. The error names the file, and nothing of what it holds.
    pub fn password(&self) -> Result<Option<Secret>, String> {
        let Some(path) = &self.password_file else { return Ok(self.password.clone()) };
        let bytes = read_file(path)?;
        let password = without_line_end(&bytes);
        if password.is_empty() {
            return Err(format!("{} holds no password", shown(path)));
        }
        if str::from_utf8(password).is_err() {
            return Err(format!("{} is no UTF-8", shown(path)));
        }
        Ok(Some(Secret::new(password)))
    }
}
