//! Presence across instances that die or are held up, and a Redis that forgets.

use super::*;
use fanfare_core::broker::{Ask, PresenceId};

fn config(seed: u64) -> RedisConfig {
    redis_config(|config| {
        (config.keeps_presence, config.seed) = (true, seed);
        config.presence_lease = Duration::from_secs(1);
    })
}

impl Driver {
    fn present(&mut self, user: &str, id: u64) {
        let id = PresenceId::new(id);
        self.session.ask(Ask::Present { room: "r", user, info: "", connections: 1, id });
    }

    /// Reads the roster until it has so many users.
    fn until_users(&mut self, users: u32) {
        let mut id = 1_000;
        let deadline = Instant::now() + PATIENCE;
        loop {
            id += 1;
            self.session.ask(Ask::Roster { room: "r", from: 0, id: PresenceId::new(id) });
            let is_it = |event: &Heard| matches!(event, Heard::Roster(of, _) | Heard::PresenceFailed(of) if *of == id);
            self.until("a roster", |driver| driver.heard.iter().any(is_it));
            if self.heard.contains(&Heard::Roster(id, users)) {
                return;
            }
            assert!(Instant::now() < deadline, "never {users} users: {:?}", self.heard);
        }
    }
}

#[test]
fn who_was_at_an_instance_that_died_is_gone_after_a_while() {
    let server = RedisServer::start(&[]);
    let [mut one, mut two] = [1, 2].map(|seed| Driver::up(&server, config(seed)));
    one.present("ann", 1);
    one.until_heard(Heard::PresenceKept(1, 1));
    two.present("bob", 1);
    two.until_heard(Heard::PresenceKept(1, 1));
    two.until_users(2);
    drop(one);
    two.until_users(1);
    assert!(!two.heard.contains(&Heard::PresenceLost));
}

#[test]
fn an_instance_that_was_held_up_tells_of_its_users_anew() {
    let server = RedisServer::start(&[]);
    let [mut one, mut two] = [1, 2].map(|seed| Driver::up(&server, config(seed)));
    one.present("ann", 1);
    one.until_heard(Heard::PresenceKept(1, 1));
    two.until_users(1);
    two.until_users(0);
    one.until_heard(Heard::PresenceLost);
    one.present("ann", 2);
    one.until_heard(Heard::PresenceKept(2, 1));
    two.heard.clear();
    two.until_users(1);
}

#[test]
fn a_redis_that_is_started_again_is_told_of_all_anew() {
    let mut server = RedisServer::start(&[]);
    let mut driver = Driver::up(&server, config(1));
    driver.present("ann", 1);
    driver.until_heard(Heard::PresenceKept(1, 1));
    server.kill();
    driver.until_heard(Heard::PublisherDown);
    server.restart();
    driver.until_heard(Heard::PresenceLost);
    driver.until("all links up", |driver| driver.session.stats().trouble().is_none());
    driver.present("ann", 2);
    driver.until_heard(Heard::PresenceKept(2, 1));
    driver.until_users(1);
}
