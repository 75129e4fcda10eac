//! TLS to Redis and Sentinels: by whom they are known, and the sessions of connections to them.

use crate::config::{self, Config};
use fanfare_core::broker::redis::Address;
use fanfare_shell::program::StartError;
use fanfare_tls::{Connector, Failure, Pair, Progress, ServerName, Trust};
use std::io;

pub use fanfare_tls::Session;

/// Begins the sessions of connections to Redis.
#[derive(Clone, Debug)]
pub struct RedisTls(config::RedisTls);

/// What one attempt needs, for each address of the host.
#[derive(Clone, Debug)]
pub struct Dialer {
    connector: Connector,
    name: ServerName<'static>,
}

impl RedisTls {
    /// As the configuration says; `None` where Redis is spoken to without TLS. Files are looked at, so that what is wrong is told at the start.
    ///
    /// # Errors
    /// What is wrong with which file.
    pub fn of(config: &Config) -> Result<Option<RedisTls>, StartError> {
        if !config.redis.target.as_ref().is_some_and(|target| target.tls) {
            return Ok(None);
        }
        let tls = RedisTls(config.redis.tls.clone());
        tls.connector().map_err(StartError::of("cannot speak TLS to Redis"))?;
        Ok(Some(tls))
    }

    fn connector(&self) -> Result<Connector, fanfare_tls::LoadError> {
        let config::RedisTls { ca_file, cert_file, key_file, insecure_skip_verify, .. } = &self.0;
        let trust = match ca_file {
            _ if *insecure_skip_verify => Trust::Nobody,
            Some(file) => Trust::CaFile(file.clone()),
            None => Trust::System,
        };
        let own = cert_file.clone().zip(key_file.clone()).map(|(cert_file, key_file)| Pair { cert_file, key_file });
        Connector::with_certificate(&trust, own.as_ref())
    }

    /// For an attempt to reach this address. Files are read anew, because certificates are renewed while a server runs: it may block.
    ///
    /// # Errors
    /// Why there can be no session, for people.
    pub fn dialer(&self, address: &Address) -> Result<Dialer, String> {
        let host = match address {
            _ if !self.0.server_name.is_empty() => self.0.server_name.as_str(),
            Address::Tcp { host, .. } => host,
            Address::Unix { .. } => "localhost",
        };
        let name =
            ServerName::try_from(host.to_owned()).map_err(|_| "TLS: its host has no name to be known by".to_owned())?;
        let connector = self.connector().map_err(|error| format!("TLS: {error}"))?;
        Ok(Dialer { connector, name })
    }
}

impl Dialer {
    /// A session whose first words are there to be flushed.
    ///
    /// # Errors
    /// Why there can be none, for people.
    pub fn session(&self) -> Result<Session, String> {
        self.connector.session(self.name.clone()).map_err(|error| format!("TLS: {error}"))
    }
}

/// Writes what there is to say to Redis behind what a session of TLS has to say by itself, if there is one. Returns how much of it the socket
/// has taken, or `None` where nothing is left.
///
/// # Errors
/// Those of `put`. `WouldBlock` where the socket takes nothing more for now.
pub fn write(
    mut tls: Option<&mut Session>,
    output: &[u8],
    record: &mut Vec<u8>,
    mut put: impl FnMut(&[u8]) -> io::Result<usize>,
) -> io::Result<Option<usize>> {
    if let Some(tls) = &mut tls
        && !tls.flush(&mut put)?
    {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    match tls {
        _ if output.is_empty() => Ok(None),
        Some(tls) => tls.write(output, record, put).map(Some),
        None => put(output).map(Some),
    }
}

/// Whether a session goes on. The error is why its connection has to end, for people.
///
/// # Errors
/// Where Redis has ended it, or TLS has failed.
pub fn outcome(progress: Progress) -> Result<(), String> {
    match progress {
        Progress::Open => Ok(()),
        Progress::Closed => Err("it closed the connection".to_owned()),
        Progress::Failed(failure @ Failure::Malformed(_)) => {
            Err(format!("what answers there speaks no TLS ({failure}): is it redis:// without it?"))
        }
        Progress::Failed(failure) => Err(format!("TLS: {failure}")),
    }
}
