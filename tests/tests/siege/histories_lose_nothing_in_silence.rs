//! Whatever breaks under load, each member of a room with history gets every acknowledged message once and in order, or is told which
//! ones are missing. Senders and members are scripts of the npm package `ws`, and redis-cli does harm. What they have written down is
//! compared by `fanfare_tests::ledger`, which prints a line of figures for each scenario.

mod on_a_cluster;
mod on_either_broker;
mod on_one_broker;
mod on_sentinels;

use fanfare_tests::ledger::{Figures, Ledger, Script};
use fanfare_tests::{Launch, Redis, Server, stored};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Where messages flow while harm is done.
const ROOM: &str = "long:a";
const MEMBERS: u64 = 15;

/// None of these are about how much clients may send.
const UNLIMITED: [&str; 6] =
    ["--limits-messages-per-second", "0", "--limits-bytes-per-second", "0", "--limits-deliveries-per-second", "0"];

fn server() -> Launch {
    stored::server().args(UNLIMITED)
}

fn instances<const N: usize>(redis: &Redis) -> [Server; N] {
    std::array::from_fn(|_| stored::launch(&redis.url()).args(UNLIMITED).start())
}

fn urls<'a>(servers: impl IntoIterator<Item = &'a Server>) -> Vec<String> {
    servers.into_iter().map(Server::url).collect()
}

/// Settings of a script for a room at these servers.
fn settings(room: &str, servers: &[&Server], others: &Value) -> Value {
    let mut settings = json!({"room": room, "urls": urls(servers.iter().copied())});
    settings.as_object_mut().expect("an object").extend(others.as_object().expect("an object").clone());
    settings
}

/// Ends a scenario: members hear the last message, and all logs are compared.
fn settle(room: &str, servers: &[&Server], mut senders: Vec<Vec<Value>>, members: Vec<Script>) -> Figures {
    senders.push(Script::sender(&settings(room, servers, &json!({"name": "end", "text": "end", "count": 1}))).log());
    Ledger::of_senders(senders).compare(members.into_iter().map(Script::log))
}

/// The log of a sender that sends until it is told to stop, and has an answer to everything then.
fn stop(mut sender: Script) -> Vec<Value> {
    sender.tell("stop");
    sender.log()
}

/// Has a stream of numbered messages come from each of three instances at the Redis of this URL, while harm is done there. How long it took
/// and for how long nobody could publish is printed.
fn while_messages_flow(broker: &str, scenario: &str, url: &str, harm: impl FnOnce()) {
    let servers: [Server; 3] = std::array::from_fn(|_| stored::launch(url).args(UNLIMITED).start());
    let all = servers.each_ref();
    let members = Script::members(&settings(ROOM, &all, &json!({"members": MEMBERS})));
    members.wait_for_subscribed(MEMBERS);
    let senders = ["a", "b", "c"]
        .into_iter()
        .zip(&servers)
        .map(|(name, server)| Script::sender(&settings(ROOM, &[server], &json!({"name": name, "per_second": 100}))));
    let senders: Vec<Script> = senders.collect();
    senders.iter().for_each(|sender| sender.wait_for_acknowledged(100));
    let began = Instant::now();
    harm();
    let harmed = began.elapsed();
    for sender in &senders {
        sender.wait_for_acknowledged(sender.acknowledged() + 100);
    }
    servers.iter().for_each(Server::wait_until_ready);
    let recovered = began.elapsed();
    let logs: Vec<Vec<Value>> = senders.into_iter().map(stop).collect();
    println!(
        "{scenario}: {:.1} s until the harm was done, {:.1} s until all flowed again, {:.1} s without an ACK for one sender at most",
        harmed.as_secs_f64(),
        recovered.as_secs_f64(),
        logs.iter().map(|log| longest_silence(log)).max().unwrap_or_default().as_secs_f64()
    );
    let figures = settle(ROOM, &all, logs, vec![members]);
    figures.assert_nothing_is_lost_in_silence(broker, scenario);
}

/// The longest time between two messages that were acknowledged.
fn longest_silence(log: &[Value]) -> Duration {
    let times: Vec<u64> = log.iter().filter_map(|line| line["at_ms"].as_u64()).collect();
    Duration::from_millis(times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default())
}
