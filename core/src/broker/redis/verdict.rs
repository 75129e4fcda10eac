//! What a reply of Redis means for its connection.

/// What a reply means for the connection that it came on.
pub(super) enum Verdict {
    /// Nothing.
    Fine,
    /// Redis refuses for a while, for this reason.
    Refused(String),
    /// A probe is answered, and whether Redis is willing. `again`: this answer decides whether trouble is over.
    Probed { again: bool, trouble: Option<String> },
    /// As a probe that finds no trouble; and the role need not be asked for any more, nor can it be known.
    RoleUnknown { again: bool },
}

/// Why a connection must be given up.
pub(super) enum Loss {
    /// For people.
    Broken(String),
    /// It leads to a replica, and the other one to the same, most likely: a name may lead elsewhere by now.
    Replica,
}
