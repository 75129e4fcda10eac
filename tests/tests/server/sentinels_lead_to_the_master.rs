//! Redis behind Sentinels: instances find the master, follow it when it changes, and say why when they cannot.

use fanfare_tests::stored::{self, hear, join, store};
use fanfare_tests::{Client, Group, Launch, Redis, Server, eventually, get};

const ROOM: &str = "chat:a";

fn launch(group: &Group) -> Launch {
    stored::launch(&group.url())
}

fn wait_until_told(server: &Server, reason: &str) {
    eventually(&format!("the operations port says {reason:?}"), || {
        let response = get(server.ops_address(), "/readyz");
        (response.status == 503 && response.text().contains(reason)).then_some(())
    });
}

/// Whoever subscribes at the one is heard by whoever publishes at the other.
#[track_caller]
fn assert_are_one(servers: &[Server; 2], value: &str) {
    for (from, to) in [(0, 1), (1, 0)] {
        let mut member = Client::member(&servers[to], "plain");
        Client::connect(&servers[from]).publish_acknowledged("plain", value);
        member.expect_message("plain", value);
    }
}

#[test]
fn instances_follow_the_master_when_it_is_another() {
    let group = Group::start(2, |launch| launch);
    let servers: [Server; 2] = std::array::from_fn(|_| launch(&group).start());
    assert_are_one(&servers, "1");
    let (mut member, _) = join(&servers[0], ROOM);
    let mut sender = Client::connect(&servers[1]);
    let first = store(&mut sender, ROOM, 1);
    assert_eq!(hear(&mut member, ROOM).0, 1);

    let before = group.master();
    let after = group.fail_over();
    for server in &servers {
        let notice = server.wait_for_log("redis and its sentinels");
        let said = notice["notice"].as_str().expect("a text").to_owned();
        let [new, old] = [after, before].map(|index| format!("127.0.0.1:{}", group.servers[index].port()));
        assert!(said.contains(&format!("is {new} now")) && said.ends_with(&format!("was {old}")), "{said}");
        server.wait_until_ready();
        server
            .wait_for_metrics("it has followed", |metrics| metrics.value("fanfare_broker_master_changes_total") == 1.0);
    }
    assert_are_one(&servers, "2");
    let second = store(&mut sender, ROOM, 2);
    assert_eq!(second.offset, 2);
    if second.epoch != first.epoch {
        assert_eq!(member.recv_json()["type"], "GAP");
    }
    assert_eq!(hear(&mut member, ROOM).0, 2);
}

#[test]
fn a_dead_master_is_left_for_the_next() {
    let mut group = Group::start(1, |launch| launch);
    let servers: [Server; 2] = std::array::from_fn(|_| launch(&group).start());
    assert_are_one(&servers, "1");
    group.servers[0].kill();
    assert_eq!(group.wait_for_another_master(0), 1);
    servers.iter().for_each(Server::wait_until_ready);
    assert_are_one(&servers, "2");
    // When it comes back it is a replica, and nobody goes there.
    group.servers[0].start_again();
    group.wait_until_whole(1);
    assert_are_one(&servers, "3");
    assert_eq!(group.servers[0].subscribers("fanfare:plain"), 0);
}

/// No connection breaks, and the old master answers everything: only its role tells.
#[test]
fn a_master_that_is_demoted_by_hand_is_left_by_both_connections() {
    let group = Group::start(1, |launch| launch);
    let server = launch(&group).start();
    let [old, new] = [&group.servers[0], &group.servers[1]];
    // The Sentinels are not asked, because they would undo it.
    group.sentinels.iter().for_each(Redis::pause);
    new.cli(&["REPLICAOF", "NO", "ONE"]);
    old.cli(&["REPLICAOF", "127.0.0.1", &new.port().to_string()]);
    wait_until_told(&server, "it is a replica");
    new.cli(&["REPLICAOF", "127.0.0.1", &old.port().to_string()]);
    old.cli(&["REPLICAOF", "NO", "ONE"]);
    group.sentinels.iter().for_each(Redis::resume);
    server.wait_until_ready();
}

#[test]
fn what_is_connected_needs_no_sentinel() {
    let mut group = Group::start(0, |launch| launch);
    let servers: [Server; 2] = std::array::from_fn(|_| launch(&group).start());
    group.sentinels.iter_mut().for_each(Redis::kill);
    assert_are_one(&servers, "1");
    // Without a master that somebody vouches for, nothing is published anywhere.
    group.servers[0].kill();
    group.servers[0].start_again();
    for server in &servers {
        wait_until_told(server, "none of its 3 Sentinels answers: cannot connect");
    }
    group.sentinels.iter_mut().for_each(Redis::start_again);
    servers.iter().for_each(Server::wait_until_ready);
    assert_are_one(&servers, "2");
}

#[test]
fn who_is_not_known_to_sentinels_is_told() {
    let group = Group::start(0, |launch| launch);
    let url = group.url().replace("mymaster", "another");
    let server = stored::launch(&url).not_ready().start();
    wait_until_told(&server, "its Sentinels know no master called another");
}
