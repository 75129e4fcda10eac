//! The API's listener and its thread.

use crate::cluster::Cluster;
use crate::keys::Keys;
use crate::link::Link;
use crate::routes::{self, Bans, Shared};
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::error::Error;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

/// Backends keep connections open, and have several. One more waits until another ends.
const CONNECTIONS_MAX: usize = 256;
/// For a request head; a connection that asks for nothing is closed after it, too.
const HEAD_TIME_MAX: Duration = Duration::from_secs(60);
/// For a handshake of TLS.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
/// When accepting fails, mostly for want of descriptors, trying again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Stores that may block are asked by so many threads at once.
const BLOCKING_MAX: usize = 4;

/// The instance that the API is of.
pub struct Here {
    /// Its name, which no other has.
    pub instance: String,
    /// Whether there may be others, through a broker.
    pub has_others: bool,
    /// How TLS is spoken, if it is.
    pub tls: Option<Arc<ServerConfig>>,
    /// Bytes that a message may have.
    pub message_bytes_max: usize,
    /// The room of a user.
    pub room_of_user: fn(&str) -> String,
    /// Where bans are kept, if anywhere.
    pub bans: Option<Arc<dyn Bans>>,
    /// What it says of itself: a JSON object.
    pub about: Box<dyn Fn() -> serde_json::Value + Send + Sync>,
    /// Has it let its clients go and stop; why it cannot.
    pub stop: Arc<dyn Fn() -> Result<(), String> + Send + Sync>,
}

impl fmt::Debug for Here {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Here")
            .field("instance", &self.instance)
            .field("has_others", &self.has_others)
            .finish_non_exhaustive()
    }
}

/// The running API. Dropping it stops it and waits for its thread.
#[derive(Debug)]
pub struct Api {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// The API could not be started.
#[derive(Debug)]
pub struct StartError(io::Error);

impl fmt::Display for StartError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "cannot start the HTTP API (api.listen): {}", self.0)
    }
}

impl Error for StartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

impl Api {
    /// Serves the API on a bound port from a thread of its own, for this instance.
    ///
    /// # Errors
    /// If the thread cannot be made.
    pub fn start(listener: TcpListener, (link, keys): (Link, Keys), here: Here) -> Result<Api, StartError> {
        listener.set_nonblocking(true).map_err(StartError)?;
        let address = listener.local_addr().map_err(StartError)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError)?;
        let (stop, stopped) = oneshot::channel();
        let Here { tls, instance, has_others, message_bytes_max, room_of_user, bans, about, stop: stop_here } = here;
        let said = link.unasked();
        let cluster = Arc::new(Cluster::new(link.clone(), instance, has_others, about, stop_here));
        let blocking = Arc::new(Semaphore::new(BLOCKING_MAX));
        let shared =
            Shared { link, keys, message_bytes_max, cluster: Arc::clone(&cluster), bans, blocking, room_of_user };
        let router = routes::router(Arc::new(shared));
        let run = move || {
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).expect("it was made for this runtime");
                tokio::spawn(cluster.take_part(said));
                tokio::spawn(accept(listener, router, tls.map(TlsAcceptor::from)));
                // Leaving the runtime ends the task above and its connections. Either outcome means to stop.
                let _ = stopped.await;
            });
        };
        let thread = Builder::new().name("fanfare-api".to_owned()).spawn(run).map_err(StartError)?;
        tracing::info!(%address, "API listening");
        Ok(Api { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens: the port that was chosen, if the configured one was 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported there.
            let _ = thread.join();
        }
    }
}

async fn accept(listener: tokio::net::TcpListener, router: Router, tls: Option<TlsAcceptor>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // Closed by nobody.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (router, tls) = (router.clone(), tls.clone());
                tokio::spawn(async move {
                    // What goes wrong on a connection is its client's own affair.
                    let _ = serve(stream, router, tls).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "the API could not accept");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(
    stream: TcpStream,
    router: Router,
    tls: Option<TlsAcceptor>,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    // Answers are small, and leave when they are ready. A socket without the option is slower and no worse.
    let _ = stream.set_nodelay(true);
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME_MAX);
    let service = TowerToHyperService::new(router);
    match tls {
        None => server.serve_connection(TokioIo::new(stream), service).await?,
        Some(tls) => {
            let stream = timeout(HANDSHAKE_TIME_MAX, tls.accept(stream)).await??;
            server.serve_connection(TokioIo::new(stream), service).await?;
        }
    }
    Ok(())
}
