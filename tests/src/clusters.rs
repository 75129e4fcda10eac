//! A Redis Cluster: masters, their replicas, and what an operator does to them. Real processes, made into one by `redis-cli`.

use crate::{Redis, RedisLaunch, Reply, eventually_within};
use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take that the nodes have to agree upon.
const AGREED_WITHIN: Duration = Duration::from_secs(60);

/// How long a node may be silent before the others call it dead.
const NODE_TIMEOUT_MS: u32 = 2_000;

/// For how long a replica tries to take over when it is told to (`CLUSTER_MF_TIMEOUT` of Redis), and some more.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(6);

/// Nodes that are one Cluster.
pub struct Cluster {
    /// The nodes. Those that begin as masters come first, then their replicas. To freeze one, tell [`Cluster::pause`].
    pub nodes: Vec<Redis>,
    /// Those that are frozen, and would not answer.
    paused: BTreeSet<usize>,
}

impl Cluster {
    /// So many masters, at least three, each with so many replicas that have caught up. Each node gets this configuration as well.
    ///
    /// # Panics
    ///
    /// If they do not become a Cluster.
    pub fn start(masters: usize, replicas_each: usize, configure: impl Fn(RedisLaunch) -> RedisLaunch) -> Cluster {
        let launch = || {
            let launch = Redis::launch()
                .in_cluster()
                .directive(&format!("cluster-node-timeout {NODE_TIMEOUT_MS}"))
                .directive("cluster-allow-replica-migration no")
                // A full copy begins at once, not after five seconds in which others might want one as well.
                .directive("repl-diskless-sync-delay 0");
            configure(launch)
        };
        let nodes: Vec<Redis> = (0..masters * (1 + replicas_each)).map(|_| launch().start()).collect();
        let cluster = Cluster { nodes, paused: BTreeSet::new() };
        let on_the_bus = |node: &Redis| {
            let port = node.tls_port().unwrap_or(node.port());
            format!("127.0.0.1:{port}@{}", node.bus_port().expect("it is a node"))
        };
        let addresses: Vec<String> = cluster.nodes.iter().map(on_the_bus).collect();
        let replicas = replicas_each.to_string();
        let tls = cluster.nodes[0].tls_arguments();
        let mut create: Vec<&str> = tls.iter().map(String::as_str).chain(["--cluster", "create"]).collect();
        create.extend(addresses.iter().map(String::as_str));
        create.extend(["--cluster-replicas", &replicas, "--cluster-yes"]);
        cluster.nodes[0].cli(&create);
        cluster.wait_until_whole();
        cluster
    }

    /// Waits until all nodes run, know each other, agree on who has which slots, and replicas have caught up.
    ///
    /// # Panics
    ///
    /// If that does not come about.
    pub fn wait_until_whole(&self) {
        eventually_within(AGREED_WITHIN, "the Cluster is whole", || {
            let views: Vec<View> = self.nodes.iter().map(View::of).collect::<Option<_>>()?;
            let agree = views.iter().all(|view| {
                view.0.len() == self.nodes.len()
                    && view.0.iter().all(Line::is_well)
                    && view.owners() == views[0].owners()
            });
            let says = |node: &Redis, section: &str, wanted: &[&str]| {
                let said = node.cli(&section.split(' ').collect::<Vec<_>>());
                wanted.iter().any(|wanted| said.contains(wanted))
            };
            let is_up = |node: &Redis| {
                says(node, "CLUSTER INFO", &["cluster_state:ok"])
                    && says(node, "INFO replication", &["role:master", "master_link_status:up"])
            };
            (agree && self.nodes.iter().all(is_up)).then_some(())
        });
    }

    /// A URL under which a server finds it: that of all its nodes.
    pub fn url(&self) -> String {
        let hosts: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
        format!("redis-cluster://{}", hosts.join(","))
    }

    /// The same by TLS.
    ///
    /// # Panics
    ///
    /// If its nodes speak none.
    pub fn tls_url(&self) -> String {
        let hosts: Vec<String> =
            self.nodes.iter().map(|node| node.tls_url().trim_start_matches("rediss://").to_owned()).collect();
        format!("rediss-cluster://{}", hosts.join(","))
    }

    /// What the nodes say that can answer.
    fn views(&self) -> Vec<View> {
        let awake = self.nodes.iter().enumerate().filter(|(index, _)| !self.paused.contains(index));
        awake.filter_map(|(_, node)| View::of(node)).collect()
    }

    /// The node with this id, or that listens there.
    fn index(&self, line: &Line) -> usize {
        let is_it = |node: &Redis| node.port() == line.port || node.tls_port() == Some(line.port);
        self.nodes.iter().position(is_it).expect("a node of this Cluster")
    }

    /// Which node has the slot, where all that answer say the same.
    fn named(&self, slot: u16) -> Option<usize> {
        let views = self.views();
        let named: BTreeSet<usize> =
            views.iter().map(|view| view.owner(slot).map(|line| self.index(line))).collect::<Option<_>>()?;
        Some(named).filter(|named| named.len() == 1).and_then(|named| named.first().copied())
    }

    /// Which node has the slot.
    ///
    /// # Panics
    ///
    /// If the nodes do not agree.
    pub fn master_of(&self, slot: u16) -> usize {
        eventually_within(AGREED_WITHIN, "all nodes name one master of the slot", || self.named(slot))
    }

    /// Waits until another node has the slot, and says which.
    ///
    /// # Panics
    ///
    /// If none has.
    pub fn wait_for_another_master(&self, slot: u16, than: usize) -> usize {
        eventually_within(AGREED_WITHIN, "the slot has another master", || {
            self.named(slot).filter(|master| *master != than)
        })
    }

    /// A replica of that master which answers.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn replica_of(&self, master: usize) -> usize {
        eventually_within(AGREED_WITHIN, "the master has a replica", || {
            let views = self.views();
            let lines = &views.first()?.0;
            let id = &lines.iter().find(|line| self.index(line) == master)?.id;
            let follows =
                |line: &&Line| line.master == *id && line.is_well() && !self.paused.contains(&self.index(line));
            lines.iter().find(follows).map(|line| self.index(line))
        })
    }

    /// Kills a node as `kill -9` does.
    ///
    /// # Panics
    ///
    /// If it is not running.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].kill();
    }

    /// Freezes a node: connections stay, and nothing is answered.
    ///
    /// # Panics
    ///
    /// If it is not running.
    pub fn pause(&mut self, node: usize) {
        self.nodes[node].pause();
        self.paused.insert(node);
    }

    /// Lets it go on.
    ///
    /// # Panics
    ///
    /// If it is not running.
    pub fn resume(&mut self, node: usize) {
        self.nodes[node].resume();
        self.paused.remove(&node);
    }

    /// Has a replica take over from a master that is well, by `CLUSTER FAILOVER`, and waits until all know. Says which.
    ///
    /// # Panics
    ///
    /// If that does not come about.
    pub fn fail_over(&self, master: usize) -> usize {
        let replica = self.replica_of(master);
        let slot = self.slots_of(master).first().expect("it has slots").0;
        let mut asked: Option<Instant> = None;
        eventually_within(AGREED_WITHIN, "the replica takes over", || {
            // It refuses where it has no connection to its master at this moment, and gives up after a while without enough votes.
            if asked.is_none_or(|asked| asked.elapsed() > GIVEN_UP_AFTER) {
                asked = (self.nodes[replica].cli(&["CLUSTER", "FAILOVER"]) == "OK").then(Instant::now);
            }
            (self.named(slot) == Some(replica)).then_some(replica)
        })
    }

    /// From the first to the last, each.
    fn slots_of(&self, master: usize) -> Vec<(u16, u16)> {
        let view = View::of(&self.nodes[master]).expect("it answers");
        view.0.into_iter().find(|line| self.index(line) == master).expect("it knows itself").slots
    }

    /// Moves a slot to another master as `redis-cli --cluster reshard` does, key by key, and pauses for so long after each step: the first is
    /// that both know of it, the last that the slot is the other's.
    ///
    /// # Panics
    ///
    /// If a node refuses.
    pub fn move_slot(&self, slot: u16, to: usize, pace: Duration) {
        let from = self.begin_move(slot, to);
        thread::sleep(pace);
        while self.move_key(slot, from, to) {
            thread::sleep(pace);
        }
        self.end_move(slot, from, to);
    }

    /// Moves all keys of a slot to another master, and leaves the slot where it is: [`Cluster::end_move`] ends that. Says where it is.
    ///
    /// # Panics
    ///
    /// If a node refuses.
    pub fn move_keys(&self, slot: u16, to: usize) -> usize {
        let from = self.begin_move(slot, to);
        while self.move_key(slot, from, to) {}
        from
    }

    /// Both nodes know that the slot is on its way.
    fn begin_move(&self, slot: u16, to: usize) -> usize {
        let from = self.master_of(slot);
        self.set_slot(to, slot, &["IMPORTING", &self.id(from)]);
        self.set_slot(from, slot, &["MIGRATING", &self.id(to)]);
        from
    }

    /// Moves one key, if any is left.
    fn move_key(&self, slot: u16, from: usize, to: usize) -> bool {
        let key = self.nodes[from].cli(&["CLUSTER", "GETKEYSINSLOT", &slot.to_string(), "1"]);
        if !key.is_empty() {
            self.migrate(from, to, &key);
        }
        !key.is_empty()
    }

    /// The slot is the other's from now on.
    ///
    /// # Panics
    ///
    /// If a node refuses.
    pub fn end_move(&self, slot: u16, from: usize, to: usize) {
        let id = self.id(to);
        // The new owner first, because the old one would otherwise tell clients of a node that sends them back.
        self.set_slot(to, slot, &["NODE", &id]);
        self.set_slot(from, slot, &["NODE", &id]);
        assert_eq!(self.wait_for_another_master(slot, from), to);
    }

    fn id(&self, node: usize) -> String {
        self.nodes[node].cli(&["CLUSTER", "MYID"])
    }

    fn set_slot(&self, node: usize, slot: u16, what: &[&str]) {
        let said = self.nodes[node].cli(&[&["CLUSTER", "SETSLOT", &slot.to_string()], what].concat());
        assert_eq!(said, "OK", "SETSLOT {slot} {what:?}");
    }

    fn migrate(&self, from: usize, to: usize, key: &str) {
        let target = &self.nodes[to];
        // Nodes that speak TLS to each other do so here as well.
        let port = target.tls_port().unwrap_or(target.port()).to_string();
        let mut command: Vec<&[u8]> = vec![b"MIGRATE", b"127.0.0.1", port.as_bytes(), b"", b"0", b"5000"];
        if let Some(password) = target.password() {
            command.extend([&b"AUTH"[..], password.as_bytes()]);
        }
        command.extend([&b"KEYS"[..], key.as_bytes()]);
        let said = self.nodes[from].connect().command(&command);
        // A key that has expired meanwhile is none.
        assert!(matches!(&said, Reply::Status(status) if status == "OK" || status == "NOKEY"), "{said:?}");
    }
}

/// What a node says of all that it knows.
struct View(Vec<Line>);

/// What it says of one of them.
struct Line {
    id: String,
    port: u16,
    flags: String,
    /// The id of its master, or `-`.
    master: String,
    /// From the first to the last, each.
    slots: Vec<(u16, u16)>,
    /// Whether a slot is on its way to or from it.
    is_moving: bool,
}

impl View {
    fn of(node: &Redis) -> Option<View> {
        let Reply::Bytes(Some(text)) = node.try_connect().ok()?.try_command(&[b"CLUSTER", b"NODES"]).ok()? else {
            return None;
        };
        String::from_utf8(text).ok()?.lines().map(Line::parse).collect::<Option<_>>().map(View)
    }

    fn owner(&self, slot: u16) -> Option<&Line> {
        self.0.iter().find(|line| line.slots.iter().any(|(first, last)| (*first..=*last).contains(&slot)))
    }

    /// Who has which slots.
    fn owners(&self) -> BTreeMap<&str, &[(u16, u16)]> {
        let owners = self.0.iter().filter(|line| !line.slots.is_empty());
        owners.map(|line| (line.id.as_str(), line.slots.as_slice())).collect()
    }
}

impl Line {
    /// `id ip:port@bus[,name] flags master ping pong epoch link slot...`
    fn parse(line: &str) -> Option<Line> {
        let words: Vec<&str> = line.split(' ').collect();
        let [id, address, flags, master, _ping, _pong, _epoch, _link, slots @ ..] = words.as_slice() else {
            return None;
        };
        let range = |slot: &&str| {
            let (first, last) = slot.split_once('-').unwrap_or((slot, slot));
            Some((first.parse().ok()?, last.parse().ok()?))
        };
        let (moving, settled): (Vec<&str>, Vec<&str>) = slots.iter().partition(|slot| slot.starts_with('['));
        Some(Line {
            id: (*id).to_owned(),
            port: address.split('@').next()?.rsplit(':').next()?.parse().ok()?,
            flags: (*flags).to_owned(),
            master: (*master).to_owned(),
            slots: settled.iter().map(range).collect::<Option<_>>()?,
            is_moving: !moving.is_empty(),
        })
    }

    fn is_well(&self) -> bool {
        let is_ill = |flag: &str| ["fail", "fail?", "handshake", "noaddr"].contains(&flag);
        !self.is_moving && !self.flags.split(',').any(is_ill)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `CLUSTER KEYSLOT a` says.
    const SLOT: u16 = 15_495;

    #[test]
    fn a_cluster_fails_over_and_moves_slots() {
        let mut cluster = Cluster::start(3, 1, |launch| launch.directive("appendonly yes"));
        assert_eq!(cluster.nodes[0].cli(&["CLUSTER", "KEYSLOT", "a"]), SLOT.to_string());
        assert_eq!(cluster.master_of(SLOT), 2);
        cluster.nodes[2].cli(&["MSET", "{a}1", "x", "{a}2", "x", "{a}3", "x"]);

        let next = cluster.fail_over(2);
        assert!(next > 2);
        cluster.wait_until_whole();
        cluster.move_slot(SLOT, 0, Duration::ZERO);
        assert_eq!(cluster.nodes[0].cli(&["MGET", "{a}1", "{a}2", "{a}3"]), "x\nx\nx");
        cluster.move_slot(SLOT, next, Duration::ZERO);
        assert_eq!(cluster.nodes[next].cli(&["CLUSTER", "COUNTKEYSINSLOT", &SLOT.to_string()]), "3");

        cluster.wait_until_whole();
        cluster.pause(next);
        assert_eq!(cluster.wait_for_another_master(SLOT, next), 2);
        cluster.resume(next);
        cluster.wait_until_whole();
        cluster.kill(2);
        assert_eq!(cluster.wait_for_another_master(SLOT, 2), next);
        cluster.nodes[2].start_again();
        cluster.wait_until_whole();
        assert_eq!(cluster.nodes[next].cli(&["GET", "{a}3"]), "x");
    }

    #[test]
    fn passwords_are_known_to_all_nodes() {
        let cluster = Cluster::start(3, 1, |launch| launch.password("secret").directive("masterauth secret"));
        cluster.nodes[2].cli(&["SET", "a", "x"]);
        cluster.move_slot(SLOT, 1, Duration::ZERO);
        assert_eq!(cluster.nodes[1].cli(&["GET", "a"]), "x");
        assert_ne!(cluster.fail_over(1), 1);
    }
}
