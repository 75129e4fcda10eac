//! What the command lines of all programs that start the real server have in common.

use std::path::Path;

use clap::Args;

use crate::report::say;
use crate::{Error, Result, server};

/// What stands below the options of every one of these benchmarks.
pub const AFTER_HELP: &str =
    "FANFARE_BIN=path measures that binary; without it, fanfare is built in release mode first.";

/// What every benchmark of the real server takes.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// Let the kernel place the processes, instead of the server on one processor and the load on the others. It does so,
    /// too, where --server-arg asks for several workers.
    #[arg(long)]
    pub no_pin: bool,

    /// One more argument for fanfare; may be repeated.
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    pub server_arg: Vec<String>,

    /// One JSON object on stdout instead of the tables; progress stays on stderr.
    #[arg(long)]
    pub json: bool,

    /// Cargo adds it when it runs benchmarks, and leaves it out when it runs tests.
    #[arg(long, hide = true)]
    pub bench: bool,
}

impl Common {
    /// Whether the server has a processor to itself. One with several workers needs more than one, and goes where the
    /// kernel puts it, as everything else does then.
    pub fn pins(&self, binary: &Path) -> Result<bool> {
        if self.no_pin {
            return Ok(false);
        }
        let workers = server::workers(binary, &self.server_arg)?;
        if workers > 1 {
            say(format_args!(
                "the server has {workers} workers: all processes are placed by the kernel, as with --no-pin"
            ));
        }
        Ok(workers == 1)
    }
}

/// Checks that this process and a server may open so many `connections`, which errors call `what`, and `option` makes fewer.
pub fn check_descriptors(what: &str, connections: usize, descriptors: u64, option: &str) -> Result<()> {
    // Of the server: 64 in reserve, and up to 128 places for those who are told 503.
    const DESCRIPTORS_BESIDE_CONNECTIONS: u64 = 192;
    let wanted = connections as u64 + DESCRIPTORS_BESIDE_CONNECTIONS;
    if descriptors < wanted {
        return Err(Error::new(format!(
            "{what} need {wanted} file descriptors and the hard limit is {descriptors}; raise it (ulimit -Hn) or pass a \
             smaller {option}"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_descriptors_are_told_with_what_to_do() {
        let check = |descriptors| check_descriptors("10 members", 10, descriptors, "--members");
        assert!(check(202).is_ok());
        let error = check(201).unwrap_err().to_string();
        assert!(["10 members", "202", "201", "--members"].iter().all(|text| error.contains(text)), "{error}");
    }
}
