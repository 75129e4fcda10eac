//! Rules between keys: each value may be right by itself, and the pair still wrong.

use super::problem::Problem;
use super::schema::Sources;

/// `key` must be at least `least`, because of the value of the key `than`.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The key that may be wrong.
    pub key: &'static str,
    /// Its value.
    pub value: usize,
    /// The least that is right.
    pub least: usize,
    /// The key on which that depends.
    pub than: &'static str,
    /// Why it does.
    pub why: &'static str,
}

impl Rule {
    /// What is wrong, if anything is.
    pub fn problem<C>(&self, sources: &Sources<C>) -> Option<Problem> {
        let Rule { key, value, least, than, why } = self;
        (value < least).then(|| Problem {
            key: (*key).to_owned(),
            from: sources.of(key).clone(),
            wrong: format!("{value} is too small beside {than} ({}): {why}", sources.of(than)),
            right: format!("at least {least}, or a smaller {than}"),
        })
    }
}
