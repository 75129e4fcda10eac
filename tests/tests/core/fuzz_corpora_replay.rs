//! Every file that fuzzing has left, through the body of its target: corpora and past findings, without a fuzzer.

use fanfare_tests::fuzz::TARGETS;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the root").join("fuzz")
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

/// The files of a target, read.
fn files(kind: &str, target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = fuzz().join(kind).join(target);
    let files = if folder.exists() { entries(&folder) } else { Vec::new() };
    files.into_iter().map(|path| (path.clone(), fs::read(&path).expect("a file"))).collect()
}

#[test]
fn every_file_passes() {
    for (target, body) in TARGETS {
        assert!(!files("corpus", target).is_empty(), "{target} has no corpus");
        for (path, bytes) in ["corpus", "regressions"].iter().flat_map(|kind| files(kind, target)) {
            if let Err(panic) = std::panic::catch_unwind(|| body(&bytes)) {
                eprintln!("in {}", path.display());
                std::panic::resume_unwind(panic);
            }
        }
    }
}

#[test]
fn the_table_the_folders_and_the_binaries_name_the_same_targets() {
    let targets: BTreeSet<_> = TARGETS.iter().map(|(target, _)| (*target).to_owned()).collect();
    for kind in ["corpus", "regressions"] {
        for folder in entries(&fuzz().join(kind)) {
            let name = folder.file_name().expect("a name").to_str().expect("UTF-8").to_owned();
            assert!(targets.contains(&name), "{} belongs to no target", folder.display());
            assert!(folder.is_dir(), "{} is no folder of a target", folder.display());
        }
    }
    let sources = entries(&fuzz().join("fuzz_targets"));
    let sources: BTreeSet<_> =
        sources.iter().map(|path| path.file_stem().expect("a name").to_str().unwrap().to_owned()).collect();
    assert_eq!(sources, targets);
    let manifest: toml::Table = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap().parse().expect("TOML");
    let binaries =
        manifest["bin"].as_array().expect("a list").iter().map(|bin| bin["name"].as_str().unwrap().to_owned());
    assert_eq!(binaries.collect::<BTreeSet<_>>(), targets);
}
