//! What a key is, and the kinds of values: how each is read, shown and explained. Which keys there are is for each server to say.

use std::fmt::{Display, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

/// One configuration key: the only place where its name, default, bounds and meaning are written.
pub struct Key<C: 'static> {
    /// `name` or `section.name`, as in TOML.
    pub name: &'static str,
    /// As it would be written in a flag; empty where the default is that there is none.
    pub default: &'static str,
    /// One or two sentences for `--help`.
    pub help: &'static str,
    /// An environment variable of an older server that means the same, weaker than the key's own.
    pub environment_alias: Option<&'static str>,
    /// How values are read, shown and explained, and where in the configuration they go.
    pub kind: &'static dyn Kind<C>,
}

impl<C> Key<C> {
    /// The section's name, empty for a top-level key.
    pub fn section(&self) -> &'static str {
        self.name.split_once('.').map_or("", |(section, _)| section)
    }

    /// The name within its section.
    pub fn name_in_section(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(_, name)| name)
    }

    /// `--section-name-x`, without the dashes in front.
    pub fn flag(&self) -> String {
        self.name.replace(['.', '_'], "-")
    }

    /// What a right value looks like, with the default.
    pub fn right(&self) -> String {
        let default = if self.default.is_empty() { "none" } else { self.default };
        format!("{}; default: {default}", self.kind.right())
    }
}

/// A value as it was given, before anybody knows whether it fits its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given {
    /// From a flag or the environment, where everything is text.
    Word(String),
    /// A string of the file.
    Text(String),
    /// An integer of the file.
    Integer(i64),
    /// `true` or `false` of the file.
    Boolean(bool),
    /// An array of strings of the file.
    List(Vec<String>),
    /// Anything else, described: "a table".
    Other(String),
}

/// A kind of value.
pub trait Kind<C>: Sync {
    /// Puts the value into its place, or says why it cannot be. The reason never holds a secret.
    fn read(&self, given: &Given, config: &mut C) -> Result<(), String>;
    /// The value in force, as TOML; an empty string where there is none.
    fn show(&self, config: &C) -> toml::Value;
    /// Whether a table of an array has a value here. An empty text is none, unless the kind tells them apart.
    fn is_there(&self, config: &C) -> bool {
        self.show(config).as_str() != Some("")
    }
    /// What would be right, as a noun.
    fn right(&self) -> String;
    /// The placeholder in `--help`.
    fn value_name(&self) -> String;
    /// Whether an empty environment variable is a value; elsewhere it counts as not set, as `X=${Y:-}` leaves it.
    fn takes_empty(&self) -> bool {
        false
    }
}

/// The two ways to one field of a configuration.
pub struct Field<C: 'static, T: 'static> {
    /// To its value.
    pub get: fn(&C) -> &T,
    /// To its place.
    pub get_mut: fn(&mut C) -> &mut T,
}

/// What a number counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Things.
    Count,
    /// Time.
    Milliseconds,
}

/// A number of bytes or of things, in whichever type of integers its field has.
pub struct Number<C: 'static, T: 'static> {
    /// What it counts.
    pub unit: Unit,
    /// The bounds, both right. The upper one fits the field, and an `i64`.
    pub range: RangeInclusive<u64>,
    /// Where the value goes.
    pub field: Field<C, T>,
}

impl<C, T: Copy + TryFrom<u64> + TryInto<i64>> Kind<C> for Number<C, T> {
    fn read(&self, given: &Given, config: &mut C) -> Result<(), String> {
        let number = read_number(given, &self.range)?;
        *(self.field.get_mut)(config) =
            T::try_from(number).map_err(|_| format!("{number} is more than this machine can address"))?;
        Ok(())
    }

    fn show(&self, config: &C) -> toml::Value {
        toml::Value::Integer((*(self.field.get)(config)).try_into().unwrap_or(i64::MAX))
    }

    fn right(&self) -> String {
        number_in(self.unit, &self.range)
    }

    fn value_name(&self) -> String {
        self.unit.value_name().to_owned()
    }
}

/// A duration in whole milliseconds.
pub struct Milliseconds<C: 'static> {
    /// The bounds, both right.
    pub range: RangeInclusive<u64>,
    /// Where the value goes.
    pub field: Field<C, Duration>,
}

impl<C> Kind<C> for Milliseconds<C> {
    fn read(&self, given: &Given, config: &mut C) -> Result<(), String> {
        *(self.field.get_mut)(config) = Duration::from_millis(read_number(given, &self.range)?);
        Ok(())
    }

    fn show(&self, config: &C) -> toml::Value {
        toml::Value::Integer((self.field.get)(config).as_millis() as i64)
    }

    fn right(&self) -> String {
        number_in(Unit::Milliseconds, &self.range)
    }

    fn value_name(&self) -> String {
        Unit::Milliseconds.value_name().to_owned()
    }
}

impl Unit {
    fn value_name(self) -> &'static str {
        match self {
            Unit::Bytes => "BYTES",
            Unit::Count => "COUNT",
            Unit::Milliseconds => "MS",
        }
    }
}

fn read_number(given: &Given, range: &RangeInclusive<u64>) -> Result<u64, String> {
    let number = match given {
        // i128 holds whatever anybody may mean, so that a negative or huge number is named as such.
        Given::Word(word) => word.parse::<i128>().map_err(|_| format!("{} is not a whole number", quoted(word)))?,
        Given::Integer(integer) => i128::from(*integer),
        Given::Text(_) => return Err("it is a string; a number stands without quotes".to_owned()),
        Given::Boolean(_) => return Err("it is a boolean".to_owned()),
        Given::List(_) => return Err("it is an array".to_owned()),
        Given::Other(kind) => return Err(format!("it is {kind}")),
    };
    if number < i128::from(*range.start()) {
        return Err(format!("{number} is below the minimum"));
    }
    u64::try_from(number)
        .ok()
        .filter(|number| range.contains(number))
        .ok_or_else(|| format!("{number} is above the maximum"))
}

fn number_in(unit: Unit, range: &RangeInclusive<u64>) -> String {
    let of = match unit {
        Unit::Bytes => " of bytes",
        Unit::Count => "",
        Unit::Milliseconds => " of milliseconds",
    };
    let mut text = format!("a whole number{of} from ");
    for (index, bound) in [*range.start(), *range.end()].into_iter().enumerate() {
        let between = if index == 0 { "" } else { " to " };
        let _ = write!(text, "{between}{bound}");
        if let Some(reading) = in_words(unit, bound) {
            let _ = write!(text, " ({reading})");
        }
    }
    text
}

/// A large number in a unit that is easier to read, if it is a whole one.
fn in_words(unit: Unit, number: u64) -> Option<String> {
    let larger: &[(u64, &str)] = match unit {
        Unit::Bytes => &[(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")],
        Unit::Milliseconds => &[(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s")],
        Unit::Count => &[],
    };
    let (size, name) = larger.iter().find(|(size, _)| number >= *size && number.is_multiple_of(*size))?;
    Some(format!("{} {name}", number / size))
}

/// An address to listen on.
pub struct Address<C: 'static> {
    /// Where the value goes.
    pub field: Field<C, SocketAddr>,
}

impl<C> Kind<C> for Address<C> {
    fn read(&self, given: &Given, config: &mut C) -> Result<(), String> {
        *(self.field.get_mut)(config) = read_address(given)?;
        Ok(())
    }

    fn show(&self, config: &C) -> toml::Value {
        toml::Value::String((self.field.get)(config).to_string())
    }

    fn right(&self) -> String {
        "IP:PORT, such as 127.0.0.1:8080 (this machine only), 0.0.0.0:8080 (every network interface), or [::1]:8080"
            .to_owned()
    }

    fn value_name(&self) -> String {
        "IP:PORT".to_owned()
    }
}

/// An address to listen on, or none.
pub struct OptionalAddress<C: 'static> {
    /// Where the value goes.
    pub field: Field<C, Option<SocketAddr>>,
}

impl<C> Kind<C> for OptionalAddress<C> {
    fn read(&self, given: &Given, config: &mut C) -> Result<(), String> {
        let off = matches!(given, Given::Word(text) | Given::Text(text) if text.is_empty());
        *(self.field.get_mut)(config) = if off { None } else { Some(read_address(given)?) };
        Ok(())
    }

    fn show(&self, config: &C) -> toml::Value {
        toml::Value::String((self.field.get)(config).map(|address| address.to_string()).unwrap_or_default())
    }

    fn right(&self) -> String {
        "IP:PORT, such as 127.0.0.1:9090, or an empty text for none".to_owned()
    }

    fn value_name(&self) -> String {
        "IP:PORT".to_owned()
    }
}

fn read_address(given: &Given) -> Result<SocketAddr, String> {
    let text = read_text(given)?;
    text.parse().map_err(|_| format!("{} {}", quoted(text), why_no_address(text)))
}

fn why_no_address(text: &str) -> String {
    let is_number = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let v6 = |text: &str| text.trim_start_matches('[').trim_end_matches(']').parse::<Ipv6Addr>().ok();
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    if text.parse::<Ipv4Addr>().is_ok() {
        return format!("has no port: {text}:8080");
    }
    if text.ends_with(']')
        && let Some(address) = v6(text)
    {
        return format!("has no port: [{address}]:8080");
    }
    if !is_number(port) {
        return match v6(text) {
            Some(address) => format!("has no brackets and no port: [{address}]:8080"),
            None => "is not an IP address and a port".to_owned(),
        };
    }
    if port.parse::<u16>().is_err() {
        return format!("has the port {port}, and ports end at 65535");
    }
    if !text.contains(':') {
        format!(
            "is a port alone, without an IP address: 127.0.0.1:{port} (this machine only) or 0.0.0.0:{port} (every network interface)"
        )
    } else if host.is_empty() {
        format!(
            "has no IP address before the colon: 127.0.0.1:{port} (this machine only) or 0.0.0.0:{port} (every network interface)"
        )
    } else if let Some(address) = v6(host) {
        format!("has an IPv6 address without its brackets: [{address}]:{port}")
    } else if host == "localhost" {
        format!("does not begin with an IP address (names are not looked up): 127.0.0.1:{port}")
    } else {
        "does not begin with an IP address (names are not looked up)".to_owned()
    }
}

/// Free text of bounded length, which may be empty.
pub struct Text<C: 'static> {
    /// The longest text.
    pub bytes_max: usize,
    /// Where the value goes.
    pub field: Field<C, String>,
}

impl<C> Kind<C> for Text<C> {
    fn read(&self, given: &Given, config: &mut C) -> Result<(), String> {
        let text = read_text(given)?;
        if text.len() > self.bytes_max {
            return Err(format!("it is {} bytes long", text.len()));
        }
        text.clone_into((self.field.get_mut)(config));
        Ok(())
    }

    fn show(&self, config: &C) -> toml::Value {
        toml::Value::String((self.field.get)(config).clone())
    }

    fn right(&self) -> String {
        format!("text of at most {} bytes, also empty", self.bytes_max)
    }

    fn value_name(&self) -> String {
        "TEXT".to_owned()
    }

    fn takes_empty(&self) -> bool {
        true
    }
}

/// One of a few words.
pub struct Choice<C: 'static, T: 'static> {
    /// The words, and what they mean.
    pub choices: &'static [(&'static str, T)],
    /// Where the value goes.
    pub field: Field<C, T>,
}

impl<C, T: Copy + PartialEq + Sync> Kind<C> for Choice<C, T> {
    fn read(&self, given: &Given, config: &mut C) -> Result<(), String> {
        let word = read_text(given)?;
        let chosen = self.choices.iter().find(|(name, _)| *name == word);
        let (_, value) = chosen.ok_or_else(|| format!("{} is not one of the choices", quoted(word)))?;
        *(self.field.get_mut)(config) = *value;
        Ok(())
    }

    fn show(&self, config: &C) -> toml::Value {
        let value = (self.field.get)(config);
        let name = self.choices.iter().find(|(_, choice)| choice == value).map(|(name, _)| *name);
        toml::Value::String(name.expect("every value of the type is among the choices").to_owned())
    }

    fn right(&self) -> String {
        let names = self.names();
        let (last, others) = names.split_last().expect("a choice has choices");
        format!("{} or {last}", others.join(", "))
    }

    fn value_name(&self) -> String {
        self.names().join("|")
    }
}

impl<C, T> Choice<C, T> {
    fn names(&self) -> Vec<&'static str> {
        self.choices.iter().map(|(name, _)| *name).collect()
    }
}

/// Any number of things, which have no commas in them.
pub struct List<C: 'static, T: 'static> {
    /// The placeholder in `--help`.
    pub value_name: &'static str,
    /// What would be right, as a noun.
    pub right: &'static str,
    /// Where the value goes.
    pub field: Field<C, Vec<T>>,
}

impl<C, T: FromStr<Err = &'static str> + Display> Kind<C> for List<C, T> {
    fn read(&self, given: &Given, config: &mut C) -> Result<(), String> {
        *(self.field.get_mut)(config) = read_items(&items(given)?)?;
        Ok(())
    }

    fn show(&self, config: &C) -> toml::Value {
        let items = (self.field.get)(config).iter();
        toml::Value::Array(items.map(|item| toml::Value::String(item.to_string())).collect())
    }

    fn right(&self) -> String {
        self.right.to_owned()
    }

    fn value_name(&self) -> String {
        self.value_name.to_owned()
    }
}

/// The items of an array, or of a text with commas.
///
/// # Errors
/// If it is neither.
pub fn items(given: &Given) -> Result<Vec<&str>, String> {
    Ok(match given {
        Given::List(items) => items.iter().map(|item| item.trim()).collect(),
        _ => match read_text(given)?.trim() {
            "" => Vec::new(),
            text => text.split(',').map(str::trim).collect(),
        },
    })
}

/// What each item means.
///
/// # Errors
/// What is wrong with the first that is wrong.
pub fn read_items<T: FromStr<Err = &'static str>>(items: &[&str]) -> Result<Vec<T>, String> {
    let read = |item: &&str| item.parse().map_err(|why| format!("{}: {why}", quoted_item(item)));
    items.iter().map(read).collect()
}

/// An item in quotes. A URL is shown as well, unless what it has before an @ may be a password.
fn quoted_item(item: &str) -> String {
    if item.contains('@') { quoted(item) } else { format!("{:?}", item.trim()) }
}

/// A text, wherever it comes from.
///
/// # Errors
/// If it is something else.
pub fn read_text(given: &Given) -> Result<&str, String> {
    match given {
        Given::Word(text) | Given::Text(text) => Ok(text),
        Given::Integer(_) => Err("it is a number; a text stands in quotes".to_owned()),
        Given::Boolean(_) => Err("it is a boolean".to_owned()),
        Given::List(_) => Err("it is an array".to_owned()),
        Given::Other(kind) => Err(format!("it is {kind}")),
    }
}

/// The text in quotes; but a URL where none belongs may hold a password.
pub fn quoted(text: &str) -> String {
    if text.contains("://") { "a URL".to_owned() } else { format!("{text:?}") }
}
