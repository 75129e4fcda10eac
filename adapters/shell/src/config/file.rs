//! The TOML file: from text to given values with their lines, and what is no key of ours. Not what values mean.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::key::Given;
use super::problem::{Problem, Source};
use super::schema::Schema;

/// Far more than every key with a comment takes; keeps a wrong path, such as a device, from filling the memory.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The most edits between a misspelt name and the known one that is suggested for it.
const EDITS_MAX: usize = 3;

/// A value from the file.
pub(crate) struct Entry {
    /// In the table of keys.
    pub(crate) key: usize,
    pub(crate) given: Given,
    pub(crate) line: usize,
}

/// What a file holds.
#[derive(Default)]
pub(crate) struct Contents {
    pub(crate) entries: Vec<Entry>,
    /// In the order of the file.
    pub(crate) problems: Vec<Problem>,
}

/// Reads the file. `named_by` is the flag or variable that gave its path, for the message if there is no such file.
pub(crate) fn read<C>(schema: &Schema<C>, path: &Path, named_by: &Source) -> Contents {
    match read_text(path) {
        Ok(text) => parse(schema, &text, path),
        Err(error) => {
            let problem = Problem {
                key: "config".to_owned(),
                from: named_by.clone(),
                wrong: format!("cannot read {}: {error}", path.to_string_lossy().escape_debug()),
                right: "the path of a TOML file that this user may read".to_owned(),
            };
            Contents { entries: Vec::new(), problems: vec![problem] }
        }
    }
}

fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let length = File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if length as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

fn parse<C>(schema: &Schema<C>, text: &str, path: &Path) -> Contents {
    let mut reading = Reading { schema, text, path, contents: Contents::default() };
    match DeTable::parse(text) {
        Ok(table) => reading.top_level(table.get_ref()),
        // The error's own display would quote the line, which may hold a password.
        Err(error) => {
            let wrong = error.span().and_then(|span| unquoted(text, span.start)).unwrap_or(error.message().to_owned());
            reading.problem("config", error.span(), wrong, TOML_SHAPE.to_owned());
        }
    }
    let Contents { entries, mut problems } = reading.contents;
    problems.sort_by_key(|problem| match problem.from {
        Source::File { line, .. } => line,
        _ => None,
    });
    Contents { entries, problems }
}

/// What is wrong with the line at this place, if its value is a text without quotes. The value is not repeated.
fn unquoted(text: &str, at: usize) -> Option<String> {
    let before = text.get(..at)?;
    let start = before.rfind('\n').map_or(0, |end| end + 1);
    let (name, value) = text[start..].lines().next()?.split_once('=')?;
    let (name, value) = (name.trim(), value.split('#').next()?.trim());
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let is_text = value.starts_with(|first: char| first.is_alphanumeric() || matches!(first, '/' | ':' | '*'))
        && value.contains(|part: char| part.is_alphabetic() || matches!(part, '.' | ':' | '/' | '*'))
        && value.parse::<f64>().is_err()
        && !matches!(value, "true" | "false");
    (is_text && !name.is_empty() && name.bytes().all(is_name))
        .then(|| format!("the value of {name} is a text, and has to stand in quotes: {name} = \"...\""))
}

const TOML_SHAPE: &str = "valid TOML: lines of name = value, texts in quotes, under [section] headings";

struct Reading<'a, C: 'static> {
    schema: &'a Schema<C>,
    text: &'a str,
    path: &'a Path,
    contents: Contents,
}

type Name<'a> = Spanned<Cow<'a, str>>;

impl<C> Reading<'_, C> {
    fn top_level(&mut self, table: &DeTable<'_>) {
        for (name, value) in table {
            let is_section =
                self.schema.sections.iter().any(|(section, _)| section == name.get_ref() && !section.is_empty());
            match value.get_ref() {
                DeValue::Table(section) if is_section => {
                    for (inner, value) in section {
                        self.entry(&format!("{}.{}", name.get_ref(), inner.get_ref()), inner, value);
                    }
                }
                _ if is_section => {
                    let right = format!("a section: [{}] on a line of its own, its keys below", name.get_ref());
                    let wrong = format!("it is {}", with_article(value.get_ref().type_str()));
                    self.problem(name.get_ref(), Some(name.span()), wrong, right);
                }
                DeValue::Table(_) if self.schema.position(name.get_ref()).is_none() => {
                    let sections: Vec<_> = self.schema.sections.iter().map(|(name, _)| *name).skip(1).collect();
                    let right = match nearest(name.get_ref(), sections.iter().copied()) {
                        Some(known) => format!("did you mean [{known}]?"),
                        None => format!("the sections are {}", sections.join(", ")),
                    };
                    self.problem(name.get_ref(), Some(name.span()), "there is no such section".to_owned(), right);
                }
                _ => self.entry(name.get_ref(), name, value),
            }
        }
    }

    fn entry(&mut self, full: &str, name: &Name<'_>, value: &Spanned<DeValue<'_>>) {
        let Some(key) = self.schema.position(full) else {
            let right = match suggestion(self.schema, full) {
                Some(known) => format!("did you mean {known}?"),
                None => "`check-config` without a file prints every key there is".to_owned(),
            };
            return self.problem(full, Some(name.span()), "there is no such key".to_owned(), right);
        };
        let given = match value.get_ref() {
            DeValue::String(text) => Given::Text(text.clone().into_owned()),
            DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
                Ok(integer) => Given::Integer(integer),
                Err(_) => Given::Other("a number beyond 64 bits".to_owned()),
            },
            DeValue::Array(items) => {
                match items.iter().map(|item| item.get_ref().as_str().map(str::to_owned)).collect() {
                    Some(items) => Given::List(items),
                    None => Given::Other("an array of other things than texts".to_owned()),
                }
            }
            other => Given::Other(with_article(other.type_str())),
        };
        self.contents.entries.push(Entry { key, given, line: self.line(&name.span()) });
    }

    fn problem(&mut self, key: &str, span: Option<Range<usize>>, wrong: String, right: String) {
        let line = span.map(|span| self.line(&span));
        let from = Source::File { path: self.path.to_owned(), line };
        self.contents.problems.push(Problem { key: key.escape_debug().to_string(), from, wrong, right });
    }

    fn line(&self, span: &Range<usize>) -> usize {
        self.text.as_bytes()[..span.start].iter().filter(|&&byte| byte == b'\n').count() + 1
    }
}

fn with_article(kind: &str) -> String {
    let article = if kind.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {kind}")
}

/// What somebody probably meant: the same words in another order or section, else the least misspelling.
fn suggestion<C>(schema: &Schema<C>, full: &str) -> Option<String> {
    let full = full.to_lowercase().replace('-', "_");
    let given = words(full.rsplit('.').next().unwrap_or(&full));
    let of_same_words = schema.keys.iter().filter(|key| words(key.name_in_section()) == given).map(|key| key.name);
    let of_same_words = of_same_words.collect::<Vec<_>>().join(" or ");
    if of_same_words.is_empty() {
        nearest(&full, schema.keys.iter().map(|key| key.name)).map(str::to_owned)
    } else {
        Some(of_same_words)
    }
}

fn words(name: &str) -> Vec<&str> {
    let mut words: Vec<_> = name.split('_').collect();
    words.sort_unstable();
    words
}

/// The candidate with the fewest edits to `name`, if it could be a misspelling of it.
pub(crate) fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .min_by_key(|(edits, _)| *edits)
        .filter(|(edits, _)| *edits <= EDITS_MAX.min(name.len() / 2))
        .map(|(_, candidate)| candidate)
}
