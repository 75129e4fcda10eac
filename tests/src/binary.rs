//! Where the binary under test comes from. Not how it is started.

use crate::Adapter;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The path of the binary under test: `FANFARE_BIN` if set, else the one that cargo builds, once per test process,
/// with the profile and target folder of the running test.
///
/// # Panics
///
/// If there is no such binary or it does not build.
pub fn fanfare_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match env::var_os("FANFARE_BIN") {
        Some(path) => {
            let path = PathBuf::from(path);
            assert!(path.is_file(), "FANFARE_BIN names no file: {}", path.display());
            path
        }
        None => build(),
    })
}

/// The root of the workspace.
pub(crate) fn workspace_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests live one level below the root")
}

fn build() -> PathBuf {
    // The test runs as <target folder>/<profile folder>/deps/<name>-<hash>.
    let test = env::current_exe().expect("the path of the running test");
    let profile_folder = test.ancestors().nth(2).expect("the profile's folder above the test");
    let target_folder = profile_folder.parent().expect("the target folder above the profile's");
    let profile = match profile_folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let name = Adapter::under_test().name();
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .current_dir(workspace_root())
        .args(["build", "--quiet", "--locked", "--package", name, "--bin", name, "--profile", profile])
        .arg("--target-dir")
        .arg(target_folder)
        .output()
        .expect("cargo can be run");
    assert!(built.status.success(), "{name} does not build:\n{}", String::from_utf8_lossy(&built.stderr));
    profile_folder.join(name)
}
