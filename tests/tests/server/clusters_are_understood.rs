//! Instances on a Redis Cluster act as one, and what they call rooms there is what is documented. What befalls its nodes is in
//! `clusters_may_change`.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use fanfare_core::broker::redis::{partition_of, slot_of_partition};
use fanfare_tests::stored::{self, ask, hear, join, resume, store};
use fanfare_tests::{Authority, Client, Cluster, Launch, Redis, Server, eventually, get, workspace_root};
use serde_json::json;

const PARTITIONS: u16 = 256;

fn cluster() -> Cluster {
    Cluster::start(3, 0, |launch| launch)
}

fn launch(cluster: &Cluster) -> Launch {
    stored::launch(&cluster.url()).flag("--limits-rooms-per-connection-max", PARTITIONS)
}

fn instances(cluster: &Cluster, pubsub: &str) -> [Server; 2] {
    std::array::from_fn(|_| launch(cluster).flag("--redis-cluster-pubsub", pubsub).start())
}

fn wait_until_told(server: &Server, reason: &str) {
    eventually(&format!("the operations port says {reason:?}"), || {
        let response = get(server.ops_address(), "/readyz");
        (response.status == 503 && response.text().contains(reason)).then_some(())
    });
}

/// One room of each partition.
fn rooms(prefix: &str) -> Vec<String> {
    let in_partition =
        |partition: &u16, number: &u32| partition_of(&format!("{prefix}{number}"), PARTITIONS) == *partition;
    let number = |partition| (0..).find(|number| in_partition(&partition, number)).expect("numbers do not end");
    (0..PARTITIONS).map(|partition| format!("{prefix}{}", number(partition))).collect()
}

/// Whoever subscribes at the one is heard by whoever publishes at the other.
#[track_caller]
fn assert_are_one(servers: &[Server; 2]) {
    let rooms = rooms("room:");
    for (from, to) in [(0, 1), (1, 0)] {
        let mut member = Client::connect(&servers[to]);
        rooms.iter().for_each(|room| member.subscribe(room));
        let mut sender = Client::connect(&servers[from]);
        rooms.iter().for_each(|room| sender.publish_acknowledged(room, &format!("\"{room}\"")));
        // Nodes know no order among them.
        let heard = rooms.iter().map(|_| {
            let message = member.recv_json();
            assert_eq!(message["room"], message["message"], "{message}");
            message["room"].as_str().expect("a room").to_owned()
        });
        let heard: BTreeSet<String> = heard.collect();
        assert_eq!(heard, rooms.iter().cloned().collect());
    }
}

#[test]
fn rooms_of_all_nodes_are_heard_at_all_instances() {
    let cluster = cluster();
    assert_are_one(&instances(&cluster, "sharded"));
    for node in &cluster.nodes {
        assert_eq!(node.cli(&["PUBSUB", "CHANNELS"]), "", "nothing goes through all nodes");
    }
}

/// So many of them that they are asked for in several commands for each node.
#[test]
fn rooms_that_nobody_is_in_are_left_at_all_nodes() {
    let cluster = cluster();
    let [server, _] = instances(&cluster, "sharded");
    let mut member = Client::connect(&server);
    let rooms = rooms("room:");
    rooms.iter().for_each(|room| member.subscribe(room));
    let subscribed = || {
        let channels = cluster.nodes.iter().map(|node| node.cli(&["PUBSUB", "SHARDCHANNELS", "fanfare:{*}room:*"]));
        channels.map(|channels| channels.lines().count()).sum::<usize>()
    };
    assert_eq!(subscribed(), usize::from(PARTITIONS));
    drop(member);
    eventually("all are left", || (subscribed() == 0).then_some(()));
}

#[test]
fn in_the_classic_way_others_are_heard_as_well() {
    let cluster = cluster();
    let servers = instances(&cluster, "classic");
    assert_are_one(&servers);
    let mut members = servers.each_ref().map(|server| Client::member(server, "plain"));
    for node in &cluster.nodes {
        node.publish("fanfare:plain", "from outside");
        members.iter_mut().for_each(|member| member.expect_message("plain", r#""from outside""#));
    }
    let (mut member, _) = join(&servers[0], "chat:a");
    assert_eq!(store(&mut Client::connect(&servers[1]), "chat:a", 1).offset, 1);
    assert_eq!(hear(&mut member, "chat:a"), (1, json!(1)));
}

#[test]
fn histories_are_one_at_all_nodes() {
    let cluster = cluster();
    let [one, two] = instances(&cluster, "sharded");
    let (mut sender, mut reader) = (Client::connect(&one), Client::connect(&two));
    for room in rooms("chat:").iter().step_by(40) {
        let (mut member, begin) = join(&two, room);
        for number in 1..=20_u64 {
            let place = store(&mut sender, room, number);
            assert_eq!((place.offset, &place.epoch), (number, &begin.epoch));
            assert_eq!(hear(&mut member, room), (number, json!(number)));
        }
        let page = ask(&mut reader, json!({"type": "HISTORY", "room": room, "limit": 15}), "HISTORY");
        let offsets: Vec<u64> = page["messages"]
            .as_array()
            .expect("messages")
            .iter()
            .filter_map(|message| message["offset"].as_u64())
            .collect();
        assert_eq!((offsets, &page["more"]), ((6..=20).collect(), &json!(true)), "{page}");
        let (mut late, _, recovered) = resume(&one, room, &stored::Place { offset: 18, ..begin });
        assert!(recovered);
        assert_eq!([hear(&mut late, room).0, hear(&mut late, room).0], [19, 20]);
        let keyed = json!({"type": "SEND_MESSAGE", "room": room, "message": 21, "key": "a key of 22 bytes or so"});
        let places =
            [&mut sender, &mut reader].map(|client| stored::Place::of(&ask(client, keyed.clone(), "ACK")).offset);
        assert_eq!(places, [21, 21]);
    }
}

#[test]
fn rooms_are_called_what_check_config_says() {
    let cluster = cluster();
    let server = launch(&cluster).start();
    for room in ["chat:a", "chat:{b}", "chat:ü}"] {
        let asked = launch(&cluster).args(["check-config", "--room", room]).run();
        let text = String::from_utf8(asked.stdout).expect("TOML is UTF-8");
        let table: toml::Table = text.parse().unwrap_or_else(|error| panic!("not TOML ({error}):\n{text}"));
        let told = &table["room"].as_array().expect("an array")[0];
        let names =
            |key: &str| told[key].as_array().expect("an array").iter().map(|name| name.as_str().expect("a text"));
        let (slot, channel) = (told["slot"].as_integer().expect("a number"), told["channel"].as_str().expect("a text"));

        let (_member, _) = join(&server, room);
        let keyed = json!({"type": "SEND_MESSAGE", "room": room, "message": 1, "key": "a key of 22 bytes or so"});
        ask(&mut Client::connect(&server), keyed, "ACK");
        let node = &cluster.nodes[cluster.master_of(slot.try_into().expect("a slot"))];
        for name in names("keys").chain([channel]) {
            assert_eq!(node.cli(&["CLUSTER", "KEYSLOT", name]), slot.to_string());
        }
        assert_eq!(node.cli(&["PUBSUB", "SHARDNUMSUB", channel]), format!("{channel}\n1"));
        let there = names("keys").map(|name| node.cli(&["EXISTS", name])).collect::<Vec<_>>();
        assert_eq!(there, ["1"; 4]);
    }
    // What the instances have agreed on.
    let key = "fanfare:{0}\u{1}layout";
    let slot: u16 = cluster.nodes[0].cli(&["CLUSTER", "KEYSLOT", key]).parse().expect("a slot");
    assert_eq!(cluster.nodes[cluster.master_of(slot)].cli(&["GET", key]), "256 sharded");
}

#[test]
fn who_parts_rooms_otherwise_is_told_and_does_nothing() {
    let cluster = cluster();
    let server = launch(&cluster).start();
    for (flag, value) in [("--redis-cluster-partitions", "128"), ("--redis-cluster-pubsub", "classic")] {
        let other = launch(&cluster).flag(flag, value).not_ready().start();
        wait_until_told(&other, "rooms are parted otherwise");
        let refused =
            ask(&mut Client::connect(&other), json!({"type": "SEND_MESSAGE", "room": "chat:a", "message": 1}), "ERROR");
        assert_eq!(refused["code"], "broker_unavailable");
    }
    // Another prefix is another server's.
    launch(&cluster).args(["--redis-prefix", "other:", "--redis-cluster-partitions", "128"]).start();
    assert_eq!(store(&mut Client::connect(&server), "chat:a", 1).offset, 1);
}

#[test]
fn nodes_that_are_away_are_passed_over() {
    let mut cluster = cluster();
    let mut away = [Redis::start(), Redis::start()];
    let others: Vec<String> = away.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
    away.iter_mut().for_each(Redis::kill);
    let url = format!("redis-cluster://{},127.0.0.1:{}", others.join(","), cluster.nodes[1].port());
    let servers: [Server; 2] =
        std::array::from_fn(|_| stored::launch(&url).flag("--limits-rooms-per-connection-max", 256).start());
    assert_are_one(&servers);

    cluster.nodes.iter_mut().for_each(Redis::kill);
    let nobody = stored::launch(&url).not_ready().start();
    wait_until_told(&nobody, "none of its 3 nodes says where the slots are");
    cluster.nodes.iter_mut().for_each(Redis::start_again);
    nobody.wait_until_ready();
}

#[test]
fn a_server_by_itself_is_no_cluster() {
    let redis = Redis::start();
    let server = stored::launch(&redis.url().replace("redis://", "redis-cluster://")).not_ready().start();
    wait_until_told(&server, "it is no node of a Cluster, and redis:// is for a server by itself");
    let alone = Redis::launch().in_cluster().start();
    let server = stored::launch(&alone.url().replace("redis://", "redis-cluster://")).not_ready().start();
    wait_until_told(&server, "no node of its Cluster has a slot");
}

/// What docs/redis.md says that the user of an instance needs.
fn rules_of_the_manual() -> String {
    let manual = fs::read_to_string(workspace_root().join("docs/redis.md")).expect("there is a manual");
    let after = |before: &str| manual.split_once(before).unwrap_or_else(|| panic!("it lacks {before:?}")).1;
    let everywhere = after("user fanfare on >PASSWORD resetchannels &fanfare:* ").lines().next().expect("a line");
    let in_clusters = after("In a Cluster it needs `").split('`').next().expect("a list");
    format!("resetchannels &fanfare:* {everywhere} {in_clusters}")
}

#[test]
fn passwords_are_those_of_all_nodes() {
    let rules = rules_of_the_manual();
    let cluster = Cluster::start(3, 0, |launch| {
        launch.password("admin").directive("masterauth admin").user("app", "first", &rules)
    });
    let file = std::env::temp_dir().join(format!("fanfare-cluster-password-{}", std::process::id()));
    fs::write(&file, "first\n").expect("the folder takes files");
    let launch = || launch(&cluster).args(["--redis-username", "app"]).flag("--redis-password-file", file.display());
    let servers: [Server; 2] = std::array::from_fn(|_| launch().start());
    assert_are_one(&servers);
    let (mut member, _) = join(&servers[0], "chat:a");
    assert_eq!(store(&mut Client::connect(&servers[1]), "chat:a", 1).offset, 1);
    assert_eq!(hear(&mut member, "chat:a"), (1, json!(1)));
    let slot = slot_of_partition(partition_of("chat:a", PARTITIONS));
    cluster.move_slot(slot, (cluster.master_of(slot) + 1) % 3, Duration::ZERO);
    assert_eq!(store(&mut Client::connect(&servers[1]), "chat:a", 2).offset, 2);
    for server in &servers {
        server.wait_until_ready();
        let refused = ["NOPERM", "refuse"].map(|word| server.log().count(word));
        assert_eq!(refused, [0, 0], "{}", server.log().text());
    }

    fs::write(&file, "second\n").expect("the folder takes files");
    for node in &cluster.nodes {
        node.cli(&["ACL", "SETUSER", "app", "resetpass", ">second"]);
        node.cli(&["CLIENT", "KILL", "USER", "app"]);
    }
    servers.iter().for_each(Server::wait_until_ready);
    assert_are_one(&servers);

    fs::write(&file, "third\n").expect("the folder takes files");
    wait_until_told(&launch().not_ready().start(), "WRONGPASS");
    fs::remove_file(&file).expect("it is there");
    let unknown = stored::launch(&cluster.url()).not_ready().start();
    wait_until_told(&unknown, "NOAUTH");
}

#[test]
fn tls_is_spoken_to_all_nodes() {
    let authority = Authority::new();
    authority.write("redis", &["127.0.0.1"]);
    let cluster = Cluster::start(3, 1, |launch| launch.tls(&authority, "redis"));
    let start = |_| {
        let launch = stored::launch(&cluster.tls_url()).flag("--limits-rooms-per-connection-max", PARTITIONS);
        launch
            .flag("--redis-tls-ca-file", authority.ca_file().display())
            .flag("--redis-tls-cert-file", authority.file("redis.pem").display())
            .flag("--redis-tls-key-file", authority.file("redis.key").display())
            .start()
    };
    let servers: [Server; 2] = std::array::from_fn(start);
    assert_are_one(&servers);
    for node in &cluster.nodes[..3] {
        let told = |client: &String| client.contains("name=fanfare-");
        assert!(node.clients().iter().any(told), "the servers are at each master");
    }
    cluster.fail_over(0);
    for server in &servers {
        server.wait_for_log("redis and its nodes");
        server.wait_until_ready();
    }
    assert_are_one(&servers);
}
