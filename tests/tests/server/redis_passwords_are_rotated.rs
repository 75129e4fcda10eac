//! Passwords that stand in files: they are read for each connection, so that whoever rotates them restarts no server.

use fanfare_tests::{Client, GROUP, Launch, Redis, Reply, Server, eventually, get};
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// A file with a password, removed with it.
struct PasswordFile(PathBuf);

impl PasswordFile {
    fn new(password: &str) -> PasswordFile {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let file = PasswordFile(std::env::temp_dir().join(format!("fanfare-password-{}-{number}", std::process::id())));
        file.hold(password);
        file
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("a path of UTF-8")
    }

    fn hold(&self, password: &str) {
        // As secrets are mounted: the new one is there at once, and whole.
        let new = self.0.with_extension("new");
        fs::write(&new, format!("{password}\n")).expect("the folder takes files");
        fs::rename(&new, &self.0).expect("the folder takes files");
    }
}

impl Drop for PasswordFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn launch(url: &str) -> Launch {
    Server::launch().ops().flag("--redis-url", url).flag("--redis-backoff-ms-max", 200)
}

fn wait_until_told(server: &Server, reason: &str) -> String {
    eventually(&format!("the operations port says {reason:?}"), || {
        let response = get(server.ops_address(), "/readyz");
        (response.status == 503 && response.text().contains(reason)).then(|| response.text())
    })
}

fn assert_flows(server: &Server, value: &str) {
    let mut member = Client::member(server, "r");
    member.publish("r", value);
    member.expect_message("r", value);
}

/// Over TCP by an address, by a name, and by a Unix socket, since each is opened in another way.
#[test]
fn a_new_password_is_taken_from_its_file() {
    let redis = Redis::launch().password("admin").user("app", "first", "~* &* +@all").unix_socket().start();
    let urls = [
        format!("redis://127.0.0.1:{}", redis.port()),
        format!("redis://localhost:{}", redis.port()),
        format!("unix://{}", redis.unix_socket_path()),
    ];
    let file = PasswordFile::new("first");
    let sign_in = ["--redis-username", "app", "--redis-password-file", file.path()];
    let servers: Vec<Server> = urls.iter().map(|url| launch(url).args(sign_in).start()).collect();
    servers.iter().for_each(|server| assert_flows(server, "1"));

    file.hold("second");
    redis.cli(&["ACL", "SETUSER", "app", "resetpass", ">second"]);
    redis.cli(&["CLIENT", "KILL", "USER", "app"]);
    servers.iter().for_each(Server::wait_until_ready);
    servers.iter().for_each(|server| assert_flows(server, "2"));

    // Redis is ahead of the file.
    redis.cli(&["ACL", "SETUSER", "app", "resetpass", ">third"]);
    redis.cli(&["CLIENT", "KILL", "USER", "app"]);
    servers.iter().for_each(|server| drop(wait_until_told(server, "WRONGPASS")));
    fs::remove_file(file.path()).expect("it is there");
    for server in &servers {
        let told = wait_until_told(server, &format!("cannot read {}", file.path()));
        assert!(!told.contains("second"), "{told}");
    }
    file.hold("third");
    servers.iter().for_each(Server::wait_until_ready);
    servers.iter().for_each(|server| assert_flows(server, "3"));
}

#[test]
fn the_default_user_may_have_its_password_in_a_file() {
    let redis = Redis::launch().password("first").start();
    let file = PasswordFile::new("first");
    let server = launch(&redis.url()).flag("--redis-password-file", file.path()).start();
    assert_flows(&server, "1");
    file.hold("second");
    let mut admin = redis.connect();
    admin.command(&[b"CONFIG", b"SET", b"requirepass", b"second"]);
    admin.command(&[b"CLIENT", b"KILL", b"SKIPME", b"yes", b"USER", b"default"]);
    eventually("both connections are new", || {
        let metrics = server.metrics();
        (metrics.value("fanfare_broker_reconnects_total") >= 2.0).then_some(())
    });
    server.wait_until_ready();
    assert_flows(&server, "2");
}

#[test]
fn sentinels_have_passwords_of_their_own() {
    let redis = Redis::launch().password("of redis").start();
    let sentinel = Redis::launch()
        .sentinel()
        .password("first")
        .directive(&format!("sentinel monitor {GROUP} 127.0.0.1 {} 1", redis.port()))
        .directive(&format!("sentinel auth-pass {GROUP} \"of redis\""))
        .start();
    let [of_redis, of_sentinel] = ["of redis", "first"].map(PasswordFile::new);
    let server = launch(&format!("redis-sentinel://127.0.0.1:{}/{GROUP}", sentinel.port()))
        .flag("--redis-password-file", of_redis.path())
        .flag("--redis-sentinel-password-file", of_sentinel.path())
        .start();
    assert_flows(&server, "1");

    let mut admin = sentinel.connect();
    // A Sentinel has no CONFIG SET requirepass.
    let changed = admin.command(&[b"ACL", b"SETUSER", b"default", b"resetpass", b">second"]);
    assert_eq!(changed, Reply::Status("OK".to_owned()));
    admin.command(&[b"CLIENT", b"KILL", b"SKIPME", b"yes", b"USER", b"default"]);
    redis.cli(&["CLIENT", "KILL", "TYPE", "normal"]);
    redis.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    let told = wait_until_told(&server, "WRONGPASS");
    assert!(told.contains("its Sentinel does not answer"), "{told}");
    of_sentinel.hold("second");
    server.wait_until_ready();
    assert_flows(&server, "2");

    // By the environment, where it cannot be read by others and does not change.
    let server = launch(&format!("redis-sentinel://:of%20redis@127.0.0.1:{}/{GROUP}", sentinel.port()))
        .env("FANFARE_REDIS_SENTINEL_PASSWORD", "second")
        .start();
    assert_flows(&server, "3");
}
