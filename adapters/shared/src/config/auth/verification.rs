//! From what is configured to what verifies: files are read, keys and addresses are taken apart. Nothing is fetched and nobody is asked.

use super::kinds::lines;
use super::{AlgorithmName, Issuer};
use crate::config::{Config, RedisTarget};
use fanfare_auth::{
    Algorithm, BanStore, Callback, CallbackOptions, FileBans, Key, KeySource, Methods, Options, RedisBans,
    RedisSessions, RemoteKeys, Secret, SessionMethod, Sessions, SetupError, Verifier, key_set, read_file,
    without_line_end,
};
use fanfare_shell::program::StartError;
use std::path::Path;

/// What verifies credentials, and by how many threads. Files are read now, so that one which has changed is as it is.
///
/// # Errors
/// If a file cannot be read any more, or holds no key. `check-config` and the start have looked at them before.
pub fn methods(config: &Config) -> Result<(Methods, Options), StartError> {
    let told = |wrong: Vec<Wrong>| {
        let all: Vec<_> = wrong.iter().map(|Wrong { key, wrong, .. }| format!("{key}: {wrong}")).collect();
        StartError(format!("cannot verify credentials: {}", all.join("; ")))
    };
    Ok((built(config).map_err(told)?, Options::default()))
}

/// Where bans are kept: in Redis, else in a file, else nowhere.
///
/// # Errors
/// If the URL of Redis is one that only the broker understands.
pub fn bans_store(config: &Config) -> Result<Option<Box<dyn BanStore>>, StartError> {
    match (&config.redis.target, &config.auth.bans_file) {
        (Some(target), _) => {
            let place = config.redis.place(target, config.redis.sign_in());
            let place = place.map_err(StartError::of("cannot keep bans at redis.url"))?;
            Ok(Some(Box::new(RedisBans::new(place, &config.redis.session.prefix))))
        }
        (None, Some(file)) => Ok(Some(Box::new(FileBans::new(file)))),
        (None, None) => Ok(None),
    }
}

/// The secret by which tokens of the issuer in flags and variables are signed, if it has one.
///
/// # Errors
/// If its file cannot be read.
pub fn signing_secret(config: &Config) -> Result<Option<Secret>, StartError> {
    let Issuer { secret, secret_file, .. } = &config.auth.issuer;
    match (secret, secret_file) {
        (Some(secret), _) => Ok(Some(secret.clone())),
        (None, Some(path)) => {
            let bytes = bytes_of("auth.secret_file", path, super::A_SECRET_FILE);
            let bytes = bytes.map_err(|Wrong { key, wrong, .. }| StartError(format!("{key}: {wrong}")))?;
            Ok(Some(Secret::new(without_line_end(&bytes))))
        }
        (None, None) => Ok(None),
    }
}

/// What is wrong with the value of a key.
pub(super) struct Wrong {
    pub(super) key: &'static str,
    /// Of which of `[[issuers]]`.
    pub(super) issuer: Option<usize>,
    /// Never holds a secret.
    pub(super) wrong: String,
    pub(super) right: &'static str,
}

/// What is wrong with this key of the section.
fn wrong(key: &'static str, right: &'static str) -> impl Fn(SetupError) -> Vec<Wrong> {
    move |why| vec![Wrong { key, issuer: None, wrong: why.to_string(), right }]
}

/// All that verifies, or all that is wrong with it.
pub(super) fn built(config: &Config) -> Result<Methods, Vec<Wrong>> {
    let auth = &config.auth;
    let roots = auth.ca_file.as_deref().map(|path| text_of("auth.ca_file", path, "a file with certificates as PEM"));
    let roots = roots.transpose().map_err(|wrong| vec![wrong])?;
    let mut all_wrong = Vec::new();
    let built = Methods {
        tokens: right_of(tokens(config, roots.as_deref()), &mut all_wrong),
        sessions: right_of(sessions(config), &mut all_wrong),
        callback: right_of(callback(config, roots), &mut all_wrong),
        cookie_holds: auth.cookie_holds,
    };
    if all_wrong.is_empty() { Ok(built) } else { Err(all_wrong) }
}

/// What has been made; what is wrong with it goes to the rest of that.
fn right_of<T>(made: Result<Option<T>, Vec<Wrong>>, all_wrong: &mut Vec<Wrong>) -> Option<T> {
    made.unwrap_or_else(|wrong| {
        all_wrong.extend(wrong);
        None
    })
}

fn tokens(config: &Config, roots: Option<&str>) -> Result<Option<Verifier>, Vec<Wrong>> {
    let auth = &config.auth;
    if !auth.has_issuers() {
        return Ok(None);
    }
    let first = Some(&auth.issuer).filter(|issuer| issuer.has_keys()).map(|issuer| (None, issuer));
    let others = auth.issuers.iter().enumerate().map(|(index, issuer)| (Some(index), issuer));
    let (mut issuers, mut all_wrong) = (Vec::new(), Vec::new());
    for (index, issuer) in first.into_iter().chain(others) {
        match keys_of(issuer, roots) {
            Ok(keys) => issuers.push(with_keys(issuer, keys)),
            Err(wrong) => all_wrong.extend(wrong.into_iter().map(|wrong| of_issuer(wrong, index))),
        }
    }
    if !all_wrong.is_empty() {
        return Err(all_wrong);
    }
    let verifier = Verifier::new(issuers).map_err(wrong("auth.issuer", "a name that none of [[issuers]] has"))?;
    Ok(Some(verifier.claim_names(auth.claim_names())))
}

/// Of the issuer in flags and variables, keys have the section before their name.
fn of_issuer(wrong: Wrong, index: Option<usize>) -> Wrong {
    let key = match (index, wrong.key) {
        (Some(_), key) => key,
        (None, "secret") => "auth.secret",
        (None, "secret_file") => "auth.secret_file",
        (None, "key_files") => "auth.key_files",
        (None, "jwks_file") => "auth.jwks_file",
        (None, "jwks_url") => "auth.jwks_url",
        (None, key) => key,
    };
    Wrong { key, issuer: index, ..wrong }
}

fn with_keys(issuer: &Issuer, keys: KeySource) -> fanfare_auth::Issuer {
    let named = match issuer.name.as_str() {
        "" => fanfare_auth::Issuer::unnamed(keys),
        name => fanfare_auth::Issuer::named(name, keys),
    };
    let named = named.user_prefix(issuer.user_prefix.as_deref().unwrap_or_default());
    let named = named.leeway_ms(u64::try_from(issuer.leeway.as_millis()).unwrap_or(u64::MAX));
    issuer.audience.iter().fold(named, |issuer, audience| issuer.audience(audience.as_str()))
}

fn keys_of(issuer: &Issuer, roots: Option<&str>) -> Result<KeySource, Vec<Wrong>> {
    let Issuer { secret, secret_file, key_files, jwks_file, jwks_url, algorithms, .. } = issuer;
    if let Some(url) = jwks_url {
        let wrong = |wrong: &str, right| vec![Wrong { key: "jwks_url", issuer: None, wrong: wrong.to_owned(), right }];
        if secret.is_some() || secret_file.is_some() || !key_files.is_empty() || jwks_file.is_some() {
            return Err(wrong("the issuer has keys in other places as well", "keys at the URL alone, or none of it"));
        }
        if !algorithms.is_empty() {
            return Err(wrong(
                "the keys at the URL say themselves which algorithms they are for",
                "no algorithms beside it",
            ));
        }
        let keys = RemoteKeys::new(url.expose()).map_err(|why| wrong(&why.to_string(), "an https URL"))?;
        let keys = match roots {
            Some(roots) => keys.roots(roots).map_err(wrong_roots)?,
            None => keys,
        };
        return Ok(keys.into());
    }
    let (mut keys, mut all_wrong) = (Vec::new(), Vec::new());
    let mut take = |read: Result<Vec<Key>, Wrong>| match read {
        Ok(read) => keys.extend(read),
        Err(wrong) => all_wrong.push(wrong),
    };
    if let Some(secret) = secret {
        let of = |key| for_algorithms(vec![key], algorithms);
        take(Key::secret(secret).and_then(of).map_err(|why| of_file("secret", None, why, super::A_SECRET_FILE)));
    }
    if let Some(path) = secret_file {
        take(keys_in("secret_file", path, algorithms, super::A_SECRET_FILE, |bytes| {
            Ok(vec![Key::secret(&Secret::new(without_line_end(bytes)))?])
        }));
    }
    for file in key_files {
        take(keys_in("key_files", file.path(), algorithms, super::KEY_FILES, |bytes| {
            let text = str::from_utf8(bytes).map_err(|_| SetupError::NotPublicPem)?;
            Ok(vec![Key::pem(text)?])
        }));
    }
    if let Some(path) = jwks_file {
        take(keys_in("jwks_file", path, algorithms, super::A_KEY_SET_FILE, |bytes| {
            let keys = key_set(bytes)?;
            if keys.is_empty() { Err(SetupError::Unsupported) } else { Ok(keys) }
        }));
    }
    if all_wrong.is_empty() { Ok(keys.into()) } else { Err(all_wrong) }
}

/// The keys in a file.
fn keys_in(
    key: &'static str,
    path: &Path,
    algorithms: &[AlgorithmName],
    right: &'static str,
    read: impl FnOnce(&[u8]) -> Result<Vec<Key>, SetupError>,
) -> Result<Vec<Key>, Wrong> {
    let bytes = bytes_of(key, path, right)?;
    read(&bytes).and_then(|keys| for_algorithms(keys, algorithms)).map_err(|why| of_file(key, Some(path), why, right))
}

/// What is wrong with what a file holds. None of it is repeated.
fn of_file(key: &'static str, path: Option<&Path>, why: SetupError, right: &'static str) -> Wrong {
    let file = path.map(|path| format!("{}: ", path.display().to_string().escape_debug())).unwrap_or_default();
    Wrong { key, issuer: None, wrong: format!("{file}{why}"), right }
}

/// The keys for these algorithms alone; those that are for none of them are left out, unless there would be no other.
fn for_algorithms(keys: Vec<Key>, names: &[AlgorithmName]) -> Result<Vec<Key>, SetupError> {
    let algorithms: Vec<Algorithm> = names.iter().map(|AlgorithmName(algorithm)| *algorithm).collect();
    if algorithms.is_empty() {
        return Ok(keys);
    }
    let keys: Vec<Key> = keys.into_iter().filter_map(|key| key.only(&algorithms).ok()).collect();
    if keys.is_empty() { Err(SetupError::NoAlgorithm) } else { Ok(keys) }
}

fn sessions(config: &Config) -> Result<Option<SessionMethod>, Vec<Wrong>> {
    let session = &config.auth.session;
    if !session.has_secrets() {
        return Ok(None);
    }
    let mut secrets = session.secrets.clone();
    if let Some(path) = &session.secret_file {
        let key = "auth.session_secret_file";
        let right = "a file with the secret of express-session, or several, one a line";
        let in_file = lines(&bytes_of(key, path, right).map_err(|wrong| vec![wrong])?);
        if in_file.is_empty() {
            return Err(vec![of_file(key, Some(path), SetupError::NoSecret, right)]);
        }
        secrets.extend(in_file);
    }
    let sessions = Sessions::new(secrets).map_err(wrong("auth.session_secret", "the secret of express-session"))?;
    let no_redis = || {
        let wrong = "there is no Redis in which the sessions are".to_owned();
        let right = "auth.session_redis_url, or redis.url, or neither session_secret nor session_secret_file";
        vec![Wrong { key: "auth.session_redis_url", issuer: None, wrong, right }]
    };
    let (target, sign_in) = match (&session.redis, &config.redis.target) {
        (Some(target), _) => (target, RedisTarget::sign_in(target)),
        (None, Some(target)) => (target, config.redis.sign_in()),
        (None, None) => return Err(no_redis()),
    };
    let place = config.redis.place(target, sign_in);
    let store = RedisSessions::new(place.map_err(wrong("auth.session_redis_url", "the URL of a Redis"))?);
    let sessions = sessions.prefix(&session.prefix).user_path(&session.user);
    Ok(Some(SessionMethod { sessions, store: Box::new(store) }))
}

fn callback(config: &Config, roots: Option<String>) -> Result<Option<Callback>, Vec<Wrong>> {
    let callback = &config.auth.callback;
    let Some(url) = &callback.url else { return Ok(None) };
    let options = CallbackOptions {
        forward_headers: callback.forward_headers.iter().map(|name| name.as_str().to_owned()).collect(),
        time_max: callback.timeout,
        allow_plaintext: callback.plaintext,
        roots,
    };
    let told = |why| match why {
        SetupError::BadHeader => {
            wrong("auth.forward_headers", "names of the client's own headers, such as cookie")(why)
        }
        SetupError::NoCertificate => wrong_roots(why),
        why => {
            let right = "an https URL without user and password; http for this machine alone, or with auth.url_plaintext = \"on\"";
            wrong("auth.url", right)(why)
        }
    };
    Callback::new(url.expose(), options).map(Some).map_err(told)
}

fn wrong_roots(why: SetupError) -> Vec<Wrong> {
    wrong("auth.ca_file", "a file with certificates as PEM, and nothing else")(why)
}

fn text_of(key: &'static str, path: &Path, right: &'static str) -> Result<String, Wrong> {
    let text = String::from_utf8(bytes_of(key, path, right)?);
    text.map_err(|_| of_file(key, Some(path), SetupError::NoCertificate, right))
}

fn bytes_of(key: &'static str, path: &Path, right: &'static str) -> Result<Vec<u8>, Wrong> {
    read_file(path).map_err(|wrong| Wrong { key, issuer: None, wrong, right })
}
