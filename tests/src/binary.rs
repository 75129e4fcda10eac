//! Where the binaries under test come from. Not how they are started.

use crate::Adapter;
use crate::serial::await_turn;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The path of the binary under test: `FANFARE_BIN` if set, else the one that cargo builds, once per test process,
/// with the profile and target folder of the running test. In the program `siege` it is given to one test at a time, which has it until
/// its end.
///
/// # Panics
///
/// If there is no such binary or it does not build.
pub fn fanfare_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    await_turn();
    BINARY.get_or_init(|| match env::var_os("FANFARE_BIN") {
        Some(path) => {
            let path = PathBuf::from(path);
            assert!(path.is_file(), "FANFARE_BIN names no file: {}", path.display());
            path
        }
        None => {
            let name = Adapter::under_test().name();
            build(&["--package", name, "--bin", name]);
            target_folder().join(name)
        }
    })
}

/// The root of the workspace.
pub fn workspace_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests live one level below the root")
}

/// Where binaries of the running test's profile are: the test runs as `<target folder>/<profile folder>/deps/<name>-<hash>`.
pub(crate) fn target_folder() -> PathBuf {
    let test = env::current_exe().expect("the path of the running test");
    test.ancestors().nth(2).expect("the profile's folder above the test").to_owned()
}

/// Builds what these arguments of cargo name, with the profile and into the target folder of the running test.
pub(crate) fn build(what: &[&str]) {
    let profile_folder = target_folder();
    let profile = match profile_folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // What cargo tells this test about its package would be read by build scripts: ring's runs again whenever it differs.
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_PKG_") || name.to_string_lossy().starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    let built = command
        .current_dir(workspace_root())
        .args(["build", "--quiet", "--locked", "--profile", profile])
        .args(what)
        .arg("--target-dir")
        .arg(profile_folder.parent().expect("the target folder above the profile's"))
        .output()
        .expect("cargo can be run");
    assert!(built.status.success(), "cargo build {what:?} fails:\n{}", String::from_utf8_lossy(&built.stderr));
}
