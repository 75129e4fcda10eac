//! TLS to a Redis and its Sentinels, by the same files as the broker's.

use std::path::PathBuf;

use fanfare_tls::{Connector, Pair, ServerName, Session, Trust};
use redis::ConnectionAddr;

/// By whom a Redis is known. Files are read for each connection.
#[derive(Clone, Debug, Default)]
pub struct RedisTls {
    /// The authorities that are trusted; none are those of the system.
    pub ca_file: Option<PathBuf>,
    /// A certificate of our own, and its key, for a Redis that asks for one.
    pub own: Option<(PathBuf, PathBuf)>,
    /// For which name its certificate has to be; none is the host that is connected to.
    pub server_name: Option<String>,
    /// Any certificate will do.
    pub insecure_skip_verify: bool,
}

impl RedisTls {
    /// A session with this server, whose first words are there to be flushed. The error says which file cannot be read.
    pub(crate) fn session(&self, server: &ConnectionAddr) -> Result<Session, String> {
        let told = |error: &dyn std::fmt::Display| format!("TLS: {error}");
        let trust = match &self.ca_file {
            _ if self.insecure_skip_verify => Trust::Nobody,
            Some(file) => Trust::CaFile(file.clone()),
            None => Trust::System,
        };
        let own = self.own.clone().map(|(cert_file, key_file)| Pair { cert_file, key_file });
        let connector = Connector::with_certificate(&trust, own.as_ref()).map_err(|error| told(&error))?;
        let host = match (server, &self.server_name) {
            (_, Some(name)) => name,
            (ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. }, None) => host,
            (_, None) => "localhost",
        };
        let name = ServerName::try_from(host.to_owned()).map_err(|_| told(&"its host has no name to be known by"))?;
        connector.session(name).map_err(|error| told(&error))
    }
}
