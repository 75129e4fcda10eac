//! `GET /sse` is read by curl, by a browser's `EventSource`, and through nginx and haproxy as they come: at once, and without a loss where
//! a stream was cut.

use fanfare_tests::event_stream::EventStream;
use fanfare_tests::{Client, CurlStream, Redis, ReverseProxy, Server, fanfare_binary, run_node, stored};
use serde_json::json;
use std::net::SocketAddr;

fn send(server: &Server, room: &str, texts: &[&str]) {
    let mut sender = Client::connect(server);
    for text in texts {
        stored::ask(&mut sender, json!({"type": "SEND_MESSAGE", "room": room, "message": text}), "ACK");
    }
}

/// What was said to the stream, by its messages.
fn heard(stream: &EventStream) -> Vec<String> {
    let message = |text: &str| {
        let text: serde_json::Value = serde_json::from_str(text).expect("JSON");
        text["message"].as_str().expect("a text").to_owned()
    };
    stream.of_kind("MESSAGE").into_iter().map(message).collect()
}

#[test]
fn curl_reads_rooms_and_goes_on_where_it_was() {
    let server = stored::server().start();
    for path in ["/sse?room=chat:1", "/sse?room=chat:2&room=plain"] {
        let mut curl = CurlStream::open(server.address(), path, &[]);
        curl.wait_for("SUBSCRIBED");
        let room = path.split(['=', '&']).nth(1).expect("a room");
        send(&server, room, &["a", "b"]);
        let stream = curl.wait_for_messages(2);
        assert_eq!(heard(&stream), ["a", "b"], "{path}");
        drop(curl);
        send(&server, room, &["c", "d"]);
        let field = format!("Last-Event-ID: {}", stream.last_event_id);
        let mut curl = CurlStream::open(server.address(), path, &["--header", &field]);
        assert_eq!(heard(&curl.wait_for_messages(2)), ["c", "d"], "{path} behind {field}");
    }
}

/// A proxy must not keep what it is sent until there is more of it, nor take the stream for broken.
fn assert_is_passed_on(proxy: impl FnOnce(&[SocketAddr]) -> ReverseProxy) {
    let server = stored::server().start();
    let proxy = proxy(&[server.address()]);
    let mut curl = CurlStream::open(proxy.address(), "/sse?room=chat:1", &[]);
    curl.wait_for("SUBSCRIBED");
    for (index, text) in ["a", "b", "c"].into_iter().enumerate() {
        send(&server, "chat:1", &[text]);
        assert_eq!(heard(&curl.wait_for_messages(index + 1)).last().map(String::as_str), Some(text));
    }
}

#[test]
fn nginx_passes_them_on_at_once() {
    assert_is_passed_on(ReverseProxy::nginx);
}

#[test]
fn haproxy_passes_them_on_at_once() {
    assert_is_passed_on(ReverseProxy::haproxy);
}

#[test]
fn the_event_source_of_a_browser_misses_nothing() {
    let redis = Redis::start();
    run_node("tests/browser/events.test.mjs", &[&redis.url()], &[("FANFARE_BIN", fanfare_binary())]);
}
