//! Who may read the operations port: programs, and people who ask for it by one of its own names. Scripts of web pages may not,
//! which reach a loopback address through their visitor's browser.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::host::HostName;

const ALLOWED: &str = "GET, HEAD, OPTIONS";

/// Refuses pages, answers OPTIONS, which load balancers take for a sign of health, and lets everything else pass.
pub(super) async fn guard(State(names): State<Arc<[HostName]>>, request: Request, next: Next) -> Response {
    if let Err((status, why)) = check(request.headers(), &names) {
        return (status, why).into_response();
    }
    if request.method() == Method::OPTIONS {
        return (StatusCode::NO_CONTENT, [(header::ALLOW, ALLOWED)]).into_response();
    }
    next.run(request).await
}

fn check(headers: &HeaderMap, names: &[HostName]) -> Result<(), (StatusCode, String)> {
    // A page that has its own name lead here (DNS rebinding) counts as one of here in its browser, and could read what comes.
    for host in headers.get_all(header::HOST) {
        let host = host.to_str().unwrap_or_default();
        if !is_own(host, names) {
            return Err((StatusCode::MISDIRECTED_REQUEST, misdirected(name_of(host))));
        }
    }
    // Browsers send the first with every script's request to another origin, the second with whatever a page loads from another
    // site. A link that somebody follows is a navigation, and the answer is not for the page that had it.
    let is = |name, value| headers.get(name).is_some_and(|found| found == value);
    let is_loaded = is("sec-fetch-site", "cross-site") && !is("sec-fetch-mode", "navigate");
    if headers.contains_key(header::ORIGIN) || is_loaded {
        return Err((
            StatusCode::FORBIDDEN,
            "web pages may not read this port: open it in a window of its own".to_owned(),
        ));
    }
    Ok(())
}

fn misdirected(name: &str) -> String {
    match HostName::is_one(name) {
        true => format!(
            "this port does not go by the name {name}: add it to ops_hosts (--ops-hosts {name}), or ask by the IP address"
        ),
        false => "the Host header names no host: ask by the IP address, or by a name in ops_hosts".to_owned(),
    }
}

/// Addresses are nobody's names: a page of another host cannot have them.
fn is_own(host: &str, names: &[HostName]) -> bool {
    let name = name_of(host);
    let is_ipv6 = |name: &str| {
        let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        address.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok())
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<Ipv4Addr>().is_ok()
        || is_ipv6(name)
        || names.iter().any(|own| own.is(name))
}

/// Without the port.
fn name_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_localhost_and_configured_names_are_its_own() {
        let names = ["server.internal".parse().unwrap(), "b".parse().unwrap()];
        for own in [
            "127.0.0.1",
            "127.0.0.1:9090",
            "10.1.2.3:9090",
            "[::1]",
            "[2001:db8::1]:9090",
            "localhost",
            "LOCALHOST:9090",
            "server.internal:9090",
            "Server.Internal",
            "b",
        ] {
            assert!(is_own(own, &names), "{own}");
        }
        for other in [
            "",
            ":9090",
            "evil.example",
            "evil.example:9090",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "a.b",
            "server.internal.",
            "[evil]",
            "::1",
            "server.internal:x",
        ] {
            assert!(!is_own(other, &names), "{other}");
        }
        let told = misdirected("server.default.svc");
        assert!(told.contains("--ops-hosts server.default.svc"), "{told}");
        assert!(!misdirected("<script>").contains('<'));
    }
}
