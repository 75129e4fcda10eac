//! The command: puts a WebSocket server under load and prints the figures. What it does lives in `src/load/`.

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("This load generator reads /proc, so it runs on Linux only.");
}

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    use fanfare_benches::load::{self, options::Options};
    use fanfare_benches::{floor, joining};

    let roles: [fanfare_benches::command::Role; 2] =
        [(floor::FLOOR, floor::run), (joining::JOINING_FLOOR, joining::run)];
    fanfare_benches::command::run(&roles, || load::measure(&Options::from_command_line()))
}
