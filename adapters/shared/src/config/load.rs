//! From arguments, environment and file to one [`Config`]: which source wins, and the two variables of older servers.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::ExitCode;

use super::command_line::{self, Arguments};
use super::key::{Given, Key, quoted};
use super::keys::{KEYS, position};
use super::problem::{ConfigError, Problem, Source};
use super::program::{Command, Program};
use super::{Config, consistency, file, prefix};

/// The older servers' variable for the port alone; the other one is in the table of keys.
const PORT: &str = "PORT";

/// A valid configuration, and how it came about.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What the command line asks for.
    pub command: Command,
    /// The configuration.
    pub config: Config,
    /// What is probably not meant, yet no error: to be logged once logging has started.
    pub warnings: Vec<String>,
    /// Where each of [`KEYS`] came from.
    pub(crate) sources: Vec<Source>,
}

/// Why there is nothing to run.
#[derive(Debug)]
pub enum Stop {
    /// Help or version were asked for, or the arguments could not be understood.
    CommandLine(clap::Error),
    /// A value is wrong.
    Config(ConfigError),
}

impl Stop {
    /// Prints it, to stdout if it was asked for and to stderr if it is an error, and gives the process' exit code:
    /// 0 or 2.
    pub fn report(&self) -> ExitCode {
        match self {
            Stop::CommandLine(error) => {
                // Nobody is left to tell if the stream is closed.
                let _ = error.print();
                if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS }
            }
            Stop::Config(error) => {
                use std::io::Write;
                let _ = writeln!(std::io::stderr(), "{error}");
                ExitCode::from(2)
            }
        }
    }
}

/// Reads the configuration from a process' arguments (the first is its name) and environment, and from the file that
/// they name.
///
/// # Errors
/// See [`Stop`]. All wrong values are reported together.
pub fn load(
    program: &Program,
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Loaded, Stop> {
    let Arguments { command, config_path, flags } =
        command_line::parse(program, arguments).map_err(Stop::CommandLine)?;
    let environment: BTreeMap<_, _> = environment.into_iter().collect();
    let merged = Layers::new(flags, &environment, config_path).merge(program);
    let (config, sources) = merged.map_err(|problems| Stop::Config(ConfigError { program: program.name, problems }))?;
    let mut warnings = misspelt_variables(&environment);
    if config.redis.target.is_some() {
        warnings.extend(prefix::warning(&config.redis.session.prefix));
    }
    Ok(Loaded { command, config, warnings, sources })
}

/// What each source gave, by position in [`KEYS`].
struct Layers<'a> {
    flags: BTreeMap<usize, OsString>,
    environment: &'a BTreeMap<OsString, OsString>,
    file: BTreeMap<usize, (Given, Source)>,
    /// What is wrong with the file beside the values.
    problems: Vec<Problem>,
}

impl<'a> Layers<'a> {
    fn new(
        flags: BTreeMap<usize, OsString>,
        environment: &'a BTreeMap<OsString, OsString>,
        config_path: Option<OsString>,
    ) -> Layers<'a> {
        let from_flag = config_path.map(|path| (path, Source::Flag("config".to_owned())));
        let from_environment = || {
            let path = environment.get(OsStr::new("FANFARE_CONFIG")).filter(|path| !path.is_empty())?;
            Some((path.clone(), Source::Environment("FANFARE_CONFIG".to_owned())))
        };
        let (mut values, mut problems) = (BTreeMap::new(), Vec::new());
        if let Some((path, named_by)) = from_flag.or_else(from_environment) {
            let path = PathBuf::from(path);
            let contents = file::read(&path, &named_by);
            problems = contents.problems;
            for entry in contents.entries {
                let source = Source::File { path: path.clone(), line: Some(entry.line) };
                values.insert(entry.key, (entry.given, source));
            }
        }
        Layers { flags, environment, file: values, problems }
    }

    /// Reads the strongest value of every key. A weaker one is not looked at, so that a flag can step in for a
    /// variable that somebody else has set wrong.
    fn merge(mut self, program: &Program) -> Result<(Config, Vec<Source>), Vec<Problem>> {
        let mut config = Config::default();
        let mut sources = Vec::with_capacity(KEYS.len());
        let mut problems = std::mem::take(&mut self.problems);
        for (index, key) in KEYS.iter().enumerate() {
            let Some((given, source)) = self.strongest(index, key) else {
                sources.push(Source::Default);
                continue;
            };
            let read = given.and_then(|given| key.kind.read(&given, &mut config));
            if let Err(wrong) = read {
                problems.push(Problem { key: key.name.to_owned(), from: source.clone(), wrong, right: key.right() });
            }
            sources.push(source);
        }
        self.apply_port(&mut config, &mut sources, &mut problems);
        if problems.is_empty() {
            problems = consistency::check(&config, &sources, program);
        }
        if problems.is_empty() { Ok((config, sources)) } else { Err(problems) }
    }

    fn strongest(&self, index: usize, key: &Key) -> Option<(Result<Given, String>, Source)> {
        if let Some(value) = self.flags.get(&index) {
            return Some((word(value), Source::Flag(key.flag())));
        }
        for name in [Some(key.environment()), key.environment_alias.map(str::to_owned)].into_iter().flatten() {
            match self.environment.get(OsStr::new(&name)) {
                Some(value) if !value.is_empty() || key.kind.takes_empty() => {
                    return Some((word(value), Source::Environment(name)));
                }
                _ => {}
            }
        }
        self.file.get(&index).map(|(given, source)| (Ok(given.clone()), source.clone()))
    }

    /// `PORT` replaces the port of `listen`, unless a flag or `FANFARE_LISTEN` has said the whole address.
    fn apply_port(&self, config: &mut Config, sources: &mut [Source], problems: &mut Vec<Problem>) {
        let listen = position("listen").expect("the table holds listen");
        let value = self.environment.get(OsStr::new(PORT)).filter(|value| !value.is_empty());
        let (Some(value), Source::Default | Source::File { .. }) = (value, &sources[listen]) else { return };
        sources[listen] = Source::Environment(PORT.to_owned());
        match value.to_str().and_then(|value| value.parse().ok()) {
            Some(port) => config.listen.set_port(port),
            None => problems.push(Problem {
                key: "listen".to_owned(),
                from: Source::Environment(PORT.to_owned()),
                wrong: format!("{} is not a port", quoted(&value.to_string_lossy())),
                right: "a whole number from 0 to 65535 (0 takes a free port); default: 8080".to_owned(),
            }),
        }
    }
}

fn word(value: &OsStr) -> Result<Given, String> {
    match value.to_str() {
        Some(value) => Ok(Given::Word(value.to_owned())),
        None => Err("it is not valid UTF-8".to_owned()),
    }
}

/// Variables that look like a key's but are none. Only near misses: container platforms set others of this prefix.
fn misspelt_variables(environment: &BTreeMap<OsString, OsString>) -> Vec<String> {
    const PREFIX: &str = "FANFARE_";
    let known: Vec<String> = KEYS.iter().map(Key::environment).chain([format!("{PREFIX}CONFIG")]).collect();
    let known: Vec<&str> = known.iter().filter_map(|name| name.strip_prefix(PREFIX)).collect();
    let given = environment.keys().filter_map(|name| name.to_str()?.strip_prefix(PREFIX));
    given
        .filter(|name| !known.contains(name))
        .filter_map(|name| {
            let meant = file::nearest(name, known.iter().copied())?;
            Some(format!("the environment variable {PREFIX}{name} means nothing; did you mean {PREFIX}{meant}?"))
        })
        .collect()
}
