//! Bans in Redis and in a file: they are kept, lifted and removed alike, and a watch notices.

use crate::material::*;
use fanfare_auth::{
    BANS_MAX, Ban, BanError, BanList, BanStore, BanVersion, BanWatch, Banned, FileBans, RedisBans, RedisPlace, Secret,
};
use fanfare_tests::{DEADLINE, Redis, RedisLaunch, eventually};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{env, fs, process, thread};

/// A folder that goes with its test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("fanfare-bans-{}-{number}", process::id()));
        // One of an earlier process may have been left behind.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("bans")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A leftover folder is no reason to hide why a test failed.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Where they are in it, as the name of a key that is in one slot with the other one.
const KEY: &str = "app:\u{1}{bans}";

fn in_redis(redis: &Redis) -> RedisBans {
    RedisBans::new(RedisPlace::server(&Secret::new(redis.url())).unwrap(), "app:")
}

fn user(name: &str) -> Banned {
    Banned::User(name.to_owned())
}

fn ban(what: Banned, until_ms: u64) -> Ban {
    Ban { what, until_ms }
}

/// Sorted, because a store promises no order.
fn listed(store: &dyn BanStore, now_ms: u64) -> Vec<Ban> {
    let list = store.list(now_ms).unwrap();
    assert_eq!(list.unreadable, 0);
    sorted(&list.bans)
}

fn sorted(bans: &[Ban]) -> Vec<Ban> {
    let mut bans = bans.to_vec();
    bans.sort_by_key(|ban| format!("{ban:?}"));
    bans
}

/// What any store does.
fn keeps(store: &dyn BanStore) {
    let name = "a \"b\":\u{1}\n%{user}*\u{1F600}";
    let all = [
        ban(Banned::IssuedBefore { ms: NOW, user: None }, NOW + 2),
        ban(Banned::IssuedBefore { ms: NOW, user: Some(name.to_owned()) }, NOW + 3),
        ban(Banned::Token("t-1".to_owned()), NOW + 4),
        ban(user(name), NOW + 5),
    ];
    assert_eq!(listed(store, NOW), []);
    let mut versions = vec![store.version().unwrap()];
    for one in &all {
        store.ban(one, NOW).unwrap();
        versions.push(store.version().unwrap());
    }
    assert_eq!(listed(store, NOW), all);
    // Each ends at its time, and not before.
    assert_eq!(listed(store, NOW + 3), all[2..]);
    // A ban anew moves its end, either way.
    for until_ms in [NOW + 9, NOW + 6] {
        store.ban(&ban(user(name), until_ms), NOW).unwrap();
        versions.push(store.version().unwrap());
        assert_eq!(listed(store, NOW)[3], ban(user(name), until_ms));
    }
    assert!(store.unban(&all[0].what, NOW).unwrap());
    versions.push(store.version().unwrap());
    assert_eq!(listed(store, NOW)[..2], all[1..3]);
    // Neither what is not there nor what is over can be lifted.
    assert!(!store.unban(&user("nobody"), NOW).unwrap());
    assert!(!store.unban(&all[1].what, NOW + 3).unwrap());
    // What is over was removed by that.
    assert_eq!(listed(store, NOW), [all[2].clone(), ban(user(name), NOW + 6)]);
    let different = versions.iter().enumerate().all(|(at, version)| !versions[..at].contains(version));
    assert!(different, "{versions:?}");
    for nobody in [user(""), user(&"x".repeat(256)), Banned::IssuedBefore { ms: 1, user: Some(String::new()) }] {
        assert_eq!(store.ban(&ban(nobody, NOW + 1), NOW), Err(BanError::BadName));
    }
    // What is over is removed by a ban, too.
    store.ban(&ban(user("forever"), u64::MAX), NOW + 6).unwrap();
    assert_eq!(listed(store, NOW).len(), 1);
    assert_eq!(listed(store, NOW + (1 << 52)).len(), 1);
}

#[test]
fn a_redis_keeps_bans() {
    let redis = Redis::start();
    keeps(&in_redis(&redis));
    assert_eq!(redis.cli(&["--raw", "KEYS", "*"]).lines().count(), 2);
    assert_eq!(redis.cli(&["ZCARD", KEY]), "1");
    assert_eq!(redis.cli(&["EXISTS", &format!("{KEY}:version")]), "1");
}

#[test]
fn a_cluster_keeps_bans() {
    let redis = Redis::launch().directive("cluster-enabled yes").start();
    // One by one, because Redis 6.2 knows no ranges of slots.
    let slots: Vec<String> = (0..16_384).map(|slot| slot.to_string()).collect();
    let slots: Vec<&str> = ["CLUSTER", "ADDSLOTS"].into_iter().chain(slots.iter().map(String::as_str)).collect();
    redis.cli(&slots);
    eventually("the cluster is well", || redis.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok").then_some(()));
    keeps(&in_redis(&redis));
}

#[test]
fn a_file_keeps_bans() {
    let folder = Folder::new();
    let store = FileBans::new(folder.file());
    keeps(&store);
    assert_eq!(fs::read_to_string(folder.file()).unwrap(), "{\"until_ms\":9007199254740991,\"user\":\"forever\"}\n");
    assert!(!folder.0.join("bans.new").exists());
}

#[test]
fn who_writes_a_file_at_once_loses_no_ban() {
    let folder = Folder::new();
    thread::scope(|scope| {
        for writer in 0..4 {
            let store = FileBans::new(folder.file());
            scope.spawn(move || {
                for one in 0..10 {
                    store.ban(&ban(user(&format!("{writer} {one}")), NOW + 1), NOW).unwrap();
                }
            });
        }
    });
    assert_eq!(listed(&FileBans::new(folder.file()), NOW).len(), 40);
}

#[test]
fn what_cannot_be_read_is_counted_and_keeps_no_other_ban_out() {
    let folder = Folder::new();
    fs::write(folder.file(), "{\"user\":\"alice\",\"until_ms\":1700000000001}\r\n\n{\"room\":\"x\"}\nalice\n").unwrap();
    let store = FileBans::new(folder.file());
    let list = BanList { bans: vec![ban(user("alice"), NOW + 1)], unreadable: 2 };
    assert_eq!(store.list(NOW), Ok(list.clone()));
    // Writing would lose what somebody meant.
    assert_eq!(store.ban(&ban(user("bob"), NOW + 1), NOW), Err(BanError::Unreadable));
    assert_eq!(store.unban(&user("alice"), NOW), Err(BanError::Unreadable));
    assert_eq!(store.list(NOW), Ok(list.clone()));

    let redis = Redis::start();
    let store = in_redis(&redis);
    store.ban(&list.bans[0], NOW).unwrap();
    redis.cli(&["ZADD", KEY, "1800000000000", "alice", "1800000000000", "{\"room\":\"x\"}"]);
    assert_eq!(store.list(NOW), Ok(list));
}

#[test]
fn no_more_are_kept_than_every_server_can_hold() {
    let folder = Folder::new();
    let line = |number: usize| format!("{{\"token\":\"{number}\",\"until_ms\":1700000000001}}\n");
    let full: String = (0..BANS_MAX).map(line).collect();
    fs::write(folder.file(), &full).unwrap();
    let file = FileBans::new(folder.file());
    let redis = Redis::start();
    let script =
        "for i = 0, ARGV[1] - 1 do redis.call('ZADD', KEYS[1], 1700000000001, '{\"token\":\"' .. i .. '\"}') end";
    redis.cli(&["EVAL", script, "1", KEY, &BANS_MAX.to_string()]);
    let stores: [&dyn BanStore; 2] = [&file, &in_redis(&redis)];
    for store in stores {
        assert_eq!(store.list(NOW).unwrap().bans.len(), BANS_MAX);
        assert_eq!(store.ban(&ban(user("alice"), NOW + 1), NOW), Err(BanError::TooMany));
        store.ban(&ban(Banned::Token("7".to_owned()), NOW + 1), NOW).unwrap();
    }
    fs::write(folder.file(), full + &line(BANS_MAX)).unwrap();
    redis.cli(&["ZADD", KEY, "1700000000001", "{\"token\":\"one more\"}"]);
    for store in stores {
        assert_eq!(store.list(NOW), Err(BanError::TooMany));
        // Those that are over make room.
        store.ban(&ban(user("alice"), NOW + 9), NOW + 1).unwrap();
        assert_eq!(listed(store, NOW), [ban(user("alice"), NOW + 9)]);
    }
}

/// A watch and what it hands over.
struct Watched {
    watch: BanWatch,
    lists: Receiver<Vec<Ban>>,
    /// For how long they are not seen.
    unseen: Receiver<Duration>,
    clock: Arc<AtomicU64>,
}

impl Watched {
    fn new(store: impl BanStore + 'static) -> Self {
        Self::of(Arc::new(store))
    }

    fn of(store: Arc<dyn BanStore>) -> Self {
        let (sender, lists) = mpsc::channel();
        let (tell, unseen) = mpsc::channel();
        let clock = Arc::new(AtomicU64::new(NOW));
        let now = clock.clone();
        let watch = BanWatch::start(
            store,
            Duration::from_millis(10),
            move || now.load(Ordering::SeqCst),
            move |bans: &[Ban]| drop(sender.send(bans.to_vec())),
            move |time| {
                let _ = tell.send(time);
            },
        );
        Self { watch: watch.unwrap(), lists, unseen, clock }
    }

    fn next(&self) -> Vec<Ban> {
        sorted(&self.lists.recv_timeout(DEADLINE).expect("a list"))
    }

    fn trouble(&self, what: &str) {
        eventually(what, || self.watch.trouble()?.contains(what).then_some(()));
    }
}

/// How any store is watched.
fn is_watched(watched: &Watched, store: &dyn BanStore) {
    assert_eq!(watched.next(), []);
    eventually("that is known", || watched.watch.is_loaded().then_some(()));
    let (alice, bob) = (ban(user("alice"), NOW + 5), ban(user("bob"), NOW + 9));
    store.ban(&bob, NOW).unwrap();
    assert_eq!(watched.next(), std::slice::from_ref(&bob));
    store.ban(&alice, NOW).unwrap();
    assert_eq!(watched.next(), [alice.clone(), bob.clone()]);
    store.unban(&bob.what, NOW).unwrap();
    assert_eq!(watched.next(), [alice]);
    // Those that are over are not handed over.
    watched.clock.store(NOW + 5, Ordering::SeqCst);
    store.unban(&bob.what, NOW).unwrap();
    assert_eq!(watched.next(), []);
    assert!(watched.lists.try_recv().is_err(), "without a change");
    assert_eq!(watched.watch.trouble(), None);
}

#[test]
fn a_file_is_watched() {
    let folder = Folder::new();
    is_watched(&Watched::new(FileBans::new(folder.file())), &FileBans::new(folder.file()));
}

#[test]
fn a_redis_is_watched_and_its_outage_lifts_no_ban() {
    let mut redis = RedisLaunch::default().start();
    let watched = Watched::new(in_redis(&redis));
    let store = in_redis(&redis);
    is_watched(&watched, &store);
    let carol = ban(user("carol"), NOW + 99);
    store.ban(&carol, NOW).unwrap();
    assert_eq!(watched.next(), std::slice::from_ref(&carol));
    redis.kill();
    watched.trouble("refused");
    assert!(watched.watch.is_loaded());
    assert!(watched.lists.try_recv().is_err(), "an outage hands over nothing");
    // It comes back without what it had, as it keeps nothing on disk.
    redis.start_again();
    assert_eq!(watched.next(), std::slice::from_ref(&carol));
    watched.trouble("has lost 1 bans");
    // Another ban lifts none of the lost ones.
    let dave = ban(user("dave"), NOW + 50);
    store.ban(&dave, NOW).unwrap();
    assert_eq!(watched.next(), [carol.clone(), dave.clone()]);
    watched.trouble("has lost 1 bans");
    // What the store has again, it can lift.
    store.ban(&carol, NOW).unwrap();
    assert_eq!(watched.next(), [carol.clone(), dave.clone()]);
    eventually("that is over", || watched.watch.trouble().is_none().then_some(()));
    store.unban(&carol.what, NOW).unwrap();
    assert_eq!(watched.next(), [dave]);
}

#[test]
fn what_a_redis_evicts_or_has_forgotten_stays_in_force_until_its_end() {
    let redis = Redis::start();
    let (watched, store) = (Watched::new(in_redis(&redis)), in_redis(&redis));
    assert_eq!(watched.next(), []);
    let all = [ban(user("alice"), NOW + 5), ban(user("bob"), NOW + 9), ban(user("carol"), NOW + 9)];
    for (at, one) in all.iter().enumerate() {
        store.ban(one, NOW).unwrap();
        assert_eq!(watched.next(), all[..=at]);
    }
    // The bans alone, without a change that would tell.
    redis.cli(&["DEL", KEY]);
    assert_eq!(watched.next(), all);
    watched.trouble("has lost 3 bans");
    watched.clock.store(NOW + 5, Ordering::SeqCst);
    watched.trouble("has lost 2 bans");
    // An older state of both, as of a copy that was restored or a replica that lagged.
    let dave = ban(user("dave"), NOW + 99);
    for _ in 0..3 {
        store.ban(&dave, NOW + 5).unwrap();
    }
    assert!(watched.next().contains(&dave));
    redis.cli(&["SET", &format!("{KEY}:version"), "1"]);
    redis.cli(&["DEL", KEY]);
    eventually("dave is among them", || watched.watch.trouble()?.contains("has lost 3 bans").then_some(()));
    watched.clock.store(NOW + 99, Ordering::SeqCst);
    eventually("all are over", || watched.watch.trouble().is_none().then_some(()));
}

#[test]
fn a_file_that_is_removed_lifts_no_ban() {
    let folder = Folder::new();
    let (watched, store) = (Watched::new(FileBans::new(folder.file())), FileBans::new(folder.file()));
    assert_eq!(watched.next(), []);
    let eve = ban(user("eve"), NOW + 9);
    store.ban(&eve, NOW).unwrap();
    assert_eq!(watched.next(), std::slice::from_ref(&eve));
    fs::remove_file(folder.file()).unwrap();
    assert_eq!(watched.next(), std::slice::from_ref(&eve));
    watched.trouble("has lost 1 bans");
}

#[test]
fn until_the_bans_have_been_read_nobody_knows_them() {
    let redis = Redis::launch().absent();
    let watched = Watched::new(in_redis(&redis));
    watched.trouble("refused");
    assert!(!watched.watch.is_loaded());
    let mut redis = redis;
    redis.start_again();
    assert_eq!(watched.next(), []);
    eventually("that is known", || watched.watch.is_loaded().then_some(()));

    let folder = Folder::new();
    fs::create_dir(folder.file()).unwrap();
    let watched = Watched::new(FileBans::new(folder.file()));
    watched.trouble("directory");
    assert!(!watched.watch.is_loaded());
    drop(watched);
}

/// A store of one version, which is read or is not, and counts how often that is tried.
#[derive(Default)]
struct Unchanged {
    outage: Mutex<Option<BanError>>,
    looks: AtomicUsize,
    reads: AtomicUsize,
    list: Mutex<Option<BanError>>,
}

/// The part of a store that a watch needs.
impl BanStore for Unchanged {
    fn version(&self) -> Result<BanVersion, BanError> {
        self.looks.fetch_add(1, Ordering::SeqCst);
        self.outage.lock().unwrap().clone().map_or(Ok(BanVersion::Text("1".to_owned())), Err)
    }

    fn list(&self, _: u64) -> Result<BanList, BanError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.list.lock().unwrap().clone().map_or(Ok(BanList::default()), Err)
    }

    fn ban(&self, _: &Ban, _: u64) -> Result<(), BanError> {
        unreachable!("a watch bans nobody")
    }

    fn unban(&self, _: &Banned, _: u64) -> Result<bool, BanError> {
        unreachable!("a watch bans nobody")
    }
}

impl Unchanged {
    /// Waits for this many looks more.
    fn looked_at(&self, times: usize) {
        let before = self.looks.load(Ordering::SeqCst);
        eventually("it is looked at", || (self.looks.load(Ordering::SeqCst) >= before + times).then_some(()));
    }
}

#[test]
fn too_many_are_told_and_not_read_again_until_they_change() {
    let store = Arc::new(Unchanged { list: Mutex::new(Some(BanError::TooMany)), ..Unchanged::default() });
    let watched = Watched::of(store.clone());
    watched.trouble("more than 100000");
    store.looked_at(3);
    assert_eq!((store.reads.load(Ordering::SeqCst), watched.watch.is_loaded()), (1, false));
}

#[test]
fn after_an_outage_they_are_read_again_although_the_version_is_the_same() {
    let store = Arc::<Unchanged>::default();
    let watched = Watched::of(store.clone());
    assert_eq!(watched.next(), []);
    store.looked_at(3);
    assert_eq!(store.reads.load(Ordering::SeqCst), 1);
    *store.outage.lock().unwrap() = Some(BanError::Unavailable("as this test wants".to_owned()));
    watched.trouble("as this test wants");
    watched.trouble("not seen since 2023-11-14T22:13:20Z");
    let unseen = || watched.unseen.recv_timeout(DEADLINE).expect("it is told");
    let first = unseen();
    eventually("it grows", || (unseen() > first).then_some(()));
    assert!(watched.watch.unseen_for() > first);
    *store.outage.lock().unwrap() = None;
    assert_eq!(watched.next(), []);
    eventually("they are seen", || unseen().is_zero().then_some(()));
    // Reading may fail where the version did not.
    *store.list.lock().unwrap() = Some(BanError::Unavailable("half of it".to_owned()));
    *store.outage.lock().unwrap() = Some(BanError::Unavailable("again".to_owned()));
    watched.trouble("again");
    *store.outage.lock().unwrap() = None;
    watched.trouble("half of it");
    *store.list.lock().unwrap() = None;
    assert_eq!(watched.next(), []);
}
