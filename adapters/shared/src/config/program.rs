//! Which program is configured.

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
