//! Connections to a Redis, as many as threads ask at once: made when needed, kept while they work. Behind Sentinels they lead to the master,
//! and in a Cluster to the master of a key.
//! What goes wrong is told without any argument of a command, because those are secrets, and Redis repeats them in some errors.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use redis::{ConnectionAddr, FromRedisValue, Pipeline, RedisError, Value, cmd};

use crate::redis_cluster::{Cluster, Redirect, slot_of};
use crate::redis_connection::RedisConnection;
use crate::redis_place::{Access, At, RedisPlace};
use crate::redis_trouble::{reason, refusal};
use crate::sentinels::{GOOD_FOR, Sentinels};

/// For connecting and signing in, and for each answer. Both take a millisecond where all is well.
const TIME_MAX: Duration = Duration::from_secs(2);
/// While a slot moves, its keys are at neither node as a whole: for so long, where they are few.
const MOVING_PAUSE: Duration = Duration::from_millis(20);

/// A Redis.
pub(crate) struct RedisLink {
    access: Access,
    masters: Masters,
    idle: Mutex<Vec<Kept>>,
}

/// Who is asked where the master is.
enum Masters {
    /// Nobody: there is one server.
    Server(ConnectionAddr),
    Sentinels(Sentinels),
    Cluster(Cluster),
}

/// A connection.
struct Kept {
    connection: RedisConnection,
    server: ConnectionAddr,
    /// When it was a master.
    checked: Instant,
}

/// Why there is no answer.
enum Trouble {
    /// There is no connection, for this reason.
    Unconnected(String),
    Failed(RedisError),
}

impl From<Trouble> for String {
    fn from(trouble: Trouble) -> String {
        match trouble {
            Trouble::Unconnected(why) => why,
            Trouble::Failed(error) => reason(&error),
        }
    }
}

impl RedisLink {
    /// The one at this place. Nothing is connected yet.
    pub(crate) fn new(place: RedisPlace) -> Self {
        let access = place.access;
        let masters = match place.at {
            At::Server(server) => Masters::Server(server),
            At::Sentinels { sentinels, group, sign_in } => {
                let of_sentinels = Access { sign_in, tls: access.tls.clone(), database: 0 };
                Masters::Sentinels(Sentinels::new(sentinels, group, of_sentinels))
            }
            At::Cluster(nodes) => Masters::Cluster(Cluster::new(nodes, access.clone())),
        };
        Self { access, masters, idle: Mutex::default() }
    }

    /// What it answers to these commands, or why it does not. All their keys are in the slot of this one. A connection that had been kept may
    /// have ended meanwhile, so they are sent once more on a new one, and must bear that.
    pub(crate) fn ask<R: FromRedisValue>(&self, key: &[u8], commands: &Pipeline) -> Result<R, String> {
        let server = match &self.masters {
            Masters::Server(server) => server.clone(),
            Masters::Sentinels(sentinels) => sentinels.master()?,
            Masters::Cluster(cluster) => return self.ask_cluster(cluster, slot_of(key), commands),
        };
        let outcome = self.ask_server(&server, false, commands);
        if let (Err(_), Masters::Sentinels(sentinels)) = (&outcome, &self.masters) {
            sentinels.doubt();
        }
        Ok(outcome?)
    }

    /// The same of the master of a slot, and of whoever it is sent to from there.
    fn ask_cluster<R: FromRedisValue>(&self, cluster: &Cluster, slot: u16, commands: &Pipeline) -> Result<R, String> {
        // All or nothing: of a slot that moves, one key could be there and the next one here, and a key that is not there would pass for
        // one that does not exist.
        let mut commands = commands.clone();
        commands.atomic();
        let (began, mut redirects) = (Instant::now(), 0);
        let mut server = cluster.master_of(slot)?;
        let mut is_asking = false;
        loop {
            let trouble = match self.ask_server(&server, is_asking, &commands) {
                Ok(answer) => return Ok(answer),
                Err(trouble) => trouble,
            };
            let redirect = match &trouble {
                Trouble::Failed(error) => Redirect::of(error, &server),
                Trouble::Unconnected(_) => None,
            };
            redirects += 1;
            if redirects > 2 {
                // Two nodes that send to each other have yet to agree.
                thread::sleep(MOVING_PAUSE);
            }
            let next = match redirect {
                Some(_) if began.elapsed() >= TIME_MAX => {
                    return Err("the keys are on their way from one node of the Cluster to another".to_owned());
                }
                Some(Redirect::Moved(master)) => {
                    cluster.moved(slot, master.clone());
                    (master, false)
                }
                Some(Redirect::Ask(target)) => (target, true),
                Some(Redirect::Later) => (cluster.master_of(slot)?, false),
                None => {
                    cluster.doubt();
                    match cluster.master_of(slot) {
                        Ok(master) if master != server => (master, false),
                        _ => return Err(trouble.into()),
                    }
                }
            };
            (server, is_asking) = next;
        }
    }

    /// What this server answers.
    fn ask_server<R: FromRedisValue>(
        &self,
        server: &ConnectionAddr,
        is_asking: bool,
        commands: &Pipeline,
    ) -> Result<R, Trouble> {
        let query = |kept: &mut Kept| {
            if is_asking {
                cmd("ASKING").exec(&mut kept.connection)?;
            }
            commands.query(&mut kept.connection)
        };
        let mut server = server.clone();
        if let Some(mut kept) = self.kept(&server) {
            // Those of before the same end are no better.
            if self.is_master_still(&mut kept) {
                match query(&mut kept) {
                    Err(error) if error.is_connection_dropped() || error.is_io_error() && !error.is_timeout() => {}
                    outcome => return self.done(kept, outcome),
                }
            }
            self.forget(&server);
            if let Masters::Sentinels(sentinels) = &self.masters {
                sentinels.doubt();
                server = sentinels.master().map_err(Trouble::Unconnected)?;
            }
        }
        let mut kept = self.connect(&server).inspect_err(|_| self.forget(&server))?;
        let outcome = query(&mut kept);
        self.done(kept, outcome)
    }

    /// A connection to it that had been kept. Where there is one master, those to another one, which was it before, end.
    fn kept(&self, server: &ConnectionAddr) -> Option<Kept> {
        let mut idle = self.idle();
        if !matches!(self.masters, Masters::Cluster(_)) {
            idle.retain(|kept| kept.server == *server);
        }
        let last = idle.iter().rposition(|kept| kept.server == *server)?;
        Some(idle.remove(last))
    }

    fn connect(&self, server: &ConnectionAddr) -> Result<Kept, Trouble> {
        let mut connection = RedisConnection::open(server, &self.access, TIME_MAX).map_err(Trouble::Unconnected)?;
        let is_watched = matches!(self.masters, Masters::Sentinels(_));
        if is_watched && !is_master(&mut connection).map_err(Trouble::Failed)? {
            return Err(Trouble::Unconnected("Redis is not the master that its Sentinels say it is".to_owned()));
        }
        Ok(Kept { connection, server: server.clone(), checked: Instant::now() })
    }

    /// Asked only where nobody else would tell, and not each time: a node of a Cluster that is no master any more sends elsewhere.
    fn is_master_still(&self, kept: &mut Kept) -> bool {
        if !matches!(self.masters, Masters::Sentinels(_)) || kept.checked.elapsed() < GOOD_FOR {
            return true;
        }
        kept.checked = Instant::now();
        is_master(&mut kept.connection).unwrap_or(false)
    }

    /// Keeps the connection if all went well: else an answer may still be under way on it, or it may lead to a server that is no
    /// master any more.
    fn done<R>(&self, kept: Kept, outcome: Result<R, RedisError>) -> Result<R, Trouble> {
        if outcome.is_ok() {
            self.idle().push(kept);
        }
        outcome.map_err(Trouble::Failed)
    }

    /// Ends what is kept of this server.
    fn forget(&self, server: &ConnectionAddr) {
        self.idle().retain(|kept| kept.server != *server);
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever may not be asked for the role passes for a master.
fn is_master(connection: &mut RedisConnection) -> Result<bool, RedisError> {
    match cmd("ROLE").query::<Vec<Value>>(connection) {
        Ok(role) => Ok(!matches!(role.first(), Some(Value::BulkString(word)) if word != b"master")),
        Err(error) if refusal(&error).is_some() => Ok(true),
        Err(error) => Err(error),
    }
}

impl fmt::Debug for RedisLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisLink").field("access", &self.access).finish_non_exhaustive()
    }
}
