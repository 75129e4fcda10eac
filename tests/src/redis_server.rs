//! One real `redis-server` per test that wants one.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use rustix::process::Signal;

use crate::binary::target_folder;
use crate::process::{Folder, Process};
use crate::{Authority, DEADLINE, Reply, RespConnection, free_port};

/// A Redis in a folder of its own, on a port of its own, keeping nothing. Killed, and its folder removed, on drop.
pub struct Redis {
    folder: Folder,
    port: u16,
    tls: Option<Tls>,
    process: Option<Process>,
    unix_socket: bool,
    sentinel: bool,
    /// Of a Cluster: where its nodes speak to each other.
    bus_port: Option<u16>,
    valkey: bool,
    configuration: String,
    credentials: Option<Credentials>,
}

/// Where and how it speaks TLS.
struct Tls {
    port: u16,
    cert: PathBuf,
    key: PathBuf,
    ca: PathBuf,
}

/// How the tests' own connections log in.
struct Credentials {
    user: String,
    password: String,
}

/// How a Redis is to be started.
#[derive(Default)]
pub struct RedisLaunch {
    unix_socket: bool,
    tls: Option<Tls>,
    sentinel: bool,
    in_cluster: bool,
    valkey: bool,
    configuration: String,
    credentials: Option<Credentials>,
}

impl RedisLaunch {
    /// Listens on a Unix socket as well, and [`Redis::url`] names that.
    pub fn unix_socket(mut self) -> RedisLaunch {
        self.unix_socket = true;
        self
    }

    /// Demands this password of the default user.
    pub fn password(mut self, password: &str) -> RedisLaunch {
        let _ = writeln!(self.configuration, "requirepass \"{password}\"");
        self.credentials = Some(Credentials { user: "default".to_owned(), password: password.to_owned() });
        self
    }

    /// One more user, by the rules of Redis's ACL: `~* &* +@all` may do everything.
    pub fn user(mut self, name: &str, password: &str, rules: &str) -> RedisLaunch {
        let _ = writeln!(self.configuration, "user {name} on \">{password}\" {rules}");
        self
    }

    /// It is a Sentinel: what it writes into its configuration stays there when it is started again.
    pub fn sentinel(mut self) -> RedisLaunch {
        self.sentinel = true;
        self
    }

    /// It is a node for a Cluster, and alone as yet. What it learns of the others is still known when it is started again.
    pub fn in_cluster(mut self) -> RedisLaunch {
        self.in_cluster = true;
        self
    }

    /// It is a Valkey, the one that `tests/run` has fetched.
    pub fn valkey(mut self) -> RedisLaunch {
        self.valkey = true;
        self
    }

    /// Speaks TLS on a port of its own as well, by the certificate that the authority has written under this stem.
    pub fn tls(mut self, authority: &Authority, stem: &str) -> RedisLaunch {
        let [cert, key] = ["pem", "key"].map(|ending| authority.file(&format!("{stem}.{ending}")));
        self.tls = Some(Tls { port: free_port(), cert, key, ca: authority.ca_file() });
        self
    }

    /// One more line of its configuration.
    pub fn directive(mut self, line: &str) -> RedisLaunch {
        let _ = writeln!(self.configuration, "{line}");
        self
    }

    /// Chooses port and folder, and starts nothing yet.
    pub fn absent(self) -> Redis {
        Redis {
            folder: Folder::new("redis"),
            port: free_port(),
            tls: self.tls,
            process: None,
            unix_socket: self.unix_socket,
            sentinel: self.sentinel,
            bus_port: self.in_cluster.then(free_port),
            valkey: self.valkey,
            configuration: self.configuration,
            credentials: self.credentials,
        }
    }

    /// Starts it and waits until it answers.
    ///
    /// # Panics
    ///
    /// If it does not.
    pub fn start(self) -> Redis {
        let mut redis = self.absent();
        // Somebody else may take the port between its choice and its use: choose again. Later starts need this one.
        for _ in 0..5 {
            if redis.try_start().is_ok() {
                return redis;
            }
            redis.port = free_port();
            redis.bus_port = redis.bus_port.map(|_| free_port());
        }
        redis.start_again();
        redis
    }
}

impl Redis {
    /// A plain Redis on a free port of 127.0.0.1 that answers.
    ///
    /// # Panics
    ///
    /// If there is no `redis-server`, or it does not come up.
    pub fn start() -> Redis {
        Redis::launch().start()
    }

    /// A Redis yet to be described.
    pub fn launch() -> RedisLaunch {
        RedisLaunch::default()
    }

    /// Starts it, on the same port, after it was killed or if it never ran.
    ///
    /// # Panics
    ///
    /// If it does not come up.
    pub fn start_again(&mut self) {
        if let Err(log) = self.try_start() {
            panic!("redis-server does not come up on port {}:\n{log}", self.port);
        }
    }

    /// Starts it and waits until it answers; its log if it ends instead.
    fn try_start(&mut self) -> Result<(), String> {
        assert!(self.process.is_none(), "it is running");
        let folder = self.folder.path().display();
        let mut configuration = format!(
            "bind 127.0.0.1\nport {}\ndir \"{folder}\"\nsave \"\"\nappendonly no\nlogfile \"{folder}/log\"\n{}",
            self.port, self.configuration
        );
        if self.unix_socket {
            let _ = writeln!(configuration, "unixsocket \"{}\"", self.unix_socket_path());
        }
        if let Some(Tls { port, cert, key, ca }) = &self.tls {
            let [cert, key, ca] = [cert, key, ca].map(|file| file.display());
            let _ = writeln!(configuration, "tls-port {port}\ntls-cert-file \"{cert}\"\ntls-key-file \"{key}\"");
            let _ = writeln!(configuration, "tls-ca-cert-file \"{ca}\"");
        }
        if let Some(bus_port) = self.bus_port {
            let _ = writeln!(configuration, "cluster-enabled yes\ncluster-port {bus_port}");
            if self.tls.is_some() {
                // Else they would tell of the ports at which none is spoken.
                configuration += "tls-cluster yes\ntls-replication yes\n";
            }
        }
        let configuration_path = self.folder.path().join("redis.conf");
        if !self.sentinel || !configuration_path.exists() {
            fs::write(&configuration_path, configuration).expect("the folder takes files");
        }

        let (program, missing) = self.program();
        let version = Command::new(&program).arg("--version").stdout(Stdio::null()).status();
        assert!(version.is_ok_and(|status| status.success()), "{missing}");
        let mut command = Process::command(program, None);
        command.arg(&configuration_path).stdout(Stdio::null()).stderr(Stdio::null());
        if self.sentinel {
            command.arg("--sentinel");
        }
        let mut process = Process::spawn(&mut command);
        let deadline = Instant::now() + DEADLINE;
        let own = format!("process_id:{}", process.id());
        loop {
            // Another server may sit on the port: what answers must say that it is this process.
            let answers = self.try_connect().and_then(|mut connection| connection.try_command(&[b"INFO", b"server"]));
            if let Ok(Reply::Bytes(Some(info))) = answers
                && String::from_utf8_lossy(&info).lines().any(|line| line == own)
            {
                self.process = Some(process);
                return Ok(());
            }
            if process.exited().is_some() || Instant::now() >= deadline {
                return Err(self.log());
            }
            std::thread::sleep(crate::PROBE_INTERVAL);
        }
    }

    /// Its program, and what to say where it cannot be run.
    fn program(&self) -> (PathBuf, &'static str) {
        if self.valkey {
            let target = target_folder().parent().expect("the target folder above the profile's").to_owned();
            (
                target.join("valkey/valkey-server"),
                "there is no target/valkey/valkey-server: tests/valkey/install fetches it",
            )
        } else {
            ("redis-server".into(), "redis-server is not in PATH: apt-get install redis-server")
        }
    }

    /// Its port of 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path of its Unix socket, if it has one.
    pub fn unix_socket_path(&self) -> String {
        format!("{}/redis.sock", self.folder.path().display())
    }

    /// A URL under which a server reaches it, without credentials.
    pub fn url(&self) -> String {
        if self.unix_socket {
            format!("unix://{}", self.unix_socket_path())
        } else {
            format!("redis://127.0.0.1:{}", self.port)
        }
    }

    /// Its port for TLS, if it has one.
    pub fn tls_port(&self) -> Option<u16> {
        self.tls.as_ref().map(|tls| tls.port)
    }

    /// With which arguments `redis-cli` speaks TLS, where this server does.
    pub(crate) fn tls_arguments(&self) -> Vec<String> {
        let of = |Tls { cert, key, ca, .. }: &Tls| {
            let files = [("--cacert", ca), ("--cert", cert), ("--key", key)];
            let files = files.map(|(flag, file)| [flag.to_owned(), file.display().to_string()]);
            std::iter::once("--tls".to_owned()).chain(files.into_iter().flatten()).collect()
        };
        self.tls.as_ref().map(of).unwrap_or_default()
    }

    /// Where nodes of its Cluster speak to it.
    pub(crate) fn bus_port(&self) -> Option<u16> {
        self.bus_port
    }

    /// The password of the default user, if it has one.
    pub(crate) fn password(&self) -> Option<&str> {
        self.credentials.as_ref().map(|credentials| credentials.password.as_str())
    }

    /// A URL under which a server reaches it by TLS.
    ///
    /// # Panics
    ///
    /// If it speaks none.
    pub fn tls_url(&self) -> String {
        format!("rediss://127.0.0.1:{}", self.tls.as_ref().expect("it speaks TLS").port)
    }

    /// What it has written into its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Kills it as `kill -9` does.
    ///
    /// # Panics
    ///
    /// If it is not running.
    pub fn kill(&mut self) {
        self.process.take().expect("it is running").kill();
    }

    /// Bytes that the kernel has for it, of all who connected over TCP, and that it has not read.
    pub fn unread_bytes(&self) -> u64 {
        let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux has it");
        let local = format!(":{:04X}", self.port);
        // Columns: number, local address, remote address, state, the queues of what is to be sent and to be read.
        let queues = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
        let established = queues.filter(|columns| columns[1].ends_with(&local) && columns[3] == "01");
        established.map(|columns| u64::from_str_radix(&columns[4][9..], 16).expect("a number")).sum()
    }

    /// Freezes it: connections stay, and nothing is answered.
    ///
    /// # Panics
    ///
    /// If it is not running.
    pub fn pause(&self) {
        self.process.as_ref().expect("it is running").pause();
    }

    /// Lets it go on.
    ///
    /// # Panics
    ///
    /// If it is not running.
    pub fn resume(&self) {
        self.process.as_ref().expect("it is running").signal(Signal::CONT);
    }

    pub(crate) fn try_connect(&self) -> std::io::Result<RespConnection> {
        let mut connection = RespConnection::connect(self.port)?;
        if let Some(Credentials { user, password }) = &self.credentials {
            connection.try_command(&[b"AUTH", user.as_bytes(), password.as_bytes()])?;
        }
        Ok(connection)
    }

    /// A connection of the test's own.
    ///
    /// # Panics
    ///
    /// If it does not answer.
    pub fn connect(&self) -> RespConnection {
        self.try_connect().unwrap_or_else(|error| panic!("cannot connect to redis: {error}"))
    }

    /// Publishes bytes on a channel; how many connections received them.
    ///
    /// # Panics
    ///
    /// If Redis refuses.
    pub fn publish(&self, channel: &str, payload: impl AsRef<[u8]>) -> i64 {
        match self.connect().command(&[b"PUBLISH", channel.as_bytes(), payload.as_ref()]) {
            Reply::Integer(receivers) => receivers,
            other => panic!("not published: {other:?}"),
        }
    }

    /// An outsider's subscription to a channel.
    ///
    /// # Panics
    ///
    /// If Redis refuses.
    pub fn listen(&self, channel: &str) -> RespConnection {
        self.connect().subscribe(channel)
    }

    /// How many connections are subscribed to the channel.
    ///
    /// # Panics
    ///
    /// If Redis refuses.
    pub fn subscribers(&self, channel: &str) -> i64 {
        match self.connect().command(&[b"PUBSUB", b"NUMSUB", channel.as_bytes()]) {
            Reply::Array(parts) => match parts.as_slice() {
                [_, Reply::Integer(count)] => *count,
                other => panic!("not a count: {other:?}"),
            },
            other => panic!("not a count: {other:?}"),
        }
    }

    /// How many channels of rooms have subscribers.
    ///
    /// # Panics
    ///
    /// If Redis refuses.
    pub fn channels(&self) -> usize {
        match self.connect().command(&[b"PUBSUB", b"CHANNELS"]) {
            Reply::Array(channels) => {
                let is_ours = |channel: &Reply| matches!(channel, Reply::Bytes(Some(name)) if name.contains(&1));
                channels.iter().filter(|channel| !is_ours(channel)).count()
            }
            other => panic!("not a list: {other:?}"),
        }
    }

    /// The lines of `CLIENT LIST`.
    ///
    /// # Panics
    ///
    /// If Redis refuses.
    pub fn clients(&self) -> Vec<String> {
        match self.connect().command(&[b"CLIENT", b"LIST"]) {
            Reply::Bytes(Some(list)) => String::from_utf8_lossy(&list).lines().map(str::to_owned).collect(),
            other => panic!("not a list: {other:?}"),
        }
    }

    /// Runs `redis-cli` with these arguments and gives what it prints.
    ///
    /// # Panics
    ///
    /// If there is no `redis-cli`, or it fails.
    pub fn cli(&self, args: &[&str]) -> String {
        let mut command = Command::new("redis-cli");
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]);
        if let Some(Credentials { user, password }) = &self.credentials {
            command.args(["--user", user, "-a", password, "--no-auth-warning"]);
        }
        let output = command
            .args(args)
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("redis-cli is not in PATH: apt-get install redis-tools ({error})"));
        assert!(output.status.success(), "redis-cli {args:?}: {output:?}");
        String::from_utf8(output.stdout).expect("redis-cli prints UTF-8").trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_killed_redis_comes_back_on_its_port() {
        let mut redis = Redis::start();
        assert_eq!(redis.cli(&["PING"]), "PONG");
        redis.kill();
        assert!(RespConnection::connect(redis.port()).is_err());
        redis.start_again();
        assert_eq!(redis.cli(&["PING"]), "PONG");
    }

    #[test]
    fn a_paused_redis_keeps_its_connections() {
        let redis = Redis::start();
        let mut listener = redis.listen("news");
        redis.pause();
        redis.resume();
        assert_eq!(redis.publish("news", "hello"), 1);
        assert_eq!(listener.next_message(), b"hello");
    }

    #[test]
    fn users_and_passwords_are_demanded() {
        let redis = Redis::launch().password("secret").user("alice", "other", "~* &* +@all").unix_socket().start();
        assert_eq!(redis.cli(&["PING"]), "PONG");
        let mut stranger = RespConnection::connect(redis.port()).expect("it listens");
        assert!(matches!(stranger.command(&[b"PING"]), Reply::Error(error) if error.starts_with("NOAUTH")));
        assert_eq!(stranger.command(&[b"AUTH", b"alice", b"other"]), Reply::Status("OK".to_owned()));
        assert!(fs::exists(redis.unix_socket_path()).expect("the folder is there"));
    }
}
