//! Rules between keys: each value may be right by itself, and the pair still wrong.

use super::program::Program;
use super::{Config, auth, cluster, hooks, rooms, sign_in, tls};
use fanfare_shell::config::{Problem, Rule, Sources};

/// What a message gains on its way: a frame header, or for Redis the envelope's header line, the command around it,
/// the channel (a prefix of at most 256 bytes and a room of at most 1024) and the room again in JSON, where every byte
/// may be escaped by another. Their sum stays below this.
const SLACK_BYTES: usize = 4096;

/// Everything inconsistent in `config`; `sources` says for each key where its value came from.
pub(crate) fn check(config: &Config, sources: &Sources<Config>, program: &Program) -> Vec<Problem> {
    let Config { redis, workers, .. } = config;
    let limits = &config.core.limits;
    let (outbox_total_least, outbox_total_why) = match *workers {
        1 => (limits.outbox_bytes_max, "all connections together must be allowed what one is"),
        several => (
            limits.outbox_bytes_max * several,
            "it is divided among the workers, and all connections of one together must be allowed what one is",
        ),
    };
    let mut rules = vec![
        Rule {
            key: "limits.outbox_bytes_max",
            value: limits.outbox_bytes_max,
            least: limits.message_bytes_max + SLACK_BYTES,
            than: "limits.message_bytes_max",
            why: "a message as large as a client may send must fit the outbox, with its framing",
        },
        Rule {
            key: "limits.outbox_total_bytes_max",
            value: limits.outbox_total_bytes_max,
            least: outbox_total_least,
            than: "limits.outbox_bytes_max",
            why: outbox_total_why,
        },
    ];
    if limits.bytes.is_limited() {
        rules.push(Rule {
            key: "limits.bytes_burst",
            value: usize::try_from(limits.bytes.burst).unwrap_or(usize::MAX),
            least: limits.message_bytes_max + SLACK_BYTES,
            than: "limits.message_bytes_max",
            why: "a message as large as a client may send must not be too many bytes at once",
        });
    }
    if redis.target.is_some() {
        rules.extend([
            Rule {
                key: "redis.buffer_bytes_max",
                value: redis.session.buffer_bytes_max,
                least: limits.message_bytes_max + SLACK_BYTES,
                than: "limits.message_bytes_max",
                why: "a message as large as a client may send must fit the buffer, with its envelope",
            },
            Rule {
                key: "redis.message_bytes_max",
                value: redis.session.message_bytes_max,
                least: limits.message_bytes_max + SLACK_BYTES,
                than: "limits.message_bytes_max",
                why: "a message as large as a client may send must be taken from Redis, with its envelope",
            },
        ]);
        let [min, max] = [redis.session.backoff_min, redis.session.backoff_max].map(|pause| pause.as_millis() as usize);
        if config.core.rules.as_slice().iter().any(|rule| rule.replicas_min > 0) {
            let [replicas, probe] =
                [redis.session.replicas_timeout, redis.session.probe_timeout].map(|time| time.as_millis() as usize);
            rules.push(Rule {
                key: "redis.probe_timeout_ms",
                value: probe,
                least: replicas,
                than: "history.replicas_timeout_ms",
                why: "a connection on which replicas are waited for would be taken for a silent one",
            });
        }
        rules.push(Rule {
            key: "redis.backoff_ms_max",
            value: max,
            least: min,
            than: "redis.backoff_ms_min",
            why: "the longest pause cannot be shorter than the first",
        });
    }
    too_many_workers(config, sources, program)
        .into_iter()
        .chain(tls::problems(config, sources))
        .chain(certificate_without_key(config, sources))
        .chain(api_without_keys(config, sources))
        .chain(api_without_certificate(config, sources))
        .chain(sign_in::problems(config, sources))
        .chain(cluster::problems(config, sources))
        .chain(auth::problems(config, sources))
        .chain(rooms::rights_of_users(config, sources))
        .chain(rooms::presence_of_nobody(config, sources))
        .chain(rooms::history_in_classic(config, sources))
        .chain(rooms::replicas_of_nothing(config, sources))
        .chain(hooks::problems(config, sources))
        .chain(rules.iter().filter_map(|rule| rule.problem(sources)))
        .collect()
}

/// The two files are of no use alone.
fn certificate_without_key(config: &Config, sources: &Sources<Config>) -> Option<Problem> {
    let tls = &config.redis.tls;
    let (key, beside) = match (&tls.cert_file, &tls.key_file) {
        (Some(_), None) => ("redis.tls_key_file", "redis.tls_cert_file"),
        (None, Some(_)) => ("redis.tls_cert_file", "redis.tls_key_file"),
        _ => return None,
    };
    Some(Problem {
        key: key.to_owned(),
        from: sources.of(key).clone(),
        wrong: format!("it is missing beside {beside}"),
        right: "a certificate and its private key, or neither of them".to_owned(),
    })
}

/// The API has nobody to serve without keys, and keys open nothing without a port. A file of keys that is wrong is found before the start.
fn api_without_keys(config: &Config, sources: &Sources<Config>) -> Option<Problem> {
    let (key, wrong, right) = match (&config.api.listen, &config.api.keys_file) {
        (Some(_), None) => {
            ("api.keys_file", "it is missing beside api.listen".to_owned(), "a file of TOML with [[keys]]")
        }
        (None, Some(_)) => {
            ("api.listen", "it is missing beside api.keys_file".to_owned(), "an address such as 127.0.0.1:8081")
        }
        (_, Some(path)) => {
            let error = fanfare_api::Keys::read(path).err()?;
            ("api.keys_file", error.to_string(), "a table [[keys]] for each key, of name, key and rights")
        }
        (None, None) => return None,
    };
    Some(Problem { key: key.to_owned(), from: sources.of(key).clone(), wrong, right: right.to_owned() })
}

/// Backends that are to connect by TLS need a certificate to know the server by.
fn api_without_certificate(config: &Config, sources: &Sources<Config>) -> Option<Problem> {
    (config.api.tls && config.tls.pairs().is_empty()).then(|| Problem {
        key: "api.tls".to_owned(),
        from: sources.of("api.tls").clone(),
        wrong: "there is no certificate, so TLS cannot be spoken".to_owned(),
        right: "off, or tls.cert_file and tls.key_file beside it".to_owned(),
    })
}

/// One configuration is read by several programs, and not all of them have several event loops.
fn too_many_workers(config: &Config, sources: &Sources<Config>, program: &Program) -> Option<Problem> {
    let Program { name, workers_max, .. } = program;
    (config.workers > *workers_max).then(|| Problem {
        key: "workers".to_owned(),
        from: sources.of("workers").clone(),
        wrong: format!("{} event loops are more than {name} can run", config.workers),
        right: format!("at most {workers_max}, or another adapter: `fanfare` runs up to 64"),
    })
}
