//! Nodes of a Redis Cluster fail over, die, and hand slots to each other. Rooms with history lose nothing, and others are told.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use fanfare_core::broker::redis::{Topology, partition_of, slot_of_partition};
use fanfare_tests::stored::{self, join, store};
use fanfare_tests::{Client, Cluster, Server, eventually, eventually_within, get};
use serde_json::{Value, json};

/// A node that has no room any more is left after ten seconds.
const LEFT_WITHIN: Duration = Duration::from_secs(30);

/// How often a member may be told of an interruption before its room's node has settled.
const INTERRUPTIONS_MAX: usize = 20;

fn instances(cluster: &Cluster) -> [Server; 2] {
    let launch = || stored::launch(&cluster.url()).flag("--redis-publish-wait-ms", 5_000);
    std::array::from_fn(|_| launch().flag("--limits-messages-per-second", 0).start())
}

fn slot_of(room: &str) -> u16 {
    slot_of_partition(partition_of(room, Topology::PARTITIONS_DEFAULT))
}

/// A room that this node has.
fn room_at(cluster: &Cluster, node: usize, prefix: &str) -> String {
    let rooms = (0..).map(|number| format!("{prefix}{number}"));
    rooms.into_iter().find(|room| cluster.master_of(slot_of(room)) == node).expect("numbers do not end")
}

/// Whoever subscribes at the one is heard by whoever publishes at the other.
#[track_caller]
fn assert_are_one(servers: &[Server; 2], room: &str) {
    for (from, to) in [(0, 1), (1, 0)] {
        let mut member = Client::member(&servers[to], room);
        Client::connect(&servers[from]).publish_acknowledged(room, "1");
        member.expect_message(room, "1");
    }
}

/// The next message: what is told of an epoch before it must be that nothing is missing.
#[track_caller]
fn hear(member: &mut Client) -> (u64, Value) {
    loop {
        let mut text = member.recv_json();
        match text["type"].as_str() {
            Some("MESSAGE") => {
                return (
                    text["offset"].as_u64().unwrap_or_else(|| panic!("no offset: {text}")),
                    text["message"].take(),
                );
            }
            Some("GAP") if text["reason"] == "epoch" => {}
            _ => panic!("{text}"),
        }
    }
}

/// The next message must be this one. Whether it was told before that some may be missing; that may be told again while a room's node is
/// not settled.
#[track_caller]
fn skip_interruptions(member: &mut Client, room: &str, raw: &str) -> bool {
    let mut is_told = false;
    loop {
        let text = member.recv();
        if text == format!(r#"{{"type":"GAP","room":"{room}","reason":"interrupted"}}"#) {
            is_told = true;
        } else {
            assert_eq!(text, format!(r#"{{"type":"MESSAGE","room":"{room}","message":{raw}}}"#));
            return is_told;
        }
    }
}

/// A member of a room without history, whose messages are numbered.
struct Listener {
    client: Client,
    heard: u64,
}

impl Listener {
    fn of(server: &Server, room: &str) -> Listener {
        Listener { client: Client::member(server, room), heard: 0 }
    }

    /// Hears all up to the last message that was said. It may miss some around an interruption, and then is told of that before the next.
    /// An instance may notice a change after a publish that it did not get, so another message is said after each interruption.
    #[track_caller]
    fn catch_up(&mut self, sender: &mut Client, room: &str, said: &mut u64) {
        let mut is_told = false;
        for _ in 0..INTERRUPTIONS_MAX {
            while self.heard < *said {
                let text = self.client.recv();
                if text == format!(r#"{{"type":"GAP","room":"{room}","reason":"interrupted"}}"#) {
                    is_told = true;
                    break;
                }
                let message: Value = serde_json::from_str(&text).expect("JSON");
                assert_eq!(message["type"], "MESSAGE", "{message}");
                let number = message["message"].as_u64().expect("a number");
                let follows = number == self.heard + 1 || is_told && number > self.heard;
                assert!(follows, "{number} after {}, told of an interruption: {is_told}", self.heard);
                (self.heard, is_told) = (number, false);
            }
            if self.heard == *said {
                return;
            }
            say(sender, room, said);
        }
        panic!("interrupted {INTERRUPTIONS_MAX} times");
    }
}

/// Says the next number.
#[track_caller]
fn say(sender: &mut Client, room: &str, said: &mut u64) {
    *said += 1;
    sender.publish_acknowledged(room, &said.to_string());
}

#[test]
fn a_master_hands_over_to_its_replica() {
    let cluster = Cluster::start(3, 1, |launch| launch);
    let servers = instances(&cluster);
    let (kept, plain, other) =
        (room_at(&cluster, 0, "chat:"), room_at(&cluster, 0, "plain:"), room_at(&cluster, 1, "plain:"));
    let mut members = servers.each_ref().map(|server| join(server, &kept).0);
    let mut listeners = servers.each_ref().map(|server| Listener::of(server, &plain));
    let mut others = servers.each_ref().map(|server| Client::member(server, &other));
    let mut sender = Client::connect(&servers[0]);
    let mut said = 0;
    for number in 1..=3 {
        if number > 1 {
            cluster.fail_over(cluster.master_of(slot_of(&kept)));
            servers.iter().for_each(Server::wait_until_ready);
            cluster.wait_until_whole();
            // Whether anything is said or not.
            listeners.iter_mut().for_each(|listener| listener.client.expect_interruption(&plain));
        }
        assert_eq!(store(&mut sender, &kept, number).offset, number);
        members.iter_mut().for_each(|member| assert_eq!(hear(member), (number, json!(number))));
        say(&mut sender, &plain, &mut said);
        listeners.iter_mut().for_each(|listener| listener.catch_up(&mut sender, &plain, &mut said));
        // Who is at other nodes hears of nothing.
        sender.publish_acknowledged(&other, "1");
        others.iter_mut().for_each(|member| member.expect_message(&other, "1"));
    }
}

#[test]
fn a_dead_master_is_left_for_its_replica() {
    let mut cluster = Cluster::start(3, 1, |launch| launch);
    let servers = instances(&cluster);
    let room = room_at(&cluster, 1, "plain:");
    assert_are_one(&servers, &room);
    let mut member = Client::member(&servers[0], &room);
    cluster.kill(1);
    let next = cluster.wait_for_another_master(slot_of(&room), 1);
    servers.iter().for_each(Server::wait_until_ready);
    assert_are_one(&servers, &room);
    Client::connect(&servers[1]).publish_acknowledged(&room, "2");
    let heard = [skip_interruptions(&mut member, &room, "1"), skip_interruptions(&mut member, &room, "1")];
    assert_eq!((heard, skip_interruptions(&mut member, &room, "2")), ([true, false], false));
    // When it comes back it is a replica, and nobody goes there.
    cluster.nodes[1].start_again();
    cluster.wait_until_whole();
    assert_eq!(cluster.master_of(slot_of(&room)), next);
    assert_are_one(&servers, &room);
    let is_ours = |client: &String| client.contains("name=fanfare-");
    eventually_within(LEFT_WITHIN, "nobody is at the replica", || {
        (!cluster.nodes[1].clients().iter().any(is_ours)).then_some(())
    });
}

#[test]
fn a_part_that_is_away_is_named_and_the_others_go_on() {
    let mut cluster = Cluster::start(3, 0, |launch| launch.directive("cluster-require-full-coverage no"));
    let servers = instances(&cluster);
    let [here, away] = [1, 2].map(|node| room_at(&cluster, node, "plain:"));
    let mut members = [&here, &away].map(|room| Client::member(&servers[0], room));
    let address = format!("127.0.0.1:{}", cluster.nodes[2].port());
    cluster.kill(2);
    for server in &servers {
        eventually("the operations port says which part is away", || {
            let response = get(server.ops_address(), "/readyz");
            (response.status == 503 && response.text().contains(&address)).then_some(())
        });
    }
    let mut sender = Client::connect(&servers[1]);
    sender.publish_acknowledged(&here, "1");
    members[0].expect_message(&here, "1");
    cluster.nodes[2].start_again();
    servers.iter().for_each(Server::wait_until_ready);
    members[1].expect_interruption(&away);
    for (room, member) in [&here, &away].into_iter().zip(&mut members) {
        sender.publish_acknowledged(room, "2");
        skip_interruptions(member, room, "2");
    }
}

#[test]
fn a_slot_that_moves_under_messages_loses_none() {
    let cluster = Cluster::start(3, 0, |launch| launch);
    let servers = instances(&cluster);
    let room = room_at(&cluster, 0, "chat:");
    let slot = slot_of(&room);
    let mut members = servers.each_ref().map(|server| join(server, &room).0);
    let mut senders = servers.each_ref().map(Client::connect);
    let is_moving = AtomicBool::new(true);
    thread::scope(|scope| {
        scope.spawn(|| {
            for to in [1, 0, 2, 0] {
                cluster.move_slot(slot, to, Duration::from_millis(300));
            }
            is_moving.store(false, Ordering::Relaxed);
        });
        let mut number = 0;
        while is_moving.load(Ordering::Relaxed) || number < 10 {
            number += 1;
            assert_eq!(store(&mut senders[number as usize % 2], &room, number).offset, number);
            members.iter_mut().for_each(|member| assert_eq!(hear(member), (number, json!(number))));
        }
    });
    servers.iter().for_each(Server::wait_until_ready);
    // Whoever comes while it moves is let in as well, and it is left everywhere in the end.
    drop(members);
    eventually("all have left the room", || {
        cluster.nodes.iter().all(|node| !node.cli(&["PUBSUB", "SHARDCHANNELS"]).contains(&room)).then_some(())
    });
}

/// For as long as an operator likes: the new node stores, and subscribers are at the old one.
#[test]
fn a_room_goes_on_whose_keys_are_elsewhere_before_its_slot_is() {
    let cluster = Cluster::start(3, 0, |launch| launch);
    let servers = instances(&cluster);
    let [room, new, plain] = ["chat:", "long:", "plain:"].map(|prefix| room_at(&cluster, 0, prefix));
    let mut members = servers.each_ref().map(|server| join(server, &room).0);
    let mut senders = servers.each_ref().map(Client::connect);
    let mut go_on = |numbers: std::ops::RangeInclusive<u64>| {
        for number in numbers {
            assert_eq!(store(&mut senders[number as usize % 2], &room, number).offset, number);
            members.iter_mut().for_each(|member| assert_eq!(hear(member), (number, json!(number))));
        }
    };
    go_on(1..=5);
    let ways = [&room, &new, &plain].map(|room| {
        let slot = slot_of(room);
        (slot, cluster.move_keys(slot, 1))
    });
    go_on(6..=20);
    // Who comes now begins at once, and reads what was before.
    let (mut late, place) = join(&servers[0], &room);
    assert_eq!(place.offset, 20);
    let page = stored::ask(&mut late, json!({"type": "HISTORY", "room": room, "limit": 3}), "HISTORY");
    assert_eq!(page["messages"].as_array().expect("messages").len(), 3, "{page}");
    drop(late);
    assert_are_one(&servers, &plain);
    // For want of its keys neither node does anything for a new room: who comes now waits.
    let mut member = Client::connect(&servers[0]);
    member.send_json(&json!({"type": "SUBSCRIBE", "room": new}));
    member.fence();

    ways.into_iter().for_each(|(slot, from)| cluster.end_move(slot, from, 1));
    assert_eq!(member.recv_json()["type"], "SUBSCRIBED");
    assert_eq!(store(&mut Client::connect(&servers[1]), &new, 1).offset, 1);
    assert_eq!(hear(&mut member), (1, json!(1)));
    go_on(21..=25);
    servers.iter().for_each(Server::wait_until_ready);
}

#[test]
fn members_come_and_go_while_their_slot_moves() {
    let cluster = Cluster::start(3, 0, |launch| launch);
    let servers = instances(&cluster);
    let [kept, plain] = ["chat:", "plain:"].map(|prefix| room_at(&cluster, 0, prefix));
    for room in [&kept, &plain] {
        let is_moving = AtomicBool::new(true);
        thread::scope(|scope| {
            scope.spawn(|| {
                for to in [1, 2, 0] {
                    cluster.move_slot(slot_of(room), to, Duration::from_millis(200));
                }
                is_moving.store(false, Ordering::Relaxed);
            });
            while is_moving.load(Ordering::Relaxed) {
                let mut member = Client::connect(&servers[0]);
                stored::ask(&mut member, json!({"type": "SUBSCRIBE", "room": room}), "SUBSCRIBED");
                member.leave();
            }
        });
    }
    assert_are_one(&servers, &plain);
}

#[test]
fn all_nodes_may_be_started_anew() {
    let mut cluster = Cluster::start(3, 0, |launch| launch.directive("appendonly yes").directive("appendfsync always"));
    let servers = instances(&cluster);
    let rooms = [0, 1, 2].map(|node| room_at(&cluster, node, "chat:"));
    let mut members = rooms.each_ref().map(|room| join(&servers[0], room).0);
    let mut sender = Client::connect(&servers[1]);
    for number in 1..=2 {
        for (room, member) in rooms.iter().zip(&mut members) {
            assert_eq!(store(&mut sender, room, number).offset, number);
            assert_eq!(hear(member), (number, json!(number)));
        }
        if number == 1 {
            (0..3).for_each(|node| cluster.kill(node));
            servers.iter().for_each(|server| drop(server.wait_until_readyz_is(503)));
            (0..3).for_each(|node| cluster.nodes[node].start_again());
            servers.iter().for_each(Server::wait_until_ready);
        }
    }
}

#[test]
fn rooms_that_wait_for_replicas_wait_for_those_of_their_master() {
    let mut cluster = Cluster::start(3, 1, |launch| launch);
    let rules = "[[rooms]]\nmatch = \"safe:*\"\nhistory_messages = 100\nhistory_replicas_min = 1\n";
    let launch = Server::launch().flag("--redis-url", cluster.url()).file(rules).ops();
    let server = launch.flag("--redis-publish-wait-ms", 5_000).flag("--redis-backoff-ms-max", 200).start();
    let rooms = [0, 1, 2].map(|node| room_at(&cluster, node, "safe:"));
    let mut sender = Client::connect(&server);
    rooms.iter().for_each(|room| assert_eq!(store(&mut sender, room, 1).offset, 1));
    cluster.move_slot(slot_of(&rooms[0]), 1, Duration::ZERO);
    rooms.iter().for_each(|room| assert_eq!(store(&mut sender, room, 2).offset, 2));
    cluster.kill(cluster.replica_of(1));
    for (room, is_confirmed) in rooms.iter().zip([false, false, true]) {
        let command = json!({"type": "SEND_MESSAGE", "room": room, "message": 3});
        if is_confirmed {
            stored::ask(&mut sender, command, "ACK");
        } else {
            assert_eq!(stored::ask(&mut sender, command, "ERROR")["code"], "unconfirmed", "{room}");
        }
    }
}
