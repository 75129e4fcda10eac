//! What the server shows to clients: `tls.cert_file` and its key, and further certificates for other names, `[[certificates]]` in the file.

use super::Config;
use super::auth::OptionalPath;
use fanfare_shell::config::{Fault, Field, Key, Problem, Sources, Tables};
use fanfare_tls::{Pair, Version};
use std::path::PathBuf;

/// More names than anybody serves from one process. Each file is read every few seconds.
const CERTIFICATES_MAX: usize = 100;

pub(crate) const A_CERTIFICATE: &str = "a PEM file with a certificate (BEGIN CERTIFICATE)";
pub(crate) const A_KEY: &str = "a PEM file with the certificate's private key (BEGIN PRIVATE KEY)";

/// Section `tls`, and `[[certificates]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// `tls.cert_file` and `tls.key_file`.
    pub first: Files,
    /// `[[certificates]]`.
    pub others: Vec<Files>,
    /// `tls.min_version`.
    pub version_min: Version,
}

/// The files of a certificate, as far as they are given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// The certificate.
    pub cert_file: Option<PathBuf>,
    /// Its key.
    pub key_file: Option<PathBuf>,
}

impl Files {
    fn pair(&self) -> Option<Pair> {
        Some(Pair { cert_file: self.cert_file.clone()?, key_file: self.key_file.clone()? })
    }
}

impl Tls {
    /// All certificates, the first of which is for clients that ask for none of the others. Without any, TLS is not spoken.
    pub fn pairs(&self) -> Vec<Pair> {
        std::iter::once(&self.first).chain(&self.others).filter_map(Files::pair).collect()
    }
}

/// Further certificates.
pub(crate) static CERTIFICATES: Tables<Config, Files> = Tables {
    name: "certificates",
    tables_max: CERTIFICATES_MAX,
    keys: &[
        Key {
            name: "cert_file",
            default: "",
            help: "A PEM file with a certificate, which clients get that ask for one of its names",
            environment_alias: None,
            kind: &OptionalPath {
                right: A_CERTIFICATE,
                field: Field { get: |files: &Files| &files.cert_file, get_mut: |files| &mut files.cert_file },
            },
        },
        Key {
            name: "key_file",
            default: "",
            help: "A PEM file with its private key",
            environment_alias: None,
            kind: &OptionalPath {
                right: A_KEY,
                field: Field { get: |files: &Files| &files.key_file, get_mut: |files| &mut files.key_file },
            },
        },
    ],
    blank: Files::default,
    check: |files| {
        let (key, right) = match files {
            Files { cert_file: None, .. } => ("cert_file", A_CERTIFICATE),
            Files { key_file: None, .. } => ("key_file", A_KEY),
            _ => return Ok(()),
        };
        Err(Fault { key, wrong: "it is missing".to_owned(), right: format!("the path of {right}") })
    },
    get: |config| &config.tls.others,
    put: |config, others| config.tls.others = others,
};

/// All that is wrong.
pub(crate) fn problems(config: &Config, sources: &Sources<Config>) -> Vec<Problem> {
    let Tls { first, others, version_min } = &config.tls;
    let of_first = |key: &str, wrong: String, right: String| Problem {
        key: key.to_owned(),
        from: sources.of(key).clone(),
        wrong,
        right,
    };
    let alone = match first {
        Files { cert_file: Some(_), key_file: None } => Some(of_first(
            "tls.key_file",
            "it is missing beside tls.cert_file".to_owned(),
            format!("the path of {A_KEY}"),
        )),
        Files { cert_file: None, key_file: Some(_) } => Some(of_first(
            "tls.cert_file",
            "it is missing beside tls.key_file".to_owned(),
            format!("the path of {A_CERTIFICATE}"),
        )),
        Files { cert_file: None, .. } if others.is_empty() && *version_min != Version::default() => Some(of_first(
            "tls.min_version",
            "there is no certificate, so TLS is not spoken at all".to_owned(),
            "tls.cert_file and tls.key_file beside it, or nothing else of the section".to_owned(),
        )),
        _ => None,
    };
    let right = || "a certificate that is valid now and its own key, as PEM, which this process may read".to_owned();
    let wrong = |files: &Files| fanfare_tls::check(&[files.pair()?]).err().map(|error| error.to_string());
    let first = wrong(first).map(|wrong| of_first("tls.cert_file", wrong, right()));
    let others = others.iter().enumerate().filter_map(|(index, files)| {
        let (key, from) = (CERTIFICATES.label(index, files), sources.of_table(CERTIFICATES.name, index).clone());
        wrong(files).map(|wrong| Problem { key, from, wrong, right: right() })
    });
    alone.into_iter().chain(first).chain(others).collect()
}
