//! The operations port's HTTP server and its thread.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle as Task, yield_now};
use tokio::time::{sleep, timeout};

use super::guard::guard;
use super::{exposition, process};
use crate::host::HostName;
use crate::listen::{self, hint};

/// A scraper, a prober and some curious people at once. One more takes the place of whoever has said nothing for longest.
const CONNECTIONS_MAX: usize = 16;
/// For a whole connection, which carries one request. A scrape takes a millisecond; a peer that stalls gives its place
/// back.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(10);
/// A hundred metrics with what they mean, in one allocation.
const METRICS_BYTES: usize = 12 * 1024;
/// When accepting fails, mostly for want of descriptors, trying again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// What a server says of itself, to whoever asks.
pub trait Status: Send + Sync + 'static {
    /// Appends its metrics, by means of [`exposition`]. Those of the process are added.
    fn metrics(&self, text: &mut String);

    /// Whether it is ready. If not, why.
    ///
    /// # Errors
    /// If it is not ready.
    fn readiness(&self) -> Result<(), String>;

    /// The servers that act as one with it, as JSON, if it knows of any.
    fn instances(&self) -> String {
        "[]".to_owned()
    }
}

/// The running operations port. Dropping it stops it and waits for its thread.
#[derive(Debug)]
pub struct Ops {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// The operations port could not be opened.
#[derive(Debug)]
pub struct StartError {
    listen: SocketAddr,
    error: io::Error,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StartError { listen, error } = self;
        write!(f, "cannot open the operations port on {listen} (ops_listen): {error}{}", hint(*listen, error))
    }
}

impl Error for StartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

impl Ops {
    /// Binds the address.
    ///
    /// # Errors
    /// If it cannot be bound.
    pub fn bind(listen: SocketAddr) -> Result<TcpListener, StartError> {
        // As clients' are: a flood that says nothing stays the kernel's, and is not in the way in its queue.
        let bound = listen::open(listen, false).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        bound.map_err(|error| StartError { listen, error })
    }

    /// Serves this on a bound port from a thread of its own, and logs `operations port listening`. It may be asked for by IP
    /// address, as `localhost`, and by these names.
    ///
    /// # Errors
    /// If the thread cannot be made.
    pub fn start<S: Status>(listener: TcpListener, names: &[HostName], status: Arc<S>) -> Result<Ops, Box<dyn Error>> {
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let router = router(status, names.into());
        let thread = Builder::new().name("fanfare-ops".to_owned()).spawn(move || {
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).expect("it was made for this runtime");
                tokio::spawn(accept(listener, router));
                // Leaving the runtime ends the task above and its connections. Either outcome means to stop.
                let _ = stopped.await;
            });
        })?;
        tracing::info!(%address, "operations port listening");
        Ok(Ops { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens: the port that was chosen, if the configured one was 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Ops {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported there.
            let _ = thread.join();
        }
    }
}

fn router<S: Status>(status: Arc<S>, names: Arc<[HostName]>) -> Router {
    let mut router = Router::new();
    for end in ["", "/"] {
        router = router
            .route(&format!("/metrics{end}"), get(metrics::<S>))
            .route(&format!("/healthz{end}"), get("ok"))
            .route(&format!("/readyz{end}"), get(readyz::<S>))
            .route(&format!("/instances{end}"), get(instances::<S>));
    }
    router
        .fallback((StatusCode::NOT_FOUND, "not found: there are /metrics, /healthz, /readyz and /instances"))
        .layer(middleware::from_fn_with_state(names, guard))
        .with_state(status)
}

async fn metrics<S: Status>(State(status): State<Arc<S>>) -> impl IntoResponse {
    // Freed with the response.
    let mut text = String::with_capacity(METRICS_BYTES);
    status.metrics(&mut text);
    process::render(&mut text);
    ([(header::CONTENT_TYPE, exposition::CONTENT_TYPE)], text)
}

async fn readyz<S: Status>(State(status): State<Arc<S>>) -> impl IntoResponse {
    match status.readiness() {
        Ok(()) => (StatusCode::OK, "ready".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason),
    }
}

async fn instances<S: Status>(State(status): State<Arc<S>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], status.instances())
}

/// A connection.
struct Peer {
    task: Task<()>,
    /// Its request has come.
    has_asked: Arc<AtomicBool>,
}

async fn accept(listener: tokio::net::TcpListener, router: Router) {
    // In the order in which they came.
    let mut peers = VecDeque::with_capacity(CONNECTIONS_MAX);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                make_room(&mut peers);
                let has_asked = Arc::new(AtomicBool::new(false));
                let connection = serve(stream, router.clone(), Arc::clone(&has_asked));
                let task = tokio::spawn(async move {
                    let _ = timeout(CONNECTION_TIME_MAX, connection).await;
                });
                peers.push_back(Peer { task, has_asked });
                // The runtime looks for what has come and lets everybody read it, before the next can take anybody's place: so a
                // flood of connections that say nothing is in the way of none that asks at once.
                yield_now().await;
            }
            Err(error) => {
                tracing::debug!(%error, "the operations port could not accept");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Ends the oldest that has asked for nothing, or else the oldest, where there would be too many.
fn make_room(peers: &mut VecDeque<Peer>) {
    peers.retain(|peer| !peer.task.is_finished());
    if peers.len() < CONNECTIONS_MAX {
        return;
    }
    let oldest = peers.iter().position(|peer| !peer.has_asked.load(Relaxed)).unwrap_or(0);
    if let Some(peer) = peers.remove(oldest) {
        peer.task.abort();
    }
}

/// One request and its response. What goes wrong between is the peer's own affair.
fn serve(stream: TcpStream, router: Router, has_asked: Arc<AtomicBool>) -> impl Future<Output = hyper::Result<()>> {
    let router = router.layer(middleware::from_fn(move |request: Request, next: Next| {
        has_asked.store(true, Relaxed);
        next.run(request)
    }));
    http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;
    use std::sync::Mutex;

    /// A server that has one figure.
    struct Told(Mutex<(u64, Result<(), String>)>);

    impl Status for Told {
        fn metrics(&self, text: &mut String) {
            let (value, _) = *self.0.lock().unwrap();
            exposition::metric(text, "test_things", exposition::Kind::Gauge, "Things.", value);
        }

        fn readiness(&self) -> Result<(), String> {
            self.0.lock().unwrap().1.clone()
        }
    }

    fn start() -> (Ops, Arc<Told>) {
        let told = Arc::new(Told(Mutex::new((0, Err("starting".to_owned())))));
        let names = ["test".parse().unwrap()];
        let port = Ops::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        (Ops::start(port, &names, Arc::clone(&told)).unwrap(), told)
    }

    /// Status line and headers in lower case, and the body.
    fn request(ops: &Ops, method: &str, path: &str) -> (String, String) {
        let mut stream = std::net::TcpStream::connect(ops.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        let (head, body) = response.split_once("\r\n\r\n").expect("a head and a body");
        (head.to_lowercase(), body.to_owned())
    }

    #[test]
    fn metrics_are_those_of_the_server_and_of_its_process() {
        let (ops, told) = start();
        told.0.lock().unwrap().0 = 42;
        let (head, body) = request(&ops, "GET", "/metrics");
        assert!(head.starts_with("http/1.1 200"), "{head}");
        assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
        assert!(body.starts_with("# HELP test_things Things.\n# TYPE test_things gauge\ntest_things 42\n"), "{body}");
        assert!(!cfg!(target_os = "linux") || body.contains("\nprocess_threads "), "{body}");
        let (head, body) = request(&ops, "HEAD", "/metrics");
        assert!(head.starts_with("http/1.1 200") && body.is_empty(), "{head}");
    }

    #[test]
    fn readiness_is_that_of_the_server() {
        let (ops, told) = start();
        let ready = |status: &str, text: &str| {
            let (head, body) = request(&ops, "GET", "/readyz");
            assert!(head.starts_with(status), "{head}");
            assert_eq!(body, text);
        };
        ready("http/1.1 503", "starting");
        told.0.lock().unwrap().1 = Ok(());
        ready("http/1.1 200", "ready");
        told.0.lock().unwrap().1 = Err("the broker is away".to_owned());
        ready("http/1.1 503", "the broker is away");
        let (head, body) = request(&ops, "GET", "/healthz");
        assert!(head.starts_with("http/1.1 200") && body == "ok", "{head}");
        let (head, body) = request(&ops, "GET", "/instances");
        assert!(head.contains("content-type: application/json") && body == "[]", "{head}");
    }

    #[test]
    fn other_paths_and_methods_are_refused() {
        let (ops, _told) = start();
        assert!(request(&ops, "GET", "/").0.starts_with("http/1.1 404"));
        let (head, _) = request(&ops, "POST", "/metrics");
        assert!(head.starts_with("http/1.1 405") && head.contains("allow: get,head"), "{head}");
    }

    #[test]
    fn a_taken_port_is_told_at_the_start() {
        let (ops, _told) = start();
        let error = Ops::bind(ops.address()).unwrap_err().to_string();
        let expected = format!("cannot open the operations port on {} (ops_listen): ", ops.address());
        assert!(error.starts_with(&expected) && error.to_lowercase().contains("in use"), "{error}");
    }

    #[test]
    fn stalled_peers_do_not_keep_it_from_stopping() {
        let (ops, _told) = start();
        let stalled: Vec<_> = (0..2 * CONNECTIONS_MAX)
            .map(|_| {
                let mut stream = std::net::TcpStream::connect(ops.address()).unwrap();
                stream.write_all(b"GET /met").unwrap();
                stream
            })
            .collect();
        let address = ops.address();
        drop(ops);
        assert!(std::net::TcpStream::connect(address).is_err(), "the port is closed");
        drop(stalled);
    }
}
