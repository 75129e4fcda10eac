//! The process's limit of file descriptors, and how many connections fit into it.

use crate::config::Config;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How many connections may be open, and how many more for a moment, to be told that there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    /// WebSockets.
    pub connections_max: usize,
    /// Connections beyond that are answered with 503, or asked for their health, and leave.
    pub surplus_max: usize,
}

impl Places {
    /// So many connections, and no more are taken.
    pub fn full_at(&self) -> usize {
        self.connections_max + self.surplus_max
    }

    /// So many, and more are taken again: half the surplus has left, since a gate that moves with every connection would only
    /// make noise.
    pub fn open_again_at(&self) -> usize {
        self.connections_max + self.surplus_max / 2
    }
}

/// One in sixteen places is for those who are turned away, and at most this many.
const SURPLUS_MAX: usize = 128;

/// What each worker beyond the first takes of its own, as the reserve does of what one takes: poll, waker, signals, listener, two
/// links to Redis and its name's look-up make ten.
const WORKER_DESCRIPTORS: usize = 16;

/// Raises the soft limit of descriptors to the hard one; returns what it is then. `None` means no limit.
pub fn raise_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
    {
        tracing::warn!(%error, "cannot raise the limit of file descriptors");
        return limit.current;
    }
    limit.maximum
}

/// How many connections the limits allow to all workers together under `descriptors` file descriptors.
///
/// # Errors
/// What is wrong, for people, if that is none at all.
pub fn places(config: &Config, workers: usize, descriptors: Option<u64>) -> Result<Places, String> {
    let descriptors = descriptors.map_or(usize::MAX / 2, |limit| usize::try_from(limit).unwrap_or(usize::MAX / 2));
    let reserve = config.descriptors_reserve + (workers - 1) * WORKER_DESCRIPTORS;
    let free = descriptors.saturating_sub(reserve);
    let surplus_max = (free / 16).clamp(1, SURPLUS_MAX);
    let most = free.saturating_sub(surplus_max);
    if most == 0 {
        return Err(format!(
            "{descriptors} file descriptors are allowed and {reserve} are kept in reserve (limits.descriptors_reserve, and \
             {WORKER_DESCRIPTORS} for each worker beyond the first), which leaves none for connections: raise the limit (ulimit -n) \
             or lower the reserve"
        ));
    }
    let connections_max = match config.core.admission.connections_max {
        0 => most,
        wanted if wanted > most => {
            tracing::warn!(wanted, possible = most, "limits.connections_max is more than the file descriptors allow");
            most
        }
        wanted => wanted,
    };
    Ok(Places { connections_max, surplus_max })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(connections_max: usize) -> Config {
        let mut config = Config { descriptors_reserve: 64, ..Config::default() };
        config.core.admission.connections_max = connections_max;
        config
    }

    #[test]
    fn places_and_reserve_stay_within_the_descriptors() {
        for descriptors in [100, 128, 1_024, 20_000] {
            let places = places(&limits(0), 1, Some(descriptors)).unwrap();
            assert_eq!((places.connections_max + places.surplus_max + 64) as u64, descriptors);
        }
        assert_eq!(places(&limits(500), 1, Some(20_000)).unwrap().connections_max, 500);
        assert_eq!(places(&limits(500), 1, Some(128)).unwrap().connections_max, 60);
        assert_eq!(places(&limits(500), 3, Some(128)).unwrap().connections_max, 30);
        assert!(places(&limits(0), 1, Some(65)).unwrap_err().contains("ulimit -n"));
    }
}
