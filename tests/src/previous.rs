//! Servers of earlier commits, to be run beside the one under test.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::binary::workspace_root;

/// How the script says that this clone does not have the commits.
const SKIPPED: i32 = 77;

/// Binaries of `fanfare`, each older than histories of rooms.
pub struct PreviousBinaries {
    /// It knows no versions: whatever is on a channel and not its own form is somebody else's text.
    pub without_versions: PathBuf,
    /// It drops what is of a version that it does not know.
    pub without_histories: PathBuf,
}

/// Builds them, or finds them built.
///
/// # Panics
///
/// If that fails, or this clone does not have the commits: a test cannot say by itself that it was skipped, and `tests/run` skips it.
pub fn previous_binaries() -> &'static PreviousBinaries {
    static BINARIES: OnceLock<PreviousBinaries> = OnceLock::new();
    BINARIES.get_or_init(|| {
        let script = workspace_root().join("tests/previous/build");
        let built = Command::new(&script).stdin(Stdio::null()).output().expect("bash and git are there");
        let said = String::from_utf8_lossy(&built.stderr);
        assert_ne!(built.status.code(), Some(SKIPPED), "not to be run in this clone: {said}");
        assert!(built.status.success(), "{}: {said}", script.display());
        let paths = String::from_utf8(built.stdout).expect("paths in UTF-8");
        let mut paths = paths.lines().map(PathBuf::from);
        let mut next = || paths.next().filter(|path| path.is_file()).expect("the script names two binaries");
        PreviousBinaries { without_versions: next(), without_histories: next() }
    })
}
