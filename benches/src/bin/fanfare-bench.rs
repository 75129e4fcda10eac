//! The command: puts a WebSocket server under load and prints the figures. What it does lives in `src/load/`.

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("This load generator reads /proc, so it runs on Linux only.");
}

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    use fanfare_benches::floor;
    use fanfare_benches::load::{self, options::Options};

    fanfare_benches::command::run(&[(floor::FLOOR, floor::run)], || load::measure(&Options::from_command_line()))
}
