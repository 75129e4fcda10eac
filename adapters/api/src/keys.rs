//! Who may ask what: keys, from a file.

use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::fmt;
use std::path::Path;
use subtle::ConstantTimeEq;

/// A key is no password: it is drawn, and long enough that nobody guesses it.
const KEY_BYTES_MIN: usize = 32;

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Right {
    /// Send messages.
    Publish,
    /// Read what rooms keep.
    History,
    /// Remove what rooms keep.
    Remove,
    /// Ask who is in rooms.
    Presence,
    /// List connections, end them, take them out of rooms, and ban.
    Connections,
    /// Ask about the cluster and its rooms.
    Cluster,
    /// Have instances let connections go, and stop.
    Operate,
}

impl Right {
    /// As it stands in the file.
    pub fn name(self) -> &'static str {
        match self {
            Right::Publish => "publish",
            Right::History => "history",
            Right::Remove => "remove",
            Right::Presence => "presence",
            Right::Connections => "connections",
            Right::Cluster => "cluster",
            Right::Operate => "operate",
        }
    }
}

/// All keys.
#[derive(Debug)]
pub struct Keys(Vec<Key>);

/// A key, by its digest: comparing two digests tells nothing about the keys.
struct Key {
    name: String,
    digest: [u8; 32],
    rights: Vec<Right>,
}

impl fmt::Debug for Key {
    /// Without what is secret.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Key").field("name", &self.name).field("rights", &self.rights).finish_non_exhaustive()
    }
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub name: String,
    rights: Vec<Right>,
}

impl Caller {
    pub fn may(&self, right: Right) -> bool {
        self.rights.contains(&right)
    }
}

/// What is wrong with the file of keys.
#[derive(Debug)]
pub struct KeysError(String);

impl fmt::Display for KeysError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for KeysError {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    keys: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    key: String,
    rights: Vec<Right>,
}

impl Keys {
    /// Reads them from a file of TOML: a table `[[keys]]` for each, with `name`, `key` and `rights`.
    ///
    /// # Errors
    /// The file cannot be read, or something in it is wrong. What is secret is not told.
    pub fn read(path: &Path) -> Result<Keys, KeysError> {
        let wrong = |what: &dyn fmt::Display| KeysError(format!("{}: {what}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
        // The parser's own message shows the line, in which a key may stand.
        let file: File = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
            wrong(&format!("line {line}: {}", error.message()))
        })?;
        Keys::of(file.keys).map_err(|what| wrong(&what))
    }

    fn of(entries: Vec<Entry>) -> Result<Keys, String> {
        if entries.is_empty() {
            return Err("there is no [[keys]] in it, so nobody could ask".to_owned());
        }
        let mut keys: Vec<Key> = Vec::new();
        for Entry { name, key, rights } in entries {
            if key.len() < KEY_BYTES_MIN {
                return Err(format!(
                    "the key named {name:?} has fewer than {KEY_BYTES_MIN} bytes: `openssl rand -hex 32` draws one"
                ));
            }
            let key = Key { name, digest: Sha256::digest(key.as_bytes()).into(), rights };
            if let Some(other) = keys.iter().find(|other| other.name == key.name || other.digest == key.digest) {
                return Err(format!("{:?} and {:?} have the same name or the same key", other.name, key.name));
            }
            keys.push(key);
        }
        Ok(Keys(keys))
    }

    /// Whose key this is. It takes as long whichever it is, and however much of it is right.
    pub(crate) fn caller(&self, shown: &[u8]) -> Option<Caller> {
        let digest: [u8; 32] = Sha256::digest(shown).into();
        let mut found = None;
        for key in &self.0 {
            if bool::from(key.digest.ct_eq(&digest)) {
                found = Some(key);
            }
        }
        found.map(|key| Caller { name: key.name.clone(), rights: key.rights.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    fn entry(name: &str, key: &str, rights: &[Right]) -> Entry {
        Entry { name: name.to_owned(), key: key.to_owned(), rights: rights.to_vec() }
    }

    #[test]
    fn a_key_is_known_whole_and_has_its_own_rights() {
        let other = KEY.replace('0', "z");
        let keys = Keys::of(vec![entry("a", KEY, &[Right::Publish]), entry("b", &other, &[Right::History])]).unwrap();
        let caller = keys.caller(KEY.as_bytes()).unwrap();
        assert_eq!((&*caller.name, caller.may(Right::Publish), caller.may(Right::History)), ("a", true, false));
        assert_eq!(keys.caller(other.as_bytes()).unwrap().name, "b");
        for wrong in ["", &KEY[1..], &format!("{KEY}0")] {
            assert_eq!(keys.caller(wrong.as_bytes()), None, "{wrong}");
        }
        assert!(!format!("{keys:?}").contains(KEY));
    }

    #[test]
    fn what_is_wrong_is_told_without_what_is_secret() {
        let wrong = |entries: Vec<Entry>| Keys::of(entries).unwrap_err();
        assert!(wrong(vec![]).contains("[[keys]]"));
        assert!(wrong(vec![entry("a", "short", &[])]).contains("openssl"));
        assert!(wrong(vec![entry("a", KEY, &[]), entry("b", KEY, &[])]).contains("the same key"));
        assert!(wrong(vec![entry("a", KEY, &[]), entry("a", &KEY.replace('0', "z"), &[])]).contains("the same name"));
        let path = std::env::temp_dir().join(format!("fanfare-keys-{}", std::process::id()));
        std::fs::write(&path, format!("[[keys]]\nname = \"a\"\nkey = \"{KEY}\"\nrights = [\"all\"]\n")).unwrap();
        let error = Keys::read(&path).unwrap_err().to_string();
        std::fs::remove_file(&path).unwrap();
        assert!(error.contains("line 4") && error.contains("publish") && !error.contains(KEY), "{error}");
    }
}
