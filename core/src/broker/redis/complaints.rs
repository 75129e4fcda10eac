//! What the log is told of rooms' histories, and of who is in rooms. Each store may be refused for the same reason, which is worth one line.

use super::RedisConfig;

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

/// What the log is told, each kind once, until there has been none of it from one probe to the next.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    /// Something was not stored or not read.
    refused: Complaint,
    /// Something was stored, and something else that belongs to it was refused.
    incomplete: Complaint,
    /// Something was stored, and too few replicas have it.
    unreplicated: Complaint,
    /// It was not kept, read or announced who is in a room.
    presence: Complaint,
    /// Why Redis may evict histories, as of the last set-up.
    eviction: Option<String>,
    /// The same, to be told.
    new_eviction: Option<String>,
}

impl Complaints {
    /// Why a Redis may evict histories that answers `INFO memory` with this text. It evicts where `maxmemory` is set, by any policy but one:
    /// those that spare keys without an expiry spare no history. What does not say so gives no cause.
    pub(super) fn eviction(info: &[u8], config: &RedisConfig) -> Option<String> {
        let field =
            |name: &[u8]| info.split(|byte| *byte == b'\n').find_map(|line| line.trim_ascii().strip_prefix(name));
        let (maxmemory, policy) = (field(b"maxmemory:")?, field(b"maxmemory_policy:")?);
        let is_bounded = std::str::from_utf8(maxmemory).ok()?.parse::<u64>().ok()? > 0;
        (is_bounded && policy != b"noeviction").then(|| {
            let policy = config.printable_error(policy);
            format!("it may evict them: its maxmemory-policy is {policy}, and should be noeviction")
        })
    }

    /// The connection is set up, and Redis may evict histories for this reason, if it may. It is told where it was not so before.
    pub(super) fn set_up(&mut self, eviction: Option<String>) {
        if eviction != self.eviction {
            self.new_eviction.clone_from(&eviction);
            self.eviction = eviction;
        }
    }

    /// Something was not stored or not read.
    pub(super) fn refused(&mut self, reason: impl FnOnce() -> String) {
        self.refused.make(reason);
    }

    /// Something was stored, and something else that belongs to it was refused.
    pub(super) fn incomplete(&mut self, reason: impl FnOnce() -> String) {
        self.incomplete.make(reason);
    }

    /// Something was stored, and too few replicas have it.
    pub(super) fn unreplicated(&mut self, reason: impl FnOnce() -> String) {
        self.unreplicated.make(reason);
    }

    /// It was not kept, read or announced who is in a room.
    pub(super) fn presence(&mut self, reason: impl FnOnce() -> String) {
        self.presence.make(reason);
    }

    /// A probe is sent: some time has passed since the last one.
    pub(super) fn probed(&mut self) {
        self.refused.probed();
        self.incomplete.probed();
        self.unreplicated.probed();
        self.presence.probed();
    }

    /// What has yet to be told of presence.
    pub(super) fn take_presence(&mut self) -> Option<String> {
        self.presence.reason.take()
    }

    /// What has yet to be told of histories.
    pub(super) fn take(&mut self) -> Option<String> {
        let Complaints { refused, incomplete, unreplicated, new_eviction, .. } = self;
        [&mut incomplete.reason, &mut unreplicated.reason, &mut refused.reason, new_eviction]
            .into_iter()
            .find_map(Option::take)
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

    #[test]
    fn whether_histories_may_be_evicted_is_told_when_it_changes() {
        let mut complaints = Complaints::default();
        let mut told = |eviction: Option<&str>| {
            complaints.set_up(eviction.map(str::to_owned));
            complaints.take()
        };
        assert_eq!(told(None), None);
        assert_eq!(told(Some("one")), Some("one".to_owned()));
        assert_eq!(told(Some("one")), None);
        assert_eq!(told(Some("other")), Some("other".to_owned()));
        assert_eq!(told(None), None);
        assert_eq!(told(Some("other")), Some("other".to_owned()));
    }

    #[test]
    fn redis_evicts_with_a_bound_and_a_policy_for_it() {
        let eviction = |info: &str| Complaints::eviction(info.as_bytes(), &RedisConfig::default());
        let info = |maxmemory: &str, policy: &str| {
            let policy = format!("maxmemory_policy:{policy}");
            format!("# Memory\r\nused_memory:9\r\nmaxmemory:{maxmemory}\r\nmaxmemory_human:1K\r\n{policy}\r\n")
        };
        for policy in ["allkeys-lru", "allkeys-random", "volatile-ttl", "volatile-lfu"] {
            assert!(eviction(&info("1024", policy)).is_some_and(|reason| reason.contains(policy)), "{policy}");
            assert_eq!(eviction(&info("0", policy)), None, "{policy}");
        }
        for silent in
            [&info("1024", "noeviction")[..], &info("x", "allkeys-lru"), "", "maxmemory:5", "maxmemory_policy:x"]
        {
            assert_eq!(eviction(silent), None, "{silent}");
        }
    }
}
