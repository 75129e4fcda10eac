//! What can be configured of a server, as a table, and what its help texts say beside the keys.

use std::fmt;

use super::key::Key;
use super::problem::Source;
use super::subcommand::Subcommand;
use super::tables::{ArrayOfTables, TableSources};

/// Everything that can be configured of a server whose configuration is a `C`.
pub struct Schema<C: 'static> {
    /// What names of environment variables begin with.
    pub environment_prefix: &'static str,
    /// The sections in the order of the keys, with their headings in `--help`. The first has no name.
    pub sections: &'static [(&'static str, &'static str)],
    /// Every key, section by section, in as many tables as one likes.
    pub keys: &'static [&'static [Key<C>]],
    /// Every array of tables that the file may have.
    pub tables: &'static [&'static dyn ArrayOfTables<C>],
    /// What `check-config` can be asked beside what the configuration is.
    pub questions: &'static [Question<C>],
    /// The commands that there are beside `check-config`.
    pub subcommands: &'static [Subcommand<C>],
    /// The variable, if any, that is for a port alone.
    pub port: Option<PortVariable<C>>,
    /// What help texts say beside the keys.
    pub help: Help,
}

/// A variable that replaces the port of an address, unless a flag or the address's own variable has said the whole. It is how hosting
/// platforms tell a server its port.
pub struct PortVariable<C: 'static> {
    /// The variable's name.
    pub variable: &'static str,
    /// The key of the address.
    pub key: &'static str,
    /// Puts the port into its place.
    pub set: fn(&mut C, u16),
    /// What a right value looks like, with the default.
    pub right: &'static str,
}

/// A flag of `check-config` that asks what the configuration means for one thing. It may be given several times.
pub struct Question<C: 'static> {
    /// Its name, without the dashes.
    pub flag: &'static str,
    /// The placeholder in `--help`.
    pub value_name: &'static str,
    /// What `--help` says of it.
    pub help: &'static str,
    /// The answer for one thing, in lines.
    pub answer: fn(&C, &Sources<C>, &str) -> String,
}

/// What help texts say beside the keys.
#[derive(Clone, Copy, Debug)]
pub struct Help {
    /// Of the settings, below what the program says of itself.
    pub about: &'static str,
    /// What stands at the end. `PROGRAM` stands for the program's name.
    pub examples: &'static str,
    /// The keys that `-h` shows: those of the first day.
    pub short: &'static [&'static str],
    /// What is said of a URL that stands where none belongs. The URL is not repeated, since it may hold a password.
    pub misplaced_url: &'static str,
    /// Flags, with their dashes, that other servers have, and what is said of them behind `there is no`.
    pub foreign_flags: (&'static [&'static str], &'static str),
}

/// A program that is configured.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// The binary's name.
    pub name: &'static str,
    /// What `--help` says of it, before it explains the flags.
    pub about: &'static str,
    /// What `--version` says.
    pub version: &'static str,
}

/// Where each key's value came from.
pub struct Sources<C: 'static> {
    schema: &'static Schema<C>,
    by_key: Vec<Source>,
    /// By position in the schema's arrays.
    tables: Vec<Vec<TableSources>>,
}

impl<C> Schema<C> {
    /// Every key, section by section.
    pub fn keys(&self) -> impl Iterator<Item = &'static Key<C>> + Clone + use<C> {
        self.keys.iter().copied().flatten()
    }

    /// The position of a key among all.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.keys().position(|key| key.name == name)
    }

    /// The environment variable of a key.
    pub fn environment(&self, key: &Key<C>) -> String {
        self.variable(&key.name.replace('.', "_").to_uppercase())
    }

    /// The environment variable that ends in this.
    pub(super) fn variable(&self, end: &str) -> String {
        format!("{}{end}", self.environment_prefix)
    }
}

impl<C> Sources<C> {
    /// Nobody has set anything.
    pub(super) fn new(schema: &'static Schema<C>) -> Sources<C> {
        Sources { schema, by_key: vec![Source::Default; schema.keys().count()], tables: Vec::new() }
    }

    /// Where the value of this key came from.
    ///
    /// # Panics
    /// If there is no such key.
    pub fn of(&self, key: &str) -> &Source {
        &self.by_key[self.schema.position(key).unwrap_or_else(|| panic!("there is no key {key}"))]
    }

    /// The keys of a section whose values are shown otherwise than here.
    pub fn changed(&self, section: &str, config: &C, default: &C) -> Vec<&'static str> {
        let of_section = self.schema.keys().filter(|key| key.section() == section);
        let is_changed = |key: &&Key<C>| key.kind.show(config) != key.kind.show(default);
        of_section.filter(is_changed).map(|key| key.name).collect()
    }

    /// Where this table of this array came from; the first has the index 0.
    ///
    /// # Panics
    /// If there is no such array or table.
    pub fn of_table(&self, array: &str, index: usize) -> &Source {
        let position = self.schema.tables.iter().position(|tables| tables.name() == array);
        &self.tables[position.unwrap_or_else(|| panic!("there is no array {array}"))][index].table
    }

    /// The tables of the next array of the schema.
    pub(super) fn push_tables(&mut self, tables: Vec<TableSources>) {
        self.tables.push(tables);
    }

    /// Every array of tables, and where they came from.
    pub(super) fn tables(&self) -> impl Iterator<Item = (&'static dyn ArrayOfTables<C>, &[TableSources])> {
        self.schema.tables.iter().copied().zip(self.tables.iter().map(Vec::as_slice))
    }

    pub(super) fn schema(&self) -> &'static Schema<C> {
        self.schema
    }

    pub(super) fn set(&mut self, key: usize, source: Source) {
        self.by_key[key] = source;
    }

    /// Every key, and where its value came from.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static Key<C>, &Source)> {
        self.schema.keys().zip(&self.by_key)
    }
}

impl<C> fmt::Debug for Sources<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(key, source)| (key.name, source))).finish()
    }
}
