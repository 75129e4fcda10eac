//! Which pages may connect: those of the same host and port, or of a list, or any; others get 403. Programs without an Origin are
//! always served.

use fanfare_tests::{RawClient, Response, Server, get, upgrade_request, upgrade_request_to};

fn upgrade(server: &Server, headers: &str) -> (Response, RawClient) {
    let mut client = RawClient::connect(server.address());
    client.write(upgrade_request("/ws", headers));
    (client.read_response(), client)
}

#[test]
fn pages_of_other_origins_get_403() {
    let origins = "https://app.example.com,https://*.example.org,http://localhost:3000";
    let server = Server::launch().flag("--origins", origins).ops().start();
    let mut served = Vec::new();
    for headers in [
        "",
        "Origin: https://app.example.com\r\n",
        "origin: https://APP.example.com\r\n",
        "Origin: https://a.b.example.org\r\n",
        "Origin: http://localhost:3000\r\n",
    ] {
        let (response, client) = upgrade(&server, headers);
        assert_eq!(response.status, 101, "{headers}");
        served.push(client);
    }
    let refused = [
        "Origin: https://example.com\r\n",
        "Origin: http://app.example.com\r\n",
        "Origin: https://app.example.com:8443\r\n",
        "Origin: https://app.example.com.evil.example\r\n",
        "Origin: https://example.org\r\n",
        "Origin: https://evilexample.org\r\n",
        "Origin: http://localhost\r\n",
        "Origin: null\r\n",
        "Origin:\r\n",
        "Origin: https://app.example.com\r\nOrigin: https://evil.example\r\n",
    ];
    for headers in refused {
        let (response, mut client) = upgrade(&server, headers);
        assert_eq!(response.status, 403, "{headers}");
        client.expect_end();
    }
    server.wait_for_metrics("refusals are counted", |metrics| {
        metrics.value(r#"fanfare_upgrades_total{outcome="refused_origin"}"#) == refused.len() as f64
            && metrics.value("fanfare_connections") == served.len() as f64
    });
    assert_eq!(get(server.address(), "/healthz").status, 200);
    for client in &mut served {
        client.send_text(r#"{"type":"PING"}"#);
        assert_eq!(client.recv_text(), r#"{"type":"PONG"}"#);
    }
}

/// The status of an upgrade whose client calls the server `host`.
fn at(server: &Server, host: &str, headers: &str) -> u16 {
    let mut client = RawClient::connect(server.address());
    client.write(upgrade_request_to(host, "/ws", headers));
    client.read_response().status
}

#[test]
fn without_a_list_the_pages_of_the_same_host_may_connect_and_no_others() {
    let server = Server::launch().ops().start();
    let own = server.address().to_string();
    for (host, origin) in [
        (&*own, format!("http://{own}")),
        ("chat.example", "https://chat.example".to_owned()),
        ("Chat.example:443", "https://chat.EXAMPLE".to_owned()),
        ("chat.example:8080", "http://chat.example:8080".to_owned()),
    ] {
        assert_eq!(at(&server, host, &format!("Origin: {origin}\r\n")), 101, "{origin} at {host}");
    }
    let refused = [
        (&*own, "http://localhost:3000"),
        (&own, "https://evil.example"),
        (&own, "null"),
        (&own, "file://"),
        (&own, ""),
        ("chat.example", "https://chat.example:8443"),
        ("chat.example:8080", "http://chat.example"),
        ("chat.example", "https://chat.example\r\nOrigin: https://chat.example"),
        ("", "http://"),
    ];
    for (host, origin) in refused {
        assert_eq!(at(&server, host, &format!("Origin: {origin}\r\n")), 403, "{origin} at {host}");
    }
    assert_eq!(at(&server, "anything.example", ""), 101, "a program");
    // Nobody but a trusted proxy can say how else the server is called.
    let forwarded = "Origin: https://chat.example\r\nX-Forwarded-Host: chat.example\r\n";
    assert_eq!(at(&server, "backend", forwarded), 403);
    server.wait_for_metrics("refusals are counted", |metrics| {
        metrics.value(r#"fanfare_upgrades_total{outcome="refused_origin"}"#) == refused.len() as f64 + 1.0
    });
}

#[test]
fn a_trusted_proxy_says_how_else_the_server_is_called() {
    let launch = || Server::launch().flag("--proxy-trusted", "127.0.0.1");
    let page = "Origin: https://chat.example\r\n";
    let server = launch().start();
    for forwarded in ["chat.example", "chat.example:443", "chat.example, inner.example", "inner.example , chat.example"]
    {
        assert_eq!(
            at(&server, "backend:8080", &format!("{page}X-Forwarded-Host: {forwarded}\r\n")),
            101,
            "{forwarded}"
        );
    }
    assert_eq!(at(&server, "backend:8080", page), 403);
    assert_eq!(at(&server, "backend:8080", &format!("{page}X-Forwarded-Host: other.example\r\n")), 403);
    let server = launch().flag("--proxy-forwarded-for", "off").start();
    assert_eq!(at(&server, "backend:8080", &format!("{page}X-Forwarded-Host: chat.example\r\n")), 403);
}

#[test]
fn every_page_may_connect_by_a_star_of_which_the_log_warns() {
    let server = Server::launch().flag("--origins", "*").start();
    for headers in ["Origin: https://anywhere.example\r\n", "Origin: null\r\n", "Origin: file://\r\n"] {
        assert_eq!(upgrade(&server, headers).0.status, 101, "{headers}");
    }
    let warnings = |server: &mut Server| server.log_to_its_end().text().matches("any web page may connect").count();
    let [mut open, mut closed] = [server, Server::start()];
    assert_eq!((warnings(&mut open), warnings(&mut closed)), (1, 0));
}

#[test]
fn a_star_in_front_stands_for_whole_labels() {
    let server = Server::launch().flag("--origins", "https://*.b.test").start();
    for (origin, status) in [
        ("https://a.b.test", 101),
        ("https://c.a.b.test", 101),
        ("https://..b.test", 403),
        ("https://.b.test", 403),
        ("https://a..b.test", 403),
        ("https://b.test", 403),
    ] {
        assert_eq!(upgrade(&server, &format!("Origin: {origin}\r\n")).0.status, status, "{origin}");
    }
}
