//! The first words on a connection: protocol version, credentials, name, database. It ends with the connection ready
//! for use, or with the reason why it cannot be.

use std::collections::VecDeque;

use super::RedisConfig;
use super::command;
use super::complaints::Complaints;
use super::lua::Lua;
use super::refusal::Refusal;
use super::resp::{Items, Reply};
use super::standing::{Standing, is_of_a_cluster};

/// What a reply in the set-up answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Hello,
    Auth,
    Select,
    SetName,
    /// Is it a master?
    Role,
    /// Does it do what it is asked? Every other step may be missing or may fail without harm.
    Check,
    /// Asked of a replica: in a cluster it passes on what is published on any node.
    Cluster,
    /// For histories and presence. Without them everything else goes on.
    Load(Lua),
    /// May it evict them?
    Memory,
    /// Sent along with a `HELLO` that was refused, and asked again since.
    Moot,
}

/// What an answer to `ROLE` tells.
pub(super) fn standing(mut role: Items<'_>) -> Standing {
    match role.next() {
        Some(Reply::Bulk(word) | Reply::Simple(word)) => Standing::named(word),
        _ => Standing::Master,
    }
}

/// Whether the answer to `INFO cluster` is that of a node of one.
pub(super) fn tells_cluster(reply: &Reply<'_>) -> bool {
    matches!(reply, Reply::Bulk(text) | Reply::Verbatim { text, .. } if is_of_a_cluster(text))
}

/// Whether the set-up is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Going,
    Done,
}

/// The steps not answered yet.
#[derive(Debug, Default)]
pub(super) struct Setup {
    awaited: VecDeque<Step>,
    tells_role: bool,
    scripts: Vec<Lua>,
    /// Why there are no scripts here.
    unloaded: Option<String>,
    /// Why Redis may evict them.
    eviction: Option<String>,
}

impl Setup {
    /// Begins in RESP3, all in one write. `HELLO` carries credentials and name.
    pub(super) fn begin(&mut self, scripts: Vec<Lua>, config: &RedisConfig, out: &mut Vec<u8>) {
        *self = Setup { awaited: VecDeque::from([Step::Hello]), scripts, ..Setup::default() };
        let name = client_name(config);
        let mut hello: Vec<&[u8]> = vec![b"HELLO", b"3"];
        if let Some(password) = &config.password {
            let username = config.username.as_deref().unwrap_or("default");
            hello.extend([b"AUTH".as_slice(), username.as_bytes(), password.as_bytes()]);
        }
        if !name.is_empty() {
            hello.extend([b"SETNAME".as_slice(), name.as_bytes()]);
        }
        command::command(out, &hello);
        self.select(config, out);
        self.check(out);
    }

    /// The server speaks RESP2 only: everything `HELLO` would have done, one by one.
    fn begin_again(&mut self, config: &RedisConfig, out: &mut Vec<u8>) {
        self.awaited.iter_mut().for_each(|step| *step = Step::Moot);
        if config.password.is_some() {
            self.awaited.push_back(Step::Auth);
            let auth: Vec<&[u8]> = [b"AUTH".as_slice()]
                .into_iter()
                .chain(config.auth_arguments().into_iter().map(str::as_bytes))
                .collect();
            command::command(out, &auth);
        }
        self.select(config, out);
        let name = client_name(config);
        if !name.is_empty() {
            self.awaited.push_back(Step::SetName);
            command::command(out, &[b"CLIENT", b"SETNAME", name.as_bytes()]);
        }
        self.check(out);
    }

    fn check(&mut self, out: &mut Vec<u8>) {
        self.awaited.extend([Step::Role, Step::Check]);
        command::command(out, &[b"ROLE"]);
        command::command(out, &[b"PING"]);
        for script in &self.scripts {
            self.awaited.push_back(Step::Load(*script));
            script.load(out);
        }
        if !self.scripts.is_empty() {
            self.awaited.push_back(Step::Memory);
            command::command(out, &[b"INFO", b"memory"]);
        }
    }

    /// Why the scripts could not be loaded, if they were to be.
    pub(super) fn take_unloaded(&mut self) -> Option<String> {
        self.unloaded.take()
    }

    /// Why histories may be evicted, if they may.
    pub(super) fn take_eviction(&mut self) -> Option<String> {
        self.eviction.take()
    }

    /// Whether the server has answered `ROLE`, and it is worth asking again.
    pub(super) fn tells_role(&self) -> bool {
        self.tells_role
    }

    /// Every connection begins in database 0; not asking for it spares users the right to `SELECT`.
    fn select(&mut self, config: &RedisConfig, out: &mut Vec<u8>) {
        if config.database != 0 {
            self.awaited.push_back(Step::Select);
            command::command(out, &[b"SELECT", config.database.to_string().as_bytes()]);
        }
    }

    /// Takes the next reply; the error is the reason, for people, why this connection is of no use.
    pub(super) fn reply(
        &mut self,
        reply: &Reply<'_>,
        config: &RedisConfig,
        out: &mut Vec<u8>,
    ) -> Result<Progress, String> {
        if matches!(reply, Reply::Push(_)) {
            return Ok(Progress::Going);
        }
        let Some(step) = self.awaited.pop_front() else {
            return Err("a reply came during set-up that nothing was asked for".to_owned());
        };
        match (step, reply) {
            (Step::Moot, _) => {}
            (Step::Hello, Reply::Error(error)) if Refusal::leaves_resp2(error, config) => self.begin_again(config, out),
            (Step::Hello | Step::Auth | Step::Select, Reply::Error(error)) => {
                return Err(format!("{} refused: {}", step.name(), config.explained_error(error)));
            }
            (Step::SetName | Step::Role | Step::Check | Step::Load(_), Reply::Error(error))
                if Refusal::of_probe(error) != Refusal::Lasting =>
            {
                return Err(format!("{} refused: {}", step.name(), config.explained_error(error)));
            }
            (Step::Role, Reply::Array(items)) => {
                self.tells_role = true;
                match standing(*items) {
                    Standing::Master => {}
                    Standing::Sentinel => return Err(Standing::SENTINEL.to_owned()),
                    Standing::Replica => {
                        self.awaited.push_back(Step::Cluster);
                        command::command(out, &[b"INFO", b"cluster"]);
                    }
                }
            }
            (Step::Load(script), reply) => {
                if let Err(reason) = script.loaded(reply, config) {
                    self.unloaded = Some(reason);
                }
            }
            // Whoever is not told is not warned.
            (Step::Memory, Reply::Bulk(text) | Reply::Verbatim { text, .. }) => {
                self.eviction = Complaints::eviction(text, config);
            }
            (Step::Cluster, reply) if tells_cluster(reply) => self.tells_role = false,
            (Step::Cluster, _) => return Err(Standing::REPLICA.to_owned()),
            _ => {}
        }
        Ok(if self.awaited.is_empty() { Progress::Done } else { Progress::Going })
    }
}

impl Step {
    fn name(self) -> &'static str {
        match self {
            Step::Hello => "HELLO",
            Step::Auth => "AUTH",
            Step::Select => "SELECT",
            Step::SetName => "CLIENT SETNAME",
            Step::Role => "ROLE",
            Step::Check => "PING",
            Step::Cluster | Step::Memory => "INFO",
            Step::Load(_) => "SCRIPT LOAD",
            Step::Moot => "nothing",
        }
    }
}

/// Redis refuses spaces, line ends and everything outside printable ASCII in names, and `HELLO` as a whole with them.
fn client_name(config: &RedisConfig) -> String {
    config.client_name.chars().map(|c| if c.is_ascii_graphic() { c } else { '-' }).collect()
}
