//! From arguments, environment and file to one [`Config`], and what is said of it.

use super::keys::{KEYS, SECTIONS};
use super::program::Program;
use super::{Config, auth, cluster, consistency, hooks, prefix, rooms, tls};
use crate::commands;
use fanfare_shell::config::{Help, Loaded, PortVariable, Schema, Stop};
use std::ffi::OsString;

/// All of it.
pub(crate) static SCHEMA: Schema<Config> = Schema {
    environment_prefix: "FANFARE_",
    sections: SECTIONS,
    keys: KEYS,
    tables: &[&rooms::ROOMS, &auth::ISSUERS, &tls::CERTIFICATES, &hooks::HOOKS],
    questions: &[rooms::WHICH_RULE],
    subcommands: &[commands::TOKEN, commands::BAN, commands::UNBAN, commands::BANS],
    // As older servers have it; their other variable is in the table of keys.
    port: Some(PortVariable {
        variable: "PORT",
        key: "listen",
        set: |config, port| config.listen.set_port(port),
        right: "a whole number from 0 to 65535 (0 takes a free port); default: 8080",
    }),
    help: Help {
        about: ABOUT,
        examples: EXAMPLES,
        short: &["listen", "ops_listen", "workers", "origins", "log.format", "log.level", "redis.url"],
        misplaced_url: "a URL stands where none belongs; the URL of Redis follows --redis-url",
        foreign_flags: (
            &["--port", "-p", "--host", "--bind", "--addr", "--address"],
            "--listen says where clients connect: --listen 127.0.0.1:PORT for this machine alone, \
             --listen 0.0.0.0:PORT for every network interface",
        ),
    },
};

const ABOUT: &str = "\
Every flag is also an environment variable and a key of the TOML file:
  --redis-url URL    FANFARE_REDIS_URL=URL    url = \"URL\" under [redis]
A flag wins over the environment, the environment over the file, the file over the default. \
PORT (the port of --listen alone) and REDIS_URL are understood, too. \
Rules for rooms, [[rooms]], further issuers, [[issuers]], further certificates, [[certificates]], and webhooks, [[hooks]], stand in the file alone.";

const EXAMPLES: &str = "\
Examples:
  Try it on this machine, then open http://127.0.0.1:8080:
    PROGRAM

  Open up to other machines of a private network:
    PROGRAM --listen 0.0.0.0:8080

  Open up to everybody, by wss:// and https://:
    PROGRAM --listen 0.0.0.0:443 --tls-cert-file fullchain.pem --tls-key-file privkey.pem

  Several instances that share their rooms through one Redis:
    PORT=8080 REDIS_URL=redis://localhost PROGRAM
    PORT=8081 REDIS_URL=redis://localhost PROGRAM

  For production: JSON logs, metrics on a private port, the rest from a file:
    PROGRAM --config /etc/fanfare.toml --log-format json --ops-listen 127.0.0.1:9090

  See what would be in force and where each value comes from, as a file to start from:
    PROGRAM check-config > fanfare.toml";

/// Reads the configuration from a process' arguments (the first is its name) and environment, and from the file that
/// they name.
///
/// # Errors
/// See [`Stop`]. All wrong values are reported together.
pub fn load(
    program: &Program,
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Loaded<Config>, Stop> {
    let Program { name, about, .. } = *program;
    let of_the_shell = fanfare_shell::config::Program { name, about, version: env!("CARGO_PKG_VERSION") };
    let check = |config: &Config, sources: &_| consistency::check(config, sources, program);
    let mut loaded = fanfare_shell::config::load(&SCHEMA, &of_the_shell, arguments, environment, check)?;
    if loaded.config.redis.target.is_some() {
        loaded.warnings.extend(prefix::warning(&loaded.config.redis.session.prefix));
    }
    loaded.warnings.extend(cluster::warning(&loaded.config));
    loaded.config.core.auth = loaded.config.auth.of_core();
    loaded.warnings.extend(auth::warnings(&loaded.config));
    loaded.warnings.extend(rooms::warnings(&loaded.config));
    loaded.warnings.extend(hooks::warnings(&loaded.config));
    Ok(loaded)
}
