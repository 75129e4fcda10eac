//! A model of redis-server as far as Pub/Sub needs it: RESP2 and RESP3, set-up, subscriptions, publishes, output buffers with
//! a limit, and everything that can happen to it. The scripts of histories are in `scripts`, those of presence in `presence`, what a node of a Cluster does in `node`.

mod node;
mod presence;
mod scripts;

pub use node::{SlotMap, other_of};
pub use scripts::Left;

use crate::cluster::Surroundings;
use crate::network::{Read, Side, WireId};
use crate::options::{Options, RedisTraits, rng};
use crate::reference::Reference;
use crate::resp;
use crate::timeline::{Happening, Timeline};
use crate::trace;
use fanfare_core::broker::redis::Names;
use fastrand::Rng;
use node::Node;
use scripts::Data;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
struct Connection {
    input: Vec<u8>,
    output: Vec<u8>,
    /// Bytes ever appended to the output.
    said: u64,
    resp3: bool,
    authenticated: bool,
    channels: BTreeSet<Vec<u8>>,
    /// It has said `WAIT`, and nothing more is done for it until then.
    waits_until: Option<u64>,
    /// It was told junk, so that what follows counts for nothing.
    poisoned: bool,
    /// It is told nothing that is published.
    deaf: bool,
    /// The next command may be about a slot that is on its way here.
    asking: bool,
}

/// The server.
#[derive(Debug)]
pub struct Redis {
    number: usize,
    traits: RedisTraits,
    prefix: String,
    rng: Rng,
    connections: BTreeMap<WireId, Connection>,
    /// It accepts connections.
    pub up: bool,
    /// It does nothing.
    pub paused: bool,
    /// It says `LOADING` to everything.
    pub loading: bool,
    /// It says `BUSY` to everything but `HELLO` and `AUTH`.
    pub busy: bool,
    /// It is one, and says so when it is asked.
    is_replica: bool,
    /// It refuses to subscribe to this channel.
    pub refuses_subscribe: Option<String>,
    /// It refuses to publish to rooms.
    pub refuses_publish: bool,
    planned: bool,
    /// No replica follows it any more.
    pub is_cut_off: bool,
    data: Data,
    /// What it is beside that in a Cluster.
    node: Option<Node>,
    /// Connections ended because they read too slowly.
    pub output_kills: u64,
}

impl Redis {
    /// A server that is up and a master, without connections.
    pub fn new(options: &Options, number: usize) -> Redis {
        Redis {
            number,
            traits: options.redis.clone(),
            prefix: options.session.prefix.clone(),
            rng: rng(options.seed, &purpose("redis", number)),
            connections: BTreeMap::new(),
            up: true,
            paused: false,
            loading: false,
            busy: false,
            is_replica: false,
            refuses_subscribe: None,
            refuses_publish: false,
            planned: false,
            is_cut_off: false,
            data: Data::new(options, number),
            node: options.slotted.as_ref().map(|slotted| Node::new(slotted, number)),
            output_kills: 0,
        }
    }

    /// The channel of a room.
    pub fn channel(&self, room: &str) -> String {
        self.names().channel(room)
    }

    fn names(&self) -> Names<'_> {
        match &self.node {
            Some(node) => Names::in_cluster(&self.prefix, node.partitions, node.pubsub),
            None => Names::plain(&self.prefix),
        }
    }

    /// The room of a channel, or what else it is called.
    fn name_of<'a>(&self, channel: &'a [u8]) -> Result<&'a str, String> {
        let channel = std::str::from_utf8(channel).map_err(|error| error.to_string())?;
        let rest = channel.strip_prefix(&self.prefix).ok_or("a channel without the prefix")?;
        let name = match self.names().is_sharded() {
            true => rest.split_once('}').ok_or("a channel without a partition")?.1,
            false => rest,
        };
        match self.names().channel(name) == channel {
            true => Ok(name),
            false => Err(format!("the channel of {name} is not {channel}")),
        }
    }

    /// Whether it is one.
    pub fn is_replica(&self) -> bool {
        self.is_replica
    }

    /// Takes a connection.
    pub fn accept(&mut self, wire: WireId) {
        let authenticated = self.traits.password.is_none();
        self.connections.insert(wire, Connection { authenticated, ..Connection::default() });
    }

    /// Something happened on one of its wires: a turn follows.
    pub fn wake(&mut self, timeline: &mut Timeline) {
        if !std::mem::replace(&mut self.planned, true) {
            timeline.after(self.rng.u64(1..200), Happening::Redis(self.number));
        }
    }

    /// Ends a connection and forgets it.
    pub fn kill(&mut self, wire: WireId, around: &mut Surroundings<'_>) {
        if self.connections.remove(&wire).is_some() {
            trace!(around.trace, around.timeline, "redis {}: wire {wire} ends", self.number);
            around.reference.link_ended_at_redis(wire);
            around.network.close(wire, Side::Far, &mut around.timeline);
        }
    }

    /// Ends all connections.
    pub fn kill_all(&mut self, around: &mut Surroundings<'_>) {
        for wire in self.wires() {
            self.kill(wire, around);
        }
    }

    /// The wires of its connections.
    pub fn wires(&self) -> Vec<WireId> {
        self.connections.keys().copied().collect()
    }

    /// Says something that is no RESP, after which a connection is of no use any more.
    pub fn say_junk(&mut self, wire: WireId, around: &mut Surroundings<'_>) {
        let Some(connection) = self.connections.get_mut(&wire) else { return };
        if !std::mem::replace(&mut connection.poisoned, true) {
            let junk: [&[u8]; 4] = [b"junk\r\n", b"*1\r\n?\r\n", b"$-7\r\n", b":12x\r\n"];
            connection.output.extend_from_slice(junk[self.rng.usize(..junk.len())]);
            around.reference.link_poisoned(wire);
            trace!(around.trace, around.timeline, "redis: junk on wire {wire}");
            self.flush(wire, around);
        }
    }

    /// The wires of connections that subscribe.
    pub fn subscribers(&self) -> Vec<WireId> {
        let subscribes = |(_, connection): &(&WireId, &Connection)| !connection.channels.is_empty();
        self.connections.iter().filter(subscribes).map(|(wire, _)| *wire).collect()
    }

    /// Hands nothing any more that is published to a connection.
    pub fn deafen(&mut self, wire: WireId) {
        if let Some(connection) = self.connections.get_mut(&wire) {
            connection.deaf = true;
        }
    }

    /// How many are told nothing.
    pub fn deaf(&self) -> usize {
        self.connections.values().filter(|connection| connection.deaf).count()
    }

    /// The channels of rooms that each wire subscribes to, where there are any.
    pub fn subscriptions(&self) -> BTreeMap<WireId, BTreeSet<String>> {
        let text = |channel: &Vec<u8>| String::from_utf8_lossy(channel).into_owned();
        let is_room = |channel: &&Vec<u8>| !self.is_no_room(channel);
        let of =
            |connection: &Connection| connection.channels.iter().filter(is_room).map(text).collect::<BTreeSet<_>>();
        let all = self.connections.iter().map(|(wire, connection)| (*wire, of(connection)));
        all.filter(|(_, channels)| !channels.is_empty()).collect()
    }

    fn is_no_room(&self, channel: &[u8]) -> bool {
        // A canary's, or what changes in who is in a room.
        self.name_of(channel).is_ok_and(|name| name.starts_with('\u{1}'))
    }

    /// Reads, does and answers, each connection in its turn and the order of them drawn.
    ///
    /// # Errors
    /// What the reference does not allow.
    pub fn turn(&mut self, around: &mut Surroundings<'_>) -> Result<(), String> {
        self.planned = false;
        if self.paused {
            return Ok(());
        }
        self.take_passed(around)?;
        let mut wires = self.wires();
        self.rng.shuffle(&mut wires);
        for wire in wires {
            self.serve(wire, around)?;
        }
        for wire in self.wires() {
            self.flush(wire, around);
        }
        Ok(())
    }

    fn serve(&mut self, wire: WireId, around: &mut Surroundings<'_>) -> Result<(), String> {
        let mut ended = false;
        loop {
            match around.network.read(wire, Side::Far, 16 * 1024, &mut around.timeline) {
                Read::Bytes(bytes) => {
                    if let Some(connection) = self.connections.get_mut(&wire) {
                        connection.input.extend(bytes);
                    }
                }
                Read::Nothing => break,
                Read::End => {
                    ended = true;
                    break;
                }
            }
        }
        let mut done = 0;
        // What was said before the end is done, but all of it: nobody would be there to go on with the rest.
        while ended || done < self.traits.commands_per_turn {
            let Some(connection) = self.connections.get_mut(&wire) else { return Ok(()) };
            match connection.waits_until {
                Some(until) if until > around.timeline.now && !ended => break,
                Some(_) => {
                    connection.waits_until = None;
                    self.answer(wire, |out| resp::integer(out, 0));
                    continue;
                }
                None => {}
            }
            let input = std::mem::take(&mut connection.input);
            let Some((words, taken)) = resp::command(&input)? else {
                connection.input = input;
                break;
            };
            self.command(wire, &words, around)?;
            if let Some(connection) = self.connections.get_mut(&wire) {
                connection.input = input[taken..].to_vec();
            }
            done += 1;
        }
        if ended {
            self.kill(wire, around);
        } else if done >= self.traits.commands_per_turn {
            self.wake(&mut around.timeline);
        }
        Ok(())
    }

    fn command(&mut self, wire: WireId, words: &[&[u8]], around: &mut Surroundings<'_>) -> Result<(), String> {
        let name = words.first().map(|name| String::from_utf8_lossy(name).to_ascii_uppercase()).unwrap_or_default();
        if self.node.is_some() && self.has_said_as_a_node(wire, &name, words, around)? {
            return Ok(());
        }
        let connection = self.connections.get_mut(&wire).expect("whoever is served is connected");
        let before = connection.output.len();
        let out = &mut connection.output;
        let password = self.traits.password.as_deref().unwrap_or_default().as_bytes();
        match (name.as_str(), &words[1..]) {
            ("HELLO", _) if !self.traits.speaks_resp3 => {
                out.extend_from_slice(b"-ERR unknown command `HELLO`, with args beginning with: \r\n");
            }
            (name, _) if self.busy && connection.authenticated && !matches!(name, "HELLO" | "AUTH") => {
                out.extend_from_slice(b"-BUSY Redis is busy running a script.\r\n");
            }
            ("SUBSCRIBE" | "UNSUBSCRIBE" | "SSUBSCRIBE" | "SUNSUBSCRIBE", channels) if connection.authenticated => {
                return self.subscribe(wire, &name, channels, around);
            }
            ("PUBLISH" | "SPUBLISH", [channel, payload]) if connection.authenticated => {
                return self.publish(wire, channel, payload, around);
            }
            _ if self.loading => out.extend_from_slice(b"-LOADING Redis is loading the dataset in memory\r\n"),
            ("HELLO", arguments) => {
                if arguments.windows(3).any(|words| words[0] == b"AUTH" && words[2] == password) {
                    connection.authenticated = true;
                }
                if connection.authenticated {
                    connection.resp3 = true;
                    out.extend_from_slice(b"%2\r\n$6\r\nserver\r\n$5\r\nredis\r\n$5\r\nproto\r\n:3\r\n");
                } else {
                    out.extend_from_slice(b"-NOAUTH HELLO must be called with the client already authenticated\r\n");
                }
            }
            ("AUTH", given) => {
                connection.authenticated |= given.last() == Some(&password);
                let reply: &[u8] = if connection.authenticated { b"+OK\r\n" } else { b"-WRONGPASS no\r\n" };
                out.extend_from_slice(reply);
            }
            ("SCRIPT", [_, source]) if connection.authenticated => return self.load_script(wire, source),
            ("EVALSHA", arguments) if connection.authenticated => return self.run_script(wire, arguments, around),
            _ if !connection.authenticated => out.extend_from_slice(b"-NOAUTH Authentication required.\r\n"),
            ("CLIENT" | "SELECT", _) => out.extend_from_slice(b"+OK\r\n"),
            ("ROLE", _) if self.is_replica => {
                out.extend_from_slice(b"*5\r\n$5\r\nslave\r\n$1\r\nh\r\n:6379\r\n$9\r\nconnected\r\n:0\r\n");
            }
            ("ROLE", _) => out.extend_from_slice(b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n"),
            ("INFO", _) => {
                let is_enabled = u8::from(self.node.is_some());
                resp::bulk(out, format!("# Cluster\r\ncluster_enabled:{is_enabled}\r\n").as_bytes());
            }
            ("WAIT", [_, timeout]) if *timeout == b"0" => return Err("an instance waits for ever".to_owned()),
            ("WAIT", [wanted, timeout]) => return self.wait_for_replicas(wire, wanted, timeout, around),
            ("PING", _) if !connection.resp3 && !connection.channels.is_empty() => {
                out.extend_from_slice(b"*2\r\n$4\r\npong\r\n$0\r\n\r\n");
            }
            ("PING", _) => out.extend_from_slice(b"+PONG\r\n"),
            _ => return Err(format!("an instance says to Redis what it never should: {words:?}")),
        }
        connection.said += (connection.output.len() - before) as u64;
        Ok(())
    }

    fn subscribe(
        &mut self,
        wire: WireId,
        name: &str,
        channels: &[&[u8]],
        around: &mut Surroundings<'_>,
    ) -> Result<(), String> {
        let connection = self.connections.get_mut(&wire).expect("whoever is served is connected");
        let refused = self.refuses_subscribe.as_deref().map(str::as_bytes);
        let joins = !name.contains("UN");
        if joins && channels.iter().any(|channel| Some(*channel) == refused) {
            let error = b"-NOPERM No permissions to access a channel\r\n";
            connection.output.extend_from_slice(error);
            connection.said += error.len() as u64;
            return Ok(());
        }
        for channel in channels {
            let is_no_room = self.is_no_room(channel);
            let connection = self.connections.get_mut(&wire).expect("whoever is served is connected");
            let before = connection.output.len();
            resp::push(&mut connection.output, connection.resp3, 3);
            let changed = match joins {
                true => connection.channels.insert(channel.to_vec()),
                false => connection.channels.remove(*channel),
            };
            resp::bulk(&mut connection.output, name.to_ascii_lowercase().as_bytes());
            resp::bulk(&mut connection.output, channel);
            resp::integer(&mut connection.output, connection.channels.len());
            connection.said += (connection.output.len() - before) as u64;
            let said = connection.said;
            trace!(
                around.trace,
                around.timeline,
                "redis {}: {name} {} on wire {wire}",
                self.number,
                String::from_utf8_lossy(channel)
            );
            let room = self.name_of(channel)?;
            // A node of a Cluster may have ended it without being asked, or have been asked again because of what another one has said.
            if !changed && self.node.is_none() {
                return Err(format!("{name} {room} on wire {wire} changes nothing: it was so before"));
            }
            if is_no_room {
                continue;
            }
            if joins {
                around.reference.subscribed(wire, room, said)?;
            } else if changed {
                around.reference.unsubscribed(wire, room, around.timeline.now)?;
            }
        }
        Ok(())
    }

    fn publish(
        &mut self,
        wire: WireId,
        channel: &[u8],
        payload: &[u8],
        around: &mut Surroundings<'_>,
    ) -> Result<(), String> {
        if self.refuses_publish && !self.is_no_room(channel) {
            let error = b"-NOPERM User has no permissions to run the 'publish' command\r\n";
            self.answer(wire, |out| out.extend_from_slice(error));
            return Ok(());
        }
        let receivers = self.deliver((Some(wire), false), channel, payload, around)?;
        self.answer(wire, |out| resp::integer(out, receivers));
        Ok(())
    }

    fn answer(&mut self, wire: WireId, write: impl FnOnce(&mut Vec<u8>)) {
        let connection = self.connections.get_mut(&wire).expect("whoever is served is connected");
        let before = connection.output.len();
        write(&mut connection.output);
        connection.said += (connection.output.len() - before) as u64;
    }

    /// A message of a publisher that is no instance, unless Redis is away.
    ///
    /// # Errors
    /// What the reference does not allow.
    pub fn publish_foreign(&mut self, room: &str, payload: &[u8], around: &mut Surroundings<'_>) -> Result<(), String> {
        if self.up && !self.paused && !self.loading && !self.busy {
            let channel = self.channel(room);
            self.deliver((None, false), channel.as_bytes(), payload, around)?;
            for wire in self.wires() {
                self.flush(wire, around);
            }
        }
        Ok(())
    }

    /// Hands on what is published, by a script or not.
    fn deliver(
        &mut self,
        (publisher, is_stored): (Option<WireId>, bool),
        channel: &[u8],
        payload: &[u8],
        around: &mut Surroundings<'_>,
    ) -> Result<usize, String> {
        let (receivers, sent) = self.tell_subscribers(channel, payload);
        // What is removed is known by its place alone.
        let is_removal = payload.starts_with(b"F2 ") && payload.windows(9).any(|part| part == b" REMOVED ");
        let (is_no_room, room) = (self.is_no_room(channel) || is_removal, self.name_of(channel)?);
        trace!(
            around.trace,
            around.timeline,
            "redis {}: PUBLISH {room} {:?} to {sent:?}",
            self.number,
            String::from_utf8_lossy(payload)
        );
        let mut at = None;
        if !is_no_room {
            let is_node = self.node.is_some();
            let again = match is_node && !is_stored && publisher.is_some() {
                true => around.reference.said_again(room, payload)?,
                false => None,
            };
            let origin = if is_node { self.number } else { 0 };
            at = Some(match again {
                Some(at) => {
                    around.reference.passed_on(at, &sent)?;
                    at
                }
                None => {
                    let index =
                        around.reference.published((publisher, origin), room, payload, &sent, &around.network)?;
                    (Reference::room(room)?, index)
                }
            });
        }
        self.pass_on(channel, payload, at);
        Ok(receivers)
    }

    /// Tells those who subscribe here: how many, and which of them can make sense of it.
    fn tell_subscribers(&mut self, channel: &[u8], payload: &[u8]) -> (usize, Vec<(WireId, u64)>) {
        let kind: &[u8] = if self.names().is_sharded() { b"smessage" } else { b"message" };
        let (mut receivers, mut sent) = (0, Vec::new());
        for (wire, connection) in &mut self.connections {
            if !connection.channels.contains(channel) || connection.deaf {
                continue;
            }
            let before = connection.output.len();
            resp::push(&mut connection.output, connection.resp3, 3);
            for word in [kind, channel, payload] {
                resp::bulk(&mut connection.output, word);
            }
            connection.said += (connection.output.len() - before) as u64;
            receivers += 1;
            if !connection.poisoned {
                sent.push((*wire, connection.said));
            }
        }
        (receivers, sent)
    }

    fn flush(&mut self, wire: WireId, around: &mut Surroundings<'_>) {
        let Some(connection) = self.connections.get_mut(&wire) else { return };
        if !connection.output.is_empty() {
            match around.network.write(wire, Side::Far, &connection.output, &mut around.timeline) {
                Ok(taken) => drop(connection.output.drain(..taken)),
                // Reading will tell.
                Err(_) => connection.output.clear(),
            }
        }
        let limit = self.traits.output_bytes_max;
        if limit > 0 && !connection.channels.is_empty() && connection.output.len() > limit {
            self.output_kills += 1;
            trace!(around.trace, around.timeline, "redis: output limit on wire {wire}");
            self.kill(wire, around);
            around.network.reset(wire, &mut around.timeline);
        }
    }

    /// Everything is well from now on.
    pub fn heal(&mut self, timeline: &mut Timeline) {
        (self.up, self.paused, self.loading, self.refuses_publish) = (true, false, false, false);
        self.busy = false;
        if self.node.is_none() {
            self.demote(false);
        }
        self.refuses_subscribe = None;
        self.traits.output_bytes_max = 0;
        self.wake(timeline);
    }
}

/// Of a generator: the first server has the one that it has where there is no other.
fn purpose(what: &str, number: usize) -> String {
    if number == 0 { what.to_owned() } else { format!("{what} {number}") }
}
