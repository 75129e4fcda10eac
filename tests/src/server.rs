//! One server process: how it is started, what it says of itself, how it ends.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::thread;

use rustix::process::Signal;
use serde_json::Value;

use crate::process::{Folder, Process};
use crate::tls::{self, Authority, Tunnel};
use crate::under_test::uses_redis;
use crate::{Log, Metrics, Redis, eventually, fanfare_binary, get};

/// A running server, killed on drop. Its log is printed if the test panics.
pub struct Server {
    process: Process,
    log: Log,
    address: SocketAddr,
    ops_address: Option<SocketAddr>,
    api_address: Option<SocketAddr>,
    tunnel: Option<Tunnel>,
    /// Where the suite is run with Redis and the test says nothing of it.
    _own_redis: Option<Redis>,
    _file: Option<Folder>,
    _keys: Option<Folder>,
    _secret: Option<Folder>,
}

/// How a server is to be started. Nothing of the test's own environment reaches it but `PATH`.
pub struct Launch {
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    descriptors_max: Option<u32>,
    chooses_listen: bool,
    json_log: bool,
    ops: bool,
    ready: bool,
    workers: Option<usize>,
    embedded: bool,
    file: Option<Folder>,
    keys: Option<Folder>,
    secret: Option<Folder>,
    binary: Option<PathBuf>,
    tls: Option<Arc<rustls::ClientConfig>>,
}

/// How many workers servers have whose tests do not say it. The whole suite can be run with several.
const WORKERS: &str = "FANFARE_TEST_WORKERS";

impl Launch {
    fn new() -> Launch {
        Launch {
            args: Vec::new(),
            env: Vec::new(),
            descriptors_max: None,
            chooses_listen: true,
            json_log: true,
            ops: false,
            ready: true,
            workers: None,
            embedded: false,
            file: None,
            keys: None,
            secret: None,
            binary: None,
            tls: None,
        }
    }

    /// Further arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Launch {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// One more flag with its value.
    pub fn flag(self, flag: &str, value: impl ToString) -> Launch {
        self.args([flag.to_owned(), value.to_string()])
    }

    /// A configuration file with this text.
    ///
    /// # Panics
    ///
    /// If it cannot be written.
    pub fn file(mut self, text: &str) -> Launch {
        let folder = Folder::new("config");
        let path = folder.path().join("fanfare.toml");
        fs::write(&path, text).expect("the folder takes files");
        self.file = Some(folder);
        self.args([OsString::from("--config"), path.into()])
    }

    /// A configuration file with this text, in which `SECRET` stands for the path of a file with this secret.
    ///
    /// # Panics
    ///
    /// If they cannot be written.
    pub fn file_with_secret(mut self, text: &str, secret: &str) -> Launch {
        let folder = Folder::new("secret");
        let path = folder.path().join("secret");
        fs::write(&path, secret).expect("a fresh folder takes a file");
        self.secret = Some(folder);
        self.file(&text.replace("SECRET", path.to_str().expect("a path of ASCII")))
    }

    /// Has it speak TLS, with a certificate of this authority in `server.pem`. [`Server::address`] is that of a tunnel then.
    pub fn tls(mut self, authority: &Authority) -> Launch {
        authority.write("server", &["localhost", "127.0.0.1"]);
        self.tls = Some(authority.client());
        self.args(tls::flags(authority, "server"))
    }

    /// A variable of the environment.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Launch {
        self.env.push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// Starts another binary than the one under test.
    pub fn binary(mut self, path: &Path) -> Launch {
        self.binary = Some(path.to_owned());
        self
    }

    /// Uses this Redis.
    pub fn redis(self, redis: &Redis) -> Launch {
        self.flag("--redis-url", redis.url())
    }

    /// Uses the embedded broker, whatever the suite is run with: the test says why.
    pub fn embedded(mut self) -> Launch {
        self.embedded = true;
        self
    }

    /// Whether the test says by itself which broker there is.
    fn says_which_broker(&self) -> bool {
        let names_redis =
            |text: &OsString| text.to_string_lossy().to_ascii_lowercase().replace('-', "_").contains("redis_url");
        self.embedded || self.args.iter().chain(self.env.iter().map(|(name, _)| name)).any(names_redis)
    }

    /// Opens the operations port.
    pub fn ops(mut self) -> Launch {
        self.ops = true;
        self
    }

    /// Opens the HTTP API, for these keys.
    pub fn api(mut self, keys: &str) -> Launch {
        let folder = Folder::new("keys");
        let path = folder.path().join("keys.toml");
        fs::write(&path, keys).expect("a fresh folder takes a file");
        self.args.extend(["--api-listen".into(), "127.0.0.1:0".into(), "--api-keys-file".into(), path.into()]);
        self.keys = Some(folder);
        self
    }

    /// Starts it with so many workers, whatever the suite is run with. Where that is one, the test says why.
    pub fn workers(mut self, workers: usize) -> Launch {
        self.workers = Some(workers);
        self
    }

    /// Starts it under this limit of open files, soft and hard.
    pub fn descriptors_max(mut self, max: u32) -> Launch {
        self.descriptors_max = Some(max);
        self
    }

    /// Gives no `--listen` of the harness's own: the test says by other means where to listen.
    pub fn listening_as_configured(mut self) -> Launch {
        self.chooses_listen = false;
        self
    }

    /// Does not wait for `/readyz` to be 200.
    pub fn not_ready(mut self) -> Launch {
        self.ready = false;
        self
    }

    fn command(&self) -> Command {
        let binary = self.binary.as_deref().unwrap_or_else(|| fanfare_binary());
        let mut command = Process::command(binary, self.descriptors_max);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.args(&self.args);
        if self.chooses_listen {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        if self.json_log {
            command.args(["--log-format", "json"]);
        }
        if let Some(workers) = self.workers {
            command.args(["--workers", &workers.to_string()]);
        }
        if self.ops {
            command.args(["--ops-listen", "127.0.0.1:0"]);
        }
        command
    }

    /// Starts it and waits until it listens and is ready.
    ///
    /// # Panics
    ///
    /// If it does not come up.
    pub fn start(mut self) -> Server {
        self.workers = self.workers.or_else(|| {
            let workers = std::env::var(WORKERS).ok()?;
            Some(workers.parse().unwrap_or_else(|_| panic!("{WORKERS} is no number: {workers:?}")))
        });
        let own_redis = (uses_redis() && !self.says_which_broker()).then(Redis::start);
        if let Some(redis) = &own_redis {
            self = self.redis(redis);
        }
        let mut process = Process::spawn(self.command().stdout(Stdio::null()).stderr(Stdio::piped()));
        let log = Log::read(process.take_stderr());
        let address = address_of(&log.wait_for("listening", 1));
        let ops_address = self.ops.then(|| address_of(&log.wait_for("operations port listening", 1)));
        let api_address = self.keys.is_some().then(|| address_of(&log.wait_for("API listening", 1)));
        let tunnel = self.tls.map(|client| Tunnel::to(address, client));
        let server = Server {
            process,
            log,
            address,
            ops_address,
            api_address,
            tunnel,
            _own_redis: own_redis,
            _file: self.file,
            _keys: self.keys,
            _secret: self.secret,
        };
        if self.ready {
            server.wait_until_ready();
        }
        server
    }

    /// Runs it with exactly the arguments and environment given, and waits until it has ended by itself: for commands,
    /// and for configurations that are refused.
    ///
    /// # Panics
    ///
    /// If it is still running after [`crate::DEADLINE`].
    pub fn run(mut self) -> Output {
        self.chooses_listen = false;
        self.json_log = false;
        let mut child = self
            .command()
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("setpriv is there: apt-get install util-linux");
        // What these commands print fits the pipe's buffer, so that nobody need read it meanwhile.
        let ended = crate::process::wait_or_kill(&mut child, crate::DEADLINE);
        let output = child.wait_with_output().expect("the output of a child that has ended");
        assert!(ended, "still running after {:?}: {output:?}", crate::DEADLINE);
        output
    }
}

impl Server {
    /// A ready server with its defaults: the broker that the suite is run with, no operations port.
    pub fn start() -> Server {
        Server::launch().start()
    }

    /// A server yet to be described.
    pub fn launch() -> Launch {
        Launch::new()
    }

    /// Where it listens. If it speaks TLS, where clients may connect that do not.
    pub fn address(&self) -> SocketAddr {
        self.tunnel.as_ref().map_or(self.address, Tunnel::address)
    }

    /// Where it listens, whatever it speaks.
    pub fn tls_address(&self) -> SocketAddr {
        self.address
    }

    /// Where its operations port listens.
    ///
    /// # Panics
    ///
    /// If it was started without one.
    pub fn ops_address(&self) -> SocketAddr {
        self.ops_address.expect("the server was started with an operations port")
    }

    /// Where its HTTP API listens.
    ///
    /// # Panics
    ///
    /// If it was started without one.
    pub fn api_address(&self) -> SocketAddr {
        self.api_address.expect("the server was started with an API")
    }

    /// `ws://` and the address.
    pub fn url(&self) -> String {
        format!("ws://{}", self.address())
    }

    /// What it has logged.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Waits for the first JSON line whose `message` is `message`.
    ///
    /// # Panics
    ///
    /// If it does not come.
    pub fn wait_for_log(&self, message: &str) -> Value {
        self.log.wait_for(message, 1)
    }

    /// Waits until `/readyz` is 200.
    ///
    /// # Panics
    ///
    /// After [`crate::DEADLINE`].
    pub fn wait_until_ready(&self) {
        self.wait_until_readyz_is(200);
    }

    /// Waits until `/readyz` has this status, and gives its text.
    ///
    /// # Panics
    ///
    /// After [`crate::DEADLINE`].
    pub fn wait_until_readyz_is(&self, status: u16) -> String {
        eventually(&format!("/readyz is {status}"), || {
            let response = get(self.address(), "/readyz");
            (response.status == status).then(|| response.text())
        })
    }

    /// What the operations port reports now.
    ///
    /// # Panics
    ///
    /// If it does not answer 200 with metrics.
    pub fn metrics(&self) -> Metrics {
        let response = get(self.ops_address(), "/metrics");
        assert_eq!(response.status, 200, "{}", response.head);
        Metrics::parse(&response.text())
    }

    /// Waits until the metrics satisfy `holds`.
    ///
    /// # Panics
    ///
    /// After [`crate::DEADLINE`], naming `what`.
    pub fn wait_for_metrics(&self, what: &str, holds: impl Fn(&Metrics) -> bool) -> Metrics {
        eventually(what, || {
            let metrics = self.metrics();
            holds(&metrics).then_some(metrics)
        })
    }

    /// The id of the process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Sends a signal.
    ///
    /// # Panics
    ///
    /// If the process is not there any more.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Stops it until it gets `SIGCONT`.
    ///
    /// # Panics
    ///
    /// If the process is not there any more.
    pub fn pause(&self) {
        self.process.pause();
    }

    /// Waits until the process has ended by itself.
    ///
    /// # Panics
    ///
    /// After [`crate::DEADLINE`].
    pub fn wait_for_exit(&mut self) -> ExitStatus {
        self.process.wait("the server exits")
    }

    /// Ends it in order and gives all that it has ever logged: what is not there was not said. Clients must have gone, or
    /// answer the close.
    ///
    /// # Panics
    ///
    /// If it fails, or after [`crate::DEADLINE`].
    pub fn log_to_its_end(&mut self) -> &Log {
        self.signal(Signal::TERM);
        assert_eq!(self.wait_for_exit().code(), Some(0));
        assert!(self.log.wait_for_end(), "somebody holds its standard error open");
        &self.log
    }

    /// Whether the process is still there.
    pub fn is_running(&mut self) -> bool {
        self.process.exited().is_none()
    }

    /// CPU time used so far, of user and system, in clock ticks (100 per second on Linux).
    ///
    /// # Panics
    ///
    /// If the process is not there any more.
    pub fn cpu_ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id())).expect("the process is running");
        // proc_pid_stat(5): fields 14 and 15; the second one is in parentheses and may hold spaces.
        let after_name = stat.rsplit_once(')').expect("a name in parentheses").1;
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        fields[11..=12].iter().map(|ticks| ticks.parse::<u64>().expect("a number of ticks")).sum()
    }

    /// Bytes of memory in use now (`VmRSS`): heap, stacks, and what was touched of the program. Not the kernel's socket
    /// buffers.
    ///
    /// # Panics
    ///
    /// If the process is not there any more.
    pub fn memory_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// The most bytes of memory in use at any moment so far (`VmHWM`): the kernel's own count, no samples.
    ///
    /// # Panics
    ///
    /// If the process is not there any more.
    pub fn memory_bytes_peak(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    fn status_bytes(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).expect("the process is running");
        let kib =
            status.lines().find_map(|line| line.strip_prefix(field)?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kib.unwrap_or_else(|| panic!("no {field} in {status}")) * 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill();
        if thread::panicking() {
            self.log.wait_for_end();
            eprintln!("---- log of the server at {} ----\n{}\n----", self.address, self.log.text());
        }
    }
}

fn address_of(entry: &Value) -> SocketAddr {
    let address = entry["address"].as_str().unwrap_or_else(|| panic!("no address in {entry}"));
    address.parse().unwrap_or_else(|_| panic!("not an address: {entry}"))
}
