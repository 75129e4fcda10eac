//! A model of a Sentinel, as far as anybody asks it: whom it takes for the master, and since which configuration. It may be away, slow, or
//! know no better than before a failover. What a seed draws of Sentinels stands here, too.

use crate::cluster::Surroundings;
use crate::network::{Read, Side, WireId};
use crate::options::{Fault, Options, Span, pick, rng};
use crate::resp;
use crate::timeline::{Happening, Timeline};
use crate::trace;
use fanfare_core::broker::redis::{Address, Topology};
use fastrand::Rng;
use std::collections::BTreeMap;

/// Of so many seeds those with these remainders draw Sentinels. The others do what they would have done without.
const WATCHED_OF: u64 = 16;
const WATCHED: [u64; 2] = [4, 12];

/// What the Sentinels call the servers.
const GROUP: &str = "tea-party";
/// Where changes are told.
const SWITCH_MASTER: &str = "+switch-master";

/// Who listens at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The server of this number.
    Server(usize),
    /// The Sentinel of this number.
    Sentinel(usize),
}

impl Target {
    /// Whom an address names: each has a port of its own.
    pub fn of(address: &Address) -> Target {
        let &Address::Tcp { port, .. } = address else { panic!("nobody was told of {address}") };
        match port.checked_sub(Topology::SENTINEL_PORT_DEFAULT) {
            Some(number) => Target::Sentinel(number.into()),
            None => Target::Server((port - Address::PORT_DEFAULT).into()),
        }
    }

    /// Its own.
    pub fn address(self) -> Address {
        let (first, number) = match self {
            Target::Server(number) => (Address::PORT_DEFAULT, number),
            Target::Sentinel(number) => (Topology::SENTINEL_PORT_DEFAULT, number),
        };
        Address::Tcp { host: "127.0.0.1".to_owned(), port: first + number as u16 }
    }
}

/// What a seed has of Sentinels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// How many servers they watch over.
    pub servers: usize,
    /// How many they are.
    pub sentinels: usize,
    /// They ask for one.
    password: Option<String>,
    /// Their ACL refuses to tell the epoch of their configuration.
    refuses_epoch: bool,
    /// Microseconds until each of them learns of another master.
    pub learns: Span,
}

impl Watched {
    /// Draws what this seed has of it, and changes what else the seed has drawn where that is needed.
    pub fn draw(options: &mut Options) -> Option<Watched> {
        if !WATCHED.contains(&(options.seed % WATCHED_OF)) {
            return None;
        }
        let r = &mut rng(options.seed, "sentinels");
        let watched = Watched {
            servers: r.usize(2..=3),
            sentinels: r.usize(2..=3),
            password: r.bool().then(|| "s3ntinel-and-long".to_owned()),
            refuses_epoch: r.u32(0..4) == 0,
            learns: Span { min: 100, max: pick(r, &[2_000, 200_000, 2_000_000]) },
        };
        let sentinels = (0..watched.sentinels).map(|number| Target::Sentinel(number).address()).collect();
        options.session.topology = Topology::Sentinel { sentinels, master: GROUP.to_owned() };
        options.session.sentinel_password.clone_from(&watched.password);
        let (pause, count) = (options.clients.pause.max / 2, options.clients.count as u64);
        for fault in Fault::ALL.into_iter().filter(|fault| fault.is_of_sentinels()) {
            let (on, mean) = (r.u32(0..3) == 0, pick(r, &[100, 500, 2_000]) * pause / count);
            if on && !options.is_quiet() {
                options.faults.push((fault, mean));
            }
        }
        Some(watched)
    }
}

/// Whom a Sentinel takes for the master. Whoever becomes it begins a later epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The number of the server.
    pub server: usize,
    /// Of the configuration.
    pub epoch: u64,
}

#[derive(Debug, Default)]
struct Connection {
    input: Vec<u8>,
    output: Vec<u8>,
    /// Bytes ever appended to the output.
    said: u64,
    authenticated: bool,
    subscribes: bool,
    /// The epoch that was told last. The address, asked for next, may be a newer one.
    epoch: Option<u64>,
}

/// A Sentinel.
#[derive(Debug)]
pub struct Sentinel {
    number: usize,
    traits: Watched,
    rng: Rng,
    connections: BTreeMap<WireId, Connection>,
    knows: Known,
    /// It accepts connections.
    pub up: bool,
    /// It does nothing.
    pub paused: bool,
    /// It is cut off from the others: it learns nothing.
    pub stale: bool,
    planned: bool,
}

impl Sentinel {
    /// One that is up, and takes the first server for the master.
    pub fn new(options: &Options, traits: &Watched, number: usize) -> Sentinel {
        Sentinel {
            number,
            traits: traits.clone(),
            rng: rng(options.seed, &format!("sentinel {number}")),
            connections: BTreeMap::new(),
            knows: Known::default(),
            up: true,
            paused: false,
            stale: false,
            planned: false,
        }
    }

    /// Takes a connection.
    pub fn accept(&mut self, wire: WireId) {
        let authenticated = self.traits.password.is_none();
        self.connections.insert(wire, Connection { authenticated, ..Connection::default() });
    }

    /// Something happened on one of its wires: a turn follows.
    pub fn wake(&mut self, timeline: &mut Timeline) {
        if !std::mem::replace(&mut self.planned, true) {
            timeline.after(self.rng.u64(1..200), Happening::Sentinel(self.number));
        }
    }

    /// The wires of its connections.
    pub fn wires(&self) -> Vec<WireId> {
        self.connections.keys().copied().collect()
    }

    /// Ends a connection and forgets it.
    pub fn kill(&mut self, wire: WireId, around: &mut Surroundings<'_>) {
        if self.connections.remove(&wire).is_some() {
            trace!(around.trace, around.timeline, "sentinel {}: wire {wire} ends", self.number);
            around.network.close(wire, Side::Far, &mut around.timeline);
        }
    }

    /// Plans when it learns what has changed.
    pub fn plan_learning(&mut self, timeline: &mut Timeline) {
        timeline.after(self.traits.learns.draw(&mut self.rng), Happening::Learns(self.number));
    }

    /// It is told who the master is, unless it is away or cut off, and tells whoever wants to hear of it.
    pub fn learn(&mut self, known: Known, around: &mut Surroundings<'_>) {
        if !self.up || self.stale || known == self.knows {
            return;
        }
        let (old, new) = (Target::Server(self.knows.server).address(), Target::Server(known.server).address());
        trace!(around.trace, around.timeline, "sentinel {} learns {known:?}, and knew {:?}", self.number, self.knows);
        self.knows = known;
        let text = format!("{GROUP} {old} {new}").replace(':', " ");
        for (wire, connection) in self.connections.iter_mut().filter(|(_, connection)| connection.subscribes) {
            connection.say(|out| words(out, &["message", SWITCH_MASTER, &text]));
            around.named.switched(*wire, connection.said, known.server);
        }
        self.wake(&mut around.timeline);
    }

    /// Reads and answers.
    ///
    /// # Errors
    /// What no instance should say to it.
    pub fn turn(&mut self, around: &mut Surroundings<'_>) -> Result<(), String> {
        self.planned = false;
        if self.paused {
            return Ok(());
        }
        for wire in self.wires() {
            let is_over = self.read(wire, around);
            self.answer(wire, around)?;
            let Some(connection) = self.connections.get_mut(&wire) else { continue };
            match around.network.write(wire, Side::Far, &connection.output, &mut around.timeline) {
                Ok(taken) => drop(connection.output.drain(..taken)),
                // Reading will tell.
                Err(_) => connection.output.clear(),
            }
            if is_over {
                self.kill(wire, around);
            }
        }
        Ok(())
    }

    /// Says whether that was the end.
    fn read(&mut self, wire: WireId, around: &mut Surroundings<'_>) -> bool {
        let Some(connection) = self.connections.get_mut(&wire) else { return false };
        loop {
            match around.network.read(wire, Side::Far, 16 * 1024, &mut around.timeline) {
                Read::Bytes(bytes) => connection.input.extend(bytes),
                Read::Nothing => return false,
                Read::End => return true,
            }
        }
    }

    fn answer(&mut self, wire: WireId, around: &mut Surroundings<'_>) -> Result<(), String> {
        let Some(connection) = self.connections.get_mut(&wire) else { return Ok(()) };
        let input = std::mem::take(&mut connection.input);
        let mut at = 0;
        while let Some((command, taken)) = resp::command(&input[at..])? {
            at += taken;
            let command: Vec<_> = command.iter().map(|word| String::from_utf8_lossy(word)).collect();
            let command: Vec<&str> = command.iter().map(AsRef::as_ref).collect();
            let Known { server, epoch } = self.knows;
            let Address::Tcp { host, port } = Target::Server(server).address() else { unreachable!("see `address`") };
            let port = port.to_string();
            match command[..] {
                ["AUTH", password] => {
                    connection.authenticated |= self.traits.password.as_deref() == Some(password);
                    let reply: &[u8] = if connection.authenticated { b"+OK\r\n" } else { b"-WRONGPASS no\r\n" };
                    connection.say(|out| out.extend_from_slice(reply));
                }
                _ if !connection.authenticated => {
                    connection.say(|out| out.extend_from_slice(b"-NOAUTH Authentication required.\r\n"));
                }
                ["SENTINEL", ..] if connection.subscribes => {
                    return Err("a Sentinel is asked on a connection that subscribes".to_owned());
                }
                ["SENTINEL", "MASTER", GROUP] if self.traits.refuses_epoch => {
                    let error = b"-NOPERM User has no permissions to run the 'sentinel|master' command\r\n";
                    connection.say(|out| out.extend_from_slice(error));
                }
                ["SENTINEL", "MASTER", GROUP] => {
                    connection.epoch = Some(epoch);
                    let epoch = epoch.to_string();
                    connection.say(|out| {
                        words(out, &["name", GROUP, "ip", &host, "port", &port, "config-epoch", &epoch, "quorum", "2"]);
                    });
                }
                ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", GROUP] => {
                    connection.say(|out| words(out, &[&host, &port]));
                    around.named.answered(wire, connection.said, (server, connection.epoch));
                }
                [kind @ ("SUBSCRIBE" | "UNSUBSCRIBE"), SWITCH_MASTER] => {
                    connection.subscribes = kind == "SUBSCRIBE";
                    let count = usize::from(connection.subscribes);
                    connection.say(|out| {
                        resp::push(out, false, 3);
                        resp::bulk(out, kind.to_lowercase().as_bytes());
                        resp::bulk(out, SWITCH_MASTER.as_bytes());
                        resp::integer(out, count);
                    });
                }
                _ => return Err(format!("an instance says to a Sentinel what it never should: {command:?}")),
            }
        }
        connection.input = input[at..].to_vec();
        Ok(())
    }

    /// Everything is well from now on.
    pub fn heal(&mut self, timeline: &mut Timeline) {
        (self.up, self.paused, self.stale) = (true, false, false);
        self.plan_learning(timeline);
        self.wake(timeline);
    }
}

impl Connection {
    fn say(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.output.len();
        write(&mut self.output);
        self.said += (self.output.len() - before) as u64;
    }
}

fn words(out: &mut Vec<u8>, words: &[&str]) {
    resp::push(out, false, words.len());
    words.iter().for_each(|word| resp::bulk(out, word.as_bytes()));
}
