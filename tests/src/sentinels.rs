//! A master with replicas, and Sentinels that watch over them: real processes, as an operator has them.

use crate::{Redis, RedisLaunch, Reply, eventually_within};
use std::time::Duration;

/// What the Sentinels call the group.
pub const GROUP: &str = "mymaster";

/// How long a failover may take: the Sentinels have to notice, to agree, and to promote a replica that has caught up.
const FAILOVER_TIME_MAX: Duration = Duration::from_secs(60);

/// Servers of which one is the master, and three Sentinels.
pub struct Group {
    /// The servers. The first begins as the master.
    pub servers: Vec<Redis>,
    /// The Sentinels.
    pub sentinels: Vec<Redis>,
}

impl Group {
    /// A master, so many replicas that have caught up, and three Sentinels that know each other. Each server gets this configuration as well.
    ///
    /// # Panics
    ///
    /// If they do not come up.
    pub fn start(replicas: usize, configure: impl Fn(RedisLaunch) -> RedisLaunch) -> Group {
        // A full copy begins at once, not after five seconds in which others might want one as well.
        let launch = || configure(Redis::launch().directive("repl-diskless-sync-delay 0"));
        let master = launch().start();
        let follow = format!("replicaof 127.0.0.1 {}", master.port());
        let mut servers = vec![master];
        servers.extend((0..replicas).map(|_| launch().directive(&follow).start()));
        let watched = servers[0].port();
        let sentinel = |_| {
            Redis::launch()
                .sentinel()
                .directive(&format!("sentinel monitor {GROUP} 127.0.0.1 {watched} 2"))
                .directive(&format!("sentinel down-after-milliseconds {GROUP} 1000"))
                .directive(&format!("sentinel failover-timeout {GROUP} 3000"))
                .start()
        };
        let group = Group { servers, sentinels: (0..3).map(sentinel).collect() };
        group.wait_until_whole(replicas);
        group
    }

    /// Waits until each Sentinel knows the others and so many replicas in order, and each replica has caught up.
    ///
    /// # Panics
    ///
    /// If that does not come about.
    pub fn wait_until_whole(&self, replicas: usize) {
        let known = |sentinel: &Redis, field: &str| {
            let said = sentinel.cli(&["SENTINEL", "MASTER", GROUP]);
            let mut lines = said.lines().skip_while(|line| *line != field).skip(1);
            lines.next().map(str::to_owned)
        };
        eventually_within(FAILOVER_TIME_MAX, "the Sentinels know each other, and the replicas have caught up", || {
            let has = |sentinel: &Redis| {
                known(sentinel, "num-other-sentinels").as_deref() == Some("2")
                    && known(sentinel, "num-slaves") == Some(replicas.to_string())
                    && known(sentinel, "flags").as_deref() == Some("master")
                    && sentinel.cli(&["SENTINEL", "REPLICAS", GROUP]).matches("master-link-status\nok").count()
                        == replicas
            };
            self.sentinels.iter().all(has).then_some(())
        });
    }

    /// A URL under which a server finds the master.
    pub fn url(&self) -> String {
        let hosts: Vec<String> =
            self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port())).collect();
        format!("redis-sentinel://{}/{GROUP}", hosts.join(","))
    }

    /// Which of the servers most Sentinels call the master.
    fn named(&self) -> Option<usize> {
        let named = |sentinel: &Redis| {
            let mut connection = crate::RespConnection::connect(sentinel.port()).ok()?;
            match connection.try_command(&[b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", GROUP.as_bytes()]).ok()? {
                Reply::Array(parts) => match parts.as_slice() {
                    [_, Reply::Bytes(Some(port))] => {
                        let port: u16 = std::str::from_utf8(port).ok()?.parse().ok()?;
                        self.servers.iter().position(|server| server.port() == port)
                    }
                    _ => None,
                },
                _ => None,
            }
        };
        let named: Vec<usize> = self.sentinels.iter().filter_map(named).collect();
        named
            .iter()
            .copied()
            .find(|server| named.iter().filter(|other| *other == server).count() * 2 > self.sentinels.len())
    }

    /// Which of the servers is the master.
    ///
    /// # Panics
    ///
    /// If the Sentinels do not agree.
    pub fn master(&self) -> usize {
        eventually_within(FAILOVER_TIME_MAX, "most Sentinels name one master", || self.named())
    }

    /// Waits until another server is the master, and says which.
    ///
    /// # Panics
    ///
    /// If none is.
    pub fn wait_for_another_master(&self, than: usize) -> usize {
        eventually_within(FAILOVER_TIME_MAX, "there is another master", || {
            let master = self.named().filter(|master| *master != than)?;
            self.servers[master].cli(&["ROLE"]).starts_with("master").then_some(master)
        })
    }

    /// Tells a Sentinel to make another server the master, and waits until one is. Says which.
    ///
    /// # Panics
    ///
    /// If none is.
    pub fn fail_over(&self) -> usize {
        let before = self.master();
        eventually_within(FAILOVER_TIME_MAX, "the Sentinels begin a failover", || {
            (self.sentinels[0].cli(&["SENTINEL", "FAILOVER", GROUP]) == "OK").then_some(())
        });
        self.wait_for_another_master(before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_fails_over_when_it_is_told_to_and_when_its_master_dies() {
        let mut group = Group::start(2, |launch| launch);
        assert_eq!(group.master(), 0);
        let second = group.fail_over();
        assert_ne!(second, 0);
        group.wait_until_whole(2);
        group.servers[second].kill();
        assert_ne!(group.wait_for_another_master(second), second);
    }
}
