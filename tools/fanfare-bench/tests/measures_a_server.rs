//! What the load generator tells of real servers, its own and others'.
#![cfg(target_os = "linux")]

mod common;

use std::io::{BufRead, BufReader};
use std::process::Child;

use fanfare_tests::{Authority, Server, Signal};
use rustix::process::{Pid, kill_process};

use common::{Told, command, run};

/// Killed on drop.
struct Running(Option<Child>);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Every figure that a run with a known process has.
fn assert_complete(figures: &serde_json::Value) {
    let positive = |path: &str| {
        let value = figures.pointer(path).and_then(serde_json::Value::as_f64);
        assert!(value.is_some_and(|value| value > 0.0), "{path} in {figures:#}");
    };
    for path in [
        "/measured/messages_per_second",
        "/measured/deliveries_per_second",
        "/measured/bytes_per_second",
        "/measured/server_cpu_us_per_delivery",
        "/measured/generator_busy",
        "/latency_us/p50",
        "/latency_us/p99_9",
        "/latency_us/max",
    ] {
        positive(path);
    }
    assert!(figures["error"].is_null() && figures["interrupted"] == false, "{figures:#}");
}

#[test]
fn a_server_of_its_own_through_redis_beside_the_floor() {
    let told = run(
        "--start --redis --floor --pairs 1 --connections 60 --rooms 7 --rooms-per-connection 3 --messages 300 --warm-up 0.1",
    );
    assert!(told.success, "{}", told.stderr);
    let [floor, server] = ["floor", "server"].map(|who| &told.json["laps"][0][who]);
    for figures in [floor, server] {
        assert_complete(figures);
        assert_eq!(figures["measured"]["messages"], 300);
    }
    // The rooms have 25 or 26 members, and the load goes round.
    let deliveries = server["measured"]["deliveries"].as_u64().unwrap();
    assert!((300 * 25..=300 * 26).contains(&deliveries), "{deliveries}");
    assert!(told.json["ratios"]["total_median"].as_f64().unwrap() > 0.0);
    assert!(server["connecting"]["server_cpu_us_each"].as_f64().unwrap() > 0.0);
    assert_beside_the_floor_of_joining(&told, 1);
}

#[test]
fn a_server_that_speaks_tls_is_measured_as_others_are() {
    let authority = Authority::new();
    let server = Server::launch()
        .tls(&authority)
        .args(["--limits-bytes-per-second", "0", "--limits-messages-per-second", "0"])
        .args(["--limits-deliveries-per-second", "0"])
        .start();
    let (url, ca) = (format!("wss://{}/", server.tls_address()), authority.ca_file().display().to_string());
    // Messages of several records, so that some come in parts.
    for trust in [format!("--tls-ca {ca} --size 60000 --in-flight 2"), "--insecure --rate 500".to_owned()] {
        let told = run(&format!("{url} {trust} --connections 40 --rooms 4 --messages 200 --pid {}", server.id()));
        assert!(told.success, "{}", told.stderr);
        assert_complete(&told.json);
        assert_eq!(told.faults(), [0; 4]);
    }
    let stranger = Authority::new();
    let told = run(&format!("{url} --tls-ca {} --connections 1 --messages 1", stranger.ca_file().display()));
    assert!(!told.success && told.stderr.contains("TLS: "), "{}", told.stderr);
}

/// That each of the laps has let as many in at a bare loop, and that it tells the ratios.
fn assert_beside_the_floor_of_joining(told: &Told, laps: usize) {
    let ratios = told.json["joining_ratios"]["total"].as_array().unwrap();
    assert_eq!((ratios.len(), told.json["laps"].as_array().unwrap().len()), (laps, laps));
    for (lap, ratio) in told.json["laps"].as_array().unwrap().iter().zip(ratios) {
        let [floor, server] = [&lap["joining_floor"], &lap["server"]["connecting"]]
            .map(|way| way["server_cpu_us_each"].as_f64().unwrap());
        assert!(floor > 0.0 && server > 0.0);
        // JSON's digits may be rounded when they are read.
        assert!((ratio.as_f64().unwrap() - server / floor).abs() < 1e-9);
    }
}

#[test]
fn joining_by_the_url_beside_the_floor_of_that() {
    let told = run(
        "--start --floor --pairs 2 --join-by-url --connections 60 --rooms 7 --rooms-per-connection 3 --messages 20 --warm-up 0",
    );
    assert!(told.success, "{}", told.stderr);
    assert_beside_the_floor_of_joining(&told, 2);
}

#[test]
fn somebody_elses_server_at_a_rate() {
    let server = Server::start();
    let url = format!("ws://localhost:{}/fanfare", server.address().port());
    let pid = server.id().to_string();
    let told =
        run(&format!("{url} --pid {pid} --connections 20 --rooms 3 --rate 600 --seconds 0.5 --warm-up 0 --size 1000"));
    assert!(told.success, "{}", told.stderr);
    assert_complete(&told.json);
    // One for every 500 messages a second.
    assert_eq!(told.json["settings"]["publishers"], 2);
    assert!(told.json["sent_late_us"]["p50"].as_f64().is_some());
    let [bytes, deliveries] = ["bytes", "deliveries"].map(|key| told.json["measured"][key].as_u64().unwrap());
    assert!(bytes > deliveries * 1_000, "{bytes} of {deliveries}");
}

#[test]
fn members_join_their_rooms_by_the_query_of_the_upgrade() {
    let server = Server::launch().ops().start();
    // The first member of a room waits for the broker; the others have SUBSCRIBED together with the response.
    let told = run(&format!(
        "{}/ws?token=1 --join-by-url --connections 50 --rooms 7 --rooms-per-connection 3 --room-prefix caf\u{e9}&+% \
         --publishers 2 --messages 100 --warm-up 0",
        server.url()
    ));
    assert!(told.success, "{}", told.stderr);
    assert_eq!((told.faults(), &told.json["settings"]["join_by_url"]), ([0, 0, 0, 0], &true.into()));
    // The rooms have 21 or 22 members.
    let deliveries = told.json["deliveries"].as_u64().unwrap();
    assert!((100 * 21..=100 * 22).contains(&deliveries), "{deliveries}");
    // No SUBSCRIBE among them.
    let metrics = server.metrics();
    assert_eq!(metrics.value("fanfare_commands_total"), told.json["messages"].as_f64().unwrap());
}

#[test]
fn a_room_that_the_url_cannot_name_is_told() {
    let server = Server::start();
    let told = run(&format!("{} --join-by-url --connections 1 --room-prefix {}", server.url(), "r".repeat(200)));
    assert!(!told.success && told.stderr.contains("400 Bad Request"), "{}", told.stderr);
}

#[test]
fn ctrl_c_ends_it_early_with_what_it_has() {
    let server = Server::launch().ops().flag("--limits-messages-per-second", 0).start();
    let child = command(&format!("{} --connections 10 --seconds 600 --warm-up 0", server.url())).spawn().unwrap();
    let pid = Pid::from_child(&child);
    let mut running = Running(Some(child));
    server.wait_for_metrics("messages are delivered", |metrics| metrics.value("fanfare_deliveries_total") > 1_000.0);
    kill_process(pid, Signal::INT).unwrap();
    let told = Told::of(&running.0.take().unwrap().wait_with_output().unwrap());
    assert!(!told.success && told.json["interrupted"] == true && told.json["error"] == "interrupted");
    assert!(told.json["measured"]["deliveries"].as_u64().unwrap() > 0);
    // What was on its way has come, or it would count as lost.
    assert_eq!(told.faults(), [0, 0, 0, 0]);
}

#[test]
fn a_publisher_that_is_too_fast_for_the_server_is_told_what_to_do() {
    let server = Server::launch().flag("--limits-messages-per-second", 1).flag("--limits-messages-burst", 2).start();
    let told = run(&format!("{} --connections 5 --publishers 1 --warm-up 0", server.url()));
    assert!(!told.success);
    for text in ["publisher 0", "too_fast", "--publishers", "limits.messages_per_second"] {
        assert!(told.stderr.contains(text), "no {text} in {}", told.stderr);
    }
}

#[test]
fn a_server_that_is_full_or_not_there_is_named() {
    let server = Server::launch().flag("--limits-connections-max", 5).start();
    let told = run(&format!("{} --connections 20 --publishers 1", server.url()));
    assert!(!told.success && told.stderr.contains("503"), "{}", told.stderr);
    assert!(told.json["error"].as_str().unwrap().contains("503"));

    let url = server.url();
    drop(server);
    let told = run(&format!("{url} --connections 1"));
    assert!(!told.success && told.stderr.contains("nobody listens there"), "{}", told.stderr);
    assert_eq!(told.stderr.matches("publisher 0").count(), 1, "{}", told.stderr);
}

#[test]
fn a_server_that_confirms_nothing_is_named_with_what_it_owes() {
    let server = Server::start();
    let told = run(&format!(
        "{}/classic --connections 3 --publishers 2 --rooms 2 --rooms-per-connection 2 --patience 1",
        server.url()
    ));
    assert!(!told.success);
    for text in ["after 2 of 5 connections", "no SUBSCRIBED", "2 of the rooms of connection 0"] {
        assert!(told.stderr.contains(text), "no {text} in {}", told.stderr);
    }
}

#[test]
fn a_process_that_does_not_exist_is_named_by_its_option() {
    let output = command("ws://127.0.0.1:1 --pid 999999999").output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && stderr.contains("--pid 999999999"), "{stderr}");
}

#[test]
fn a_lap_beside_the_floor_that_fails_is_told_with_what_there_was() {
    let told = run(
        "--start --floor --pairs 2 --connections 20 --messages 5 --warm-up 0 --server-arg=--limits-connections-max=5",
    );
    assert!(!told.success && told.stderr.contains("503"), "{}", told.stderr);
    assert!(told.json["error"].as_str().unwrap().contains("503"));
    let laps = told.json["laps"].as_array().unwrap();
    assert_eq!((laps.len(), &laps[0]["floor"]["deliveries"]), (1, &100.into()), "{:#}", told.json);
    assert!(laps[0]["server"]["error"].as_str().unwrap().contains("503"));
    assert!(told.json["ratios"].is_null());
}

#[test]
fn ctrl_c_between_laps_beside_the_floor_keeps_those_before() {
    let mut child = command("--start --floor --pairs 100 --connections 10 --seconds 0.3 --warm-up 0")
        .spawn()
        .expect("it can be run");
    let (pid, stderr) = (Pid::from_child(&child), child.stderr.take().unwrap());
    let mut running = Running(Some(child));
    let mut lines = BufReader::new(stderr).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.starts_with("lap 1 of 100: embedded")), "no first lap");
    kill_process(pid, Signal::INT).unwrap();
    let told = Told::of(&running.0.take().unwrap().wait_with_output().unwrap());
    let errors: Vec<String> = lines.collect();
    assert!(!told.success && errors.iter().any(|line| line.contains("interrupted")), "{errors:?}");
    assert!(told.json["error"].as_str().unwrap().contains("interrupted"));
    for who in ["floor", "server"] {
        assert_complete(&told.json["laps"][0][who]);
    }
    assert!(told.json["ratios"]["total_median"].as_f64().unwrap() > 0.0);
}

#[test]
fn an_error_that_nobody_reads_is_an_error_all_the_same() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command("ws://127.0.0.1:1 --connections 1").stderr(writer).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_server_of_several_workers_is_not_confined_to_one_processor() {
    let load = "--start --connections 40 --rooms 2 --messages 50 --warm-up 0";
    let told = run(&format!("{load} --server-arg=--workers=2"));
    assert!(told.success, "{}", told.stderr);
    assert!(
        told.json["machine"]["measured_processor"].is_null() && told.stderr.contains("2 workers"),
        "{}",
        told.stderr
    );
    let told = run(load);
    assert!(told.success && !told.stderr.contains("workers"), "{}", told.stderr);
    let [cores, processor] = ["cores", "measured_processor"].map(|key| &told.json["machine"][key]);
    assert_eq!(processor.is_u64(), cores.as_u64().unwrap() > 1);
}

#[test]
fn a_server_that_has_had_others_before_is_not_told_to_take_no_memory() {
    let server = Server::start();
    // Fewer find room in what the server has needed to start.
    let arguments = format!("{} --pid {} --connections 5000 --messages 5 --warm-up 0", server.url(), server.id());
    let [first, second] = [run(&arguments), run(&arguments)];
    assert!(first.success && second.success, "{}{}", first.stderr, second.stderr);
    let bytes = |told: &Told| told.json["connecting"]["server_memory_bytes_each"].as_f64();
    assert!(bytes(&first).unwrap() > 0.0);
    assert!(bytes(&second).is_none_or(|bytes| bytes > 0.0));
    // Five messages take no half second.
    assert!(first.json["measured"]["server_cpu_user_us_per_delivery"].is_null());
    assert!(first.json["measured"]["server_cpu_us_per_delivery"].as_f64().unwrap() > 0.0);
}
