//! Presence in a Cluster: which node is asked, and what comes of it when rooms move and nodes are lost.

use super::*;
use crate::broker::{Ask, PresenceId};

const REPLIDS: [&str; 3] = [
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
    "cccccccccccccccccccccccccccccccccccccccc",
];

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

fn kept(node: usize) -> Vec<u8> {
    format!("*6\r\n:1\r\n:1\r\n:1\r\n{}:1\r\n{}", bulk(REPLIDS[node]), bulk("")).into_bytes()
}

fn checked(node: usize) -> Vec<u8> {
    format!("*3\r\n:1\r\n{}*0\r\n", bulk(REPLIDS[node])).into_bytes()
}

fn renewed(node: usize, taken: &[&str]) -> Vec<u8> {
    let names: String = taken.iter().map(|name| bulk(name)).collect();
    format!("*4\r\n:1\r\n:1000\r\n{}*{}\r\n{names}", bulk(REPLIDS[node]), taken.len()).into_bytes()
}

impl World {
    /// One that has its lease, and has told of a user in each partition.
    fn told() -> World {
        let mut world = World::up_with(RedisConfig { keeps_presence: true, ..config() });
        assert_eq!(world.asked(1), ["Renew"]);
        world.hear(1, Role::Publisher, &renewed(0, &[]));
        // For its first lease it looks at both for those who have none.
        assert_eq!(world.asked(1), ["Check"]);
        for round in 0..4 {
            assert_eq!(world.asked(2), ["Check"]);
            world.hear(1, Role::Publisher, &checked(0));
            world.hear(2, Role::Publisher, &checked(1));
            if round < 3 {
                world.wait(Duration::from_secs(10) / 3 + Duration::from_millis(1));
                assert_eq!(world.asked(1), ["Renew", "Check"]);
                world.hear(1, Role::Publisher, &renewed(0, &[]));
            }
        }
        // When it tells of the last one, it knows both nodes.
        for partition in [0, 1, 0] {
            world.present(partition, 1);
            assert_eq!(world.asked(partition + 1), ["PresentSharded"]);
            world.hear(partition + 1, Role::Publisher, &kept(usize::from(partition)));
            assert_eq!(world.events(), ["kept 1: 1"]);
        }
        world
    }

    fn present(&mut self, partition: u16, id: u64) {
        let id = PresenceId::new(id);
        self.broker.ask(Ask::Present { room: &room(partition), user: "bob", info: "", connections: 1, id });
    }

    /// What is asked of presence on a publishing connection.
    fn asked(&mut self, port: u16) -> Vec<String> {
        let name = |sha1: &String| PresenceLua::ALL.into_iter().find(|script| script.sha1() == sha1).expect("one");
        let sent = self.sent(port, Role::Publisher).into_iter().filter(|words| words[0] == "EVALSHA");
        sent.map(|words| format!("{:?}", name(&words[1]))).collect()
    }
}

#[test]
fn what_a_node_does_not_have_goes_to_the_one_that_has_it() {
    let mut world = World::told();
    world.present(0, 7);
    assert_eq!(world.asked(1), ["PresentSharded"]);
    world.hear(1, Role::Publisher, &moved(0, 2));
    let asked = world.asked(2);
    assert!(asked.contains(&"Check".to_owned()) && asked.contains(&"PresentSharded".to_owned()), "{asked:?}");
    let replies = asked.iter().map(|kind| match &kind[..] {
        "Check" => checked(1),
        "Renew" => renewed(1, &[]),
        _ => kept(1),
    });
    let replies: Vec<u8> = replies.flatten().collect();
    world.hear(2, Role::Publisher, &replies);
    let events = world.events();
    assert!(events.contains(&"kept 7: 1".to_owned()), "{events:?}");
    assert!(!events.contains(&"presence lost".to_owned()), "that node was known before: {events:?}");
}

#[test]
fn a_node_that_nobody_knew_may_have_lost_what_another_one_was_told() {
    let mut world = World::told();
    world.fail(2, Role::Publisher);
    world.events();
    world.wait(Duration::from_secs(1));
    world.set_up(2, Role::Publisher);
    assert_eq!(world.asked(2), ["Check"]);
    world.hear(2, Role::Publisher, &checked(2));
    assert!(world.events().contains(&"presence lost".to_owned()));
    assert_eq!(world.asked(1), ["Renew"], "under another name");
}

#[test]
fn what_waits_at_a_lost_node_may_be_done_yet_and_is_left_to_an_incarnation_that_is_no_more() {
    let mut world = World::told();
    world.present(1, 7);
    world.present(0, 8);
    assert_eq!((world.asked(1), world.asked(2)), (vec!["PresentSharded".to_owned()], vec!["PresentSharded".into()]));
    world.fail(2, Role::Publisher);
    assert_eq!(world.events().iter().filter(|event| *event == "presence lost").count(), 1);
    world.hear(1, Role::Publisher, &kept(0));
    assert!(!world.events().iter().any(|event| event.starts_with("kept")), "the hub tells it anew");
    assert_eq!(world.asked(1), ["Renew"], "under another name");
}

#[test]
fn the_dead_are_cleared_up_after_in_every_partition() {
    let mut world = World::told();
    world.wait(Duration::from_secs(10) / 3);
    assert_eq!(world.asked(1), ["Renew"]);
    world.hear(1, Role::Publisher, &renewed(0, &["00000000000000dd"]));
    assert_eq!((world.asked(1), world.asked(2)), (vec!["Gone".to_owned()], vec!["Gone".into()]));
    world.hear(1, Role::Publisher, b"*0\r\n");
    world.hear(2, Role::Publisher, b"*0\r\n");
    world.wait(Duration::from_secs(10) / 3);
    let renew = world.sent(1, Role::Publisher).pop().unwrap();
    assert_eq!(renew[renew.len() - 4..], ["1", REPLIDS[0], "0", "00000000000000dd"]);
}

#[test]
fn clearing_up_goes_on_whatever_passes_and_without_the_partition_that_is_held_up() {
    let mut world = World::told();
    world.wait(Duration::from_secs(10) / 3);
    world.asked(1);
    world.hear(1, Role::Publisher, &renewed(0, &["00000000000000dd"]));
    assert_eq!((world.asked(1), world.asked(2)), (vec!["Gone".to_owned()], vec!["Gone".into()]));
    // While the slot is on its way, and while its node hears of no others.
    for (error, pause_ms) in [
        ("TRYAGAIN Multiple keys request during rehashing of slot", 100),
        ("CLUSTERDOWN The cluster is down", 200),
        ("LOADING Redis is loading the dataset in memory", 400),
    ] {
        world.hear(2, Role::Publisher, format!("-{error}\r\n").as_bytes());
        assert!(world.asked(2).is_empty(), "{error}");
        world.wait(Duration::from_millis(pause_ms));
        let said = world.sent(2, Role::Publisher);
        let gone = said.iter().filter(|words| words[1..].contains(&PresenceLua::Gone.sha1().to_owned())).count();
        assert_eq!(gone, 1, "{error}: {said:?}");
        // It may be asked for its role, because it refuses.
        said[..said.len() - gone].iter().for_each(|_| world.hear(2, Role::Publisher, MASTER));
    }
    // The other partition is not held up.
    world.hear(1, Role::Publisher, format!("*1\r\n{}", bulk(&room(0))).as_bytes());
    assert_eq!(world.asked(1), ["LeaveSharded"]);
    let left = format!("*5\r\n:0\r\n:0\r\n{}:1\r\n{}", bulk(REPLIDS[0]), bulk(""));
    world.hear(1, Role::Publisher, left.as_bytes());
    assert_eq!(world.asked(1), ["Gone"]);
    world.hear(1, Role::Publisher, b"*0\r\n");
    // Nobody knows whether that was done whose connection was lost.
    world.fail(2, Role::Publisher);
    world.wait(Duration::from_secs(1));
    world.set_up(2, Role::Publisher);
    assert_eq!(world.asked(2), ["Check", "Gone"]);
    world.hear(2, Role::Publisher, &[&checked(1)[..], b"*0\r\n"].concat());
    world.wait(Duration::from_secs(10) / 3);
    let renew = world.sent(1, Role::Publisher).pop().unwrap();
    assert_eq!(renew[renew.len() - 4..], ["1", REPLIDS[0], "0", "00000000000000dd"]);
}
