//! One instance cannot reach the master any more, and can reach the Sentinels, for whom all is well: it says so, and nothing is lost in silence.
//! The network between them is a relay of the test, at which it is cut: bytes stay where they are, as they do where a network is.

use fanfare_tests::stored::{self, hear, join, store};
use fanfare_tests::{Client, GROUP, Group, Server, get};
use serde_json::json;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

/// Where bytes wait while there is no network.
#[derive(Clone, Default)]
struct Network(Arc<(Mutex<bool>, Condvar)>);

impl Network {
    fn cut(&self, is_cut: bool) {
        let (state, changed) = &*self.0;
        *state.lock().unwrap() = is_cut;
        changed.notify_all();
    }

    fn wait(&self) {
        let (state, changed) = &*self.0;
        drop(changed.wait_while(state.lock().unwrap(), |is_cut| *is_cut).unwrap());
    }
}

/// The same port by another name, with as many digits, so that it can stand in place of the other one.
fn listener_in_place_of(port: u16) -> TcpListener {
    let digits = |port: u16| port.to_string().len();
    let mut others = Vec::new();
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        if digits(listener.local_addr().unwrap().port()) == digits(port) {
            return listener;
        }
        others.push(listener);
    }
}

/// Passes on what comes in, with each of these texts replaced by another of its length.
fn relay(listener: TcpListener, to: u16, network: Network, replaced: Vec<(String, String)>) {
    thread::spawn(move || {
        for client in listener.incoming() {
            let (client, network, replaced) = (client.unwrap(), network.clone(), replaced.clone());
            thread::spawn(move || {
                network.wait();
                let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else { return };
                let (from, back) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let there = network.clone();
                thread::spawn(move || pump(from, server, &there, &[]));
                pump(back, client, &network, &replaced);
            });
        }
    });
}

/// Of what is replaced none is torn, because a Sentinel writes an answer at once.
fn pump(mut from: TcpStream, mut to: TcpStream, network: &Network, replaced: &[(String, String)]) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        for (old, new) in replaced {
            let places: Vec<usize> = buffer[..count]
                .windows(old.len())
                .enumerate()
                .filter(|(_, at)| *at == old.as_bytes())
                .map(|(at, _)| at)
                .collect();
            places.into_iter().for_each(|at| buffer[at..at + old.len()].copy_from_slice(new.as_bytes()));
        }
        network.wait();
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    network.wait();
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

/// A URL by which an instance reaches the Sentinels always, and their servers over this network.
fn url_over(group: &Group, network: &Network) -> String {
    let replaced: Vec<(String, String)> = group
        .servers
        .iter()
        .map(|server| {
            let listener = listener_in_place_of(server.port());
            let port = listener.local_addr().unwrap().port();
            relay(listener, server.port(), network.clone(), Vec::new());
            (server.port().to_string(), port.to_string())
        })
        .collect();
    let hosts = group.sentinels.iter().map(|sentinel| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        relay(listener, sentinel.port(), Network::default(), replaced.clone());
        format!("127.0.0.1:{port}")
    });
    format!("redis-sentinel://{}/{GROUP}", hosts.collect::<Vec<_>>().join(","))
}

#[test]
fn it_says_so_and_its_members_get_what_they_have_missed_or_are_told() {
    let group = Group::start(1, |launch| launch);
    let (network, master) = (Network::default(), group.master());
    let launch = |url: &str| {
        let soon = ["--redis-backoff-ms-max", "200", "--redis-probe-interval-ms", "100"];
        let soon = soon.into_iter().chain(["--redis-probe-timeout-ms", "500", "--redis-connect-timeout-ms", "500"]);
        stored::server().flag("--redis-url", url).args(soon)
    };
    let apart = launch(&url_over(&group, &network)).start();
    let other = launch(&group.url()).start();
    let (mut keeper, _) = join(&apart, "chat:a");
    let mut member = Client::member(&apart, "r");
    let mut sender = Client::connect(&other);
    let first = store(&mut sender, "chat:a", 0);
    assert_eq!(hear(&mut keeper, "chat:a"), (first.offset, json!(0)));
    sender.publish_acknowledged("r", "0");
    member.expect_message("r", "0");

    network.cut(true);
    let reason = apart.wait_until_readyz_is(503);
    let told = get(apart.ops_address(), "/readyz").text();
    assert!(reason.contains("Redis") || told.contains("Redis"), "{reason:?} {told:?}");
    // Else the network could be back before it is missed, and nothing lost.
    apart.wait_for_metrics("both connections are given up", |metrics| {
        ["subscriber", "publisher"]
            .iter()
            .all(|link| metrics.value(&format!("fanfare_broker_up{{link=\"{link}\"}}")) == 0.0)
    });
    for number in 1..=50_u64 {
        assert_eq!(store(&mut sender, "chat:a", number).offset, first.offset + number);
        sender.publish_acknowledged("r", &number.to_string());
    }
    let mut cut_off = Client::connect(&apart);
    cut_off.send(r#"{"type":"SEND_MESSAGE","room":"chat:a","message":"lost","id":1}"#);
    assert_eq!(cut_off.expect_error("broker_unavailable")["id"], 1);
    assert_eq!(get(other.address(), "/readyz").status, 200, "the other one does not mind");
    assert_eq!(group.master(), master, "nor do the Sentinels");

    network.cut(false);
    apart.wait_until_ready();
    for number in 1..=50_u64 {
        assert_eq!(hear(&mut keeper, "chat:a"), (first.offset + number, json!(number)));
    }
    member.expect_interruption("r");
    let mut back = Client::connect(&apart);
    let next = store(&mut back, "chat:a", "back");
    assert_eq!(next.offset, first.offset + 51);
    assert_eq!(hear(&mut keeper, "chat:a"), (next.offset, json!("back")));
    sender.publish_acknowledged("r", r#""back""#);
    member.expect_message("r", r#""back""#);
    assert_eq!(Server::metrics(&apart).value("fanfare_broker_rooms_returning"), 0.0);
}
