//! Whatever breaks under load, each member of a room with history gets every acknowledged message once and in order, or is told which
//! ones are missing. Senders and members are scripts of the npm package `ws`, and redis-cli does harm. What they have written down is
//! compared by `fanfare_tests::ledger`, which prints a line of figures for each scenario.

mod on_either_broker;
mod on_one_broker;
mod on_sentinels;

use fanfare_tests::ledger::{Figures, Ledger, Script};
use fanfare_tests::{Launch, Redis, Server, stored};
use serde_json::{Value, json};

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
