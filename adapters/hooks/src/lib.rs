//! Webhooks: an operator's endpoint is asked before something happens, and told of what has happened. Requests are signed after the
//! [Standard Webhooks] specification, and bounded in time and number.
//!
//! A [`Hook`] has threads of its own, and never blocks who asks or tells. Here lives no room, no rule, no client's socket and no core: what
//! becomes of a question without an answer is decided elsewhere.
//!
//! Questions go to several threads, and each is asked once: somebody waits for it. Events go to one thread, in batches, in the order in
//! which they were told, and again until the endpoint has taken them.
//!
//! [Standard Webhooks]: https://www.standardwebhooks.com

mod asking;
mod body;
mod endpoint;
mod hook;
mod key;
mod setup;
mod shared;
mod telling;

pub use body::{Answer, Event, Question};
pub use endpoint::check_roots;
pub use hook::{Figures, Hook, Options};
pub use key::SigningKey;
pub use setup::SetupError;
