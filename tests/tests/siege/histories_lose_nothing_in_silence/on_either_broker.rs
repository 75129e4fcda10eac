//! What can befall members and senders, whoever keeps the history: two instances on one Redis, or one server with the embedded broker.

use fanfare_tests::ledger::{Account, Script};
use fanfare_tests::{Redis, Server, eventually, uses_redis};
use serde_json::json;

use super::{instances, server, settings, settle, stop};

const ROOM: &str = "long:a";

/// What the suite is run with.
struct Stage {
    redis: Option<Redis>,
    servers: Vec<Server>,
}

impl Stage {
    fn set() -> Stage {
        if !uses_redis() {
            return Stage { redis: None, servers: vec![server().start()] };
        }
        let redis = Redis::start();
        let servers = instances::<2>(&redis).into();
        Stage { redis: Some(redis), servers }
    }

    fn servers(&self) -> Vec<&Server> {
        self.servers.iter().collect()
    }

    fn broker(&self) -> &'static str {
        if self.redis.is_some() { "redis" } else { "memory" }
    }
}

#[test]
fn a_reader_that_stops_is_given_everything_later() {
    let accounts = a_reader_stops("patient:a", "a reader that stops and goes on");
    assert!(accounts.iter().all(|account| account.missing == 0));
}

#[test]
fn a_reader_that_stops_is_told_what_is_kept_no_more() {
    let accounts = a_reader_stops("brief:a", "a reader that stops and goes on, in a room of 20 messages");
    assert!(accounts.iter().all(|account| account.told.trimmed == account.missing && account.received > 0));
    assert!(accounts.iter().any(|account| account.missing > 0), "it was not stopped");
}

/// Some members' process stops reading until the room has left them behind, and goes on while messages flow. Others read all the time.
fn a_reader_stops(room: &str, scenario: &str) -> Vec<Account> {
    const STOPPED: u64 = 3;
    let stage = Stage::set();
    let servers = stage.servers();
    // Compressed, so much would fit into the sockets' buffers.
    let members = json!({"members": STOPPED, "plain": true});
    let [stopped, reading] = [(); 2].map(|()| Script::members(&settings(room, &servers, &members)));
    [&stopped, &reading].iter().for_each(|group| group.wait_for_subscribed(STOPPED));
    stopped.pause();
    let burst = Script::sender(&settings(room, &servers, &json!({"name": "a", "count": 1500, "bytes": 4096}))).log();
    eventually("all who do not read are behind, and nobody else", || {
        let behind = servers.iter().map(|server| server.metrics().value("fanfare_members_behind"));
        (behind.sum::<f64>() == STOPPED as f64).then_some(())
    });
    let sender = Script::sender(&settings(room, &servers, &json!({"name": "b", "per_second": 200})));
    sender.wait_for_acknowledged(25);
    stopped.resume();
    sender.wait_for_acknowledged(sender.acknowledged() + 50);
    let figures = settle(room, &servers, vec![burst, stop(sender)], vec![stopped, reading]);
    figures.assert_nothing_is_lost_in_silence(stage.broker(), scenario);
    figures.accounts
}

#[test]
fn messages_that_are_sent_twice_are_stored_once() {
    let stage = Stage::set();
    let servers = stage.servers();
    let members = Script::members(&settings(ROOM, &servers, &json!({"members": 10})));
    members.wait_for_subscribed(10);
    let sender = json!({"name": "a", "copies": 2, "per_second": 400, "break_after": 70});
    let sender = Script::sender(&settings(ROOM, &servers, &sender));
    sender.wait_for_acknowledged(100);
    if let Some(redis) = &stage.redis {
        while !sender.has_said("unconfirmed") {
            redis.cli(&["CLIENT", "KILL", "TYPE", "normal"]);
            servers.iter().for_each(|server| server.wait_until_ready());
        }
    }
    sender.wait_for_acknowledged(sender.acknowledged() + 200);
    let figures = settle(ROOM, &servers, vec![stop(sender)], vec![members]);
    figures
        .assert_nothing_is_lost_in_silence(stage.broker(), "every message twice under one key, by broken connections");
    assert!(figures.accounts.iter().all(|account| account.missing == 0));
    let acknowledged = figures.acknowledged;
    assert_eq!(figures.last_offset, acknowledged, "more is stored than was sent");
    if let Some(redis) = &stage.redis {
        assert_eq!(redis.cli(&["XLEN", &format!("fanfare:\u{1}log:{ROOM}")]), acknowledged.to_string());
    }
}

#[test]
fn members_that_come_back_are_told_what_was_trimmed() {
    const ROOM: &str = "brief:a";
    let stage = Stage::set();
    let servers = stage.servers();
    let members = Script::members(&settings(ROOM, &servers, &json!({"members": 10, "leave_after": 20})));
    members.wait_for_subscribed(10);
    let sender = Script::sender(&settings(ROOM, &servers, &json!({"name": "a", "per_second": 600, "count": 2000})));
    let figures = settle(ROOM, &servers, vec![sender.log()], vec![members]);
    figures.assert_nothing_is_lost_in_silence(stage.broker(), "a room of 20 messages, members come and go");
    for account in &figures.accounts {
        assert!(account.received > 0 && account.missing > 0 && account.returns > 5, "{account:?}");
        assert_eq!(account.told.trimmed, account.missing);
    }
}
