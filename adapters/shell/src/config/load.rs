//! From arguments, environment and file to one configuration: which source wins.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::ExitCode;

use super::command_line::{self, Arguments, Command};
use super::file;
use super::key::{Given, Key, quoted};
use super::problem::{ConfigError, Problem, Source};
use super::schema::{Program, Schema, Sources};
use super::tables::GivenTable;

/// A valid configuration, and how it came about.
#[derive(Debug)]
pub struct Loaded<C: 'static> {
    /// What the command line asks for.
    pub command: Command,
    /// The configuration.
    pub config: C,
    /// What is probably not meant, yet no error: to be logged once logging has started.
    pub warnings: Vec<String>,
    /// Where each key's value came from.
    pub(crate) sources: Sources<C>,
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
/// they name. Where every value is right by itself, `check` says what is wrong with them together.
///
/// # Errors
/// See [`Stop`]. All wrong values are reported together.
pub fn load<C: Default>(
    schema: &'static Schema<C>,
    program: &Program,
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    check: impl FnOnce(&C, &Sources<C>) -> Vec<Problem>,
) -> Result<Loaded<C>, Stop> {
    let Arguments { command, config_path, flags } =
        command_line::parse(schema, program, arguments).map_err(Stop::CommandLine)?;
    let environment: BTreeMap<_, _> = environment.into_iter().collect();
    let merged = Layers::new(schema, flags, &environment, config_path).merge(check);
    let (config, sources) = merged.map_err(|problems| Stop::Config(ConfigError { program: program.name, problems }))?;
    let warnings = misspelt_variables(schema, &environment);
    Ok(Loaded { command, config, warnings, sources })
}

/// What each source gave, by position in the table of keys.
struct Layers<'a, C: 'static> {
    schema: &'static Schema<C>,
    flags: BTreeMap<usize, OsString>,
    environment: &'a BTreeMap<OsString, OsString>,
    file: BTreeMap<usize, (Given, Source)>,
    /// By position in the schema's arrays.
    tables: Vec<Vec<GivenTable>>,
    /// What is wrong with the file beside the values.
    problems: Vec<Problem>,
}

impl<'a, C: Default> Layers<'a, C> {
    fn new(
        schema: &'static Schema<C>,
        flags: BTreeMap<usize, OsString>,
        environment: &'a BTreeMap<OsString, OsString>,
        config_path: Option<OsString>,
    ) -> Layers<'a, C> {
        let from_flag = config_path.map(|path| (path, Source::Flag("config".to_owned())));
        let from_environment = || {
            let name = schema.variable("CONFIG");
            let path = environment.get(OsStr::new(&name)).filter(|path| !path.is_empty())?;
            Some((path.clone(), Source::Environment(name)))
        };
        let (mut values, mut problems) = (BTreeMap::new(), Vec::new());
        let mut tables: Vec<_> = schema.tables.iter().map(|_| Vec::new()).collect();
        if let Some((path, named_by)) = from_flag.or_else(from_environment) {
            let path = PathBuf::from(path);
            let contents = file::read(schema, &path, &named_by);
            (values, problems) = (contents.entries, contents.problems);
            for (array, given) in contents.tables {
                tables[array] = given;
            }
        }
        Layers { schema, flags, environment, file: values, tables, problems }
    }

    /// Reads the strongest value of every key. A weaker one is not looked at, so that a flag can step in for a
    /// variable that somebody else has set wrong.
    fn merge(mut self, check: impl FnOnce(&C, &Sources<C>) -> Vec<Problem>) -> Result<(C, Sources<C>), Vec<Problem>> {
        let (mut config, mut sources) = (C::default(), Sources::new(self.schema));
        let mut problems = std::mem::take(&mut self.problems);
        for (index, key) in self.schema.keys().enumerate() {
            let Some((given, source)) = self.strongest(index, key) else { continue };
            let read = given.and_then(|given| key.kind.read(&given, &mut config));
            if let Err(wrong) = read {
                problems.push(Problem { key: key.name.to_owned(), from: source.clone(), wrong, right: key.right() });
            }
            sources.set(index, source);
        }
        self.apply_port(&mut config, &mut sources, &mut problems);
        for (array, given) in self.schema.tables.iter().zip(&self.tables) {
            let (of_tables, wrong) = array.read(given, &mut config);
            sources.push_tables(of_tables);
            problems.extend(wrong);
        }
        if problems.is_empty() {
            problems = check(&config, &sources);
        }
        if problems.is_empty() { Ok((config, sources)) } else { Err(problems) }
    }

    fn strongest(&self, index: usize, key: &Key<C>) -> Option<(Result<Given, String>, Source)> {
        if let Some(value) = self.flags.get(&index) {
            return Some((word(value), Source::Flag(key.flag())));
        }
        for name in [Some(self.schema.environment(key)), key.environment_alias.map(str::to_owned)].into_iter().flatten()
        {
            match self.environment.get(OsStr::new(&name)) {
                Some(value) if !value.is_empty() || key.kind.takes_empty() => {
                    return Some((word(value), Source::Environment(name)));
                }
                _ => {}
            }
        }
        self.file.get(&index).map(|(given, source)| (Ok(given.clone()), source.clone()))
    }

    /// See [`PortVariable`](super::PortVariable).
    fn apply_port(&self, config: &mut C, sources: &mut Sources<C>, problems: &mut Vec<Problem>) {
        let Some(port) = &self.schema.port else { return };
        let value = self.environment.get(OsStr::new(port.variable)).filter(|value| !value.is_empty());
        let (Some(value), Source::Default | Source::File { .. }) = (value, sources.of(port.key)) else { return };
        let source = Source::Environment(port.variable.to_owned());
        let key = self.schema.position(port.key).expect("the address has a key");
        sources.set(key, source.clone());
        match value.to_str().and_then(|value| value.parse().ok()) {
            Some(number) => (port.set)(config, number),
            None => problems.push(Problem {
                key: port.key.to_owned(),
                from: source,
                wrong: format!("{} is not a port", quoted(&value.to_string_lossy())),
                right: port.right.to_owned(),
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
fn misspelt_variables<C>(schema: &Schema<C>, environment: &BTreeMap<OsString, OsString>) -> Vec<String> {
    let prefix = schema.environment_prefix;
    let known: Vec<String> =
        schema.keys().map(|key| schema.environment(key)).chain([schema.variable("CONFIG")]).collect();
    let known: Vec<&str> = known.iter().filter_map(|name| name.strip_prefix(prefix)).collect();
    let given = environment.keys().filter_map(|name| name.to_str()?.strip_prefix(prefix));
    given
        .filter(|name| !known.contains(name))
        .filter_map(|name| {
            let meant = file::nearest(name, known.iter().copied())?;
            Some(format!("the environment variable {prefix}{name} means nothing; did you mean {prefix}{meant}?"))
        })
        .collect()
}
