//! Where a Redis is: one server, the master that Sentinels name, or a Cluster. Nothing is connected here.

use redis::{Client, ConnectionAddr};

use crate::error::SetupError;
use crate::redis_tls::RedisTls;
use crate::secret::Secret;
use crate::sign_in::SignIn;

/// A Redis, and how to sign in there. Its `Debug` form shows no password.
#[derive(Clone, Debug)]
pub struct RedisPlace {
    pub(crate) at: At,
    pub(crate) access: Access,
}

#[derive(Clone, Debug)]
pub(crate) enum At {
    Server(ConnectionAddr),
    Sentinels {
        sentinels: Vec<ConnectionAddr>,
        /// What they call the group.
        group: String,
        sign_in: SignIn,
    },
    /// Some of its nodes, of which the others are learned.
    Cluster(Vec<ConnectionAddr>),
}

/// How a server is spoken to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Access {
    pub(crate) sign_in: SignIn,
    pub(crate) tls: Option<RedisTls>,
    pub(crate) database: i64,
}

impl RedisPlace {
    /// One server, at this URL (`redis://`, `rediss://`, `valkey://` or `unix://`).
    pub fn server(url: &Secret) -> Result<RedisPlace, SetupError> {
        let url = str::from_utf8(url.expose()).map_err(|_| SetupError::BadRedisUrl)?;
        // TLS is spoken here, and not by the crate whose parser this is.
        let without_tls = url.strip_prefix("rediss://").or_else(|| url.strip_prefix("valkeys://"));
        let tls = without_tls.is_some().then(RedisTls::default);
        let plain = without_tls.map_or_else(|| url.to_owned(), |rest| format!("redis://{rest}"));
        let client = Client::open(plain).map_err(|_| SetupError::BadRedisUrl)?;
        let info = client.get_connection_info();
        let redis = info.redis_settings();
        let sign_in = SignIn {
            username: redis.username().map(str::to_owned),
            password: redis.password().map(Secret::new),
            password_file: None,
        };
        Ok(RedisPlace { at: At::Server(info.addr().clone()), access: Access { sign_in, tls, database: redis.db() } })
    }

    /// The master of a group that these Sentinels watch over, each a host and a port, and how to sign in at them. They are asked for it
    /// about once a second while somebody wants something of it.
    pub fn behind_sentinels(
        sentinels: impl IntoIterator<Item = (String, u16)>,
        group: &str,
        database: u32,
        sign_in: SignIn,
    ) -> RedisPlace {
        let at = At::Sentinels { sentinels: addresses(sentinels), group: group.to_owned(), sign_in };
        RedisPlace { at, access: Access { database: database.into(), ..Access::default() } }
    }

    /// The masters of a Cluster, of which these are nodes, each a host and a port.
    pub fn in_cluster(nodes: impl IntoIterator<Item = (String, u16)>) -> RedisPlace {
        RedisPlace { at: At::Cluster(addresses(nodes)), access: Access::default() }
    }

    /// The same, signed in as this says.
    pub fn sign_in(mut self, sign_in: SignIn) -> RedisPlace {
        self.access.sign_in = sign_in;
        self
    }

    /// The same, where TLS is spoken, to Sentinels as well.
    pub fn tls(mut self, tls: RedisTls) -> RedisPlace {
        self.access.tls = Some(tls);
        self
    }
}

fn addresses(hosts: impl IntoIterator<Item = (String, u16)>) -> Vec<ConnectionAddr> {
    hosts.into_iter().map(|(host, port)| ConnectionAddr::Tcp(host, port)).collect()
}
