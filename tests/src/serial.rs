//! In the program `siege`, one test at a time has servers. Not in the others.

use std::env;
use std::sync::{Mutex, MutexGuard, PoisonError};

static SERVERS: Mutex<()> = Mutex::new(());

thread_local! {
    /// Held until the thread ends, which is when the test does. One that fails is no reason for the next not to run.
    static TURN: MutexGuard<'static, ()> = SERVERS.lock().unwrap_or_else(PoisonError::into_inner);
}

/// Waits until no other test of the program has servers, if it is `siege`. A test may come here often, but always on its own thread,
/// because any other waits for the end of the test.
pub(crate) fn await_turn() {
    let program = env::current_exe().expect("the path of the running test");
    // Cargo appends a hash to the name.
    let name = program.file_name().and_then(|name| name.to_str()).expect("a name in UTF-8");
    if name.starts_with("siege-") {
        TURN.with(|_| ());
    }
}
