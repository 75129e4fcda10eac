//! Which server is the master, asked of Sentinels: by those who have a connection to it now and then, and by the others at once.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redis::{ConnectionAddr, RedisError, cmd};

use crate::redis_connection::RedisConnection;
use crate::redis_place::Access;
use crate::redis_trouble::reason;

/// For connecting and signing in, and for each answer. Another Sentinel knows the same.
const ANSWER_TIME_MAX: Duration = Duration::from_millis(500);
/// For all of them together, because somebody waits.
const ASK_TIME_MAX: Duration = Duration::from_secs(2);
/// How long an answer holds. A master that has been cut off from the Sentinels takes itself for one still, so that nobody else can tell.
pub(crate) const GOOD_FOR: Duration = Duration::from_secs(1);

/// The Sentinels of a group.
pub(crate) struct Sentinels {
    sentinels: Vec<ConnectionAddr>,
    group: String,
    access: Access,
    known: Mutex<Known>,
}

/// What is known of the group.
struct Known {
    master: Option<ConnectionAddr>,
    asked: Option<Instant>,
    /// In which order the Sentinels are asked: those that did not answer are last.
    order: Vec<usize>,
}

/// What a Sentinel says: since which configuration who is the master. It may know no such group.
type Said = Option<(Option<u64>, ConnectionAddr)>;

impl Sentinels {
    pub(crate) fn new(sentinels: Vec<ConnectionAddr>, group: String, access: Access) -> Sentinels {
        let order = (0..sentinels.len()).collect();
        let known = Mutex::new(Known { master: None, asked: None, order });
        Sentinels { sentinels, group, access, known }
    }

    /// The master. Where one is known and no Sentinel answers, it is still that one.
    pub(crate) fn master(&self) -> Result<ConnectionAddr, String> {
        let mut known = self.known();
        if let (Some(master), Some(asked)) = (&known.master, known.asked)
            && asked.elapsed() < GOOD_FOR
        {
            return Ok(master.clone());
        }
        let said = self.ask(&mut known.order);
        known.asked = Some(Instant::now());
        if let Ok(master) = &said {
            known.master = Some(master.clone());
        }
        known.master.clone().map_or(said, Ok)
    }

    /// Something is wrong with the master, so that nobody is taken for it before a Sentinel has said so.
    pub(crate) fn doubt(&self) {
        self.known().master = None;
    }

    /// Asks until most have answered. Of several answers the one of the latest configuration counts, because who was cut off keeps an
    /// old one.
    fn ask(&self, order: &mut Vec<usize>) -> Result<ConnectionAddr, String> {
        let (began, count) = (Instant::now(), self.sentinels.len());
        let (mut said, mut silent, mut trouble) = (Vec::new(), Vec::new(), None);
        for &index in order.iter() {
            if said.len() * 2 > count || began.elapsed() >= ASK_TIME_MAX {
                break;
            }
            match self.ask_one(&self.sentinels[index]) {
                Ok(answer) => said.push(answer),
                Err(why) => {
                    silent.push(index);
                    trouble.get_or_insert(why);
                }
            }
        }
        order.retain(|index| !silent.contains(index));
        order.extend(silent);
        if said.is_empty() {
            let trouble = trouble.unwrap_or_default();
            return Err(format!("no Sentinel answers: {trouble}"));
        }
        let latest = said.into_iter().flatten().max_by_key(|(epoch, _)| *epoch);
        latest.map(|(_, master)| master).ok_or_else(|| format!("the Sentinels know no master called {}", self.group))
    }

    fn ask_one(&self, sentinel: &ConnectionAddr) -> Result<Said, String> {
        let told = |error: RedisError| reason(&error);
        let mut connection = RedisConnection::open(sentinel, &self.access, ANSWER_TIME_MAX)?;
        // First, because the address in it is the old one while it fails over. An ACL may refuse it.
        let configuration =
            cmd("SENTINEL").arg("MASTER").arg(&self.group).query::<HashMap<String, String>>(&mut connection);
        let epoch = configuration.ok().and_then(|fields| fields.get("config-epoch")?.parse().ok());
        let mut address = cmd("SENTINEL");
        address.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.group);
        let address: Option<(String, u16)> = address.query(&mut connection).map_err(told)?;
        Ok(address.map(|(host, port)| (epoch, ConnectionAddr::Tcp(host, port))))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
