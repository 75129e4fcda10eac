//! Every example serves clients that nobody here wrote: tungstenite's, in Rust, and npm's `ws`, in node.

use fanfare_tests::{Client, Example, RawClient, Redis, eventually, get, run_node};
use socket2::{Domain, Socket, Type};
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::ExitStatus;

/// With which status an example ends that cannot be run here.
const SKIPPED: i32 = 77;

/// Messages of which more is left than the kernel takes for a socket (4 MiB where nobody has changed `tcp_wmem`) and what an
/// example queues by itself.
const UNREAD: usize = 9;
const LARGE_BYTES: usize = 1_000_000;

/// Starts the example, or says on the terminal that it cannot be run here.
fn start(name: &str) -> Option<Example> {
    match Example::try_start(name, "127.0.0.1:0", &[""; 0]) {
        Ok(example) => Some(example),
        Err((status, why)) if is_skipped(name, status, &why) => None,
        Err((status, why)) => panic!("{name} ended with {status}: {why}"),
    }
}

fn is_skipped(name: &str, status: ExitStatus, why: &str) -> bool {
    let is_skipped = name == "io_uring" && status.code() == Some(SKIPPED);
    if is_skipped {
        // Not by a macro: those are only shown of tests that fail.
        let _ = writeln!(std::io::stderr(), "SKIPPED: {name} cannot be run here: {}", why.trim_end());
    }
    is_skipped
}

fn member(address: SocketAddr, room: &str) -> Client {
    let mut client = Client::connect_to(address, "/");
    client.subscribe(room);
    client
}

/// One whose socket takes as little as the kernel allows, so that what it does not read stays with the server.
fn slow_member(address: SocketAddr, room: &str) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4 * 1024).expect("a small buffer");
    socket.connect(&address.into()).expect("the example listens");
    let mut client = Client::upgrade(TcpStream::from(socket), "/ws");
    client.subscribe(room);
    client
}

fn two_clients_meet(one: SocketAddr, other: SocketAddr) {
    let (mut ann, mut bob) = (member(one, "tea"), member(other, "tea"));
    for (number, text) in [r#""hello""#, "1.0", r#"{"a":[]}"#].into_iter().enumerate() {
        let sender = if number % 2 == 0 { &mut ann } else { &mut bob };
        sender.publish("tea", text);
        ann.expect_message("tea", text);
        bob.expect_message("tea", text);
    }
    ann.send_binary(b"no command");
    ann.expect_error("binary_not_supported");
    ann.unsubscribe("tea");
    bob.publish("tea", "2");
    bob.expect_message("tea", "2");
    ann.fence();
    ann.leave();
    bob.leave();
}

/// Somebody reads nothing while large messages come, and then finds all of them whole; nobody else waits for that.
fn a_late_reader_misses_nothing(address: SocketAddr) {
    let mut slow = slow_member(address, "news");
    let mut senders = [(); 5].map(|()| member(address, "news"));
    let texts: Vec<String> =
        (0..UNREAD).map(|number| format!("\"{}\"", number.to_string().repeat(LARGE_BYTES))).collect();
    for (number, text) in texts.iter().enumerate() {
        senders[number % 5].publish("news", text);
        for sender in &mut senders {
            sender.expect_message("news", text);
        }
    }
    for text in &texts {
        slow.expect_message("news", text);
    }
    slow.fence();
}

/// Whoever comes and goes, in order or not, leaves no socket behind.
fn nothing_is_left_behind(example: &Example) {
    const VISITS: usize = 20;
    let visit = || {
        let (leaves, vanishes) = (member(example.address(), "tea"), member(example.address(), "tea"));
        leaves.leave();
        drop(vanishes);
        get(example.address(), "/healthz").status
    };
    // What the first of all visitors makes is there to stay: pools, pollers.
    let status = visit();
    let before = example.open_files();
    for _ in 0..VISITS {
        assert_eq!(visit(), status);
    }
    eventually("the sockets of those who went are closed", || (example.open_files() <= before).then_some(()));
}

fn ws_from_npm(addresses: &[SocketAddr]) {
    let urls: Vec<String> = addresses.iter().map(|address| format!("ws://{address}")).collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let printed = run_node("tests/node/members.mjs", &urls, &[]);
    assert!(printed.contains("all is well"), "{printed}");
}

macro_rules! serves {
    ($($name:ident)*) => {
        const EXAMPLES: &[&str] = &[$(stringify!($name)),*];
    $(
        #[test]
        fn $name() {
            let Some(example) = start(stringify!($name)) else { return };
            two_clients_meet(example.address(), example.address());
            a_late_reader_misses_nothing(example.address());
            ws_from_npm(&[example.address()]);
            nothing_is_left_behind(&example);
        }
    )*};
}

serves! { mio std_threads tokio polling io_uring axum_hub }

#[test]
fn what_an_example_cannot_do_is_said_in_a_sentence() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    for name in EXAMPLES {
        let (status, said) = Example::try_start(name, &address, &[""; 0]).err().expect("the port is taken");
        if is_skipped(name, status, &said) {
            continue;
        }
        assert_eq!(status.code(), Some(1), "{name} said {said}");
        let beginning = format!("cannot listen on {address}: Address already in use");
        assert!(said.starts_with(&beginning) && said.lines().count() == 1, "{name} said {said}");
    }
    let (status, said) = Example::try_start("axum_hub", "127.0.0.1:0", &["localhost:6379"]).err().expect("no URL");
    assert_eq!((status.code(), said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains("redis://"), "{said}");
}

#[test]
fn an_axum_hub_is_asked_before_axum_answers() {
    let hub = Example::start("axum_hub", &[""; 0]);
    let refused = RawClient::upgraded_at(hub.address(), "/ws?room=").err().expect("a room without a name");
    assert_eq!(refused.status, 400);
    let mut joined = Client::connect_to(hub.address(), "/ws?room=tea&room=news");
    joined.expect(r#"{"type":"SUBSCRIBED","room":"tea"}"#);
    joined.expect(r#"{"type":"SUBSCRIBED","room":"news"}"#);
}

#[test]
fn an_axum_hub_decides_like_the_server_on_pages_and_subprotocols() {
    let hub = Example::start("axum_hub", &[""; 0]);
    let own = format!("Origin: http://{}\r\n", hub.address());
    let ask = |fields: &str| RawClient::upgraded_with(hub.address(), "/ws", fields);
    for (offer, selected) in [("chat, fanfare.v1", Some("fanfare.v1")), ("chat", None), ("fanfare.token.s3cret", None)]
    {
        let (_, response) = ask(&format!("Sec-WebSocket-Protocol: {offer}\r\n")).expect("an upgrade");
        assert_eq!(response.field("sec-websocket-protocol"), selected, "{offer}");
    }
    // The request's Host is `localhost`.
    assert!(ask("Origin: http://LOCALHOST\r\n").is_ok());
    for origin in [&*own, "Origin: https://evil.example\r\n", "Origin: null\r\n"] {
        assert_eq!(ask(origin).err().map(|refusal| refusal.status), Some(403), "{origin}");
    }
}

#[test]
fn axum_hubs_on_one_redis_act_as_one() {
    let mut redis = Redis::start();
    let url = redis.url();
    let hubs = [(); 2].map(|()| Example::start("axum_hub", &[&url]));
    let [one, other] = hubs.each_ref().map(Example::address);
    two_clients_meet(one, other);
    a_late_reader_misses_nothing(other);
    ws_from_npm(&[one, other]);

    // Redis goes and comes back: who has been told so is sent everything again.
    let (mut ann, mut bob) = (member(one, "tea"), member(other, "tea"));
    redis.kill();
    redis.start_again();
    ann.expect_interruption("tea");
    bob.expect_interruption("tea");
    let mut sender = Client::connect_to(one, "/ws");
    eventually("publishes are taken again", || {
        sender.send(r#"{"type":"SEND_MESSAGE","room":"elsewhere","message":1,"id":1}"#);
        (sender.recv_json()["type"] == "ACK").then_some(())
    });
    sender.publish_acknowledged("tea", "1");
    ann.expect_message("tea", "1");
    bob.expect_message("tea", "1");
}
