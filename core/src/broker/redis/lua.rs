//! The scripts that a connection needs, of histories and of presence: which they are, and how Redis is given them.

use super::command;
use super::link_id::Role;
use super::presence::commands as presence;
use super::resp::Reply;
use super::{RedisConfig, history};

/// A script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lua {
    History(history::Script),
    Presence(presence::Script),
}

impl Lua {
    /// Those that are run on the connection of a role. Without one of them none is.
    pub(super) fn of(role: Role, config: &RedisConfig) -> Vec<Lua> {
        let names = config.names();
        let history = history::Script::of(&names).map(Lua::History);
        let presence = presence::Script::of(&names).map(Lua::Presence);
        let has_history = config.keeps_history && role != Role::Subscriber;
        let has_presence = config.keeps_presence && role == Role::Publisher;
        let history = history.into_iter().filter(|_| has_history);
        history.chain(presence.into_iter().filter(|_| has_presence)).collect()
    }

    fn source(self) -> &'static str {
        match self {
            Lua::History(script) => script.source(),
            Lua::Presence(script) => script.source(),
        }
    }

    fn sha1(self) -> &'static str {
        match self {
            Lua::History(script) => script.sha1(),
            Lua::Presence(script) => script.sha1(),
        }
    }

    /// Appends the command that makes it known.
    pub(super) fn load(self, out: &mut Vec<u8>) {
        command::command(out, &[b"SCRIPT", b"LOAD", self.source().as_bytes()]);
    }

    /// Whether it is known now, by the reply to that. The error is why not, for people.
    pub(super) fn loaded(self, reply: &Reply<'_>, config: &RedisConfig) -> Result<(), String> {
        match reply {
            Reply::Bulk(name) | Reply::Simple(name) if *name == self.sha1().as_bytes() => Ok(()),
            Reply::Error(error) => Err(format!("SCRIPT LOAD refused: {}", config.explained_error(error))),
            _ => Err("SCRIPT LOAD was answered with something else than the script's name".to_owned()),
        }
    }
}
