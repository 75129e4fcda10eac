//! The kinds of values that only Fanfare has: origins, and the URL of a Redis.

use fanfare_core::Origins;
use fanfare_shell::config::{Given, Kind, items, read_items, read_text};

use super::{Config, RedisTarget};

/// The two ways to one field of [`Config`].
macro_rules! field {
    ($($path:ident).+) => {
        crate::config::kinds::Field { get: |config| &config.$($path).+, get_mut: |config| &mut config.$($path).+ }
    };
}
pub(crate) use field;

pub(crate) const KIB: u64 = 1 << 10;
pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const GIB: u64 = 1 << 30;
pub(crate) const TIB: u64 = 1 << 40;
/// Times beyond an hour are mistakes of unit here: each guards against somebody who has gone away.
pub(crate) const HOUR_MS: u64 = 3_600_000;
pub(crate) const DAY_MS: u64 = 24 * HOUR_MS;

/// A field of [`Config`].
pub(crate) type Field<T> = fanfare_shell::config::Field<Config, T>;

/// The pages that may connect.
pub(crate) struct OriginList {
    pub(crate) field: Field<Origins>,
}

impl Kind<Config> for OriginList {
    fn read(&self, given: &Given, config: &mut Config) -> Result<(), String> {
        let items = items(given)?;
        *(self.field.get_mut)(config) = match items[..] {
            [] => Origins::SameHost,
            ["*"] => Origins::Any,
            _ if items.contains(&"*") => return Err("* is every page, and stands alone".to_owned()),
            _ => Origins::List(read_items(&items)?),
        };
        Ok(())
    }

    fn show(&self, config: &Config) -> toml::Value {
        let items = match (self.field.get)(config) {
            Origins::SameHost => Vec::new(),
            Origins::Any => vec!["*".to_owned()],
            Origins::List(origins) => origins.iter().map(ToString::to_string).collect(),
        };
        toml::Value::Array(items.into_iter().map(toml::Value::String).collect())
    }

    fn right(&self) -> String {
        "origins such as https://example.com or https://*.example.com:8443, separated by commas (in the file an array of texts), \
         or * for any page, or an empty text for those of the same host and port"
            .to_owned()
    }

    fn value_name(&self) -> String {
        "ORIGINS".to_owned()
    }
}

/// The URL of a Redis, or none.
pub(crate) struct RedisUrl {
    /// What holds without one.
    pub(crate) none: &'static str,
    pub(crate) field: Field<Option<RedisTarget>>,
}

impl Kind<Config> for RedisUrl {
    fn read(&self, given: &Given, config: &mut Config) -> Result<(), String> {
        let text = read_text(given)?;
        let target = if text.is_empty() { None } else { Some(text.parse().map_err(|error| format!("{error}"))?) };
        *(self.field.get_mut)(config) = target;
        Ok(())
    }

    fn show(&self, config: &Config) -> toml::Value {
        toml::Value::String((self.field.get)(config).as_ref().map(RedisTarget::to_string).unwrap_or_default())
    }

    fn right(&self) -> String {
        let none = self.none;
        format!(
            "redis://[[USER]:PASSWORD@]HOST[:PORT][/DB], or redis-sentinel://[[USER]:PASSWORD@]HOST[:PORT],.../MASTER[/DB], or \
             redis-cluster://[[USER]:PASSWORD@]HOST[:PORT],..., or any of them with rediss in front for TLS, or unix:///PATH[?db=N&user=USER&pass=PASSWORD], or an empty text for {none}"
        )
    }

    fn value_name(&self) -> String {
        "URL".to_owned()
    }
}
