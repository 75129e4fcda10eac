//! Both sides of a connection in one process, with a socket between them that a test controls.

mod both_sides;
mod certificates_are_chosen_by_name;
mod files_are_checked;
mod handshakes_are_bounded_and_counted;
mod idle_sessions_own_little;
mod material;
mod what_is_written_arrives;
