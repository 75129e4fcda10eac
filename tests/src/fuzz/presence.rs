//! What a Redis in good faith answers to the scripts of presence, for targets that drive sessions; and what the hub has asked.

use super::session::bulk;
use fanfare_core::broker::redis::RedisBroker;
use fanfare_core::broker::redis::presence::commands::Script;
use fanfare_core::broker::{Ask, PresenceId};
use std::collections::BTreeSet;

/// Asks that the hub lets wait at a time.
const ASKS_MAX: usize = 4;

/// What waits for an answer.
#[derive(Debug, Default)]
pub(super) struct Asked {
    presents: BTreeSet<u64>,
    rosters: BTreeSet<u64>,
    /// The publisher went down before they were answered.
    void_presents: BTreeSet<u64>,
    void_rosters: BTreeSet<u64>,
}

impl Asked {
    /// Asks for something.
    pub(super) fn ask(&mut self, broker: &mut RedisBroker, room: &str, number: u64, choice: u8) {
        if self.presents.len() + self.rosters.len() >= ASKS_MAX {
            return;
        }
        let id = PresenceId::new(number);
        if choice & 1 == 0 {
            self.presents.insert(number);
            let user = ["bob", "eve"][usize::from(choice >> 1 & 1)];
            broker.ask(Ask::Present { room, user, info: "", connections: (choice >> 2 & 3).into(), id });
        } else {
            self.rosters.insert(number);
            broker.ask(Ask::Roster { room, from: (choice >> 1).into(), id });
        }
    }

    /// A user is kept.
    pub(super) fn kept(&mut self, id: PresenceId) {
        let is_first = self.presents.remove(&id.number()) || self.void_presents.remove(&id.number());
        assert!(is_first, "{id:?} is answered once");
    }

    /// A roster has come.
    pub(super) fn read(&mut self, id: PresenceId) {
        let is_first = self.rosters.remove(&id.number()) || self.void_rosters.remove(&id.number());
        assert!(is_first, "{id:?} is answered once");
    }

    /// Either has failed.
    pub(super) fn failed(&mut self, id: PresenceId) {
        if self.rosters.contains(&id.number()) || self.void_rosters.contains(&id.number()) {
            self.read(id);
        } else {
            self.kept(id);
        }
    }

    /// Nothing that was told is answered.
    pub(super) fn lost(&mut self) {
        self.presents.clear();
        self.void_presents.clear();
    }

    /// The publisher is down. In a Cluster what is void may be answered all the same.
    pub(super) fn publisher_down(&mut self, is_of_cluster: bool) {
        let [mut presents, mut rosters] = [&mut self.presents, &mut self.rosters].map(std::mem::take);
        if is_of_cluster {
            self.void_presents.append(&mut presents);
            self.void_rosters.append(&mut rosters);
        }
    }

    /// Whether anything waits.
    pub(super) fn is_empty(&self) -> bool {
        self.presents.is_empty() && self.rosters.is_empty()
    }
}

/// What a Redis replies to this script, if it is one of presence. `choice` is whatever it likes.
pub(super) fn answer(sha1: &[u8], choice: u64) -> Option<Vec<u8>> {
    let script = Script::ALL.into_iter().find(|script| script.sha1().as_bytes() == sha1)?;
    let of = |text: &str| String::from_utf8_lossy(&bulk(text.as_bytes())).into_owned();
    let replid = of(&["ab", "cd"][usize::from(choice.is_multiple_of(7))].repeat(20));
    let (flag, nothing) = (choice & 1, of(""));
    if choice.is_multiple_of(23) {
        return Some(b"-GONE the incarnation is dead\r\n".to_vec());
    }
    let text = match script {
        Script::Present | Script::PresentSharded => format!("*6\r\n:1\r\n:1\r\n:{flag}\r\n{replid}:1\r\n{nothing}"),
        Script::Leave | Script::LeaveSharded => format!("*5\r\n:{flag}\r\n:0\r\n{replid}:1\r\n{nothing}"),
        Script::Roster => format!("*5\r\n{}:1\r\n:0\r\n{}{replid}", of("00000000000000ee"), of("0")),
        Script::Gone if flag == 1 => format!("*1\r\n{}", of("room1")),
        Script::Gone => "*0\r\n".to_owned(),
        Script::Renew => {
            let is_kept = u8::from(!choice.is_multiple_of(5));
            format!("*4\r\n:{is_kept}\r\n:1000\r\n{replid}*1\r\n{}", of("00000000000000dd"))
        }
        Script::Check if choice & 2 == 0 => format!("*3\r\n:{flag}\r\n{replid}*0\r\n"),
        Script::Check => format!("*3\r\n:{flag}\r\n{replid}*1\r\n{}", of("00000000000000ee")),
    };
    Some(text.into_bytes())
}

/// The name of the script with this text, if it is one of presence.
pub(super) fn loaded(source: &[u8]) -> Option<&'static str> {
    Script::ALL.into_iter().find(|script| script.source().as_bytes() == source).map(Script::sha1)
}

/// Bytes of all scripts of presence, and of the commands of it that may wait.
pub(super) fn bytes_max() -> usize {
    let scripts: usize = Script::ALL.iter().map(|script| script.source().len() + 100).sum();
    // Those of clearing up and of checks, those that the hub asked, and a renewal.
    scripts + (64 + 2 * ASKS_MAX + 1) * 1_000
}
