//! The command line: one flag per key, the commands, and a help text that teaches. Values are read elsewhere.

use std::collections::BTreeMap;
use std::ffi::OsString;

use clap::builder::{Str, ValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches};

use super::key::Key;
use super::schema::{Program, Schema};
use super::subcommand::{Asked, Subcommand, Times};

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Run the server.
    Run,
    /// Print the configuration, or what it means for what is asked, and exit.
    CheckConfig {
        /// What is only warned of elsewhere is an error.
        strict: bool,
        /// What is asked: the positions of questions in the schema, and of what they are asked.
        asked: Vec<(usize, String)>,
    },
    /// Do what another command says, and exit.
    Other {
        /// Its position in the schema.
        subcommand: usize,
        /// What it is told.
        asked: Asked,
    },
}

/// The arguments, taken apart and not yet judged.
pub(crate) struct Arguments {
    pub(crate) command: Command,
    /// `--config`.
    pub(crate) config_path: Option<OsString>,
    /// By position in the table of keys.
    pub(crate) flags: BTreeMap<usize, OsString>,
}

/// Takes the arguments apart; the first is the program's name. Asking for help or the version is an error, too.
pub(crate) fn parse<C>(
    schema: &Schema<C>,
    program: &Program,
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<Arguments, clap::Error> {
    let matches = definition(schema, program).try_get_matches_from(arguments);
    let matches = matches.map_err(|error| of_foreign_flag(schema, program, without_url(schema, program, error)))?;
    let other = |name: &str| schema.subcommands.iter().position(|other| other.name == name);
    let (command, matches) = match matches.subcommand().map(|(name, inner)| (other(name), inner)) {
        Some((Some(subcommand), inner)) => {
            let values = schema.subcommands[subcommand].options.iter().flat_map(|flag| {
                let values = inner.get_many::<String>(flag.name).into_iter().flatten();
                values.map(|value| (flag.name, value.clone()))
            });
            (Command::Other { subcommand, asked: Asked { values: values.collect() } }, inner)
        }
        Some((None, inner)) => {
            let asked = schema.questions.iter().enumerate().flat_map(|(index, question)| {
                inner.get_many::<String>(question.flag).into_iter().flatten().map(move |of| (index, of.clone()))
            });
            (Command::CheckConfig { strict: inner.get_flag("strict"), asked: asked.collect() }, inner)
        }
        None => (Command::Run, &matches),
    };
    let value = |name: &str, matches: &ArgMatches| matches.get_one::<OsString>(name).cloned();
    let flags = schema.keys().enumerate().filter_map(|(index, key)| Some((index, value(key.name, matches)?)));
    Ok(Arguments { command, config_path: value("config", matches), flags: flags.collect() })
}

/// A URL that stands where none belongs may hold a password, which the usual message would repeat.
fn without_url<C>(schema: &Schema<C>, program: &Program, error: clap::Error) -> clap::Error {
    if error.use_stderr() && error.to_string().contains("://") {
        return definition(schema, program).error(ErrorKind::UnknownArgument, schema.help.misplaced_url);
    }
    error
}

/// Tells whoever looks for the flags of another server what ours are.
fn of_foreign_flag<C>(schema: &Schema<C>, program: &Program, error: clap::Error) -> clap::Error {
    let name = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(name)) if error.kind() == ErrorKind::UnknownArgument => name.as_str(),
        _ => return error,
    };
    let (flags, ours) = schema.help.foreign_flags;
    match flags.iter().find(|other| **other == name) {
        None => error,
        Some(other) => {
            let text = format!("there is no {other}; {ours}");
            definition(schema, program).error(ErrorKind::UnknownArgument, text)
        }
    }
}

fn definition<C>(schema: &Schema<C>, program: &Program) -> clap::Command {
    let (keys, help) = (schema.keys(), &schema.help);
    let config = flag("config", "config", "PATH", "The TOML file to read".to_owned()).help_heading("Configuration");
    clap::Command::new(program.name)
        .version(program.version)
        .about(program.about)
        .long_about(format!("{}\n\n{}", program.about, help.about))
        .after_help(format!(
            "`{} --help` explains all {} settings, and shows examples.",
            program.name,
            keys.clone().count() + 1
        ))
        .after_long_help(help.examples.replace("PROGRAM", program.name))
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
                )
                .args(schema.questions.iter().map(|question| {
                    Arg::new(question.flag)
                        .long(question.flag)
                        .value_name(question.value_name)
                        .action(ArgAction::Append)
                        .help(question.help)
                })),
        )
        .subcommands(schema.subcommands.iter().map(subcommand))
        .arg(config)
        .args(keys.map(|key| key_flag(schema, key)))
}

fn subcommand<C>(of: &Subcommand<C>) -> clap::Command {
    let flags = of.options.iter().map(|flag| {
        let action = if flag.times == Times::Any { ArgAction::Append } else { ArgAction::Set };
        Arg::new(flag.name)
            .long(flag.name)
            .value_name(flag.value_name)
            .help(flag.help)
            .required(flag.times == Times::Once)
            .action(action)
    });
    clap::Command::new(of.name).about(of.about).next_line_help(true).max_term_width(100).args(flags)
}

fn key_flag<C>(schema: &Schema<C>, key: &Key<C>) -> Arg {
    let default = if key.default.is_empty() { "none" } else { key.default };
    let help = format!("{} [default: {default}]", key.help);
    let (_, heading) =
        schema.sections.iter().find(|(section, _)| *section == key.section()).expect("a key has a section");
    let (first, _) = key.help.split_once(". ").unwrap_or((key.help, ""));
    flag(key.name, key.flag(), key.kind.value_name(), format!("{first} [default: {default}]"))
        .long_help(help)
        .hide_short_help(!schema.help.short.contains(&key.name))
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
