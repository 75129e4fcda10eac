//! Bans and sessions in a Cluster: each at the master of its slot, wherever that is, signed in to as at any Redis.

use std::collections::HashSet;
use std::fs;
use std::net::{TcpListener, TcpStream};

use crate::material::NOW;
use fanfare_auth::{
    Ban, BanError, BanStore, BanVersion, Banned, RedisBans, RedisPlace, RedisSessions, RedisTls, Secret, SessionStore,
    SignIn,
};
use fanfare_tests::{Authority, Redis, RedisLaunch, eventually};

/// Three masters, and so many replicas of each, which know each other.
fn cluster(replicas: usize, configure: impl Fn(RedisLaunch) -> RedisLaunch) -> Vec<Redis> {
    let launch = || {
        // Elsewhere the port of the bus is 10,000 above the other one, which may be none, or somebody's.
        let bus = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let launch = Redis::launch().directive(&format!("cluster-enabled yes\ncluster-port {bus}"));
        configure(launch.directive("cluster-node-timeout 1000\ncluster-replica-validity-factor 0")).start()
    };
    let nodes: Vec<Redis> = (0..3 * (1 + replicas)).map(|_| launch()).collect();
    let addresses: Vec<String> = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
    let (replicas, mut create) = (replicas.to_string(), vec!["--cluster", "create"]);
    create.extend(addresses.iter().map(String::as_str));
    create.extend(["--cluster-replicas", &replicas, "--cluster-yes"]);
    nodes[0].cli(&create);
    eventually("all nodes agree", || {
        let is_ok = |node: &Redis| {
            let (info, links) = (node.cli(&["CLUSTER", "INFO"]), node.cli(&["INFO", "replication"]));
            info.contains("cluster_state:ok") && (links.contains("role:master") || links.contains("link_status:up"))
        };
        nodes.iter().all(is_ok).then_some(())
    });
    nodes
}

fn place(nodes: &[Redis]) -> RedisPlace {
    RedisPlace::in_cluster(nodes.iter().map(|node| ("127.0.0.1".to_owned(), node.port())))
}

/// Which of the nodes has the slot of this key, by what the first that answers says.
fn master_of(nodes: &[Redis], key: &str) -> usize {
    let asked = nodes.iter().find(|node| TcpStream::connect(("127.0.0.1", node.port())).is_ok()).unwrap();
    let slot: u16 = asked.cli(&["CLUSTER", "KEYSLOT", key]).parse().unwrap();
    let said = asked.cli(&["CLUSTER", "SLOTS"]);
    let lines: Vec<&str> = said.lines().collect();
    let range = lines.windows(4).find(|lines| {
        let [Ok(first), Ok(last)] = [lines[0], lines[1]].map(str::parse::<u16>) else { return false };
        lines[2] == "127.0.0.1" && (first..=last).contains(&slot)
    });
    let port: u16 = range.unwrap()[3].parse().unwrap();
    nodes.iter().position(|node| node.port() == port).unwrap()
}

fn store(nodes: &[Redis], key: &str, text: &str) {
    nodes[master_of(nodes, key)].cli(&["SET", key, text]);
}

fn text(sessions: &RedisSessions, key: &str) -> Result<Option<String>, String> {
    let session = sessions.session(&Secret::new(key)).map_err(|_| sessions.trouble().unwrap_or_default())?;
    Ok(session.map(|session| String::from_utf8(session.text).unwrap()))
}

fn eve() -> Ban {
    Ban { what: Banned::User("eve".to_owned()), until_ms: NOW + 99 }
}

const KEYS: [&str; 6] = ["sess:a", "sess:b", "sess:c", "sess:d", "sess:e", "sess:f"];

#[test]
fn each_key_is_asked_of_the_master_of_its_slot() {
    let nodes = cluster(0, |launch| launch);
    for key in KEYS {
        store(&nodes, key, key);
    }
    let masters: HashSet<usize> = KEYS.iter().map(|key| master_of(&nodes, key)).collect();
    assert_eq!(masters.len(), 3, "the keys are at all of them");
    // One of them is known, and leads to the others.
    let sessions = RedisSessions::new(place(&nodes[..1]));
    for key in KEYS.iter().chain(&KEYS) {
        assert_eq!(text(&sessions, key).unwrap().as_deref(), Some(*key));
    }
    assert_eq!(text(&sessions, "sess:none"), Ok(None));

    let bans = RedisBans::new(place(&nodes[..1]), "app:");
    assert_eq!(bans.version(), Ok(BanVersion::Unwritten));
    bans.ban(&eve(), NOW).unwrap();
    assert_eq!(bans.list(NOW).unwrap().bans, [eve()]);
    assert_eq!(bans.version(), Ok(BanVersion::Counted { changes: 1, entries: 1 }));
    assert_eq!(bans.unban(&eve().what, NOW), Ok(true));
    assert_eq!(bans.unban(&eve().what, NOW), Ok(false));
}

#[test]
fn a_master_that_is_killed_is_left_for_the_replica_that_takes_over() {
    let mut nodes = cluster(1, |launch| launch);
    let (bans, sessions) = (RedisBans::new(place(&nodes), "app:"), RedisSessions::new(place(&nodes)));
    bans.ban(&eve(), NOW).unwrap();
    store(&nodes, "sess:a", "A");
    assert_eq!(text(&sessions, "sess:a").unwrap().as_deref(), Some("A"));
    for key in ["app:\u{1}{bans}", "sess:a"] {
        let master = master_of(&nodes, key);
        nodes[master].cli(&["WAIT", "1", "1000"]);
        nodes[master].kill();
        eventually("the replica is asked", || (bans.list(NOW).ok()?.bans == [eve()]).then_some(()));
        eventually("of sessions, too", || text(&sessions, "sess:a").ok()?.filter(|text| text == "A"));
        assert_eq!(bans.unban(&Banned::User("nobody".to_owned()), NOW), Ok(false), "it takes changes");
        nodes[master].start_again();
        eventually("the old one follows", || {
            nodes[master].cli(&["INFO", "replication"]).contains("link_status:up").then_some(())
        });
    }
}

/// As `redis-cli --cluster reshard` does it, with a halt at each step.
#[test]
fn of_a_slot_that_moves_nothing_is_missing_at_any_step() {
    let nodes = cluster(0, |launch| launch);
    let (bans, sessions) = (RedisBans::new(place(&nodes), "app:"), RedisSessions::new(place(&nodes)));
    // The same slot as that of the bans.
    let [list, version, session] = ["app:\u{1}{bans}", "app:\u{1}{bans}:version", "sess:{bans}"];
    bans.ban(&eve(), NOW).unwrap();
    store(&nodes, session, "S");
    let [source, target] = [master_of(&nodes, list), (master_of(&nodes, list) + 1) % 3].map(|node| &nodes[node]);
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
                    is_parted && matches!(&error, BanError::Unavailable(why) if why.contains("TRYAGAIN")),
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
    let nodes = cluster(0, |launch| launch.password("first"));
    let file = std::env::temp_dir().join(format!("fanfare-auth-{}-cluster", std::process::id()));
    fs::write(&file, "wrong\n").unwrap();
    let sign_in = SignIn { password_file: Some(file.clone()), ..SignIn::default() };
    let bans = RedisBans::new(place(&nodes).sign_in(sign_in), "app:");
    let error = bans.list(NOW).unwrap_err();
    assert!(matches!(&error, BanError::Unavailable(why) if why.contains("WRONGPASS")), "{error:?}");
    fs::write(&file, "first\n").unwrap();
    bans.ban(&eve(), NOW).unwrap();
    fs::remove_file(&file).unwrap();
    assert_eq!(bans.list(NOW).unwrap().bans, [eve()], "what is connected stays so");
}

#[test]
fn nodes_that_speak_tls_are_spoken_to_by_it() {
    let authority = Authority::new();
    authority.write("redis", &["redis.example"]);
    let nodes = cluster(0, |launch| launch.tls(&authority, "redis").directive("tls-auth-clients no\ntls-cluster yes"));
    let ports = nodes.iter().map(|node| {
        let url = node.tls_url();
        ("127.0.0.1".to_owned(), url.rsplit_once(':').unwrap().1.parse().unwrap())
    });
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
    let mut redis = Redis::start();
    let bans = RedisBans::new(place(std::slice::from_ref(&redis)), "app:");
    let why = |error: BanError| format!("{error:?}");
    let error = why(bans.list(NOW).unwrap_err());
    assert!(error.contains("no node of the Cluster answers"), "{error}");
    redis.kill();
    let error = why(bans.list(NOW).unwrap_err());
    assert!(error.contains("refused"), "{error}");
}
