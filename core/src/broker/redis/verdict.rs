//! What a reply of Redis means for its connection.

use super::canary::CanaryNews;
use super::redirect::NodeName;
use super::refusal::Refusal;

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
    /// The server has this partition no more, and has ended its subscriptions.
    Gone(u16),
    /// Nor has it this slot: the server at this address has it, where `host` is empty at this one's.
    Moved { slot: u16, to: NodeName },
    /// The same, of the channel of the canary, to which it is not subscribed.
    CanaryMoved { slot: u16, to: NodeName },
    /// What the instances of a Cluster have agreed on, or why that is not known.
    Layout(Result<String, String>),
    /// The server cannot say that now.
    LayoutPutOff,
    /// Nothing for the connection itself; `trouble`: it refuses for a while, for this reason.
    Canary { news: CanaryNews, trouble: Option<String> },
}

/// Why a connection must be given up.
pub(super) enum Loss {
    /// For people.
    Broken(String),
    /// It leads to a replica, and the other one to the same, most likely: a name may lead elsewhere by now.
    Replica,
    /// What is published is not heard, not even by another connection. So the one that publishes may be at the wrong server.
    Unheard,
}

impl From<CanaryNews> for Verdict {
    fn from(news: CanaryNews) -> Verdict {
        Verdict::Canary { news, trouble: None }
    }
}

impl Verdict {
    /// What a refusal of this kind means, for this reason.
    pub(super) fn of(refusal: Refusal, reason: impl FnOnce() -> String) -> Result<Verdict, Loss> {
        match refusal {
            Refusal::Lasting => Ok(Verdict::Fine),
            Refusal::Passing => Ok(Verdict::Refused(reason())),
            Refusal::Replica => Err(Loss::Replica),
            Refusal::SignIn => Err(Loss::Broken(reason())),
        }
    }
}
