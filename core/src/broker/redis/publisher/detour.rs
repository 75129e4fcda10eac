//! What has to go another way than the one that it was sent, in a Cluster: because another node has its room, because its script was not
//! known, or because it stood behind one of these. What goes where is for `cluster` to say.

use super::super::RedisConfig;
use super::super::command;
use super::super::redirect::Redirect;
use super::super::resp::{Limits, Reply, Scan, scan};
use super::Asked;
use crate::broker::envelope;
use crate::history::Position;
use crate::time::Time;

/// Why something goes another way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Why {
    /// Its node said so.
    Redirected(Redirect),
    /// Its node did not know the script, and has been given it since.
    NoScript,
    /// It stood behind others, or behind the end of the connection, and was not sent.
    Behind,
}

/// One command. It was surely not done.
#[derive(Debug)]
pub(in super::super) struct Detour {
    pub(in super::super) asked: Asked,
    /// When it was asked first.
    pub(in super::super) since: Time,
    pub(in super::super) bytes: Box<[u8]>,
    pub(in super::super) why: Why,
}

/// Those of one publisher, in the order in which they were asked, and what has to be announced elsewhere.
#[derive(Debug, Default)]
pub(super) struct Detours {
    /// Whether there are other ways.
    pub(super) is_of_cluster: bool,
    /// Whether what is published is heard at one node only.
    is_sharded: bool,
    list: Vec<Detour>,
    announcements: Vec<(u16, Vec<u8>)>,
}

impl Detours {
    /// None yet.
    pub(super) fn new(config: &RedisConfig) -> Detours {
        let names = config.names();
        Detours { is_of_cluster: names.is_of_cluster(), is_sharded: names.is_sharded(), ..Detours::default() }
    }

    pub(super) fn push(&mut self, (asked, since): (Asked, Time), bytes: &[u8], why: Why) {
        self.list.push(Detour { asked, since, bytes: bytes.into(), why });
    }

    /// Bytes of all.
    pub(super) fn len_bytes(&self) -> usize {
        self.list.iter().map(|detour| detour.bytes.len()).sum()
    }

    /// Whether any goes another way for want of scripts.
    pub(super) fn lacks_scripts(&self) -> bool {
        self.list.iter().any(|detour| detour.why == Why::NoScript)
    }

    /// Whether there is anything to take.
    pub(super) fn has_any(&self) -> bool {
        !self.list.is_empty() || !self.announcements.is_empty()
    }

    /// Whether there is one of which it is so.
    pub(super) fn any(&self, is_it: impl Fn(Asked) -> bool) -> bool {
        self.list.iter().any(|detour| is_it(detour.asked))
    }

    pub(super) fn take(&mut self) -> Vec<Detour> {
        std::mem::take(&mut self.list)
    }

    /// Takes out those of which it is so.
    pub(super) fn extract(&mut self, is_wanted: impl Fn(Asked) -> bool) -> Vec<Asked> {
        let (out, rest) = self.take().into_iter().partition(|detour| is_wanted(detour.asked));
        self.list = rest;
        let out: Vec<Detour> = out;
        out.into_iter().map(|detour| detour.asked).collect()
    }

    /// A message was stored where no subscribers of its room are yet, by this command. Classic Pub/Sub has told them.
    pub(super) fn announce(&mut self, partition: u16, store: &[u8], position: Position) {
        if !self.is_sharded {
            return;
        }
        let Some((channel, payload)) = published_by(store) else { return };
        let mut message = Vec::new();
        envelope::write_stored_header(&mut message, position);
        message.extend_from_slice(payload);
        let mut out = Vec::new();
        command::command(&mut out, &[b"SPUBLISH", channel, &message]);
        self.announcements.push((partition, out));
    }

    pub(super) fn take_announcements(&mut self) -> Vec<(u16, Vec<u8>)> {
        std::mem::take(&mut self.announcements)
    }
}

/// The channel and the payload in a command that stores a message.
fn published_by(store: &[u8]) -> Option<(&[u8], &[u8])> {
    let limits = Limits { message_bytes_max: usize::MAX, reply_bytes_max: usize::MAX };
    let Ok(Scan::Reply { reply: Reply::Array(words), .. }) = scan(store, &limits) else { return None };
    let mut words = words.map(|word| match word {
        Reply::Bulk(word) => word,
        _ => &[],
    });
    let keys: usize = std::str::from_utf8(words.nth(2)?).ok()?.parse().ok()?;
    // ARGV[4] and ARGV[7].
    let channel = words.nth(keys + 3)?;
    Some((channel, words.nth(2)?))
}

#[cfg(test)]
mod tests {
    use super::super::super::history::{self, Room};
    use super::super::super::names::{ClusterPubSub, Names};
    use super::super::super::{Address, Topology};
    use super::*;
    use crate::history::{IdempotencyKey, Retention};
    use std::time::Duration;

    fn config(pubsub: ClusterPubSub) -> RedisConfig {
        let topology = Topology::Cluster { nodes: vec![Address::default()], partitions: 256, pubsub };
        RedisConfig { topology, prefix: "p:".to_owned(), ..RedisConfig::default() }
    }

    #[test]
    fn what_everybody_has_heard_is_not_announced() {
        let config = config(ClusterPubSub::Classic);
        let retention = Retention { messages_max: 10, bytes_max: 1_000, age_max: Duration::from_secs(60) };
        let mut store = Vec::new();
        history::store(&mut store, &Room::new("lobby", retention, &config), 1, None, b"1 -\ntext");
        let mut detours = Detours::new(&config);
        detours.announce(7, &store, Position { epoch: "1-00000000000000aa".parse().unwrap(), offset: 3 });
        assert_eq!(detours.take_announcements(), []);
    }

    #[test]
    fn a_stored_message_is_announced_as_its_script_does() {
        let names = Names::in_cluster("p:", 256, ClusterPubSub::Sharded);
        let age_max = Duration::from_secs(60);
        let retention = Retention { messages_max: 10, bytes_max: 1_000, age_max };
        let room = Room { names, name: "lobby", retention, meta_age_max: age_max };
        let key = IdempotencyKey { text: "k", digest: 1, age_max, keys_max: 10 };
        for key in [None, Some(&key)] {
            let mut store = Vec::new();
            history::store(&mut store, &room, 1, key, b"1 -\ntext");
            let channel = names.channel("lobby");
            assert_eq!(published_by(&store), Some((channel.as_bytes(), b"1 -\ntext".as_slice())));
            let mut detours = Detours::new(&config(ClusterPubSub::Sharded));
            detours.announce(7, &store, Position { epoch: "1-00000000000000aa".parse().unwrap(), offset: 3 });
            let mut expected = Vec::new();
            command::publish(&mut expected, &names, "lobby", b"F2 1-00000000000000aa 3 1 -\ntext");
            assert_eq!(detours.take_announcements(), [(7, expected)]);
        }
    }
}
