//! How to sign in at Redis and at Sentinels: what the URL and the keys beside it say together.

use super::{Config, Redis, RedisTarget, RedisTls};
use fanfare_auth::{RedisPlace, Secret, SetupError, SignIn};
use fanfare_core::broker::redis::{Address, Topology};
use fanfare_shell::config::{Problem, Sources};

impl Redis {
    /// How to sign in at the Redis of `redis.url`.
    pub fn sign_in(&self) -> SignIn {
        let of_url = self.target.as_ref().map(RedisTarget::sign_in).unwrap_or_default();
        SignIn {
            username: of_url.username.or(not_empty(&self.username)),
            password_file: self.password_file.clone(),
            ..of_url
        }
    }

    /// How to sign in at Sentinels.
    pub fn sentinel_sign_in(&self) -> SignIn {
        SignIn {
            username: not_empty(&self.sentinel_username),
            password: self.sentinel_password.clone(),
            password_file: self.sentinel_password_file.clone(),
        }
    }

    /// The Redis of a URL, for sessions and bans.
    ///
    /// # Errors
    /// If only the broker understands the URL.
    pub(super) fn place(&self, target: &RedisTarget, sign_in: SignIn) -> Result<RedisPlace, SetupError> {
        let tls = |place: RedisPlace| if target.tls { place.tls(self.tls_of_credentials()) } else { place };
        let place = match &target.topology {
            Topology::Sentinel { sentinels, master } => {
                RedisPlace::behind_sentinels(hosts(sentinels), master, target.database, self.sentinel_sign_in())
            }
            Topology::Cluster { nodes, .. } => RedisPlace::in_cluster(hosts(nodes)),
            _ => RedisPlace::server(&target.to_secret())?,
        };
        Ok(tls(place.sign_in(sign_in)))
    }

    /// TLS to the Redis of sessions and bans.
    fn tls_of_credentials(&self) -> fanfare_auth::RedisTls {
        let RedisTls { ca_file, cert_file, key_file, server_name, insecure_skip_verify, .. } = self.tls.clone();
        let server_name = not_empty(&server_name);
        fanfare_auth::RedisTls { ca_file, own: cert_file.zip(key_file), server_name, insecure_skip_verify }
    }
}

/// Those that are hosts.
fn hosts(addresses: &[Address]) -> impl Iterator<Item = (String, u16)> {
    addresses.iter().filter_map(|address| match address {
        Address::Tcp { host, port } => Some((host.clone(), *port)),
        Address::Unix { .. } => None,
    })
}

fn not_empty(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

impl RedisTarget {
    /// How to sign in, of what the URL says.
    pub(super) fn sign_in(&self) -> SignIn {
        let password = self.password.as_ref().map(|password| Secret::new(password.expose()));
        SignIn { username: self.username.clone(), password, password_file: None }
    }
}

/// All that is wrong: what is given twice, what is for nothing, and files without a password.
pub(crate) fn problems(config: &Config, sources: &Sources<Config>) -> Vec<Problem> {
    let redis = &config.redis;
    let (target, of_sessions) = (redis.target.as_ref(), config.auth.session.redis.as_ref());
    let in_url = target.map(RedisTarget::sign_in).unwrap_or_default();
    let watched = |target: &RedisTarget| matches!(target.topology, Topology::Sentinel { .. });
    let has_sentinels = [target, of_sessions].into_iter().flatten().any(watched);
    let has_username = !redis.username.is_empty();
    let has_file = redis.password_file.is_some();
    let has_sentinel_password = redis.sentinel_password.is_some() || redis.sentinel_password_file.is_some();
    const NO_URL: &str = "there is no redis.url, and so nowhere to sign in";
    const NO_SENTINELS: &str = "no URL names Sentinels, and so there is nowhere to sign in";
    const A_SENTINEL_URL: &str = "redis.url = \"redis-sentinel://HOST:26379/MASTER\", or nothing here";
    let wrong = [
        (has_username && target.is_none(), "redis.username", NO_URL, "redis.url, or nothing here"),
        (has_file && target.is_none(), "redis.password_file", NO_URL, "redis.url, or nothing here"),
        (
            has_username && in_url.username.is_some(),
            "redis.username",
            "redis.url names a user as well",
            "the user in one of the two places",
        ),
        (
            has_file && in_url.password.is_some(),
            "redis.password_file",
            "redis.url holds a password as well",
            "the password in one of the two places; beside a file, a user is redis.username",
        ),
        (
            has_username && target.is_some() && !has_file && in_url.password.is_none(),
            "redis.username",
            "a user without a password",
            "redis.password_file beside it, or the password in redis.url",
        ),
        (
            !redis.sentinel_username.is_empty() && !has_sentinels,
            "redis.sentinel_username",
            NO_SENTINELS,
            A_SENTINEL_URL,
        ),
        (redis.sentinel_password.is_some() && !has_sentinels, "redis.sentinel_password", NO_SENTINELS, A_SENTINEL_URL),
        (
            redis.sentinel_password_file.is_some() && !has_sentinels,
            "redis.sentinel_password_file",
            NO_SENTINELS,
            A_SENTINEL_URL,
        ),
        (
            redis.sentinel_password.is_some() && redis.sentinel_password_file.is_some(),
            "redis.sentinel_password_file",
            "redis.sentinel_password is a password as well",
            "the password in one of the two places",
        ),
        (
            !redis.sentinel_username.is_empty() && has_sentinels && !has_sentinel_password,
            "redis.sentinel_username",
            "a user without a password",
            "redis.sentinel_password_file or redis.sentinel_password beside it",
        ),
    ];
    let problem = |key: &str, wrong: String, right: &str| Problem {
        key: key.to_owned(),
        from: sources.of(key).clone(),
        wrong,
        right: right.to_owned(),
    };
    let together = wrong.into_iter().filter(|(is_wrong, ..)| *is_wrong);
    let together = together.map(|(_, key, wrong, right)| problem(key, wrong.to_owned(), right));
    let files = [("redis.password_file", redis.sign_in()), ("redis.sentinel_password_file", redis.sentinel_sign_in())];
    let unread = files.into_iter().filter_map(|(key, sign_in)| {
        let why = sign_in.password().err()?;
        Some(problem(key, why, A_PASSWORD_FILE))
    });
    together.chain(unread).collect()
}

/// What would be right.
pub(crate) const A_PASSWORD_FILE: &str = "a file that holds the password alone";
