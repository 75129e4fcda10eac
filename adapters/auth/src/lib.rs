//! Who somebody is: credentials in, identities or refusals out.
//!
//! Here live the verification of JSON Web Tokens ([RFC 7519], signed by [RFC 7515]), the keys that it needs ([RFC 7517], [RFC 7518]), the
//! session cookies of Express, the question to an endpoint of the operator's, and bans. Here lives no room, no rule, no client's socket
//! and no core: what an identity may do is decided elsewhere.
//!
//! A server asks a [`Service`], which verifies by [`Methods`] on threads of its own and never blocks who asks. A [`BanWatch`] tells the
//! server whom to refuse. Everything else here may block, because key sets are fetched and sessions are looked up in the caller's
//! thread. Time is an argument (Unix, ms) wherever it decides something.
//!
//! ```
//! use fanfare_auth::{Credential, Issuer, Key, MintingKey, Secret, Source, Verifier, mint};
//!
//! let secret = Secret::new("a secret of 32 bytes or more, as the issuer has it");
//! let issuer = Issuer::named("https://id.example", Key::secret(&secret)?).audience("fanfare");
//! let verifier = Verifier::new(vec![issuer])?;
//!
//! let claims = serde_json::json!({ "iss": "https://id.example", "aud": "fanfare", "sub": "alice", "exp": 1_700_000_060 });
//! let token = mint(&claims, &MintingKey::secret(&secret)?)?;
//! let identity = verifier.verify(&Credential::new(token, Source::Header), 1_700_000_000_000).expect("it is valid");
//! assert_eq!(identity.user, "alice");
//! # Ok::<(), fanfare_auth::SetupError>(())
//! ```
//!
//! # What is held against attacks
//!
//! After [RFC 8725], the best current practices:
//!
//! - A key has a fixed list of algorithms, all of its own family (§3.1). So `none` is no algorithm, and no public key verifies an HMAC
//!   (§2.1).
//! - Keys belong to an issuer, and verify no token of another one (§3.8).
//! - Users and tokens of an issuer have its prefix, and nobody else can name what begins with it.
//! - A token for another audience is refused, also if no audience is configured (§3.9).
//! - A `jku`, `x5u`, `jwk` or `x5c` of a token is never followed (§3.10), and a `crit` is refused.
//! - A token of another kind, by its `typ`, is refused (§3.11).
//! - What clients send makes no more requests than one for keys in 30 seconds, and no more at once than there are threads for it. An
//!   endpoint or a store that does not answer keeps no other method waiting.
//! - No redirect is followed, and no header is sent on that the operator has not named.
//! - Nothing that is secret is in a `Debug`, an error or a trouble: no token, key, cookie, header, session or URL's query.
//! - A token has at most [`TOKEN_BYTES_MAX`] bytes, a small depth, and no member twice.
//!
//! # Why these libraries
//!
//! `jsonwebtoken` checks the signatures, by RustCrypto: it is pure Rust, where its other choice, `aws_lc_rs`, compiles a large library in
//! C. Header and claims are read here, because parsers take a member that stands twice, and because the library leaves it to its caller
//! by which issuer and key a token is checked. RustCrypto's RSA had a timing leak of private keys (RUSTSEC-2023-0071). None is used
//! here: [`MintingKey`] takes no RSA key. `ureq` fetches, because it blocks and brings no runtime. It speaks TLS by rustls with ring, the
//! one part that needs a C compiler. `redis` encodes and parses what is said to
//! the Redis of sessions and bans. `crossbeam-channel` is the queue of the threads, because
//! several of them take from one.
//!
//! [RFC 7515]: https://www.rfc-editor.org/rfc/rfc7515
//! [RFC 7517]: https://www.rfc-editor.org/rfc/rfc7517
//! [RFC 7518]: https://www.rfc-editor.org/rfc/rfc7518
//! [RFC 7519]: https://www.rfc-editor.org/rfc/rfc7519
//! [RFC 8725]: https://www.rfc-editor.org/rfc/rfc8725

mod bans;
mod callback;
mod claims;
pub mod cli;
mod cookie;
mod credential;
mod date;
mod error;
mod file;
mod http;
mod issuer;
mod json;
mod jwks;
mod key;
mod methods;
mod mint;
mod queue;
mod redis_cluster;
mod redis_connection;
mod redis_link;
mod redis_place;
mod redis_sessions;
mod redis_tls;
mod redis_trouble;
mod refusal;
mod remote;
mod secret;
mod sentinels;
mod service;
mod session;
mod sign_in;
mod verifier;

pub use bans::{BANS_MAX, Ban, BanError, BanList, BanStore, BanVersion, BanWatch, Banned, FileBans, RedisBans};
pub use callback::{Callback, CallbackOptions};
pub use claims::ClaimNames;
pub use cookie::{cookie, cookie_value};
pub use credential::{Credential, Grants, INFO_BYTES_MAX, Identity, Info, RENEWAL_BYTES_MAX, Source, USER_BYTES_MAX};
pub use error::SetupError;
pub use file::{read_file, without_line_end};
pub use issuer::{Issuer, KeySource};
/// The algorithms of RFC 7518 §3.1 and RFC 8037 that can be verified. There is no `none`.
pub use jsonwebtoken::Algorithm;
pub use jwks::key_set;
pub use key::Key;
pub use methods::{CookieKind, Methods, SessionMethod, Trouble};
pub use mint::{MintingKey, mint};
pub use redis_place::RedisPlace;
pub use redis_sessions::RedisSessions;
pub use redis_tls::RedisTls;
pub use refusal::Refusal;
pub use remote::RemoteKeys;
pub use secret::Secret;
pub use service::{Options, Request, Service};
pub use session::{SessionStore, Sessions, StoredSession, Unavailable};
pub use sign_in::SignIn;
pub use verifier::{TOKEN_BYTES_MAX, Verifier};
