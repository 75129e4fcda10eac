//! Connections to a Redis, as many as threads ask at once: made when needed, kept while they work.
//! What goes wrong is told without any argument of a command, because those are secrets, and Redis repeats them in some errors.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{Client, Connection, ConnectionAddr, FromRedisValue, Pipeline, RedisError};

use crate::error::SetupError;
use crate::secret::Secret;

/// For connecting and signing in, and for each answer. Both take a millisecond where all is well.
const TIME_MAX: Duration = Duration::from_secs(2);

/// A Redis.
pub(crate) struct RedisLink {
    client: Client,
    idle: Mutex<Vec<Connection>>,
}

impl RedisLink {
    /// The one at this URL. Nothing is connected yet.
    pub(crate) fn new(url: &Secret) -> Result<Self, SetupError> {
        let url = str::from_utf8(url.expose()).map_err(|_| SetupError::BadRedisUrl)?;
        let client = Client::open(url).map_err(|_| SetupError::BadRedisUrl)?;
        match client.get_connection_info().addr() {
            ConnectionAddr::Tcp(..) | ConnectionAddr::Unix(_) => Ok(Self { client, idle: Mutex::default() }),
            // TLS is not compiled in.
            _ => Err(SetupError::BadRedisUrl),
        }
    }

    /// What it answers to these commands, or why it does not. A connection that had been kept may have ended meanwhile, so they
    /// are sent once more on a new one, and must bear that.
    pub(crate) fn ask<R: FromRedisValue>(&self, commands: &Pipeline) -> Result<R, String> {
        let kept = self.idle().pop();
        if let Some(mut connection) = kept {
            match commands.query(&mut connection) {
                Err(error) if error.is_connection_dropped() || error.is_io_error() && !error.is_timeout() => {
                    // Those of before the same end are no better.
                    self.idle().clear();
                }
                outcome => return self.done(connection, outcome),
            }
        }
        let mut connection = self.connect().map_err(|error| reason(&error))?;
        let outcome = commands.query(&mut connection);
        self.done(connection, outcome)
    }

    fn connect(&self) -> Result<Connection, RedisError> {
        let connection = self.client.get_connection_with_timeout(TIME_MAX)?;
        connection.set_read_timeout(Some(TIME_MAX))?;
        connection.set_write_timeout(Some(TIME_MAX))?;
        Ok(connection)
    }

    /// Keeps the connection if all went well: else an answer may still be under way on it, or it may lead to a server that is no
    /// master any more.
    fn done<R>(&self, connection: Connection, outcome: Result<R, RedisError>) -> Result<R, String> {
        if outcome.is_ok() {
            self.idle().push(connection);
        }
        outcome.map_err(|error| reason(&error))
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the server answered, if it did: of what it says, the first word alone (`NOAUTH`, `LOADING`).
fn refusal(error: &RedisError) -> Option<String> {
    let of_one = error.code().map(str::to_owned);
    of_one.or_else(|| Some(error.clone().into_server_errors()?.first()?.1.code().to_owned()))
}

fn reason(error: &RedisError) -> String {
    match refusal(error) {
        Some(code) => format!("Redis refuses ({code})"),
        None if error.is_io_error() => error.to_string(),
        None => error.category().to_owned(),
    }
}

impl fmt::Debug for RedisLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisLink").field("address", self.client.get_connection_info().addr()).finish_non_exhaustive()
    }
}
