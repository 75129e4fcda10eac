//! TLS to a Redis and its Sentinels, by the same files as the broker's.

use std::fs;
use std::path::{Path, PathBuf};

use redis::{Client, ClientTlsConfig, ConnectionInfo, RedisError, TlsCertificates};

use crate::redis_trouble::reason;

/// By whom a Redis is known. Files are read for each connection.
#[derive(Clone, Debug, Default)]
pub struct RedisTls {
    /// The authorities that are trusted; none are those of the system.
    pub ca_file: Option<PathBuf>,
    /// A certificate of our own, and its key, for a Redis that asks for one.
    pub own: Option<(PathBuf, PathBuf)>,
    /// Any certificate will do.
    pub insecure_skip_verify: bool,
}

impl RedisTls {
    /// A client. The error says which file cannot be read.
    pub(crate) fn client(&self, info: ConnectionInfo) -> Result<Client, String> {
        let client_tls = match &self.own {
            None => None,
            Some((cert_file, key_file)) => {
                Some(ClientTlsConfig { client_cert: read(cert_file)?, client_key: read(key_file)? })
            }
        };
        let root_cert = self.ca_file.as_deref().map(read).transpose()?;
        let told = |error: RedisError| reason(&error);
        Client::build_with_tls(info, TlsCertificates { client_tls, root_cert }).map_err(told)
    }
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    fs::read(file).map_err(|error| format!("{} cannot be read: {error}", file.display()))
}
