//! The command: puts a WebSocket server under load and prints the figures. What it does lives in `load/`.

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("This load generator reads /proc, so it runs on Linux only.");
}

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    use fanfare_bench::load::{self, options::Options};
    use fanfare_bench::{floor, joining};

    let roles: [fanfare_bench::command::Role; 2] = [(floor::FLOOR, floor::run), (joining::JOINING_FLOOR, joining::run)];
    fanfare_bench::command::run(&roles, || load::measure(&Options::from_command_line()))
}
