//! The URL that says where Redis is and how to sign in. No error and no `Debug` form shows any part of a password.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::str::FromStr;

use fanfare_auth::Secret;
use fanfare_core::broker::redis::{Address, ClusterPubSub, Topology};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// `sun_path` of a Unix socket address holds 108 bytes on Linux and 104 on the BSDs, its closing NUL included.
const SOCKET_PATH_BYTES_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// There is a connection to each of them. Five are many.
const SENTINELS_MAX: usize = 16;

/// They are asked one after the other, of which the rest of the Cluster is learned.
const CLUSTER_NODES_MAX: usize = 64;

/// What `check-config` prints in place of a password.
const PASSWORD_MASK: &str = "***";

/// What is percent-encoded when a user is printed: everything but the unreserved characters of RFC 3986 §2.3.
const USER_ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The same for a path, where the slash stands for itself.
const PATH_ENCODED: &AsciiSet = &USER_ENCODED.remove(b'/');

/// Where Redis is and how to sign in, from `redis.url`.
///
/// `Display` gives the URL back with `***` in place of the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisTarget {
    /// Where it is.
    pub topology: Topology,
    /// Whether TLS is spoken there.
    pub tls: bool,
    /// The ACL user; `None` means Redis' own default user.
    pub username: Option<String>,
    /// The password; `None` means that nobody signs in.
    pub password: Option<Password>,
    /// The database to select.
    pub database: u32,
}

/// A password, which only [`Password::expose`] shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// The password itself, for signing in.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PASSWORD_MASK)
    }
}

/// Why a text is not the URL of a Redis. Without any part of the text, for it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RedisUrlError {
    /// It does not start with a scheme.
    NoScheme,
    /// It names Sentinels and no master.
    NoMaster,
    /// What Sentinels call a group of servers holds a character that no such name may.
    BadMaster,
    /// It names more Sentinels than anybody has.
    ManySentinels,
    /// It names more nodes of a Cluster than are needed to find the others.
    ManyNodes,
    /// It names a database of a Cluster.
    ClusterDatabase,
    /// It names several hosts.
    SeveralHosts,
    /// Its scheme is none of those known here.
    UnknownScheme,
    /// It has no host.
    NoHost,
    /// The host is neither a name nor an address.
    BadHost,
    /// The port is not a number from 1 to 65535.
    BadPort,
    /// What stands after the slash is not the number of a database.
    BadDatabase,
    /// A `%` is not followed by two hexadecimal digits, or what is encoded is not UTF-8.
    BadEscape,
    /// A user without a password.
    UserWithoutPassword,
    /// The password is the mask that `check-config` prints.
    MaskedPassword,
    /// A `?` in a `redis://` URL.
    Query,
    /// A `#`.
    Fragment,
    /// A `unix:` URL without a path.
    NoPath,
    /// A `unix:` URL that names a host or a user before its path.
    UnixHost,
    /// The path is longer than a Unix socket's path can be.
    LongPath,
    /// A parameter of a `unix:` URL is unknown or has no value.
    UnknownParameter,
}

impl fmt::Display for RedisUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoScheme => "the URL does not start with redis://, rediss://, redis-sentinel://, redis-cluster:// or unix://",
            Self::NoMaster => {
                "the URL names Sentinels and no master: what they call it follows their addresses, as in \
                 redis-sentinel://HOST:26379/mymaster"
            }
            Self::BadMaster => "the master's name in the URL holds other characters than letters, digits and . - _",
            Self::ManySentinels => "the URL names more than 16 Sentinels",
            Self::ManyNodes => "the URL names more than 64 nodes; a few are enough to find the others",
            Self::ClusterDatabase => {
                "the URL names a database, and a Cluster has none but 0 (in user and password, / is written as %2F)"
            }
            Self::SeveralHosts => {
                "a redis:// URL names one host, and this names several; for Sentinels use redis-sentinel://, and for a Cluster \
                 redis-cluster:// (in user and password, a comma is written as %2C)"
            }
            Self::UnknownScheme => {
                "the URL's scheme is none of redis://, rediss://, redis-sentinel://, rediss-sentinel://, redis-cluster://, rediss-cluster://, \
                 valkey://, valkeys:// and unix://"
            }
            Self::NoHost => "the URL has no host",
            Self::BadHost => {
                "the URL's host is neither a name nor an address (an IPv6 address stands in [brackets]; in user and \
                 password, characters like / ? # @ are written as %2F %3F %23 %40)"
            }
            Self::BadPort => {
                "the URL's port is not a number from 1 to 65535 (in user and password, characters like / ? # @ are \
                 written as %2F %3F %23 %40)"
            }
            Self::BadDatabase => {
                "the URL's database is not a number (in user and password, characters like / ? # @ are written as \
                 %2F %3F %23 %40)"
            }
            Self::BadEscape => {
                "the URL holds a % that does not begin a valid percent-encoding (a literal % is written as %25)"
            }
            Self::UserWithoutPassword => "the URL names a user but no password (a password alone follows a colon; beside redis.password_file, the user is \
                 redis.username)",
            Self::MaskedPassword => "the password is ***, which check-config prints in place of the real one",
            Self::Query => "a redis:// URL takes no parameters (a ? in user or password is written as %3F)",
            Self::Fragment => "the URL holds a # (in user or password it is written as %23)",
            Self::NoPath => "the URL has no path to a Unix socket",
            Self::UnixHost => "a unix:// URL has no host; three slashes begin the path",
            Self::LongPath => "the path is longer than the system allows for a Unix socket",
            Self::UnknownParameter => {
                "the URL holds a parameter without a value, or another one than db, user and pass"
            }
        })
    }
}

impl std::error::Error for RedisUrlError {}

impl FromStr for RedisTarget {
    type Err = RedisUrlError;

    fn from_str(url: &str) -> Result<RedisTarget, RedisUrlError> {
        let (scheme, rest) = url.split_once(':').ok_or(RedisUrlError::NoScheme)?;
        let target = match scheme.to_ascii_lowercase().as_str() {
            "redis" | "valkey" => tcp(rest.strip_prefix("//").ok_or(RedisUrlError::NoScheme)?)?,
            "rediss" | "valkeys" | "redis+tls" | "redis+ssl" => {
                RedisTarget { tls: true, ..tcp(rest.strip_prefix("//").ok_or(RedisUrlError::NoScheme)?)? }
            }
            "unix" | "redis+unix" | "redis+socket" | "redis-socket" | "valkey+unix" => unix(rest)?,
            "redis-sentinel" | "redis+sentinel" | "sentinel" => {
                sentinel(rest.strip_prefix("//").ok_or(RedisUrlError::NoScheme)?)?
            }
            "rediss-sentinel" | "rediss+sentinel" => {
                RedisTarget { tls: true, ..sentinel(rest.strip_prefix("//").ok_or(RedisUrlError::NoScheme)?)? }
            }
            "redis-cluster" | "redis+cluster" => cluster(rest.strip_prefix("//").ok_or(RedisUrlError::NoScheme)?)?,
            "rediss-cluster" | "rediss+cluster" => {
                RedisTarget { tls: true, ..cluster(rest.strip_prefix("//").ok_or(RedisUrlError::NoScheme)?)? }
            }
            _ if rest.starts_with("//") => return Err(RedisUrlError::UnknownScheme),
            _ => return Err(RedisUrlError::NoScheme),
        };
        if target.username.is_some() && target.password.is_none() {
            return Err(RedisUrlError::UserWithoutPassword);
        }
        if target.password.as_ref().is_some_and(|password| password.0 == PASSWORD_MASK) {
            return Err(RedisUrlError::MaskedPassword);
        }
        Ok(target)
    }
}

/// What stands in front of the path: who signs in, and where.
struct Authority<'a> {
    username: Option<String>,
    password: Option<Password>,
    hosts: &'a str,
}

/// Parts `[user[:password]@]hosts[/path]`.
fn authority(rest: &str) -> Result<(Authority<'_>, &str), RedisUrlError> {
    if rest.contains('#') {
        return Err(RedisUrlError::Fragment);
    }
    if rest.contains('?') {
        return Err(RedisUrlError::Query);
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    // The last `@` ends the user part, as in the URL standard, so that a bare `@` in a password does no harm.
    let (user_part, hosts) = match authority.rsplit_once('@') {
        Some((user_part, host_part)) => (Some(user_part), host_part),
        None => (None, authority),
    };
    let (username, password) = match user_part {
        Some(user_part) => {
            let (user, password) = user_part.split_once(':').unwrap_or((user_part, ""));
            (not_empty(decode(user)?), not_empty(decode(password)?).map(Password))
        }
        None => (None, None),
    };
    Ok((Authority { username, password, hosts }, path))
}

/// `[user[:password]@]host[:port][/db]`.
fn tcp(rest: &str) -> Result<RedisTarget, RedisUrlError> {
    let (Authority { username, password, hosts }, path) = authority(rest)?;
    if hosts.contains(',') {
        return Err(RedisUrlError::SeveralHosts);
    }
    let topology = Topology::Single(host_and_port(hosts, Address::PORT_DEFAULT)?);
    Ok(RedisTarget { topology, tls: false, username, password, database: optional_database(path)? })
}

/// `[user[:password]@]host[:port][,host[:port]]…/master[/db]`; user and password are those of Redis.
fn sentinel(rest: &str) -> Result<RedisTarget, RedisUrlError> {
    let (Authority { username, password, hosts }, path) = authority(rest)?;
    let sentinels: Vec<Address> =
        hosts.split(',').map(|host| host_and_port(host, Topology::SENTINEL_PORT_DEFAULT)).collect::<Result<_, _>>()?;
    if sentinels.len() > SENTINELS_MAX {
        return Err(RedisUrlError::ManySentinels);
    }
    let (master, path) = path.split_once('/').unwrap_or((path, ""));
    if master.is_empty() {
        return Err(RedisUrlError::NoMaster);
    }
    // What Sentinel takes for a name.
    if !master.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte)) {
        return Err(RedisUrlError::BadMaster);
    }
    let topology = Topology::Sentinel { sentinels, master: master.to_owned() };
    Ok(RedisTarget { topology, tls: false, username, password, database: optional_database(path)? })
}

/// `[user[:password]@]host[:port][,host[:port]]…[/]`. How rooms are parted there is configured elsewhere.
fn cluster(rest: &str) -> Result<RedisTarget, RedisUrlError> {
    let (Authority { username, password, hosts }, path) = authority(rest)?;
    let nodes: Vec<Address> =
        hosts.split(',').map(|host| host_and_port(host, Address::PORT_DEFAULT)).collect::<Result<_, _>>()?;
    if nodes.len() > CLUSTER_NODES_MAX {
        return Err(RedisUrlError::ManyNodes);
    }
    if optional_database(path)? != 0 {
        return Err(RedisUrlError::ClusterDatabase);
    }
    let (partitions, pubsub) = (Topology::PARTITIONS_DEFAULT, ClusterPubSub::default());
    let topology = Topology::Cluster { nodes, partitions, pubsub };
    Ok(RedisTarget { topology, tls: false, username, password, database: 0 })
}

fn host_and_port(text: &str, port_default: u16) -> Result<Address, RedisUrlError> {
    let (host, port) = match text.strip_prefix('[') {
        Some(bracketed) => {
            let (host, port) = bracketed.split_once(']').ok_or(RedisUrlError::BadHost)?;
            host.parse::<Ipv6Addr>().map_err(|_| RedisUrlError::BadHost)?;
            (host, port)
        }
        None => {
            let (host, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            if host.is_empty() {
                return Err(RedisUrlError::NoHost);
            }
            // An underscore is in no host name of the standard, but in many of Docker's.
            if !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte)) {
                return Err(RedisUrlError::BadHost);
            }
            (host, port)
        }
    };
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => port_default,
        None => return Err(RedisUrlError::BadHost),
        Some("") => port_default,
        Some(digits) => number(digits).and_then(|port| u16::try_from(port).ok()).ok_or(RedisUrlError::BadPort)?,
    };
    if port == 0 {
        return Err(RedisUrlError::BadPort);
    }
    Ok(Address::Tcp { host: host.to_owned(), port })
}

/// `//` and a path, or a path alone; then `?db=N&user=U&pass=P`.
fn unix(rest: &str) -> Result<RedisTarget, RedisUrlError> {
    if rest.contains('#') {
        return Err(RedisUrlError::Fragment);
    }
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let path = match path.strip_prefix("//") {
        Some(path) if !path.is_empty() && !path.starts_with('/') => return Err(RedisUrlError::UnixHost),
        Some(path) => path,
        None => path,
    };
    let path = decode(path)?;
    if path.is_empty() || path.contains('\0') {
        return Err(RedisUrlError::NoPath);
    }
    if path.len() > SOCKET_PATH_BYTES_MAX {
        return Err(RedisUrlError::LongPath);
    }
    let topology = Topology::Single(Address::Unix { path: PathBuf::from(path) });
    let mut target = RedisTarget { topology, tls: false, username: None, password: None, database: 0 };
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        match parameter.split_once('=').ok_or(RedisUrlError::UnknownParameter)? {
            ("db", value) => target.database = database(value)?,
            ("user", value) => target.username = not_empty(decode(value)?),
            ("pass", value) => target.password = not_empty(decode(value)?).map(Password),
            _ => return Err(RedisUrlError::UnknownParameter),
        }
    }
    Ok(target)
}

fn optional_database(path: &str) -> Result<u32, RedisUrlError> {
    if path.is_empty() { Ok(0) } else { database(path) }
}

fn database(text: &str) -> Result<u32, RedisUrlError> {
    // Redis keeps the number of databases in a C int.
    number(text).filter(|&number| number < i32::MAX as u32).ok_or(RedisUrlError::BadDatabase)
}

/// Digits only: `u32::from_str` would also take a plus sign.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn not_empty(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// Percent-decoding that refuses what `percent_decode_str` would pass on as it is.
fn decode(text: &str) -> Result<String, RedisUrlError> {
    let is_escape = |tail: &str| tail.len() >= 2 && tail.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
    if !text.split('%').skip(1).all(is_escape) {
        return Err(RedisUrlError::BadEscape);
    }
    percent_decode_str(text).decode_utf8().map(Into::into).map_err(|_| RedisUrlError::BadEscape)
}

impl RedisTarget {
    /// The URL with the password in it, for clients that take one apart themselves.
    pub fn to_secret(&self) -> Secret {
        let password = self.password.as_ref().map_or("", Password::expose);
        let mut url = String::new();
        self.write(&mut url, &utf8_percent_encode(password, USER_ENCODED).to_string())
            .expect("a String takes every write");
        Secret::new(url)
    }

    /// The URL, with this in place of the password.
    fn write(&self, f: &mut impl fmt::Write, password: &str) -> fmt::Result {
        let user = self.username.as_deref().map(|user| utf8_percent_encode(user, USER_ENCODED).to_string());
        let user = user.as_deref();
        match &self.topology {
            Topology::Single(Address::Unix { path }) => {
                let path = path.to_str().unwrap_or_default();
                // A relative path after two slashes would read as a host.
                let slashes = if path.starts_with('/') { "//" } else { "" };
                write!(f, "unix:{slashes}{}?db={}", utf8_percent_encode(path, PATH_ENCODED), self.database)?;
                if let Some(user) = user {
                    write!(f, "&user={user}")?;
                }
                if self.password.is_some() {
                    write!(f, "&pass={password}")?;
                }
                Ok(())
            }
            Topology::Sentinel { sentinels, master } => {
                self.write_authority(
                    f,
                    if self.tls { "rediss-sentinel" } else { "redis-sentinel" },
                    sentinels,
                    (user, password),
                )?;
                write!(f, "/{master}/{}", self.database)
            }
            Topology::Cluster { nodes, .. } => self.write_authority(
                f,
                if self.tls { "rediss-cluster" } else { "redis-cluster" },
                nodes,
                (user, password),
            ),
            Topology::Single(address) => {
                self.write_authority(
                    f,
                    if self.tls { "rediss" } else { "redis" },
                    std::slice::from_ref(address),
                    (user, password),
                )?;
                write!(f, "/{}", self.database)
            }
            topology => write!(f, "{topology}"),
        }
    }

    fn write_authority(
        &self,
        f: &mut impl fmt::Write,
        scheme: &str,
        hosts: &[Address],
        (user, password): (Option<&str>, &str),
    ) -> fmt::Result {
        write!(f, "{scheme}://")?;
        if self.password.is_some() {
            write!(f, "{}:{password}@", user.unwrap_or_default())?;
        }
        for (index, host) in hosts.iter().enumerate() {
            write!(f, "{}{host}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl fmt::Display for RedisTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, PASSWORD_MASK)
    }
}

#[cfg(test)]
mod tests;
