//! What one worker is given of what all of them have.

use crate::admission::Counts;
use crate::exchange::Exchange;
use fanfare_adapter::api::Link;
use fanfare_adapter::authentication::Authenticator;
use fanfare_adapter::descriptors::Places;
use fanfare_adapter::hooks::Hooks;
use fanfare_adapter::ops::Board;
use fanfare_adapter::readiness::Readiness;
use fanfare_adapter::tls::Tls;
use std::sync::Arc;

/// What one worker is given of what all of them have.
#[derive(Debug)]
pub struct WorkerContext {
    /// Which one it is, from 0.
    pub worker: usize,
    /// Of all workers together.
    pub places: Places,
    /// The page at `/`.
    pub page: &'static [u8],
    /// Of connections.
    pub counts: Arc<Counts>,
    /// Where figures are shown.
    pub board: Option<Arc<Board>>,
    /// Its own and the others'.
    pub readiness: Readiness,
    /// Who verifies credentials, where clients are asked who they are.
    pub authenticator: Option<Arc<Authenticator>>,
    /// Who is asked about messages, where rules name anybody.
    pub hooks: Option<Arc<Hooks>>,
    /// Where clients speak TLS. Each worker counts by itself.
    pub tls: Option<Tls>,
    /// The embedded broker, where there are other workers and no Redis.
    pub exchange: Option<Arc<Exchange>>,
    /// How backends reach the cores.
    pub link: Option<Link>,
}
