//! Which node of a Cluster has a key: its slot, and the slots' masters, as some node says it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redis::{ConnectionAddr, RedisError, Value, cmd};

use crate::redis_connection::RedisConnection;
use crate::redis_place::Access;
use crate::redis_trouble::reason;

/// For connecting and signing in, and for each answer. Another node knows the same.
const ANSWER_TIME_MAX: Duration = Duration::from_millis(500);
/// For all of them together, because somebody waits.
const ASK_TIME_MAX: Duration = Duration::from_secs(2);
/// How often it is asked at most where single slots turn out to be elsewhere.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// As many as every Cluster has.
const SLOTS: u16 = 16384;

/// The slot of a key: of what stands between its first `{` and the `}` that follows, if that is something, else of all of it.
pub(crate) fn slot_of(key: &[u8]) -> u16 {
    let tag = key.iter().position(|&byte| byte == b'{').and_then(|open| {
        let behind = &key[open + 1..];
        let close = behind.iter().position(|&byte| byte == b'}')?;
        (close > 0).then(|| &behind[..close])
    });
    crc16(tag.unwrap_or(key)) % SLOTS
}

/// CRC-16/XMODEM, which Redis Cluster's specification prescribes.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc: u16, &byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| (crc << 1) ^ if crc & 0x8000 == 0 { 0 } else { 0x1021 })
    })
}

/// Where a node sends what it does not have.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Redirect {
    /// The slot's master is this one.
    Moved(ConnectionAddr),
    /// The slot is on its way there.
    Ask(ConnectionAddr),
    /// Some of the keys are on their way, and some are not.
    Later,
}

impl Redirect {
    /// What an error of this server says, if it says where to go.
    pub(crate) fn of(error: &RedisError, server: &ConnectionAddr) -> Option<Redirect> {
        let there = || {
            let (host, port) = error.redirect_node()?.0.rsplit_once(':')?;
            address(host, port.parse().ok()?, server)
        };
        match error.code()? {
            "MOVED" => there().map(Redirect::Moved),
            "ASK" => there().map(Redirect::Ask),
            "TRYAGAIN" => Some(Redirect::Later),
            _ => None,
        }
    }
}

/// The address of a node, as another one tells it: no host means its own, and `?` that it knows none.
fn address(host: &str, port: u16, teller: &ConnectionAddr) -> Option<ConnectionAddr> {
    match (host, teller) {
        ("?", _) => None,
        ("", ConnectionAddr::Tcp(host, _)) => Some(ConnectionAddr::Tcp(host.clone(), port)),
        _ => Some(ConnectionAddr::Tcp(host.to_owned(), port)),
    }
}

/// A Cluster.
pub(crate) struct Cluster {
    seeds: Vec<ConnectionAddr>,
    access: Access,
    known: Mutex<Known>,
}

/// What is known of it.
struct Known {
    /// The first one that holds a slot counts.
    masters: Vec<Range>,
    /// Single slots have turned out to be elsewhere.
    is_stale: bool,
    asked: Option<Instant>,
    /// In which order nodes are asked: those that did not answer, or told what was not true, are last.
    order: Vec<ConnectionAddr>,
}

/// Slots that follow each other, and their master.
struct Range {
    first: u16,
    last: u16,
    master: ConnectionAddr,
}

impl Cluster {
    pub(crate) fn new(seeds: Vec<ConnectionAddr>, access: Access) -> Cluster {
        let known = Known { masters: Vec::new(), is_stale: false, asked: None, order: seeds.clone() };
        Cluster { seeds, access, known: Mutex::new(known) }
    }

    /// The master of a slot.
    pub(crate) fn master_of(&self, slot: u16) -> Result<ConnectionAddr, String> {
        let mut known = self.known();
        let is_due = known.asked.is_none_or(|asked| asked.elapsed() >= ASK_AGAIN_AFTER);
        if known.masters.is_empty() || known.is_stale && is_due {
            let said = self.ask(&mut known);
            known.asked = Some(Instant::now());
            match said {
                Ok(masters) => (known.masters, known.is_stale) = (masters, false),
                Err(why) if known.masters.is_empty() => return Err(why),
                Err(_) => {}
            }
        }
        let master = known.masters.iter().find(|range| (range.first..=range.last).contains(&slot));
        let master = master.map(|range| range.master.clone());
        if master.is_none() {
            known.masters.clear();
        }
        master.ok_or_else(|| format!("no node of the Cluster has slot {slot}"))
    }

    /// A node says that this is the master of a slot.
    pub(crate) fn moved(&self, slot: u16, master: ConnectionAddr) {
        let mut known = self.known();
        known.masters.retain(|range| range.first != range.last || range.first != slot);
        known.masters.insert(0, Range { first: slot, last: slot, master });
        known.is_stale = true;
    }

    /// Something is wrong with a master, so that nodes are asked anew; first another one than who has told of it.
    pub(crate) fn doubt(&self) {
        let mut known = self.known();
        known.masters.clear();
        if !known.order.is_empty() {
            known.order.rotate_left(1);
        }
    }

    fn ask(&self, known: &mut Known) -> Result<Vec<Range>, String> {
        let (began, mut trouble) = (Instant::now(), String::new());
        for _ in 0..known.order.len() {
            if began.elapsed() >= ASK_TIME_MAX {
                break;
            }
            match self.ask_one(&known.order[0]) {
                Ok((masters, nodes)) => {
                    let is_there = |node: &ConnectionAddr| nodes.contains(node) || self.seeds.contains(node);
                    known.order.retain(is_there);
                    let new: Vec<_> = nodes.into_iter().filter(|node| !known.order.contains(node)).collect();
                    known.order.extend(new);
                    return Ok(masters);
                }
                Err(why) => {
                    known.order.rotate_left(1);
                    trouble = why;
                }
            }
        }
        Err(format!("no node of the Cluster answers: {trouble}"))
    }

    /// The masters, and all nodes, of those that have slots.
    fn ask_one(&self, node: &ConnectionAddr) -> Result<(Vec<Range>, Vec<ConnectionAddr>), String> {
        let mut connection = RedisConnection::open(node, &self.access, ANSWER_TIME_MAX)?;
        let told = |error: RedisError| reason(&error);
        let said: Vec<Vec<Value>> = cmd("CLUSTER").arg("SLOTS").query(&mut connection).map_err(told)?;
        let (mut masters, mut nodes) = (Vec::new(), Vec::new());
        for range in said {
            let [Value::Int(first), Value::Int(last), of_range @ ..] = range.as_slice() else { continue };
            let addresses: Vec<_> = of_range.iter().map(|of_node| address_in(of_node, node)).collect();
            if let (Ok(first), Ok(last), Some(Some(master))) =
                (u16::try_from(*first), u16::try_from(*last), addresses.first())
            {
                masters.push(Range { first, last, master: master.clone() });
            }
            nodes.extend(addresses.into_iter().flatten());
        }
        nodes.sort_by_key(ToString::to_string);
        nodes.dedup();
        if masters.is_empty() {
            return Err("it knows no master".to_owned());
        }
        Ok((masters, nodes))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The address of a node in `CLUSTER SLOTS`.
fn address_in(node: &Value, teller: &ConnectionAddr) -> Option<ConnectionAddr> {
    let Value::Array(fields) = node else { return None };
    let [host, Value::Int(port), ..] = fields.as_slice() else { return None };
    let host = match host {
        Value::BulkString(host) => str::from_utf8(host).ok()?,
        _ => "",
    };
    address(host, u16::try_from(*port).ok()?, teller)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_the_slot_that_redis_gives_it() {
        // As `CLUSTER KEYSLOT` of Redis 7.0 answers.
        for (key, slot) in
            [("123456789", 12739), ("foo", 12182), ("{user1000}.following", 3443), ("foo{}{bar}", 8363), ("{", 4092)]
        {
            assert_eq!(slot_of(key.as_bytes()), slot, "{key}");
        }
        assert_eq!(slot_of(b"app:\x01{bans}"), slot_of(b"other:\x01{bans}:version"));
    }

    #[test]
    fn a_node_without_a_host_is_where_the_teller_is_and_one_that_is_unknown_is_nowhere() {
        let tcp = |host: &str, port| ConnectionAddr::Tcp(host.to_owned(), port);
        let teller = tcp("a", 1);
        assert_eq!(address("", 2, &teller), Some(tcp("a", 2)));
        assert_eq!(address("?", 2, &teller), None);
        assert_eq!(address("::1", 2, &teller), Some(tcp("::1", 2)));
    }
}
