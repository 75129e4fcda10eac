//! What a browser, a load balancer or a lost program gets from the main port without an upgrade.

use fanfare_tests::{RawClient, Response, Server, eventually, get, http};

fn head_of(server: &Server, path: &str) -> Response {
    let mut client = RawClient::connect(server.address());
    client.write(format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
    let response = client.read_head();
    client.expect_end();
    response
}

#[test]
fn the_root_is_a_page_without_foreign_assets() {
    let server = Server::start();
    let page = get(server.address(), "/");
    assert_eq!(page.status, 200);
    assert!(page.field("content-type").is_some_and(|kind| kind.starts_with("text/html")), "{}", page.head);
    let text = page.text();
    assert!(text.contains("<html"), "{text}");
    for foreign in ["src=\"http", "src=\"//", "<link rel=\"stylesheet\"", "@import"] {
        assert!(!text.contains(foreign), "the page loads something from elsewhere: {foreign}");
    }
}

#[test]
fn health_and_readiness_are_told() {
    let server = Server::start();
    let health = get(server.address(), "/healthz");
    assert_eq!((health.status, health.text().trim()), (200, "ok"));
    let readiness = get(server.address(), "/readyz");
    assert_eq!((readiness.status, readiness.text().trim()), (200, "ready"));
}

#[test]
fn head_is_get_without_the_body() {
    let server = Server::start();
    for path in ["/", "/healthz", "/readyz"] {
        let body = get(server.address(), path).body;
        let head = head_of(&server, path);
        assert_eq!(head.status, 200, "{path}");
        assert_eq!(head.field("content-length"), Some(body.len().to_string().as_str()), "{path}");
    }
}

#[test]
fn http_1_0_is_understood() {
    let server = Server::start();
    let response = http(server.address(), "GET /healthz HTTP/1.0\r\n\r\n");
    assert_eq!((response.status, response.text().trim()), (200, "ok"));
}

#[test]
fn a_query_is_not_part_of_the_path() {
    let server = Server::start();
    assert_eq!(get(server.address(), "/healthz?from=balancer").status, 200);
}

#[test]
fn a_slash_at_the_end_means_nothing() {
    let server = Server::launch().ops().start();
    for path in ["/healthz/", "/readyz/"] {
        assert_eq!(get(server.address(), path).status, 200, "{path}");
        assert_eq!(get(server.ops_address(), path).status, 200, "{path}");
    }
    assert_eq!(get(server.ops_address(), "/metrics/").status, 200);
    for path in ["//", "/healthz//"] {
        assert_eq!(get(server.address(), path).status, 404, "{path}");
        assert_eq!(get(server.ops_address(), path).status, 404, "{path}");
    }
}

/// HAProxy's `option httpchk` is the first of these.
#[test]
fn what_may_be_asked_for_is_told() {
    let server = Server::launch().ops().start();
    for request in [
        "OPTIONS / HTTP/1.0\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "OPTIONS /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    ] {
        for address in [server.address(), server.ops_address()] {
            let mut client = RawClient::connect(address);
            client.write(request);
            let response = client.read_response();
            assert_eq!((response.status, response.field("allow")), (204, Some("GET, HEAD, OPTIONS")), "{request}");
            // RFC 9110 §8.6.
            assert_eq!(response.field("content-length"), None, "{}", response.head);
            client.expect_end();
        }
    }
}

#[test]
fn strangers_are_not_told_why_the_broker_is_away() {
    let address = { std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address") };
    let server = Server::launch().flag("--redis-url", format!("redis://{address}")).not_ready().ops().start();
    eventually("the reason is known", || {
        get(server.ops_address(), "/readyz").text().contains("onnection refused").then_some(())
    });
    let response = get(server.address(), "/readyz");
    assert_eq!(response.status, 503);
    // One worker may still be at its first attempt, which is another's reason.
    assert!(
        ["the broker cannot be reached\n", "another worker is not ready\n"].contains(&&*response.text()),
        "{}",
        response.text()
    );
}

#[test]
fn other_paths_are_not_found() {
    let server = Server::start();
    for path in ["/favicon.ico", "/metrics", "/healthz/x", "/..", "/admin"] {
        assert_eq!(get(server.address(), path).status, 404, "{path}");
    }
    assert_eq!(head_of(&server, "/nowhere").status, 404);
}

#[test]
fn other_methods_are_answered_with_those_allowed() {
    let server = Server::start();
    for method in ["POST", "PUT", "DELETE", "TRACE", "PATCH"] {
        let request =
            format!("{method} /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        let response = http(server.address(), request);
        assert_eq!(response.status, 405, "{method}");
        let allow = response.field("allow").unwrap_or_default();
        assert!(allow.contains("GET") && allow.contains("HEAD"), "{method}: {}", response.head);
    }
}

#[test]
fn a_request_that_comes_byte_by_byte_is_answered() {
    let server = Server::start();
    let mut client = RawClient::connect(server.address());
    for byte in b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" {
        client.write([*byte]);
    }
    assert_eq!(client.read_response().status, 200);
    client.expect_end();
}

#[test]
fn a_peer_that_stops_writing_still_gets_its_answer() {
    let server = Server::start();
    let mut client = RawClient::connect(server.address());
    client.write("GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    client.finish_writing();
    assert_eq!(client.read_response().status, 200);
}
