//! Bans and sessions in the master that Sentinels name: found, left when it is another, and signed in to with passwords that change.

use crate::material::NOW;
use fanfare_auth::{
    Ban, BanError, BanStore, Banned, RedisBans, RedisPlace, RedisSessions, Secret, SessionStore, SignIn,
};
use fanfare_tests::{GROUP, Group, Redis, eventually};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::thread;

fn watched(sentinels: &[Redis], group: &str, at_sentinels: SignIn) -> RedisPlace {
    let hosts = sentinels.iter().map(|sentinel| ("127.0.0.1".to_owned(), sentinel.port()));
    RedisPlace::behind_sentinels(hosts, group, 0, at_sentinels)
}

fn place(group: &Group) -> RedisPlace {
    watched(&group.sentinels, GROUP, SignIn::default())
}

fn eve() -> Ban {
    Ban { what: Banned::User("eve".to_owned()), until_ms: NOW + 99 }
}

fn text(store: &RedisSessions) -> Option<String> {
    let session = store.session(&Secret::new("sess:a")).ok()??;
    Some(String::from_utf8(session.text).unwrap())
}

/// A file with a password, removed with it.
struct PasswordFile(PathBuf);

impl PasswordFile {
    fn new(name: &str, password: &str) -> PasswordFile {
        let path = std::env::temp_dir().join(format!("fanfare-auth-{}-{name}", std::process::id()));
        let file = PasswordFile(path);
        file.hold(password);
        file
    }

    fn hold(&self, password: &str) {
        fs::write(&self.0, format!("{password}\n")).unwrap();
    }

    fn sign_in(&self, username: Option<&str>) -> SignIn {
        SignIn { username: username.map(str::to_owned), password: None, password_file: Some(self.0.clone()) }
    }
}

impl Drop for PasswordFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn the_master_is_asked_and_the_next_one_after_a_failover() {
    let group = Group::start(1, |launch| launch);
    let (bans, sessions) = (RedisBans::new(place(&group), "app:"), RedisSessions::new(place(&group)));
    bans.ban(&eve(), NOW).unwrap();
    group.servers[0].cli(&["SET", "sess:a", "A"]);
    assert_eq!(text(&sessions).as_deref(), Some("A"));
    let master = &group.servers[group.fail_over()];
    eventually("both ask the new master", || {
        let (list, text) = (bans.list(NOW).ok()?, text(&sessions)?);
        let clients = master.clients();
        let asked = ["zrangebyscore", "pttl"]
            .map(|command| clients.iter().any(|client| client.contains(&format!("cmd={command}"))));
        (list.bans == [eve()] && text == "A" && asked == [true, true]).then_some(())
    });
    assert_eq!(bans.unban(&eve().what, NOW), Ok(true));
}

/// Its connections stay, and it answers every read.
#[test]
fn a_master_that_is_demoted_by_hand_is_left() {
    let group = Group::start(1, |launch| launch);
    let sessions = RedisSessions::new(place(&group));
    let [old, new] = [&group.servers[0], &group.servers[1]];
    old.cli(&["SET", "sess:a", "A"]);
    assert_eq!(text(&sessions).as_deref(), Some("A"));
    group.sentinels.iter().for_each(Redis::pause);
    new.cli(&["REPLICAOF", "NO", "ONE"]);
    old.cli(&["REPLICAOF", "127.0.0.1", &new.port().to_string()]);
    eventually("a replica is not asked", || text(&sessions).is_none().then_some(()));
    new.cli(&["REPLICAOF", "127.0.0.1", &old.port().to_string()]);
    old.cli(&["REPLICAOF", "NO", "ONE"]);
    group.sentinels.iter().for_each(Redis::resume);
    eventually("the master is", || text(&sessions));
}

#[test]
fn what_is_connected_needs_no_sentinel_and_a_new_connection_does() {
    let mut group = Group::start(0, |launch| launch);
    let bans = RedisBans::new(place(&group), "app:");
    bans.ban(&eve(), NOW).unwrap();
    group.sentinels.iter_mut().for_each(Redis::kill);
    assert_eq!(bans.list(NOW).unwrap().bans, [eve()]);
    group.servers[0].cli(&["CLIENT", "KILL", "TYPE", "normal"]);
    let error = bans.list(NOW).unwrap_err();
    assert!(matches!(&error, BanError::Unavailable(why) if why.contains("no Sentinel answers")), "{error:?}");
    group.sentinels.iter_mut().for_each(Redis::start_again);
    eventually("the Sentinels say it again", || bans.list(NOW).ok());
}

/// What a Sentinel says that was cut off from the others before they failed over, to whoever connects.
fn stale_sentinel(master: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let host = "$9\r\n127.0.0.1\r\n";
    // To `SENTINEL MASTER`, and to `SENTINEL GET-MASTER-ADDR-BY-NAME`.
    let setup = "*2\r\n$12\r\nconfig-epoch\r\n$1\r\n0\r\n";
    let said = format!("{setup}*2\r\n{host}${}\r\n{master}\r\n", master.to_string().len());
    thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            let _ = socket.write_all(said.as_bytes());
            let _ = socket.read_to_end(&mut Vec::new());
        }
    });
    port
}

#[test]
fn of_sentinels_that_disagree_the_one_of_the_latest_configuration_counts() {
    let (group, old) = (Group::start(1, |launch| launch), Redis::start());
    let master = &group.servers[group.fail_over()];
    master.cli(&["SET", "sess:a", "A"]);
    old.cli(&["SET", "sess:a", "old"]);
    let ports = [stale_sentinel(old.port()), group.sentinels[0].port(), group.sentinels[1].port()];
    let hosts = ports.map(|port| ("127.0.0.1".to_owned(), port));
    let sessions = RedisSessions::new(RedisPlace::behind_sentinels(hosts, GROUP, 0, SignIn::default()));
    assert_eq!(text(&sessions).as_deref(), Some("A"));
}

#[test]
fn a_sentinel_that_hangs_is_passed_over() {
    let group = Group::start(0, |launch| launch);
    group.servers[0].cli(&["SET", "sess:a", "A"]);
    group.sentinels[0].pause();
    assert_eq!(text(&RedisSessions::new(place(&group))).as_deref(), Some("A"));
    group.sentinels[0].resume();
}

#[test]
fn a_group_that_sentinels_do_not_know_is_told() {
    let group = Group::start(0, |launch| launch);
    let bans = RedisBans::new(watched(&group.sentinels, "another", SignIn::default()), "app:");
    let why = "the Sentinels know no master called another".to_owned();
    assert_eq!(bans.version(), Err(BanError::Unavailable(why)));
}

#[test]
fn passwords_in_files_are_read_for_each_connection() {
    let redis = Redis::launch().user("reader", "first", "~* +@all").start();
    let sentinel = Redis::launch()
        .sentinel()
        .password("asked")
        .directive(&format!("sentinel monitor {GROUP} 127.0.0.1 {} 1", redis.port()))
        .start();
    redis.cli(&["SET", "sess:a", "A"]);
    let (of_redis, of_sentinel) = (PasswordFile::new("redis", "first"), PasswordFile::new("sentinel", "wrong"));
    let place = watched(std::slice::from_ref(&sentinel), GROUP, of_sentinel.sign_in(None));
    let sessions = RedisSessions::new(place.sign_in(of_redis.sign_in(Some("reader"))));
    assert_eq!(text(&sessions), None);
    assert!(sessions.trouble().is_some_and(|why| why.contains("WRONGPASS")), "{:?}", sessions.trouble());
    of_sentinel.hold("asked");
    assert_eq!(text(&sessions).as_deref(), Some("A"));
    redis.cli(&["ACL", "SETUSER", "reader", "resetpass", ">second"]);
    redis.cli(&["CLIENT", "KILL", "USER", "reader"]);
    assert_eq!(text(&sessions), None, "the file has yet to follow");
    of_redis.hold("second");
    assert_eq!(text(&sessions).as_deref(), Some("A"));
    redis.cli(&["CLIENT", "KILL", "USER", "reader"]);
    drop(of_redis);
    assert_eq!(text(&sessions), None);
    let trouble = sessions.trouble().unwrap();
    assert!(trouble.contains("cannot read") && trouble.contains("fanfare-auth-"), "{trouble}");
    assert!(!format!("{trouble} {sessions:?}").contains("second"), "{trouble}");
}
