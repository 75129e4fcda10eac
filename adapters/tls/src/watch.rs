//! Whether the files of a server have changed. Programs that renew certificates replace two files one after the other, so a look may
//! find one of them new.

use crate::acceptor::Acceptor;
use crate::error::LoadError;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Looks at the files of an [`Acceptor`] when it is asked to.
#[derive(Debug)]
pub struct Watch {
    acceptor: Acceptor,
    /// What is served.
    served: Contents,
    /// What could not be loaded when it was looked at last, and whether that has been told.
    refused: Option<(Contents, bool)>,
}

/// A hash of each file, so that no key is kept here. Of a file that cannot be read there is none.
type Contents = Vec<Option<u64>>;

/// What a look found.
#[derive(Debug)]
pub enum Look {
    /// Nothing is new.
    Same,
    /// What is new is served from here on.
    Reloaded,
    /// What is new cannot be served. What is served stays as it is. It is said once.
    Refused(LoadError),
}

impl Watch {
    /// Of an acceptor that has just been loaded.
    pub fn new(acceptor: Acceptor) -> Watch {
        let served = contents(&acceptor);
        Watch { acceptor, served, refused: None }
    }

    /// Looks at the files. What cannot be loaded is told when it is found the second time, because a renewal may be under way. Where
    /// somebody has `asked` for it, everything is loaded, changed or not, and told at once.
    pub fn look(&mut self, asked: bool) -> Look {
        let now = contents(&self.acceptor);
        if now == self.served && !asked {
            self.refused = None;
            return Look::Same;
        }
        let before = self.refused.take().filter(|(refused, _)| *refused == now);
        if let Some((_, true)) = before
            && !asked
        {
            self.refused = before;
            return Look::Same;
        }
        match self.acceptor.reload() {
            Ok(()) => {
                // If they have changed since they were read, the next look finds that.
                self.served = now;
                Look::Reloaded
            }
            Err(error) => {
                let is_told = asked || before.is_some();
                self.refused = Some((now, is_told));
                if is_told { Look::Refused(error) } else { Look::Same }
            }
        }
    }
}

fn contents(acceptor: &Acceptor) -> Contents {
    let files = acceptor.pairs().iter().flat_map(|pair| [&pair.cert_file, &pair.key_file]);
    let hash = |bytes: Vec<u8>| {
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        hasher.finish()
    };
    files.map(|file| fs::read(file).ok().map(hash)).collect()
}
