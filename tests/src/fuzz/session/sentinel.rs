//! A Sentinel at the other end of a link of the session's: it answers, tells of another master, breaks off, and lies.

use super::{Link, bulk};
use crate::fuzz::steps::short;
use arbitrary::{Result, Unstructured};
use fanfare_core::broker::redis::{Address, LinkId, RedisBroker, Topology};
use fanfare_core::time::Time;
use std::collections::BTreeSet;

const GROUP: &str = "mymaster";
/// A password, and what asks once.
const OUTPUT_BYTES_MAX: usize = 300;

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step<'a> {
    /// The connection asked for is established.
    Connect,
    /// It breaks, or cannot be established.
    Break,
    /// So many commands are answered, with this server and epoch.
    Answer(u8, u8, u8),
    /// One is refused.
    Refuse(u8),
    /// Another master is told of.
    Switch(u8),
    /// These bytes arrive.
    Hear(&'a [u8]),
}

impl<'a> Step<'a> {
    pub(super) fn read(bytes: &mut Unstructured<'a>) -> Result<Step<'a>> {
        Ok(match bytes.int_in_range(0..=8)? {
            0 | 1 => Step::Connect,
            2 => Step::Break,
            3 => Step::Refuse(bytes.arbitrary()?),
            4 => Step::Switch(bytes.arbitrary()?),
            5 => Step::Hear(short(bytes)?),
            _ => Step::Answer(bytes.arbitrary()?, bytes.arbitrary()?, bytes.arbitrary()?),
        })
    }
}

/// So many Sentinels.
pub(super) fn topology(sentinels: usize) -> Topology {
    let address = |number| Address::Tcp { host: "sentinel".to_owned(), port: 26_379 + number as u16 };
    Topology::Sentinel { sentinels: (0..sentinels).map(address).collect(), master: GROUP.to_owned() }
}

/// What stands there.
pub(super) struct Sentinel {
    pub(super) id: LinkId,
    pub(super) link: Link,
    named: BTreeSet<u16>,
    /// It has said anything, and so may have named anybody.
    lies: bool,
}

impl Sentinel {
    pub(super) fn new(id: LinkId) -> Sentinel {
        Sentinel { id, link: Link::default(), named: BTreeSet::new(), lies: false }
    }

    /// Whether it has named a server there.
    pub(super) fn has_named(&self, address: &Address) -> bool {
        self.lies || matches!(address, Address::Tcp { host, port } if host == "redis" && self.named.contains(port))
    }

    /// What is to be written stays small, and there is nothing where there is no connection.
    pub(super) fn check(&self, session: &mut RedisBroker) {
        let most = if self.link.established { OUTPUT_BYTES_MAX } else { 0 };
        assert!(session.output(self.id).len() <= most, "a Sentinel is asked and asked");
    }

    /// Says what the session hears of it.
    pub(super) fn take(&mut self, step: Step<'_>, session: &mut RedisBroker, now: Time) -> (LinkId, Vec<u8>) {
        let mut said = Vec::new();
        match step {
            Step::Connect if self.link.open && !self.link.established => {
                self.link.established = true;
                session.connected(self.id, now);
            }
            Step::Break if self.link.open => {
                self.link = Link::default();
                session.disconnected(self.id, "broken", now);
            }
            Step::Connect | Step::Break => {}
            _ if !self.link.established => {}
            Step::Answer(commands, server, epoch) => {
                self.read(session);
                for _ in 0..commands.min(32) {
                    self.answer(server, epoch, &mut said);
                }
            }
            Step::Refuse(choice) => {
                self.read(session);
                if self.link.commands.pop_front().is_some() {
                    said.extend_from_slice(super::REFUSALS[usize::from(choice) % super::REFUSALS.len()]);
                }
            }
            Step::Switch(server) => {
                let port = self.name(server);
                let text = format!("{GROUP} redis 1 redis {port}");
                said.extend(array(&["message", "+switch-master", &text]));
            }
            Step::Hear(bytes) => {
                self.lies = true;
                said.extend_from_slice(bytes);
            }
        }
        (self.id, said)
    }

    /// Takes all that the session has to say.
    fn read(&mut self, session: &mut RedisBroker) {
        let output = session.output(self.id).to_vec();
        session.written(self.id, output.len());
        self.link.heard.extend(output);
        self.link.understand();
    }

    fn name(&mut self, server: u8) -> u16 {
        let port = u16::from(server % 4) + 1;
        self.named.insert(port);
        port
    }

    fn answer(&mut self, server: u8, epoch: u8, said: &mut Vec<u8>) {
        let Some(command) = self.link.commands.pop_front() else { return };
        let words: Vec<_> = command.iter().map(|word| String::from_utf8_lossy(word)).collect();
        let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
        match words[..] {
            ["AUTH", ..] => said.extend_from_slice(b"+OK\r\n"),
            ["SENTINEL", "MASTER", GROUP] if epoch == 0 => {
                said.extend_from_slice(b"-ERR No such master with that name\r\n")
            }
            ["SENTINEL", "MASTER", GROUP] => {
                said.extend(array(&["name", GROUP, "config-epoch", &(epoch % 8).to_string(), "quorum", "2"]));
            }
            ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", GROUP] if epoch == 0 => said.extend_from_slice(b"*-1\r\n"),
            ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", GROUP] => {
                let port = self.name(server).to_string();
                said.extend(array(&["redis", &port]));
            }
            [kind @ ("SUBSCRIBE" | "UNSUBSCRIBE"), channel @ "+switch-master"] => {
                said.extend_from_slice(b"*3\r\n");
                said.extend([kind.to_lowercase().as_bytes(), channel.as_bytes()].map(bulk).concat());
                said.extend_from_slice(b":1\r\n");
            }
            _ => panic!("no Sentinel is told {words:?}"),
        }
    }
}

fn array(words: &[&str]) -> Vec<u8> {
    let words: Vec<_> = words.iter().map(|word| bulk(word.as_bytes())).collect();
    [format!("*{}\r\n", words.len()).into_bytes(), words.concat()].concat()
}
