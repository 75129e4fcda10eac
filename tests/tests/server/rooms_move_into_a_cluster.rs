//! Histories move from one Redis into a Cluster, and out of it, by what docs/redis.md says: members come back where they were.

use std::process::Command;

use fanfare_tests::stored::{self, Place, ask, hear, resume, store};
use fanfare_tests::{Client, Cluster, Redis, Server, workspace_root};
use serde_json::json;

const ROOMS: [&str; 5] = ["chat:a", "chat:\"b\\", "chat:{c}", "chat:ü", "chat:"];

/// Renames the keys of histories for so many partitions.
fn part(redis: &Redis, partitions: &str) -> String {
    let script = workspace_root().join("tools/redis/part-rooms.lua");
    redis.cli(&["--eval", script.to_str().expect("a path of UTF-8"), ",", "fanfare:", partitions])
}

fn keyed(client: &mut Client, room: &str) -> Place {
    let command = json!({"type": "SEND_MESSAGE", "room": room, "message": 5, "key": "a key of 22 bytes or so"});
    Place::of(&ask(client, command, "ACK"))
}

/// Members who have seen three of so many messages get the others; messages with a key stay the same; and the next one is stored. Gives the
/// places of each room's third.
fn assert_are_here(server: &Server, thirds: Vec<Place>, count: u64) -> Vec<Place> {
    let mut sender = Client::connect(server);
    let rooms = ROOMS.into_iter().zip(thirds);
    let rooms = rooms.map(|(room, third)| {
        let (mut member, place, recovered) = resume(server, room, &third);
        assert!(recovered, "{room}: {place:?}");
        (4..=count).for_each(|number| assert_eq!(hear(&mut member, room), (number, json!(number))));
        assert_eq!(keyed(&mut sender, room).offset, 5, "it is the same message as before");
        assert_eq!(store(&mut sender, room, count + 1).offset, count + 1);
        third
    });
    rooms.collect()
}

#[test]
fn and_out_again() {
    let redis = Redis::start();
    let server = stored::launch(&redis.url()).start();
    let mut sender = Client::connect(&server);
    let thirds = ROOMS.map(|room| {
        let places: Vec<Place> = (1..=4).map(|number| store(&mut sender, room, number)).collect();
        assert_eq!(keyed(&mut sender, room).offset, 5);
        places[2].clone()
    });
    drop(server);

    let cluster = Cluster::start(3, 0, |launch| launch);
    let moved: usize = part(&redis, "256").parse().expect("a number");
    assert_eq!(moved, 4 * ROOMS.len());
    let [from, to] = [redis.port(), cluster.nodes[1].port()].map(|port| format!("127.0.0.1:{port}"));
    redis.cli(&["--cluster", "import", &to, "--cluster-from", &from, "--cluster-copy"]);
    let server = stored::launch(&cluster.url()).start();
    let thirds = assert_are_here(&server, thirds.into(), 5);
    drop(server);

    let redis = Redis::start();
    for node in &cluster.nodes {
        let from = format!("redis-cli -p {}", node.port());
        let keys = format!("{from} --no-raw --scan --pattern 'fanfare:*'");
        let migrate = format!("sed 's/.*/MIGRATE 127.0.0.1 {} & 0 5000 COPY/'", redis.port());
        let said =
            Command::new("sh").args(["-c", &format!("{keys} | {migrate} | {from}")]).output().expect("there is sh");
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(said.lines().all(|line| line == "OK"), "{said}");
    }
    assert_eq!(part(&redis, "0"), moved.to_string());
    let server = stored::launch(&redis.url()).start();
    assert_are_here(&server, thirds, 6);
}

#[test]
fn or_from_one_way_to_publish_to_the_other() {
    let cluster = Cluster::start(3, 0, |launch| launch);
    // One after the other, as instances that take a node for a server are replaced.
    let old = stored::launch(&cluster.nodes[0].url()).start();
    let classic = || stored::launch(&cluster.url()).args(["--redis-cluster-pubsub", "classic"]).start();
    let servers = [classic(), old];
    for (from, to) in [(0, 1), (1, 0)] {
        let mut member = Client::member(&servers[to], "plain");
        Client::connect(&servers[from]).publish_acknowledged("plain", "1");
        member.expect_message("plain", "1");
    }
    let place = store(&mut Client::connect(&servers[0]), "chat:a", 1);
    drop(servers);

    let key = "fanfare:{0}\u{1}layout";
    cluster.nodes[0].cli(&["-c", "DEL", key]);
    let server = stored::launch(&cluster.url()).start();
    let begin = Place { offset: 0, ..place };
    let (mut member, _, recovered) = resume(&server, "chat:a", &begin);
    assert!(recovered);
    assert_eq!(hear(&mut member, "chat:a"), (1, json!(1)));
}
