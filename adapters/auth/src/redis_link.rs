//! Connections to a Redis, as many as threads ask at once: made when needed, kept while they work. Behind Sentinels they lead to the master.
//! What goes wrong is told without any argument of a command, because those are secrets, and Redis repeats them in some errors.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redis::{Connection, ConnectionAddr, FromRedisValue, Pipeline, RedisError, Value, cmd};

use crate::redis_place::{At, RedisPlace};
use crate::redis_trouble::{reason, refusal};
use crate::sentinels::{GOOD_FOR, Sentinels};

/// For connecting and signing in, and for each answer. Both take a millisecond where all is well.
const TIME_MAX: Duration = Duration::from_secs(2);

/// A Redis.
pub(crate) struct RedisLink {
    place: RedisPlace,
    /// Who is asked where the master is.
    sentinels: Option<Sentinels>,
    idle: Mutex<Vec<Kept>>,
}

/// A connection.
struct Kept {
    connection: Connection,
    server: ConnectionAddr,
    /// When it was a master.
    checked: Instant,
}

impl RedisLink {
    /// The one at this place. Nothing is connected yet.
    pub(crate) fn new(place: RedisPlace) -> Self {
        let sentinels = match &place.at {
            At::Server(_) => None,
            At::Sentinels { sentinels, group, sign_in } => {
                Some(Sentinels::new(sentinels.clone(), group.clone(), sign_in.clone(), place.tls_of_sentinels()))
            }
        };
        Self { place, sentinels, idle: Mutex::default() }
    }

    /// What it answers to these commands, or why it does not. A connection that had been kept may have ended meanwhile, so they
    /// are sent once more on a new one, and must bear that.
    pub(crate) fn ask<R: FromRedisValue>(&self, commands: &Pipeline) -> Result<R, String> {
        let server = self.server()?;
        if let Some(mut kept) = self.kept(&server) {
            // Those of before the same end are no better.
            if self.is_master_still(&mut kept) {
                match commands.query(&mut kept.connection) {
                    Err(error) if error.is_connection_dropped() || error.is_io_error() && !error.is_timeout() => {}
                    outcome => return self.done(kept, outcome),
                }
            }
            self.forget();
        }
        let mut kept = self.connect(self.server()?).inspect_err(|_| self.forget())?;
        let outcome = commands.query(&mut kept.connection);
        self.done(kept, outcome)
    }

    /// The server that is to be asked.
    fn server(&self) -> Result<ConnectionAddr, String> {
        match (&self.place.at, &self.sentinels) {
            (At::Server(server), _) => Ok(server.clone()),
            (At::Sentinels { .. }, Some(sentinels)) => sentinels.master(),
            (At::Sentinels { .. }, None) => unreachable!("they are made with the link"),
        }
    }

    /// A connection to it that had been kept. Those to another one, which was the master before, end.
    fn kept(&self, server: &ConnectionAddr) -> Option<Kept> {
        let mut idle = self.idle();
        idle.retain(|kept| kept.server == *server);
        idle.pop()
    }

    fn connect(&self, server: ConnectionAddr) -> Result<Kept, String> {
        let client = self.place.client(&server)?;
        let connect = || -> Result<Connection, RedisError> {
            let connection = client.get_connection_with_timeout(TIME_MAX)?;
            connection.set_read_timeout(Some(TIME_MAX))?;
            connection.set_write_timeout(Some(TIME_MAX))?;
            Ok(connection)
        };
        let mut connection = connect().map_err(|error| reason(&error))?;
        if self.sentinels.is_some() && !is_master(&mut connection).map_err(|error| reason(&error))? {
            return Err("Redis is not the master that its Sentinels say it is".to_owned());
        }
        Ok(Kept { connection, server, checked: Instant::now() })
    }

    /// Asked only where there may be another one, and not each time.
    fn is_master_still(&self, kept: &mut Kept) -> bool {
        if self.sentinels.is_none() || kept.checked.elapsed() < GOOD_FOR {
            return true;
        }
        kept.checked = Instant::now();
        is_master(&mut kept.connection).unwrap_or(false)
    }

    /// Keeps the connection if all went well: else an answer may still be under way on it, or it may lead to a server that is no
    /// master any more.
    fn done<R>(&self, kept: Kept, outcome: Result<R, RedisError>) -> Result<R, String> {
        match outcome {
            Ok(answer) => {
                self.idle().push(kept);
                Ok(answer)
            }
            Err(error) => {
                self.sentinels.iter().for_each(Sentinels::doubt);
                Err(reason(&error))
            }
        }
    }

    /// Ends what is kept, and has Sentinels asked anew.
    fn forget(&self) {
        self.idle().clear();
        self.sentinels.iter().for_each(Sentinels::doubt);
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever may not be asked for the role passes for a master.
fn is_master(connection: &mut Connection) -> Result<bool, RedisError> {
    match cmd("ROLE").query::<Vec<Value>>(connection) {
        Ok(role) => Ok(!matches!(role.first(), Some(Value::BulkString(word)) if word != b"master")),
        Err(error) if refusal(&error).is_some() => Ok(true),
        Err(error) => Err(error),
    }
}

impl fmt::Debug for RedisLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisLink").field("place", &self.place).finish_non_exhaustive()
    }
}
