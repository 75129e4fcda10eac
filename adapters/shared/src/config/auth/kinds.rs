//! The kinds of values that only authentication has: secrets, files, URLs that are fetched, names in a request. None shows a secret.

use fanfare_auth::{Key, RemoteKeys, Secret};
use fanfare_shell::config::{Field, Given, Kind, items, read_text};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// What `check-config` prints in place of a secret.
const MASK: &str = "***";
const IS_MASK: &str = "it is ***, which check-config prints in place of the real one";

/// A secret that signs tokens, or none.
pub(crate) struct AuthSecret<C: 'static> {
    pub(crate) field: Field<C, Option<Secret>>,
}

impl<C> Kind<C> for AuthSecret<C> {
    fn read(&self, given: &Given, config: &mut C) -> Result<(), String> {
        let secret = match read_text(given)? {
            "" => None,
            MASK => return Err(IS_MASK.to_owned()),
            text => Some(Secret::new(text)),
        };
        if let Some(secret) = &secret {
            Key::secret(secret).map_err(|why| why.to_string())?;
        }
        *(self.field.get_mut)(config) = secret;
        Ok(())
    }

    fn show(&self, config: &C) -> toml::Value {
        toml::Value::String(if (self.field.get)(config).is_some() { MASK } else { "" }.to_owned())
    }

    fn right(&self) -> String {
        "a text of at least 32 bytes that nobody can guess, or an empty text for none".to_owned()
    }

    fn value_name(&self) -> String {
        "SECRET".to_owned()
    }
}

/// Any other secret, or none.
pub(crate) struct SecretText<C: 'static> {
    pub(crate) right: &'static str,
    pub(crate) field: Field<C, Option<Secret>>,
}

impl<C> Kind<C> for SecretText<C> {
    fn read(&self, given: &Given, config: &mut C) -> Result<(), String> {
        *(self.field.get_mut)(config) = match read_text(given)? {
            "" => None,
            MASK => return Err(IS_MASK.to_owned()),
            text => Some(Secret::new(text)),
        };
        Ok(())
    }

    fn show(&self, config: &C) -> toml::Value {
        toml::Value::String(if (self.field.get)(config).is_some() { MASK } else { "" }.to_owned())
    }

    fn right(&self) -> String {
        format!("{}, or an empty text for none", self.right)
    }

    fn value_name(&self) -> String {
        "SECRET".to_owned()
    }
}

/// The secrets that sign cookies, one a line. The application chose them, so they may be short.
pub(crate) struct SessionSecrets<C: 'static> {
    pub(crate) field: Field<C, Vec<Secret>>,
}

impl<C> Kind<C> for SessionSecrets<C> {
    fn read(&self, given: &Given, config: &mut C) -> Result<(), String> {
        let text = read_text(given)?;
        if text.trim() == MASK {
            return Err(IS_MASK.to_owned());
        }
        *(self.field.get_mut)(config) = lines(text.as_bytes());
        Ok(())
    }

    fn show(&self, config: &C) -> toml::Value {
        toml::Value::String(if (self.field.get)(config).is_empty() { "" } else { MASK }.to_owned())
    }

    fn right(&self) -> String {
        "the secret of express-session, or several, one a line, or an empty text for none".to_owned()
    }

    fn value_name(&self) -> String {
        "SECRET".to_owned()
    }
}

/// Secrets, one a line.
pub(super) fn lines(text: &[u8]) -> Vec<Secret> {
    let lines = text.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    lines.filter(|line| !line.is_empty()).map(Secret::new).collect()
}

/// Longer ones leave too little of a user's name.
const PREFIX_BYTES_MAX: usize = 64;

/// What stands before the names of an issuer's users. An empty one that is written down is not the same as none.
pub(crate) struct UserPrefix<C: 'static> {
    pub(crate) field: Field<C, Option<String>>,
}

impl<C> Kind<C> for UserPrefix<C> {
    fn read(&self, given: &Given, config: &mut C) -> Result<(), String> {
        let text = read_text(given)?;
        if text.len() > PREFIX_BYTES_MAX || text.chars().any(char::is_control) {
            return Err(format!("it has more than {PREFIX_BYTES_MAX} bytes, or control characters"));
        }
        *(self.field.get_mut)(config) = Some(text.to_owned());
        Ok(())
    }

    fn show(&self, config: &C) -> toml::Value {
        toml::Value::String((self.field.get)(config).clone().unwrap_or_default())
    }

    fn is_there(&self, config: &C) -> bool {
        (self.field.get)(config).is_some()
    }

    fn right(&self) -> String {
        "a text such as partner: that no name of other places begins with, or an empty text for an issuer that may be any of their users"
            .to_owned()
    }

    fn value_name(&self) -> String {
        "TEXT".to_owned()
    }

    fn takes_empty(&self) -> bool {
        true
    }
}

/// The path of a file, or none.
pub(crate) struct OptionalPath<C: 'static> {
    pub(crate) right: &'static str,
    pub(crate) field: Field<C, Option<PathBuf>>,
}

impl<C> Kind<C> for OptionalPath<C> {
    fn read(&self, given: &Given, config: &mut C) -> Result<(), String> {
        let text = read_text(given)?;
        *(self.field.get_mut)(config) = if text.is_empty() { None } else { Some(text.parse::<FilePath>()?.0) };
        Ok(())
    }

    fn show(&self, config: &C) -> toml::Value {
        let path = (self.field.get)(config).as_ref();
        toml::Value::String(path.map(|path| path.display().to_string()).unwrap_or_default())
    }

    fn right(&self) -> String {
        format!("the path of {}, or an empty text for none", self.right)
    }

    fn value_name(&self) -> String {
        "PATH".to_owned()
    }
}

/// The path of a file in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePath(PathBuf);

impl FilePath {
    /// The path.
    pub fn path(&self) -> &std::path::Path {
        &self.0
    }
}

impl FromStr for FilePath {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<FilePath, &'static str> {
        if text.is_empty() || text.contains("-----") || text.chars().any(char::is_control) {
            return Err("it is the path of no file");
        }
        Ok(FilePath(PathBuf::from(text)))
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

/// Paths of files with keys. None is repeated that is no path, because it may be a key.
pub(crate) struct PathList<C: 'static> {
    pub(crate) right: &'static str,
    pub(crate) field: Field<C, Vec<FilePath>>,
}

impl<C> Kind<C> for PathList<C> {
    fn read(&self, given: &Given, config: &mut C) -> Result<(), String> {
        let paths: Result<_, &str> = items(given)?.into_iter().map(str::parse).collect();
        *(self.field.get_mut)(config) = paths?;
        Ok(())
    }

    fn show(&self, config: &C) -> toml::Value {
        let paths = (self.field.get)(config).iter();
        toml::Value::Array(paths.map(|path| toml::Value::String(path.to_string())).collect())
    }

    fn right(&self) -> String {
        self.right.to_owned()
    }

    fn value_name(&self) -> String {
        "PATHS".to_owned()
    }
}

/// A URL that is fetched. `Debug` and `Display` show no query, which may hold a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Url(String);

impl Url {
    /// All of it, for fetching.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.split_once('?') {
            Some((before, _)) => write!(f, "{before}?{MASK}"),
            None => f.write_str(&self.0),
        }
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A URL that is fetched, or none.
pub(crate) struct WebUrl<C: 'static> {
    /// Whether `http` is right for this machine alone, whatever other keys say.
    pub(crate) is_private: bool,
    pub(crate) field: Field<C, Option<Url>>,
}

impl<C> Kind<C> for WebUrl<C> {
    fn read(&self, given: &Given, config: &mut C) -> Result<(), String> {
        let url = match read_text(given)? {
            "" => None,
            text if text.ends_with("?***") => {
                return Err("its query is ***, which check-config prints in place of the real one".to_owned());
            }
            text => Some(Url(text.to_owned())),
        };
        if let Some(url) = url.as_ref().filter(|_| self.is_private) {
            RemoteKeys::new(&url.0).map_err(|why| why.to_string())?;
        }
        *(self.field.get_mut)(config) = url;
        Ok(())
    }

    fn show(&self, config: &C) -> toml::Value {
        toml::Value::String((self.field.get)(config).as_ref().map(Url::to_string).unwrap_or_default())
    }

    fn right(&self) -> String {
        "an https URL (http for this machine alone) without user and password, or an empty text for none".to_owned()
    }

    fn value_name(&self) -> String {
        "URL".to_owned()
    }
}

/// The name of something in a request, or none.
pub(crate) struct Name<C: 'static> {
    pub(crate) right: &'static str,
    pub(crate) field: Field<C, Option<Box<str>>>,
}

impl<C> Kind<C> for Name<C> {
    fn read(&self, given: &Given, config: &mut C) -> Result<(), String> {
        let text = read_text(given)?;
        // The characters of a token (RFC 9110 §5.6.2) that stand for themselves in a query as well.
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$'*".contains(&byte);
        if !text.bytes().all(is_name) {
            return Err("it has other characters than letters, digits and -._~".to_owned());
        }
        *(self.field.get_mut)(config) = if text.is_empty() { None } else { Some(text.into()) };
        Ok(())
    }

    fn show(&self, config: &C) -> toml::Value {
        toml::Value::String((self.field.get)(config).as_deref().unwrap_or_default().to_owned())
    }

    fn right(&self) -> String {
        format!("{}, or an empty text for none", self.right)
    }

    fn value_name(&self) -> String {
        "NAME".to_owned()
    }

    fn takes_empty(&self) -> bool {
        true
    }
}
