//! Where a Redis is: one server, or the master that Sentinels name. Nothing is connected here.

use redis::{Client, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo};

use crate::error::SetupError;
use crate::redis_tls::RedisTls;
use crate::redis_trouble::reason;
use crate::secret::Secret;
use crate::sign_in::SignIn;

/// A Redis, and how to sign in there. Its `Debug` form shows no password.
#[derive(Clone, Debug)]
pub struct RedisPlace {
    pub(crate) at: At,
    database: i64,
    sign_in: SignIn,
    tls: Option<RedisTls>,
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
}

impl RedisPlace {
    /// One server, at this URL (`redis://`, `rediss://`, `valkey://` or `unix://`).
    pub fn server(url: &Secret) -> Result<RedisPlace, SetupError> {
        let url = str::from_utf8(url.expose()).map_err(|_| SetupError::BadRedisUrl)?;
        let client = Client::open(url).map_err(|_| SetupError::BadRedisUrl)?;
        let info = client.get_connection_info();
        let (server, tls) = match info.addr() {
            ConnectionAddr::TcpTls { host, port, .. } => {
                (ConnectionAddr::Tcp(host.clone(), *port), Some(RedisTls::default()))
            }
            server => (server.clone(), None),
        };
        let redis = info.redis_settings();
        let sign_in = SignIn {
            username: redis.username().map(str::to_owned),
            password: redis.password().map(Secret::new),
            password_file: None,
        };
        Ok(RedisPlace { at: At::Server(server), database: redis.db(), sign_in, tls })
    }

    /// The master of a group that these Sentinels watch over, each a host and a port, and how to sign in at them. They are asked for it
    /// about once a second while somebody wants something of it.
    pub fn behind_sentinels(
        sentinels: impl IntoIterator<Item = (String, u16)>,
        group: &str,
        database: u32,
        sign_in: SignIn,
    ) -> RedisPlace {
        let sentinels = sentinels.into_iter().map(|(host, port)| ConnectionAddr::Tcp(host, port)).collect();
        let at = At::Sentinels { sentinels, group: group.to_owned(), sign_in };
        RedisPlace { at, database: database.into(), sign_in: SignIn::default(), tls: None }
    }

    /// The same, signed in as this says.
    pub fn sign_in(self, sign_in: SignIn) -> RedisPlace {
        RedisPlace { sign_in, ..self }
    }

    /// The same, where TLS is spoken, to Sentinels as well.
    pub fn tls(self, tls: RedisTls) -> RedisPlace {
        RedisPlace { tls: Some(tls), ..self }
    }

    /// A client of this server, with the password as it is now.
    pub(crate) fn client(&self, server: &ConnectionAddr) -> Result<Client, String> {
        client(server, self.database, &self.sign_in, self.tls.as_ref())
    }

    /// The same of a Sentinel.
    pub(crate) fn tls_of_sentinels(&self) -> Option<RedisTls> {
        self.tls.clone()
    }
}

/// A client of this server. The error says why the password, or what TLS needs, cannot be read.
pub(crate) fn client(
    server: &ConnectionAddr,
    database: i64,
    sign_in: &SignIn,
    tls: Option<&RedisTls>,
) -> Result<Client, String> {
    let mut redis = RedisConnectionInfo::default().set_db(database);
    if let Some(password) = sign_in.password()? {
        let password = str::from_utf8(password.expose()).map_err(|_| "the password is no UTF-8".to_owned())?;
        redis = redis.set_password(password);
        if let Some(username) = &sign_in.username {
            redis = redis.set_username(username);
        }
    }
    let server = match (server, tls) {
        (ConnectionAddr::Tcp(host, port), Some(tls)) => {
            let insecure = tls.insecure_skip_verify;
            ConnectionAddr::TcpTls { host: host.clone(), port: *port, insecure, tls_params: None }
        }
        _ => server.clone(),
    };
    let info = server.into_connection_info().map_err(|error| error.category().to_owned())?;
    let info = info.set_redis_settings(redis);
    match tls {
        Some(tls) => tls.client(info),
        None => Client::open(info).map_err(|error| reason(&error)),
    }
}
