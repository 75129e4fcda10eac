//! Users in a room whose rule has presence, and observers that check whatever they are told of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use fanfare_core::broker::redis::{Topology, partition_of, slot_of_partition};
use serde_json::{Value, json};

use crate::{
    Client, Cluster, Endpoint, Launch, PROBE_INTERVAL, RawClient, Redis, Server, eventually, eventually_within,
};

/// How long it may take until all is told: leases run out, dead instances are cleared up after, and who has lost what it knew of Redis waits
/// for others.
pub const SETTLED_WITHIN: Duration = Duration::from_secs(60);

const RULES: &str = "[[rooms]]\nmatch = \"chat:*\"\nsubscribe = \"anyone\"\npresence = true\n";

/// How many connections each user has in a room.
pub type Users = BTreeMap<String, u32>;

/// All who are in one room, at whichever server, by the test's own doing.
pub struct Crowd {
    endpoint: Arc<Endpoint>,
    room: String,
    linger_ms: u64,
    members: Vec<Member>,
}

struct Member {
    user: String,
    /// The server's address.
    at: String,
    _client: RawClient,
}

impl Crowd {
    /// Nobody in this room, which is one of `chat:*`. Whoever leaves has left at once.
    pub fn of(room: &str) -> Crowd {
        Crowd::lingering(room, 0)
    }

    /// The same, where users linger for so long. Of those who linger, connections are counted that have ended: so nobody looks at how many
    /// there are.
    pub fn lingering(room: &str, linger_ms: u64) -> Crowd {
        // Its token is a user's name.
        let endpoint = Endpoint::start(|asked| (200, json!({ "user": asked.token().unwrap_or_default() }).to_string()));
        Crowd { endpoint: Arc::new(endpoint), room: room.to_owned(), linger_ms, members: Vec::new() }
    }

    /// Nobody in another room of the same servers.
    pub fn beside(&self, room: &str) -> Crowd {
        let (endpoint, linger_ms) = (Arc::clone(&self.endpoint), self.linger_ms);
        Crowd { endpoint, room: room.to_owned(), linger_ms, members: Vec::new() }
    }

    /// A server that lets them in. Nobody has to answer its pings.
    pub fn launch(&self) -> Launch {
        Server::launch()
            .file(RULES)
            .flag("--auth-url", self.endpoint.url())
            .flag("--auth-url-timeout-ms", 60_000)
            .args(["--auth-own-rooms", "off", "--auth-required", "off"])
            .flag("--presence-linger-ms", self.linger_ms)
            .flag("--timeouts-ping-interval-ms", 600_000)
            .flag("--limits-messages-per-second", 0)
    }

    /// One more instance on a Redis of this URL, with this lease, which comes back to it quickly.
    pub fn instance(&self, redis_url: &str, lease_ms: u64) -> Launch {
        self.launch()
            .flag("--redis-url", redis_url)
            .flag("--presence-lease-ms", lease_ms)
            .flag("--redis-backoff-ms-max", 200)
            .flag("--redis-probe-interval-ms", 100)
    }

    /// A connection of this user enters.
    ///
    /// # Panics
    ///
    /// If it is not let in.
    pub fn enter(&mut self, server: &Server, user: &str) {
        self.enter_all(server, [user.to_owned()]);
    }

    /// A connection of each of these users enters. Several knock at a time.
    ///
    /// # Panics
    ///
    /// If one is not let in.
    pub fn enter_all(&mut self, server: &Server, users: impl IntoIterator<Item = String>) {
        let users: Vec<String> = users.into_iter().collect();
        let room = &self.room;
        thread::scope(|scope| {
            let part = users.len().div_ceil(8).max(1);
            let knocking: Vec<_> = users
                .chunks(part)
                .map(|users| {
                    scope.spawn(move || users.iter().map(|user| enter(server, room, user)).collect::<Vec<_>>())
                })
                .collect();
            let entered = knocking.into_iter().flat_map(|thread| thread.join().expect("all are let in"));
            self.members.extend(entered);
        });
    }

    /// One connection of this user ends, without a word.
    ///
    /// # Panics
    ///
    /// If it has none.
    pub fn leave(&mut self, user: &str) {
        let place = self.members.iter().position(|member| member.user == user).expect("the user is there");
        self.members.swap_remove(place);
    }

    /// All connections to this server end, or it has ended.
    pub fn leave_server(&mut self, server: &Server) {
        let at = server.address().to_string();
        self.members.retain(|member| member.at != at);
    }

    /// All end at once.
    pub fn leave_all(&mut self) {
        self.members.clear();
    }

    /// Who is there.
    pub fn users(&self) -> Users {
        let mut users = Users::new();
        self.members.iter().for_each(|member| *users.entry(member.user.clone()).or_default() += 1);
        users
    }

    /// Somebody who is not there, and is told who is. It has to come while all who are there are named in one `PRESENT`: a hundred.
    pub fn observe(&self, server: &Server) -> Observer {
        let mut client = Client::connect(server);
        client.send_json(&json!({ "type": "SUBSCRIBE", "room": self.room, "presence": true }));
        client.expect_json(&json!({ "type": "SUBSCRIBED", "room": self.room }));
        let mut observer = Observer {
            client,
            at: server.address().to_string(),
            room: self.room.clone(),
            there: None,
            is_large: false,
            counts: self.linger_ms == 0,
            told: BTreeMap::new(),
            asked: 0,
        };
        eventually("it is told who is there", || {
            observer.listen();
            observer.there.is_some().then_some(())
        });
        observer
    }

    /// Waits until every observer, and whoever asks, knows who is there and with how many connections. Then somebody else comes, so that
    /// all that was told before has been heard.
    ///
    /// # Panics
    ///
    /// If that does not come about, or an observer is told what contradicts what it was told before.
    pub fn settle(&mut self, observers: &mut [Observer], last: (&Server, &str)) {
        wait_for(observers, &self.users());
        self.enter(last.0, last.1);
        wait_for(observers, &self.users());
    }
}

fn enter(server: &Server, room: &str, user: &str) -> Member {
    let credential = format!("Authorization: Bearer {user}\r\n");
    // Its SUBSCRIBED may come late: it counts before that.
    let client = eventually("the user is let in", || {
        match RawClient::upgraded_with(server.address(), &format!("/ws?room={room}"), &credential) {
            Ok((client, _)) => Some(client),
            // It does not know yet who is banned.
            Err(refusal) if refusal.status == 503 => None,
            Err(refusal) => panic!("{user}: {}", refusal.head),
        }
    });
    Member { user: user.to_owned(), at: server.address().to_string(), _client: client }
}

/// Reads until all of them know that these are there.
fn wait_for(observers: &mut [Observer], users: &Users) {
    let deadline = Instant::now() + SETTLED_WITHIN;
    loop {
        // All of them read, whether the others know or not.
        let knowing = observers.iter_mut().filter_map(|observer| observer.knows(users).then_some(())).count();
        if knowing == observers.len() {
            return;
        }
        if Instant::now() > deadline {
            observers.iter_mut().for_each(|observer| observer.explain(users));
            panic!("not within {SETTLED_WITHIN:?}: all observers know who is there");
        }
        thread::sleep(PROBE_INTERVAL);
    }
}

/// What is answered to one who asks.
enum Answer {
    Users(Users),
    /// Where there are too many to be named.
    Number(usize),
}

/// One who is told who is in a room, and keeps it as a client does.
pub struct Observer {
    client: Client,
    at: String,
    room: String,
    /// None before it has been told.
    there: Option<BTreeMap<String, Value>>,
    /// There are too many to be named.
    is_large: bool,
    /// Whether it looks at how many connections each user has.
    counts: bool,
    /// How often each user has joined and left since.
    told: BTreeMap<String, (u32, u32)>,
    asked: u64,
}

impl Observer {
    /// How often it was told that the user joined and left.
    pub fn told(&self, user: &str) -> (u32, u32) {
        self.told.get(user).copied().unwrap_or_default()
    }

    /// Whether this server tells it.
    pub fn is_at(&self, server: &Server) -> bool {
        self.at == server.address().to_string()
    }

    /// Whether it was told that there are too many to be named.
    pub fn is_large(&self) -> bool {
        self.is_large
    }

    /// Takes what has arrived.
    pub fn listen(&mut self) {
        while let Some(text) = self.client.recv_within(PROBE_INTERVAL) {
            let reply = self.take(&text);
            assert!(reply.is_none(), "the observer at {} has asked nothing: {text}", self.at);
        }
    }

    /// Takes a text; gives it back if it answers something.
    fn take(&mut self, text: &str) -> Option<Value> {
        let said: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let at = &self.at;
        assert_eq!(said["room"], self.room.as_str(), "{said}");
        let user = || said["user"].as_str().unwrap_or_else(|| panic!("no user: {said}")).to_owned();
        match said["type"].as_str() {
            Some("PRESENT" | "ERROR") if !said["id"].is_null() => return Some(said),
            Some("PRESENT") => {
                let is_large = said["users"].is_null();
                let is_news = self.there.is_none() || is_large != self.is_large;
                assert!(is_news, "the observer at {at} is told again who is there: {said}");
                let users = if is_large { Vec::new() } else { page(&said) };
                assert!(is_large || said["more"] == false && said["total"] == users.len(), "{said}");
                self.is_large = is_large;
                self.there = Some(users.into_iter().map(|(user, (_, info))| (user, info)).collect());
            }
            Some("JOINED" | "LEFT") if self.is_large => panic!("the observer at {at} knows of too many: {said}"),
            Some("JOINED") => {
                let there = self.there.as_mut().unwrap_or_else(|| panic!("before PRESENT: {said}"));
                let known = there.insert(user(), said["info"].clone());
                assert!(known.is_none(), "the observer at {at} knew that already: {said}");
                self.told.entry(user()).or_default().0 += 1;
            }
            Some("LEFT") => {
                let there = self.there.as_mut().unwrap_or_else(|| panic!("before PRESENT: {said}"));
                assert!(there.remove(&user()).is_some(), "the observer at {at} did not know of that: {said}");
                self.told.entry(user()).or_default().1 += 1;
            }
            Some("GAP") if said["reason"] == "interrupted" => {}
            _ => panic!("the observer at {at} is told {said}"),
        }
        None
    }

    /// Whether it knows by now that these are there, and is told the same when it asks.
    fn knows(&mut self, users: &Users) -> bool {
        self.listen();
        let is_told = self.is_large || self.there.as_ref().is_some_and(|there| there.keys().eq(users.keys()));
        match if is_told { self.asks() } else { None } {
            Some(Answer::Number(number)) => self.is_large && number == users.len(),
            Some(Answer::Users(asked)) if self.counts => !self.is_large && asked == *users,
            Some(Answer::Users(asked)) => !self.is_large && asked.keys().eq(users.keys()),
            None => false,
        }
    }

    /// Asks who is there, page by page; none if nobody can say it at the moment.
    fn asks(&mut self) -> Option<Answer> {
        let mut users = Users::new();
        loop {
            self.asked += 1;
            let mut question = json!({ "type": "PRESENCE", "room": self.room, "limit": 1_000, "id": self.asked });
            if let Some((last, _)) = users.last_key_value() {
                question["after"] = json!(last);
            }
            self.client.send_json(&question);
            let reply = loop {
                let text = self.client.recv();
                if let Some(reply) = self.take(&text) {
                    break reply;
                }
            };
            assert_eq!(reply["id"], self.asked, "{reply}");
            if reply["type"] == "ERROR" {
                assert_eq!(reply["code"], "broker_unavailable", "{reply}");
                return None;
            }
            if reply["users"].is_null() {
                let number = reply["total"].as_u64().unwrap_or_else(|| panic!("no number: {reply}"));
                return Some(Answer::Number(number as usize));
            }
            let page = page(&reply);
            assert!(!page.is_empty() || reply["more"] == false, "{reply}");
            users.extend(page.into_iter().map(|(user, (connections, _))| (user, connections)));
            if reply["more"] == false {
                return Some(Answer::Users(users));
            }
        }
    }

    /// Says in which it is wrong.
    fn explain(&mut self, users: &Users) {
        let there = self.there.clone().unwrap_or_default();
        let missing: Vec<&String> = users.keys().filter(|user| !there.contains_key(*user)).take(10).collect();
        let ghosts: Vec<&String> = there.keys().filter(|user| !users.contains_key(*user)).take(10).collect();
        let asked = self.asks();
        let asked = match asked {
            Some(Answer::Users(asked)) => asked,
            Some(Answer::Number(_)) | None => Users::new(),
        };
        let counts: Vec<_> = asked.iter().filter(|(user, n)| users.get(*user) != Some(*n)).take(10).collect();
        eprintln!(
            "the observer at {}: {} users of {}, missing {missing:?}, ghosts {ghosts:?}, other counts {counts:?}",
            self.at,
            there.len(),
            users.len()
        );
    }
}

/// The users of a `PRESENT` in their order, with the numbers of their connections and their info.
fn page(present: &Value) -> Vec<(String, (u32, Value))> {
    let users = present["users"].as_array().unwrap_or_else(|| panic!("no users: {present}"));
    let read = |user: &Value| {
        let name = user["user"].as_str()?.to_owned();
        let connections = u32::try_from(user["connections"].as_u64()?).ok().filter(|connections| *connections > 0)?;
        Some((name, (connections, user["info"].clone())))
    };
    let users: Vec<_> = users.iter().map(|user| read(user).unwrap_or_else(|| panic!("not a user: {user}"))).collect();
    assert!(users.is_sorted_by(|one, next| one.0 < next.0), "not in order: {present}");
    users
}

/// Waits until Redis holds that these are in the room and nothing else: nobody is left of an instance that is dead.
///
/// # Panics
///
/// If that does not come about.
pub fn wait_until_redis_holds(redis: &Redis, room: &str, users: &Users) {
    let lines = |args: &[&str]| -> Vec<String> {
        redis.cli(args).lines().map(str::to_owned).filter(|line| !line.is_empty()).collect()
    };
    let deadline = Instant::now() + SETTLED_WITHIN;
    loop {
        let listed = lines(&["ZRANGE", "fanfare:\u{1}instances", "0", "-1"]);
        let dead = lines(&["ZRANGE", "fanfare:\u{1}dead", "0", "-1"]);
        let present = lines(&["HGETALL", &format!("fanfare:\u{1}present:{room}")]);
        let mut held = Users::new();
        for pair in present.chunks(2) {
            let connections = pair[1].split(' ').next().and_then(|text| text.parse().ok());
            held.insert(pair[0].clone(), connections.unwrap_or_else(|| panic!("no number: {pair:?}")));
        }
        let mut by_instances = Users::new();
        let mut strangers = Vec::new();
        for key in lines(&["KEYS", "fanfare:\u{1}at:*"]) {
            if !listed.iter().any(|incarnation| key.contains(incarnation.as_str())) {
                strangers.push(key.clone());
            }
            for pair in lines(&["HGETALL", &key]).chunks(2) {
                *by_instances.entry(pair[0].clone()).or_default() += pair[1].parse::<u32>().expect("a number");
            }
        }
        let is_so = held == *users && by_instances == *users;
        if is_so && strangers.is_empty() && dead.is_empty() {
            return;
        }
        let counts = (held.len(), by_instances.len(), users.len());
        assert!(
            Instant::now() < deadline,
            "not within {SETTLED_WITHIN:?}: only those are there. Instances {listed:?}, dead {dead:?}, of dead ones {strangers:?}, \
             users in all, by instances, and in truth {counts:?}"
        );
        thread::sleep(PROBE_INTERVAL);
    }
}

/// The slot of a room.
pub fn slot_of(room: &str) -> u16 {
    slot_of_partition(partition_of(room, Topology::PARTITIONS_DEFAULT))
}

/// A room that this node has, or that it has not.
///
/// # Panics
///
/// Never.
pub fn room_at(cluster: &Cluster, is_it: impl Fn(usize) -> bool) -> String {
    let mut rooms = (0..).map(|number| format!("chat:{number}"));
    rooms.find(|room| is_it(cluster.master_of(slot_of(room)))).expect("numbers do not end")
}

/// Waits until the room's master holds that these are there.
///
/// # Panics
///
/// If that does not come about.
pub fn wait_until_cluster_holds(cluster: &Cluster, room: &str, users: &Users) {
    let partition = partition_of(room, Topology::PARTITIONS_DEFAULT);
    let key = format!("fanfare:{{{partition}}}\u{1}present:{room}");
    eventually_within(SETTLED_WITHIN, "the room's node holds who is there", || {
        let node = &cluster.nodes[cluster.master_of(slot_of(room))];
        let said = node.cli(&["HGETALL", &key]);
        let lines: Vec<&str> = said.lines().collect();
        let held = lines
            .chunks(2)
            .filter_map(|pair| Some((pair.first()?.to_string(), pair.get(1)?.split(' ').next()?.parse::<u32>().ok()?)));
        (held.collect::<Users>() == *users).then_some(())
    });
}
