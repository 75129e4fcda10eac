//! Bans and sessions in a Cluster: each at the master of its slot, wherever that is, signed in to as at any Redis.

use std::collections::HashSet;
use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::material::NOW;
use fanfare_auth::{
    Ban, BanError, BanStore, BanVersion, Banned, RedisBans, RedisPlace, RedisSessions, RedisTls, Secret, SessionStore,
    SignIn,
};
use fanfare_tests::{Authority, Cluster, Redis, eventually_within};
use std::time::Duration;

fn place(cluster: &Cluster) -> RedisPlace {
    RedisPlace::in_cluster(cluster.nodes.iter().map(host))
}

fn host(node: &Redis) -> (String, u16) {
    ("127.0.0.1".to_owned(), node.port())
}

fn slot_of(cluster: &Cluster, key: &str) -> u16 {
    let answers = &cluster.nodes[0];
    answers.cli(&["CLUSTER", "KEYSLOT", key]).parse().unwrap()
}

fn master_of(cluster: &Cluster, key: &str) -> usize {
    cluster.master_of(slot_of(cluster, key))
}

fn store(cluster: &Cluster, key: &str, text: &str) {
    cluster.nodes[master_of(cluster, key)].cli(&["SET", key, text]);
}

fn text(sessions: &RedisSessions, key: &str) -> Result<Option<String>, String> {
    let session = sessions.session(&Secret::new(key)).map_err(|_| sessions.trouble().unwrap_or_default())?;
    Ok(session.map(|session| String::from_utf8(session.text).unwrap()))
}

fn eve() -> Ban {
    Ban { what: Banned::User("eve".to_owned()), until_ms: NOW + 99 }
}

/// The others have to notice, and a replica to be elected.
const FAILOVER_TIME_MAX: Duration = Duration::from_secs(60);

const KEYS: [&str; 6] = ["sess:a", "sess:b", "sess:c", "sess:d", "sess:e", "sess:f"];

/// Six nodes of each test at once are too many for two processors: failovers find no majority in time.
fn one_at_a_time() -> MutexGuard<'static, ()> {
    static CLUSTERS: Mutex<()> = Mutex::new(());
    // One that fails is no reason for the next not to run.
    CLUSTERS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn each_key_is_asked_of_the_master_of_its_slot() {
    let _one_at_a_time = one_at_a_time();
    let cluster = Cluster::start(3, 0, |launch| launch);
    for key in KEYS {
        store(&cluster, key, key);
    }
    let masters: HashSet<usize> = KEYS.iter().map(|key| master_of(&cluster, key)).collect();
    assert_eq!(masters.len(), 3, "the keys are at all of them");
    // One of them is known, and leads to the others.
    let sessions = RedisSessions::new(RedisPlace::in_cluster([host(&cluster.nodes[0])]));
    for key in KEYS.iter().chain(&KEYS) {
        assert_eq!(text(&sessions, key).unwrap().as_deref(), Some(*key));
    }
    assert_eq!(text(&sessions, "sess:none"), Ok(None));

    let bans = RedisBans::new(RedisPlace::in_cluster([host(&cluster.nodes[0])]), "app:");
    assert_eq!(bans.version(), Ok(BanVersion::Unwritten));
    bans.ban(&eve(), NOW).unwrap();
    assert_eq!(bans.list(NOW).unwrap().bans, [eve()]);
    assert_eq!(bans.version(), Ok(BanVersion::Counted { changes: 1, entries: 1 }));
    assert_eq!(bans.unban(&eve().what, NOW), Ok(true));
    assert_eq!(bans.unban(&eve().what, NOW), Ok(false));
}

#[test]
fn a_master_that_is_killed_is_left_for_the_replica_that_takes_over() {
    let _one_at_a_time = one_at_a_time();
    let mut cluster = Cluster::start(3, 1, |launch| launch);
    let (bans, sessions) = (RedisBans::new(place(&cluster), "app:"), RedisSessions::new(place(&cluster)));
    bans.ban(&eve(), NOW).unwrap();
    store(&cluster, "sess:a", "A");
    assert_eq!(text(&sessions, "sess:a").unwrap().as_deref(), Some("A"));
    for key in ["app:\u{1}{bans}", "sess:a"] {
        let master = master_of(&cluster, key);
        cluster.nodes[master].cli(&["WAIT", "1", "1000"]);
        cluster.kill(master);
        eventually_within(FAILOVER_TIME_MAX, "the replica is asked", || {
            (bans.list(NOW).ok()?.bans == [eve()]).then_some(())
        });
        eventually_within(FAILOVER_TIME_MAX, "of sessions, too", || {
            text(&sessions, "sess:a").ok()?.filter(|text| text == "A")
        });
        assert_eq!(bans.unban(&Banned::User("nobody".to_owned()), NOW), Ok(false), "it takes changes");
        cluster.nodes[master].start_again();
        cluster.wait_until_whole();
    }
}

/// As `redis-cli --cluster reshard` does it, with a halt at each step.
#[test]
fn of_a_slot_that_moves_nothing_is_missing_at_any_step() {
    let _one_at_a_time = one_at_a_time();
    let cluster = Cluster::start(3, 0, |launch| launch);
    let (bans, sessions) = (RedisBans::new(place(&cluster), "app:"), RedisSessions::new(place(&cluster)));
    // The same slot as that of the bans.
    let [list, version, session] = ["app:\u{1}{bans}", "app:\u{1}{bans}:version", "sess:{bans}"];
    bans.ban(&eve(), NOW).unwrap();
    store(&cluster, session, "S");
    let [source, target] =
        [master_of(&cluster, list), (master_of(&cluster, list) + 1) % 3].map(|node| &cluster.nodes[node]);
    let slot = source.cli(&["CLUSTER", "KEYSLOT", list]);
    let [source_id, target_id] = [source, target].map(|node| node.cli(&["CLUSTER", "MYID"]));
    let set_slot = |node: &Redis, args: &[&str]| {
        node.cli(&[&["CLUSTER", "SETSLOT", &slot], args].concat());
    };
    let port = target.port().to_string();
    let migrate = |key: &str| source.cli(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]);
    let check = |is_parted: bool| {
        assert_eq!(text(&sessions, session).unwrap().as_deref(), Some("S"));
        assert_eq!(bans.list(NOW).unwrap().bans, [eve()]);
        // Both keys, of which one is here and one there: not answered rather than answered by half.
        match bans.version() {
            Ok(version) => assert_eq!((version, is_parted), (BanVersion::Counted { changes: 1, entries: 1 }, false)),
            Err(error) => {
                assert!(
                    is_parted && matches!(&error, BanError::Unavailable(why) if why.contains("on their way")),
                    "{error:?}"
                );
            }
        }
    };
    check(false);
    set_slot(target, &["IMPORTING", &source_id]);
    set_slot(source, &["MIGRATING", &target_id]);
    check(false);
    migrate(session);
    check(false);
    migrate(version);
    check(true);
    migrate(list);
    check(false);
    set_slot(target, &["NODE", &target_id]);
    check(false);
    set_slot(source, &["NODE", &target_id]);
    check(false);
    assert_eq!(bans.unban(&eve().what, NOW), Ok(true));
}

#[test]
fn nodes_are_signed_in_to_with_the_password_as_it_is_now() {
    let _one_at_a_time = one_at_a_time();
    let cluster = Cluster::start(3, 0, |launch| launch.password("first"));
    let file = std::env::temp_dir().join(format!("fanfare-auth-{}-cluster", std::process::id()));
    fs::write(&file, "wrong\n").unwrap();
    let sign_in = SignIn { password_file: Some(file.clone()), ..SignIn::default() };
    let bans = RedisBans::new(place(&cluster).sign_in(sign_in), "app:");
    let error = bans.list(NOW).unwrap_err();
    assert!(matches!(&error, BanError::Unavailable(why) if why.contains("WRONGPASS")), "{error:?}");
    fs::write(&file, "first\n").unwrap();
    bans.ban(&eve(), NOW).unwrap();
    fs::remove_file(&file).unwrap();
    assert_eq!(bans.list(NOW).unwrap().bans, [eve()], "what is connected stays so");
}

#[test]
fn nodes_that_speak_tls_are_spoken_to_by_it() {
    let _one_at_a_time = one_at_a_time();
    let authority = Authority::new();
    authority.write("redis", &["redis.example"]);
    let cluster = Cluster::start(3, 0, |launch| {
        launch.tls(&authority, "redis").directive("tls-auth-clients no\ntls-cluster yes")
    });
    let ports = cluster.nodes.iter().map(|node| ("127.0.0.1".to_owned(), node.tls_port().unwrap()));
    let ports: Vec<(String, u16)> = ports.collect();
    let tls = |server_name: Option<&str>| RedisTls {
        ca_file: Some(authority.ca_file()),
        server_name: server_name.map(str::to_owned),
        ..RedisTls::default()
    };
    let bans = |tls: RedisTls| RedisBans::new(RedisPlace::in_cluster(ports.clone()).tls(tls), "app:");
    bans(tls(Some("redis.example"))).ban(&eve(), NOW).unwrap();
    assert_eq!(bans(tls(Some("redis.example"))).list(NOW).unwrap().bans, [eve()]);
    let error = bans(tls(None)).list(NOW).unwrap_err();
    assert!(matches!(&error, BanError::Unavailable(why) if why.contains("not valid for name")), "{error:?}");
}

#[test]
fn what_is_no_cluster_says_so_and_nodes_that_are_away_are_told() {
    let _one_at_a_time = one_at_a_time();
    let mut redis = Redis::start();
    let bans = RedisBans::new(RedisPlace::in_cluster([host(&redis)]), "app:");
    let why = |error: BanError| format!("{error:?}");
    let error = why(bans.list(NOW).unwrap_err());
    assert!(error.contains("no node of the Cluster answers"), "{error}");
    redis.kill();
    let error = why(bans.list(NOW).unwrap_err());
    assert!(error.contains("refused"), "{error}");
}
