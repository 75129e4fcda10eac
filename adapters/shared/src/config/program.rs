//! What is configured: which program, and what it is to do.

/// The program whose configuration it is.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// The binary's name.
    pub name: &'static str,
    /// What `--help` says of it, before it explains the flags.
    pub about: &'static str,
    /// The most event loops that it can run.
    pub workers_max: usize,
}

/// What the command line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Run the server.
    Run,
    /// Print the configuration and exit.
    CheckConfig {
        /// What is only warned of elsewhere is an error.
        strict: bool,
    },
}
