//! A client that joins a room and sends to it in one breath gets its own message, however the broker is reached: what it publishes
//! does not overtake its subscription.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use fanfare_tests::{Adapter, Client, Frame, Launch, RawClient, Redis, Server, opcode};

const CLIENTS: usize = 200;
const ROUNDS: usize = 10;

fn join_and_send(room: &str) -> Vec<u8> {
    let commands = [
        format!(r#"{{"type":"SUBSCRIBE","room":"{room}"}}"#),
        format!(r#"{{"type":"SEND_MESSAGE","room":"{room}","message":"mine"}}"#),
    ];
    commands.iter().flat_map(|command| Frame::text(command).masked()).collect()
}

/// All clients at once, each in rooms that nobody was in before.
fn in_one_write(server: &Server, path: &str, expected: &[&str]) {
    let connect = |_| RawClient::upgraded_at(server.address(), path).expect("an upgrade");
    let mut clients: Vec<RawClient> = (0..CLIENTS).map(connect).collect();
    for round in 0..ROUNDS {
        let room = |number| format!("{path} {round} {number}");
        for (number, client) in clients.iter_mut().enumerate() {
            client.write(join_and_send(&room(number)));
        }
        for (number, client) in clients.iter_mut().enumerate() {
            for text in expected {
                assert_eq!(client.recv_text(), text.replace("ROOM", &room(number)));
            }
        }
    }
}

const REPLY_AND_MESSAGE: [&str; 2] =
    [r#"{"type":"SUBSCRIBED","room":"ROOM"}"#, r#"{"type":"MESSAGE","room":"ROOM","message":"mine"}"#];

fn at_once(launch: impl Fn() -> Launch) {
    // Only one of the servers has several workers.
    let workers: &[usize] = if Adapter::under_test() == Adapter::Mio { &[1, 3] } else { &[1] };
    for workers in workers {
        let server = launch().workers(*workers).start();
        in_one_write(&server, "/fanfare", &REPLY_AND_MESSAGE);
        in_one_write(&server, "/classic", &["mine"]);
    }
}

#[test]
fn many_join_and_send_at_once() {
    at_once(Server::launch);
}

#[test]
fn many_join_and_send_at_once_through_redis() {
    let redis = Redis::start();
    at_once(|| Server::launch().redis(&redis));
}

/// Between a server and its Redis: holds what subscribes until it is let go.
struct Gate {
    address: SocketAddr,
    holds: Arc<AtomicBool>,
}

impl Gate {
    fn to(redis: &Redis) -> Gate {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (port, holds) = (redis.port(), Arc::new(AtomicBool::new(false)));
        let held = Arc::clone(&holds);
        thread::spawn(move || {
            for near in listener.incoming() {
                let near = near.expect("a connection");
                let far = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("Redis is up");
                let both = |stream: &TcpStream| stream.try_clone().expect("a descriptor");
                let (from_near, to_near, held) = (both(&near), both(&near), Arc::clone(&held));
                let (from_far, to_far) = (both(&far), both(&far));
                thread::spawn(move || pass(from_near, to_far, Some(&held)));
                thread::spawn(move || pass(from_far, to_near, None));
            }
        });
        Gate { address, holds }
    }

    fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    fn hold(&self, holds: bool) {
        self.holds.store(holds, Ordering::SeqCst);
    }
}

/// Passes bytes on until either end closes.
fn pass(mut from: TcpStream, mut to: TcpStream, holds: Option<&AtomicBool>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        let subscribes = buffer[..read].windows(9).any(|bytes| bytes == b"SUBSCRIBE");
        while subscribes && holds.is_some_and(|holds| holds.load(Ordering::SeqCst)) {
            thread::sleep(Duration::from_millis(1));
        }
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

/// However late Redis hears of the subscription, and however early it could hear of the message.
#[test]
fn a_message_waits_for_a_subscription_that_is_late() {
    let redis = Redis::start();
    let gate = Gate::to(&redis);
    let server = Server::launch().flag("--redis-url", gate.url()).start();
    let mut witness = Client::connect(&server);
    let [first, third] = ["r1", "r3"].map(join_and_send);
    let sent = Frame::text("mine").masked();
    let command = Frame::text(r#"{"type":"SEND_MESSAGE","room":"r2","message":"mine"}"#).masked();
    let cases: [(&str, &[u8], &[&str]); 4] = [
        ("/fanfare", &first, &REPLY_AND_MESSAGE),
        ("/fanfare?room=r2", &command, &REPLY_AND_MESSAGE),
        ("/classic", &third, &["mine"]),
        ("/broadcast/r4", &sent, &["mine"]),
    ];
    for (path, bytes, expected) in cases {
        gate.hold(true);
        let mut client = RawClient::upgraded_at(server.address(), path).expect("an upgrade");
        client.write(bytes);
        client.send(&Frame::new(opcode::PING, "read"));
        assert_eq!(client.recv().opcode, opcode::PONG);
        // What the server published before this has been published now.
        witness.publish_acknowledged("elsewhere", "1");
        gate.hold(false);
        for text in expected {
            let room = path.split_once("room=").map_or("r1", |(_, room)| room);
            assert_eq!(client.recv_text(), text.replace("ROOM", room), "{path}");
        }
    }
}

/// A client that sends and goes without waiting for anything has sent.
#[test]
fn a_message_is_published_although_its_sender_went_before_it_had_joined() {
    let redis = Redis::start();
    let gate = Gate::to(&redis);
    let server = Server::launch().flag("--redis-url", gate.url()).start();
    let mut listener = redis.listen("fanfare:r");
    gate.hold(true);
    for path in ["/broadcast/r", "/broadcast/r?again"] {
        let mut client = RawClient::upgraded_at(server.address(), path).expect("an upgrade");
        client.write([Frame::text("mine").masked(), Frame::close(1000, "").masked()].concat());
        assert_eq!(client.skip_to_close(), Some(1000));
        let message = String::from_utf8(listener.next_message()).expect("UTF-8");
        assert!(message.contains("mine"), "{message}");
    }
    gate.hold(false);
}
