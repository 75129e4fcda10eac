//! The command line: one flag per key, the commands, and a help text that teaches. Values are read elsewhere.

use std::collections::BTreeMap;
use std::ffi::OsString;

use clap::builder::{Str, ValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches};

use super::key::Key;
use super::keys::{KEYS, SECTIONS};
use super::program::{Command, Program};

/// The arguments, taken apart and not yet judged.
pub(crate) struct Arguments {
    pub(crate) command: Command,
    /// `--config`.
    pub(crate) config_path: Option<OsString>,
    /// By position in [`KEYS`].
    pub(crate) flags: BTreeMap<usize, OsString>,
}

/// Takes the arguments apart; the first is the program's name. Asking for help or the version is an error, too.
pub(crate) fn parse(
    program: &Program,
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<Arguments, clap::Error> {
    let matches = definition(program).try_get_matches_from(arguments);
    let matches = matches.map_err(|error| with_listen(program, without_url(program, error)))?;
    let (command, matches) = match matches.subcommand() {
        Some((_, inner)) => (Command::CheckConfig { strict: inner.get_flag("strict") }, inner),
        None => (Command::Run, &matches),
    };
    let value = |name: &str, matches: &ArgMatches| matches.get_one::<OsString>(name).cloned();
    let flags = KEYS.iter().enumerate().filter_map(|(index, key)| Some((index, value(key.name, matches)?)));
    Ok(Arguments { command, config_path: value("config", matches), flags: flags.collect() })
}

/// A URL that stands where none belongs may hold a password, which the usual message would repeat.
fn without_url(program: &Program, error: clap::Error) -> clap::Error {
    if error.use_stderr() && error.to_string().contains("://") {
        let text = "a URL stands where none belongs; the URL of Redis follows --redis-url";
        return definition(program).error(ErrorKind::UnknownArgument, text);
    }
    error
}

/// What other servers call the address or its port.
const OTHER_NAMES: [&str; 6] = ["--port", "-p", "--host", "--bind", "--addr", "--address"];

/// Tells whoever looks for the flags of another server where ours listens.
fn with_listen(program: &Program, error: clap::Error) -> clap::Error {
    let name = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(name)) if error.kind() == ErrorKind::UnknownArgument => name.as_str(),
        _ => return error,
    };
    match OTHER_NAMES.into_iter().find(|other| *other == name) {
        None => error,
        Some(other) => {
            let text = format!(
                "there is no {other}; --listen says where clients connect: --listen 127.0.0.1:PORT for this machine alone, \
                 --listen 0.0.0.0:PORT for every network interface"
            );
            definition(program).error(ErrorKind::UnknownArgument, text)
        }
    }
}

/// Of the settings, below what the program says of itself.
const ABOUT: &str = "\
Every flag is also an environment variable and a key of the TOML file:
  --redis-url URL    FANFARE_REDIS_URL=URL    url = \"URL\" under [redis]
A flag wins over the environment, the environment over the file, the file over the default. \
PORT (the port of --listen alone) and REDIS_URL are understood, too.";

/// `PROGRAM` stands for the name.
const EXAMPLES: &str = "\
Examples:
  Try it on this machine, then open http://127.0.0.1:8080:
    PROGRAM

  Open up to other machines (put TLS in front of it on a public network):
    PROGRAM --listen 0.0.0.0:8080

  Several instances that share their rooms through one Redis:
    PORT=8080 REDIS_URL=redis://localhost PROGRAM
    PORT=8081 REDIS_URL=redis://localhost PROGRAM

  For production: JSON logs, metrics on a private port, the rest from a file:
    PROGRAM --config /etc/fanfare.toml --log-format json --ops-listen 127.0.0.1:9090

  See what would be in force and where each value comes from, as a file to start from:
    PROGRAM check-config > fanfare.toml";

fn definition(program: &Program) -> clap::Command {
    let config = flag("config", "config", "PATH", "The TOML file to read".to_owned()).help_heading("Configuration");
    clap::Command::new(program.name)
        .version(env!("CARGO_PKG_VERSION"))
        .about(program.about)
        .long_about(format!("{}\n\n{ABOUT}", program.about))
        .after_help(format!("`{} --help` explains all {} settings, and shows examples.", program.name, KEYS.len() + 1))
        .after_long_help(EXAMPLES.replace("PROGRAM", program.name))
        .disable_help_subcommand(true)
        .next_line_help(true)
        .max_term_width(100)
        .subcommand(
            clap::Command::new("check-config")
                .about("Check the configuration, print it as TOML with passwords as ***, and exit")
                .next_line_help(true)
                .max_term_width(100)
                .arg(
                    Arg::new("strict")
                        .long("strict")
                        .action(ArgAction::SetTrue)
                        .help("Exit with 2 also where something is only warned of"),
                ),
        )
        .arg(config)
        .args(KEYS.iter().map(key_flag))
}

/// What `-h` shows: the settings of the first day.
const SHORT: [&str; 7] = ["listen", "ops_listen", "workers", "origins", "log.format", "log.level", "redis.url"];

fn key_flag(key: &Key) -> Arg {
    let default = if key.default.is_empty() { "none" } else { key.default };
    let help = format!("{} [default: {default}]", key.help);
    let (_, heading) = SECTIONS.iter().find(|(section, _)| *section == key.section()).expect("a key has a section");
    let (first, _) = key.help.split_once(". ").unwrap_or((key.help, ""));
    flag(key.name, key.flag(), key.kind.value_name(), format!("{first} [default: {default}]"))
        .long_help(help)
        .hide_short_help(!SHORT.contains(&key.name))
        .help_heading(*heading)
}

fn flag(id: &'static str, long: impl Into<Str>, value_name: impl Into<Str>, help: String) -> Arg {
    let (long, value_name): (Str, Str) = (long.into(), value_name.into());
    Arg::new(id)
        .long(long)
        .value_name(value_name)
        .help(help)
        // Values are judged together with those of the other sources, which say more than "invalid value".
        .value_parser(ValueParser::os_string())
        .allow_negative_numbers(true)
        // So that flags may stand before and after a command.
        .global(true)
}
