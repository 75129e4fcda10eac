//! What the log is told of rooms' histories. Each store may be refused for the same reason, which is worth one line.

/// One kind of trouble. It is told once, until there has been none from one probe to the next.
#[derive(Debug, Default)]
struct Complaint {
    /// To be told.
    reason: Option<String>,
    is_told: bool,
    is_recent: bool,
}

impl Complaint {
    fn make(&mut self, reason: impl FnOnce() -> String) {
        self.is_recent = true;
        if !std::mem::replace(&mut self.is_told, true) {
            self.reason = Some(reason());
        }
    }

    fn probed(&mut self) {
        if !std::mem::take(&mut self.is_recent) {
            self.is_told = false;
        }
    }
}

/// What the log is told of rooms' histories, each kind once, until there has been none of it from one probe to the next.
#[derive(Debug, Default)]
pub struct Complaints {
    /// Something was not stored or not read.
    refused: Complaint,
    /// Something was stored, and something else that belongs to it was refused.
    incomplete: Complaint,
    /// Something was stored, and too few replicas have it.
    unreplicated: Complaint,
}

impl Complaints {
    /// Something was not stored or not read.
    pub fn refused(&mut self, reason: impl FnOnce() -> String) {
        self.refused.make(reason);
    }

    /// Something was stored, and something else that belongs to it was refused.
    pub fn incomplete(&mut self, reason: impl FnOnce() -> String) {
        self.incomplete.make(reason);
    }

    /// Something was stored, and too few replicas have it.
    pub fn unreplicated(&mut self, reason: impl FnOnce() -> String) {
        self.unreplicated.make(reason);
    }

    /// A probe is sent: some time has passed since the last one.
    pub fn probed(&mut self) {
        self.refused.probed();
        self.incomplete.probed();
        self.unreplicated.probed();
    }

    /// What has yet to be told.
    pub fn take(&mut self) -> Option<String> {
        let Complaints { refused, incomplete, unreplicated } = self;
        [incomplete, unreplicated, refused].into_iter().find_map(|complaint| complaint.reason.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_on_is_told_once_and_what_comes_back_again() {
        let mut complaints = Complaints::default();
        let refused = |complaints: &mut Complaints, reason: &str| {
            complaints.refused(|| reason.to_owned());
            complaints.take()
        };
        assert_eq!(refused(&mut complaints, "first"), Some("first".to_owned()));
        for _ in 0..3 {
            assert_eq!(refused(&mut complaints, "more of it"), None);
            complaints.probed();
        }
        complaints.incomplete(|| "alarm".to_owned());
        assert_eq!((complaints.take(), complaints.take()), (Some("alarm".to_owned()), None));
        complaints.probed();
        complaints.probed();
        assert_eq!(refused(&mut complaints, "again"), Some("again".to_owned()));
    }
}
