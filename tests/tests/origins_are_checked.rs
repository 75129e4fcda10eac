//! The allow-list of origins: pages of others get 403, programs without an Origin are served, and without a list everybody is.

use fanfare_tests::{RawClient, Response, Server, get, upgrade_request};

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

#[test]
fn without_a_list_every_page_may_connect() {
    let server = Server::start();
    for headers in ["Origin: https://anywhere.example\r\n", "Origin: null\r\n"] {
        assert_eq!(upgrade(&server, headers).0.status, 101, "{headers}");
    }
}
