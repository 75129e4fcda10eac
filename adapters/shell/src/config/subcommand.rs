//! Commands that a program has beside `check-config`: what may be said with them, and what they say. What they do is for each server.

use std::fmt;

/// A command that does one thing by the configuration, says what came of it, and exits.
pub struct Subcommand<C: 'static> {
    /// Its name.
    pub name: &'static str,
    /// What `--help` says of it.
    pub about: &'static str,
    /// Its flags, beside those of every key.
    pub options: &'static [Flag],
    /// Does it.
    pub run: fn(&C, &Asked) -> Result<Said, Failed>,
}

/// A flag of a command, with a value.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Its name, without the dashes.
    pub name: &'static str,
    /// The placeholder in `--help`.
    pub value_name: &'static str,
    /// What `--help` says of it.
    pub help: &'static str,
    /// How often it may be given.
    pub times: Times,
}

/// How often a flag may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// It has to be given.
    Once,
    /// It need not be given.
    AtMostOnce,
    /// As often as one likes.
    Any,
}

/// What a command is told: the values of its flags.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Asked {
    pub(super) values: Vec<(&'static str, String)>,
}

impl Asked {
    /// The value of a flag, if it was given.
    pub fn one(&self, flag: &str) -> Option<&str> {
        self.values.iter().find(|(name, _)| *name == flag).map(|(_, value)| value.as_str())
    }

    /// Every value of a flag, in the order in which they were given.
    pub fn all<'a>(&'a self, flag: &'a str) -> impl Iterator<Item = &'a str> {
        self.values.iter().filter(move |(name, _)| *name == flag).map(|(_, value)| value.as_str())
    }
}

impl fmt::Debug for Asked {
    /// The names alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.values.iter().map(|(name, _)| name)).finish()
    }
}

/// Why a command was not done, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failed {
    /// What it was told is wrong, as a flag may be that has no such value.
    Usage(String),
    /// It could not be done.
    Work(String),
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Failed::Usage(why) | Failed::Work(why)) = self;
        f.write_str(why)
    }
}

/// What a command says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// For stdout, with line ends: what other programs may read.
    pub result: String,
    /// For stderr: what people may want to know. Empty: nothing.
    pub hint: String,
}
